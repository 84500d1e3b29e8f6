//! One connection to a server: the client library mail-send, with what it cannot do done around it.
//!
//! Taken from it: the framing of replies, and EHLO. Done here instead, and why:
//! - connections and TLS are made by [`Connector`], which knows private authorities, proxies and deadlines; the
//!   library waits for a greeting without any;
//! - MAIL, RCPT and DATA go out together where PIPELINING is offered (RFC 2920), and every recipient gets its reply: the
//!   library has no pipelining and stops at the first refusal without saying whose it is;
//! - replies are read from what came ([`super::lines`]), because the library cuts enhanced codes at 255 and forgets
//!   what follows a reply in one read;
//! - the octets of the mail are written by [`super::body`]: the library adds a line to every mail, leaves a dot at the
//!   very beginning alone and doubles dots that the peer will not take out again;
//! - commands are built by [`super::command`]: the library sends a line end in an address as a command;
//! - logging in is done step by step in [`super::login`], because the library repeats a token that was refused and
//!   loses what the server said about it, and its OAUTHBEARER lacks the gs2 header (RFC 7628 section 3.1);
//! - a time-out after the end of the mail is told apart from all others: the server may have taken it.

use std::time::Duration;

use mail_send::{Error, SmtpClient};
use smtp_proto::{
    EXT_8BIT_MIME, EXT_BINARY_MIME, EXT_CHUNKING, EXT_DSN, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8, EXT_START_TLS,
    EhloResponse,
};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::body::Stuffer;
use super::command::{Extensions, Plan, Way};
use super::config::Security;
use super::job::{About, RecipientOutcome, Reply};
use super::lines::Lines;
use crate::net::connect::{Connector, Stream};

/// How many commands may be on their way before their replies are read, so that neither side blocks the other.
const WINDOW: usize = 50;

/// How much of a mail is written at once.
const PIECE: usize = 32 << 10;

/// How to reach and talk to a server.
#[derive(Clone, Debug)]
pub(super) struct Peer<'a> {
    /// Its name, which its certificate must have.
    pub host: &'a str,
    /// Where it is, if that is known already.
    pub address: Option<&'a str>,
    pub port: u16,
    pub security: Security,
    /// The name that we greet it with.
    pub hostname: &'a str,
    pub command_timeout: Duration,
    pub data_timeout: Duration,
}

/// A connection that has greeted, begun TLS and logged in.
pub(super) struct Client {
    smtp: SmtpClient<Lines<Stream>>,
    pub extensions: Extensions,
    /// Those that it offers to log in by, as bits of smtp-proto.
    pub mechanisms: u64,
    data_timeout: Duration,
    /// Whether another mail may be sent on it.
    pub usable: bool,
    /// Whether the last transaction came to its end, so that the next one needs no RSET.
    pub clean: bool,
    /// Whether the server closed the connection before it answered the first command of the last mail.
    pub closed_before: bool,
}

/// What became of the recipients of one transaction, in their order.
pub(super) type Settled = Vec<RecipientOutcome>;

impl Client {
    /// Connects, greets, and begins TLS as `peer` asks for.
    pub async fn open(connector: &Connector, peer: &Peer<'_>) -> Result<Self, Reply> {
        let made = match peer.security {
            Security::Tls => connector.tls(peer.host, peer.port).await,
            _ => connector.plain(peer.address.unwrap_or(peer.host), peer.port).await,
        };
        let stream = made.map_err(|error| Reply::trouble("4.4.1", &error.to_string()))?;
        let smtp = SmtpClient { stream: Lines::new(stream), timeout: peer.command_timeout };
        let mut client = Self {
            smtp,
            extensions: Extensions::default(),
            mechanisms: 0,
            data_timeout: peer.data_timeout,
            usable: true,
            clean: true,
            closed_before: false,
        };
        let greeting = client.reply().await?;
        if !greeting.is_positive() {
            return Err(greeting);
        }
        client.ehlo(peer.hostname).await?;
        match (peer.security, client.extensions.starttls) {
            (Security::Starttls | Security::Opportunistic, true) => client.starttls(connector, peer).await,
            (Security::Starttls, false) => Err(Reply::trouble(
                "4.7.4",
                &format!("{} does not offer STARTTLS, and nothing is sent to it in clear", peer.host),
            )),
            _ => Ok(client),
        }
    }

