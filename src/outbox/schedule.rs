//! When a mail is tried again, and when it is given up (RFC 5321 section 4.5.4.1). Pure: time comes in as an argument.
//!
//! The first retries come within minutes, since most trouble is short; then they come hours apart, for days in all.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::mail::Class;

/// The waits between attempts, and the ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The waits after the first, second, third … failed attempt; the last one is repeated.
    pub waits: Vec<Duration>,
    /// A person's mail that is still not delivered after this time is given up.
    pub give_up: Duration,
    /// The same for automatic mail, which is worth less the later it comes.
    pub give_up_automatic: Duration,
    /// After this time the ticket, or the sender of a mail without one, is told that a mail is late.
    pub delayed_notice: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            waits: [1, 5, 15, 30, 60, 120, 240].into_iter().map(minutes).collect(),
            give_up: minutes(5 * 24 * 60),
            give_up_automatic: minutes(5 * 24 * 60),
            delayed_notice: minutes(4 * 60),
        }
    }
}

/// What comes after an attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    At(Timestamp),
    GiveUp,
}

impl Schedule {
    /// When to try again after so many failed attempts. The last attempt is made at the end of the time that a mail
    /// has, so that none of it is lost.
    pub fn next(&self, class: Class, created: Timestamp, attempts: u32, now: Timestamp) -> Next {
        let end = self.end(class, created);
        if now >= end {
            return Next::GiveUp;
        }
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = self.waits.get(index).or(self.waits.last()).copied().unwrap_or(Duration::from_secs(60));
        Next::At(later(now, wait).min(end))
    }

    /// Whether a mail has had all the time that it gets.
    pub fn is_over(&self, class: Class, created: Timestamp, now: Timestamp) -> bool {
        now >= self.end(class, created)
    }

    /// Until when a mail is tried.
    pub fn end(&self, class: Class, created: Timestamp) -> Timestamp {
        later(created, self.life(class))
    }

    /// Whether a mail is so late that its ticket should hear of it.
    pub fn is_late(&self, created: Timestamp, now: Timestamp) -> bool {
        now >= later(created, self.delayed_notice)
    }

    fn life(&self, class: Class) -> Duration {
        match class {
            Class::Person => self.give_up,
            Class::Automatic => self.give_up_automatic,
        }
    }
}

/// A time, and so much later.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + minutes * 60).unwrap()
    }

    #[test]
    fn minutes_come_first_then_hours_and_days_in_all() {
        let schedule = Schedule::default();
        let (mut now, mut attempts, mut gaps) = (0i64, 1, Vec::new());
        while let Next::At(next) = schedule.next(Class::Person, at(0), attempts, at(now)) {
            let minutes = next.duration_since(at(0)).as_mins();
            gaps.push(minutes - now);
            (now, attempts) = (minutes, attempts + 1);
        }
        assert_eq!(gaps[..8], [1, 5, 15, 30, 60, 120, 240, 240]);
        assert_eq!(gaps.iter().sum::<i64>(), 5 * 24 * 60, "the last attempt is at the very end");
        // RFC 5321: at least four to five days, and not more often than every 30 minutes once the first are over.
        assert!(gaps[4..gaps.len() - 1].iter().all(|gap| *gap >= 30));
    }

    #[test]
    fn lateness_and_ends() {
        let schedule =
            Schedule { give_up_automatic: Duration::from_secs(3600), waits: Vec::new(), ..Schedule::default() };
        // Class, minutes since it was made, attempts, what comes.
        let table = [
            (Class::Person, 0, 1, Next::At(at(1))),
            (Class::Automatic, 59, 9, Next::At(at(60))),
            (Class::Automatic, 60, 9, Next::GiveUp),
            (Class::Person, 60, 9, Next::At(at(61))),
            (Class::Person, 7200, 9, Next::GiveUp),
        ];
        for (class, minutes, attempts, want) in table {
            assert_eq!(schedule.next(class, at(0), attempts, at(minutes)), want, "{class:?} {minutes}");
        }
        assert!(!schedule.is_late(at(0), at(239)) && schedule.is_late(at(0), at(240)));
        assert!(schedule.is_over(Class::Automatic, at(0), at(60)) && !schedule.is_over(Class::Person, at(0), at(60)));
    }
}
