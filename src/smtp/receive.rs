//! One message: from the wire into a body, and from there to the intake.

use std::borrow::Cow;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::intake::{Arrival, Leaving, Refusal, TurnedAway};
use crate::mail::auth::AuthResults;
use crate::mail::{Address, Class, Envelope, MailId, Origin, Reason};
use crate::metrics::Deferral;
use crate::net::tls::ClientCertificate;
use crate::store::{Body, BodyError, BodyWriter, OutgoingMeta, OutgoingRecipient, Receipt};

use super::allow::has_certificate;
use super::connection::{Connection, End};
use super::data::{ChunkScanner, DataDecoder, Findings};
use super::session::{Ending, Next, Outcome, Submitter};
use super::stream::{Late, MOST_AT_ONCE};
use super::submission::handed::{Found, Handed, Via};
use super::{BareNewlines, Config};

/// How many octets we read at once: little at first, because most mails are small, then more.
const FIRST_READ: usize = 16 << 10;
const LATER_READ: usize = MOST_AT_ONCE;

/// A message that is being received: the body, until something is wrong with it.
struct Receiving {
    /// The beginning of a mail that is handed in, until it was looked at.
    handed: Option<Box<Handed>>,
    id: MailId,
    body: Option<BodyWriter>,
    size: u64,
    limit: u64,
    /// What is wrong; the rest of the message is then read and thrown away.
    failed: Option<Outcome>,
    /// The beginning of a message that is refused, for the record of it.
    head: Vec<u8>,
}

impl Connection {
    /// Receives what follows DATA.
    pub(super) async fn receive_data(&mut self) -> Result<(), End> {
        let mut mail = self.begin();
        let (mut decoder, mut decoded, mut want) = (DataDecoder::default(), Vec::new(), FIRST_READ);
        loop {
            let waiting = self.input.waiting();
            // It comes out no longer, but for a CR that was held back.
            decoded.reserve(waiting.len() + 1);
            let (octets, end) = (waiting.len(), decoder.push(waiting, &mut decoded));
            self.input.consume(end.unwrap_or(octets));
            self.push(&mut mail, &decoded).await;
            decoded.clear();
            if end.is_some() {
                break;
            }
            self.more(want).await?;
            want = LATER_READ;
        }
        self.complete(mail, decoder.findings()).await;
        Ok(())
    }

    /// Receives a chunk and those that follow it, until the last one or until the session does something else.
    pub(super) async fn receive_chunks(&mut self, size: u64, last: bool) -> Result<(), End> {
        let mut mail = match self.chunked.take() {
            Some(chunked) => *chunked,
            None => Chunked { mail: self.begin(), scanner: ChunkScanner::default() },
        };
        self.take_chunk(size, &mut mail).await?;
        if last || mail.mail.failed.is_some() {
            let findings = mail.scanner.findings();
            self.complete(mail.mail, findings).await;
        } else {
            let step = self.session.chunk_taken(size, &mut self.out);
            self.note(step);
            self.chunked = Some(Box::new(mail));
        }
        Ok(())
    }

