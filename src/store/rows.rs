//! What the store keeps of tickets, entries and events: the shapes that readers get and that lie on disk as JSON.
//!
//! Rows are small (at most 4 KiB each, a limit of the engine): texts, addresses and attachments are read from the
//! original bytes in the log whenever somebody asks, so a row holds what was *decided*, not what was received.

mod outbound;
mod probe;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use outbound::{
    AcknowledgementRow, BrakeRow, ClockRow, DeliveryState, EarlyReport, IdempotencyRow, OutboxRow, OutboxState,
    RecipientRow, ReportRow, SuppressionRow, report_order,
};
pub use probe::{FieldRow, ProbeHome, ProbeRow, ProbeSent};

/// Where a record stands in the accept log. Opaque to everyone but `store`; grows with every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Position(pub u64);

/// One mail in one channel that reached a final state, or a note that a person wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntryRow {
    /// The place in the feed of changes; never repeats, survives restarts.
    pub seq: u64,
    /// The public id: the mail's id, with `.2`, `.3` … behind it when one mail became entries of several channels.
    pub id: String,
    pub kind: EntryKind,
    /// `opened`, `appended`, `reported`, `duplicate`, `dropped`, `rejected`, `quarantined`; `relayed` for mail that leaves
    /// and belongs to no ticket; `noted` for a note.
    pub filing: String,
    /// The code of a `mail::Reason`.
    pub reason: Option<String>,
    pub ticket: Option<u64>,
    pub channel: String,
    pub queue: String,
    pub received_at: Timestamp,
    /// When it was filed.
    pub filed_at: Timestamp,
    /// Where the mail's record lies in the log; a note has none. An erased mail has none either.
    pub mail: Option<Position>,
    /// The envelope recipients that belong to this channel.
    pub rcpt_to: Vec<String>,
    pub message_id: Option<String>,
    /// `token`, `reference` or `subject_tag`.
    pub matched_by: Option<String>,
    pub needs_review: bool,
    /// The ticket that it may belong to, where it was marked for review instead of being mixed in.
    pub related: Option<u64>,
    /// For a duplicate: the `seq` of the entry that it repeats.
    pub duplicate_of: Option<u64>,
    /// Every other way the same mail was seen.
    pub also_seen: Vec<SeenRow>,
    pub size: u64,
    pub sha256: String,
    /// Sender and title for lists, cut to fit; the whole ones are in the original bytes.
    pub from: String,
    pub subject: String,
    /// For a note: who wrote it, and the text.
    pub author: Option<String>,
    pub note: Option<String>,
    /// The word of the door that it came by; empty in rows of older versions.
    #[serde(default)]
    pub door: String,
    /// Pulled from before its mailbox was connected: no automatic mail may answer it.
    #[serde(default)]
    pub backfill: bool,
    /// Every decision about it, in order.
    pub trace: Vec<TraceRow>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Inbound,
    Outbound,
    Note,
}

/// Another way in which the mail of an entry was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenRow {
    /// The id of the mail that repeated it.
    pub id: String,
    pub kind: String,
    pub peer: String,
    pub at: Timestamp,
}

/// One decision: who decided, what, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceRow {
    /// The step's name, such as `recipient`, `duplicate`, `thread`, `filed`.
    pub step: String,
    /// What was found or decided, as a short sentence.
    pub said: String,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketRow {
    pub number: u64,
    pub title: String,
    pub state: TicketState,
    pub channel: String,
    pub queue: String,
    pub requester: PersonRow,
    /// Everybody who takes part: requester, CC, people who wrote. At most 50; keys are lower-case addresses.
    pub participants: Vec<String>,
    pub opened_at: Timestamp,
    pub updated_at: Timestamp,
    /// How many entries it has.
    pub entries: u64,
    pub needs_review: bool,
    /// The ticket that this one was merged into.
    pub merged_into: Option<u64>,
    /// The feed place of its last change.
    pub changed: u64,
}

