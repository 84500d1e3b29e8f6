//! Connections that wait for another mail.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::client::Client;

/// How long connections wait, and how many mails one carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub mails: u32,
    pub idle: Duration,
    /// Connections that wait at the same time.
    pub waiting: usize,
}

/// A connection, with the mails that it has carried.
pub(super) struct Held {
    pub client: Client,
    pub mails: u32,
}

struct Waiting {
    /// Server and login that it stands for.
    key: String,
    held: Held,
    until: Instant,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Whether a task closes what has waited too long.
    swept: bool,
}

/// The connections of one relay.
pub(super) struct Pool {
    limits: Limits,
    state: Mutex<State>,
}

impl Pool {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// The connection that came back last, since it is the least likely to have been closed by the server.
    pub fn take(&self, key: &str) -> Option<Held> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = state.waiting.iter().rposition(|waiting| waiting.key == key && waiting.until > now)?;
        Some(state.waiting.remove(at).held)
    }

    /// Keeps a connection for the next mail, or says goodbye to it.
    pub fn put(self: &Arc<Self>, key: &str, held: Held) {
        let keep = held.client.usable && held.mails < self.limits.mails && !self.limits.idle.is_zero();
        if !keep {
            tokio::spawn(held.client.quit());
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + self.limits.idle;
        state.waiting.push(Waiting { key: key.to_owned(), held, until });
        if state.waiting.len() > self.limits.waiting {
            tokio::spawn(state.waiting.remove(0).held.client.quit());
        }
        if !std::mem::replace(&mut state.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), until));
        }
    }

    /// Says goodbye on every connection that waits.
    pub async fn close(&self) {
        let waiting = std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting);
        let mut goodbyes = tokio::task::JoinSet::new();
        for one in waiting {
            goodbyes.spawn(one.held.client.quit());
        }
        while goodbyes.join_next().await.is_some() {}
    }

    /// Takes out what has waited too long; when the next one has, or `None` when nothing waits any more.
    fn expired(&self) -> (Vec<Waiting>, Option<Instant>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (gone, left) = std::mem::take(&mut state.waiting).into_iter().partition(|waiting| waiting.until <= now);
        state.waiting = left;
        let next = state.waiting.iter().map(|waiting| waiting.until).min();
        state.swept = next.is_some();
        (gone, next)
    }
}

/// Ends with the pool, or when nothing waits in it.
async fn sweep(pool: Weak<Pool>, first: Instant) {
    let mut next = Some(first);
    while let Some(at) = next {
        sleep_until(at).await;
        let Some(pool) = pool.upgrade() else { return };
        let (gone, then) = pool.expired();
        drop(pool);
        for waiting in gone {
            waiting.held.client.quit().await;
        }
        next = then;
    }
}
