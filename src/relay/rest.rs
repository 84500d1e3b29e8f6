//! Servers that could not be reached are left alone for a while, longer each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::backoff::Backoff;

/// Servers that are remembered; over it, those whose rest is over are forgotten.
const REMEMBERED: usize = 4096;

/// The first rest.
const FIRST: Duration = Duration::from_secs(10);

/// The servers that rest.
pub(super) struct Resting {
    most: Duration,
    servers: Mutex<HashMap<String, (Backoff, Instant)>>,
}

impl Resting {
    pub fn new(most: Duration) -> Self {
        Self { most, servers: Mutex::default() }
    }

    /// For how long a server is still left alone.
    pub fn left(&self, server: &str, now: Instant) -> Option<Duration> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(server).map(|(_, until)| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// It could not be reached.
    pub fn failed(&self, server: &str, now: Instant, chance: f64) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= REMEMBERED {
            servers.retain(|_, (_, until)| *until > now);
        }
        if servers.len() < REMEMBERED {
            let fresh = (Backoff::new(FIRST.min(self.most), self.most), now);
            let (backoff, until) = servers.entry(server.to_owned()).or_insert(fresh);
            *until = now + backoff.next(chance);
        }
    }

    /// It answered.
    pub fn answered(&self, server: &str) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_end_and_are_forgotten() {
        let (resting, now) = (Resting::new(Duration::from_secs(30)), Instant::now());
        assert_eq!(resting.left("a", now), None);
        for wanted in [10, 20, 30, 30] {
            resting.failed("a", now, 0.0);
            assert_eq!(resting.left("a", now), Some(Duration::from_secs(wanted)));
        }
        assert_eq!(resting.left("a", now + Duration::from_secs(30)), None);
        resting.answered("a");
        resting.failed("a", now, 0.0);
        assert_eq!(resting.left("a", now), Some(Duration::from_secs(10)));
        for n in 0..2 * REMEMBERED {
            resting.failed(&n.to_string(), now, 0.0);
        }
        assert!(resting.servers.lock().unwrap().len() <= REMEMBERED);
    }
}
