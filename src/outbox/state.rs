//! What the worker keeps in its head while it runs: the lanes, what is under way, what has ended and is not on disk.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};

use super::accounts::Quotas;
use super::blocked::Blocked;
use super::config::Config;
use super::flight::Flight;
use super::health::Health;
use super::lanes::{Lanes, Task, Wanted};
use super::pace::Pace;
use super::quota::Load;
use super::room::Room;
use super::work::{Ended, Loaded, Look, Picked, Ready, Under};
use super::{AHEAD, BATCH, FIRST_WAIT, Loading, Looks, Writing};
use crate::relay::{Outcome, RecipientOutcome, Reply};
use crate::store::StoreError;

/// Jobs that have ended and are not on disk yet, at most; beyond that no new ones begin.
const UNWRITTEN: usize = 1024;
/// The longest that the loop sleeps.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// All of it.
pub struct State {
    pub lanes: Lanes,
    pub quotas: Arc<Mutex<Quotas>>,
    pub running: JoinSet<Outcome>,
    pub ended: VecDeque<Ended>,
    /// Mails that are to be looked at, and those that are being looked at.
    pub fresh: BTreeSet<u64>,
    pub looking: BTreeSet<u64>,
    /// The memory of the mails that are under way.
    pub room: Room,
    pub asked_at: Option<Timestamp>,
    pub swept_at: Option<Timestamp>,
    pub shown_at: Option<Timestamp>,
    /// How often it has swept.
    pub sweeps: u32,
    pub pace: Pace,
    /// The wait after the next trouble of the store.
    pub wait: Duration,
    pub(super) blocked: Blocked,
    jobs: HashMap<Id, Under>,
    pub(super) flight: Flight,
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
            looking: BTreeSet::new(),
            room: Room::default(),
            asked_at: None,
            swept_at: None,
            shown_at: None,
            sweeps: 0,
            pace: Pace::default(),
            wait: FIRST_WAIT,
            blocked: Blocked::default(),
            jobs: HashMap::new(),
            flight: Flight::default(),
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

    /// Takes up looks at mails that are new or changed.
    pub fn looked_fresh(&mut self, looks: Result<Looks, StoreError>, now: Timestamp) -> Result<(), StoreError> {
        let seqs = std::mem::take(&mut self.looking);
        self.flight.change(&seqs);
        let taken_up = self.looked(looks, now);
        if taken_up.is_err() {
            self.fresh.extend(seqs);
        }
        taken_up
    }

