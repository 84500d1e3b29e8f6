//! Mail that leaves, as readers want it: the outbox, its recipients, what is owed, and what keeps mail from leaving.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::index::Order;
use super::outgoing::{OutboxFilter, QuotaPages};
use super::rows::{
    AcknowledgementRow, BrakeRow, IdempotencyRow, OutboxRow, OutboxState, RecipientRow, ReportRow, SuppressionRow,
};
use super::step::parse;
use super::{Inner, Store, keys};
use crate::mail::Address;

/// The most rows that one reading gives.
const MOST: usize = 10_000;
/// The most rows that one list gives, and that are looked at for it.
const LIST: usize = 1_000;
const LOOKED: usize = 100_000;

impl Store {
    /// The outbox row of the entry with this `seq`.
    pub fn outbox_row(&self, seq: u64) -> Result<Option<OutboxRow>, StoreError> {
        self.0.outbox_row(seq)
    }

    /// The recipients of a mail that leaves, from the number `from` on; at most 10,000.
    pub fn recipients(&self, seq: u64, from: u32, limit: usize) -> Result<Vec<RecipientRow>, StoreError> {
        self.0.recipients(seq, from, limit)
    }

    /// Tickets that are owed an acknowledgement, the oldest first.
    pub fn acknowledgements(&self, limit: usize) -> Result<Vec<AcknowledgementRow>, StoreError> {
        self.0.all(&[keys::ACKNOWLEDGE], limit)
    }

    /// What senders of mail are owed word of, by mail and by report; at most 10,000. The last report may be cut.
    pub fn reports(&self, limit: usize) -> Result<Vec<ReportRow>, StoreError> {
        self.0.all(&[keys::REPORTS], limit)
    }

    /// What was handed in under an idempotency key, once it is filed.
    pub fn ordered(&self, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.0.ordered(key)
    }

    /// Mails of the outbox, the newest first; at most 1,000.
    pub fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError> {
        self.0.outbox(filter)
    }

    /// Mails that wait or are held, in the order of `seq`, after one; at most 10,000.
    pub fn undone(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.0.undone(after, limit)
    }

    /// The `seq` of mails of the outbox that are new, or that people have changed, since this was last asked.
    pub fn outbox_news(&self) -> BTreeSet<u64> {
        self.0.outbox_news()
    }

    /// Brakes that have tripped; at most 10,000.
    pub fn brakes(&self, limit: usize) -> Result<Vec<BrakeRow>, StoreError> {
        self.0.all(&[keys::BRAKES, b't'], limit)
    }

    /// Addresses that mail is not sent to, or all that have failed; at most 10,000.
    pub fn suppressions(&self, every: Every, limit: usize) -> Result<Vec<SuppressionRow>, StoreError> {
        let rows: Vec<SuppressionRow> = self.0.all(&[keys::SUPPRESSED], limit)?;
        Ok(rows.into_iter().filter(|row| every == Every::Failure || row.suppressed).collect())
    }

    /// Why nothing is sent to an address, if it has failed too often or complained.
    pub fn suppressed(&self, address: &Address) -> Result<Option<SuppressionRow>, StoreError> {
        self.0.suppressed(address)
    }

    /// The pages of an account's quota windows.
    pub fn quota(&self, account: &str) -> Result<QuotaPages, StoreError> {
        self.0.quota(account)
    }

    /// A number that stands for a text in this data directory, and from which nobody gets the text back.
    pub fn private_hash(&self, text: &str) -> u64 {
        self.0.private_hash(text)
    }
}

impl Inner {
    pub fn outbox_row(&self, seq: u64) -> Result<Option<OutboxRow>, StoreError> {
        self.index.get(&keys::outbox(seq))?.map(|value| parse(&value)).transpose()
    }

    /// The recipients of a mail in their order, from the number `from` on.
    pub fn recipients(&self, seq: u64, from: u32, limit: usize) -> Result<Vec<RecipientRow>, StoreError> {
        let mut end = keys::numbered(keys::RECIPIENTS, seq);
        end.extend_from_slice(&[u8::MAX; 5]);
        let limit = limit.min(MOST);
        let mut rows = Vec::new();
        if limit > 0 {
            self.index.walk(&keys::recipient(seq, from), &end, Order::Up, |_, value| {
                rows.push(parse(value)?);
                Ok(rows.len() < limit)
            })?;
        }
        Ok(rows)
    }

    /// Mails of the outbox, the newest first.
    pub fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError> {
        let limit = filter.limit.min(LIST);
        let (mut rows, mut looked) = (Vec::new(), 0);
        if limit == 0 {
            return Ok(rows);
        }
        let fits = |row: &OutboxRow| {
            filter.state.is_none_or(|state| state == row.state)
                && filter.ticket.is_none_or(|ticket| row.ticket == Some(ticket))
                && filter.class.is_none_or(|class| class == row.class)
                && filter.channel.as_ref().is_none_or(|channel| channel.eq_ignore_ascii_case(&row.channel))
        };
        // What is not done has an index of its own, so that years of delivered mail need not be walked.
        let open = matches!(filter.state, Some(OutboxState::Waiting | OutboxState::Held));
        let prefix = if open { keys::UNDONE } else { keys::OUTBOX };
        let to = keys::numbered(prefix, filter.before.unwrap_or(u64::MAX));
        self.index.walk(&keys::numbered(prefix, 0), &to, Order::Down, |key, value| {
            looked += 1;
            let row = if open { self.outbox_row(keys::number_in(key, 0))? } else { Some(parse(value)?) };
            rows.extend(row.filter(|row| fits(row)));
            Ok(rows.len() < limit && looked < LOOKED)
        })?;
        Ok(rows)
    }

