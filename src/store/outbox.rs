//! Mail that leaves, as readers want it: the outbox, its recipients, and what is owed or was ordered.

use super::error::StoreError;
use super::rows::{AcknowledgementRow, IdempotencyRow, OutboxRow, RecipientRow};
use super::step::parse;
use super::{Inner, keys};

/// The most rows that one reading gives.
const MOST: usize = 10_000;

impl Inner {
    pub fn outbox_row(&self, seq: u64) -> Result<Option<OutboxRow>, StoreError> {
        self.index.get(&keys::numbered(keys::OUTBOX, seq))?.map(|value| parse(&value)).transpose()
    }

    /// The recipients of a mail in their order, from the number `from` on.
    pub fn recipients(&self, seq: u64, from: u32, limit: usize) -> Result<Vec<RecipientRow>, StoreError> {
        let limit = limit.min(MOST);
        let mut rows: Vec<RecipientRow> = Vec::new();
        self.index.walk_prefix(&keys::numbered(keys::RECIPIENTS, seq), |key, value| {
            if keys::recipient_in(key) >= from {
                rows.push(parse(value)?);
            }
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    /// Tickets that are owed an acknowledgement, the oldest first.
    pub fn acknowledgements(&self, limit: usize) -> Result<Vec<AcknowledgementRow>, StoreError> {
        let limit = limit.min(MOST);
        let mut rows = Vec::new();
        self.index.walk_prefix(&[keys::ACKNOWLEDGE], |_, value| {
            rows.push(parse(value)?);
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    /// What was handed in under an idempotency key, once it is filed.
    pub fn ordered(&self, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.index.get(&keys::order(key))?.map(|value| parse(&value)).transpose()
    }
}