    async fn take_chunk(&mut self, size: u64, chunked: &mut Chunked) -> Result<(), End> {
        let mut left = size;
        while left > 0 {
            if self.input.waiting().is_empty() {
                self.more(read_size(left)).await?;
            }
            let waiting = self.input.waiting();
            let part = &waiting[..waiting.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            chunked.scanner.push(part);
            self.push(&mut chunked.mail, part).await;
            let taken = part.len();
            left -= taken as u64;
            self.input.consume(taken);
        }
        Ok(())
    }

    /// Reads octets that nobody wants.
    pub(super) async fn skip(&mut self, size: u64) -> Result<(), End> {
        let mut left = size;
        self.mail_deadline.get_or_insert(Instant::now() + self.live.config.transaction_timeout);
        while left > 0 {
            if self.input.waiting().is_empty() {
                self.more(read_size(left)).await?;
            }
            let taken = self.input.waiting().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= taken as u64;
            self.input.consume(taken);
        }
        Ok(())
    }

    fn begin(&self) -> Receiving {
        let now = self.door.clock.now();
        let id = MailId::fresh(now);
        let limit = self.live.config.max_message_bytes;
        let body = Some(self.door.intake.body(id));
        let handed = self.session.submitter().map(|submitter| {
            let via = Via {
                helo: self.session.helo().unwrap_or_default().to_owned(),
                peer: self.peer,
                host: self.live.host.clone(),
                utf8: self.session.reports().1,
                tls: self.tls.is_some(),
                logged_in: submitter.login().is_some(),
            };
            Box::new(Handed::new(id, now, via, self.door.intake.header_limit()))
        });
        Receiving { handed, id, body, size: 0, limit, failed: None, head: Vec::new() }
    }

    /// Takes the next octets of a message. Of one that is handed in, nothing is kept before its header section is
    /// complete and in order.
    async fn push(&self, mail: &mut Receiving, octets: &[u8]) {
        let Some(handed) = mail.handed.as_mut().filter(|_| mail.failed.is_none()) else {
            return mail.push(octets).await;
        };
        handed.note(octets);
        if handed.found().is_some() {
            return mail.push(octets).await;
        }
        mail.size += octets.len() as u64;
        let Some(submitter) = self.session.submitter() else { return };
        match handed.take(octets, submitter, &self.door.directory.load_full()) {
            Ok(None) => {}
            Ok(Some(kept)) => mail.keep(&kept).await,
            Err(reason) => mail.fail(Outcome::Refused(reason)),
        }
    }

    /// Reads more of a message.
    async fn more(&mut self, want: usize) -> Result<(), End> {
        let idle = Instant::now() + self.live.config.idle_timeout;
        let deadline = self.mail_deadline.map_or(idle, |mail| mail.min(idle));
        self.flush(deadline).await?;
        match self.timer.limit(deadline, self.input.fill(&mut self.stream, want)).await {
            Ok(Ok(0)) => Err(End::Gone),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::Broken(error)),
            Err(Late) if deadline == idle => Err(End::Ours(Ending::Idle)),
            Err(Late) => Err(End::Ours(Ending::Transaction)),
        }
    }

    /// The message was read to its end: hands it over, and lets the session answer.
    async fn complete(&mut self, mail: Receiving, findings: Findings) {
        let outcome = self.outcome(mail, findings).await;
        let deferral = match outcome {
            Outcome::Full => Some(Deferral::Full),
            Outcome::Trouble => Some(Deferral::Trouble),
            _ => None,
        };
        if let Some(cause) = deferral {
            self.door.metrics.mail_deferred(self.kind().as_str(), cause);
        }
        let step = self.session.finish(outcome, &mut self.out);
        debug_assert_eq!(step.next, Next::Line);
        self.note(step);
    }

    async fn outcome(&self, mut mail: Receiving, findings: Findings) -> Outcome {
        self.end_of_header(&mut mail).await;
        if mail.failed.is_none() {
            mail.failed = objection(findings, &self.live.config);
        }
        let envelope = self.session.envelope().cloned().unwrap_or_default();
        if let Some(failed) = mail.failed {
            let reason = match failed {
                Outcome::Refused(reason) => Some(reason),
                Outcome::LineTooLong | Outcome::BareNewline => Some(Reason::Malformed),
                _ => None,
            };
            if let Some(reason) = reason {
                self.turn_away(mail, envelope, reason);
            }
            return failed;
        }
        let Some(writer) = mail.body.take() else { return Outcome::Trouble };
        let found = mail.handed.and_then(|handed| handed.ended());
        match (writer.finish().await, found) {
            (Ok(body), None) => self.hand_over(mail.id, envelope, body).await,
            (Ok(body), Some((found, written))) => self.hand_out(mail.id, envelope, found, written, body).await,
            (Err(error), _) => trouble(mail.id, error),
        }
    }

