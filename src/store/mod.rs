//! The only room that knows the data directory, the accept log and the embedded engine.
//!
//! Must not know: why it is called. Its methods are the steps of a message's life, not get and put.
//!
//! A mail is accepted when its record stands synced in the append-only log; nothing else is written then. The index
//! over the log (tickets, entries, look-ups) changes in *steps*: a step gathers its changes, writes them as one record
//! to the log, syncs it, and only then applies them to the index, which keeps the newest in memory for a while. So the
//! log always knows more than what of the index is on disk, which can be completed or rebuilt from it after any crash.
//!
//! Methods that are not `async` may block on the disk: callers in async code use `spawn_blocking`. `refused`, `watch`,
//! `arrivals`, `spool_state`, `body`, `hurry`, `free_bytes` and `has_room` return at once.

mod accept;
mod attempts;
pub mod body;
mod change;
mod config;
mod cut;
mod dirs;
mod engine;
pub mod error;
mod format;
pub mod fsck;
mod fsck_ledger;
mod fsck_log;
mod fsck_rows;
mod index;
mod keys;
mod layers;
mod ledger;
mod lock;
mod log;
mod meta;
mod outbox;
pub mod outgoing;
mod overlay;
mod parts;
mod prints;
mod read;
mod rebuild;
mod reclaim;
mod record;
mod recover;
pub mod rows;
pub mod secret;
mod segment;
mod shared;
mod snapshot;
mod source;
mod space;
mod spool;
mod step;
mod step_brakes;
mod step_clocks;
mod step_desk;
mod step_file;
mod step_orders;
mod step_outbox;
mod step_owed;
mod step_probes;
mod step_reports;
mod step_settle;
mod strays;
#[cfg(test)]
mod tests;
pub mod values;
pub mod vault;
mod writer;
mod young;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use accept::Appending;
pub use body::{Body, BodyWriter, HEAD};
pub use config::Config;
pub use error::{BodyError, OpenError, SpoolError, StoreError};
pub use fsck::{Depth, Finding, FsckReport};
pub use lock::Claim;
pub use outbox::Every;
pub use outgoing::{
    Bounced, NewOutgoing, NewRecipient, OutboxFilter, OutboxOrder, Settled, SettledRecipient, Suppress, Told,
};
pub use rows::Position;
pub use step::Step;
pub use values::{
    Compared, DamagedSpan, Delivery, Incoming, MailBytes, MailMeta, NewEntry, OpenReport, OutgoingMeta,
    OutgoingRecipient, Progress, Question, Receipt, Refused, SpoolState, Spooled, Stats, Stored, TicketFilter,
};

use crate::clock::Clock;
use crate::mail::{Address, MailId};
use rows::{EntryRow, EventRow, Intent, LedgerRow, SourceRow, TicketRow};

/// Who writes the notes of the daemon itself.
pub const NOTED_BY: &str = "ticketgate";

/// The open store; a cheap handle.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

/// The parts of the open store. The log is dropped first and the lock last.
#[derive(Debug)]
struct Inner {
    log: log::Log,
    index: index::Index,
    segments: Arc<segment::Segments>,
    shared: Arc<shared::Shared>,
    space: Arc<space::Space>,
    /// Held by the one step that runs.
    turn: Mutex<step::Turn>,
    attempts: Mutex<attempts::Attempts>,
    last_flush: Mutex<Option<Timestamp>>,
    clock: Clock,
    config: Config,
    dir: PathBuf,
    _lock: lock::Lock,
}

impl Inner {
    /// Refuses everything once the store has stopped.
    fn check(&self) -> Result<(), StoreError> {
        self.shared.broken.get().map_or(Ok(()), |said| Err(StoreError::Broken(said.clone())))
    }
}

impl Store {
    /// Opens a data directory, makes it if need be, and completes what a crash has left unfinished. The numbers for
    /// `_metrics` are in `stats`, which the exposition asks for.
    pub fn open(dir: &Path, config: &Config, clock: Clock) -> Result<(Self, OpenReport), OpenError> {
        Claim::take(dir, clock.now())?.open(config, clock)
    }

    /// Begins to take up the bytes of a mail.
    pub fn body(&self, id: MailId, limit: u64) -> BodyWriter {
        BodyWriter::new(id, limit, self.0.config.inline_bytes, &self.0.dir, self.0.space.clone())
    }

    /// Accepts a mail: returns once its record stands synced in the log.
    pub async fn spool(&self, mail: Incoming) -> Result<Receipt, SpoolError> {
        self.0.hand_over(mail).await?.done().await
    }

