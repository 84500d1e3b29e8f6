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

/// The turns of one worker. The first one is at once.
pub(super) struct Turns {
    progress: watch::Receiver<Progress>,
    shutdown: Shutdown,
    /// What waits while there is trouble.
    what: &'static str,
    /// What changes with everything that is owed to be written here.
    count: fn(&Progress) -> u64,
    /// What it was when this turn began, and whether the store had stopped by then.
    seen: (u64, bool),
}

impl Turns {
    pub fn new(store: &Store, shutdown: Shutdown, what: &'static str, count: fn(&Progress) -> u64) -> Self {
        let progress = store.watch();
        let seen = state(count, &progress.borrow());
        Self { progress, shutdown, what, count, seen }
    }

    /// Waits for the next turn: what changes after it has begun calls for one more.
    pub async fn next(&mut self, last: Result<(), DeskError>) -> Turn {
        let wait = match last {
            Ok(()) => None,
            Err(trouble) => {
                tracing::warn!(%trouble, "{} wait", self.what);
                Some(PAUSE)
            }
        };
        let (count, seen) = (self.count, self.seen);
        let changes = |progress: &Progress| state(count, progress) != seen;
        let turn = tokio::select! {
            changed = self.progress.wait_for(changes), if wait.is_none() => {
                if changed.is_err() { Turn::Over } else { Turn::Next }
            }
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => Turn::Next,
            () = self.shutdown.wait() => Turn::Over,
        };
        self.seen = state(count, &self.progress.borrow());
        turn
    }
}

fn state(count: fn(&Progress) -> u64, progress: &Progress) -> (u64, bool) {
    (count(progress), progress.broken)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::shutdown;

    #[test]
    fn a_turn_follows_what_has_changed_and_nothing_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let (store, progress) = watch::channel(Progress::default());
        let (stop, shutdown) = shutdown::channel();
        let mut turns =
            Turns { progress, shutdown, what: "reports", count: |progress| progress.reports, seen: (0, false) };
        let mut next = || match pin!(turns.next(Ok(()))).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        };
        assert_eq!(next(), None);
        store.send_modify(|progress| progress.published += 1);
        assert_eq!(next(), None, "it is nothing that is owed here");
        store.send_modify(|progress| progress.reports += 1);
        assert_eq!((next(), next()), (Some(Turn::Next), None));
        store.send_modify(|progress| progress.broken = true);
        assert_eq!((next(), next()), (Some(Turn::Next), None), "a store that has stopped is looked at once more");
        stop.shut_down();
        assert_eq!(next(), Some(Turn::Over));
    }
}