    /// A mail may be a header section alone, which only its end shows.
    async fn end_of_header(&self, mail: &mut Receiving) {
        let Some(handed) = mail.handed.as_mut().filter(|handed| handed.found().is_none() && mail.failed.is_none())
        else {
            return;
        };
        let Some(submitter) = self.session.submitter() else { return };
        match handed.finish(submitter, &self.door.directory.load_full()) {
            Ok(kept) => mail.keep(&kept).await,
            Err(reason) => mail.fail(Outcome::Refused(reason)),
        }
    }

    /// A mail that was handed in: from here on it is ours to deliver.
    async fn hand_out(&self, id: MailId, envelope: Envelope, found: Found, written: String, body: Body) -> Outcome {
        let (reports, smtputf8) = self.session.reports();
        let login = self.session.submitter().and_then(Submitter::login);
        let asked = reports.recipients.into_iter().chain(std::iter::repeat((None, None)));
        let recipients = envelope.rcpt_to.iter().cloned().zip(asked);
        let outgoing = OutgoingMeta {
            // Nobody who is to be answered has no return path (RFC 3834 section 3.3).
            class: if envelope.mail_from.is_none() { Class::Automatic } else { found.class },
            author: login.map_or_else(|| self.peer.to_string(), |login| login.name.clone()),
            relay: login.and_then(|login| login.relay.clone()),
            fingerprint: Some(written),
            recipients: recipients
                .map(|(address, (notify, orcpt))| OutgoingRecipient { address, notify, orcpt })
                .collect(),
            smtputf8,
            ret: reports.ret,
            envid: reports.envid,
            ..OutgoingMeta::default()
        };
        let (received_at, origin, channel) = (self.door.clock.now(), self.origin(), found.channel);
        let sender = envelope.mail_from.clone();
        let leaving = Leaving { id, received_at, envelope, origin, channel, outgoing, body };
        let taken = self.door.intake.accept_leaving(leaving).await;
        if let Err(Refusal::Permanent(reason)) = taken {
            self.refused_to_send(id, sender.as_ref(), reason);
        }
        self.answer(id, taken)
    }

    /// Whoever hands a mail in hears why it was refused, and has it still.
    fn refused_to_send(&self, id: MailId, sender: Option<&Address>, reason: Reason) {
        let sender = sender.map_or_else(|| "<>".to_owned(), ToString::to_string);
        self.door.metrics.mail_refused(self.kind().as_str(), reason.code());
        info!(mail = %id, peer = %self.peer, sender, reason = reason.code(), "refused to send a mail");
    }

    /// The one place where a mail is given to the intake: only what it returns as accepted is answered 250.
    async fn hand_over(&self, id: MailId, envelope: Envelope, body: Body) -> Outcome {
        let mut origin = self.origin();
        origin.auth = self.verify(&envelope, &body).await;
        let received_at = self.door.clock.now();
        self.answer(id, self.door.intake.accept(Arrival { id, received_at, envelope, origin, body }).await)
    }

    fn answer(&self, id: MailId, taken: Result<Receipt, Refusal>) -> Outcome {
        match taken {
            Ok(receipt) => Outcome::Accepted(receipt.id),
            Err(Refusal::Permanent(reason)) => Outcome::Refused(reason),
            Err(Refusal::Full) => Outcome::Full,
            Err(Refusal::Trouble(why)) => {
                warn!(mail = %id, peer = %self.peer, why, "could not accept a mail");
                Outcome::Trouble
            }
        }
    }