    /// Pulled mails wait a moment for others, to share a sync; this ends the wait of those that were handed over.
    pub fn hurry(&self) {
        self.0.log.hurry();
    }

    /// Accepts a mail in two parts: when this returns its record has its place among those of its kind in the log, and
    /// `Appending::done` returns once it stands synced.
    pub async fn hand_over(&self, mail: Incoming) -> Result<Appending, SpoolError> {
        self.0.hand_over(mail).await
    }

    /// Leaves a record of a mail that was refused; best effort, never blocks.
    pub fn refused(&self, refused: Refused) {
        self.0.refused(refused);
    }

    /// Leaves a record of a mail that was pulled and refused, like `hand_over`: nobody else keeps it.
    pub fn hand_over_refused(&self, refused: Refused) -> Result<Appending, SpoolError> {
        self.0.hand_over_refused(refused)
    }

    /// The next mails to file in their order, at most `max`, `max_bytes` but for one; what is filed again comes first.
    pub fn spooled(&self, max: usize, max_bytes: u64) -> Result<Vec<Spooled>, StoreError> {
        self.0.spooled(max, max_bytes)
    }

    /// What `spooled` will give once everything up to this position is filed, but nothing that is to be filed again.
    pub fn spooled_behind(&self, position: Position, max: usize, max_bytes: u64) -> Result<Vec<Spooled>, StoreError> {
        self.0.spooled_behind(position, max, max_bytes)
    }

