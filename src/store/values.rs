//! What goes into the store and comes out of it, apart from the rows.

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::body::Body;
use super::rows::{PersonRow, Position, TicketState};
use crate::mail::{Address, Class, Envelope, MailId, Origin, Outline, Reason};
use crate::ticket::Decision;
use crate::units::hex;

/// One channel that a mail is for, with the envelope recipients that led there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub channel: Address,
    pub rcpt_to: Vec<Address>,
}

/// What is known of a mail that leaves beside its bytes and its envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMeta {
    pub class: Class,
    /// The ticket that it belongs to, where whoever handed it in knows.
    pub ticket: Option<u64>,
    /// It is the first mail of that ticket, whose number was set aside for it: filing it opens the ticket.
    pub opens: bool,
    /// Who sends it: the name of an agent, of a submission account, or `ticketgate`.
    pub author: String,
    /// The idempotency key: a second mail with it is the first one.
    pub key: Option<String>,
    /// Stands for what was asked for under that key, so that other content under the same key is told apart; of a mail
    /// that a program wrote, for its bytes without our trace.
    pub fingerprint: Option<String>,
    /// The relay that was asked for by name.
    pub relay: Option<String>,
    /// The recipients with what was asked about each, in the order of the envelope's.
    pub recipients: Vec<OutgoingRecipient>,
    /// The id of the entry that an acknowledgement answers.
    pub answers: Option<String>,
    /// Envelope or header fields are in UTF-8 (RFC 6531).
    pub smtputf8: bool,
    /// RET and ENVID of the transaction that brought it (RFC 3461 sections 4.3 and 4.4).
    pub ret: Option<String>,
    pub envid: Option<String>,
    /// The report that it is: the `seq` of the mail that it is about, and the event.
    pub report: Option<(u64, u64)>,
}

/// One recipient of a mail that leaves, with NOTIFY and ORCPT (RFC 3461 sections 4.1 and 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRecipient {
    pub address: Address,
    pub notify: Option<String>,
    pub orcpt: Option<String>,
}

/// A mail that we are about to take responsibility for.
#[derive(Debug)]
pub struct Incoming {
    pub id: MailId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub deliveries: Vec<Delivery>,
    /// Whether a policy asks for a person to look at it.
    pub review: bool,
    /// Set for a mail that leaves; its return path and its recipients are the envelope's.
    pub outgoing: Option<OutgoingMeta>,
    pub body: Body,
}

/// Proof that a mail stands synced in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub id: MailId,
    pub position: Position,
}

/// A mail that we refused after we had seen its data. Only its header section is kept.
#[derive(Clone, Debug)]
pub struct Refused {
    pub id: MailId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub deliveries: Vec<Delivery>,
    pub reason: Reason,
    /// How large the mail was, or how much of it was read.
    pub size: u64,
    /// The first bytes of the mail; cut to the end of the header section and to 16 KiB.
    pub head: Vec<u8>,
}

/// What stands in a mail's record beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailMeta {
    pub id: MailId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub deliveries: Vec<Delivery>,
    pub review: bool,
    pub size: u64,
    /// Of the mail's bytes, in lower-case hex.
    pub sha256: String,
    /// Why the door refused it, for a record of a refused mail.
    pub refused: Option<Reason>,
    /// Set for a mail that leaves.
    pub outgoing: Option<OutgoingMeta>,
}

/// A mail that was accepted and is not filed yet, or is to be filed again.
#[derive(Clone, Debug)]
pub struct Spooled {
    pub position: Position,
    pub id: MailId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    /// All channels that it is for; of a mail that is filed again only those that asked for it.
    pub deliveries: Vec<Delivery>,
    pub review: bool,
    pub size: u64,
    pub sha256: String,
    /// Why the door refused it; then `body` is the header section only.
    pub refused: Option<Reason>,
    pub body: MailBytes,
    /// The bytes are not those that were accepted: the disk has changed them.
    pub damaged: bool,
    /// It was filed before, and a person asked for it to be filed again.
    pub retried: bool,
    /// Set for a mail that leaves.
    pub outgoing: Option<OutgoingMeta>,
}

/// A mail as its record has it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub meta: MailMeta,
    pub body: MailBytes,
    /// The mail was refused at the door, so there is nothing but its header section.
    pub headers_only: bool,
    /// The bytes are not those that were accepted: the disk has changed them. Of a file nothing is said.
    pub damaged: bool,
}

/// The bytes of a mail, or the file that holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailBytes {
    Inline(Vec<u8>),
    File { path: PathBuf, len: u64 },
}

