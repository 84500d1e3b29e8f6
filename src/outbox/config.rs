//! `[outbox]`: when mail is tried, how much of it at the same time, and by which relay unless a channel names one.

use std::time::Duration;

use serde::Deserialize;

use super::schedule::Schedule;

/// The section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The relay of channels that name none; the first one unless it is named.
    pub default_relay: Option<String>,
    /// The Maildir relay by which everything leaves, whatever else was said: nothing reaches people.
    pub sandbox: Option<String>,
    /// The waits after the first, second, third … failed attempt; the last one is repeated.
    #[serde(with = "waits")]
    pub retry_waits: Vec<Duration>,
    /// Mail that is still not delivered after this time is given up; automatic mail has a time of its own.
    #[serde(with = "crate::units::duration")]
    pub give_up: Duration,
    #[serde(with = "crate::units::duration")]
    pub give_up_automatic: Duration,
    /// After this time the ticket, or the sender of a mail without one, is told that a mail is late.
    #[serde(with = "crate::units::duration")]
    pub delayed_notice: Duration,
    /// Attempts at the same time, over all relays.
    pub concurrency: usize,
    /// Bytes of mail in memory for attempts; beside them one mail at a time may be larger.
    #[serde(with = "crate::units::bytes")]
    pub memory_bytes: u64,
    /// After so many attempts in a row that met a server in trouble its lane rests, at most for `rest_most`.
    pub rest_after: u32,
    /// A server that took nothing of so many attempts in a row gets one mail at a time until it takes something.
    pub slow_after: u32,
    #[serde(with = "crate::units::duration")]
    pub rest_first: Duration,
    #[serde(with = "crate::units::duration")]
    pub rest_most: Duration,
    /// How long idempotency keys are known.
    #[serde(with = "crate::units::duration")]
    pub keep_keys: Duration,
    /// How long attempts that are under way may take to end when the daemon stops.
    #[serde(with = "crate::units::duration")]
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let Schedule { waits, give_up, give_up_automatic, delayed_notice } = Schedule::default();
        Self {
            default_relay: None,
            sandbox: None,
            retry_waits: waits,
            give_up,
            give_up_automatic,
            delayed_notice,
            concurrency: 200,
            memory_bytes: 32 << 20,
            rest_after: 5,
            slow_after: 20,
            rest_first: Duration::from_secs(15),
            rest_most: Duration::from_secs(300),
            keep_keys: Duration::from_secs(7 * 24 * 3600),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Config {
    pub fn schedule(&self) -> Schedule {
        Schedule {
            waits: self.retry_waits.clone(),
            give_up: self.give_up,
            give_up_automatic: self.give_up_automatic,
            delayed_notice: self.delayed_notice,
        }
    }
}

/// A list of durations such as `["1m", "5m"]`.
mod waits {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| crate::units::parse_duration(text).map_err(D::Error::custom)).collect()
    }
}
