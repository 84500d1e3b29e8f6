//! The state of a channel's account, as status, metrics and the event feed show it.

use jiff::Timestamp;

use super::problem::Problem;
use crate::mail::Address;

/// What a connection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    Connected,
    /// Paused by a person; nothing is fetched.
    Paused,
    /// Disconnected by a person; nothing is fetched or sent.
    Disconnected,
    Problem(Problem),
}

impl State {
    /// The words for all states, for metrics.
    pub const WORDS: [&'static str; 5] = ["connecting", "connected", "paused", "disconnected", "problem"];

    /// The word that programs see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Paused => "paused",
            Self::Disconnected => "disconnected",
            Self::Problem(_) => "problem",
        }
    }
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub channel: Address,
    /// `user@host` of the mailbox.
    pub account: String,
    pub state: State,
    pub since: Timestamp,
    /// When it is tried again, for a problem.
    pub next_try: Option<Timestamp>,
    /// When the mailbox was last looked into.
    pub last_look: Option<Timestamp>,
    /// When the next look begins at the latest; news may come sooner.
    pub next_look: Option<Timestamp>,
    /// The server has refused to set labels; they stay owed.
    pub labels_refused: bool,
    /// Mails that wait for the rate to let them through.
    pub waiting: u64,
    /// What is not wrong enough to stop anything, such as a server that cannot keep labels.
    pub warnings: Vec<String>,
}
