//! The filing worker: spool → parse → facts → decide → file.
//!
//! It takes accepted mail in the order of its acceptance and turns each into entries, a batch of mails a commit. Must
//! not know: how a mail came in, who reads tickets, what lies on disk. A mail that cannot be read within its limits
//! goes to quarantine and the next one goes on; trouble of the store stops the worker until the store is well again.

mod answered;
mod candidate;
mod loops;
mod outgoing;
mod probe;
mod reader;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Deserialize;

use crate::clock::Clock;
use crate::mail::message::Limits;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::rows::EntryRow;
use crate::store::{Position, SpoolState, Step, Store, StoreError};
use crate::ticket::Directory;
use crate::ticket::token::TokenKeys;
use candidate::{Context, Filed, file_mail};
pub use loops::{Loops, LoopsConfig};
use reader::Read;
pub use reader::Reader;

/// How mail is filed, and how long reading one may take.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most mails in one commit.
    pub batch: usize,
    /// The least time from the beginning of one commit to that of the next. A commit costs a sync of the disk,
    /// which accepting mail needs as well; mail that comes in the meantime shares the next one.
    #[serde(with = "crate::units::duration")]
    pub interval: Duration,
    /// The longest that a mail waits while the doors are busy: filing competes with them for processors and disk, so
    /// a rush is taken in first and filed when it is over, or after this time. `0s` files at once, whatever comes in.
    #[serde(with = "crate::units::duration")]
    pub patience: Duration,
    /// The longest that parsing one mail may take before it goes to quarantine.
    #[serde(with = "crate::units::duration")]
    pub parse_timeout: Duration,
    /// The most MIME parts of a mail.
    pub max_parts: usize,
    /// How deep MIME parts may be nested.
    pub max_depth: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: 128,
            interval: Duration::from_millis(25),
            patience: Duration::from_secs(5),
            parse_timeout: Duration::from_secs(10),
            max_parts: 1_000,
            max_depth: 50,
        }
    }
}

impl Config {
    /// Whether filing lets the doors go first: mail comes in fast, and none of it has waited too long. Nobody waits for
    /// the mail of a mailbox to be taken in, and to file it meanwhile takes less time in all.
    fn lets_doors_go_first(&self, earlier: SpoolState, later: SpoolState, now: Timestamp) -> bool {
        let rush = RUSH_A_SECOND * self.interval.as_secs_f64();
        let [before, after] = [earlier, later].map(|state| state.depth.saturating_sub(state.pulled));
        let came = after.saturating_sub(before) as f64;
        let waited = later.oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok());
        rush > 0.0 && came >= rush && waited.is_some_and(|waited| waited < self.patience)
    }

    /// The limits within which a mail is parsed, whoever reads it.
    pub fn limits(&self, max_header_bytes: usize) -> Limits {
        Limits { max_parts: self.max_parts, max_depth: self.max_depth, max_header_bytes }
    }
}

