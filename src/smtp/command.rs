//! Command lines become commands: the only file that knows smtp-proto.
//!
//! smtp-proto recognises the verbs and their grammar. Paths, parameters and numbers are read here from the raw line,
//! because it drops a CR inside an address, unquotes local parts, takes no address literals, reads the postmaster as
//! the null path, and lets numbers overflow.

use std::borrow::Cow;

use smtp_proto::Request;

use super::parameters;
use crate::mail::Address;

/// A command that is well formed. Whether it may come now is for the session to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Ehlo(String),
    Helo(String),
    Mail(MailCommand),
    Rcpt(RcptCommand),
    Data,
    Bdat { size: u64, last: bool },
    Rset,
    Noop,
    Help,
    Vrfy,
    Expn,
    StartTls,
    Auth(AuthCommand),
    Quit,
}

/// MAIL with its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailCommand {
    /// `None` is the null sender.
    pub from: Option<Address>,
    /// SIZE; a number too large to hold is the largest.
    pub size: Option<u64>,
    pub smtputf8: bool,
    /// RET and ENVID (RFC 3461 sections 4.3 and 4.4), as they were written.
    pub ret: Option<String>,
    pub envid: Option<String>,
}

/// RCPT with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptCommand {
    pub recipient: Recipient,
    /// NOTIFY and ORCPT (RFC 3461 sections 4.1 and 4.2), as they were written.
    pub notify: Option<String>,
    pub orcpt: Option<String>,
}

impl MailCommand {
    /// Whether it asks for what only a door with delivery reports offers.
    pub fn asks_for_reports(&self) -> bool {
        self.ret.is_some() || self.envid.is_some()
    }
}

impl RcptCommand {
    /// Whether it asks for what only a door with delivery reports offers.
    pub fn asks_for_reports(&self) -> bool {
        self.notify.is_some() || self.orcpt.is_some()
    }
}

/// AUTH with its mechanism and, if it came along, the first message (RFC 4954 section 4), still in base 64.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthCommand {
    pub mechanism: String,
    pub initial: Option<String>,
}

impl std::fmt::Debug for AuthCommand {
    /// The first message may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthCommand").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// Whom RCPT names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// `<postmaster>` without a domain (RFC 5321 section 4.5.1).
    Postmaster,
    Address(Address),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No command that we know.
    Unknown,
    /// A command of SMTP that this door does not have.
    NotImplemented,
    /// Another protocol: a browser was made to speak to us, and the commands it carries are not its own.
    OtherProtocol,
    /// A control character, or octets that are not UTF-8 (RFC 6531 section 3.3).
    BadCharacter,
    /// The command's form is wrong; this is the right one.
    Syntax(&'static str),
    /// BDAT whose size cannot be read: what follows cannot be told from commands.
    Chunk,
    /// The path in MAIL is no address.
    Sender,
    /// The path in RCPT is no address.
    Recipient,
    /// A parameter's value is wrong or missing.
    BadParameter,
    /// A parameter that EHLO did not offer.
    UnknownParameter,
}

const MAIL_FORM: &str = "MAIL FROM:<address> [parameters]";
/// A web page can make a browser on an allowed machine send us such a line with SMTP commands behind it.
const HTTP_METHODS: [&str; 8] = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH"];
const RCPT_FORM: &str = "RCPT TO:<address>";
const AUTH_FORM: &str = "AUTH mechanism [initial-response]";

/// Reads one line, without its CR LF.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let text = std::str::from_utf8(line).map_err(|_| CommandError::BadCharacter)?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(CommandError::BadCharacter);
    }
    let verb = text.split([' ', '\t']).next().unwrap_or_default();
    if verb.eq_ignore_ascii_case("MAIL") {
        return mail(text);
    }
    if verb.eq_ignore_ascii_case("RCPT") {
        return rcpt(text);
    }
    if verb.eq_ignore_ascii_case("BDAT") {
        return bdat(text);
    }
    // smtp-proto takes no first message of more than 4 KiB, which a token is.
    if verb.eq_ignore_ascii_case("AUTH") {
        return auth(text);
    }
    if HTTP_METHODS.contains(&verb) {
        return Err(CommandError::OtherProtocol);
    }
    let bare = text[verb.len()..].trim().is_empty();
    let line = with_end(text);
    match recognise(&line)? {
        Request::Ehlo { host } => Ok(Command::Ehlo(host.into_owned())),
        Request::Helo { host } => Ok(Command::Helo(host.into_owned())),
        Request::Data if bare => Ok(Command::Data),
        Request::Data => Err(CommandError::Syntax("DATA")),
        Request::Rset if bare => Ok(Command::Rset),
        Request::Rset => Err(CommandError::Syntax("RSET")),
        Request::StartTls if bare => Ok(Command::StartTls),
        Request::StartTls => Err(CommandError::Syntax("STARTTLS")),
        Request::Quit if bare => Ok(Command::Quit),
        Request::Quit => Err(CommandError::Syntax("QUIT")),
        Request::Noop { .. } => Ok(Command::Noop),
        Request::Help { .. } => Ok(Command::Help),
        Request::Vrfy { .. } => Ok(Command::Vrfy),
        Request::Expn { .. } => Ok(Command::Expn),
        _ => Err(CommandError::NotImplemented),
    }
}

