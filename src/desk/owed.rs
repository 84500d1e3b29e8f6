//! How workers that write what is owed take turns: when something of it has changed in the store, or after trouble.

use std::time::Duration;

use tokio::sync::watch;

use super::DeskError;
use crate::shutdown::Shutdown;
use crate::store::{Progress, Store};

/// The wait after trouble.
const PAUSE: Duration = Duration::from_secs(15);

/// Whether there will be another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Next,
    Over,
}

/// The turns of one worker.
pub(super) struct Turns {
    progress: watch::Receiver<Progress>,
    shutdown: Shutdown,
    /// What waits while there is trouble.
    what: &'static str,
    /// What changes with everything that is owed to be written here, and what it was when this turn began.
    count: fn(&Progress) -> u64,
    seen: u64,
}

impl Turns {
    pub fn new(store: &Store, shutdown: Shutdown, what: &'static str, count: fn(&Progress) -> u64) -> Self {
        let progress = store.watch();
        let seen = count(&progress.borrow());
        Self { progress, shutdown, what, count, seen }
    }

    /// A turn begins: what changes from now on calls for the next one.
    pub fn begin(&mut self) {
        self.seen = (self.count)(&self.progress.borrow());
    }

    /// Waits for the next turn.
    pub async fn next(&mut self, last: Result<(), DeskError>) -> Turn {
        let wait = match last {
            Ok(()) => None,
            Err(trouble) => {
                tracing::warn!(%trouble, "{} wait", self.what);
                Some(PAUSE)
            }
        };
        let (count, seen) = (self.count, self.seen);
        let changes = |progress: &Progress| count(progress) != seen || progress.broken;
        tokio::select! {
            changed = self.progress.wait_for(changes), if wait.is_none() => {
                if changed.is_err() { Turn::Over } else { Turn::Next }
            }
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => Turn::Next,
            () = self.shutdown.wait() => Turn::Over,
        }
    }
}
