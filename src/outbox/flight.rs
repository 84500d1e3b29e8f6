//! What is under way: from the moment that a mail is taken out of a lane until its end is on disk. It may be loaded
//! ahead and lie in memory until the lane has a place; while nobody has begun it, people may still have it back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::lanes::Task;
use super::work::Ready;

/// How far a mail has come in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Loading,
    /// It was changed while it was being loaded: what comes of that does not count.
    Void,
    /// It lies in memory.
    Ready,
    /// Its peer may have it.
    Begun,
}

/// All of it.
#[derive(Default)]
pub struct Flight {
    stages: BTreeMap<(u64, u32), Stage>,
    /// Mails that people have changed while they were under way: what was read of them for their end may be older.
    changed: HashSet<u64>,
    ready: HashMap<u32, VecDeque<Box<Ready>>>,
    /// How many of a lane's places are taken, each until its end is on disk: that bounds what a crash sends twice.
    started: HashMap<u32, usize>,
}

impl Flight {
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    pub fn has(&self, seq: u64, lane: u32) -> bool {
        self.stages.contains_key(&(seq, lane))
    }

    /// Whether a mail is under way in any lane.
    pub fn has_mail(&self, seq: u64) -> bool {
        self.lanes_of(seq).next().is_some()
    }

    /// The lanes that have something under way.
    pub fn lanes(&self) -> HashSet<u32> {
        self.stages.keys().map(|(_, lane)| *lane).collect()
    }

    fn lanes_of(&self, seq: u64) -> impl Iterator<Item = (u32, Stage)> + '_ {
        self.stages.range((seq, 0)..=(seq, u32::MAX)).map(|((_, lane), stage)| (*lane, *stage))
    }

    /// People have changed these mails, or they are new.
    pub fn change(&mut self, seqs: &BTreeSet<u64>) {
        let under_way = seqs.iter().copied().filter(|seq| self.has_mail(*seq)).collect::<Vec<_>>();
        self.changed.extend(under_way);
    }

    /// Whether a mail was changed on its way; asked once, when its end is on disk.
    pub fn was_changed(&mut self, seq: u64) -> bool {
        self.changed.remove(&seq)
    }

    /// A mail is being loaded for a lane.
    pub fn load(&mut self, task: &Task) {
        self.stages.insert((task.seq, task.lane), Stage::Loading);
    }

    /// A mail is loaded. It comes back if it was changed meanwhile.
    pub fn keep(&mut self, ready: Box<Ready>) -> Option<Box<Ready>> {
        let task = ready.under.task;
        match self.stages.get_mut(&(task.seq, task.lane)) {
            Some(stage @ Stage::Loading) => *stage = Stage::Ready,
            _ => return Some(ready),
        }
        self.ready.entry(task.lane).or_default().push_back(ready);
        None
    }

    /// It is not under way any more.
    pub fn end(&mut self, task: &Task) {
        if self.stages.remove(&(task.seq, task.lane)) == Some(Stage::Begun)
            && let Some(started) = self.started.get_mut(&task.lane)
        {
            *started = started.saturating_sub(1);
        }
    }

    /// The mail waits in these lanes only. Returns what had been loaded for others.
    pub fn leave(&mut self, seq: u64, lanes: &[u32]) -> Vec<Ready> {
        let others: Vec<(u32, Stage)> = self.lanes_of(seq).filter(|(lane, _)| !lanes.contains(lane)).collect();
        let mut left = Vec::new();
        for (lane, stage) in others {
            match stage {
                Stage::Loading => {
                    self.stages.insert((seq, lane), Stage::Void);
                }
                Stage::Ready => {
                    self.stages.remove(&(seq, lane));
                    let queue = self.ready.get_mut(&lane);
                    left.extend(queue.and_then(|queue| {
                        let at = queue.iter().position(|ready| ready.under.task.seq == seq)?;
                        queue.remove(at).map(|ready| *ready)
                    }));
                    self.ready.retain(|_, queue| !queue.is_empty());
                }
                Stage::Void | Stage::Begun => {}
            }
        }
        left
    }

    /// Whether a mail is under way in a lane beside these: a second attempt could bring it twice.
    pub fn strays(&self, seq: u64, lanes: &[u32]) -> bool {
        self.lanes_of(seq).any(|(lane, _)| !lanes.contains(&lane))
    }

    /// The lanes that have something in memory.
    pub fn waiting(&self) -> Vec<u32> {
        self.ready.keys().copied().collect()
    }

    /// Begins what comes next in a lane, if it has a place. What is `asked` about is left alone until the answer.
    pub fn begin(&mut self, lane: u32, limit: usize, asked: impl Fn(u64) -> bool) -> Option<Ready> {
        let started = self.started.entry(lane).or_default();
        let queue = self.ready.get_mut(&lane).filter(|_| *started < limit)?;
        let at = queue.iter().position(|ready| !asked(ready.under.task.seq))?;
        let ready = queue.remove(at)?;
        if queue.is_empty() {
            self.ready.remove(&lane);
        }
        *started += 1;
        self.stages.insert((ready.under.task.seq, lane), Stage::Begun);
        Some(*ready)
    }

    /// How many places of a lane are taken.
    pub fn started(&self, lane: u32) -> usize {
        self.started.get(&lane).copied().unwrap_or_default()
    }

    /// Takes what lies in memory and nobody has begun, the last first.
    pub fn unload(&mut self, which: impl Fn(&Task) -> bool) -> Vec<Ready> {
        let mut unloaded = Vec::new();
        for queue in self.ready.values_mut() {
            let (out, kept) = std::mem::take(queue).into_iter().partition(|ready| which(&ready.under.task));
            *queue = kept;
            let out: VecDeque<Box<Ready>> = out;
            unloaded.extend(out.into_iter().rev().map(|ready| *ready));
        }
        self.ready.retain(|_, queue| !queue.is_empty());
        for ready in &unloaded {
            self.stages.remove(&(ready.under.task.seq, ready.under.task.lane));
        }
        unloaded
    }

    /// Forgets lanes that are gone, and changes of mails that have left without an end, as what was cancelled does.
    pub fn prune(&mut self, known: impl Fn(u32) -> bool) {
        self.started.retain(|lane, started| *started > 0 || known(*lane));
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|seq| self.has_mail(*seq));
        self.changed = changed;
    }
}
