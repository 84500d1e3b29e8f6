//! Rows about mailboxes: where pulling stands, and what became of every mail that was seen there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::is_false;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The id of its entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    pub at: Timestamp,
    /// Its labels stand on the server.
    #[serde(default, skip_serializing_if = "is_false")]
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
