//! When ends are written down. Pure.
//!
//! Each commit costs a sync, whatever is in it. While ends come in fast, one waits a moment for more of them; while they
//! come one by one none waits, as a crash would send those mails again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// With so many ends in one commit the line is in a rush, and commits then keep this distance.
const RUSH: usize = 8;
const RUSH_INTERVAL: Duration = Duration::from_millis(5);
/// With so many ends that wait no commit waits for more.
const MANY: usize = super::BATCH / 2;

/// The last commit.
#[derive(Debug, Default)]
pub struct Pace {
    began: Option<Instant>,
    ends: usize,
}

impl Pace {
    /// A commit begins with so many ends.
    pub fn begin(&mut self, ends: usize, now: Instant) {
        *self = Self { began: Some(now), ends };
    }

    /// Whether ends are to be written down now: the lane of each, and how many places a lane has taken, those of its
    /// ends among them.
    pub fn may_begin(
        &self,
        ends: impl ExactSizeIterator<Item = u32>,
        taken: impl Fn(u32) -> usize,
        now: Instant,
    ) -> bool {
        let many = ends.len() >= MANY;
        let mut ended: HashMap<u32, usize> = HashMap::new();
        ends.for_each(|lane| *ended.entry(lane).or_default() += 1);
        // While half of a lane's places wait for the commit, the others send. What other lanes have under way does not
        // count, as it may hang.
        let held_up = ended.iter().any(|(lane, ended)| ended * 2 >= taken(*lane));
        !ended.is_empty() && (many || held_up || self.ends < RUSH || self.rest(now).is_zero())
    }

    /// For how long a commit waits that may not begin yet.
    fn rest(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| RUSH_INTERVAL.saturating_sub(now.duration_since(began)))
    }

    /// When to ask again while ends wait. Those that wait for a commit under way are asked about at its end.
    pub fn pause(&self, now: Instant) -> Duration {
        let rest = self.rest(now);
        if rest.is_zero() { RUSH_INTERVAL } else { rest.max(Duration::from_millis(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_waits_in_a_rush_and_holds_nobody_up() {
        let (began, soon, later) = (Instant::now(), Duration::from_millis(2), Duration::from_millis(5));
        // Lane 1 has taken 20 places, lane 2 has 20 that hang. The ends of the last commit, how long ago it began, ends
        // of lane 1 and of lane 3, which has 300 places; whether there is a commit.
        let table = [
            (0, soon, 0, 0, false),
            (1, soon, 1, 0, true),
            (7, soon, 1, 0, true),
            (8, soon, 1, 0, false),
            (8, later, 1, 0, true),
            (8, soon, 9, 0, false),
            (8, soon, 10, 0, true),
            (8, soon, 20, 0, true),
            (8, soon, 9, 9, false),
            (8, soon, 0, 127, false),
            (8, soon, 0, 128, true),
        ];
        for (last, ago, first, third, want) in table {
            let mut pace = Pace::default();
            pace.begin(last, began);
            let ends: Vec<u32> = [vec![1; first], vec![3; third]].concat();
            let taken = |lane| if lane == 3 { 300 } else { 20 };
            let heard = pace.may_begin(ends.into_iter(), taken, began + ago);
            assert_eq!(heard, want, "{last} {ago:?} {first} {third}");
        }
        assert!(Pace::default().may_begin([1].into_iter(), |_| 20, began));
    }
}
