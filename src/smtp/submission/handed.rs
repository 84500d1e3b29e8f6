//! A mail that is being handed in: its header section is looked at before any of it is kept, and our trace stands in
//! front of it. What the program wrote stays as it is, behind the trace.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::mail::address::literal;
use crate::mail::authors::authors;
use crate::mail::headers::{HeaderSection, check_strict};
use crate::mail::{Address, Class, MailId, Reason, date};
use crate::smtp::session::Submitter;
use crate::ticket::Directory;
use crate::units;

/// What the trace says of the connection.
#[derive(Clone, Debug)]
pub struct Via {
    pub helo: String,
    pub peer: IpAddr,
    /// Our own name.
    pub host: String,
    /// The transaction is one of SMTPUTF8.
    pub utf8: bool,
    pub tls: bool,
    pub logged_in: bool,
}

/// What the header section has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The channel whose mail it is.
    pub channel: Address,
    pub class: Class,
}

/// A mail whose beginning is being gathered.
#[derive(Debug)]
pub struct Handed {
    id: MailId,
    at: Timestamp,
    via: Via,
    limit: usize,
    head: Vec<u8>,
    /// Set once the header section is complete.
    found: Option<Found>,
    /// Of all octets that the program has sent.
    hash: Sha256,
}

impl Handed {
    /// Begins; the header section may have at most `limit` octets.
    pub fn new(id: MailId, at: Timestamp, via: Via, limit: usize) -> Self {
        Self { id, at, via, limit, head: Vec::new(), found: None, hash: Sha256::new() }
    }

    /// What the header section has told, once it is complete.
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// Notes octets of the mail, those behind its header section too.
    pub fn note(&mut self, octets: &[u8]) {
        self.hash.update(octets);
    }

    /// What the header section has told, and what stands for the mail as the program wrote it, without our trace: a
    /// program that did not hear our 250 sends the same once more.
    pub fn ended(self) -> Option<(Found, String)> {
        let written = units::hex(&self.hash.finalize());
        self.found.map(|found| (found, written))
    }

    /// Takes octets; returns those that are to be kept now.
    pub fn take(
        &mut self,
        octets: &[u8],
        submitter: &Submitter,
        directory: &Arc<Directory>,
    ) -> Result<Option<Vec<u8>>, Reason> {
        // The line end before the empty line may have come with the octets before these.
        let from = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(octets);
        let ended = memchr::memmem::find(&self.head[from..], b"\r\n\r\n").is_some() || self.head.starts_with(b"\r\n");
        if ended {
            return self.finish(submitter, directory).map(Some);
        }
        if self.head.len() > self.limit { Err(Reason::HeaderTooLarge) } else { Ok(None) }
    }

    /// The header section has ended, or the whole mail: returns what is to be kept of it.
    pub fn finish(&mut self, submitter: &Submitter, directory: &Arc<Directory>) -> Result<Vec<u8>, Reason> {
        let head = std::mem::take(&mut self.head);
        check_strict(&head)?;
        let section = HeaderSection::read(&head, self.limit)?;
        self.found = Some(examine(&section, submitter, directory)?);
        let mut kept = self.trace(&section).into_bytes();
        kept.extend_from_slice(&head);
        Ok(kept)
    }

    /// The trace (RFC 5321 section 4.4), and fields that every mail needs and this one has not (RFC 6409 section 8).
    fn trace(&self, section: &HeaderSection<'_>) -> String {
        let Via { helo, peer, host, utf8, tls, logged_in } = &self.via;
        let date = date::written(self.at);
        // RFC 3848, and RFC 6531 section 4.3.
        let with = match (utf8, tls, logged_in) {
            (true, true, true) => "UTF8SMTPSA",
            (true, true, false) => "UTF8SMTPS",
            (true, false, true) => "UTF8SMTPA",
            (true, false, false) => "UTF8SMTP",
            (false, true, true) => "ESMTPSA",
            (false, true, false) => "ESMTPS",
            (false, false, true) => "ESMTPA",
            (false, false, false) => "ESMTP",
        };
        let peer = literal(*peer);
        let helo: String = helo.chars().filter(|c| c.is_ascii_graphic() && !"()<>\\;".contains(*c)).take(255).collect();
        let helo = if helo.is_empty() { "unknown" } else { &helo };
        let mut trace =
            format!("Received: from {helo} ({peer})\r\n\tby {host} with {with} id {};\r\n\t{date}\r\n", self.id);
        // Writing to a string cannot fail.
        if !section.has("Date") {
            let _ = write!(trace, "Date: {date}\r\n");
        }
        if !section.has("Message-ID") {
            let _ = write!(trace, "Message-ID: <{}@{host}>\r\n", self.id);
        }
        trace
    }
}

/// Whose mail it is, and whether its writer may write as the From field says.
fn examine(section: &HeaderSection<'_>, submitter: &Submitter, directory: &Directory) -> Result<Found, Reason> {
    let authors = only(section, "From")?.ok_or(Reason::MissingFrom)?;
    // Many readers show the Sender, some instead of the From (RFC 5322 section 3.6.2).
    let sender = only(section, "Sender")?.unwrap_or_default();
    if authors.iter().chain(&sender).any(|author| !submitter.may_send_as(author, directory)) {
        return Err(Reason::SenderNotAllowed);
    }
    let own = authors.iter().find_map(|author| directory.channel_for(author));
    let channel = own.or_else(|| directory.default_channel()).ok_or(Reason::NoChannel)?;
    let said = section.text("Auto-Submitted").unwrap_or_default();
    let automatic = !said.trim().is_empty() && !said.trim().eq_ignore_ascii_case("no");
    let class = if automatic { Class::Automatic } else { Class::Person };
    Ok(Found { channel: channel.address.clone(), class })
}

