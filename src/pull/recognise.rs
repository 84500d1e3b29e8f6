//! A folder whose mails have got other numbers (UIDVALIDITY changed): which of them are known already.
//!
//! Known is what carries our label, what was imported by its Message-ID and size, and what was there before the
//! connection. The rest is left to the look: a mail that it fetches for the second time is filed as a duplicate, and one
//! that nobody fetches is lost. Must not know: how rows are written.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::mail::headers::HeaderSection;
use crate::mail::origin::OriginKind;
use crate::pull::account::{Task, Trouble};
use crate::pull::imap::{Folder, Listed, Mailbox};
use crate::store::rows::{EntryRow, LedgerRow, SourceRow};
use crate::store::{Store, StoreError};

/// How many mails are looked up at once.
const CHUNK: usize = 250;
/// How many rows are written in one commit, while which no other mailbox writes.
const COMMIT: usize = 1000;

/// A mail of the listing, with what is known of its Message-ID.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    mail: &'a Listed,
    /// Its place in the folder.
    index: usize,
    /// What was filed in this channel under its Message-ID.
    entries: &'a [EntryRow],
}

/// What is known of the folder as a whole.
#[derive(Clone, Debug, Default)]
struct Known {
    connected_at: Option<Timestamp>,
    /// The most mails that can be from before the connection, and when the newest of them had arrived (in seconds).
    before: Option<u32>,
    newest_before: Option<i64>,
    /// A mail from after the connection was met: what follows is from after it too, because servers keep the order.
    passed: bool,
}

impl Known {
    fn of(row: &SourceRow) -> Self {
        // A server tells whole seconds: without its own word, mail of the very second of the connection is later.
        let newest = row.newest_before.or(row.connected_at.map(|at| at - std::time::Duration::from_secs(1)));
        Self {
            connected_at: row.connected_at,
            before: row.before,
            newest_before: newest.map(Timestamp::as_second),
            passed: false,
        }
    }

    /// Whether a mail is known; candidates come in their order.
    fn has(&mut self, candidate: Candidate<'_>) -> bool {
        let Candidate { mail, index, entries } = candidate;
        // By the Message-ID alone, another mail might be taken for it: some machines use one again and again.
        let same = entries.iter().any(|entry| mail.seen || mail.size == Some(entry.size));
        self.passed |= entries.iter().any(|entry| self.is_after(entry));
        mail.labelled || same || self.is_before(mail, index)
    }

    /// Whether an entry was pulled from this mailbox after it was connected.
    fn is_after(&self, entry: &EntryRow) -> bool {
        let pulled = entry.door == OriginKind::Imap.as_str() && !entry.backfill;
        pulled && self.connected_at.is_some_and(|at| entry.received_at >= at)
    }

    /// Whether a mail was there before the connection. The server's times are compared with each other and not with our
    /// clock, and do not count by themselves for unread mail: what is moved here keeps the time of its old place.
    fn is_before(&self, mail: &Listed, index: usize) -> bool {
        let early = mail.arrived.zip(self.newest_before).is_some_and(|(at, newest)| at.as_second() <= newest);
        let possible = self.before.is_none_or(|before| index < before as usize) && !self.passed;
        early && (mail.seen || possible)
    }
}

impl Task {
    /// The server has numbered all mails anew: those that we know get rows under their new numbers, so that only what
    /// is really new is imported.
    pub async fn recognise(
        &mut self,
        mailbox: &mut Mailbox,
        folder: Folder,
        row: SourceRow,
    ) -> Result<SourceRow, Trouble> {
        tracing::warn!(
            channel = %self.source.channel, old = row.validity, new = folder.validity,
            "UIDVALIDITY has changed: mail is recognised by its Message-ID and size"
        );
        self.filing_done().await?;
        self.forget_uids();
        let row = self.begin_renumbering(folder, row).await?;
        let number = row.renumbering.map_or(folder.validity, |(_, number)| number);
        let listed = mailbox.list(1, None).await?;
        let (mut known, mut owed) = (Known::of(&row), self.owed().await?);
        let (mut rows, mut count) = (Vec::new(), 0);
        for (at, chunk) in listed.chunks(CHUNK).enumerate() {
            self.renew_lease_in(mailbox, folder.validity).await?;
            let uids: Vec<u32> = chunk.iter().map(|mail| mail.uid).collect();
            let ids = mailbox.message_ids(&uids).await?;
            let channel = self.source.channel.to_string();
            let entries = self.blocking(move |store| filed(store, &channel, ids)).await?;
            for (index, mail) in chunk.iter().enumerate() {
                let entries = entries.get(&mail.uid).map_or(&[][..], Vec::as_slice);
                if known.has(Candidate { mail, index: at * CHUNK + index, entries }) {
                    let old = entries.iter().find_map(|entry| owed.remove(&entry.id));
                    rows.push(self.known_row(number, mail.uid, old));
                    count += 1;
                }
            }
            if rows.len() >= COMMIT {
                self.keep(row.clone(), std::mem::take(&mut rows)).await?;
            }
        }
        tracing::info!(channel = %self.source.channel, known = count, new = listed.len() - count, "mail was recognised");
        self.pull.metrics.pulled(&self.source.channel.to_string(), "known", count as u64);
        let row = SourceRow {
            validity: folder.validity,
            ledger: if number == folder.validity { 0 } else { number },
            renumbering: None,
            baseline: 0,
            cursor: 0,
            // What went before the mails were numbered anew was counted under the old numbers.
            counted_to: folder.next.saturating_sub(1),
            backfill: Vec::new(),
            unfetchable: 0,
            ..row
        };
        self.keep(row, rows).await
    }

