//! How many mails a minute: a window of 60 seconds that slides. Pure: the time comes in.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// More of one second than this are not remembered: no configuration asks for so many a minute and still for a limit.
const MOST_KEPT: u32 = 1_000_000;

/// The imports of the last minute.
#[derive(Clone, Debug)]
pub struct Rate {
    most: usize,
    taken: VecDeque<Timestamp>,
}

impl Rate {
    /// At most so many in any 60 seconds; 0 is no limit. `before` are the imports of an earlier run.
    pub fn new(most: u32, before: impl IntoIterator<Item = Timestamp>) -> Self {
        let mut taken: Vec<Timestamp> = before.into_iter().collect();
        taken.sort_unstable();
        Self { most: most as usize, taken: taken.into() }
    }

    /// How many may be taken now.
    pub fn free(&mut self, now: Timestamp) -> usize {
        if self.most == 0 {
            return usize::MAX;
        }
        // The clock may have stepped back. What it dated into the future counts from now on: the window stays closed for
        // a minute at most, and not for as long as the step was.
        for at in self.taken.iter_mut().rev().take_while(|at| **at > now) {
            *at = now;
        }
        while self.taken.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.taken.pop_front();
        }
        self.most.saturating_sub(self.taken.len())
    }

    /// Every mail of the last minute as second and count, for a later run. Whole seconds are rounded up, so that the
    /// window never opens too early.
    pub fn recent(&mut self, now: Timestamp) -> Vec<(i64, u32)> {
        self.free(now);
        let mut counts: Vec<(i64, u32)> = Vec::new();
        for at in &self.taken {
            let second = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
            match counts.last_mut() {
                Some((last, count)) if *last == second => *count += 1,
                _ => counts.push((second, 1)),
            }
        }
        counts
    }

    /// The times that `recent` has told.
    pub fn times(recent: &[(i64, u32)]) -> impl Iterator<Item = Timestamp> {
        let known = recent.iter().filter_map(|(second, count)| Some((Timestamp::from_second(*second).ok()?, *count)));
        known.flat_map(|(at, count)| std::iter::repeat_n(at, count.min(MOST_KEPT) as usize))
    }

    /// One was taken.
    pub fn take(&mut self, now: Timestamp) {
        if self.most > 0 {
            self.taken.push_back(now);
        }
    }

    /// How long until the next may be taken; zero if one may be taken now.
    pub fn wait(&mut self, now: Timestamp) -> std::time::Duration {
        if self.free(now) > 0 {
            return std::time::Duration::ZERO;
        }
        let oldest = self.taken.front().copied().unwrap_or(now);
        std::time::Duration::try_from(WINDOW - now.duration_since(oldest)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_ever_has_more() {
        let start = Timestamp::from_second(1_795_000_000).unwrap();
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        // An earlier run has taken two; the window goes on across the restart.
        let mut rate = Rate::new(3, [at(-30), at(-10), at(-70)]);
        let mut taken = vec![-30, -10];
        for second in 0..300 {
            while rate.free(at(second)) > 0 {
                rate.take(at(second));
                taken.push(second);
            }
        }
        assert!(taken.windows(4).all(|four| four[3] - four[0] >= 60), "{taken:?}");
        assert_eq!(taken.len(), 2 + 1 + 3 * 4 + 2);
        // What is kept for a later run stays small, and never opens the window early.
        let mut before = Rate::new(100, [start, start, start + SignedDuration::from_millis(1500)]);
        assert_eq!(before.recent(at(2)), [(start.as_second(), 2), (start.as_second() + 2, 1)]);
        let mut later = Rate::new(3, Rate::times(&before.recent(at(2))));
        assert_eq!((later.free(at(2)), later.free(at(60)), later.free(at(61)), later.free(at(62))), (0, 2, 2, 3));
        assert_eq!(Rate::new(0, []).free(start), usize::MAX);
        let mut full = Rate::new(1, [at(-20)]);
        assert_eq!(full.wait(start), std::time::Duration::from_secs(40));
        assert_eq!(full.wait(at(40)), std::time::Duration::ZERO);
    }

    #[test]
    fn a_clock_that_steps_back_closes_the_window_for_a_minute_at_most() {
        let start = Timestamp::from_second(1_795_000_000).unwrap();
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        let hour = [at(3600), at(3601), at(3602)];
        // In the same run, and in a later one that reads what was kept.
        let mut rate = Rate::new(3, hour);
        let mut later = Rate::new(3, Rate::times(&Rate::new(3, hour).recent(at(3603))));
        for rate in [&mut rate, &mut later] {
            assert_eq!((rate.free(at(0)), rate.wait(at(0))), (0, std::time::Duration::from_secs(60)));
            assert_eq!(rate.recent(at(1)), [(start.as_second(), 3)]);
            assert_eq!((rate.free(at(59)), rate.free(at(60))), (0, 3));
        }
    }
}
