//! What a session at the submission door does beyond one at the other door: logins, and who may send as whom.

use std::sync::Arc;

use secrecy::SecretString;

use super::{Next, Session, State, Step, Tls};
use crate::mail::Address;
use crate::smtp::command::AuthCommand;
use crate::smtp::fault::Fault;
use crate::smtp::reply::Replies;
use crate::smtp::submission::Login;
use crate::smtp::submission::sasl::Method;
use crate::ticket::Directory;

/// Logins that may fail in one session.
const MOST_FAILED: u32 = 3;

/// Who speaks at the submission door.
#[derive(Debug, Default)]
pub struct Submitter {
    /// The ways to log in that some account has.
    pub methods: Vec<Method>,
    /// A password may come without TLS: the peer is this machine.
    pub in_clear: bool,
    /// The peer needs no login, and sends as the channels only.
    pub trusted: bool,
    login: Option<Arc<Login>>,
    failed: u32,
    /// The first message of an exchange, still in base 64.
    initial: Option<SecretString>,
}

/// How an AUTH exchange ended.
#[derive(Clone, Debug)]
pub enum Ended {
    Proven(Arc<Login>),
    Failed,
    /// The client gave up with `*`.
    Cancelled,
    /// What it sent is not base 64.
    Unreadable,
    /// Whoever could tell cannot be asked now.
    Trouble,
    /// Too many logins of this peer have failed lately.
    TooMany,
}

/// Reports that were asked for with a mail (RFC 3461), beside its envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    pub ret: Option<String>,
    pub envid: Option<String>,
    /// NOTIFY and ORCPT of each recipient, in the order of the envelope's.
    pub recipients: Vec<(Option<String>, Option<String>)>,
}

impl Submitter {
    pub fn new(methods: Vec<Method>, in_clear: bool, trusted: bool) -> Self {
        Self { methods, in_clear, trusted, ..Self::default() }
    }

    /// The account that has logged in.
    pub fn login(&self) -> Option<&Arc<Login>> {
        self.login.as_ref()
    }

    /// Whether mail may be sent under this address.
    pub fn may_send_as(&self, address: &Address, directory: &Directory) -> bool {
        match &self.login {
            Some(login) => login.may_send_as(address),
            None => self.trusted && directory.channel_for(address).is_some(),
        }
    }

    /// What TLS that has just begun makes void.
    pub(super) fn forget(&mut self) {
        (self.login, self.initial) = (None, None);
    }

    fn usable(&self, tls: Tls) -> bool {
        tls == Tls::On || self.in_clear
    }
}

impl Session {
    /// Makes this a session at the submission door.
    pub fn at_submission(mut self, submitter: Submitter) -> Self {
        self.submitter = Some(Box::new(submitter));
        self
    }

    /// Who speaks at the submission door; `None` at the other one.
    pub fn submitter(&self) -> Option<&Submitter> {
        self.submitter.as_deref()
    }

    /// The first message of the exchange that [`Next::Authenticate`] has asked for, still in base 64.
    pub fn take_initial(&mut self) -> Option<SecretString> {
        self.submitter.as_mut()?.initial.take()
    }

    /// The mechanisms that EHLO offers.
    pub(super) fn mechanisms(&self) -> Option<String> {
        let submitter = self.submitter.as_ref()?;
        if submitter.login.is_some() || submitter.methods.is_empty() || !submitter.usable(self.tls) {
            return None;
        }
        let names: Vec<&str> = submitter.methods.iter().map(|method| method.as_str()).collect();
        Some(names.join(" "))
    }

    pub(super) fn auth(&mut self, command: AuthCommand, out: &mut Replies) -> Step {
        let tls = self.tls;
        let idle = !self.in_transaction() && self.helo.is_some();
        let Some(submitter) = &mut self.submitter else {
            return self.bad(out, (503, "5.5.1"), "Authentication not offered here", Fault::BadSequence);
        };
        let refusal = if !idle {
            Some(((503, "5.5.1"), "AUTH comes after EHLO and before MAIL", Fault::BadSequence))
        } else if submitter.login.is_some() {
            Some(((503, "5.5.1"), "You are logged in already", Fault::BadSequence))
        } else if !submitter.usable(tls) {
            Some(((538, "5.7.11"), "Encryption required: STARTTLS first", Fault::TlsRequired))
        } else {
            None
        };
        if let Some((code, text, fault)) = refusal {
            return self.bad(out, code, text, fault);
        }
        let method = Method::parse(&command.mechanism).filter(|method| submitter.methods.contains(method));
        let Some(method) = method else {
            return self.bad(out, (504, "5.5.4"), "Mechanism not offered here", Fault::BadSyntax);
        };
        submitter.initial = command.initial.map(SecretString::from);
        Step::then(Next::Authenticate { method })
    }

    /// The answer to [`Next::Authenticate`].
    pub fn authenticated(&mut self, ended: Ended, out: &mut Replies) -> Step {
        let Some(submitter) = &mut self.submitter else { return Step::LINE };
        let (code, enhanced, text) = match ended {
            Ended::Proven(login) => {
                submitter.login = Some(login);
                out.add(235, "2.7.0", format_args!("Logged in"));
                return Step::LINE;
            }
            Ended::Cancelled => (501, "5.7.0", "Login given up"),
            Ended::Unreadable => (501, "5.5.2", "That is not base 64"),
            Ended::Trouble => (454, "4.7.0", "The login cannot be checked now, try again later"),
            Ended::TooMany => (454, "4.7.0", "Too many logins have failed, try again later"),
            Ended::Failed => (535, "5.7.8", "Name or password are wrong"),
        };
        submitter.failed += 1;
        if submitter.failed >= MOST_FAILED || matches!(ended, Ended::TooMany) {
            self.state = State::Over;
            out.add(code, enhanced, format_args!("{text}, closing"));
            return Step::close(Fault::LoginFailed);
        }
        out.add(code, enhanced, format_args!("{text}"));
        Step { next: Next::Line, fault: Some(Fault::LoginFailed) }
    }

    /// Whether a mail may begin at this door under this sender; `None` if it may.
    pub(super) fn objection(
        &mut self,
        sender: Option<&Address>,
        directory: &Directory,
        out: &mut Replies,
    ) -> Option<Step> {
        let submitter = self.submitter.as_ref()?;
        if submitter.login.is_none() && !submitter.trusted {
            return Some(self.bad(out, (530, "5.7.0"), "Authentication required", Fault::NotAllowed));
        }
        // The null sender is for reports; the From field is looked at as for any other mail.
        let sender = sender.filter(|sender| !submitter.may_send_as(sender, directory))?;
        let text = format!("You may not send as <{sender}>");
        Some(self.bad(out, (553, "5.7.1"), &text, Fault::NotAllowed))
    }
}