    /// Notes under which number the rows go, so that one that breaks off goes on with the same.
    async fn begin_renumbering(&self, folder: Folder, row: SourceRow) -> Result<SourceRow, Trouble> {
        if row.renumbering.is_some_and(|(validity, _)| validity == folder.validity) {
            return Ok(row);
        }
        let (channel, validity) = (self.source.channel.clone(), folder.validity);
        let number = self.blocking(move |store| store.free_validity(&channel, validity)).await?;
        self.keep(SourceRow { renumbering: Some((validity, number)), ..row }, Vec::new()).await
    }

    /// Rows of mails that still have to be labelled, by the ids of their entries.
    async fn owed(&self) -> Result<HashMap<String, LedgerRow>, Trouble> {
        let channel = self.source.channel.clone();
        let rows = self.blocking(move |store| {
            let mut owed = HashMap::new();
            for intent in store.intents(&channel, usize::MAX)? {
                for row in store.ledger_rows(&channel, intent.validity, &[intent.uid])? {
                    owed.extend(row.mail.clone().map(|mail| (mail, row)));
                }
            }
            Ok(owed)
        });
        Ok(rows.await?)
    }

    /// The row of a mail that is known; its label is owed under its new number if it was owed under the old one.
    fn known_row(&self, validity: u32, uid: u32, old: Option<LedgerRow>) -> LedgerRow {
        match old {
            Some(old) => LedgerRow { uid, validity, labelled: false, label_refused: false, ..old },
            None => self.known(validity, uid),
        }
    }
}

/// What was filed in a channel under the Message-IDs of these mails.
fn filed(store: &Store, channel: &str, ids: Vec<(u32, Vec<u8>)>) -> Result<HashMap<u32, Vec<EntryRow>>, StoreError> {
    let mut found = HashMap::new();
    for (uid, field) in ids {
        let Some(id) = message_id(&field) else { continue };
        let mut entries = store.find_message(&id)?;
        entries.retain(|entry| entry.channel == channel);
        found.insert(uid, entries);
    }
    Ok(found)
}

/// The Message-ID in a header section that has little else.
pub fn message_id(field: &[u8]) -> Option<String> {
    let section = HeaderSection::read(field, 64 << 10).ok()?;
    let value = section.values("Message-ID").next()?;
    let id = value.trim().trim_start_matches('<').trim_end_matches('>').trim();
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    #[test]
    fn only_what_was_there_before_the_connection_is_from_before_it() {
        let row = SourceRow {
            connected_at: Some(at(3600)),
            before: Some(3),
            newest_before: Some(at(0)),
            ..SourceRow::default()
        };
        let older_store = SourceRow { before: None, newest_before: None, ..row.clone() };
        let unread = |arrived| Listed { uid: 9, size: None, seen: false, labelled: false, arrived };
        let read = |arrived| Listed { seen: true, ..unread(arrived) };
        let table = [
            // The gateway's clock was an hour ahead of the server's when the mailbox was connected.
            (&row, false, unread(Some(at(0))), 2, true),
            (&row, false, unread(Some(at(1))), 2, false),
            (&row, false, read(Some(at(1))), 2, false),
            // There were not so many, or one from after the connection stands before it: it was moved here.
            (&row, false, unread(Some(at(-90))), 3, false),
            (&row, true, unread(Some(at(-90))), 2, false),
            (&row, true, read(Some(at(-90))), 9, true),
            // Nobody knows when it came.
            (&row, false, unread(None), 0, false),
            (&row, false, read(None), 0, false),
            (&older_store, false, unread(Some(at(3599))), 7, true),
            (&older_store, false, unread(Some(at(3600))), 7, false),
            (&older_store, true, unread(Some(at(3599))), 7, false),
        ];
        for (row, passed, mail, index, want) in table {
            let known = Known { passed, ..Known::of(row) };
            assert_eq!(known.is_before(&mail, index), want, "{mail:?} {index} {passed}");
        }
    }
}
