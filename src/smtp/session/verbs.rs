//! One function a command.

use crate::mail::Address;
use crate::ticket::Directory;

use super::{Next, Permission, Reports, Session, State, Step, Tls, Transaction, needs_utf8};
use crate::smtp::command::{Command, CommandError, MailCommand, RcptCommand, Recipient};
use crate::smtp::fault::Fault;
use crate::smtp::reply::Replies;

impl Session {
    pub(super) fn refuse_command(&mut self, error: CommandError, out: &mut Replies) -> Step {
        if let CommandError::Sender
        | CommandError::Recipient
        | CommandError::BadParameter
        | CommandError::UnknownParameter = error
        {
            match &mut self.state {
                State::Idle => self.state = State::Refused,
                State::Open(mail) => mail.refused = true,
                _ => {}
            }
        }
        let (code, text, fault) = match error {
            CommandError::Unknown => ((500, "5.5.1"), "Command not known", Fault::UnknownCommand),
            CommandError::NotImplemented => ((502, "5.5.1"), "Command not implemented", Fault::UnknownCommand),
            CommandError::BadCharacter => ((500, "5.5.2"), "Control character or broken UTF-8", Fault::BrokenLine),
            CommandError::Sender => ((501, "5.1.7"), "Sender is not an address", Fault::BadSyntax),
            CommandError::Recipient => ((501, "5.1.3"), "Recipient is not an address", Fault::BadSyntax),
            CommandError::BadParameter => ((501, "5.5.4"), "Parameter with a wrong value", Fault::BadSyntax),
            CommandError::UnknownParameter => ((555, "5.5.4"), "Parameter not supported", Fault::BadSyntax),
            CommandError::Syntax(form) => {
                return self.bad(out, (501, "5.5.4"), &format!("Syntax: {form}"), Fault::BadSyntax);
            }
            CommandError::OtherProtocol => {
                self.state = State::Over;
                out.add(554, "5.5.1", format_args!("This is SMTP, closing"));
                return Step::close(Fault::OtherProtocol);
            }
            CommandError::Chunk => {
                // Without the size nobody can say where the chunk ends and commands begin again.
                self.state = State::Over;
                out.add(501, "5.5.4", format_args!("Syntax: BDAT size [LAST]; closing"));
                return Step::close(Fault::BadSyntax);
            }
        };
        self.bad(out, code, text, fault)
    }

    pub(super) fn obey(&mut self, command: Command, host: &str, directory: &Directory, out: &mut Replies) -> Step {
        match command {
            Command::Ehlo(name) => self.ehlo(name, host, out),
            Command::Helo(name) => self.helo_command(name, host, out),
            Command::Mail(mail) => {
                let step = self.mail(mail, directory, out);
                if matches!(self.state, State::Idle) {
                    self.state = State::Refused;
                }
                step
            }
            Command::Rcpt(recipient) => self.rcpt(recipient, directory, out),
            Command::Data => self.data(out),
            Command::Bdat { size, last } => self.bdat(size, last, out),
            Command::Rset => {
                self.state = State::Idle;
                said(out, (250, "2.0.0"), "Reset")
            }
            Command::Noop => said(out, (250, "2.0.0"), "Ok"),
            Command::Help if self.submitter.is_some() => {
                said(out, (214, "2.0.0"), "This is a support desk's door for programs that send mail")
            }
            Command::Help => said(out, (214, "2.0.0"), "This is a support desk's door for forwarded mail"),
            Command::Vrfy => said(out, (252, "2.5.0"), "Send mail to find out"),
            Command::Expn => self.bad(out, (502, "5.5.1"), "Command not implemented", Fault::UnknownCommand),
            Command::Auth(command) => self.auth(command, out),
            Command::StartTls => self.starttls_command(out),
            Command::Quit => {
                self.state = State::Over;
                out.add(221, "2.0.0", format_args!("Bye"));
                Step::then(Next::Close)
            }
        }
    }

