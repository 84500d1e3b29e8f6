//! What the log's thread shares with the rest of the store: the queues, the progress, and the counts.
//!
//! Must not know: files.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use super::ledger::{LedgerKey, PendingSet};
use super::rows::Position;
use super::spool::Queue;
use super::values::Progress;

/// What the log's thread shares with the rest of the store.
#[derive(Debug)]
pub struct Shared {
    pub queue: Mutex<Queue>,
    /// Pulled mails that stand in the log and are not filed.
    pub pending: Mutex<PendingSet>,
    /// Mails of the outbox that are new or that people have changed, until the outbox asks.
    pub outgoing: Mutex<BTreeSet<u64>>,
    pub progress: watch::Sender<Progress>,
    /// The newest record that waits or waited for filing.
    pub arrivals: watch::Sender<Position>,
    pub broken: OnceLock<String>,
    pub counters: Counters,
}

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub groups: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_nanos: AtomicU64,
    pub sync_nanos_max: AtomicU64,
    pub full: AtomicU64,
    pub refused_waiting: AtomicU64,
    pub refused_dropped: AtomicU64,
    pub damaged: AtomicU64,
    pub commits: AtomicU64,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            queue: Mutex::default(),
            pending: Mutex::default(),
            outgoing: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            arrivals: watch::Sender::new(Position(0)),
            broken: OnceLock::new(),
            counters: Counters::default(),
        }
    }

    /// A pulled mail's record was not written: nothing stands for its row any more.
    pub fn not_pulled(&self, key: LedgerKey) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        // Whoever waits until everything is filed has one less to wait for.
        self.progress.send_modify(|_| ());
    }

    /// Stops the store for good: a failed sync or index write leaves a state that only a new start can make whole.
    pub fn break_off(&self, said: impl Into<String>) -> String {
        let said = self.broken.get_or_init(|| said.into()).clone();
        self.progress.send_modify(|progress| progress.broken = true);
        said
    }
}
