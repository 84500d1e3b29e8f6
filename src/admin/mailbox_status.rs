//! What the status says of mailboxes: what became of mail that was not simply imported, and what the server does not do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::Connection;
use crate::store::rows::SourceRow;
use crate::store::{Store, StoreError};

/// One mailbox in the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MailboxStatus {
    pub channel: String,
    /// `connected`, `connecting`, `paused`, `disconnected` or `problem`.
    pub state: String,
    /// Mails that wait for the rate to let them through.
    pub waiting: u64,
    /// What the last comparison found in the mailbox without a row in the ledger.
    pub unaccounted: u64,
    /// New mails that somebody else has read before they could be imported.
    pub read_elsewhere: u64,
    /// Mails that left the folder before they could be imported.
    pub gone: u64,
    /// Mails that the server does not hand out.
    pub unfetchable: u64,
    /// The server has refused to set labels.
    pub labels_refused: bool,
    /// What is not wrong enough to stop anything: labels or a lease that the server refuses, say.
    pub warnings: Vec<String>,
}

impl MailboxStatus {
    fn new(connection: Connection, row: &SourceRow) -> Self {
        Self {
            channel: connection.channel.to_string(),
            state: connection.state.as_str().into(),
            waiting: connection.waiting,
            unaccounted: row.unaccounted,
            read_elsewhere: row.read_elsewhere,
            gone: row.gone,
            unfetchable: row.unfetchable,
            labels_refused: connection.labels_refused,
            warnings: connection.warnings,
        }
    }

    /// What an operator may want to look at; `None` where there is nothing.
    pub fn told(&self) -> Option<String> {
        let counts = [
            (self.unaccounted, "in the folder without a row in the ledger"),
            (self.read_elsewhere, "read by somebody else before the import"),
            (self.gone, "gone before the import"),
            (self.unfetchable, "not handed out by the server"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let counts = counts.collect::<Vec<String>>().join(", ");
        let all: Vec<String> =
            Some(counts).filter(|counts| !counts.is_empty()).into_iter().chain(self.warnings.clone()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The mailboxes of these connections, in their order. Blocks on the disk.
pub(super) fn mailboxes(store: &Store, connections: Vec<Connection>) -> Result<Vec<MailboxStatus>, StoreError> {
    let of = |connection: Connection| {
        let row = store.source(&connection.channel)?.unwrap_or_default();
        Ok(MailboxStatus::new(connection, &row))
    };
    connections.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_to_be_told_is_told() {
        let quiet = MailboxStatus { waiting: 3, ..MailboxStatus::default() };
        let warned = MailboxStatus { warnings: vec!["a lease is refused".into()], ..MailboxStatus::default() };
        let counted = MailboxStatus { unaccounted: 1, read_elsewhere: 2, gone: 3, unfetchable: 4, ..warned.clone() };
        let table = [
            (quiet, None),
            (warned, Some("a lease is refused")),
            (
                counted,
                Some(
                    "1 in the folder without a row in the ledger, 2 read by somebody else before the import, \
                     3 gone before the import, 4 not handed out by the server; a lease is refused",
                ),
            ),
        ];
        for (status, want) in table {
            assert_eq!(status.told().as_deref(), want);
        }
    }
}
