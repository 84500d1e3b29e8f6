//! All mail that waits, in memory: a few bytes for each mail and lane. What is due stands in its lane, people's mail
//! before automatic mail, and the channels take turns; what is not due yet stands in the order of its time.
//!
//! A lane is what shares a fate: a server, or the servers of one domain. Pure bookkeeping, without a clock of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use jiff::Timestamp;

use crate::mail::Class;

/// One mail in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub seq: u64,
    pub lane: u32,
    pub channel: u32,
    pub class: Class,
    /// In microseconds since 1970, half the size of a `Timestamp`: when it is due, and since when it waits.
    pub due: i64,
    pub since: i64,
    /// Its ticket was told that it is late.
    pub told: bool,
    /// Which look at the mail it comes from; older ones do not count.
    pub look: u32,
}

/// The mails of one class in a lane, by channel; the first channel has its turn.
#[derive(Debug, Default)]
struct Queue {
    channels: VecDeque<(u32, VecDeque<Task>)>,
}

impl Queue {
    fn push(&mut self, task: Task) {
        match self.channels.iter_mut().find(|(channel, _)| *channel == task.channel) {
            Some((_, tasks)) => tasks.push_back(task),
            None => self.channels.push_back((task.channel, VecDeque::from([task]))),
        }
    }

    /// The next task of the first channel that may send; that channel then goes to the end.
    fn pop(&mut self, may: &impl Fn(u32) -> bool) -> Option<Task> {
        let at = self.channels.iter().position(|(channel, _)| may(*channel))?;
        let (channel, mut tasks) = self.channels.remove(at)?;
        let task = tasks.pop_front();
        if !tasks.is_empty() {
            self.channels.push_back((channel, tasks));
        }
        task
    }

    /// A task that was taken out in vain has its place back.
    fn push_front(&mut self, task: Task) {
        match self.channels.iter_mut().find(|(channel, _)| *channel == task.channel) {
            Some((_, tasks)) => tasks.push_front(task),
            None => self.channels.push_front((task.channel, VecDeque::from([task]))),
        }
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.channels.iter().flat_map(|(_, tasks)| tasks)
    }

    fn len(&self) -> usize {
        self.channels.iter().map(|(_, tasks)| tasks.len()).sum()
    }
}

/// One lane.
#[derive(Debug)]
pub struct Lane {
    pub name: String,
    /// The relay that it belongs to; its name only, as the relay may be gone.
    pub relay: String,
    /// How many jobs run at the same time; 0 for a relay that does not exist.
    pub limit: usize,
    /// Jobs that were taken out and have not ended.
    pub taken: usize,
    /// Nothing is taken out before, and why.
    pub rests: Option<(Timestamp, String)>,
    /// It has its share of the memory: nothing is taken out before one of its mails has left it.
    pub full: bool,
    /// Its peer takes nothing, and what it said: one job at a time, until it takes something.
    pub slow: Option<String>,
    /// The channel whose account its relay logs in with, if it does.
    pub owner: Option<u32>,
    people: Queue,
    machines: Queue,
}

impl Lane {
    /// Tasks that stand in it, those of older looks at a mail among them.
    pub fn waiting(&self) -> usize {
        self.people.len() + self.machines.len()
    }

    /// How many jobs run at the same time now.
    pub fn places(&self) -> usize {
        if self.slow.is_some() { self.limit.min(1) } else { self.limit }
    }

    fn queue(&mut self, class: Class) -> &mut Queue {
        match class {
            Class::Person => &mut self.people,
            Class::Automatic => &mut self.machines,
        }
    }
}

/// What may be taken out now.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many jobs a lane may have taken for each that it may run.
    pub ahead: usize,
    /// Automatic mail too.
    pub automatic: bool,
    /// Only of lanes that have nothing under way.
    pub idle: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<u32, Lane>,
    /// The number of the next new lane; none is used twice.
    next: u32,
    /// Lanes that have mail that is due.
    ready: BTreeSet<u32>,
    by_name: HashMap<String, u32>,
    channels: Vec<String>,
    later: BTreeMap<(i64, u64, u32), Task>,
    /// The newest look at each mail that has tasks.
    looks: HashMap<u64, u32>,
    looked: u32,
    /// The lane that has its turn.
    turn: u32,
}

