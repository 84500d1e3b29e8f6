//! What an opened folder means for the ledger: the first connection, an ordinary one, and one whose UIDVALIDITY changed.

use crate::accounts::Cause;
use crate::accounts::Problem;
use crate::mail::headers::HeaderSection;
use crate::pull::account::{Session, Task, Trouble, Warnings};
use crate::pull::imap::{Folder, Labels, Listed, Mailbox};
use crate::store::rows::{LedgerRow, LedgerState, SourceRow};

/// How many mails are looked up at once when a folder is recognised again.
const CHUNK: usize = 250;
/// How long a resynchronisation waits for filing, which has to be done with what came before.
const FILING_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl Task {
    /// Brings the row of the mailbox in line with the folder as it was opened.
    pub async fn settle(&self, mailbox: &mut Mailbox, folder: Folder) -> Result<SourceRow, Trouble> {
        let channel = self.source.channel.clone();
        let row = self.blocking(move |store| store.source(&channel)).await?.unwrap_or_default();
        if row.validity == folder.validity {
            // A session that broke off may have left mail on its way into the log. This commit stands behind all of
            // it: afterwards whatever counts as imported is imported, and whatever could not be written is not.
            return self.keep(row, Vec::new()).await;
        }
        if row.validity == 0 {
            let backfill = self.most_recent(mailbox, folder.next).await?;
            let now = self.pull.clock.now();
            let last = folder.next.saturating_sub(1);
            tracing::info!(channel = %self.source.channel, last, backfill = backfill.len(), "connected for the first time");
            let fresh = SourceRow {
                channel: self.source.channel.to_string(),
                since: if row.channel.is_empty() { now } else { row.since },
                connected_at: Some(now),
                validity: folder.validity,
                baseline: last,
                cursor: last,
                backfill,
                ..row
            };
            return self.keep(fresh, Vec::new()).await;
        }
        self.recognise(mailbox, folder, row).await
    }

    /// Writes the row, and rows of the ledger with it.
    pub async fn keep(&self, row: SourceRow, ledger: Vec<LedgerRow>) -> Result<SourceRow, Trouble> {
        let channel = self.source.channel.clone();
        let written = self.blocking(move |store| {
            store.step(|step| {
                step.ledger(&channel, &ledger)?;
                // What a person wants may have changed meanwhile, and is theirs to say.
                let current = step.source(&channel)?.unwrap_or_else(|| row.clone());
                let row = SourceRow { wanted: current.wanted, since: current.since, ..row };
                step.put_source(&channel, &row)?;
                Ok::<_, crate::store::StoreError>(row)
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

    /// The server has numbered all mails anew: those that we know get rows under their new numbers, so that only what
    /// is really new is imported.
    async fn recognise(&self, mailbox: &mut Mailbox, folder: Folder, row: SourceRow) -> Result<SourceRow, Trouble> {
        tracing::warn!(
            channel = %self.source.channel, old = row.validity, new = folder.validity,
            "UIDVALIDITY has changed: mail is recognised by its Message-ID"
        );
        self.filing_done().await?;
        let listed = mailbox.list(1, None).await?;
        let mut rows = Vec::new();
        for chunk in listed.chunks(CHUNK) {
            let uids: Vec<u32> = chunk.iter().map(|mail| mail.uid).collect();
            let ids = mailbox.message_ids(&uids).await?;
            let channel = self.source.channel.clone();
            let known = self.blocking(move |store| {
                let mut known = Vec::new();
                for (uid, field) in ids {
                    let Some(id) = message_id(&field) else { continue };
                    if store.find_message(&id)?.iter().any(|entry| entry.channel == channel.to_string()) {
                        known.push(uid);
                    }
                }
                Ok(known)
            });
            let known = known.await?;
            rows.extend(chunk.iter().filter(|mail| is_known(mail, &known, &row)).map(|mail| LedgerRow {
                uid: mail.uid,
                validity: folder.validity,
                state: LedgerState::Known,
                reason: None,
                mail: None,
                at: self.pull.clock.now(),
                labelled: true,
                label_refused: false,
                rejected_before: false,
            }));
        }
        let fresh = listed.len() - rows.len();
        tracing::info!(channel = %self.source.channel, known = rows.len(), new = fresh, "mail was recognised");
        self.pull.metrics.pulled(&self.source.channel.to_string(), "known", rows.len() as u64);
        let row = SourceRow {
            validity: folder.validity,
            baseline: 0,
            cursor: 0,
            backfill: Vec::new(),
            unfetchable: 0,
            ..row
        };
        self.keep(row, rows).await
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
            format!("{unfetchable} mails are not handed out by the server; each sweep tries them again, and the log names them")
        });
        let Warnings { labels, lease, unreadable } = self.warnings.clone();
        let labels_refused = labels.is_some();
        let unreadable = (unreadable > 0).then(|| {
            format!("{unreadable} lines of the server's listings cannot be read; their mails were asked for once more")
        });
        let warnings = [self.label_warning(session.labels), labels, lease, unfetchable, unreadable];
        self.pull.accounts.show(&self.source.channel, |connection| {
            connection.warnings = warnings.into_iter().flatten().collect();
            connection.labels_refused = labels_refused;
        });
    }
}

/// Whether a mail was imported before, or was there before the mailbox was connected.
fn is_known(mail: &Listed, known: &[u32], row: &SourceRow) -> bool {
    // A server tells whole seconds: mail of the very second of the connection counts as later, for none may be lost.
    let before = row.connected_at.is_some_and(|at| mail.arrived.as_second() < at.as_second());
    mail.labelled || known.contains(&mail.uid) || before
}

/// The Message-ID in a header section that has little else.
fn message_id(field: &[u8]) -> Option<String> {
    let section = HeaderSection::read(field, 64 << 10).ok()?;
    let value = section.values("Message-ID").next()?;
    let id = value.trim().trim_start_matches('<').trim_end_matches('>').trim();
    (!id.is_empty()).then(|| id.to_owned())
}
