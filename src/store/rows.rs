//! What the store keeps of tickets, entries and events: the shapes that readers get and that lie on disk as JSON.
//!
//! Rows are small (at most 4 KiB each, a limit of the engine): texts, addresses and attachments are read from the
//! original bytes in the log whenever somebody asks, so a row holds what was *decided*, not what was received. A field
//! that says nothing (`null`, `false`, an empty list) is left out where that is the rule: each row is written to the
//! log and to the engine.

mod mailbox;
mod outbound;
mod probe;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use mailbox::{FormerRow, Intent, LedgerRow, LedgerState, SourceRow, Wanted};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
    pub channel: String,
    pub queue: String,
    pub received_at: Timestamp,
    /// When it was filed.
    pub filed_at: Timestamp,
    /// Where the mail's record lies in the log; a note has none. An erased mail has none either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<Position>,
    /// The envelope recipients that belong to this channel.
    pub rcpt_to: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// `token`, `reference` or `subject_tag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_by: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_review: bool,
    /// The ticket that it may belong to, where it was marked for review instead of being mixed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<u64>,
    /// For a duplicate: the `seq` of the entry that it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<u64>,
    /// Every other way the same mail was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_seen: Vec<SeenRow>,
    pub size: u64,
    pub sha256: String,
    /// Sender and title for lists, cut to fit; the whole ones are in the original bytes.
    pub from: String,
    pub subject: String,
    /// For a note: who wrote it, and the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The word of the door that it came by; empty in rows of older versions.
    #[serde(default)]
    pub door: String,
    /// Pulled from before its mailbox was connected: no automatic mail may answer it.
    #[serde(default, skip_serializing_if = "is_false")]
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
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_review: bool,
    /// The ticket that this one was merged into.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
    /// The public id of the entry that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Who did it, for what people do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The other ticket of a merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<u64>,
    /// How an entry was filed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filing: Option<String>,
    /// The channel whose connection it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What happened to it, as a short sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !*value
}
