//! Whose mailbox a channel's ledger is about. A channel may get another account, server or folder; the uids there name
//! other mails, whatever UIDVALIDITY says: Gmail and Zimbra have the same one in every account.
//!
//! Another mailbox is connected for the first time, with numbers of its own in the ledger. One that the channel had
//! before goes on where it stopped, and one that only goes by another name is recognised by its mails.

use crate::pull::Source;
use crate::pull::account::{Task, Trouble};
use crate::pull::config::SourceConfig;
use crate::pull::imap::{Folder, Labels, Mailbox};
use crate::pull::recognise::message_id;
use crate::store::rows::{FormerRow, LedgerRow, SourceRow};

/// How many earlier mailboxes are remembered, and how long their names may be together, so that the row stays small.
const FORMER: usize = 4;
const NAMES: usize = 800;
/// Among how many uids before the cursor mails are looked for by which a mailbox is recognised, and how many of them.
const SPAN: u32 = 10_000;
const WITNESSES: usize = 20;

impl Source {
    /// Whose mailbox it is.
    pub fn mailbox(&self) -> String {
        self.config.mailbox(&self.user())
    }
}

impl SourceConfig {
    /// The mailbox of a user, as `user@host/folder`. Names of users and servers do not depend on case; INBOX neither.
    pub fn mailbox(&self, user: &str) -> String {
        let host = self.host().unwrap_or_default();
        let folder = if self.is_inbox() { "INBOX" } else { &self.folder };
        format!("{}@{}/{folder}", user.to_lowercase(), host.to_lowercase())
    }
}

impl Task {
    /// The row of the mailbox that the configuration names; another mailbox than before gets its own, and is told of.
    pub async fn identify(
        &mut self,
        mailbox: &mut Mailbox,
        folder: Folder,
        row: SourceRow,
    ) -> Result<SourceRow, Trouble> {
        let name = self.source.mailbox();
        if row.mailbox == name {
            return Ok(row);
        }
        if row.mailbox.is_empty() {
            return Ok(SourceRow { mailbox: name, ..row });
        }
        self.filing_done().await?;
        self.forget_uids();
        let old = row.mailbox.clone();
        let (row, said) = if self.is_same(mailbox, folder, &row).await? {
            (SourceRow { mailbox: name.clone(), ..row }, format!("the mailbox {old} goes by the name {name} now"))
        } else {
            let row = instead(row, name.clone());
            let what = if row.validity == 0 {
                "connected for the first time: only mail that comes from now on is imported, or import_recent"
            } else {
                "one that this channel had before, and goes on where it stopped"
            };
            (row, format!("the mailbox is {name} and no longer {old}; it is {what}"))
        };
        tracing::warn!(channel = %self.source.channel, said, "the mailbox of a channel has changed");
        self.warnings.mailbox = Some(said.clone());
        let (channel, now, kept) = (self.source.channel.clone(), self.pull.clock.now(), row.clone());
        let written = self.blocking(move |store| {
            store.step(|step| {
                let row = step.merge_source(&channel, kept)?;
                step.connection_event(&channel, "connection_changed", &said, None, now)?;
                Ok::<_, crate::store::StoreError>(row)
            })
        });
        Ok(written.await?)
    }

    /// What is known by uid in memory is about other mails now.
    pub fn forget_uids(&mut self) {
        self.tries.clear();
        self.label_tries.clear();
        self.tried_again = 0;
    }

    /// Whether a folder has the same mails under the same uids as the one before: the latest that were imported say so.
    async fn is_same(&self, mailbox: &mut Mailbox, folder: Folder, row: &SourceRow) -> Result<bool, Trouble> {
        if folder.validity != row.validity || folder.next <= row.cursor || folder.exists == 0 {
            return Ok(false);
        }
        let (channel, validity, cursor) = (self.source.channel.clone(), row.ledger_validity(), row.cursor);
        let witnesses = self.blocking(move |store| {
            let rows = store.ledger(&channel, validity, cursor.saturating_sub(SPAN)..=u32::MAX, usize::MAX)?;
            let mut witnesses = Vec::new();
            for LedgerRow { uid, mail, .. } in rows.into_iter().rev() {
                let Some(id) = mail else { continue };
                let known = store.entry(&id)?.and_then(|entry| entry.message_id);
                witnesses.extend(known.map(|known| (uid, known)));
                if witnesses.len() == WITNESSES {
                    break;
                }
            }
            Ok(witnesses)
        });
        let mut witnesses = witnesses.await?;
        if witnesses.is_empty() {
            return Ok(false);
        }
        witnesses.sort_unstable();
        let uids: Vec<u32> = witnesses.iter().map(|(uid, _)| *uid).collect();
        let found = mailbox.message_ids(&uids).await?;
        let of = |uid: u32| found.iter().find(|(theirs, _)| *theirs == uid).and_then(|(_, field)| message_id(field));
        // One that was moved away says nothing.
        let mut there = witnesses.iter().filter_map(|(uid, known)| of(*uid).map(|id| id == *known)).peekable();
        Ok(there.peek().is_some() && there.all(|same| same))
    }

