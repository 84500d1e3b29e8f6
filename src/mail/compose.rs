//! From a draft to the bytes of a mail (RFC 5322, RFC 2045).
//!
//! Owns what our own mail looks like: text as format=flowed, Markdown and HTML beside it, attachments, history,
//! threading. What comes out is 7-bit, has CRLF line ends and no line over 998 octets, whatever went in, so any relay
//! can take it. Must not know: tickets, templates, who wrote it, how it leaves. The same input gives the same bytes.

mod build;
mod flowed;
mod history;
mod markdown;
pub mod report;
pub mod subject;
pub mod thread;

use jiff::Timestamp;

use super::address::{Address, AddressError};
use super::html;
use super::message::Mailbox;

/// The longest text, Markdown or HTML of a draft in bytes: people read it.
pub const MAX_WORDS: usize = 1 << 20;

/// The longest name of an attachment that is sent, in bytes; file systems take no longer ones.
const MAX_NAME: usize = 255;

/// The longest subject and display name, in characters.
const MAX_SUBJECT: usize = 500;
const MAX_DISPLAY_NAME: usize = 200;

/// What is to be said, to whom, in answer to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub words: Words,
    pub to: Vec<Correspondent>,
    pub cc: Vec<Correspondent>,
    pub subject: String,
    pub attachments: Vec<Enclosure>,
    /// The Message-ID of the mail that is answered, without angle brackets.
    pub in_reply_to: Option<String>,
    /// The chain of mails before, the oldest first (RFC 5322 section 3.6.4).
    pub references: Vec<String>,
    /// Stands below the text, behind the signature mark.
    pub signature: Option<String>,
    /// What is answered, to be quoted below.
    pub quote: Option<Quote>,
}

/// The message itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub body: Body,
    /// HTML that the caller made; beside Markdown it takes the place of what we would make of that.
    pub html: Option<String>,
}

/// How the text was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Text(String),
    /// CommonMark; it is the text as well, which is what it was made for. Raw HTML in it is shown, not obeyed.
    Markdown(String),
}

impl Default for Body {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// Somebody who gets the mail or sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correspondent {
    pub name: String,
    pub address: Address,
}

impl Correspondent {
    /// Reads `local@domain` or `Name <local@domain>`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((name, address)) => (name.trim(), address.trim()),
            None => ("", text),
        };
        let bare = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        Ok(Self { name: one_line(bare, MAX_DISPLAY_NAME), address: Address::parse(address)? })
    }
}

/// Bytes that go with the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclosure {
    pub name: String,
    /// `type/subtype`; what is none becomes `application/octet-stream`.
    pub content_type: String,
    pub bytes: Vec<u8>,
    /// The HTML shows it by this name (`cid:…`, RFC 2392).
    pub content_id: Option<String>,
}

/// What is quoted below an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pub from: Mailbox,
    pub at: Option<Timestamp>,
    pub text: String,
}

/// Who sends, and what the mail is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub from: Correspondent,
    pub reply_to: Option<Address>,
    /// Without angle brackets.
    pub message_id: String,
    pub date: Timestamp,
    /// Begins the boundaries between parts; must not occur in any text, so it has to be new with each mail.
    pub boundary: String,
    /// Further header fields, in order.
    pub fields: Vec<(String, String)>,
}

/// A mail that is ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    pub bytes: Vec<u8>,
    /// An address in its header has a local part beyond ASCII, so it leaves only by SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

/// Why a draft is no mail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error("there is nothing to send: the text is empty and there are no attachments")]
    Empty,
    #[error("the {what} is {bytes} bytes long; at most {MAX_WORDS} are sent as text, attach what is longer")]
    TooLong { what: &'static str, bytes: usize },
    #[error("there is nobody to send it to")]
    NoRecipient,
    #[error("\"{0}\" cannot be the name of a header field of ours")]
    Field(String),
}

/// Writes the mail.
pub fn compose(draft: &Draft, identity: &Identity) -> Result<Composed, ComposeError> {
    check(draft, identity)?;
    let body = history::assemble(&draft.words, draft.signature.as_deref(), draft.quote.as_ref());
    Ok(build::build(draft, identity, &body))
}

/// Whether there is something to say, and not too much of it.
pub fn check_words(words: &Words, attachments: &[Enclosure]) -> Result<(), ComposeError> {
    let (what, body) = match &words.body {
        Body::Text(body) => ("text", body),
        Body::Markdown(body) => ("Markdown", body),
    };
    let html = words.html.as_deref().unwrap_or_default();
    for (what, words) in [(what, body.as_str()), ("HTML", html)] {
        if words.len() > MAX_WORDS {
            return Err(ComposeError::TooLong { what, bytes: words.len() });
        }
    }
    if body.trim().is_empty() && html.trim().is_empty() && attachments.is_empty() {
        return Err(ComposeError::Empty);
    }
    Ok(())
}

fn check(draft: &Draft, identity: &Identity) -> Result<(), ComposeError> {
    check_words(&draft.words, &draft.attachments)?;
    if draft.to.is_empty() && draft.cc.is_empty() {
        return Err(ComposeError::NoRecipient);
    }
    match identity.fields.iter().find(|(name, _)| !is_free_field(name)) {
        Some((name, _)) => Err(ComposeError::Field(name.clone())),
        None => Ok(()),
    }
}

/// The address with its domain as DNS has it, so that as much mail as possible needs no SMTPUTF8 (RFC 5890).
pub fn ascii(address: &Address) -> Address {
    Address::parse(&format!("{}@{}", address.local(), address.ascii_domain())).unwrap_or_else(|_| address.clone())
}

/// Whether a header field of this name may be added: it is one (RFC 5322 section 3.6.8), and none that the mail's own
/// structure or delivery rests on.
pub fn is_free_field(name: &str) -> bool {
    const OURS: &[&str] = &[
        "bcc",
        "cc",
        "date",
        "from",
        "in-reply-to",
        "message-id",
        "mime-version",
        "received",
        "references",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
    ];
    let lower = name.to_ascii_lowercase();
    let letters = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let known = OURS.contains(&lower.as_str()) || lower.starts_with("content-") || lower.starts_with("resent-");
    !name.is_empty() && name.len() <= 70 && letters && !known
}

/// A text of one line: control characters are gone, and what would break or forge a header field with them.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let spaced: String = text.chars().map(|c| if is_break(c) || c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(most).collect::<String>().trim().to_owned()
}

/// A text of several lines: each ends with a line feed, and of control characters only the tabulator is left.
fn lines(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let kept = text.chars().filter_map(|c| match c {
        '\t' => Some('\t'),
        c if is_break(c) => Some('\n'),
        c if c.is_control() => None,
        c => Some(c),
    });
    kept.collect()
}

/// Characters that end a line for some reader.
fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Text as a part of HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
