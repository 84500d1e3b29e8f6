//! The ledger: what became of every mail that was ever seen in a mailbox, and which labels are still owed there.
//!
//! A pulled mail's record in the log names its remote message, so the record *is* the ledger row until the mail is
//! filed; the commit that files it writes the row into the index, together with the intent to label it. Between the
//! two, a set in memory stands for the row; it is filled anew from the log's tail at each start.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::PoisonError;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::index::Order;
use super::rows::{Intent, LedgerRow, LedgerState};
use super::step::{Step, json, parse};
use super::{Inner, Store, keys};
use crate::mail::origin::RemoteMessage;
use crate::mail::{Address, MailId};

/// The most rows that one reading gives.
const MOST: usize = 10_000;

/// Where a row of the ledger stands: the channel's short hash, UIDVALIDITY, UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerKey {
    channel: [u8; 8],
    pub validity: u32,
    pub uid: u32,
}

impl LedgerKey {
    pub fn new(channel: &Address, validity: u32, uid: u32) -> Self {
        let digest = Sha256::digest(channel.key());
        let mut short = [0u8; 8];
        short.copy_from_slice(&digest[..8]);
        Self { channel: short, validity, uid }
    }

    /// Where the row of a pulled mail stands.
    pub fn of(remote: &RemoteMessage) -> Self {
        Self::new(&remote.channel, remote.validity, remote.uid)
    }

    /// The key under a prefix of the index.
    fn under(self, prefix: u8) -> Vec<u8> {
        [&[prefix][..], &self.channel, &self.validity.to_be_bytes(), &self.uid.to_be_bytes()].concat()
    }

    /// Validity and uid of a key of the index.
    fn numbers(key: &[u8]) -> (u32, u32) {
        let word = |at: usize| key.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        (word(9), word(13))
    }
}

/// A mail that stands in the log and is not filed yet.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub mail: MailId,
    pub at: Timestamp,
}

/// All of them, in order.
pub type PendingSet = BTreeMap<LedgerKey, Pending>;

impl Inner {
    /// Rows of the ledger in the order of their uids, those of mails that are not filed yet among them.
    pub fn ledger(
        &self,
        channel: &Address,
        validity: u32,
        uids: RangeInclusive<u32>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        let limit = limit.min(MOST);
        let (first, last) =
            (LedgerKey::new(channel, validity, *uids.start()), LedgerKey::new(channel, validity, *uids.end()));
        let mut rows: BTreeMap<u32, LedgerRow> = BTreeMap::new();
        // What waits is looked at before the index: a commit puts a row into the index before it leaves the set.
        for (key, pending) in self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).range(first..=last) {
            rows.insert(key.uid, pending_row(*key, *pending));
        }
        let mut end = last.under(keys::LEDGER);
        end.push(0);
        let mut taken = 0;
        self.index.walk(&first.under(keys::LEDGER), &end, Order::Up, |_, value| {
            let row: LedgerRow = parse(value)?;
            if !row.state.is_open() || !rows.contains_key(&row.uid) {
                rows.insert(row.uid, row);
            }
            taken += 1;
            Ok(taken < limit)
        })?;
        Ok(rows.into_values().take(limit).collect())
    }

    /// The rows of these uids, in order; a uid without a row brings none.
    pub fn ledger_rows(&self, channel: &Address, validity: u32, uids: &[u32]) -> Result<Vec<LedgerRow>, StoreError> {
        let mut rows = Vec::new();
        for uid in uids {
            let key = LedgerKey::new(channel, validity, *uid);
            let pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
            let row: Option<LedgerRow> =
                self.index.get(&key.under(keys::LEDGER))?.map(|value| parse(&value)).transpose()?;
            // A mail that had to wait has a row, which its acceptance overrules until it is filed.
            let overruled = row.as_ref().is_none_or(|row| row.state.is_open());
            rows.extend(pending.filter(|_| overruled).map(|pending| pending_row(key, pending)).or(row));
        }
        Ok(rows)
    }

    /// How many mails of a channel's mailbox stand in the log and are not filed.
    pub fn unfiled(&self, channel: &Address) -> usize {
        let (first, last) = (LedgerKey::new(channel, 0, 0), LedgerKey::new(channel, u32::MAX, u32::MAX));
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).range(first..=last).count()
    }

    /// Labels that are still owed on the server, in the order of validity and uid.
    pub fn intents(&self, channel: &Address, limit: usize) -> Result<Vec<Intent>, StoreError> {
        let prefix = [&[keys::INTENTS][..], &LedgerKey::new(channel, 0, 0).channel].concat();
        let limit = limit.min(MOST);
        let mut intents = Vec::new();
        self.index.walk_prefix(&prefix, |key, _| {
            let (validity, uid) = LedgerKey::numbers(key);
            let row = self.index.get(&LedgerKey::new(channel, validity, uid).under(keys::LEDGER))?;
            let row: Option<LedgerRow> = row.map(|value| parse(&value)).transpose()?;
            let rejected = row.as_ref().is_some_and(|row| row.state == LedgerState::Rejected);
            let cleared = row.as_ref().is_some_and(|row| row.rejected_before);
            intents.push(Intent { validity, uid, rejected, cleared, mail: row.and_then(|row| row.mail) });
            Ok(intents.len() < limit)
        })?;
        Ok(intents)
    }

    /// How many rows of a channel are in each state, by the words of `LedgerState`.
    pub fn ledger_counts(&self, channel: &Address) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        let prefix = [&[keys::LEDGER][..], &LedgerKey::new(channel, 0, 0).channel].concat();
        let mut counts = BTreeMap::new();
        self.index.walk_prefix(&prefix, |_, value| {
            let row: LedgerRow = parse(value)?;
            *counts.entry(row.state.as_str()).or_insert(0) += 1;
            Ok(true)
        })?;
        Ok(counts)
    }
}