    async fn starttls(mut self, connector: &Connector, peer: &Peer<'_>) -> Result<Self, Reply> {
        let answer = self.command("STARTTLS\r\n").await?;
        match (answer.is_positive(), peer.security) {
            (true, _) => {}
            (false, Security::Opportunistic) if self.usable => return Ok(self),
            (false, _) => return Err(answer),
        }
        // What stands behind the answer was put there by somebody who cannot read what comes now.
        let stream = self.smtp.stream.into_inner();
        let stream = stream.ok_or_else(|| Reply::trouble("4.7.0", "data stood behind the answer to STARTTLS"))?;
        let stream = connector.upgrade(stream, peer.host, peer.port).await;
        let stream = stream.map_err(|error| Reply::trouble("4.7.5", &error.to_string()))?;
        self.smtp = SmtpClient { stream: Lines::new(stream), timeout: peer.command_timeout };
        self.ehlo(peer.hostname).await?;
        Ok(self)
    }

    /// Whether the connection is encrypted, and how.
    pub fn tls_info(&self) -> Option<String> {
        self.smtp.stream.inner().tls_info()
    }

    /// EHLO, or HELO where that is not known (RFC 5321 section 3.2).
    async fn ehlo(&mut self, hostname: &str) -> Result<(), Reply> {
        let answer = self.smtp.ehlo(hostname).await;
        let raw = self.smtp.stream.take_reply();
        match answer {
            Ok(answer) => {
                self.extensions = extensions(&answer);
                self.mechanisms = answer.auth_mechanisms;
                Ok(())
            }
            Err(Error::UnexpectedReply(reply)) if (500..600).contains(&reply.code) => {
                (self.extensions, self.mechanisms) = (Extensions::default(), 0);
                let answer = self.command(&format!("HELO {hostname}\r\n")).await?;
                if answer.is_positive() { Ok(()) } else { Err(answer) }
            }
            Err(error) => Err(self.trouble(&error, &raw)),
        }
    }

    /// One command and its reply. After trouble with the connection it is not usable any more.
    pub async fn command(&mut self, line: &str) -> Result<Reply, Reply> {
        self.write(line.as_bytes(), self.smtp.timeout).await?;
        self.reply().await
    }

