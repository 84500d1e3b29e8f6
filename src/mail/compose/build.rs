//! The header section and the parts of a mail. The one file that knows mail-builder.
//!
//! Its traps are kept from it: it would write Bcc (we never give it one), invent Message-ID, Date and boundaries (we
//! give it ours), send a text attachment as lines of text (ours are base64, so their bytes come through), leave a
//! subject alone that only looks encoded (we encode that), and take header fields that break a line (ours have none).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_builder::MessageBuilder;
use mail_builder::headers::HeaderType;
use mail_builder::headers::address::Address as To;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::mime::{BodyPart, MimePart};

use super::history::Assembled;
use super::{
    Composed, Correspondent, Draft, Enclosure, Identity, MAX_DISPLAY_NAME, MAX_NAME, MAX_SUBJECT, ascii, one_line,
    thread,
};

/// Bytes in one line of base64: 76 characters (RFC 2045 section 6.8).
const LINE: usize = 57;

/// Bytes in one encoded word: 75 characters with its frame (RFC 2047 section 2).
const WORD: usize = 45;

/// Octets of one value of a further header field; our own are short.
const MAX_FIELD: usize = 900;

/// Writes the mail.
pub fn build(draft: &Draft, identity: &Identity, body: &Assembled) -> Composed {
    whole(draft, identity, parts(draft, identity, body))
}

/// A part of a delivery report.
pub struct Enclosed {
    pub kind: &'static str,
    pub bytes: Vec<u8>,
    /// It stands as it is, since it is 7-bit with proper line ends; else it is encoded.
    pub verbatim: bool,
}

/// Writes a delivery report (RFC 6522) around its parts.
pub fn report(draft: &Draft, identity: &Identity, parts: Vec<Enclosed>) -> Composed {
    let part = |Enclosed { kind, bytes, verbatim }: Enclosed| {
        let kind = if kind == "text/plain" { text_type("plain") } else { ContentType::new(kind) };
        let part = MimePart::new(kind, BodyPart::Binary(bytes.into()));
        if verbatim { part.transfer_encoding("7bit") } else { part }
    };
    let kind = multipart("report", identity).attribute("report-type", "delivery-status");
    whole(draft, identity, MimePart::new(kind, parts.into_iter().map(part).collect::<Vec<_>>()))
}

fn whole(draft: &Draft, identity: &Identity, top: MimePart<'_>) -> Composed {
    let mut mail = MessageBuilder::new()
        .date(Date::new(identity.date.as_second()))
        .from(correspondent(&identity.from))
        .to(list(&draft.to));
    if draft.to.is_empty() {
        // A field without addresses is none (RFC 5322 section 3.6.3); this one says why there are none.
        mail.headers.pop();
        mail = mail.header("To", Raw::new("undisclosed-recipients:;"));
    }
    if !draft.cc.is_empty() {
        mail = mail.cc(list(&draft.cc));
    }
    if let Some(address) = &identity.reply_to {
        mail = mail.reply_to(To::new_address(None::<&str>, ascii(address).to_string()));
    }
    mail = mail.header("Subject", unstructured(&draft.subject, "Subject", MAX_SUBJECT));
    mail = mail.message_id(MessageId::new(identity.message_id.as_str()));
    if let Some(id) = draft.in_reply_to.as_deref().filter(|id| thread::is_sound(id)) {
        mail = mail.in_reply_to(MessageId::new(id));
    }
    let references = thread::bounded(draft.references.iter().map(String::as_str));
    if !references.is_empty() {
        mail = mail.references(MessageId { id: references.into_iter().map(Into::into).collect() });
    }
    for (name, value) in &identity.fields {
        mail = mail.header(name.as_str(), unstructured(value, name, MAX_FIELD));
    }
    let mut bytes = Vec::new();
    mail.body(top).serialize(&mut bytes);
    let everybody = std::iter::once(&identity.from.address).chain(&identity.reply_to);
    let everybody = everybody.chain(draft.to.iter().chain(&draft.cc).map(|who| &who.address));
    let smtputf8 = everybody.into_iter().any(|address| !ascii(address).local().is_ascii());
    Composed { bytes, smtputf8 }
}

fn list(people: &[Correspondent]) -> To<'_> {
    To::new_list(people.iter().map(correspondent).collect())
}

fn correspondent(who: &Correspondent) -> To<'_> {
    // A name that looks like an encoded word would be decoded by readers, and show what nobody wrote.
    let name = one_line(&who.name, MAX_DISPLAY_NAME).replace("=?", "= ?");
    To::new_address((!name.is_empty()).then_some(name), ascii(&who.address).to_string())
}