/// A line as smtp-proto wants it, with its end.
fn with_end(text: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 2);
    line.extend_from_slice(text.as_bytes());
    line.extend_from_slice(b"\r\n");
    line
}

/// Asks smtp-proto. A line that does not begin with a letter has no verb.
fn recognise(line: &[u8]) -> Result<Request<Cow<'_, str>>, CommandError> {
    if !line.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(CommandError::Unknown);
    }
    Request::parse(&mut line.iter()).map_err(|error| match error {
        smtp_proto::Error::SyntaxError { syntax } => CommandError::Syntax(syntax),
        _ => CommandError::Unknown,
    })
}

fn mail(text: &str) -> Result<Command, CommandError> {
    let (path, rest) = path(text).ok_or(CommandError::Syntax(MAIL_FORM))?;
    let mut command = parameters::of_mail(rest)?;
    if !path.is_empty() {
        command.from = Some(Address::parse(without_route(path)).map_err(|_| CommandError::Sender)?);
    }
    Ok(Command::Mail(command))
}

fn rcpt(text: &str) -> Result<Command, CommandError> {
    let (path, rest) = path(text).ok_or(CommandError::Syntax(RCPT_FORM))?;
    let path = without_route(path);
    let recipient = if path.eq_ignore_ascii_case("postmaster") {
        Recipient::Postmaster
    } else {
        Recipient::Address(Address::parse(path).map_err(|_| CommandError::Recipient)?)
    };
    let (notify, orcpt) = parameters::of_rcpt(rest)?;
    Ok(Command::Rcpt(RcptCommand { recipient, notify, orcpt }))
}

fn auth(text: &str) -> Result<Command, CommandError> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let mechanism = words.next().ok_or(CommandError::Syntax(AUTH_FORM))?.to_owned();
    let initial = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(CommandError::Syntax(AUTH_FORM));
    }
    Ok(Command::Auth(AuthCommand { mechanism, initial }))
}

/// The text between the angle brackets, and what follows them. A bracket inside quotes is part of the local part.
fn path(text: &str) -> Option<(&str, &str)> {
    let open = text.find('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = text[open + 1..].bytes().position(|octet| {
        let ends = octet == b'>' && !quoted;
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    })?;
    let (inside, rest) = (&text[open + 1..open + 1 + end], &text[open + 2 + end..]);
    // With an empty path the rest of the form is smtp-proto's to judge.
    let form = with_end(&format!("{}<>", &text[..open]));
    matches!(recognise(&form), Ok(Request::Mail { .. } | Request::Rcpt { .. })).then_some(())?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some((inside, rest))
}

/// A path without its source route, which is to be ignored (RFC 5321 section 4.1.1.3).
fn without_route(path: &str) -> &str {
    match path.split_once(':') {
        Some((route, rest)) if route.starts_with('@') => rest,
        _ => path,
    }
}

fn bdat(text: &str) -> Result<Command, CommandError> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let size = words.next().and_then(|word| number(word).ok()).ok_or(CommandError::Chunk)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(CommandError::Chunk),
    };
    if words.next().is_some() || size == u64::MAX {
        return Err(CommandError::Chunk);
    }
    Ok(Command::Bdat { size, last })
}

