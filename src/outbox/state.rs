//! What the worker keeps in its head while it runs: the lanes, what is under way, what has ended and is not on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};

use super::accounts::{self, Quotas};
use super::board::{LaneState, Snapshot};
use super::config::Config;
use super::lanes::{Lanes, Task};
use super::schedule::{Schedule, later};
use super::work::{Ended, Loaded, Look, Picked, Ready, Under};
use super::{AHEAD, Asked, BATCH, FIRST_WAIT, Loading, Looks, Writing};
use crate::relay::{Outcome, RecipientOutcome, Reply};
use crate::store::StoreError;

/// Jobs that have ended and are not on disk yet, at most; beyond that no new ones begin.
const UNWRITTEN: usize = 1024;
/// Mails that are late and are told of in one sweep.
const OVERDUE: usize = 200;
/// The longest that the loop sleeps.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// With so many ends in one commit the line is in a rush, and commits then keep this distance.
const RUSH: usize = 8;
const RUSH_INTERVAL: Duration = Duration::from_millis(5);

/// How a lane does.
#[derive(Debug, Default)]
struct Health {
    /// Jobs in a row that no peer answered.
    troubles: u32,
    rests: u32,
}

/// All of it.
pub struct State {
    pub lanes: Lanes,
    pub quotas: Arc<Mutex<Quotas>>,
    pub running: JoinSet<Outcome>,
    pub ended: VecDeque<Ended>,
    /// Mails that are to be looked at.
    pub fresh: BTreeSet<u64>,
    /// Bytes of the mails in memory.
    pub bytes: u64,
    pub asked_at: Option<Timestamp>,
    pub swept_at: Option<Timestamp>,
    pub shown_at: Option<Timestamp>,
    /// How often it has swept.
    pub sweeps: u32,
    /// When the last commit began, and how many ends it had.
    pub wrote_at: Option<std::time::Instant>,
    pub wrote: usize,
    /// The wait after the next trouble of the store.
    pub wait: Duration,
    jobs: HashMap<Id, Under>,
    /// Jobs that are loaded and wait for their turn in a lane.
    ready: HashMap<u32, VecDeque<Box<Ready>>>,
    /// How many of a lane's places are taken, each until its end is on disk: that bounds what a crash sends twice.
    started: HashMap<u32, usize>,
    /// Mails and lanes that are under way, until their end is on disk.
    flight: HashSet<(u64, u32)>,
    blocked: HashMap<u32, Option<String>>,
    health: HashMap<u32, Health>,
}

impl State {
    pub fn new(quotas: Arc<Mutex<Quotas>>) -> Self {
        Self {
            lanes: Lanes::default(),
            quotas,
            running: JoinSet::new(),
            ended: VecDeque::new(),
            fresh: BTreeSet::new(),
            bytes: 0,
            asked_at: None,
            swept_at: None,
            shown_at: None,
            sweeps: 0,
            wrote_at: None,
            wrote: 0,
            wait: FIRST_WAIT,
            jobs: HashMap::new(),
            ready: HashMap::new(),
            started: HashMap::new(),
            flight: HashSet::new(),
            blocked: HashMap::new(),
            health: HashMap::new(),
        }
    }

    /// Takes up looks at mails.
    pub fn looked(&mut self, looks: Result<Looks, StoreError>, now: Timestamp) -> Result<(), StoreError> {
        for (seq, look) in looks?? {
            self.take_up(seq, look, now);
        }
        Ok(())
    }

    fn take_up(&mut self, seq: u64, look: Option<Look>, now: Timestamp) {
        let Some(Look { row, lanes }) = look.filter(|look| !look.lanes.is_empty()) else {
            self.lanes.forget(seq);
            return;
        };
        let number = self.lanes.look(seq);
        let channel = self.lanes.channel(&row.channel.to_lowercase());
        for lane in lanes {
            let at = self.lanes.lane(&lane.name, &lane.relay, lane.limit);
            // What is under way is looked at again once its end is on disk.
            if self.flight.contains(&(seq, at)) {
                continue;
            }
            let task = Task {
                seq,
                lane: at,
                channel,
                class: row.class,
                due: lane.due.as_microsecond(),
                since: row.since.as_microsecond(),
                told: row.delayed_told,
                look: number,
            };
            self.lanes.push(task, now);
        }
    }

