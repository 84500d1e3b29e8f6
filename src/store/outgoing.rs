//! What goes into the store about mail that leaves, apart from its bytes.

use jiff::{SignedDuration, Timestamp};

use super::rows::{DeliveryState, OutboxState, PersonRow};
use super::values::{OutgoingMeta, Spooled};
use crate::mail::notify::Action;
use crate::mail::{Address, Class};
use crate::ticket::TraceStep;
use crate::ticket::loops::{Limit, Scope};

/// A mail that leaves, decided, to be written down.
#[derive(Clone, Debug)]
pub struct NewOutgoing<'a> {
    pub mail: &'a Spooled,
    pub meta: &'a OutgoingMeta,
    /// The channel that sends it.
    pub channel: &'a Address,
    pub queue: &'a str,
    /// Without angle brackets.
    pub message_id: Option<&'a str>,
    pub subject: &'a str,
    pub from: PersonRow,
    /// The ticket that it belongs to, and how that was found.
    pub ticket: Option<u64>,
    pub matched_by: Option<&'static str>,
    /// Whose ticket it is, where this mail opens it.
    pub opens: Option<PersonRow>,
    pub recipients: Vec<NewRecipient>,
    /// It has attachments that a reader sees.
    pub attachments: bool,
    /// The keys under which it must not be taken a second time.
    pub orders: Vec<String>,
    /// The id of the entry that it repeats, if it does; then nothing is sent.
    pub repeats: Option<String>,
    pub trace: Vec<TraceStep>,
    pub now: Timestamp,
}

/// One recipient with the state that it begins with.
#[derive(Clone, Debug)]
pub struct NewRecipient {
    pub address: Address,
    pub notify: Option<String>,
    pub orcpt: Option<String>,
    pub state: DeliveryState,
    pub why: Option<String>,
    /// The brake that holds it, and the limit that it is over.
    pub brake: Option<(Scope, Limit)>,
}

/// What became of an attempt, or of a mail that had its time.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    pub seq: u64,
    pub at: Timestamp,
    /// The relay of the attempt, and when that began; `None` where there was none.
    pub relay: Option<String>,
    pub began: Option<Timestamp>,
    pub recipients: Vec<SettledRecipient>,
    /// What the ticket is told.
    pub notes: Vec<String>,
    /// What the ticket is told of a mail that is late, unless it was told before.
    pub late: Option<String>,
    /// What its sender is told then, by the numbers of recipients that still wait; it hears of the others as well.
    pub delayed: Vec<(u32, Told)>,
    /// What the trace of the mail says about its relay.
    pub way: Option<String>,
}

/// What there is to tell the sender of a mail about one recipient, if it wants to hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub action: Action,
    /// RFC 3463, such as `5.1.1`.
    pub status: String,
    /// What was said: by a server, where `remote` names one, and else by us.
    pub said: String,
    pub remote: Option<String>,
    /// Of a delay: until when it is tried.
    pub until: Option<Timestamp>,
}

impl Told {
    /// Of a recipient that has failed without a server's words.
    pub fn failed(status: &str, said: impl Into<String>) -> Self {
        Self { action: Action::Failed, status: status.to_owned(), said: said.into(), remote: None, until: None }
    }

    /// Of a recipient of a late mail that waits without a server's words.
    pub fn waits(until: Timestamp) -> Self {
        let said = "it waits to be handed on to the next server".to_owned();
        Self { action: Action::Delayed, status: "4.0.0".into(), said, remote: None, until: Some(until) }
    }
}

/// What became of one recipient.
#[derive(Clone, Debug, Default)]
pub struct SettledRecipient {
    pub n: u32,
    /// `Queued` is one that was not tried after all: its state stays.
    pub state: DeliveryState,
    pub reply: Option<String>,
    /// The address itself is at fault, so that it counts towards suppression.
    pub hard: bool,
    /// The peer had the whole mail and did not answer: it may have it.
    pub unanswered: bool,
    /// When it is tried again, if it still waits.
    pub next: Option<Timestamp>,
    /// What its sender may want to hear of it.
    pub told: Option<Told>,
}

/// When an address that fails is suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppress {
    /// After so many hard failures; 0 is never.
    pub after: u32,
    /// Within this time.
    pub within: SignedDuration,
}

/// What a report that came home says about one recipient.
#[derive(Clone, Debug)]
pub struct Bounced {
    /// The addresses by which it may be known; none where the report names nobody.
    pub addresses: Vec<String>,
    /// `failed`, `delayed`, `complaint`, `delivered`, `relayed` or `expanded`.
    pub word: &'static str,
    pub said: String,
    pub hard: bool,
    /// When it came.
    pub at: Timestamp,
}

/// Which mails of the outbox to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxFilter {
    pub state: Option<OutboxState>,
    pub channel: Option<String>,
    pub ticket: Option<u64>,
    pub class: Option<Class>,
    /// Only mails with a lower `seq` than this: how the next page is asked for.
    pub before: Option<u64>,
    /// At most this many; never more than 1,000.
    pub limit: usize,
}

/// What a person wants of a mail in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxOrder {
    /// Try now; recipients that have failed are tried again.
    Retry,
    Hold,
    Release,
    Cancel,
    /// Leave by this relay, unless another one may have it already.
    Reroute(String),
    /// Leave by this relay, even if the mail may then come twice.
    RerouteAnyway(String),
}

impl OutboxOrder {
    /// The word that programs see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Cancel => "cancel",
            Self::Reroute(_) | Self::RerouteAnyway(_) => "reroute",
        }
    }
}

/// Pages of the quota windows of an account: names with values.
pub type QuotaPages = Vec<(Vec<u8>, Vec<u8>)>;