impl MailBytes {
    /// All bytes. Blocks on the disk where they are in a file of their own.
    pub fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Inline(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File { path, len } => {
                let bytes = std::fs::read(path)?;
                if bytes.len() as u64 != *len {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file of the mail's bytes is cut"));
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// All bytes, if they are those with this sha256 (lower-case hex). What lies in the log has a checksum there, so that
    /// only what is in a file of its own is compared. Blocks on the disk as well.
    pub fn verified(&self, sha256: &str) -> io::Result<Cow<'_, [u8]>> {
        let bytes = self.read()?;
        if matches!(self, Self::File { .. }) && hex(&Sha256::digest(&bytes)) != sha256 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the bytes of the mail have changed on the disk"));
        }
        Ok(bytes)
    }

    /// The first bytes, so many at most. Blocks on the disk as well.
    pub fn head(&self, most: usize) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Inline(bytes) => Ok(Cow::Borrowed(&bytes[..bytes.len().min(most)])),
            Self::File { path, .. } => {
                let mut bytes = Vec::new();
                std::fs::File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much is accepted and not filed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    pub depth: u64,
    /// How many of them came from a mailbox, for which no sender waits.
    pub pulled: u64,
    pub bytes: u64,
    pub oldest: Option<Timestamp>,
}

/// How far filing has come; a change of it wakes those who follow the feed. What is accepted has a watch of its own,
/// because there may be thousands of mails a second and nobody but filing has anything to do about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The highest `seq` that readers can see.
    pub published: u64,
    /// How many mails were asked to be filed again and wait for it.
    pub retries: u64,
    /// How many commits have left or taken back word of an acknowledgement, or of a report to a sender, that is owed:
    /// who writes them need not look at what is owed whenever anything changes.
    pub acknowledgements: u64,
    pub reports: u64,
    /// The store has stopped after an error; the process must end and be started anew.
    pub broken: bool,
}

/// What a filing decision wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub channel: &'a Address,
    /// Without angle brackets.
    pub message_id: Option<&'a str>,
    /// Stands for the bytes of a mail that has no Message-ID: their sha256.
    pub content_key: &'a str,
    /// What the mail is compared by with earlier ones; `None` where nobody asks.
    pub compared: Option<Compared<'a>>,
    /// Message-IDs that the mail refers to, the nearest first; without angle brackets.
    pub references: &'a [String],
    /// The ticket that a valid token names.
    pub token_ticket: Option<u64>,
    /// The ticket that a tag in the subject names.
    pub tag_ticket: Option<u64>,
}

/// By what a new mail is compared with earlier ones.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The word of the door that it came by.
    pub door: &'a str,
    pub outline: Option<&'a Outline>,
    /// Its bytes, which are read again where an earlier mail may be the same one.
    pub body: &'a MailBytes,
}

/// One mail in one channel, decided, to be written down.
#[derive(Clone, Debug)]
pub struct NewEntry<'a> {
    pub mail: &'a Spooled,
    /// Which of the mail's deliveries this is.
    pub delivery: &'a Delivery,
    /// The queue that the channel belongs to.
    pub queue: &'a str,
    pub decision: &'a Decision,
    /// Without angle brackets.
    pub message_id: Option<&'a str>,
    /// Stands for the bytes of a mail that has no Message-ID: their sha256.
    pub content_key: &'a str,
    /// What the mail is recognised through on other ways; `None` where it could not be read or says no date.
    pub outline: Option<&'a Outline>,
    /// Becomes the title of a new ticket.
    pub subject: &'a str,
    /// Who wrote it, as the From field says.
    pub from: PersonRow,
    /// Whose ticket it is, if it opens one.
    pub requester: PersonRow,
    /// Addresses that take part beside the requester if it opens a ticket: CC and Reply-To.
    pub others: Vec<String>,
    pub now: Timestamp,
}

/// Which tickets to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketFilter {
    pub state: Option<TicketState>,
    pub queue: Option<String>,
    pub channel: Option<String>,
    /// Only tickets with a lower number than this: how the next page is asked for.
    pub before: Option<u64>,
    /// At most this many; never more than 1,000.
    pub limit: usize,
}

/// What was found and done when the data directory was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Commits that stood in the log and not in the index, and were applied again.
    pub redone: u64,
    /// The index was built anew from a snapshot and the log.
    pub rebuilt: bool,
    /// Why, and where the old index was put.
    pub rebuilt_because: Option<String>,
    /// Half-written bytes at the end of the log, which nobody was told about, that were cut off.
    pub cut_bytes: u64,
    /// Places in the log that cannot be read and have records behind them.
    pub damaged_spans: Vec<DamagedSpan>,
    /// Places where a commit is missing from the log: the index may lack changes; `fsck` tells which.
    pub missing_commits: u64,
    /// Segments of the log that are gone and held mail that waited for filing, or may have.
    pub missing_segments: Vec<u32>,
    /// The log has lost records that the index was made from: the index was kept, and a new segment begun.
    pub log_behind: bool,
    /// Mails that wait for filing.
    pub spooled: u64,
    /// Files of mails that were never acknowledged, removed.
    pub orphans: u64,
    /// Files that may be the last of mails whose records are lost, moved to the directory `lost`.
    pub set_aside: u64,
    pub took: Duration,
}

impl OpenReport {
    /// Whether something is lost that somebody may have been told of.
    pub fn has_lost(&self) -> bool {
        let spans = !self.damaged_spans.is_empty() || !self.missing_segments.is_empty();
        spans || self.missing_commits > 0 || self.log_behind
    }
}

/// A stretch of the log that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedSpan {
    pub position: Position,
    pub bytes: u64,
}

/// Numbers for status and metrics. Counters count from the start of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Records and bytes appended to the log.
    pub records: u64,
    pub bytes: u64,
    /// Groups written, and how many of them were synced.
    pub groups: u64,
    pub syncs: u64,
    /// Seconds spent in those syncs, all and the longest.
    pub sync_seconds: f64,
    pub sync_seconds_max: f64,
    /// Mails turned away because there was no space.
    pub full: u64,
    /// Records of refused mails that were not written, because the log was busy or full.
    pub refused_dropped: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// Steps committed, and the seconds their index writes took.
    pub commits: u64,
    pub index_seconds: f64,
    /// When the index was last flushed and synced.
    pub last_flush: Option<Timestamp>,
    pub segments: u64,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub free_bytes: u64,
    pub spool: SpoolState,
    /// The highest `seq` and the highest ticket number.
    pub seq: u64,
    pub tickets: u64,
    pub broken: Option<String>,
}
