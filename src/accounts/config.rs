//! `[accounts]`: how authorisations come back, when tokens are renewed, when their end is told.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::units::show_duration;

/// `[accounts]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where browsers come back to from a public `redirect_url`, behind your reverse proxy.
    pub redirect_listen: Option<SocketAddr>,
    /// How long somebody may take to consent.
    #[serde(with = "crate::units::duration")]
    pub authorisation_timeout: Duration,
    /// How long before its end an access token is renewed; a third of its life if that is shorter.
    #[serde(with = "crate::units::duration")]
    pub refresh_before: Duration,
    /// Authorisations that may wait for somebody at the same time.
    pub max_authorisations: usize,
    /// How long before it dies a credential is warned of.
    #[serde(with = "crate::units::duration")]
    pub warn_before: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            redirect_listen: None,
            authorisation_timeout: Duration::from_secs(600),
            refresh_before: Duration::from_secs(300),
            max_authorisations: 16,
            warn_before: Duration::from_secs(14 * 86_400),
        }
    }
}

impl Config {
    /// What is wrong, as the key, what is wrong with it, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::new();
        let (second, minute, day) = (Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(86_400));
        let waits = [
            ("authorisation_timeout", self.authorisation_timeout, second * 10, minute * 60),
            ("refresh_before", self.refresh_before, second, minute * 60),
            ("warn_before", self.warn_before, Duration::ZERO, day * 365),
        ];
        for (key, value, least, most) in waits {
            if !(least..=most).contains(&value) {
                let advice = format!("write {} to {}", show_duration(least), show_duration(most));
                faults.push((key, format!("{} is out of range", show_duration(value)), advice));
            }
        }
        if !(1..=1000).contains(&self.max_authorisations) {
            let said = format!("{} is out of range", self.max_authorisations);
            faults.push(("max_authorisations", said, "write 1 to 1000".into()));
        }
        faults
    }
}