/// At most 20 digits (RFC 1870 section 3); what is too large to hold is the largest number.
pub(super) fn number(text: &str) -> Result<u64, CommandError> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(CommandError::BadParameter);
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn from(text: &str) -> Result<Command, CommandError> {
        Ok(Command::Mail(MailCommand { from: Some(address(text)), ..MailCommand::default() }))
    }

    fn to(text: &str) -> Result<Command, CommandError> {
        let recipient = Recipient::Address(address(text));
        Ok(Command::Rcpt(RcptCommand { recipient, notify: None, orcpt: None }))
    }

    fn auth(mechanism: &str, initial: Option<&str>) -> Result<Command, CommandError> {
        Ok(Command::Auth(AuthCommand { mechanism: mechanism.into(), initial: initial.map(str::to_owned) }))
    }

    #[test]
    fn paths_and_parameters() {
        let postmaster = Command::Rcpt(RcptCommand { recipient: Recipient::Postmaster, notify: None, orcpt: None });
        let sized = |size| Ok(Command::Mail(MailCommand { size: Some(size), ..MailCommand::default() }));
        let table: Vec<(&str, Result<Command, CommandError>)> = vec![
            ("MAIL FROM:<a@b.example>", from("a@b.example")),
            ("mail from: <a@b.example>", from("a@b.example")),
            ("MAIL FROM:<>", Ok(Command::Mail(MailCommand::default()))),
            ("MAIL FROM:<a@[127.0.0.1]>", from("a@[127.0.0.1]")),
            ("MAIL FROM:<@x.example,@y.example:a@b.example>", from("a@b.example")),
            ("MAIL FROM:<\"a> b\"@c.example>", from("\"a> b\"@c.example")),
            ("MAIL FROM:<a>", Err(CommandError::Sender)),
            ("MAIL FROM:a@b.example", Err(CommandError::Syntax(MAIL_FORM))),
            ("MAIL FROM <a@b.example>", Err(CommandError::Syntax(MAIL_FORM))),
            ("MAIL TO:<a@b.example>", Err(CommandError::Syntax(MAIL_FORM))),
            ("MAIL FROM:<a@b.example", Err(CommandError::Syntax(MAIL_FORM))),
            ("MAIL FROM:<>SIZE=1", Err(CommandError::Syntax(MAIL_FORM))),
            ("MAIL", Err(CommandError::Syntax(MAIL_FORM))),
            ("MAIL FROM:<> SIZE=1000 BODY=8BITMIME", sized(1000)),
            ("MAIL FROM:<> size=99999999999999999999", sized(u64::MAX)),
            ("MAIL FROM:<> SIZE=999999999999999999999", Err(CommandError::BadParameter)),
            ("MAIL FROM:<> SIZE=", Err(CommandError::BadParameter)),
            ("MAIL FROM:<> SIZE=1 SIZE=2", Err(CommandError::BadParameter)),
            ("MAIL FROM:<> SMTPUTF8=1", Err(CommandError::BadParameter)),
            ("MAIL FROM:<> BODY=BINARYMIME", Err(CommandError::UnknownParameter)),
            ("MAIL FROM:<> MT-PRIORITY=3", Err(CommandError::UnknownParameter)),
            ("RCPT TO:<a+x@b.example>", to("a+x@b.example")),
            ("RCPT TO:<PostMaster>", Ok(postmaster)),
            ("RCPT TO:<>", Err(CommandError::Recipient)),
            ("RCPT TO:<a b@c.example>", Err(CommandError::Recipient)),
            ("RCPT TO:<a@b.example> X=NEVER", Err(CommandError::UnknownParameter)),
            ("RCPT FROM:<a@b.example>", Err(CommandError::Syntax(RCPT_FORM))),
        ];
        for (line, want) in table {
            assert_eq!(parse(line.as_bytes()), want, "{line}");
        }
        let utf8 = parse("MAIL FROM:<jürgen@müller.example> SMTPUTF8".as_bytes());
        assert!(matches!(utf8, Ok(Command::Mail(MailCommand { smtputf8: true, .. }))));
    }

    #[test]
    fn verbs_take_what_they_may_take() {
        let table: Vec<(&[u8], Result<Command, CommandError>)> = vec![
            (b"EHLO mx.example.com", Ok(Command::Ehlo("mx.example.com".into()))),
            (b"helo x", Ok(Command::Helo("x".into()))),
            (b"DATA", Ok(Command::Data)),
            (b"DATA ", Ok(Command::Data)),
            (b"DATA x", Err(CommandError::Syntax("DATA"))),
            (b"STARTTLS now", Err(CommandError::Syntax("STARTTLS"))),
            (b"NOOP anything", Ok(Command::Noop)),
            (b"VRFY somebody", Ok(Command::Vrfy)),
            (b"AUTH PLAIN AGEAYg==", auth("PLAIN", Some("AGEAYg=="))),
            (b"AUTH NONSENSE", auth("NONSENSE", None)),
            (b"AUTH", Err(CommandError::Syntax(AUTH_FORM))),
            (b"AUTH PLAIN a b", Err(CommandError::Syntax(AUTH_FORM))),
            (b"ETRN x", Err(CommandError::NotImplemented)),
            (b"LHLO x", Err(CommandError::NotImplemented)),
            (b"BDAT 0 LAST", Ok(Command::Bdat { size: 0, last: true })),
            (b"BDAT 86 last", Ok(Command::Bdat { size: 86, last: true })),
            (b"BDAT 86", Ok(Command::Bdat { size: 86, last: false })),
            (b"BDAT 99999999999999999999999", Err(CommandError::Chunk)),
            (b"BDAT -1", Err(CommandError::Chunk)),
            (b"BDAT", Err(CommandError::Chunk)),
            (b"BDAT 1 LAST x", Err(CommandError::Chunk)),
            (b"GET / HTTP/1.1", Err(CommandError::OtherProtocol)),
            (b"", Err(CommandError::Unknown)),
            (b" NOOP", Err(CommandError::Unknown)),
            (b"NOOP \x1b[2J", Err(CommandError::BadCharacter)),
            (b"MAIL FROM:<\xff@b>", Err(CommandError::BadCharacter)),
        ];
        for (line, want) in table {
            assert_eq!(parse(line), want, "{}", line.escape_ascii());
        }
        assert!(matches!(parse(b"EHLO"), Err(CommandError::Syntax(_))));
    }
}