impl Store {
    /// A number that may stand for UIDVALIDITY in a channel's ledger: UIDVALIDITY itself, unless there are rows under it,
    /// which are about other mails.
    pub fn free_validity(&self, channel: &Address, validity: u32) -> Result<u32, StoreError> {
        for number in std::iter::once(validity).chain((1..=u32::MAX).rev()).take(MOST) {
            if self.0.ledger(channel, number, 0..=u32::MAX, 1)?.is_empty() {
                return Ok(number);
            }
        }
        Err(StoreError::Broken(format!("the ledger of {channel} has rows under {MOST} numbers of UIDVALIDITY")))
    }
}

fn pending_row(key: LedgerKey, pending: Pending) -> LedgerRow {
    let row = LedgerRow::new(key.validity, key.uid, LedgerState::Imported, pending.at);
    LedgerRow { mail: Some(pending.mail.to_string()), ..row }
}

impl Step<'_> {
    /// Writes rows of mails that were seen and not accepted. A row that a mail already has is left as it is, unless
    /// the mail was only waiting, or could not be fetched. A row with an entry, whose label is not set, owes it.
    pub fn ledger(&mut self, channel: &Address, rows: &[LedgerRow]) -> Result<(), StoreError> {
        for row in rows {
            let key = LedgerKey::new(channel, row.validity, row.uid);
            let old = self.ledger_row(key)?;
            let pending = self.store.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key);
            if !pending && old.is_none_or(|old| old.state.is_open()) {
                self.put(key.under(keys::LEDGER), json(row)?)?;
                if row.mail.is_some() && !row.labelled && !row.label_refused {
                    self.put(key.under(keys::INTENTS), Vec::new())?;
                }
            }
        }
        Ok(())
    }

    /// The labels of these mails stand on the server, or cannot be set there.
    pub fn labelled(&mut self, channel: &Address, mails: &[(u32, u32)]) -> Result<(), StoreError> {
        for (validity, uid) in mails {
            let key = LedgerKey::new(channel, *validity, *uid);
            if let Some(row) = self.ledger_row(key)? {
                let row = LedgerRow { labelled: true, label_refused: false, rejected_before: false, ..row };
                self.put(key.under(keys::LEDGER), json(&row)?)?;
            }
            self.delete(key.under(keys::INTENTS));
        }
        Ok(())
    }

    /// The server refuses to label this mail: it is not asked any more, and the ledger says so.
    pub fn label_refused(&mut self, channel: &Address, validity: u32, uid: u32) -> Result<(), StoreError> {
        let key = LedgerKey::new(channel, validity, uid);
        if let Some(row) = self.ledger_row(key)? {
            self.put(key.under(keys::LEDGER), json(&LedgerRow { label_refused: true, ..row })?)?;
        }
        self.delete(key.under(keys::INTENTS));
        Ok(())
    }

    /// A mail that was pulled is filed: its row, and the intent to label it, unless that was done before.
    pub(super) fn file_remote(&mut self, remote: &RemoteMessage, row: LedgerRow) -> Result<(), StoreError> {
        let key = LedgerKey::of(remote);
        let old = self.ledger_row(key)?;
        let rejected = |row: &LedgerRow| row.state == LedgerState::Rejected;
        // The label of a rejection may stand on the server, and has to go once the mail is imported after all.
        let before = old.as_ref().is_some_and(|old| rejected(old) || old.rejected_before) && !rejected(&row);
        // The label of an import covers nothing that was rejected, so that one is owed anew.
        let covered = |old: LedgerRow| old.mail.is_some() && old.labelled && rejected(&old) == rejected(&row);
        let labelled = !before && old.is_some_and(covered);
        if !labelled {
            self.put(key.under(keys::INTENTS), Vec::new())?;
        }
        let row = LedgerRow { labelled, rejected_before: before, ..row };
        self.put(key.under(keys::LEDGER), json(&row)?)
    }

    fn ledger_row(&self, key: LedgerKey) -> Result<Option<LedgerRow>, StoreError> {
        self.get(&key.under(keys::LEDGER))?.map(|value| parse(&value)).transpose()
    }
}

/// Faults of the ledger: an intent without its row, a row without its entry.
pub(super) fn faults(store: &Inner, mut tell: impl FnMut(String)) -> Result<(), StoreError> {
    store.index.walk_prefix(&[keys::INTENTS], |key, _| {
        let row = [&[keys::LEDGER][..], &key[1..]].concat();
        if store.index.get(&row)?.is_none() {
            tell(format!("a label is owed to uid {} of a mailbox, which has no row", LedgerKey::numbers(key).1));
        }
        Ok(true)
    })?;
    store.index.walk_prefix(&[keys::LEDGER], |_, value| {
        let row: LedgerRow = parse(value)?;
        if let Some(mail) = &row.mail
            && store.index.get(&keys::id(mail))?.is_none()
        {
            tell(format!("the ledger has uid {} as mail {mail}, which has no entry", row.uid));
        }
        Ok(true)
    })
}
