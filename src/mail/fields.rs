//! The values of header fields. The one file that knows mail-parser's field parsers.
//!
//! They get each value unfolded, as UTF-8 and with repaired encoded words, which is what they are good at.

use std::borrow::Cow;

use jiff::Timestamp;
use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use super::message::Mailbox;
use super::{mailboxes, text, words};

/// The longest value that is taken apart; mail with longer ones exists, but what stands beyond is of no use.
const MAX_VALUE: usize = 64 << 10;

/// How many identifiers of one field are taken, from the end: those are the nearest.
const MAX_IDS: usize = 200;

/// A Content-Type or Content-Disposition value (RFC 2045 section 5.1, RFC 2183).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// `text/plain`, or `attachment`, in lower case.
    pub kind: String,
    params: Vec<(String, String)>,
}

impl Typed {
    /// The parameter of that (lower-case) name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The value on one line, as UTF-8, without the space around it.
pub fn unfolded(raw: &[u8]) -> Cow<'_, str> {
    let raw = cut(raw).trim_ascii();
    let line = text::decode_header(raw);
    if !line.contains(['\r', '\n', '\0']) {
        return line;
    }
    let mut out = String::with_capacity(line.len());
    let mut folded = false;
    for c in line.chars() {
        match c {
            '\r' | '\n' => folded = true,
            ' ' | '\t' if folded => {}
            _ => {
                if std::mem::take(&mut folded) {
                    out.push(' ');
                }
                out.push(if c == '\0' { ' ' } else { c });
            }
        }
    }
    Cow::Owned(out)
}

/// The value as people read it.
pub fn text(raw: &[u8]) -> String {
    let line = unfolded(raw);
    let decoded = words::decode(&line);
    decoded.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// The mailboxes of an address list; groups are dissolved into their members (RFC 5322 section 3.4).
pub fn mailboxes(raw: &[u8]) -> Vec<Mailbox> {
    let line = unfolded(raw);
    mailboxes::parse(&words::normalise(&line))
}

/// The identifiers of Message-ID, In-Reply-To and References, without angle brackets; words that old programs wrote
/// between them are left out (RFC 5322 section 4.5.4).
pub fn ids(raw: &[u8]) -> Vec<String> {
    let line = unfolded(raw);
    let mut found: Vec<String> = Vec::new();
    let mut rest = line.as_ref();
    while let Some((_, from)) = rest.split_once('<') {
        let Some((id, after)) = from.split_once('>') else { break };
        // After a bracket that was opened twice, the inner one counts.
        found.push(id.rsplit('<').next().unwrap_or_default().to_owned());
        rest = after;
    }
    if found.is_empty() {
        let bare = line.split_whitespace().map(|word| word.trim_matches(['<', '>', '"', ',', ';']));
        found = bare.filter(|word| word.contains('@')).map(str::to_owned).collect();
        if found.is_empty() && !line.is_empty() && !line.contains(char::is_whitespace) {
            found.push(line.trim_matches(['<', '>']).to_owned());
        }
    }
    for id in &mut found {
        id.retain(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>'));
    }
    found.retain(|id| !id.is_empty() && id.len() <= 998);
    let surplus = found.len().saturating_sub(MAX_IDS);
    found.drain(..surplus);
    found
}

/// The instant that a Date field names.
pub fn date(raw: &[u8]) -> Option<Timestamp> {
    let value = format!("{}\n", unfolded(raw));
    match MessageStream::new(value.as_bytes()).parse_date() {
        HeaderValue::DateTime(date) if date.is_valid() => Timestamp::from_second(date.to_timestamp()).ok(),
        _ => None,
    }
}

/// A Content-Type or Content-Disposition value with its parameters, continued and encoded ones put together (RFC 2231).
pub fn typed(raw: &[u8]) -> Typed {
    let line = unfolded(raw);
    let value = format!("{}\n", words::normalise(&line));
    let HeaderValue::ContentType(parsed) = MessageStream::new(value.as_bytes()).parse_content_type() else {
        return Typed::default();
    };
    let kind = match parsed.subtype() {
        Some(subtype) => format!("{}/{subtype}", parsed.ctype()),
        None => parsed.ctype().to_owned(),
    };
    let params = parsed.attributes().unwrap_or_default().iter();
    let params = params
        .map(|attribute| (attribute.name.to_lowercase(), words::decode(attribute.value.trim()).trim().to_owned()));
    Typed { kind: kind.trim().to_lowercase(), params: params.collect() }
}

fn cut(raw: &[u8]) -> &[u8] {
    &raw[..raw.len().min(MAX_VALUE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_of_every_shape() {
        let table: &[(&[u8], &str)] = &[
            (b"a@b.example", "|a@b.example"),
            (b"Ann B <a@b.example>", "Ann B|a@b.example"),
            (b"\"B, Ann\" <a@b.example>, c@d", "B, Ann|a@b.example;|c@d"),
            (b"a@b.example (Ann B)", "Ann B|a@b.example"),
            (b"=?utf-8?Q?M=C3=BCller=2C_J?=\r\n =?utf-8?Q?=C3=BC?= <a@b>", "M\u{fc}ller, J\u{fc}|a@b"),
            (b"J\xfcrgen <a@b>", "J\u{fc}rgen|a@b"),
            ("Jürgen <jürgen@müller.example>".as_bytes(), "Jürgen|jürgen@müller.example"),
            (b"Team: a@b, C <c@d>;, e@f", "|a@b;C|c@d;|e@f"),
            (b"undisclosed-recipients:;", ""),
            (b"MAILER-DAEMON", "|MAILER-DAEMON"),
            (b"Mail Delivery System <MAILER-DAEMON>", "Mail Delivery System|MAILER-DAEMON"),
            (b"Only A Name", "Only A Name|"),
            (b"<>", ""),
            (b"", ""),
        ];
        for (raw, want) in table {
            let got: Vec<String> = mailboxes(raw).iter().map(|m| format!("{}|{}", m.name, m.address)).collect();
            assert_eq!(got.join(";"), *want, "{:?}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn identifiers_with_and_without_brackets() {
        let table: &[(&[u8], &[&str])] = &[
            (b"<a@b>", &["a@b"]),
            (b"<a@b>\r\n\t<c@d> <e@f>", &["a@b", "c@d", "e@f"]),
            (b"Your message of Monday <a@b>", &["a@b"]),
            (b"<<a@b>>", &["a@b"]),
            (b"a@b", &["a@b"]),
            (b"<long\r\n er@b>", &["longer@b"]),
            (b"Your message of Monday", &[]),
            (b"", &[]),
        ];
        for (raw, want) in table {
            assert_eq!(ids(raw), *want, "{:?}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn parameters_continue_and_carry_charsets() {
        let typed = typed(b"Attachment; filename*0*=utf-8''R%C3%A9su; filename*1=me.pdf;\r\n size=3");
        assert_eq!((typed.kind.as_str(), typed.param("filename")), ("attachment", Some("Résume.pdf")));
        assert_eq!(super::typed(b"text/plain; name=\"=?utf-8?Q?=C3=BC.txt?=\"").param("name"), Some("ü.txt"));
        assert_eq!(super::typed(b"text/plain; name=\xfc.txt").param("name"), Some("ü.txt"));
    }
}
