//! Which channels may not send, and since when: meanwhile the clock of their mail stands still (R8). Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

/// What is known of channels.
#[derive(Debug, Default)]
pub struct Blocked {
    whys: HashMap<u32, Option<String>>,
    still: HashMap<u32, Still>,
    /// Channels whose mail is to get time back that is not written down yet: from when until when.
    owed: BTreeMap<u32, (Timestamp, Timestamp)>,
}

/// A clock that stands still.
#[derive(Clone, Copy, Debug)]
struct Still {
    since: Timestamp,
    /// A restart knows of it.
    written: bool,
}

/// A channel that is to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub channel: u32,
    pub address: String,
    /// Since when its clock stands still, or is to from now on, if that is to be written down should it be blocked.
    pub unwritten: Option<Timestamp>,
}

impl Blocked {
    /// What an earlier process has written down: the clock stands still, or went on and its mail is to get its time.
    pub fn restore(&mut self, channel: u32, since: Timestamp, until: Option<Timestamp>) {
        match until {
            Some(until) => drop(self.owed.insert(channel, (since, until))),
            None => drop(self.still.insert(channel, Still { since, written: true })),
        }
    }

    /// What is to be asked about a channel now.
    pub fn question(&self, channel: u32, address: String, now: Timestamp) -> Question {
        let still = self.still.get(&channel);
        let written = self.owed.contains_key(&channel) || still.is_some_and(|still| still.written);
        let unwritten = (!written).then(|| still.map_or(now, |still| still.since));
        Question { channel, address, unwritten }
    }

    /// Takes up why channels may not send, if they may not, as it was at that time, and of which of them a restart knows.
    pub fn asked(&mut self, whys: HashMap<u32, Option<String>>, written: &HashSet<u32>, at: Timestamp) {
        for (channel, why) in &whys {
            // One thing after the other: first its mail gets the time that it is owed.
            if self.owed.contains_key(channel) {
                continue;
            }
            if why.is_some() {
                let still = self.still.entry(*channel).or_insert(Still { since: at, written: false });
                still.written |= written.contains(channel);
            } else if let Some(still) = self.still.remove(channel) {
                self.owed.insert(*channel, (still.since, at));
            }
        }
        self.whys = whys;
    }

    /// How many channels are known.
    pub fn known(&self) -> usize {
        self.whys.len()
    }

    /// Whether a channel may send. One that may do so again waits until its mail has got its time back.
    pub fn may(&self, channel: u32) -> bool {
        let stands = self.still.contains_key(&channel) || self.owed.contains_key(&channel);
        self.whys.get(&channel).is_some_and(Option::is_none) && !stands
    }

    /// Channels that may not, with the reason.
    pub fn all(&self) -> impl Iterator<Item = (u32, &str)> {
        self.whys.iter().filter_map(|(channel, why)| Some((*channel, why.as_deref()?)))
    }

    pub fn why(&self, channel: u32) -> Option<&str> {
        self.whys.get(&channel)?.as_deref()
    }

    /// The time by the clock of a channel's mail.
    pub fn clock(&self, channel: u32, now: Timestamp) -> Timestamp {
        let owed = self.owed.get(&channel).map(|(from, _)| *from);
        owed.or(self.still.get(&channel).map(|still| still.since)).unwrap_or(now)
    }

    /// A channel whose mail is to get back the time between these two; the clock that went on first comes first.
    pub fn owed(&self) -> Option<(u32, (Timestamp, Timestamp))> {
        self.owed.iter().min_by_key(|(_, (_, until))| *until).map(|(channel, time)| (*channel, *time))
    }

    /// That is written down.
    pub fn given(&mut self, channel: u32) {
        self.owed.remove(&channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + minutes * 60).unwrap()
    }

    fn why(text: Option<&str>) -> HashMap<u32, Option<String>> {
        HashMap::from([(7, text.map(str::to_owned))])
    }

    #[test]
    fn the_clock_stands_still_while_a_channel_is_blocked() {
        let mut blocked = Blocked::default();
        let (none, written) = (HashSet::new(), HashSet::from([7]));
        let unwritten = |blocked: &Blocked, now| blocked.question(7, String::new(), at(now)).unwritten;
        assert!(!blocked.may(7), "nobody has asked yet");
        blocked.asked(why(None), &none, at(0));
        assert!(blocked.may(7) && blocked.clock(7, at(1)) == at(1) && blocked.owed().is_none());
        assert_eq!(unwritten(&blocked, 10), Some(at(10)));
        // Writing it down fails, and is tried again with the time that it was.
        blocked.asked(why(Some("disconnected")), &none, at(10));
        assert_eq!(unwritten(&blocked, 11), Some(at(10)));
        blocked.asked(why(Some("disconnected")), &written, at(60));
        assert_eq!((blocked.may(7), blocked.clock(7, at(65)), unwritten(&blocked, 61)), (false, at(10), None));
        blocked.asked(why(Some("disconnected")), &none, at(9999));
        assert_eq!((blocked.clock(7, at(9999)), blocked.owed(), blocked.why(7)), (at(10), None, Some("disconnected")));
        blocked.asked(why(None), &none, at(10_000));
        let owed = Some((7, (at(10), at(10_000))));
        assert_eq!((blocked.may(7), blocked.owed()), (false, owed), "first its mail gets its time");
        // Blocked again meanwhile: that begins once the time of before is given.
        blocked.asked(why(Some("disconnected")), &none, at(10_001));
        assert_eq!((blocked.owed(), unwritten(&blocked, 10_001)), (owed, None));
        blocked.given(7);
        blocked.asked(why(Some("disconnected")), &written, at(10_002));
        assert_eq!((blocked.clock(7, at(10_009)), blocked.owed()), (at(10_002), None));
        blocked.asked(why(None), &none, at(10_003));
        blocked.given(7);
        assert!(blocked.may(7) && blocked.clock(7, at(10_004)) == at(10_004) && blocked.all().next().is_none());
    }

    #[test]
    fn what_an_earlier_process_has_seen_counts() {
        let mut blocked = Blocked::default();
        blocked.restore(7, at(0), None);
        blocked.restore(8, at(5), Some(at(6)));
        assert_eq!((blocked.clock(7, at(50)), blocked.clock(8, at(50))), (at(0), at(5)));
        blocked.asked(why(None), &HashSet::new(), at(60));
        assert_eq!(blocked.owed(), Some((8, (at(5), at(6)))), "what ended first comes first");
        blocked.given(8);
        assert_eq!((blocked.owed(), blocked.may(7)), (Some((7, (at(0), at(60)))), false));
    }
}
