//! One connection: reads lines, lets the session decide, sends replies, and minds the deadlines.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::mail::origin::OriginKind;
use crate::metrics::Deferral;
use crate::net::tls::TlsInfo;
use crate::shutdown::Shutdown;

use super::allow::{has_certificate, in_networks};
use super::fault::Fault;
use super::line::{Frame, LineReader};
use super::receive::Chunked;
use super::reply::Replies;
use super::server::{Door, Live};
use super::session::{Admission, Ending, Next, Permission, Rules, Session, Step, Submitter, Tls};
use super::stream::{Input, Late, Stream, Timer};

/// How many octets we read at once while commands are exchanged.
const COMMAND_READ: usize = 4 << 10;

/// Everything about one connection.
pub(super) struct Connection {
    pub(super) door: Arc<Door>,
    /// The configuration when it began: a reload holds for new connections.
    pub(super) live: Arc<Live>,
    pub(super) peer: IpAddr,
    pub(super) tls: Option<Box<TlsInfo>>,
    pub(super) session: Session,
    pub(super) stream: Stream,
    pub(super) input: Input,
    pub(super) timer: Timer,
    pub(super) out: Replies,
    /// When the mail that is under way must be complete.
    pub(super) mail_deadline: Option<Instant>,
    /// The message that comes in chunks.
    pub(super) chunked: Option<Box<Chunked>>,
    /// The session has ended with its last reply.
    pub(super) closing: bool,
    lines: LineReader,
    shutdown: Shutdown,
}

