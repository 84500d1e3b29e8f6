//! What is said in one SMTP session: commands and events in, replies and next actions out.
//!
//! No sockets and no clock: whoever drives a session reads lines and data, waits, and tells it what happened.

mod submit;
mod verbs;

use crate::mail::{Address, Envelope, MailId, Reason};
use crate::ticket::Directory;

use super::command;
use super::config::{Config, TlsMode};
use super::fault::Fault;
use super::line::LineFault;
use super::reply::Replies;
use super::submission::sasl::Method;
pub use submit::{Ended, Reports, Submitter};

/// What a session is allowed and limited to; taken from the configuration when it begins.
#[derive(Clone, Debug)]
pub struct Rules {
    pub max_commands: u32,
    pub max_bad_commands: u32,
    pub max_recipients: usize,
    pub max_message_bytes: u64,
    pub max_data_line: u64,
}

/// How far TLS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// There is none.
    Absent,
    /// It can be turned on.
    Offered,
    /// It must be turned on before a mail is taken.
    Required,
    /// It is on.
    On,
}

/// Whether this peer may forward mail to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Allowed,
    Denied,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    rules: Rules,
    tls: Tls,
    permission: Permission,
    /// Who speaks, at the submission door.
    submitter: Option<Box<Submitter>>,
    helo: Option<String>,
    state: State,
    /// Commands since the session began or since its last accepted mail.
    commands: u32,
    bad_commands: u32,
}

/// Where the transaction is.
#[derive(Debug)]
enum State {
    /// No mail has begun.
    Idle,
    /// A mail was refused, and the rest of its commands may be on their way already (RFC 2920 section 3.1).
    Refused,
    /// MAIL is in order; whether the peer may send one more is being asked.
    Asking(Transaction),
    /// MAIL was taken; recipients are gathered.
    Open(Transaction),
    /// Data is being received: after DATA, or in the first chunk.
    Receiving(Transaction),
    /// A chunk was taken and more are to come.
    Chunking(Transaction),
    /// Nothing more is said.
    Over,
}

#[derive(Debug, Default)]
struct Transaction {
    envelope: Envelope,
    smtputf8: bool,
    /// A recipient was refused.
    refused: bool,
    /// At the submission door: which reports were asked for.
    reports: Option<Box<Reports>>,
}

/// What the driver does after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub next: Next,
    /// What was refused, to be counted.
    pub fault: Option<Fault>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the next line.
    Line,
    /// Ask whether the peer may send one more mail and whether there is room for it, and tell by `admit`. So many octets
    /// were announced; 0 where nothing was.
    Admit { announced: u64 },
    /// Ask by `starttls` how to answer; then send the replies, do the handshake, and tell by `tls_established`.
    StartTls,
    /// Hold the exchange of an AUTH command, and tell by `authenticated`.
    Authenticate { method: Method },
    /// Read a message up to its final dot, and tell by `finish`.
    Data,
    /// Read a chunk of this many octets into the message. Tell by `chunk_taken`, or by `finish` after the last one or
    /// when it could not be taken.
    Chunk { size: u64, last: bool },
    /// Read this many octets and throw them away; the reply to them is given already.
    Skip { size: u64 },
    /// Send the replies and close.
    Close,
}

/// Whether a mail may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Granted,
    /// The peer has sent as many as it may for now.
    TooMany,
    /// There is no room on disk for it.
    NoRoom,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk and ours.
    Accepted(MailId),
    Refused(Reason),
    /// No room on disk.
    Full,
    /// Our own trouble.
    Trouble,
    /// A line in it is longer than the limit.
    LineTooLong,
    /// A CR or LF by itself stands in it, and the configuration refuses such messages.
    BareNewline,
}

/// What ends a session from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer said nothing, or nothing complete, for too long.
    Idle,
    /// A mail took too long.
    Transaction,
    /// We stop.
    Shutdown,
}

impl Rules {
    /// The rules that a configuration makes.
    pub fn new(config: &Config) -> Self {
        Self {
            max_commands: config.max_commands,
            max_bad_commands: config.max_bad_commands,
            max_recipients: config.max_recipients,
            max_message_bytes: config.max_message_bytes,
            max_data_line: config.max_data_line,
        }
    }
}

