//! What an opened folder means for the ledger: the first connection, an ordinary one, one whose UIDVALIDITY changed.

use crate::accounts::Cause;
use crate::accounts::Problem;
use crate::pull::account::{Session, Task, Trouble, Warnings};
use crate::pull::imap::{Folder, Labels, Mailbox};
use crate::store::rows::{LedgerRow, SourceRow};
use crate::units::count;

/// How many uids before the first connection are looked at for when the newest mail of that time arrived.
const NEWEST: u32 = 200;
/// How long a resynchronisation waits for filing, which has to be done with what came before.
const FILING_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl Task {
    /// Brings the row of the mailbox in line with the folder as it was opened.
    pub async fn settle(&mut self, mailbox: &mut Mailbox, folder: Folder) -> Result<SourceRow, Trouble> {
        let channel = self.source.channel.clone();
        let row = self.blocking(move |store| store.source(&channel)).await?.unwrap_or_default();
        let row = self.identify(mailbox, folder, row).await?;
        if row.validity == folder.validity {
            // A session that broke off may have left mail on its way into the log. This commit stands behind all of
            // it: afterwards whatever counts as imported is imported, and whatever could not be written is not.
            return self.keep(row, Vec::new()).await;
        }
        if row.validity == 0 {
            return self.first_connection(mailbox, folder, row).await;
        }
        self.recognise(mailbox, folder, row).await
    }

    async fn first_connection(
        &self,
        mailbox: &mut Mailbox,
        folder: Folder,
        row: SourceRow,
    ) -> Result<SourceRow, Trouble> {
        let backfill = self.most_recent(mailbox, folder.next).await?;
        let now = self.pull.clock.now();
        let last = folder.next.saturating_sub(1);
        let mut newest_before = None;
        if folder.exists > 0 && last > 0 {
            let first = last.saturating_sub(NEWEST - 1).max(1);
            newest_before = mailbox.list(first, Some(last)).await?.iter().filter_map(|mail| mail.arrived).max();
        }
        let (channel, validity) = (self.source.channel.clone(), folder.validity);
        let number = self.blocking(move |store| store.free_validity(&channel, validity)).await?;
        tracing::info!(channel = %self.source.channel, last, backfill = backfill.len(), "connected for the first time");
        let fresh = SourceRow {
            channel: self.source.channel.to_string(),
            since: if row.channel.is_empty() { now } else { row.since },
            connected_at: Some(now),
            validity,
            ledger: if number == validity { 0 } else { number },
            before: Some(folder.exists),
            newest_before,
            baseline: last,
            cursor: last,
            counted_to: last,
            backfill,
            ..row
        };
        self.keep(fresh, Vec::new()).await
    }

    /// Writes the row, and rows of the ledger with it.
    pub async fn keep(&self, row: SourceRow, ledger: Vec<LedgerRow>) -> Result<SourceRow, Trouble> {
        let channel = self.source.channel.clone();
        let written = self.blocking(move |store| {
            store.step(|step| {
                step.ledger(&channel, &ledger)?;
                step.merge_source(&channel, row)
            })
        });
        Ok(written.await?)
    }

    /// The uids of the most recent mails, as many as the configuration wants.
    async fn most_recent(&self, mailbox: &mut Mailbox, next: u32) -> Result<Vec<u32>, Trouble> {
        let wanted = self.source.config.import_recent as usize;
        let (mut last, mut window, mut found) = (next.saturating_sub(1), 200u32, Vec::new());
        while found.len() < wanted && last > 0 {
            let first = last.saturating_sub(window - 1).max(1);
            let listed = mailbox.list(first, Some(last)).await?;
            found.extend(listed.iter().rev().map(|mail| mail.uid));
            last = first - 1;
            window = window.saturating_mul(2);
        }
        found.truncate(wanted);
        found.sort_unstable();
        Ok(found)
    }

    /// Waits until everything that was pulled is filed.
    pub async fn filing_done(&self) -> Result<(), Trouble> {
        let mut progress = self.pull.store.watch();
        let done = async {
            while self.pull.store.unfiled(&self.source.channel) > 0 {
                if progress.changed().await.is_err() {
                    break;
                }
            }
        };
        let late = || Problem::new(Cause::DiskLow, "filing does not come along: see the log for its trouble");
        tokio::time::timeout(FILING_PATIENCE, done).await.map_err(|_| Trouble::Problem(late()))
    }

    /// What to tell an operator of a server that cannot keep labels.
    fn label_warning(&self, labels: Labels) -> Option<String> {
        let wanted = self.source.config.label && labels == Labels::None;
        wanted.then(|| "the server keeps no keywords in this folder: labels stand in the ledger only".to_owned())
    }

    /// Puts on the board what is not wrong enough to stop anything.
    pub fn show_warnings(&self, session: &Session) {
        let unfetchable = session.row.unfetchable;
        let unfetchable = (unfetchable > 0).then(|| {
            let mails = count(unfetchable, "mail is", "mails are");
            format!("{mails} not handed out by the server; each sweep tries again, and the log says which")
        });
        let Warnings { labels, lease, mailbox, unreadable } = self.warnings.clone();
        let labels_refused = labels.is_some();
        let unreadable = (unreadable > 0).then(|| {
            format!("{unreadable} lines of the server's listings cannot be read; their mails were asked for once more")
        });
        let warnings = [self.label_warning(session.labels), labels, lease, mailbox, unfetchable, unreadable];
        self.pull.accounts.show(&self.source.channel, |connection| {
            connection.warnings = warnings.into_iter().flatten().collect();
            connection.labels_refused = labels_refused;
        });
    }
}
