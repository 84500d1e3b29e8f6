//! Sender and recipients of one SMTP transaction (RFC 5321 section 2.3.1).

use super::origin::OriginKind;
use super::{Address, HeaderSection};

/// Who sent a mail and to whom, as the transaction said it; what the header fields claim is another matter.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Envelope {
    /// The reverse-path; `None` is the null sender `<>` of reports and automatic mail, or of a pulled mail one that
    /// nobody knows: see `has_null_sender`.
    pub mail_from: Option<Address>,
    /// The forward-paths, plus details kept.
    pub rcpt_to: Vec<Address>,
}

/// What the first Return-Path field says, which the server that delivered the mail has put there (RFC 5321 section
/// 4.4). Those below it were written by whoever had the mail before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReturnPath {
    /// There is none, or none that can be read.
    Unknown,
    /// `<>`.
    Null,
    Known(Address),
}

impl ReturnPath {
    pub fn of(section: &HeaderSection<'_>) -> Self {
        let Some(value) = section.values("Return-Path").next() else { return Self::Unknown };
        let value = value.trim();
        // Comments are allowed here, and some servers write them behind the path.
        let path = match value.split_once('<') {
            Some((_, rest)) => rest.rsplit_once('>').map_or("", |(path, _)| path).trim(),
            None => value,
        };
        if path.is_empty() && value.contains("<>") {
            return Self::Null;
        }
        Address::parse(path).map_or(Self::Unknown, Self::Known)
    }
}

impl Envelope {
    /// Whether the sender was null. A mailbox hands mail over without its envelope, so for what was pulled only a
    /// Return-Path field can say so; one that says nothing is no sign of automatic mail.
    pub fn has_null_sender(&self, kind: OriginKind, raw: &[u8], max_header_bytes: usize) -> bool {
        if self.mail_from.is_some() {
            return false;
        }
        match kind {
            OriginKind::Smtp | OriginKind::Submission => true,
            OriginKind::Imap | OriginKind::Graph | OriginKind::Api => {
                let section = HeaderSection::read(raw, max_header_bytes);
                section.is_ok_and(|section| ReturnPath::of(&section) == ReturnPath::Null)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_return_path_counts() {
        let known = |text| ReturnPath::Known(Address::parse(text).unwrap());
        let table = [
            ("Return-Path: <a@b.example>\r\nReturn-Path: <>\r\n", known("a@b.example")),
            ("Return-Path: <>\r\nReturn-Path: <a@b.example>\r\n", ReturnPath::Null),
            ("Return-path:\r\n <> (null)\r\n", ReturnPath::Null),
            ("return-path: a@b.example\r\n", known("a@b.example")),
            ("Return-Path: <MAILER-DAEMON>\r\n", ReturnPath::Unknown),
            ("Return-Path:\r\n", ReturnPath::Unknown),
            ("Return-Path: <\r\n", ReturnPath::Unknown),
            ("From: a@b.example\r\n", ReturnPath::Unknown),
        ];
        for (fields, want) in table {
            let raw = format!("{fields}Subject: x\r\n\r\nReturn-Path: <>\r\n");
            let section = HeaderSection::read(raw.as_bytes(), 1000).unwrap();
            assert_eq!(ReturnPath::of(&section), want, "{fields}");
        }
    }

    #[test]
    fn unknown_is_not_null() {
        let none = Envelope::default();
        let known = Envelope { mail_from: Some(Address::parse("a@b.example").unwrap()), ..Envelope::default() };
        let (plain, null) = (b"Subject: x\r\n\r\n".as_slice(), b"Return-Path: <>\r\nSubject: x\r\n\r\n".as_slice());
        let table = [
            (&none, OriginKind::Smtp, plain, true),
            (&none, OriginKind::Imap, plain, false),
            (&none, OriginKind::Imap, null, true),
            (&none, OriginKind::Imap, b"", false),
            (&known, OriginKind::Imap, null, false),
            (&known, OriginKind::Smtp, null, false),
        ];
        for (envelope, kind, raw, want) in table {
            assert_eq!(envelope.has_null_sender(kind, raw, 1000), want, "{kind:?}");
        }
    }
}