impl Tls {
    /// How a session begins on a listener, where `ready` says that there is a certificate.
    pub fn at_start(mode: TlsMode, ready: bool) -> Self {
        match mode {
            TlsMode::Implicit => Self::On,
            TlsMode::Required => Self::Required,
            TlsMode::StartTls if ready => Self::Offered,
            TlsMode::StartTls | TlsMode::Plain => Self::Absent,
        }
    }
}

impl Step {
    const LINE: Self = Self { next: Next::Line, fault: None };

    fn then(next: Next) -> Self {
        Self { next, fault: None }
    }

    fn close(fault: Fault) -> Self {
        Self { next: Next::Close, fault: Some(fault) }
    }
}

impl Session {
    pub fn new(rules: Rules, tls: Tls, permission: Permission) -> Self {
        let (submitter, helo, state) = (None, None, State::Idle);
        Self { rules, tls, permission, submitter, helo, state, commands: 0, bad_commands: 0 }
    }

    /// The name that the peer gave, once it has.
    pub fn helo(&self) -> Option<&str> {
        self.helo.as_deref()
    }

    /// Sender and recipients of the transaction that is under way.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction().map(|mail| &mail.envelope)
    }

    /// What reports were asked for with the mail that is under way, and whether it needs SMTPUTF8.
    pub fn reports(&self) -> (Reports, bool) {
        let mail = self.transaction();
        let reports = mail.and_then(|mail| mail.reports.as_deref().cloned());
        (reports.unwrap_or_default(), mail.is_some_and(|mail| mail.smtputf8))
    }

    fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Asking(mail) | State::Open(mail) | State::Receiving(mail) | State::Chunking(mail) => Some(mail),
            State::Idle | State::Refused | State::Over => None,
        }
    }

    /// Whether a transaction is under way.
    pub fn in_transaction(&self) -> bool {
        self.envelope().is_some()
    }

    /// The greeting.
    pub fn greet(&self, host: &str, out: &mut Replies) {
        out.add_bare(format_args!("220 {host} ESMTP ticketgate"));
    }

    /// A command line, without its CR LF.
    pub fn line(&mut self, line: &[u8], host: &str, directory: &Directory, out: &mut Replies) -> Step {
        if let Some(end) = self.count(out) {
            return end;
        }
        match command::parse(line) {
            Ok(command) => self.obey(command, host, directory, out),
            Err(error) => self.refuse_command(error, out),
        }
    }

    /// A line that is no command, or too long to be one.
    pub fn broken_line(&mut self, fault: LineFault, out: &mut Replies) -> Step {
        if let Some(end) = self.count(out) {
            return end;
        }
        let (text, fault) = match fault {
            LineFault::TooLong => ("Line too long", Fault::CommandTooLong),
            LineFault::BareNewline => ("A line ends with CR LF and has no CR or LF in it", Fault::BrokenLine),
            LineFault::Nul => ("NUL in a command", Fault::BrokenLine),
        };
        self.bad(out, (500, "5.5.2"), text, fault)
    }

    /// The answer to `Next::Admit`.
    pub fn admit(&mut self, answer: Admission, out: &mut Replies) -> Step {
        let State::Asking(mail) = std::mem::replace(&mut self.state, State::Refused) else { return Step::LINE };
        match answer {
            Admission::Granted => {
                self.state = State::Open(mail);
                out.add(250, "2.1.0", format_args!("Sender ok"));
                Step::LINE
            }
            Admission::TooMany => {
                out.add(450, "4.7.1", format_args!("Too many mails from you, try again in a minute"));
                Step { next: Next::Line, fault: Some(Fault::TooManyMails) }
            }
            // The peer hears it before it sends the mail for nothing (RFC 1870 section 6.1).
            Admission::NoRoom => {
                out.add(452, "4.3.1", format_args!("Insufficient system storage, try again later"));
                Step::LINE
            }
        }
    }

    /// TLS is on: everything said before it is forgotten (RFC 3207 section 4.2).
    pub fn tls_established(&mut self, permission: Permission) {
        self.tls = Tls::On;
        self.permission = permission;
        if let Some(submitter) = &mut self.submitter {
            submitter.forget();
        }
        self.helo = None;
        self.state = State::Idle;
    }

    /// The answer to `Next::StartTls`. Octets that came with it before the handshake may be somebody else's, so then
    /// the session ends (RFC 3207 section 6).
    pub fn starttls(&mut self, octets_wait: usize, out: &mut Replies) -> Step {
        if octets_wait == 0 {
            out.add(220, "2.0.0", format_args!("Ready to start TLS"));
            return Step::LINE;
        }
        self.state = State::Over;
        out.add(554, "5.5.1", format_args!("Nothing may follow STARTTLS before the handshake, closing"));
        Step::close(Fault::AfterStartTls)
    }

    /// The other answer to `Next::StartTls`: there is no certificate now (RFC 3207 section 4).
    pub fn starttls_unavailable(&mut self, out: &mut Replies) -> Step {
        out.add(454, "4.7.0", format_args!("TLS not available now"));
        Step::LINE
    }

    /// A chunk that is not the last was taken.
    pub fn chunk_taken(&mut self, size: u64, out: &mut Replies) -> Step {
        if let State::Receiving(mail) = std::mem::replace(&mut self.state, State::Idle) {
            self.state = State::Chunking(mail);
        }
        out.add(250, "2.0.0", format_args!("{size} octets received"));
        Step::LINE
    }

    /// The message is complete, or it failed; either way the transaction is over.
    pub fn finish(&mut self, outcome: Outcome, out: &mut Replies) -> Step {
        self.state = State::Refused;
        let mut fault = None;
        match outcome {
            Outcome::Accepted(id) => {
                self.state = State::Idle;
                self.commands = 0;
                out.add(250, "2.0.0", format_args!("Accepted as {id}"));
            }
            Outcome::Refused(reason) => {
                let reply = reason.reply();
                fault = (reason == Reason::TooLarge).then_some(Fault::ActualSize);
                out.add(reply.code, reply.enhanced, format_args!("{}", reply.text));
            }
            Outcome::Full => out.add(452, "4.3.1", format_args!("Insufficient system storage, try again later")),
            Outcome::Trouble => out.add(451, "4.3.0", format_args!("Trouble on our side, try again later")),
            Outcome::LineTooLong => {
                fault = Some(Fault::DataLineTooLong);
                let limit = self.rules.max_data_line;
                out.add(554, "5.6.0", format_args!("A line of the message is longer than {limit} octets"));
            }
            Outcome::BareNewline => {
                fault = Some(Fault::BareNewline);
                out.add(554, "5.6.0", format_args!("A CR or LF by itself stands in the message"));
            }
        }
        Step { next: Next::Line, fault }
    }

    /// The session is ended by us.
    pub fn end(&mut self, ending: Ending, out: &mut Replies) -> Step {
        self.state = State::Over;
        let (enhanced, text, fault) = match ending {
            Ending::Idle => ("4.4.2", "Waited too long, closing", Fault::IdleTimeout),
            Ending::Transaction => ("4.4.2", "The mail takes too long, closing", Fault::TransactionTimeout),
            Ending::Shutdown => ("4.3.2", "Service shutting down", Fault::ShuttingDown),
        };
        out.add(421, enhanced, format_args!("{text}"));
        Step::close(fault)
    }

    /// Counts a command, and ends the session when there were too many.
    fn count(&mut self, out: &mut Replies) -> Option<Step> {
        self.commands += 1;
        if self.commands <= self.rules.max_commands {
            return None;
        }
        self.state = State::Over;
        out.add(421, "4.7.0", format_args!("Too many commands without a mail, closing"));
        Some(Step::close(Fault::TooManyCommands))
    }

    /// Refuses a command that should not have been sent, and ends the session when there were too many of them.
    fn bad(&mut self, out: &mut Replies, (code, enhanced): (u16, &str), text: &str, fault: Fault) -> Step {
        self.bad_commands += 1;
        if self.bad_commands > self.rules.max_bad_commands {
            self.state = State::Over;
            out.add(421, "4.7.0", format_args!("Too many bad commands, closing"));
            return Step::close(Fault::TooManyBadCommands);
        }
        out.add(code, enhanced, format_args!("{text}"));
        Step { next: Next::Line, fault: Some(fault) }
    }
}

/// Whether an address needs SMTPUTF8 (RFC 6531 section 3.3).
fn needs_utf8(address: &Address) -> bool {
    !(address.local().is_ascii() && address.domain().is_ascii())
}