/// Why a connection ended before the session closed it.
pub(super) enum End {
    /// The peer went away.
    Gone,
    Broken(io::Error),
    /// We end it, and say so.
    Ours(Ending),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Connection {
    pub(super) fn new(
        door: Arc<Door>,
        live: Arc<Live>,
        peer: IpAddr,
        stream: (Stream, Option<TlsInfo>),
        tls: Tls,
        shutdown: Shutdown,
    ) -> Self {
        let permission = permission(&live, peer, stream.1.as_ref());
        let session = Session::new(Rules::new(&live.config), tls, permission);
        let session = match submitter(&live, peer) {
            Some(submitter) => session.at_submission(submitter),
            None => session,
        };
        let timer = Timer::new(Instant::now() + live.config.idle_timeout);
        Self {
            session,
            door,
            live,
            peer,
            tls: stream.1.map(Box::new),
            stream: stream.0,
            input: Input::default(),
            timer,
            out: Replies::default(),
            mail_deadline: None,
            chunked: None,
            closing: false,
            lines: LineReader::default(),
            shutdown,
        }
    }

    /// Talks until one side is done.
    pub(super) async fn run(mut self) {
        self.session.greet(&self.live.host, &mut self.out);
        let end = match self.talk().await {
            Ok(()) => None,
            Err(End::Ours(ending)) => {
                let step = self.session.end(ending, &mut self.out);
                self.note(step);
                None
            }
            Err(End::Gone) => Some("peer closed".to_owned()),
            Err(End::Broken(error)) => Some(error.to_string()),
        };
        if let Some(why) = end {
            debug!(peer = %self.peer, why, "connection ended");
            return;
        }
        let deadline = Instant::now() + self.live.config.handshake_timeout;
        if let Ok(Ok(())) = self.timer.limit(deadline, self.stream.write(self.out.as_bytes())).await {
            self.stream.close().await;
        }
    }

    async fn talk(&mut self) -> Result<(), End> {
        let mut waiting_since = Instant::now();
        // One wait for all reads, so that they do not queue up for the switch one by one.
        let mut shutdown = self.shutdown.clone();
        let mut stop = pin!(shutdown.wait());
        loop {
            let step = match self.next_line() {
                Frame::Incomplete { drop: 0 } => {
                    self.wait(waiting_since, stop.as_mut()).await?;
                    continue;
                }
                Frame::Incomplete { drop } => {
                    self.input.consume(drop);
                    continue;
                }
                Frame::Fault(fault) => self.session.broken_line(fault, &mut self.out),
                Frame::Line(length) => {
                    let directory = self.door.directory.load();
                    let line = &self.input.waiting()[..length];
                    let step = self.session.line(line, &self.live.host, &directory, &mut self.out);
                    let command = line.escape_ascii();
                    // Only who may forward mail to us gets so far, so most likely a configuration is wrong.
                    match step.fault {
                        Some(Fault::Relay | Fault::UnknownRecipient) => {
                            info!(peer = %self.peer, %command, "recipient refused: no channel has it");
                        }
                        Some(Fault::AnnouncedSize) => {
                            info!(peer = %self.peer, %command, "mail refused: larger than max_message_bytes");
                        }
                        _ => {}
                    }
                    self.input.consume(length + 2);
                    step
                }
            };
            self.note(step);
            if !self.act(step.next).await? {
                return Ok(());
            }
            waiting_since = Instant::now();
        }
    }

    /// Does what the session asks for; `false` is the end.
    async fn act(&mut self, next: Next) -> Result<bool, End> {
        match next {
            Next::Line => {}
            Next::Close => return Ok(false),
            Next::Admit { announced } => {
                let now = Instant::now();
                let step = self.session.admit(self.admission(announced, now), &mut self.out);
                self.note(step);
                self.mail_deadline = Some(now + self.live.config.transaction_timeout);
            }
            // The futures of the rare and the large branches lie on the heap, and only while they run, so that a
            // connection that waits for a command is small.
            Next::Authenticate { method } => {
                Box::pin(self.authenticate(method)).await?;
                return Ok(!self.closing);
            }
            Next::StartTls => return Box::pin(self.start_tls()).await,
            Next::Data => Box::pin(self.receive_data()).await?,
            Next::Chunk { size, last } => Box::pin(self.receive_chunks(size, last)).await?,
            Next::Skip { size } => Box::pin(self.skip(size)).await?,
        }
        if !self.session.in_transaction() {
            self.mail_deadline = None;
            self.chunked = None;
        }
        Ok(true)
    }

    /// Whether a mail may begin. A peer is not charged for one that there is no room for.
    fn admission(&self, announced: u64, now: Instant) -> Admission {
        if !self.door.intake.has_room(announced) {
            self.door.metrics.mail_deferred(self.kind().as_str(), Deferral::Full);
            debug!(peer = %self.peer, announced, "no room on disk for a mail");
            return Admission::NoRoom;
        }
        match self.door.peers.mail(self.peer, &self.live.config, now) {
            Ok(()) => Admission::Granted,
            Err(_) => Admission::TooMany,
        }
    }

    /// The next line of the peer, as far as it is here.
    pub(super) fn next_line(&mut self) -> Frame {
        self.lines.next(self.input.waiting(), self.live.config.max_command_line)
    }

    /// Sends the replies and waits for more octets of an exchange.
    pub(super) async fn wait_for_octets(&mut self, since: Instant) -> Result<(), End> {
        let mut shutdown = self.shutdown.clone();
        self.wait(since, pin!(shutdown.wait())).await
    }

    /// Sends the replies and waits for more octets of a command.
    async fn wait(&mut self, since: Instant, stop: Pin<&mut impl Future<Output = ()>>) -> Result<(), End> {
        let idle = since + self.live.config.idle_timeout;
        self.flush(idle).await?;
        let stopping = !self.session.in_transaction();
        let deadline = self.mail_deadline.map_or(idle, |mail| mail.min(idle));
        let read = self.timer.limit(deadline, self.input.fill(&mut self.stream, COMMAND_READ));
        tokio::select! {
            biased;
            () = stop, if stopping => Err(End::Ours(Ending::Shutdown)),
            read = read => match read {
                Ok(Ok(0)) => Err(End::Gone),
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(End::Broken(error)),
                Err(Late) if deadline == idle => Err(End::Ours(Ending::Idle)),
                Err(Late) => Err(End::Ours(Ending::Transaction)),
            }
        }
    }

    /// Sends the replies that wait.
    pub(super) async fn flush(&mut self, deadline: Instant) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        match self.timer.limit(deadline, self.stream.write(self.out.as_bytes())).await {
            Ok(sent) => sent?,
            // A peer that does not read its replies would not read the last one either.
            Err(Late) => return Err(End::Gone),
        }
        self.out.sent();
        Ok(())
    }

