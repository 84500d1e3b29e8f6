//! How long to wait until the next look: sooner after news, later when it stays quiet, within bounds. Pure.

use std::time::Duration;

/// The rhythm of one mailbox.
#[derive(Clone, Debug)]
pub struct Cadence {
    usual: Duration,
    least: Duration,
    most: Duration,
    now: Duration,
}

impl Cadence {
    pub fn new(usual: Duration, least: Duration, most: Duration) -> Self {
        Self { usual, least, most, now: usual }
    }

    /// The wait after a look that found so many new mails.
    pub fn after(&mut self, found: usize) -> Duration {
        self.now = if found > 0 {
            self.least
        } else if self.now < self.usual {
            // Back to the usual step by step: mail comes in groups.
            (self.now * 2).min(self.usual)
        } else {
            (self.now + self.now / 4).min(self.most)
        };
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_quicken_and_quiet_slows_within_the_bounds() {
        let s = Duration::from_secs;
        let mut cadence = Cadence::new(s(60), s(15), s(100));
        let found = [0, 0, 0, 3, 0, 0, 0, 1, 1];
        let waits: Vec<u64> = found.iter().map(|found| cadence.after(*found).as_secs()).collect();
        assert_eq!(waits, [75, 93, 100, 15, 30, 60, 75, 15, 15]);
    }
}