    /// Takes out what can be loaded now.
    pub fn pick(&mut self, config: &Config, now: Timestamp) -> Vec<Picked> {
        let mut picked = Vec::new();
        if self.ended.len() >= UNWRITTEN || self.bytes >= config.memory_bytes {
            return picked;
        }
        // Some places are kept for people, so that a flood of automatic mail does not take them all.
        let machines = config.concurrency - config.concurrency / 4;
        while picked.len() < BATCH && self.flight.len() < config.concurrency.saturating_mul(AHEAD) {
            let automatic = self.flight.len() < machines.saturating_mul(AHEAD);
            let blocked = &self.blocked;
            let may = |channel: u32| blocked.get(&channel).is_some_and(Option::is_none);
            let Some(task) = self.lanes.take(now, AHEAD, automatic, may) else { break };
            if !self.lanes.counts(&task) {
                self.give_back(task.lane);
                continue;
            }
            self.flight.insert((task.seq, task.lane));
            let lane = self.lanes.get(task.lane).map(|lane| lane.name.clone()).unwrap_or_default();
            picked.push(Picked { task, lane });
        }
        picked
    }

    fn give_back(&mut self, lane: u32) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.taken = lane.taken.saturating_sub(1);
        }
    }

    /// Begins what was loaded, and puts back what has to wait.
    pub fn loaded(&mut self, loaded: Result<Loading, StoreError>, now: Timestamp) -> Result<(), StoreError> {
        let (picked, loaded) = loaded?;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(trouble) => {
                for Picked { task, .. } in picked {
                    self.put_back(task, now);
                }
                return Err(trouble);
            }
        };
        for one in loaded {
            match one {
                Loaded::Ready(ready) => {
                    self.bytes += ready.under.bytes;
                    self.ready.entry(ready.under.task.lane).or_default().push_back(ready);
                }
                Loaded::Stale(task) => {
                    self.flight.remove(&(task.seq, task.lane));
                    self.give_back(task.lane);
                    self.fresh.insert(task.seq);
                }
                Loaded::Wait(task, until) => self.put_back(Task { due: until.as_microsecond(), ..task }, now),
            }
        }
        self.begin_ready();
        Ok(())
    }

    fn put_back(&mut self, task: Task, now: Timestamp) {
        self.flight.remove(&(task.seq, task.lane));
        self.give_back(task.lane);
        if self.lanes.counts(&task) {
            self.lanes.push(task, now);
        } else {
            self.fresh.insert(task.seq);
        }
    }

    fn begin_ready(&mut self) {
        let lanes: Vec<u32> = self.ready.keys().copied().collect();
        for lane in lanes {
            self.begin_lane(lane);
        }
    }

    fn begin_lane(&mut self, lane: u32) {
        let limit = self.lanes.get(lane).map_or(1, |lane| lane.limit.max(1));
        let started = self.started.entry(lane).or_default();
        let Some(queue) = self.ready.get_mut(&lane) else { return };
        while *started < limit
            && let Some(ready) = queue.pop_front()
        {
            let Ready { under, job, relay } = *ready;
            let handle = self.running.spawn(async move { relay.deliver(job).await });
            self.jobs.insert(handle.id(), under);
            *started += 1;
        }
        if queue.is_empty() {
            self.ready.remove(&lane);
        }
    }

    /// A job has ended.
    pub fn end(&mut self, ended: Option<Result<(Id, Outcome), JoinError>>, config: &Config, now: Timestamp) {
        let (id, outcome) = match ended {
            Some(Ok((id, outcome))) => (id, Some(outcome)),
            Some(Err(error)) => {
                tracing::error!(%error, "an attempt was broken off");
                (error.id(), None)
            }
            None => return,
        };
        let Some(under) = self.jobs.remove(&id) else { return };
        let broken = || {
            let reply = Reply::trouble("4.3.0", "the attempt was broken off by a fault of the program");
            Outcome::all(under.recipients.len(), RecipientOutcome::Ambiguous(reply))
        };
        let outcome = outcome.unwrap_or_else(broken);
        let lane = under.task.lane;
        self.bytes = self.bytes.saturating_sub(under.bytes);
        self.give_back(lane);
        self.feel(lane, &outcome, config, now);
        self.ended.push_back(Ended { under, outcome });
    }

    /// Learns from an outcome whether the lane's peer is there at all; without one the lane rests.
    fn feel(&mut self, lane: u32, outcome: &Outcome, config: &Config, now: Timestamp) {
        let health = self.health.entry(lane).or_default();
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        let delayed = |one: &RecipientOutcome| matches!(one, RecipientOutcome::Delayed(_));
        if outcome.transport.is_some() || !outcome.recipients.iter().all(delayed) {
            *health = Health::default();
            lane.rests = None;
            return;
        }
        health.troubles += 1;
        if config.rest_after > 0 && (health.troubles >= config.rest_after || lane.rests.is_some()) {
            let wait = config.rest_first.saturating_mul(1 << health.rests.min(16)).min(config.rest_most);
            // Those that ended together are one trouble.
            if lane.rests.as_ref().is_none_or(|(until, _)| *until <= now) {
                health.rests += 1;
                let said = outcome.recipients.first().map(|one| one.reply().to_string()).unwrap_or_default();
                tracing::warn!(lane = %lane.name, wait_s = wait.as_secs(), said, "a lane of the outbox rests");
                lane.rests = Some((later(now, wait), said));
            }
        }
    }

    /// Ends are on disk: the mails are looked at again, or are done.
    pub fn written(&mut self, written: Result<Writing, StoreError>, now: Timestamp) -> Result<(), StoreError> {
        let (ended, written) = written?;
        let written = match written {
            Ok(written) => written,
            Err(trouble) => {
                for one in ended.into_iter().rev() {
                    self.ended.push_front(one);
                }
                return Err(trouble);
            }
        };
        // All of the commit first, so that a mail of several lanes is not held to be under way by its own end.
        for (task, ..) in &written.done {
            self.flight.remove(&(task.seq, task.lane));
            if let Some(started) = self.started.get_mut(&task.lane) {
                *started = started.saturating_sub(1);
            }
        }
        let mut seen = HashSet::new();
        for (task, look, pause) in written.done {
            if let (Some(until), Some(lane)) = (pause, self.lanes.get_mut(task.lane))
                && lane.rests.as_ref().is_none_or(|(known, _)| *known < until)
            {
                lane.rests = Some((until, "the peer wants less mail for a while".into()));
            }
            if seen.insert(task.seq) {
                self.take_up(task.seq, look, now);
            }
        }
        self.begin_ready();
        Ok(())
    }

    /// Channels whose account nobody has asked about yet.
    pub fn strangers(&self) -> bool {
        self.lanes.channel_count() > self.blocked.len()
    }

    /// All channels that have or had mail.
    pub fn channels(&self) -> Vec<(u32, String)> {
        let count = self.lanes.channel_count() as u32;
        (0..count).map(|number| (number, self.lanes.channel_name(number).to_owned())).collect()
    }

    /// Takes up which channels may send.
    pub fn asked(&mut self, asked: Result<Asked, StoreError>) -> Result<(), StoreError> {
        self.blocked = asked??.into_iter().collect();
        Ok(())
    }

    /// Mails that are late or over without having had their turn, and what they wait for.
    pub fn overdue(&self, schedule: &Schedule, now: Timestamp) -> Vec<(u64, String)> {
        let mut found = BTreeMap::new();
        for task in self.lanes.tasks().filter(|task| self.lanes.counts(task)) {
            let since = Timestamp::from_microsecond(task.since).unwrap_or(now);
            let lane = self.lanes.get(task.lane);
            // A lane of a relay that was not there is looked at again: it may have been configured by now.
            let lost = lane.is_some_and(|lane| lane.limit == 0);
            if !lost && !schedule.is_over(task.class, since, now) && (task.told || !schedule.is_late(since, now)) {
                continue;
            }
            let blocked = self.blocked.get(&task.channel).cloned().flatten();
            let rests = || lane.and_then(|lane| lane.rests.as_ref().map(|(_, why)| why.clone()));
            let why = || match lost {
                true => "its relay is not configured".to_owned(),
                false => accounts::waits(&self.quotas, self.lanes.channel_name(task.channel)),
            };
            found.insert(task.seq, blocked.or_else(rests).unwrap_or_else(why));
            if found.len() >= OVERDUE {
                break;
            }
        }
        found.into_iter().filter(|(seq, _)| !self.flight.iter().any(|(under, _)| under == seq)).collect()
    }

    /// Whether ends are to be written down now. While they come in fast, a commit waits a moment for more of them: each
    /// costs two syncs, whatever is in it. While they come one by one none waits, as a crash would send them again.
    pub fn may_write(&self) -> bool {
        let rush = self.wrote >= RUSH && !self.running.is_empty() && self.ended.len() < BATCH / 2;
        let waits = rush && self.wrote_at.is_some_and(|at| at.elapsed() < RUSH_INTERVAL);
        !(self.ended.is_empty() || waits)
    }

    /// Forgets lanes that have nothing to do.
    pub fn prune(&mut self) {
        let flight: HashSet<u32> = self.flight.iter().map(|(_, lane)| *lane).collect();
        self.lanes.prune(&flight);
        let lanes = &self.lanes;
        self.health.retain(|lane, _| lanes.get(*lane).is_some());
        self.started.retain(|lane, started| *started > 0 || lanes.get(*lane).is_some());
    }

    /// How long the loop may sleep.
    pub fn pause(&self, now: Timestamp) -> Duration {
        if !self.ended.is_empty() {
            return RUSH_INTERVAL;
        }
        let idle = self.lanes.mails() == 0;
        let due = self.lanes.next_due(now);
        let until = due.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let most = if idle { LONGEST_PAUSE } else { super::ASK_EVERY };
        until.unwrap_or(most).clamp(Duration::from_millis(1), most)
    }

    /// How things are.
    pub fn snapshot(&self, default_relay: Option<String>, now: Timestamp) -> Snapshot {
        let lane = |lane: &super::lanes::Lane| LaneState {
            name: lane.name.clone(),
            relay: lane.relay.clone(),
            waiting: self.lanes.due_in(lane),
            running: lane.taken as u64,
            rests: lane.rests.clone().filter(|(until, _)| *until > now),
        };
        let blocked = self
            .blocked
            .iter()
            .filter_map(|(channel, why)| why.clone().map(|why| (self.lanes.channel_name(*channel).to_owned(), why)));
        let oldest = self.lanes.tasks().filter(|task| self.lanes.counts(task)).map(|task| task.since).min();
        Snapshot {
            mails: self.lanes.mails() as u64,
            due: self.lanes.all().map(|lane| self.lanes.due_in(lane)).sum(),
            running: self.running.len() as u64,
            oldest: oldest.and_then(|at| Timestamp::from_microsecond(at).ok()),
            lanes: self.lanes.all().filter(|l| self.lanes.due_in(l) > 0 || l.taken > 0).map(lane).collect(),
            blocked: blocked.collect(),
            quotas: self.quotas.lock().unwrap_or_else(PoisonError::into_inner).states(now),
            default_relay,
        }
    }
}
