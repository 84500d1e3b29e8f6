//! Rows about mail that leaves: the outbox, its recipients, and what keeps mail from leaving.
//!
//! A mail has one row, and one for each recipient, so that thousands of recipients fit.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Position;
use crate::mail::Class;

/// What becomes of a mail in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// At least one recipient waits for the next attempt.
    #[default]
    Waiting,
    /// A person holds it back.
    Held,
    /// Every recipient has its final state.
    Done,
    /// A person took it back.
    Cancelled,
}

impl OutboxState {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Waiting, Self::Held, Self::Done, Self::Cancelled].into_iter().find(|state| state.as_str() == word)
    }
}

/// What became of a mail for one of its recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// No attempt has ended yet.
    #[default]
    Queued,
    /// An attempt failed for now; there will be another one.
    Delayed,
    /// A peer took responsibility for it.
    Relayed,
    /// It will not be delivered: a peer said so, or it was given up.
    Failed,
    /// A loop brake stopped it; a person can release it.
    Held,
    /// A person took it back.
    Cancelled,
    /// The address has failed before, and nothing is sent to it.
    Suppressed,
    /// The address is on the filter list: nothing automatic or human is ever sent to it.
    Filtered,
}

impl DeliveryState {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
            Self::Filtered => "filtered",
        }
    }

    /// Whether there will be another attempt.
    pub fn waits(self) -> bool {
        matches!(self, Self::Queued | Self::Delayed)
    }
}

/// One mail that leaves or has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// The id of its entry.
    pub id: String,
    /// The `seq` of its entry.
    pub seq: u64,
    /// Where the mail's record lies in the log.
    pub mail: Position,
    pub size: u64,
    /// The channel that sends it.
    pub channel: String,
    pub ticket: Option<u64>,
    #[serde(with = "class_word")]
    pub class: Class,
    /// The return path; `None` is the null sender.
    pub sender: Option<String>,
    /// The relay that was asked for by name, or that a person has it go by.
    pub relay: Option<String>,
    pub created_at: Timestamp,
    /// When the first of its recipients that wait is due.
    pub due: Timestamp,
    pub attempts: u32,
    pub state: OutboxState,
    /// Why it is in this state, where a sentence is needed.
    pub why: Option<String>,
    /// What the next attempt waits for beside its time: a quota, an account, a relay.
    pub waits_for: Option<String>,
    /// Its ticket, or its sender, was told that it is late.
    pub delayed_told: bool,
    /// It has attachments that a reader would see, so that it may leave by another relay (R25).
    #[serde(default)]
    pub attachments: bool,
    #[serde(default)]
    pub smtputf8: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
    /// How many recipients it has, how many of them wait for an attempt, and how many a brake holds.
    #[serde(default)]
    pub recipients: u32,
    #[serde(default)]
    pub open: u32,
    #[serde(default)]
    pub braked: u32,
    /// Since when it has had its time: when it was made, or when a person had it tried again.
    #[serde(default)]
    pub since: Timestamp,
    /// A person wants it to leave by `relay` even if another one may have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// One recipient of a mail that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    /// Its number in the mail, from 0.
    pub n: u32,
    pub address: String,
    pub state: DeliveryState,
    pub attempts: u32,
    /// The relay of the last attempt.
    pub relay: Option<String>,
    /// What the peer said last: code, enhanced code and text, cut.
    pub reply: Option<String>,
    /// When its state changed last.
    pub at: Timestamp,
    pub notify: Option<String>,
    pub orcpt: Option<String>,
    /// The brake that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brake: Option<String>,
    /// What reports that came home say, the worst of them: `failed`, `delayed`, `complaint`; or that it arrived:
    /// `delivered`, `relayed`, `expanded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
    /// When it is tried again; see [`RecipientRow::due`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The last reports that came while it waited: the end of an attempt shows whether they are about that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<EarlyReport>,
    /// The relay that may have it: it had the whole mail, and no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
}

impl RecipientRow {
    /// When it is due, if it waits. Who has no time of its own goes by the mail's, unless it was never tried: then it
    /// does not wait for the others.
    pub fn due(&self, row: &OutboxRow) -> Timestamp {
        let first = (self.attempts == 0).then(|| row.created_at.min(row.due));
        self.due.or(first).unwrap_or(row.due)
    }
}

/// A report that came before the mail was known to have left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyReport {
    /// As in [`RecipientRow::reported`].
    pub word: String,
    pub said: String,
    /// The address itself is at fault.
    pub hard: bool,
    /// When it came.
    pub at: Timestamp,
}

/// A brake that has tripped, until a person releases it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeRow {
    pub id: String,
    /// `ticket_recipient`, `recipient` or `overall`.
    pub scope: String,
    pub ticket: Option<u64>,
    pub recipient: Option<String>,
    /// The limit that it tripped on: so many mails within so many minutes.
    pub minutes: u32,
    pub mails: u64,
    pub at: Timestamp,
    /// How many mails it holds, those that a person released or cancelled by themselves not counted.
    pub held: u64,
}

/// An address that has failed, and whether mail to it is suppressed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionRow {
    pub address: String,
    /// Hard failures so far.
    pub failures: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub suppressed: bool,
    /// What was said about it last.
    pub why: String,
}

/// An account that may not send: the clock of its mail stands still (R8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRow {
    /// The address of the channel whose account it is, in lower case.
    pub account: String,
    pub since: Timestamp,
    /// Until when, once it may send again: its mail is being given that time back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The `seq` of the last mail that has it back.
    #[serde(default)]
    pub after: u64,
}

/// A ticket that was opened and is owed an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcknowledgementRow {
    /// The `seq` and the id of the entry that opened the ticket.
    pub seq: u64,
    pub entry: String,
    pub ticket: u64,
    pub channel: String,
    pub at: Timestamp,
}

/// What the sender of a mail is to be told about one recipient; those with one `event` are one report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// The `seq` of the mail's entry.
    pub seq: u64,
    pub event: u64,
    /// The recipient, as it was when this happened.
    pub n: u32,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
    /// NOTIFY has asked for it; otherwise nothing was said of it.
    #[serde(default)]
    pub asked: bool,
    /// `failed`, `delayed`, `relayed` or `delivered`.
    pub action: String,
    pub status: String,
    /// What a server said, where `remote` names one; else what we say.
    pub said: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Of a delay: until when it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub at: Timestamp,
}

/// The idempotency key of a report, so that it leaves once.
pub fn report_order(seq: u64, event: u64) -> String {
    format!("report {seq} {event}")
}

/// What a mail was handed in under, so that the same order is not carried out twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// The id of the entry that it became.
    pub entry: String,
    pub fingerprint: Option<String>,
    pub at: Timestamp,
}

mod class_word {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::mail::Class;

    pub fn serialize<S: Serializer>(class: &Class, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(class.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Class, D::Error> {
        let word = String::deserialize(from)?;
        Class::from_word(&word).ok_or_else(|| serde::de::Error::custom("the class is unknown"))
    }
}