    fn ehlo(&mut self, name: String, host: &str, out: &mut Replies) -> Step {
        self.helo = Some(name);
        self.state = State::Idle;
        out.add_bare(format_args!("250-{host}"));
        for extension in ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"] {
            out.add_bare(format_args!("250-{extension}"));
        }
        if matches!(self.tls, Tls::Offered | Tls::Required) {
            out.add_bare(format_args!("250-STARTTLS"));
        }
        if self.submitter.is_some() {
            out.add_bare(format_args!("250-DSN"));
        }
        if let Some(mechanisms) = self.mechanisms() {
            out.add_bare(format_args!("250-AUTH {mechanisms}"));
        }
        out.add_bare(format_args!("250 SIZE {}", self.rules.max_message_bytes));
        Step::LINE
    }

    fn helo_command(&mut self, name: String, host: &str, out: &mut Replies) -> Step {
        self.helo = Some(name);
        self.state = State::Idle;
        out.add_bare(format_args!("250 {host}"));
        Step::LINE
    }

    fn starttls_command(&mut self, out: &mut Replies) -> Step {
        match self.tls {
            Tls::On => self.bad(out, (503, "5.5.1"), "TLS is on already", Fault::BadSequence),
            Tls::Absent => self.bad(out, (502, "5.5.1"), "TLS not offered here", Fault::UnknownCommand),
            Tls::Offered | Tls::Required => {
                // Its reply depends on whether octets wait behind it: `starttls` gives it.
                Step::then(Next::StartTls)
            }
        }
    }

    fn mail(&mut self, mail: MailCommand, directory: &Directory, out: &mut Replies) -> Step {
        if self.helo.is_none() {
            return self.bad(out, (503, "5.5.1"), "EHLO first", Fault::BadSequence);
        }
        if self.in_transaction() {
            return self.bad(out, (503, "5.5.1"), "MAIL was said already", Fault::BadSequence);
        }
        if self.tls == Tls::Required {
            return self.bad(out, (530, "5.7.0"), "STARTTLS first", Fault::TlsRequired);
        }
        if let Some(objection) = self.objection(mail.from.as_ref(), directory, out) {
            return objection;
        }
        if self.submitter.is_none() {
            if self.permission == Permission::Denied {
                return self.bad(out, (550, "5.7.1"), "You are not allowed to forward mail here", Fault::NotAllowed);
            }
            if mail.asks_for_reports() {
                return self.refuse_command(CommandError::UnknownParameter, out);
            }
        }
        let limit = self.rules.max_message_bytes;
        if mail.size.is_some_and(|size| size > limit) {
            out.add(552, "5.3.4", format_args!("Message is larger than the limit of {limit} octets"));
            return Step { next: Next::Line, fault: Some(Fault::AnnouncedSize) };
        }
        if !mail.smtputf8 && mail.from.as_ref().is_some_and(needs_utf8) {
            return self.bad(out, (553, "5.6.7"), "This sender needs SMTPUTF8", Fault::BadSyntax);
        }
        let mut transaction = Transaction { smtputf8: mail.smtputf8, ..Transaction::default() };
        transaction.envelope.mail_from = mail.from;
        if self.submitter.is_some() {
            transaction.reports = Some(Box::new(Reports { ret: mail.ret, envid: mail.envid, ..Reports::default() }));
        }
        self.state = State::Asking(transaction);
        Step::then(Next::Admit { announced: mail.size.unwrap_or_default() })
    }

    fn rcpt(&mut self, command: RcptCommand, directory: &Directory, out: &mut Replies) -> Step {
        if self.submitter.is_none() && command.asks_for_reports() {
            return self.refuse_command(CommandError::UnknownParameter, out);
        }
        let RcptCommand { recipient, notify, orcpt } = command;
        let submission = self.submitter.is_some();
        let State::Open(mail) = &mut self.state else {
            return self.out_of_order(out, 503, "MAIL first");
        };
        if mail.envelope.rcpt_to.len() >= self.rules.max_recipients {
            // Each of the rest is told so, and the mail goes to those that were taken (RFC 5321 section 4.5.3.1.10).
            self.commands = self.commands.saturating_sub(1);
            out.add(452, "4.5.3", format_args!("Too many recipients"));
            return Step { next: Next::Line, fault: Some(Fault::TooManyRecipients) };
        }
        if matches!(&recipient, Recipient::Address(address) if !mail.smtputf8 && needs_utf8(address)) {
            mail.refused = true;
            return self.bad(out, (553, "5.6.7"), "This recipient needs SMTPUTF8", Fault::BadSyntax);
        }
        let found = if submission { anybody(recipient, directory) } else { find(recipient, directory) };
        match found {
            Ok(address) => {
                self.commands = self.commands.saturating_sub(1);
                // Nobody who is named twice gets a mail twice.
                let named = submission && mail.envelope.rcpt_to.contains(&address);
                if !named {
                    mail.envelope.rcpt_to.push(address);
                }
                if let (Some(reports), false) = (&mut mail.reports, named) {
                    reports.recipients.push((notify, orcpt));
                }
                said(out, (250, "2.1.5"), "Recipient ok")
            }
            Err(fault) => {
                mail.refused = true;
                let (enhanced, text) = match fault {
                    Fault::Relay => ("5.7.1", "Relaying denied"),
                    _ => ("5.1.1", "No such support address"),
                };
                out.add(550, enhanced, format_args!("{text}"));
                Step { next: Next::Line, fault: Some(fault) }
            }
        }
    }

    fn data(&mut self, out: &mut Replies) -> Step {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Open(mail) if mail.envelope.rcpt_to.is_empty() => {
                self.state = State::Open(mail);
                self.out_of_order(out, 554, "No valid recipients")
            }
            State::Open(mail) => {
                self.state = State::Receiving(mail);
                out.add_bare(format_args!("354 End the message with a dot on a line by itself"));
                Step::then(Next::Data)
            }
            State::Chunking(mail) => {
                self.state = State::Chunking(mail);
                self.bad(out, (503, "5.5.1"), "BDAT was said already: go on with it, or RSET", Fault::BadSequence)
            }
            other => {
                self.state = other;
                self.out_of_order(out, 503, "MAIL first")
            }
        }
    }

    /// A chunk that may not come now must still be read to its end (RFC 3030 section 2).
    fn bdat(&mut self, size: u64, last: bool, out: &mut Replies) -> Step {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Open(mail) if !mail.envelope.rcpt_to.is_empty() => self.state = State::Receiving(mail),
            State::Chunking(mail) => self.state = State::Receiving(mail),
            other => {
                let (code, text) = match other {
                    State::Open(_) => (554, "No valid recipients"),
                    _ => (503, "MAIL first"),
                };
                self.state = other;
                let step = self.out_of_order(out, code, text);
                return if step.next == Next::Close { step } else { Step { next: Next::Skip { size }, ..step } };
            }
        }
        Step::then(Next::Chunk { size, last })
    }

    /// Refuses a command of a mail out of order. It is not held against a peer that could not know yet that the mail, or
    /// a recipient of it, was refused.
    fn out_of_order(&mut self, out: &mut Replies, code: u16, text: &str) -> Step {
        let unaware = match &self.state {
            State::Refused => true,
            State::Open(mail) => mail.refused,
            _ => false,
        };
        if unaware {
            out.add(code, "5.5.1", format_args!("{text}"));
            return Step { next: Next::Line, fault: Some(Fault::BadSequence) };
        }
        self.bad(out, (code, "5.5.1"), text, Fault::BadSequence)
    }
}