    fn take_up(&mut self, seq: u64, look: Option<Look>, now: Timestamp) {
        let mut lanes = Vec::new();
        for lane in look.iter().flat_map(|look| &look.lanes) {
            let at = self.lanes.lane(&lane.name, &lane.relay, lane.limit);
            let owner = lane.owner.as_ref().map(|owner| self.lanes.channel(&owner.to_lowercase()));
            if let Some(lane) = self.lanes.get_mut(at) {
                lane.owner = owner;
            }
            lanes.push((at, lane.due));
        }
        let numbers: Vec<u32> = lanes.iter().map(|(at, _)| *at).collect();
        for ready in self.flight.leave(seq, &numbers) {
            self.unloaded(&ready.under);
        }
        // Where a peer of another lane may have it, a second one does not get it as well: it is looked at again once
        // that end is on disk.
        let Some(row) = look.map(|look| look.row).filter(|_| !lanes.is_empty() && !self.flight.strays(seq, &numbers))
        else {
            self.lanes.forget(seq);
            return;
        };
        let number = self.lanes.look(seq);
        let channel = self.lanes.channel(&row.channel.to_lowercase());
        for (lane, due) in lanes {
            // What is under way is looked at again once its end is on disk.
            if self.flight.has(seq, lane) {
                continue;
            }
            let task = Task {
                seq,
                lane,
                channel,
                class: row.class,
                due: due.as_microsecond(),
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
        if self.ended.len() >= UNWRITTEN {
            return picked;
        }
        self.room.set_most(config.memory_bytes);
        // Some places are kept for people, so that a flood of automatic mail does not take them all, and some for lanes
        // that have nothing under way, so that servers that hang do not.
        let most = config.concurrency.saturating_mul(AHEAD);
        let machines = (config.concurrency - config.concurrency / 4).saturating_mul(AHEAD);
        while picked.len() < BATCH && self.flight.len() < most {
            let (under, blocked) = (self.flight.len(), &self.blocked);
            let wanted = Wanted { ahead: AHEAD, automatic: under < machines, idle: under >= most - most / 4 };
            let Some(task) = self.lanes.take(now, wanted, |channel| blocked.may(channel)) else { break };
            if !self.lanes.counts(&task) {
                self.give_back(task.lane);
                continue;
            }
            self.flight.load(&task);
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

    /// A mail has left memory.
    fn release(&mut self, under: &Under) {
        self.room.give_back(&under.task, under.bytes);
        self.give_back(under.task.lane);
        if let Some(lane) = self.lanes.get_mut(under.task.lane) {
            lane.full = false;
        }
    }

    /// A mail was loaded ahead, and is not sent for now: the quota has it back.
    fn unloaded(&mut self, under: &Under) {
        self.release(under);
        if let Some(key) = &under.quota {
            let load = Load { bytes: under.bytes, recipients: &under.hashes };
            let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
            quotas.take_back(key, under.noted, load);
        }
    }

    /// Puts what was loaded ahead back into its lane.
    pub fn unload(&mut self, which: impl Fn(&Task) -> bool, now: Timestamp) {
        for ready in self.flight.unload(which) {
            self.unloaded(&ready.under);
            self.wait(ready.under.task, now);
        }
    }

    /// Takes in what was loaded, and puts back what has to wait.
    pub fn loaded(&mut self, loaded: Result<Loading, StoreError>, now: Timestamp) -> Result<(), StoreError> {
        let (picked, loaded) = loaded?;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(trouble) => {
                for Picked { task, .. } in picked.into_iter().rev() {
                    self.put_back(task, now);
                }
                return Err(trouble);
            }
        };
        // The last one first, so that those that are put back keep their order.
        for one in loaded.iter().rev() {
            match one {
                Loaded::Ready(_) => {}
                Loaded::Stale(task) => {
                    self.flight.end(task);
                    self.give_back(task.lane);
                    self.fresh.insert(task.seq);
                }
                Loaded::Wait(task, until) => self.put_back(Task { due: until.as_microsecond(), ..*task }, now),
                Loaded::Full(task) => {
                    self.put_back(*task, now);
                    if let Some(lane) = self.lanes.get_mut(task.lane) {
                        lane.full = true;
                    }
                }
            }
        }
        for one in loaded {
            let Loaded::Ready(ready) = one else { continue };
            self.room.take(&ready.under.task, ready.under.bytes);
            if let Some(void) = self.flight.keep(ready) {
                self.flight.end(&void.under.task);
                self.unloaded(&void.under);
                self.fresh.insert(void.under.task.seq);
            }
        }
        self.refill();
        Ok(())
    }

    /// A lane whose mail has all left memory while more of it was being loaded has room again.
    fn refill(&mut self) {
        let room = &self.room;
        self.lanes.full_lanes().filter(|(number, _)| !room.has(*number)).for_each(|(_, lane)| lane.full = false);
    }

    fn put_back(&mut self, task: Task, now: Timestamp) {
        self.flight.end(&task);
        self.give_back(task.lane);
        self.wait(task, now);
    }

    fn wait(&mut self, task: Task, now: Timestamp) {
        if self.lanes.counts(&task) {
            self.lanes.put_back(task, now);
        } else {
            self.fresh.insert(task.seq);
        }
    }

    /// Begins what lies in memory, as far as its lanes have places and their peers want it. A mail that people have
    /// just changed waits until it has been looked at.
    pub fn begin(&mut self, now: Timestamp) {
        for number in self.flight.waiting() {
            let lane = self.lanes.get(number);
            if lane.is_some_and(|lane| lane.rests.as_ref().is_some_and(|(until, _)| *until > now)) {
                self.unload(|task| task.lane == number, now);
                continue;
            }
            let limit = lane.map_or(1, |lane| lane.places().max(1));
            let (fresh, looking) = (&self.fresh, &self.looking);
            let asked = |seq: u64| fresh.contains(&seq) || looking.contains(&seq);
            while let Some(Ready { mut under, job, relay }) = self.flight.begin(number, limit, asked) {
                under.began = now;
                let handle = self.running.spawn(async move { relay.deliver(job).await });
                self.jobs.insert(handle.id(), under);
            }
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
        self.release(&under);
        if let Some(lane) = self.lanes.get_mut(under.task.lane) {
            self.health.entry(under.task.lane).or_default().learn(lane, &outcome, config, now);
        }
        self.ended.push_back(Ended { under, outcome });
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
            self.flight.end(task);
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
            if self.flight.was_changed(task.seq) {
                self.fresh.insert(task.seq);
            }
        }
        Ok(())
    }

    /// Whether ends are to be written down now.
    pub fn may_write(&self) -> bool {
        let ends = self.ended.iter().map(|one| one.under.task.lane);
        self.pace.may_begin(ends, |lane| self.flight.started(lane), Instant::now())
    }

    /// Forgets lanes that have nothing to do.
    pub fn prune(&mut self) {
        self.lanes.prune(&self.flight.lanes());
        let lanes = &self.lanes;
        self.health.retain(|lane, _| lanes.get(*lane).is_some());
        self.flight.prune(|lane| lanes.get(lane).is_some());
    }

    /// How long the loop may sleep.
    pub fn pause(&self, now: Timestamp) -> Duration {
        if !self.ended.is_empty() {
            return self.pace.pause(Instant::now());
        }
        let idle = self.lanes.mails() == 0;
        let due = self.lanes.next_due(now);
        let until = due.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let most = if idle { LONGEST_PAUSE } else { super::ASK_EVERY };
        until.unwrap_or(most).clamp(Duration::from_millis(1), most)
    }
}