/// A value of free text, encoded where it must be.
fn unstructured<'x>(value: &str, name: &str, most: usize) -> HeaderType<'x> {
    let value = one_line(value, most);
    if !value.contains("=?") {
        return Text::new(value).into();
    }
    let mut words = Vec::new();
    let mut rest = value.as_str();
    while !rest.is_empty() {
        // The first word shares its line with the name of the field.
        let room = if words.is_empty() { WORD.saturating_sub(name.len()).max(15) } else { WORD };
        let end = (1..=rest.len().min(room)).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    Raw::new(words.join("\r\n ")).into()
}

/// `mixed` around `alternative` around `related`, each only where it has something to hold.
fn parts<'x>(draft: &'x Draft, identity: &Identity, body: &Assembled) -> MimePart<'x> {
    let shown = |enclosure: &&Enclosure| enclosure.content_id.is_some() && body.html.is_some();
    let text = text_type("plain").attribute("format", "flowed");
    let mut top = MimePart::new(text, BodyPart::Text(body.text.clone().into()));
    if let Some(html) = &body.html {
        let mut picture = MimePart::new(text_type("html"), BodyPart::Text(html.clone().into()));
        let inline: Vec<MimePart<'_>> = draft.attachments.iter().filter(shown).map(enclosure).collect();
        if !inline.is_empty() {
            let kind = multipart("related", identity).attribute("type", "text/html");
            picture = MimePart::new(kind, std::iter::once(picture).chain(inline).collect::<Vec<_>>());
        }
        top = MimePart::new(multipart("alternative", identity), vec![top, picture]);
    }
    let attached: Vec<MimePart<'_>> = draft.attachments.iter().filter(|one| !shown(one)).map(enclosure).collect();
    if attached.is_empty() {
        return top;
    }
    MimePart::new(multipart("mixed", identity), std::iter::once(top).chain(attached).collect::<Vec<_>>())
}

fn text_type(subtype: &str) -> ContentType<'static> {
    ContentType::new(format!("text/{subtype}")).attribute("charset", "utf-8")
}

/// A container. `=_` stands in no line of base64 or quoted-printable.
fn multipart(subtype: &str, identity: &Identity) -> ContentType<'static> {
    let initial = subtype.get(..1).unwrap_or_default();
    ContentType::new(format!("multipart/{subtype}")).attribute("boundary", format!("=_{}_{initial}", identity.boundary))
}

fn enclosure<'x>(enclosure: &Enclosure) -> MimePart<'x> {
    let name = file_name(&enclosure.name);
    let kind = ContentType::new(media_type(&enclosure.content_type)).attribute("name", name.clone());
    let mut encoded = String::with_capacity(enclosure.bytes.len() / LINE * 78 + 80);
    for line in enclosure.bytes.chunks(LINE) {
        STANDARD.encode_string(line, &mut encoded);
        encoded.push_str("\r\n");
    }
    let part = MimePart::new(kind, BodyPart::Text(encoded.into()));
    let inline = enclosure.content_id.as_deref().filter(|id| thread::is_sound(id));
    let disposition = ContentType::new(if inline.is_some() { "inline" } else { "attachment" });
    let part = part.header("Content-Disposition", disposition.attribute("filename", name));
    let part = match inline {
        Some(id) => part.cid(id.to_owned()),
        None => part,
    };
    part.transfer_encoding("base64")
}

/// A name for a file on any system: no folders, nothing that a shell or a header would trip over.
fn file_name(name: &str) -> String {
    let name = one_line(name, usize::MAX).replace("=?", "=_");
    let plain = |c: char| if matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') { '_' } else { c };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim().trim_start_matches('.');
    let end = (0..=name.len().min(MAX_NAME)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    // What is cut is the stem, so that the file still opens.
    let cut = match name.rsplit_once('.').filter(|(_, kind)| name.len() > MAX_NAME && kind.len() < 20) {
        Some((stem, kind)) => {
            let room = MAX_NAME - kind.len() - 1;
            let end = (0..=stem.len().min(room)).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
            format!("{}.{kind}", &stem[..end])
        }
        None => name[..end].to_owned(),
    };
    if cut.is_empty() { "attachment".to_owned() } else { cut }
}

/// The type in lower case; what is none, or what may not be encoded (RFC 2046 section 5.2.1), is a plain file.
fn media_type(claimed: &str) -> String {
    let claimed = claimed.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |word: &str| {
        !word.is_empty()
            && word.len() <= 64
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'+' | b'_' | b'!' | b'#'))
    };
    let sound = claimed
        .split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && token(subtype) && !matches!(kind, "multipart" | "message"));
    if sound { claimed } else { "application/octet-stream".to_owned() }
}
