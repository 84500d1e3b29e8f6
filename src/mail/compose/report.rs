//! Delivery reports that we write (RFC 3464 in the frame of RFC 6522): words for people, fields for programs, and what
//! came back of the mail itself.
//!
//! Must not know: who is owed one, how it leaves. What comes out is 7-bit like all mail of ours, so a mail that is not
//! comes back by its header section only.

mod status;
mod words;

use jiff::Timestamp;

use super::super::headers::HeaderSection;
use super::super::notify::Action;
use super::build::{self, Enclosed};
use super::{Address, Composed, Correspondent, Draft, Identity, thread};

/// The longest header section that comes back, in bytes; a mail that we took has no longer one unless limits changed.
const MAX_HEADERS: usize = 256 << 10;
/// The longest line of a mail that comes back as it is (RFC 5322 section 2.1.1).
const MAX_LINE: usize = 998;

/// What is reported of one mail.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The name of this server.
    pub reporter: &'a str,
    /// Our own id of the mail, by which operators find it.
    pub mail_id: &'a str,
    /// When the mail was handed in.
    pub arrived: Timestamp,
    /// ENVID, as it was written (RFC 3461 section 4.4).
    pub envelope_id: Option<&'a str>,
    pub recipients: &'a [Recipient],
    /// The mail, where its bytes are still there.
    pub original: Option<Original<'a>>,
}

/// What became of it for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub address: String,
    /// ORCPT, as it was written (RFC 3461 section 4.2).
    pub orcpt: Option<String>,
    pub action: Action,
    /// RFC 3463, such as `5.1.1`.
    pub status: String,
    /// What a server said, where `remote` names one; else what we say.
    pub said: String,
    pub remote: Option<String>,
    pub at: Timestamp,
    /// Of a delay: until when it is tried.
    pub until: Option<Timestamp>,
}

/// The mail that a report is about.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// All of it, or as many of its first bytes as `back` wants to see.
    pub bytes: &'a [u8],
    pub back: Back,
}

/// How much of the mail its sender wants back (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    Headers,
    /// All of it, up to so many bytes; a larger one comes back by its header section.
    Whole(u64),
}

impl Back {
    /// How many bytes of the mail are looked at: enough to see that there is more than comes back.
    pub fn wants(self) -> usize {
        let whole = match self {
            Self::Headers => 0,
            Self::Whole(most) => usize::try_from(most).unwrap_or(usize::MAX),
        };
        whole.max(2 * MAX_HEADERS).saturating_add(1)
    }
}

/// Writes the report to the sender of the mail.
pub fn report(report: &Report<'_>, to: &Address, identity: &Identity) -> Composed {
    let section = report.original.map(|original| section(original.bytes));
    let subject = section.as_ref().and_then(|section| section.text("Subject")).unwrap_or_default();
    let id = section.as_ref().and_then(own_id);
    let returned = report.original.map(|original| returned(original, report.recipients));
    let text = words::text(report, &subject, returned.as_ref().map(|part| part.kind));
    let parts = vec![
        Enclosed { kind: "text/plain", verbatim: is_plain(text.as_bytes()), bytes: text.into_bytes() },
        Enclosed { kind: "message/delivery-status", bytes: status::fields(report).into_bytes(), verbatim: true },
    ];
    let draft = Draft {
        to: vec![Correspondent { name: String::new(), address: to.clone() }],
        subject: words::subject(report.recipients, &subject),
        in_reply_to: id.clone(),
        references: id.into_iter().collect(),
        ..Draft::default()
    };
    build::report(&draft, identity, parts.into_iter().chain(returned).collect())
}

fn section(bytes: &[u8]) -> HeaderSection<'_> {
    HeaderSection::read(bytes, MAX_HEADERS).unwrap_or_default()
}

fn own_id(section: &HeaderSection<'_>) -> Option<String> {
    let id = section.values("Message-ID").next()?;
    let bare = id.trim().strip_prefix('<')?.strip_suffix('>')?.to_owned();
    thread::is_sound(&bare).then_some(bare)
}

/// What comes back of the mail. RET is about failures only (RFC 3461 section 4.3): a mail that is under way or has
/// arrived need not come back whole.
fn returned(original: Original<'_>, recipients: &[Recipient]) -> Enclosed {
    let failed = recipients.iter().any(|one| one.action == Action::Failed);
    if let Back::Whole(most) = original.back
        && failed
        && original.bytes.len() as u64 <= most
        && is_plain(original.bytes)
    {
        return Enclosed { kind: "message/rfc822", bytes: original.bytes.to_vec(), verbatim: true };
    }
    let end = section(original.bytes).body_offset().min(original.bytes.len());
    let mut head = original.bytes[..end].trim_ascii_end().to_vec();
    head.extend_from_slice(b"\r\n");
    let verbatim = is_plain(&head);
    Enclosed { kind: "text/rfc822-headers", bytes: head, verbatim }
}

/// Whether octets can stand in a 7-bit part as they are (RFC 2045 section 2.7).
fn is_plain(bytes: &[u8]) -> bool {
    let mut length = 0;
    let mut before = 0;
    for &byte in bytes {
        match byte {
            b'\n' if before == b'\r' => length = 0,
            0 | b'\n' | 0x80.. => return false,
            _ if before == b'\r' => return false,
            b'\r' => {}
            _ => length += 1,
        }
        if length > MAX_LINE {
            return false;
        }
        before = byte;
    }
    before != b'\r'
}

#[cfg(test)]
mod tests;