/// The addresses of a field that may stand there once. Whatever could be read otherwise than we read it is refused,
/// since the account's senders would mean nothing to somebody who reads it so.
fn only(section: &HeaderSection<'_>, name: &str) -> Result<Option<Vec<Address>>, Reason> {
    let mut fields = section.raw(name);
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Reason::Malformed);
    }
    authors(field).map(Some).ok_or(Reason::MissingFrom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::channel::tests::channel;

    fn directory() -> Arc<Directory> {
        Arc::new(Directory::new(
            vec![channel("support@example.com"), channel("sales@example.com")],
            vec![],
            vec![],
            None,
        ))
    }

    fn hand(pieces: &[&str]) -> Result<(String, Found), Reason> {
        let at = Timestamp::from_second(1_795_000_000).unwrap();
        let via = Via {
            helo: "crm".into(),
            peer: "127.0.0.1".parse().unwrap(),
            host: "desk.example.com".into(),
            utf8: false,
            tls: true,
            logged_in: false,
        };
        let mut handed = Handed::new(MailId::fresh(at), at, via, 1000);
        let (submitter, directory) = (Submitter::new(vec![], true, true), directory());
        let mut kept = Vec::new();
        for piece in pieces {
            handed.note(piece.as_bytes());
            if handed.found().is_some() {
                kept.extend_from_slice(piece.as_bytes());
            } else if let Some(bytes) = handed.take(piece.as_bytes(), &submitter, &directory)? {
                kept.extend(bytes);
            }
        }
        if handed.found().is_none() {
            kept.extend(handed.finish(&submitter, &directory)?);
        }
        let (found, written) = handed.ended().unwrap();
        let whole = pieces.concat();
        assert_eq!(written, Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Ok((String::from_utf8(kept).unwrap(), found))
    }

    #[test]
    fn the_trace_stands_in_front_and_the_rest_is_as_it_came() {
        let mail =
            "From: sales@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\nAuto-Submitted: auto-generated\r\n\r\nHi\r\n";
        for cut in 0..mail.len() {
            let (kept, found) = hand(&[&mail[..cut], &mail[cut..]]).unwrap();
            let (trace, rest) = kept.split_at(kept.len() - mail.len());
            assert_eq!(rest, mail, "cut at {cut}");
            assert!(trace.starts_with("Received: from crm ([127.0.0.1])\r\n\tby desk.example.com with ESMTPS id "));
            assert_eq!(trace.matches("\r\n").count(), 3, "{trace}");
            assert_eq!((found.channel.to_string().as_str(), found.class), ("sales@example.com", Class::Automatic));
        }
    }

    #[test]
    fn the_trace_names_peer_and_protocol_as_the_registries_do() {
        let at = Timestamp::from_second(1_795_000_000).unwrap();
        let table = [
            ("127.0.0.1", true, true, true, "([127.0.0.1])\r\n\tby h with UTF8SMTPSA id"),
            ("::1", false, true, true, "([IPv6:::1])\r\n\tby h with ESMTPSA id"),
            ("2001:db8::1", true, false, false, "([IPv6:2001:db8::1])\r\n\tby h with UTF8SMTP id"),
        ];
        for (peer, utf8, tls, logged_in, want) in table {
            let (helo, host) = ("crm".into(), "h".into());
            let via = Via { helo, peer: peer.parse().unwrap(), host, utf8, tls, logged_in };
            let section = HeaderSection::read(b"A: 1\r\n", 1000).unwrap();
            let trace = Handed::new(MailId::fresh(at), at, via, 1000).trace(&section);
            assert!(trace.contains(want), "{trace}");
        }
    }

    #[test]
    fn what_every_mail_needs_is_added_and_what_may_not_be_is_refused() {
        let (kept, found) = hand(&["From: support@example.com\r\n\r\n"]).unwrap();
        assert!(kept.contains("\r\nMessage-ID: <") && kept.contains("\r\nDate: Wed, 18 Nov 2026"), "{kept}");
        assert_eq!(found.class, Class::Person);
        let table = [
            ("From: boss@example.com\r\n\r\n", Reason::SenderNotAllowed),
            ("From: support@example.com, boss@example.com\r\n\r\n", Reason::SenderNotAllowed),
            ("Subject: x\r\n\r\n", Reason::MissingFrom),
            ("From: The Boss\r\n\r\n", Reason::MissingFrom),
            ("From: The Boss\r\nSender: boss@example.com\r\n\r\n", Reason::MissingFrom),
            ("Sender: support@example.com\r\n\r\n", Reason::MissingFrom),
            ("Return-Path: <>\r\n\r\n", Reason::MissingFrom),
            ("From: boss@example.com:support@example.com;\r\n\r\n", Reason::MissingFrom),
            ("From: boss@example.com <support@example.com>\r\n\r\n", Reason::SenderNotAllowed),
            ("From: support@example.com\r\nSender: boss@example.com\r\n\r\n", Reason::SenderNotAllowed),
            ("From: support@example.com\r\nFROM: support@example.com\r\n\r\n", Reason::Malformed),
            ("\r\nFrom: support@example.com\r\n\r\n", Reason::Malformed),
            ("From: support@example.com\r\nstray\r\nFrom: boss@example.com\r\n\r\n", Reason::Malformed),
            ("From: support@example.com\nstray\n\nFrom: boss@example.com\r\n\r\n", Reason::Malformed),
        ];
        for (mail, want) in table {
            assert_eq!(hand(&[mail]), Err(want), "{mail}");
        }
        assert_eq!(hand(&[&"X: y\r\n".repeat(200)]), Err(Reason::HeaderTooLarge));
    }
}