/// From so many mails a second on the doors are in a rush.
const RUSH_A_SECOND: f64 = 1000.0;
/// Bytes of mail that one batch may hold in memory; a larger mail is a batch by itself.
const BATCH_BYTES: u64 = 8 << 20;
/// The waits after trouble of the store: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Everything that the worker uses.
pub struct Worker {
    pub store: Store,
    pub directory: Arc<ArcSwap<Directory>>,
    pub keys: TokenKeys,
    pub loops: Arc<ArcSwap<Loops>>,
    pub config: Config,
    pub header_limit: usize,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// Why the worker stopped.
#[derive(Debug, thiserror::Error)]
pub enum FilingError {
    /// The store says that it cannot go on; the process must start anew.
    #[error("the store cannot go on: {0}")]
    Broken(StoreError),
    /// The thread that parses could not be started.
    #[error("cannot start the thread that parses mail: {0}")]
    Thread(std::io::Error),
}

impl Worker {
    /// Files until it is told to stop. Blocks: runs on a thread of its own, and waits by way of `runtime`.
    pub fn run(self, runtime: &tokio::runtime::Handle, mut shutdown: Shutdown) -> Result<(), FilingError> {
        step_back();
        let (mut arrivals, mut progress) = (self.store.arrivals(), self.store.watch());
        let mut reader = self.reader().map_err(FilingError::Thread)?;
        let mut wait = FIRST_WAIT;
        while !shutdown.is_thrown() {
            arrivals.mark_unchanged();
            progress.mark_unchanged();
            let begun = Instant::now();
            match self.file_batch(&mut reader) {
                Ok(0) => {
                    if progress.borrow().broken {
                        return Err(FilingError::Broken(StoreError::Broken(
                            self.store.stats().broken.unwrap_or_default(),
                        )));
                    }
                    wait = FIRST_WAIT;
                    runtime.block_on(async {
                        tokio::select! {
                            arrived = arrivals.changed() => { let _ = arrived; }
                            changed = progress.changed() => { let _ = changed; }
                            () = shutdown.wait() => {}
                        }
                    });
                }
                Ok(filed) => {
                    wait = FIRST_WAIT;
                    // A backlog is worked off without pause.
                    if filed < self.config.batch {
                        self.step_aside(runtime, &mut shutdown, begun.elapsed());
                    }
                }
                Err(trouble @ StoreError::Broken(_)) => return Err(FilingError::Broken(trouble)),
                Err(trouble) => {
                    tracing::warn!(%trouble, wait_ms = wait.as_millis() as u64, "filing waits: the mail is safe in the log");
                    pause(runtime, &mut shutdown, wait);
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        Ok(())
    }

    /// Waits until the next batch may begin: the rest of the interval, and on while the doors are in a rush.
    fn step_aside(&self, runtime: &tokio::runtime::Handle, shutdown: &mut Shutdown, since: Duration) {
        let mut earlier = self.store.spool_state();
        pause(runtime, shutdown, self.config.interval.saturating_sub(since));
        loop {
            let later = self.store.spool_state();
            if shutdown.is_thrown() || !self.config.lets_doors_go_first(earlier, later, self.clock.now()) {
                return;
            }
            earlier = later;
            pause(runtime, shutdown, self.config.interval);
        }
    }

    /// Starts the thread that parses, with this worker's limits.
    pub fn reader(&self) -> std::io::Result<Reader> {
        let limits = self.config.limits(self.header_limit);
        Reader::start(self.store.clone(), limits, self.config.parse_timeout)
    }

    /// Files what is spooled, up to a batch; returns how many mails it filed. In a backlog the next batch is read while
    /// this one is committed.
    pub fn file_batch(&self, reader: &mut Reader) -> Result<usize, StoreError> {
        if !reader.has_begun() {
            let most = if self.store.suspects() { 1 } else { self.config.batch };
            reader.begin(self.store.spooled(most, BATCH_BYTES)?);
        }
        let read = reader.finish();
        let Some(last) = read.last() else { return Ok(0) };
        if let Err(trouble) = self.read_ahead(reader, read.len(), last.spooled.position) {
            tracing::debug!(%trouble, "the next batch is not read ahead");
        }
        let filed = self.file_read(&read);
        if filed.is_err() {
            // These mails still wait, and what was read ahead must not be filed before them.
            reader.finish();
        }
        filed
    }

    /// Begins to read what waits behind this position, unless somebody wants mails filed again: those come first.
    fn read_ahead(&self, reader: &mut Reader, read: usize, position: Position) -> Result<(), StoreError> {
        if read > 1 && self.store.watch().borrow().retries == 0 {
            reader.begin(self.store.spooled_behind(position, self.config.batch, BATCH_BYTES)?);
        }
        Ok(())
    }

    fn file_read(&self, read: &[Read]) -> Result<usize, StoreError> {
        let directory = self.directory.load_full();
        let now = self.clock.now();
        let loops = self.loops.load();
        let context = Context { directory: &directory, keys: &self.keys, loops: &loops, now };
        let filed = self.store.step(|step| file_all(step, &context, read))?;
        self.report(&filed.rows, read, now);
        self.metrics.brake_held(filed.held);
        Ok(read.len())
    }

    /// Says what was filed, once the commit stands.
    fn report(&self, rows: &[EntryRow], read: &[Read], now: Timestamp) {
        let mut rows = rows.iter();
        for mail in read {
            let spooled = &mail.spooled;
            let waited = Duration::try_from(now.duration_since(spooled.received_at)).unwrap_or_default();
            // A mail that leaves has one entry, as it has one channel that sends it.
            let entries = if spooled.outgoing.is_some() { 1 } else { spooled.deliveries.len() };
            for row in rows.by_ref().take(entries.min(spooled.deliveries.len())) {
                // A refused mail was counted when it was refused.
                if spooled.refused.is_none() {
                    let door = spooled.origin.kind.as_str();
                    self.metrics.mail_filed(door, &row.filing, row.reason.as_deref(), waited);
                }
                tracing::info!(
                    mail = %row.id, entry = row.seq, filing = %row.filing, reason = row.reason.as_deref(),
                    ticket = row.ticket, channel = %row.channel, "filed"
                );
            }
        }
    }
}

/// How much the threads of filing step back behind the doors (nice(2)).
const NICENESS: i32 = 5;

/// Lets the doors go first where processors are short: a sender waits for its 250, and nobody waits for a ticket as
/// impatiently. Linux counts the priority by thread (setpriority(2)); that it is refused is no fault.
fn step_back() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Waits, but no longer than until the daemon stops.
fn pause(runtime: &tokio::runtime::Handle, shutdown: &mut Shutdown, wait: Duration) {
    runtime.block_on(async {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.wait() => {}
        }
    });
}

fn file_all(step: &mut Step<'_>, context: &Context<'_>, read: &[Read]) -> Result<Filed, StoreError> {
    let mut filed = Filed::default();
    for mail in read {
        file_mail(step, context, mail, &mut filed)?;
        step.filed(mail.spooled.position);
    }
    Ok(filed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_go_first_in_a_rush_and_only_for_so_long() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let ago = |millis: i64| now.checked_sub(jiff::SignedDuration::from_millis(millis)).unwrap();
        let patient = Config::default();
        let at_once = Config { patience: Duration::ZERO, ..patient.clone() };
        let unpaced = Config { interval: Duration::ZERO, ..patient.clone() };
        // Mails at the earlier and the later look and how many of these were pulled, age of the oldest in ms, whether
        // filing waits.
        let table = [
            (&patient, 0, (25, 0), 20, true),
            (&patient, 4000, (4025, 0), 4999, true),
            (&patient, 4000, (4024, 0), 20, false),
            (&patient, 0, (1, 0), 20, false),
            (&patient, 50, (40, 0), 20, false),
            (&patient, 4000, (4100, 0), 5000, false),
            (&patient, 0, (200, 200), 20, false),
            (&patient, 0, (200, 176), 20, false),
            (&patient, 0, (200, 175), 20, true),
            (&patient, 0, (1, 2), 20, false),
            (&at_once, 0, (100, 0), 0, false),
            (&unpaced, 0, (100, 0), 20, false),
        ];
        for (config, earlier, (depth, pulled), age, want) in table {
            let earlier = SpoolState { depth: earlier, ..SpoolState::default() };
            let later = SpoolState { depth, pulled, oldest: Some(ago(age)), ..SpoolState::default() };
            assert_eq!(config.lets_doors_go_first(earlier, later, now), want, "{earlier:?} {later:?}");
        }
        let empty = SpoolState::default();
        assert!(!patient.lets_doors_go_first(empty, empty, now));
    }
}