    /// The door that this is.
    pub(super) fn kind(&self) -> OriginKind {
        if self.live.submission.is_some() { OriginKind::Submission } else { OriginKind::Smtp }
    }

    async fn start_tls(&mut self) -> Result<bool, End> {
        let Some(acceptor) = self.live.tls.clone() else {
            let step = self.session.starttls_unavailable(&mut self.out);
            self.note(step);
            return Ok(true);
        };
        let step = self.session.starttls(self.input.waiting().len(), &mut self.out);
        self.note(step);
        if step.next == Next::Close {
            return Ok(false);
        }
        let deadline = Instant::now() + self.live.config.handshake_timeout;
        self.flush(deadline).await?;
        self.input.clear();
        let Stream::Plain(socket) = std::mem::replace(&mut self.stream, Stream::Gone) else { return Ok(false) };
        match acceptor.accept(socket, deadline).await {
            Ok((stream, info)) => {
                self.stream = Stream::Tls(stream);
                self.session.tls_established(permission(&self.live, self.peer, Some(&info)));
                debug!(peer = %self.peer, version = info.version, cipher = info.cipher, "TLS is on");
                self.tls = Some(Box::new(info));
                Ok(true)
            }
            Err(error) => {
                self.door.metrics.smtp_refused(Fault::TlsHandshake.as_str());
                info!(peer = %self.peer, %error, "no TLS");
                Err(End::Gone)
            }
        }
    }

    /// Counts what was refused, and tells the operator what the peer is not told.
    pub(super) fn note(&self, step: Step) {
        let Some(fault) = step.fault else { return };
        self.door.metrics.smtp_refused(fault.as_str());
        match fault {
            Fault::NotAllowed if self.live.submission.is_some() => {
                info!(peer = %self.peer, "not allowed to send: it has not logged in, or not as an account with this sender");
            }
            Fault::NotAllowed => info!(
                peer = %self.peer,
                certificate = self.tls.as_ref().and_then(|tls| tls.client.as_ref()).map(|c| c.sha256.as_str()),
                "not allowed to forward mail: if it should be, add its network to smtp.allow_from or its client \
                 certificate to smtp.allow_certificates"
            ),
            fault => debug!(peer = %self.peer, fault = fault.as_str(), "refused"),
        }
    }
}

/// Who speaks, at the submission door. A login may come in clear from this machine only.
fn submitter(live: &Live, peer: IpAddr) -> Option<Submitter> {
    let submission = live.submission.as_ref()?;
    let trusted = in_networks(&submission.trusted, peer);
    Some(Submitter::new(submission.methods(), peer.is_loopback(), trusted))
}

/// Whether a peer may forward mail, by its address or by the certificate that it showed.
fn permission(live: &Live, peer: IpAddr, tls: Option<&TlsInfo>) -> Permission {
    let certificate = tls.and_then(|tls| tls.client.as_ref());
    let allowed = in_networks(&live.config.allow_from, peer)
        || certificate.is_some_and(|certificate| has_certificate(&live.config.allow_certificates, certificate));
    if allowed { Permission::Allowed } else { Permission::Denied }
}

/// Refuses a connection before any session: the answer is sent if it can be sent at once.
pub(super) fn turn_away(socket: &TcpStream, fault: Fault) {
    let answer = match fault {
        Fault::TooManyFromPeer => "421 4.7.0 Too many connections from you, closing\r\n",
        _ => "421 4.3.2 Too many connections, closing\r\n",
    };
    let _ = socket.try_write(answer.as_bytes());
}