fn said(out: &mut Replies, (code, enhanced): (u16, &str), text: &str) -> Step {
    out.add(code, enhanced, format_args!("{text}"));
    Step::LINE
}

/// At the submission door mail may go to anybody; the postmaster without a domain is ours.
fn anybody(recipient: Recipient, directory: &Directory) -> Result<Address, Fault> {
    match recipient {
        Recipient::Address(address) => Ok(address),
        Recipient::Postmaster => find(Recipient::Postmaster, directory),
    }
}

/// The address under which a recipient is ours. The postmaster, with no domain or with one of ours, is whoever reads
/// the default channel (RFC 5321 section 4.5.1).
fn find(recipient: Recipient, directory: &Directory) -> Result<Address, Fault> {
    let address = match recipient {
        Recipient::Address(address) if directory.find(&address).is_some() => return Ok(address),
        Recipient::Address(address) => Some(address),
        Recipient::Postmaster => None,
    };
    let ours = address.as_ref().is_none_or(|address| directory.serves(address));
    let postmaster = address.is_none_or(|address| address.local().eq_ignore_ascii_case("postmaster"));
    match directory.default_channel() {
        Some(channel) if ours && postmaster => Ok(channel.address.clone()),
        _ if ours => Err(Fault::UnknownRecipient),
        _ => Err(Fault::Relay),
    }
}