    /// Rows of mail that waits or is held, in the order of `seq`, after one.
    pub fn undone(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let limit = limit.min(MOST);
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        let (from, to) = (keys::undone(after.saturating_add(1)), keys::undone(u64::MAX));
        self.index.walk(&from, &to, Order::Up, |key, _| {
            rows.extend(self.outbox_row(keys::number_in(key, 0))?);
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    /// The mails of the outbox that are new, or that people have changed, since this was last asked.
    pub fn outbox_news(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.shared.outgoing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was handed in under an idempotency key, once it is filed.
    pub fn ordered(&self, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.index.get(&keys::order(key))?.map(|value| parse(&value)).transpose()
    }

    /// Why nothing is sent to an address, if it has failed too often or complained.
    pub fn suppressed(&self, address: &Address) -> Result<Option<SuppressionRow>, StoreError> {
        let value = self.index.get(&keys::suppressed(&address.to_string()))?;
        let row: Option<SuppressionRow> = value.map(|value| parse(&value)).transpose()?;
        Ok(row.filter(|row| row.suppressed))
    }

    /// The pages of an account's quota windows.
    pub fn quota(&self, account: &str) -> Result<QuotaPages, StoreError> {
        let prefix = keys::quota(account, &[]);
        let mut pages = Vec::new();
        self.index.walk_prefix(&prefix, |key, value| {
            pages.push((key[prefix.len()..].to_vec(), value.to_vec()));
            Ok(true)
        })?;
        Ok(pages)
    }

    /// A number that stands for a text in this data directory, and from which nobody gets the text back.
    pub fn private_hash(&self, text: &str) -> u64 {
        let salt = self.segments.salt.to_le_bytes();
        let digest = Sha256::new().chain_update("private").chain_update(salt).chain_update(text).finalize();
        let mut short = [0u8; 8];
        short.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(short)
    }

    fn all<T: DeserializeOwned>(&self, prefix: &[u8], limit: usize) -> Result<Vec<T>, StoreError> {
        let limit = limit.min(MOST);
        let mut rows = Vec::new();
        if limit > 0 {
            self.index.walk_prefix(prefix, |_, value| {
                rows.push(parse(value)?);
                Ok(rows.len() < limit)
            })?;
        }
        Ok(rows)
    }
}

/// Which rows of the suppression list are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Those that mail is not sent to.
    Suppressed,
    /// Every address that has failed.
    Failure,
}

/// Faults of the outbox: rows without their entry, counts that are wrong, mail that waits and is not listed.
pub(super) fn faults(store: &Inner, mut tell: impl FnMut(String)) -> Result<(), StoreError> {
    store.index.walk_prefix(&[keys::OUTBOX], |_, value| {
        let row: OutboxRow = parse(value)?;
        let id = &row.id;
        if store.entry_at(row.seq)?.is_none_or(|entry| entry.id != row.id) {
            tell(format!("mail {id} is in the outbox and has no entry"));
        }
        let (mut count, mut open, mut braked) = (0, 0, 0);
        store.index.walk_prefix(&keys::numbered(keys::RECIPIENTS, row.seq), |_, value| {
            let recipient: RecipientRow = parse(value)?;
            count += 1;
            open += u32::from(recipient.state.waits());
            braked += u32::from(recipient.brake.is_some());
            Ok(true)
        })?;
        if (count, open, braked) != (row.recipients, row.open, row.braked) {
            let said = (row.recipients, row.open, row.braked);
            tell(format!("mail {id} has {:?} recipients, open, braked; its row says {said:?}", (count, open, braked)));
        }
        let undone = matches!(row.state, OutboxState::Waiting | OutboxState::Held);
        if undone != store.index.get(&keys::undone(row.seq))?.is_some() {
            tell(format!("mail {id} is {} and the list of what is not done says otherwise", row.state.as_str()));
        }
        Ok(true)
    })?;
    store.index.walk_prefix(&[keys::REPORTS], |_, value| {
        let report: ReportRow = parse(value)?;
        if store.outbox_row(report.seq)?.is_none() {
            tell(format!("a report is owed about the mail of entry {}, which is not in the outbox", report.seq));
        }
        Ok(true)
    })?;
    store.index.walk_prefix(&[keys::UNDONE], |key, _| {
        let seq = keys::number_in(key, 0);
        if store.outbox_row(seq)?.is_none() {
            tell(format!("the mail of entry {seq} is to be sent and has no row"));
        }
        Ok(true)
    })
}