    /// A gateway that stands by notes where the mailbox begins for it: what comes between the end of the other and its
    /// own beginning is imported by nobody else.
    pub async fn stand_by(&mut self, mailbox: &mut Mailbox) -> Result<(), Trouble> {
        let channel = self.source.channel.clone();
        let row = self.blocking(move |store| store.source(&channel)).await?.unwrap_or_default();
        if row.validity != 0 && (row.mailbox.is_empty() || row.mailbox == self.source.mailbox()) {
            return Ok(());
        }
        let folder = mailbox.select(&self.source.config.folder).await?;
        let row = self.settle(mailbox, folder).await?;
        // What the other imports from before its connection shows only in its labels.
        if !row.backfill.is_empty() && (folder.labels == Labels::None || !self.source.config.label) {
            self.keep(SourceRow { backfill: Vec::new(), ..row }, Vec::new()).await?;
        }
        Ok(())
    }
}

/// The row of a channel whose mailbox is another one now.
fn instead(row: SourceRow, mailbox: String) -> SourceRow {
    let mut former = row.former;
    let back = former.iter().position(|one| one.mailbox == mailbox).map(|at| former.remove(at)).unwrap_or_default();
    if row.validity != 0 {
        former.push(FormerRow {
            mailbox: row.mailbox,
            connected_at: row.connected_at,
            validity: row.validity,
            ledger: row.ledger,
            before: row.before,
            newest_before: row.newest_before,
            baseline: row.baseline,
            cursor: row.cursor,
        });
    }
    let names = |former: &[FormerRow]| former.iter().map(|one| one.mailbox.len()).sum::<usize>() + mailbox.len();
    while former.len() > FORMER || (names(&former) > NAMES && !former.is_empty()) {
        former.remove(0);
    }
    SourceRow {
        channel: row.channel,
        wanted: row.wanted,
        since: row.since,
        connected_at: back.connected_at,
        validity: back.validity,
        ledger: back.ledger,
        before: back.before,
        newest_before: back.newest_before,
        baseline: back.baseline,
        cursor: back.cursor,
        read_elsewhere: row.read_elsewhere,
        gone: row.gone,
        vanished: row.vanished,
        recent: row.recent,
        mailbox,
        former,
        ..SourceRow::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_mailboxes_are_remembered_and_the_row_stays_small() {
        let first =
            SourceRow { channel: "c".into(), mailbox: "a".into(), validity: 1, cursor: 5, ..SourceRow::default() };
        let other = instead(first, "b".into());
        assert_eq!((other.mailbox.as_str(), other.validity, other.cursor), ("b", 0, 0));
        // Before it was opened there is nothing to remember of it.
        let back = instead(other, "a".into());
        assert_eq!((back.mailbox.as_str(), back.validity, back.cursor, back.former.len()), ("a", 1, 5, 0));
        let mut row = back;
        for n in 0..20 {
            let next = SourceRow { validity: 2, backfill: (0..50).map(|n| u32::MAX - n).collect(), ..row };
            row = instead(next, format!("{n}{}", "x".repeat(150)));
            row.recent = (0..61).map(|n| (1_795_000_000 + n, 25)).collect();
            row.backfill = (0..50).map(|n| u32::MAX - n).collect();
            let size = serde_json::to_vec(&row).unwrap().len();
            assert!(size < 4096 && row.former.len() <= FORMER, "{size}");
        }
        assert_eq!(row.former.len(), FORMER);
    }
}