    async fn write(&mut self, octets: &[u8], within: Duration) -> Result<(), Reply> {
        let stream = &mut self.smtp.stream;
        let written = timeout(within, async {
            stream.write_all(octets).await?;
            stream.flush().await
        });
        let failed = match written.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Error::Io(error),
            Err(_) => Error::Timeout,
        };
        Err(self.trouble(&failed, &[]))
    }

    async fn reply(&mut self) -> Result<Reply, Reply> {
        self.reply_within(self.smtp.timeout).await
    }

    async fn reply_within(&mut self, within: Duration) -> Result<Reply, Reply> {
        let read = timeout(within, self.smtp.read()).await.unwrap_or(Err(Error::Timeout));
        let raw = self.smtp.stream.take_reply();
        match (read, Reply::parse(&raw)) {
            (Ok(_), Some(reply)) => {
                // The server closes the connection after it (RFC 5321 section 3.8).
                self.usable &= reply.code != 421;
                Ok(reply)
            }
            (Ok(_), None) => Err(self.trouble(&Error::UnparseableReply, &raw)),
            (Err(error), _) => Err(self.trouble(&error, &raw)),
        }
    }

    /// Trouble with the connection in the shape of a reply.
    fn trouble(&mut self, error: &Error, raw: &[u8]) -> Reply {
        self.usable = false;
        match error {
            Error::Timeout => Reply::trouble("4.4.2", "the server did not answer in time"),
            Error::Io(error) => Reply::trouble("4.4.2", &format!("the connection was lost: {error}")),
            Error::UnparseableReply if raw.is_empty() => Reply::trouble("4.4.2", "the server closed the connection"),
            Error::UnparseableReply => {
                let said = String::from_utf8_lossy(raw);
                Reply::trouble("4.5.0", &format!("the server said what is no reply of SMTP: {said}"))
            }
            Error::UnexpectedReply(_) => {
                Reply::parse(raw).unwrap_or_else(|| Reply::trouble("4.5.0", "the server said what is no reply of SMTP"))
            }
            other => Reply::trouble("4.4.2", &other.to_string()),
        }
    }

    /// Makes the connection ready for another mail, and sees whether it still lives.
    pub async fn reset(&mut self) -> bool {
        self.usable = self.usable && self.command("RSET\r\n").await.is_ok_and(|reply| reply.is_positive());
        self.usable
    }

    /// Says goodbye, without waiting long for the answer.
    pub async fn quit(mut self) {
        if self.usable {
            self.smtp.timeout = self.smtp.timeout.min(Duration::from_secs(5));
            let _ = self.command("QUIT\r\n").await;
        }
    }

    /// Sends one mail in pieces that belong together: what we put in front, and the mail itself.
    pub async fn send(&mut self, plan: &Plan, pieces: &[&[u8]]) -> Settled {
        let refused = |line: &Result<String, Reply>| line.as_ref().err().cloned().map(RecipientOutcome::Failed);
        let mut settled: Vec<Option<RecipientOutcome>> = plan.recipients.iter().map(refused).collect();
        self.clean = false;
        let ready = match self.envelope(plan, &mut settled).await {
            Ok(ready) => ready,
            Err(reply) => return all_open(settled, &reply.outcome()),
        };
        let accepted = settled.iter().any(Option::is_none);
        let last = match (accepted, plan.way, ready) {
            (true, Way::Data, true) => self.data(pieces).await,
            (true, Way::Chunk, _) => self.chunk(pieces).await,
            // The server waits for a mail that has no recipient: give it an empty one (RFC 2920 section 3.1).
            (false, Way::Data, true) => {
                let ended = self.command(".\r\n").await;
                ended.unwrap_or_else(|reply| reply).outcome()
            }
            _ => RecipientOutcome::Delayed(Reply::trouble("4.5.0", "the server took no mail and did not say why")),
        };
        self.clean = matches!(last, RecipientOutcome::Relayed(_));
        all_open(settled, &last)
    }

    /// MAIL, RCPT and, for DATA, DATA. Whether the server waits for the mail now; the recipients that it refused are
    /// settled. An error is the reply for all that are not.
    async fn envelope(&mut self, plan: &Plan, settled: &mut [Option<RecipientOutcome>]) -> Result<bool, Reply> {
        let open: Vec<usize> = (0..settled.len()).filter(|at| settled[*at].is_none()).collect();
        if open.is_empty() {
            return Ok(false);
        }
        let mut commands = vec![plan.mail.as_str()];
        commands.extend(plan.recipients.iter().filter_map(|line| line.as_deref().ok()));
        if plan.way == Way::Data {
            commands.push("DATA\r\n");
        }
        let window = if self.extensions.pipelining { WINDOW } else { 1 };
        let (mut refused, mut ready) = (None, false);
        for (number, group) in commands.chunks(window).enumerate() {
            // Without pipelining nothing more is said once the sender is refused, or every recipient is.
            let nothing_left = window == 1 && group == ["DATA\r\n"] && open.iter().all(|at| settled[*at].is_some());
            if (window == 1 && refused.is_some()) || nothing_left {
                break;
            }
            self.closed_before = number == 0;
            self.write(group.concat().as_bytes(), self.smtp.timeout).await?;
            for at in number * window..number * window + group.len() {
                let reply = match self.reply().await {
                    Ok(reply) => reply,
                    // What was said before the connection broke is the better reason.
                    Err(lost) => return Err(refused.unwrap_or(lost)),
                };
                self.closed_before = at == 0 && !self.usable;
                let said = reply.clone();
                match at {
                    0 if !reply.is_positive() => refused = Some(reply.about(About::Sender)),
                    0 => {}
                    at if at <= open.len() => {
                        if refused.is_none() && !reply.is_positive() {
                            settled[open[at - 1]] = Some(reply.about(About::Recipient).outcome());
                        }
                    }
                    _ if reply.code == 354 => ready = true,
                    _ => refused = refused.or(Some(reply)),
                }
                if !self.usable {
                    return Err(refused.unwrap_or(said));
                }
            }
        }
        match refused {
            Some(reply) if !ready => Err(as_refusal(reply)),
            // It refused the sender and waits for a mail all the same: give it an empty one.
            Some(reply) => {
                let _ = self.command(".\r\n").await;
                Err(as_refusal(reply))
            }
            None => Ok(ready),
        }
    }

    async fn data(&mut self, pieces: &[&[u8]]) -> RecipientOutcome {
        let (mut stuffer, mut out) = (Stuffer::new(), Vec::with_capacity(PIECE + 1024));
        let deadline = Instant::now() + self.data_timeout;
        for piece in in_pieces(pieces) {
            if let Err(reply) = self.make_room(&mut out, piece.len(), deadline).await {
                return self.broken_off(reply).await;
            }
            stuffer.push(piece, &mut out);
        }
        stuffer.end(&mut out);
        self.finish(&out, deadline).await
    }

    async fn chunk(&mut self, pieces: &[&[u8]]) -> RecipientOutcome {
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        let deadline = Instant::now() + self.data_timeout;
        let mut out = format!("BDAT {size} LAST\r\n").into_bytes();
        for piece in in_pieces(pieces) {
            if let Err(reply) = self.make_room(&mut out, piece.len(), deadline).await {
                return self.broken_off(reply).await;
            }
            out.extend_from_slice(piece);
        }
        self.finish(&out, deadline).await
    }

    /// Writes what has gathered once it is enough, so that a small mail and its end leave together.
    async fn make_room(&mut self, out: &mut Vec<u8>, coming: usize, deadline: Instant) -> Result<(), Reply> {
        if out.len() + coming > PIECE && !out.is_empty() {
            self.write(out, deadline.saturating_duration_since(Instant::now())).await?;
            out.clear();
        }
        Ok(())
    }

    /// Sends the last piece with the end of the mail, and waits for the answer.
    async fn finish(&mut self, last: &[u8], deadline: Instant) -> RecipientOutcome {
        // While it cannot be written whole, its end has not left, and the server cannot have taken the mail.
        if let Err(reply) = self.write(last, deadline.saturating_duration_since(Instant::now())).await {
            return self.broken_off(reply).await;
        }
        match self.reply_within(self.data_timeout).await {
            Ok(reply) => reply.outcome(),
            Err(reply) => {
                let said = format!("no answer came to the whole mail: {}", reply.text);
                RecipientOutcome::Ambiguous(Reply::new(reply.code, reply.enhanced.as_deref(), &said))
            }
        }
    }

    /// The server stopped reading: it may have said why before it closed the connection.
    async fn broken_off(&mut self, lost: Reply) -> RecipientOutcome {
        let said = self.reply_within(self.smtp.timeout.min(Duration::from_secs(5))).await;
        self.usable = false;
        match said {
            Ok(reply) if reply.code >= 400 => reply.outcome(),
            _ => RecipientOutcome::Delayed(lost),
        }
    }
}