    /// How much waits for filing.
    pub fn spool_state(&self) -> SpoolState {
        self.0.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).state()
    }

    /// Wakes whoever waits for new mail: the newest record that waits or waited for filing.
    pub fn arrivals(&self) -> tokio::sync::watch::Receiver<Position> {
        self.0.shared.arrivals.subscribe()
    }

    /// Wakes whoever waits for changes of the index, or for the store's end.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Progress> {
        self.0.shared.progress.subscribe()
    }

    /// Notes on disk that reading this mail begins; returns in how many process starts in a row it began and never
    /// ended. There is one note, which the next call replaces and the step that files this mail clears.
    pub fn attempt(&self, position: Position) -> u32 {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).begin(position)
    }

    /// Reading this mail has ended.
    pub fn attempt_ended(&self, position: Position) {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).end(position);
    }

    /// Whether the process before this one ended in a mail that was not read since: till then mail is filed one by one.
    pub fn suspects(&self) -> bool {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).suspects().is_some()
    }

    /// Makes one change of the index, all of it or nothing, on disk when this returns; must not begin another step.
    pub fn step<T, E: From<StoreError>>(&self, f: impl FnOnce(&mut Step<'_>) -> Result<T, E>) -> Result<T, E> {
        self.0.step(f)
    }

    /// Entries with a higher `seq` than `after`, in order; at most 1,000.
    pub fn entries(&self, after: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        self.0.entries(after, limit)
    }

    /// Entries with a lower `seq` than `before`, the newest first; at most 1,000.
    pub fn entries_before(&self, before: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        self.0.entries_before(before, limit)
    }

    /// The entry with this public id.
    pub fn entry(&self, id: &str) -> Result<Option<EntryRow>, StoreError> {
        self.0.entry(id)
    }

    /// The entry with this `seq`.
    pub fn entry_at(&self, seq: u64) -> Result<Option<EntryRow>, StoreError> {
        self.0.entry_at(seq)
    }

    /// The entries of a ticket and of those merged into it, oldest first.
    pub fn entries_of(&self, ticket: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        self.0.entries_of(ticket, limit)
    }

    /// Every entry of a Message-ID (without angle brackets), in all channels, oldest first.
    pub fn find_message(&self, message_id: &str) -> Result<Vec<EntryRow>, StoreError> {
        self.0.find_message(message_id)
    }

    /// The ticket with this number, also if it was merged.
    pub fn ticket(&self, number: u64) -> Result<Option<TicketRow>, StoreError> {
        self.0.ticket(number)
    }

    /// Tickets, the newest number first; at most 1,000.
    pub fn tickets(&self, filter: &TicketFilter) -> Result<Vec<TicketRow>, StoreError> {
        self.0.tickets(filter)
    }

    /// The feed of all changes with a higher `seq` than `after`, in order; at most 1,000.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRow>, StoreError> {
        self.0.events(after, limit)
    }

    /// The mailbox of a channel.
    pub fn source(&self, channel: &Address) -> Result<Option<SourceRow>, StoreError> {
        self.0.source(channel)
    }

    /// The mailboxes of all channels that ever had one.
    pub fn sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        self.0.sources()
    }

    /// Rows of a mailbox's ledger in the order of their uids; at most 10,000.
    pub fn ledger(
        &self,
        channel: &Address,
        validity: u32,
        uids: RangeInclusive<u32>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        self.0.ledger(channel, validity, uids, limit)
    }

    /// The rows of these uids, in order; a uid without a row brings none.
    pub fn ledger_rows(&self, channel: &Address, validity: u32, uids: &[u32]) -> Result<Vec<LedgerRow>, StoreError> {
        self.0.ledger_rows(channel, validity, uids)
    }

    /// How many mails of a channel's mailbox stand in the log and are not filed. Returns at once.
    pub fn unfiled(&self, channel: &Address) -> usize {
        self.0.unfiled(channel)
    }

    /// How many mails of a mailbox are in each state of the ledger.
    pub fn ledger_counts(&self, channel: &Address) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        self.0.ledger_counts(channel)
    }

    /// Labels that are owed to mails of a mailbox, in the order of their uids.
    pub fn intents(&self, channel: &Address, limit: usize) -> Result<Vec<Intent>, StoreError> {
        self.0.intents(channel, limit)
    }

    /// The default channel that somebody has chosen while the daemon ran.
    pub fn default_channel(&self) -> Result<Option<String>, StoreError> {
        self.0.default_channel()
    }

    /// A name for this data directory that stays the same and says nothing: it tells two gateways apart.
    pub fn instance_id(&self) -> String {
        let digest = Sha256::new().chain_update("instance").chain_update(self.0.segments.salt.to_le_bytes()).finalize();
        crate::units::hex(&digest[..8])
    }

    /// A mail as it was accepted.
    pub fn mail(&self, position: Position) -> Result<Stored, StoreError> {
        self.0.mail(position)
    }

    /// Numbers for status and metrics.
    pub fn stats(&self) -> Stats {
        let counters = &self.0.shared.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = |counter| count(counter) as f64 / 1e9;
        Stats {
            records: count(&counters.records),
            bytes: count(&counters.bytes),
            groups: count(&counters.groups),
            syncs: count(&counters.syncs),
            sync_seconds: seconds(&counters.sync_nanos),
            sync_seconds_max: seconds(&counters.sync_nanos_max),
            full: count(&counters.full),
            refused_dropped: count(&counters.refused_dropped),
            damaged: count(&counters.damaged),
            commits: count(&counters.commits),
            index_seconds: self.0.index.nanos() as f64 / 1e9,
            last_flush: *self.0.last_flush.lock().unwrap_or_else(PoisonError::into_inner),
            segments: self.0.segments.list().map_or(0, |list| list.len() as u64),
            log_bytes: self.0.segments.allocated().unwrap_or(0),
            index_bytes: self.0.index.bytes(),
            free_bytes: self.free_bytes(),
            spool: self.spool_state(),
            seq: self.0.shared.progress.borrow().published,
            tickets: self.0.index.number(keys::TICKET).unwrap_or(0),
            broken: self.0.shared.broken.get().cloned(),
        }
    }

    /// Free space of the data directory, as it was at most 200 ms ago.
    pub fn free_bytes(&self) -> u64 {
        self.0.space.free()
    }

    /// Whether a mail of so many bytes would find room now. A look, not a promise: `spool` decides.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.0.space_left().has_room(bytes)
    }

    /// Checks that log, index and files tell the same story. Filing waits meanwhile.
    pub fn fsck(&self, depth: Depth) -> Result<FsckReport, StoreError> {
        fsck::check(&self.0, depth)
    }

    /// Erases the bytes of a mail that is filed; its entries stay, without bytes.
    pub fn erase(&self, id: &str, author: &str, now: Timestamp) -> Result<(), StoreError> {
        self.0.erase(id, author, now)
    }

    /// Deletes log segments that hold nothing any more; returns how many.
    pub fn reclaim(&self) -> Result<u64, StoreError> {
        self.0.reclaim()
    }

    /// Writes a checksummed copy of the index from which it can be rebuilt without the older log.
    pub fn snapshot(&self) -> Result<Position, StoreError> {
        self.0.snapshot()
    }

    /// Writes what waits, then stops the log. Whatever changes something answers from then on that the store is closed.
    pub fn close(&self) {
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.0.index.settle() {
            tracing::warn!(%error, "the index is completed from the log at the next start");
        }
        self.0.log.stop();
    }
}
