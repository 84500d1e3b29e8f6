//! The layers of the index, changes in memory over the engine, and how they settle there.
//!
//! A commit is on disk with its record in the log, so its changes need not be in the engine at once. They are kept in
//! memory, but for long values, which the log has, and *settle* together, many commits with one sync: whatever was
//! changed twice is written once, and what came and went (a label that was owed, a mail that waited to leave) is not
//! written at all. After a crash the commits that the engine lacks are applied from the log. Settling may be cut off
//! anywhere: it is only known to have happened when the engine has its mark, and applying a commit a second time changes
//! nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::change::{Change, Written};
use super::engine::Engine;
use super::error::StoreError;
use super::keys;
use super::overlay::Overlay;
use super::young::{Layer, Young};

/// For how long a change may wait until it settles.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Changes that the engine is given at once. It lets nobody read meanwhile.
const AT_ONCE: usize = 256;
/// The engine is synced at the latest when it was given so many bytes.
const SYNC_BYTES: u64 = 512 << 10;

pub struct Layers {
    pub engine: Engine,
    state: Mutex<State>,
    /// Rings at every change of the state that somebody may wait for.
    bell: Condvar,
    /// Held while a layer settles.
    settling: Mutex<()>,
    /// The newest layer settles when it takes so many bytes; while it does, both together may take half as many again.
    buffer: usize,
    nanos: AtomicU64,
    /// Bytes that the engine lacks, for those who ask often.
    weight: AtomicU64,
}

#[derive(Default)]
pub struct State {
    pub young: Young,
    /// Why nothing settles any more: the engine's handle stays bad after an error.
    failed: Option<StoreError>,
    stop: bool,
}

impl Layers {
    /// Nothing over the engine yet.
    pub fn new(engine: Engine, buffer: usize) -> Self {
        let (state, bell, settling) = (Mutex::default(), Condvar::new(), Mutex::default());
        Self { engine, state, bell, settling, buffer, nanos: AtomicU64::new(0), weight: AtomicU64::new(0) }
    }

    /// What is in memory; to be held for a moment only.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the changes of one commit as a whole, with its mark. Waits where memory is full of others that settle.
    pub fn put(&self, overlay: &Overlay, mark: (&[u8], &[u8]), written: Option<Written>) -> Result<(), StoreError> {
        let changes = Change::of(overlay, mark, written);
        let mut state = self.state();
        // Beside a layer that settles a smaller one may grow: commits go on, and memory has a limit.
        while state.failed.is_none() && self.is_full(&state.young) {
            self.bell.notify_all();
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        let was_empty = state.young.newest_memory() == 0;
        state.young.put(changes);
        self.weight.store(state.young.weight(), Ordering::Relaxed);
        if was_empty || state.young.newest_memory() > self.buffer {
            self.bell.notify_all();
        }
        Ok(())
    }

    /// Whether a commit has to wait. The thread that settles may not have come to it yet.
    fn is_full(&self, young: &Young) -> bool {
        let most = if young.is_settling() { self.buffer + self.buffer / 2 } else { self.buffer * 2 };
        young.memory() > most
    }

    /// Settles whatever is due, until somebody wants an end or something fails.
    pub fn settle_until_stopped(&self) -> Result<(), StoreError> {
        while self.wait_until_due() {
            self.settle()?;
        }
        Ok(())
    }

    /// Ends `settle_until_stopped`; what is not in the engine stays in the log.
    pub fn stop(&self) {
        self.state().stop = true;
        self.bell.notify_all();
    }

    /// Waits until something has to settle; `false` when nothing will any more.
    fn wait_until_due(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.stop || state.failed.is_some() {
                return false;
            }
            let rest = state.young.age().map(|age| LONGEST_WAIT.saturating_sub(age));
            if state.young.newest_memory() > self.buffer || rest == Some(Duration::ZERO) {
                return true;
            }
            state = match rest {
                Some(rest) => self.bell.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes to the engine whatever it lacks, and returns when that is on disk.
    pub fn settle(&self) -> Result<(), StoreError> {
        let _alone = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = {
            let mut state = self.state();
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            state.young.begin()
        };
        let Some(layer) = layer else { return Ok(()) };
        let begun = Instant::now();
        let written = self.write(&layer);
        self.nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        let mut state = self.state();
        match &written {
            Ok(()) => {
                state.young.settled();
                self.weight.store(state.young.weight(), Ordering::Relaxed);
            }
            // The layer stays, for those who read.
            Err(error) => state.failed = Some(error.clone()),
        }
        self.bell.notify_all();
        written
    }

    fn write(&self, layer: &Layer) -> Result<(), StoreError> {
        let (mark, rest): (Vec<_>, Vec<_>) = layer.changes.iter().partition(|change| change.key() == keys::APPLIED);
        let mut unsynced = 0;
        for some in rest.chunks(AT_ONCE) {
            self.load(some)?;
            unsynced += some.iter().map(|change| change.weight()).sum::<u64>();
            if unsynced > SYNC_BYTES {
                self.engine.sync()?;
                unsynced = 0;
            }
        }
        // The mark comes last: without it all of this is applied once more from the log.
        self.load(&mark)?;
        self.engine.sync()
    }

    /// Gives some changes to the engine.
    pub fn load(&self, changes: &[&Change]) -> Result<(), StoreError> {
        let values = changes.iter().map(|change| change.value()).collect::<Result<Vec<_>, _>>()?;
        self.engine.load(changes.iter().map(|change| change.key()).zip(values.iter().map(Option::as_deref)))
    }

    /// Bytes of keys and values that the engine lacks.
    pub fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// How long settling took since the start, in nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }
}
