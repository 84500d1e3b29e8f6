//! What waits for filing: the places of records behind the `filed` marker, a few bytes each.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::ledger::LedgerKey;
use super::rows::Position;
use super::values::SpoolState;

/// One record that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub position: Position,
    pub size: u64,
    /// Of a pulled mail: its place in the set of those that stand for their row in the ledger.
    pub pulled: Option<LedgerKey>,
    /// In microseconds since 1970: half the size of a `Timestamp`.
    pub received: i64,
}

/// All records that wait, in the order of the log.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: u64,
    pulled: u64,
}

impl Queue {
    pub fn push(&mut self, waiting: Waiting) {
        self.pulled += u64::from(waiting.pulled.is_some());
        self.bytes += waiting.size;
        self.waiting.push_back(waiting);
    }

    /// The first records, at most `max`, and no more than `max_bytes` but for one.
    pub fn front(&self, max: usize, max_bytes: u64) -> Vec<Waiting> {
        within(self.waiting.iter(), max, max_bytes)
    }

    /// The first records behind a position, within the same limits.
    pub fn behind(&self, position: Position, max: usize, max_bytes: u64) -> Vec<Waiting> {
        let start = self.waiting.partition_point(|waiting| waiting.position <= position);
        within(self.waiting.range(start..), max, max_bytes)
    }

    /// The place of the record that has `ahead` others before it.
    pub fn nth(&self, ahead: usize) -> Option<Position> {
        self.waiting.get(ahead).map(|waiting| waiting.position)
    }

    /// Takes out the first `count`, whose rows are in the index; returns the places of those that were pulled.
    pub fn take(&mut self, count: usize) -> Vec<LedgerKey> {
        let mut pulled = Vec::new();
        for waiting in self.waiting.drain(..count.min(self.waiting.len())) {
            self.bytes -= waiting.size;
            pulled.extend(waiting.pulled);
        }
        self.pulled -= pulled.len() as u64;
        // A long backlog leaves a large buffer behind; give it back once it is nearly empty.
        if self.waiting.capacity() > 4096 && self.waiting.len() * 8 < self.waiting.capacity() {
            self.waiting.shrink_to(1024);
        }
        pulled
    }

    /// Takes out one record that cannot be read; returns its place in the ledger where it was pulled.
    pub fn drop_one(&mut self, position: Position) -> Option<LedgerKey> {
        let at = self.waiting.iter().position(|waiting| waiting.position == position)?;
        let gone = self.waiting.remove(at)?;
        self.bytes -= gone.size;
        self.pulled -= u64::from(gone.pulled.is_some());
        gone.pulled
    }

    pub fn state(&self) -> SpoolState {
        SpoolState {
            depth: self.waiting.len() as u64,
            pulled: self.pulled,
            bytes: self.bytes,
            oldest: self.waiting.front().and_then(|waiting| Timestamp::from_microsecond(waiting.received).ok()),
        }
    }
}

fn within<'a>(waiting: impl Iterator<Item = &'a Waiting>, max: usize, max_bytes: u64) -> Vec<Waiting> {
    let mut bytes = 0;
    let fits = |waiting: &&Waiting| {
        let first = bytes == 0;
        bytes += waiting.size.max(1);
        first || bytes <= max_bytes
    };
    waiting.take(max).take_while(fits).copied().collect()
}
