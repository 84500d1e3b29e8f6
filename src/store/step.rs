//! A step: changes that are gathered, written to the log as one record, then applied to the index.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::log::AppendError;
use super::overlay::{MAX_VALUE, Overlay};
use super::record::{Draft, Kind};
use super::rows::{EntryRow, EventRow, Position, TicketRow};
use super::{Inner, index, keys};

/// One change of the index in the making; sees its own changes.
#[derive(Debug)]
pub struct Step<'a> {
    pub(super) store: &'a Inner,
    overlay: Overlay,
    /// How many records of the spool are filed in this step, and which were filed before.
    filed: usize,
    again: Vec<Position>,
    /// A fault that makes the whole step fail at its end.
    fault: Option<StoreError>,
    /// What `Progress::retries` changes by.
    pub(super) retries: i64,
    /// Mails of the outbox that are new or that people have changed.
    pub(super) outgoing: Vec<u64>,
}

/// What only one step at a time may hold.
#[derive(Debug, Default)]
pub struct Turn {
    /// The last commit in the log.
    pub last: Position,
}

impl Inner {
    /// Runs one step: all of its changes are made, or none.
    pub fn step<T, E: From<StoreError>>(&self, f: impl FnOnce(&mut Step<'_>) -> Result<T, E>) -> Result<T, E> {
        // A panic inside a step leaves nothing behind but its overlay, which is gone.
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let (overlay, again, outgoing) = (Overlay::default(), Vec::new(), Vec::new());
        let mut step = Step { store: self, overlay, filed: 0, again, fault: None, retries: 0, outgoing };
        let value = f(&mut step)?;
        self.commit(&mut turn, step)?;
        Ok(value)
    }

    fn commit(&self, turn: &mut Turn, step: Step<'_>) -> Result<(), StoreError> {
        let Step { overlay, filed, again, fault, retries, outgoing, .. } = step;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if overlay.changes.is_empty() {
            return Ok(());
        }
        if filed > 0 {
            let marker = overlay.changes.get(keys::FILED).and_then(Option::as_deref).map_or(0, index::number);
            self.attempts.lock().unwrap_or_else(PoisonError::into_inner).end_before(Position(marker));
        }
        for position in again {
            self.attempts.lock().unwrap_or_else(PoisonError::into_inner).end(position);
        }
        let draft = Draft::new(Kind::Commit, Vec::new(), overlay.encode(turn.last));
        let position = self.log.append_blocking(draft).map_err(|error| match error {
            AppendError::Full => StoreError::Full,
            AppendError::Broken(said) => StoreError::Broken(said),
        })?;
        turn.last = position;
        let seq = overlay.changes.get(keys::SEQ).and_then(Option::as_deref).map(index::number);
        let [acknowledgements, reports] =
            [keys::ACKNOWLEDGE, keys::REPORTS].map(|kind| u64::from(overlay.changes_under(kind)));
        let written = self.segments.body(position);
        if let Err(error) = self.index.apply(&overlay, position, written) {
            // The log has the commit and the index has not: only opening anew completes it.
            return Err(StoreError::Broken(self.shared.break_off(error.said())));
        }
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        *self.last_flush.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now());
        let pulled = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take(filed);
        if !pulled.is_empty() {
            let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for key in &pulled {
                pending.remove(key);
            }
        }
        if !outgoing.is_empty() {
            self.shared.outgoing.lock().unwrap_or_else(PoisonError::into_inner).extend(outgoing);
        }
        self.shared.progress.send_modify(|progress| {
            progress.published = seq.unwrap_or(progress.published);
            progress.retries = progress.retries.saturating_add_signed(retries);
            progress.acknowledgements += acknowledgements;
            progress.reports += reports;
        });
        Ok(())
    }
}

impl Step<'_> {
    /// Moves the `filed` marker past this record: it must be the next one that waits. Records that are filed again are
    /// done with their entry, and are left alone here.
    pub fn filed(&mut self, position: Position) {
        if self.fault.is_some() {
            return;
        }
        let next = self.store.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).nth(self.filed);
        let marker = self.number(keys::FILED);
        let outcome = match (next, marker) {
            (_, Err(error)) => Err(error),
            (Some(next), _) if next == position => self.move_marker(position),
            (_, Ok(marker)) if position.0 < marker => {
                self.again.push(position);
                Ok(())
            }
            _ => Err(StoreError::Misuse(format!("{position:?} was filed out of turn, before {next:?}"))),
        };
        self.fault = outcome.err();
    }

    fn move_marker(&mut self, position: Position) -> Result<(), StoreError> {
        self.filed += 1;
        self.set_number(keys::FILED, position.0 + 1)?;
        let live = keys::live(position.segment());
        let count = self.number(&live)?;
        self.set_number(&live, count + 1)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.overlay.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.store.index.get(key),
        }
    }

    /// The keys under a prefix that this step has written.
    pub(super) fn changed_under(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let from = self.overlay.changes.range(prefix.to_vec()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, v)| v.is_some())
            .map(|(k, _)| k.clone())
            .collect()
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.get(key)?.as_deref().map_or(0, index::number))
    }

    pub(super) fn set_number(&mut self, key: &[u8], value: u64) -> Result<(), StoreError> {
        self.overlay.put(key.to_vec(), value.to_be_bytes().to_vec())
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.overlay.put(key, value)
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.overlay.delete(key);
    }

    /// The next number of a counter.
    pub(super) fn next(&mut self, counter: &[u8]) -> Result<u64, StoreError> {
        let next = self.number(counter)? + 1;
        self.set_number(counter, next)?;
        Ok(next)
    }

    /// The row of an entry.
    pub fn entry_at(&self, seq: u64) -> Result<Option<EntryRow>, StoreError> {
        self.row(&keys::entry(seq))
    }

    /// The row of the entry with this public id.
    pub fn entry(&self, id: &str) -> Result<Option<EntryRow>, StoreError> {
        match self.get(&keys::id(id))? {
            Some(seq) => self.entry_at(index::number(&seq)),
            None => Ok(None),
        }
    }

    /// The row of a ticket.
    pub fn ticket(&self, number: u64) -> Result<Option<TicketRow>, StoreError> {
        self.row(&keys::ticket(number))
    }

    fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(key)?.map(|value| parse(&value)).transpose()
    }

    /// Writes an entry, cut until it fits.
    pub(super) fn put_entry(&mut self, row: &mut EntryRow) -> Result<(), StoreError> {
        super::cut::entry(row);
        let value = json(row)?;
        self.put(keys::entry(row.seq), value)
    }

    /// Writes a ticket, cut until it fits.
    pub(super) fn put_ticket(&mut self, row: &mut TicketRow) -> Result<(), StoreError> {
        super::cut::ticket(row);
        let value = json(row)?;
        self.put(keys::ticket(row.number), value)
    }

    pub(super) fn put_event(&mut self, row: &mut EventRow) -> Result<(), StoreError> {
        row.seq = self.next(keys::SEQ)?;
        row.author = row.author.take().map(|author| super::cut::text(&author, super::cut::AUTHOR));
        let value = json(row)?;
        self.put(keys::event(row.seq), value)
    }
}

/// A row as it lies on disk.
pub(super) fn json(row: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let value = serde_json::to_vec(row).map_err(|error| StoreError::Misuse(error.to_string()))?;
    debug_assert!(value.len() <= MAX_VALUE, "rows are cut before they are written");
    Ok(value)
}

/// Reads a row.
pub(super) fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Broken(format!("a row cannot be read: {error}")))
}