impl Lanes {
    /// The number of a lane; a new one begins empty.
    pub fn lane(&mut self, name: &str, relay: &str, limit: usize) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.limit = limit;
            }
            return *number;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let (name, relay) = (name.to_owned(), relay.to_owned());
        self.by_name.insert(name.clone(), number);
        let (people, machines) = (Queue::default(), Queue::default());
        let (rests, full, slow, owner) = (None, false, None, None);
        self.lanes.insert(number, Lane { name, relay, limit, taken: 0, rests, full, slow, owner, people, machines });
        number
    }

    /// The number of a channel.
    pub fn channel(&mut self, address: &str) -> u32 {
        match self.channels.iter().position(|known| known == address) {
            Some(at) => at as u32,
            None => {
                self.channels.push(address.to_owned());
                self.channels.len() as u32 - 1
            }
        }
    }

    pub fn channel_name(&self, channel: u32) -> &str {
        self.channels.get(channel as usize).map_or("", String::as_str)
    }

    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    pub fn get(&self, lane: u32) -> Option<&Lane> {
        self.lanes.get(&lane)
    }

    pub fn get_mut(&mut self, lane: u32) -> Option<&mut Lane> {
        self.lanes.get_mut(&lane)
    }

    pub fn all(&self) -> impl Iterator<Item = (u32, &Lane)> {
        self.lanes.iter().map(|(number, lane)| (*number, lane))
    }

    /// Lanes that have their share of the memory.
    pub fn full_lanes(&mut self) -> impl Iterator<Item = (u32, &mut Lane)> {
        self.lanes.iter_mut().map(|(number, lane)| (*number, lane)).filter(|(_, lane)| lane.full)
    }

    /// Forgets lanes that have nothing to do, beside those that are named: there is one for each domain ever sent to.
    pub fn prune(&mut self, kept: &HashSet<u32>) {
        let later: HashSet<u32> = self.later.values().map(|task| task.lane).collect();
        self.lanes.retain(|number, lane| {
            let idle = lane.waiting() == 0 && lane.taken == 0 && lane.rests.is_none();
            !idle || later.contains(number) || kept.contains(number)
        });
        let lanes = &self.lanes;
        self.by_name.retain(|_, number| lanes.contains_key(number));
    }

    /// A new look at a mail: tasks of older ones do not count any more.
    pub fn look(&mut self, seq: u64) -> u32 {
        self.looked = self.looked.wrapping_add(1);
        self.looks.insert(seq, self.looked);
        self.looked
    }

    /// The mail has no tasks any more.
    pub fn forget(&mut self, seq: u64) {
        self.looks.remove(&seq);
    }

    /// Whether a task comes from the newest look at its mail.
    pub fn counts(&self, task: &Task) -> bool {
        self.looks.get(&task.seq) == Some(&task.look)
    }

    /// How many mails are due in a lane. What people order makes new tasks, and the old ones stand until their turn.
    pub fn due_in(&self, lane: &Lane) -> u64 {
        lane.people.tasks().chain(lane.machines.tasks()).filter(|task| self.counts(task)).count() as u64
    }

    /// Puts a task where it belongs at that time.
    pub fn push(&mut self, task: Task, now: Timestamp) {
        if task.due > now.as_microsecond() {
            self.later.insert((task.due, task.seq, task.lane), task);
        } else if let Some(lane) = self.lanes.get_mut(&task.lane) {
            self.ready.insert(task.lane);
            lane.queue(task.class).push(task);
        }
    }

    /// Puts a task back that was taken out in vain: what is due keeps its place before the others.
    pub fn put_back(&mut self, task: Task, now: Timestamp) {
        match self.lanes.get_mut(&task.lane).filter(|_| task.due <= now.as_microsecond()) {
            Some(lane) => {
                self.ready.insert(task.lane);
                lane.queue(task.class).push_front(task);
            }
            None => self.push(task, now),
        }
    }

    /// Moves what has become due into its lane.
    pub fn wake(&mut self, now: Timestamp) {
        // Asked at each turn of the worker, which is no time to take a long list apart.
        if self.later.keys().next().is_none_or(|(due, ..)| *due > now.as_microsecond()) {
            return;
        }
        let due = self.later.split_off(&(now.as_microsecond() + 1, 0, 0));
        let ready = std::mem::replace(&mut self.later, due);
        ready.into_values().for_each(|task| self.push(task, now));
    }

    /// Ends every rest: each of those lanes tries one mail, and rests again unless its peer answers.
    pub fn hurry(&mut self, now: Timestamp) {
        for (until, _) in self.lanes.values_mut().filter_map(|lane| lane.rests.as_mut()) {
            *until = (*until).min(now);
        }
    }

    /// When the next mail becomes due, or a lane with mail has rested.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let later = self.later.keys().next().and_then(|(due, ..)| Timestamp::from_microsecond(*due).ok());
        let resting = self.ready.iter().filter_map(|number| self.lanes.get(number));
        let rested = resting.filter_map(|lane| lane.rests.as_ref().map(|(until, _)| *until)).filter(|at| *at > now);
        later.into_iter().chain(rested).min()
    }

    /// Takes out the next task: the lanes take turns, in each people go before machines, and of those the channels
    /// that may send take turns.
    pub fn take(&mut self, now: Timestamp, wanted: Wanted, may: impl Fn(u32) -> bool) -> Option<Task> {
        let mut turn = self.turn;
        for _ in 0..self.ready.len() {
            let number = *self.ready.range(turn..).next().or(self.ready.first())?;
            turn = number.wrapping_add(1);
            let Some(lane) = self.lanes.get_mut(&number) else { continue };
            let rests = lane.rests.as_ref().is_some_and(|(until, _)| *until > now);
            // A lane that has rested tries one mail before it trusts its peer again.
            let limit =
                if lane.rests.is_some() { lane.limit.min(1) } else { lane.places().saturating_mul(wanted.ahead) };
            let limit = if wanted.idle { limit.min(1) } else { limit };
            if rests || lane.full || lane.taken >= limit || lane.owner.is_some_and(|owner| !may(owner)) {
                continue;
            }
            let task = lane.people.pop(&may).or_else(|| if wanted.automatic { lane.machines.pop(&may) } else { None });
            if let Some(task) = task {
                lane.taken += 1;
                if lane.waiting() == 0 {
                    self.ready.remove(&number);
                }
                self.turn = turn;
                return Some(task);
            }
        }
        None
    }

    /// Every task that waits, due or not, and counts.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        let ready = self.lanes.values().flat_map(|lane| lane.people.tasks().chain(lane.machines.tasks()));
        ready.chain(self.later.values()).filter(|task| self.counts(task))
    }

    /// Mails that have tasks.
    pub fn mails(&self) -> usize {
        self.looks.len()
    }

    pub fn later(&self) -> usize {
        self.later.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn task(lanes: &mut Lanes, seq: u64, lane: u32, channel: &str, class: Class, due: i64) -> Task {
        let (channel, look) = (lanes.channel(channel), lanes.look(seq));
        let (due, since) = (at(due).as_microsecond(), at(0).as_microsecond());
        Task { seq, lane, channel, class, due, since, told: false, look }
    }

    const ONE: Wanted = Wanted { ahead: 1, automatic: true, idle: false };

    fn drain(lanes: &mut Lanes, now: i64, may: impl Fn(u32) -> bool) -> Vec<u64> {
        std::iter::from_fn(|| lanes.take(at(now), ONE, &may)).map(|task| task.seq).collect()
    }

    #[test]
    fn people_go_first_and_channels_and_lanes_take_turns() {
        let mut lanes = Lanes::default();
        let (a, b) = (lanes.lane("smart", "smart", 9), lanes.lane("direct/x", "direct", 2));
        let plan = [
            (1, a, "noisy", Class::Automatic),
            (2, a, "noisy", Class::Person),
            (3, a, "noisy", Class::Person),
            (4, a, "noisy", Class::Person),
            (5, a, "quiet", Class::Person),
            (6, b, "noisy", Class::Person),
            (7, b, "noisy", Class::Person),
            (8, b, "noisy", Class::Person),
        ];
        for (seq, lane, channel, class) in plan {
            let task = task(&mut lanes, seq, lane, channel, class, 0);
            lanes.push(task, at(0));
        }
        // The lane of one destination takes two at a time, whatever waits there.
        assert_eq!(drain(&mut lanes, 0, |_| true), [2, 6, 5, 7, 3, 4, 1]);
        assert_eq!(lanes.get(b).unwrap().waiting(), 1);
        lanes.get_mut(b).unwrap().taken = 0;
        assert_eq!(drain(&mut lanes, 0, |_| false), [0u64; 0], "a channel whose account is disconnected waits");
        assert_eq!(drain(&mut lanes, 0, |_| true), [8]);
    }

    #[test]
    fn what_is_not_due_waits_and_a_lane_that_rests_tries_one() {
        let mut lanes = Lanes::default();
        let lane = lanes.lane("smart", "smart", 5);
        for seq in 1..=4 {
            let task = task(&mut lanes, seq, lane, "a", Class::Person, seq as i64 * 10);
            lanes.push(task, at(0));
        }
        assert_eq!((lanes.later(), lanes.next_due(at(0))), (4, Some(at(10))));
        lanes.wake(at(20));
        assert_eq!((lanes.later(), lanes.next_due(at(20)), lanes.tasks().count()), (2, Some(at(30)), 4));
        lanes.get_mut(lane).unwrap().rests = Some((at(25), "no answer".into()));
        assert_eq!(drain(&mut lanes, 24, |_| true), [0u64; 0]);
        assert_eq!(lanes.next_due(at(24)), Some(at(25)));
        lanes.hurry(at(24));
        assert_eq!(drain(&mut lanes, 24, |_| true), [1], "somebody is in a hurry: one mail tries it");
        lanes.get_mut(lane).unwrap().rests = None;
        lanes.wake(at(99));
        assert_eq!(drain(&mut lanes, 99, |_| true), [2, 3, 4]);
        // A newer look at a mail makes older tasks void; automatic mail may be left out.
        let old = task(&mut lanes, 9, lane, "a", Class::Automatic, 0);
        let new = task(&mut lanes, 9, lane, "a", Class::Automatic, 0);
        assert!(!lanes.counts(&old) && lanes.counts(&new));
        lanes.get_mut(lane).unwrap().taken = 0;
        lanes.push(old, at(0));
        lanes.push(new, at(0));
        let shown = lanes.get(lane).unwrap();
        assert_eq!((lanes.due_in(shown), shown.waiting()), (1, 2), "a void task is no mail that waits");
        assert_eq!(lanes.take(at(0), ONE, |_| true), Some(old));
        lanes.get_mut(lane).unwrap().taken = 0;
        assert_eq!(lanes.take(at(0), Wanted { automatic: false, ..ONE }, |_| true), None);
        assert_eq!(lanes.take(at(0), ONE, |_| true), Some(new));
        lanes.forget(9);
        assert!(!lanes.counts(&new));
        // A lane with nothing to do is forgotten, unless somebody still refers to it; a new one has a new number.
        lanes.get_mut(lane).unwrap().taken = 0;
        lanes.prune(&HashSet::from([lane]));
        assert_eq!(lanes.lane("smart", "smart", 5), lane);
        lanes.prune(&HashSet::new());
        assert!(lanes.get(lane).is_none() && lanes.lane("smart", "smart", 5) != lane);
    }

    #[test]
    fn the_last_places_are_for_lanes_with_nothing_under_way_and_who_has_its_share_waits() {
        let mut lanes = Lanes::default();
        let (a, b, c) = (lanes.lane("a", "a", 5), lanes.lane("b", "b", 5), lanes.lane("c", "c", 5));
        for (seq, lane) in [(1, a), (2, a), (3, b), (4, c), (5, c)] {
            let task = task(&mut lanes, seq, lane, "x", Class::Person, 0);
            lanes.push(task, at(0));
        }
        let idle = Wanted { idle: true, ..ONE };
        let take = |lanes: &mut Lanes, wanted| lanes.take(at(0), wanted, |channel| channel == 0).map(|task| task.seq);
        assert_eq!(take(&mut lanes, ONE), Some(1));
        lanes.get_mut(b).unwrap().full = true;
        assert_eq!((take(&mut lanes, idle), take(&mut lanes, idle)), (Some(4), None));
        lanes.get_mut(b).unwrap().full = false;
        let other = lanes.channel("other account");
        lanes.get_mut(c).unwrap().owner = Some(other);
        assert_eq!((take(&mut lanes, idle), take(&mut lanes, ONE), take(&mut lanes, ONE)), (Some(3), Some(2), None));
        // What was taken out in vain goes before the others.
        let back = Task { seq: 6, ..task(&mut lanes, 6, a, "x", Class::Person, 0) };
        let last = task(&mut lanes, 7, a, "x", Class::Person, 0);
        lanes.push(last, at(0));
        lanes.put_back(back, at(0));
        assert_eq!((take(&mut lanes, ONE), take(&mut lanes, ONE)), (Some(6), Some(7)));
    }
}