/// A reply that is not the one that was asked for refuses, whatever its class: a yes where 354 belongs is no yes.
fn as_refusal(reply: Reply) -> Reply {
    if reply.code >= 400 {
        return reply;
    }
    Reply::trouble("4.5.0", &format!("the server said {reply} where that is no answer"))
}

/// Gives the recipients that are not settled one outcome.
fn all_open(settled: Vec<Option<RecipientOutcome>>, outcome: &RecipientOutcome) -> Settled {
    settled.into_iter().map(|own| own.unwrap_or_else(|| outcome.clone())).collect()
}

fn extensions(answer: &EhloResponse<String>) -> Extensions {
    let has = |bit: u32| answer.capabilities & bit != 0;
    Extensions {
        pipelining: has(EXT_PIPELINING),
        eight_bit_mime: has(EXT_8BIT_MIME),
        binary_mime: has(EXT_BINARY_MIME),
        chunking: has(EXT_CHUNKING),
        smtp_utf8: has(EXT_SMTP_UTF8),
        dsn: has(EXT_DSN),
        starttls: has(EXT_START_TLS),
        size: has(EXT_SIZE).then_some(answer.size as u64),
    }
}

/// What one write takes each. A list rather than an iterator with a closure, which would tie the future that holds it to
/// one lifetime, so that no task could run it.
fn in_pieces<'p>(pieces: &[&'p [u8]]) -> Vec<&'p [u8]> {
    pieces.iter().flat_map(|piece| piece.chunks(PIECE)).collect()
}
