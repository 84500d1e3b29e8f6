//! How long to wait before the next try: doubling, bounded, with a share of chance so that many do not try at once.

use std::time::Duration;

/// The waits of one thing that is tried again and again. Pure: chance comes in as an argument.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits from `first` on, at most `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The next wait; `chance` from 0 to 1 takes up to half of it away.
    pub fn next(&mut self, chance: f64) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(20)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// It worked: the next trouble begins with the first wait again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// A number from 0 to 1, so that not all try at once. Where the system has none, nothing breaks.
pub fn chance() -> f64 {
    let mut byte = [0u8; 1];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_stay_bounded_and_begin_again() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(5), seconds(60));
        let waits: Vec<Duration> = (0..6).map(|_| backoff.next(0.0)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60].map(seconds));
        assert_eq!(backoff.next(1.0), seconds(30));
        for _ in 0..100 {
            assert!(backoff.next(0.5) <= seconds(60));
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0), seconds(5));
    }
}
