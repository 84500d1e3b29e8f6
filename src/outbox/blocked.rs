//! Which channels may not send, and since when: meanwhile the clock of their mail stands still (R8). Pure.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::schedule::later;

/// While a channel stays blocked its mail gets its time back in steps, since only what is written down outlives a restart.
const STEP: std::time::Duration = std::time::Duration::from_secs(3600);

/// What is known of channels.
#[derive(Debug, Default)]
pub struct Blocked {
    whys: HashMap<u32, Option<String>>,
    since: HashMap<u32, Timestamp>,
    /// Channels whose mail is to get time back that is not written down yet: from when until when.
    owed: BTreeMap<u32, (Timestamp, Timestamp)>,
}

impl Blocked {
    /// Takes up why channels may not send, if they may not.
    pub fn asked(&mut self, whys: HashMap<u32, Option<String>>, now: Timestamp) {
        for (channel, why) in &whys {
            let since = self.since.get(channel).copied();
            let over = since.is_some_and(|since| why.is_none() || now >= later(since, STEP));
            if let Some(since) = since.filter(|_| over) {
                self.owed.entry(*channel).or_insert((since, now)).1 = now;
                self.since.remove(channel);
            }
            if why.is_some() {
                self.since.entry(*channel).or_insert(now);
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
        self.whys.get(&channel).is_some_and(Option::is_none) && !self.owed.contains_key(&channel)
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
        owed.or(self.since.get(&channel).copied()).unwrap_or(now)
    }

    /// A channel whose mail is to get back the time between these two.
    pub fn owed(&self) -> Option<(u32, (Timestamp, Timestamp))> {
        self.owed.first_key_value().map(|(channel, time)| (*channel, *time))
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

    #[test]
    fn the_clock_stands_still_while_a_channel_is_blocked() {
        let mut blocked = Blocked::default();
        let why = |text: Option<&str>| HashMap::from([(7, text.map(str::to_owned))]);
        assert!(!blocked.may(7), "nobody has asked yet");
        blocked.asked(why(None), at(0));
        assert!(blocked.may(7) && blocked.clock(7, at(1)) == at(1) && blocked.owed().is_none());
        blocked.asked(why(Some("disconnected")), at(10));
        blocked.asked(why(Some("disconnected")), at(60));
        assert_eq!((blocked.may(7), blocked.clock(7, at(65)), blocked.owed()), (false, at(10), None));
        // An hour later the first part is to be written down.
        blocked.asked(why(Some("disconnected")), at(70));
        assert_eq!((blocked.clock(7, at(71)), blocked.owed()), (at(10), Some((7, (at(10), at(70))))));
        blocked.given(7);
        assert_eq!((blocked.clock(7, at(71)), blocked.why(7)), (at(70), Some("disconnected")));
        blocked.asked(why(None), at(80));
        assert_eq!(
            (blocked.may(7), blocked.owed()),
            (false, Some((7, (at(70), at(80))))),
            "first its mail gets its time"
        );
        blocked.given(7);
        assert!(blocked.may(7) && blocked.clock(7, at(81)) == at(81) && blocked.all().next().is_none());
    }
}