impl TicketRow {
    /// A ticket of a channel and its queue as its first entry opens it.
    pub fn open(number: u64, subject: &str, channel: &str, queue: &str, requester: PersonRow, now: Timestamp) -> Self {
        let title = subject.trim();
        Self {
            number,
            title: if title.is_empty() { "(no subject)".into() } else { title.to_owned() },
            state: TicketState::Open,
            channel: channel.to_owned(),
            queue: queue.to_owned(),
            requester,
            participants: Vec::new(),
            opened_at: now,
            updated_at: now,
            entries: 1,
            needs_review: false,
            merged_into: None,
            changed: 0,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRow {
    pub name: String,
    pub address: String,
}

impl PersonRow {
    /// As lists show it: `Name <local@domain>`, or the address alone.
    pub fn shown(&self) -> String {
        if self.name.is_empty() { self.address.clone() } else { format!("{} <{}>", self.name, self.address) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    Open,
    Closed,
    Merged,
}

/// One change, as the event feed gives it. Entries appear in the feed as `entry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    pub seq: u64,
    pub at: Timestamp,
    /// `entry`, `ticket_closed`, `ticket_reopened`, `ticket_merged`, `entry_seen_again`, `entry_retried`, `entry_erased`,
    /// `connection_changed`, `default_channel_changed`; of mail that leaves `delivery_changed`, `mail_delayed`,
    /// `mail_failed`, `mail_relayed`, `brake_tripped`, `brake_released`, `quota_near`, `takeover`,
    /// `takeover_refused`, `address_suppressed`; `relay_probed`.
    pub kind: String,
    pub ticket: Option<u64>,
    /// The public id of the entry that it is about.
    pub entry: Option<String>,
    /// Who did it, for what people do.
    pub author: Option<String>,
    /// The other ticket of a merge.
    pub other: Option<u64>,
    /// How an entry was filed.
    pub filing: Option<String>,
    /// The channel whose connection it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What happened to it, as a short sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// What the operator wants of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    #[default]
    Connected,
    Paused,
    Disconnected,
}

impl Wanted {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Paused => "paused",
            Self::Disconnected => "disconnected",
        }
    }
}

/// The mailbox of a channel; outlives a disconnect, so that a reconnect goes on where it stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceRow {
    pub channel: String,
    pub wanted: Wanted,
    pub since: Timestamp,
    /// Whose mailbox it is, as `user@host/folder`; empty in rows of older versions until it is opened again.
    pub mailbox: String,
    /// When it was connected for the first time: nothing that arrived before is imported.
    pub connected_at: Option<Timestamp>,
    /// UIDVALIDITY of the folder; 0 before it was opened for the first time.
    pub validity: u32,
    /// What stands in the ledger for UIDVALIDITY, where rows of other mails have that number; 0 where they are the same.
    pub ledger: u32,
    /// UIDVALIDITY of a folder whose mails are being recognised, and the number that their rows get.
    pub renumbering: Option<(u32, u32)>,
    /// How many mails lay in the folder when it was connected, and when the newest had arrived by the server's clock.
    pub before: Option<u32>,
    pub newest_before: Option<Timestamp>,
    /// The highest uid from before the connection.
    pub baseline: u32,
    /// Every uid up to this one has its row in the ledger, or is not above `baseline`.
    pub cursor: u32,
    /// Uids from before the connection that are still to be imported; at most 50.
    pub backfill: Vec<u32>,
    pub swept_at: Option<Timestamp>,
    /// What the last sweep found in the mailbox without a row in the ledger.
    pub unaccounted: u64,
    /// Mails that somebody else had read, and that were gone, before they could be imported.
    pub read_elsewhere: u64,
    pub gone: u64,
    /// At most so many mails came and went between two looks: numbers that the server gave out, up to `counted_to`, under
    /// which no mail was ever seen.
    pub vanished: u64,
    pub counted_to: u32,
    /// Mails that the server does not hand out.
    pub unfetchable: u64,
    /// The imports of the last minute, as second (since 1970) and count: the rate outlives a restart with them. They
    /// stand here before the mails are asked for.
    pub recent: Vec<(i64, u32)>,
    /// Mailboxes that the channel had before this one, the latest last.
    pub former: Vec<FormerRow>,
}

impl SourceRow {
    /// What stands for UIDVALIDITY in the ledger, and in the records of mails that are pulled.
    pub fn ledger_validity(&self) -> u32 {
        ledger_validity(self.validity, self.ledger)
    }
}

fn ledger_validity(validity: u32, ledger: u32) -> u32 {
    if ledger == 0 { validity } else { ledger }
}

/// Where pulling stopped in a mailbox that a channel had before: it goes on there should the channel get it back. The
/// fields are those of `SourceRow`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormerRow {
    pub mailbox: String,
    pub connected_at: Option<Timestamp>,
    pub validity: u32,
    pub ledger: u32,
    pub before: Option<u32>,
    pub newest_before: Option<Timestamp>,
    pub baseline: u32,
    pub cursor: u32,
}

impl FormerRow {
    /// What stands for UIDVALIDITY in the ledger.
    pub fn ledger_validity(&self) -> u32 {
        ledger_validity(self.validity, self.ledger)
    }
}

/// What became of a mail that was seen in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// Seen unread; the rate has not let it through yet.
    Waiting,
    Imported,
    Rejected,
    /// Somebody else read it first.
    ReadElsewhere,
    /// It left the folder before it could be imported.
    Gone,
    /// Another gateway has imported it, which its label says; or, recognised after UIDVALIDITY changed, it was imported
    /// before, or was there before the connection.
    Known,
    /// The server has not handed it out, however often it was asked for by itself; each sweep tries it again.
    Unfetchable,
}

impl LedgerState {
    /// Every state, for programs and tests.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Imported,
        Self::Rejected,
        Self::ReadElsewhere,
        Self::Gone,
        Self::Known,
        Self::Unfetchable,
    ];

    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Imported => "imported",
            Self::Rejected => "rejected",
            Self::ReadElsewhere => "read_elsewhere",
            Self::Gone => "gone",
            Self::Known => "known",
            Self::Unfetchable => "unfetchable",
        }
    }

    /// Whether the mail may still get another state: it has not come to its end.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Unfetchable)
    }
}

/// One mail of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    pub uid: u32,
    /// UIDVALIDITY, or what stands for it (`SourceRow::ledger_validity`).
    pub validity: u32,
    pub state: LedgerState,
    /// The code of a `mail::Reason`, where it was rejected.
    pub reason: Option<String>,
    /// The id of its entry.
    pub mail: Option<String>,
    pub at: Timestamp,
    /// Its labels stand on the server.
    pub labelled: bool,
    /// The server refuses to label it, and it is not asked any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub label_refused: bool,
    /// It was rejected before, so that the label which says so may stand on the server and has to go.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rejected_before: bool,
}

impl LedgerRow {
    /// The row of a mail without an entry, whose label is not set.
    pub fn new(validity: u32, uid: u32, state: LedgerState, at: Timestamp) -> Self {
        Self {
            uid,
            validity,
            state,
            reason: None,
            mail: None,
            at,
            labelled: false,
            label_refused: false,
            rejected_before: false,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Labels that are owed to a mail on its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub validity: u32,
    pub uid: u32,
    /// It could not be imported, which has a label of its own.
    pub rejected: bool,
    /// It was rejected before and is not any more: that label goes.
    pub cleared: bool,
    /// The id of its entry.
    pub mail: Option<String>,
}