    /// The one place where SPF, DKIM, DMARC and ARC are looked at: with the finished body, before it is accepted.
    async fn verify(&self, envelope: &Envelope, body: &Body) -> AuthResults {
        let verifier = &self.door.verifier;
        if let Some(why) = verifier.exemption(self.peer) {
            return AuthResults { note: Some(why.to_owned()), ..AuthResults::default() };
        }
        let helo = self.session.helo().unwrap_or_default();
        let (sender, size) = (envelope.mail_from.as_ref(), body.size());
        let raw = async { if verifier.hashes(size) { body.read().await } else { Ok(Cow::Borrowed(body.head())) } };
        let results = verifier.verify(self.peer, helo, sender, size, raw).await;
        let said = [("spf", results.spf), ("dkim", results.dkim), ("dmarc", results.dmarc), ("arc", results.arc)];
        for (method, verdict) in said {
            self.door.metrics.verified(method, verdict.as_str());
        }
        results
    }

    fn turn_away(&self, mail: Receiving, envelope: Envelope, reason: Reason) {
        if mail.handed.is_some() {
            return self.refused_to_send(mail.id, envelope.mail_from.as_ref(), reason);
        }
        let Receiving { id, size, head, body, .. } = mail;
        let head = body.map_or(head, |body| beginning(body.head()));
        let received_at = self.door.clock.now();
        let origin = self.origin();
        self.door.intake.turned_away(TurnedAway { id, received_at, envelope, origin, reason, size, head });
    }

    fn origin(&self) -> Origin {
        let tls = self.tls.as_deref();
        Origin {
            kind: self.kind(),
            peer: self.peer.to_string(),
            helo: self.session.helo().map(str::to_owned),
            tls: tls.map(|tls| format!("{} {}", tls.version, tls.cipher)),
            client_certificate: tls.and_then(|tls| tls.client.as_ref()).and_then(|client| self.vouched(client)),
            auth: AuthResults::default(),
            remote: None,
        }
    }

    /// What is worth recording of a client certificate: its subject where an authority of ours vouches for it, its
    /// fingerprint where the configuration names that.
    fn vouched(&self, client: &ClientCertificate) -> Option<String> {
        if client.trusted {
            return Some(client.subject.clone());
        }
        has_certificate(&self.live.config.allow_certificates, client).then(|| format!("sha256:{}", client.sha256))
    }
}

/// A message that comes in chunks, between two of them.
pub(super) struct Chunked {
    mail: Receiving,
    scanner: ChunkScanner,
}

impl Receiving {
    /// Takes the next octets of the message, if it is still wanted.
    async fn push(&mut self, octets: &[u8]) {
        self.size += octets.len() as u64;
        self.keep(octets).await;
    }

    /// Keeps octets that were counted.
    async fn keep(&mut self, octets: &[u8]) {
        let Some(body) = &mut self.body else { return };
        let outcome = if self.size > self.limit {
            Outcome::Refused(Reason::TooLarge)
        } else {
            match body.push(octets).await {
                Ok(()) => return,
                Err(error) => trouble(self.id, error),
            }
        };
        self.fail(outcome);
    }

    fn fail(&mut self, outcome: Outcome) {
        self.failed = Some(outcome);
        // Dropping the body gives its room on disk back at once.
        if let Some(body) = self.body.take() {
            self.head = beginning(body.head());
        }
    }
}

/// The part of a refused message that is worth keeping.
fn beginning(head: &[u8]) -> Vec<u8> {
    head[..head.len().min(FIRST_READ)].to_vec()
}

fn objection(findings: Findings, config: &Config) -> Option<Outcome> {
    if findings.longest_line > config.max_data_line {
        Some(Outcome::LineTooLong)
    } else if findings.bare_newline && config.bare_newlines == BareNewlines::Refuse {
        Some(Outcome::BareNewline)
    } else {
        None
    }
}

fn trouble(id: MailId, error: BodyError) -> Outcome {
    match error {
        BodyError::TooLarge { .. } => Outcome::Refused(Reason::TooLarge),
        BodyError::Full => Outcome::Full,
        BodyError::Trouble(why) => {
            warn!(mail = %id, why, "could not take a message");
            Outcome::Trouble
        }
    }
}

fn read_size(left: u64) -> usize {
    usize::try_from(left).unwrap_or(LATER_READ).clamp(1, LATER_READ)
}
