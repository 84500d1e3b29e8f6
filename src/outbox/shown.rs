//! What the worker shows of its head: a snapshot for the board.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use jiff::Timestamp;

use super::board::{LaneState, Snapshot};
use super::config::Config;
use super::lanes::Lane;
use super::state::State;

impl State {
    /// How things are.
    pub fn snapshot(&self, config: &Config, now: Timestamp) -> Snapshot {
        let lane = |(lane, waiting): (&Lane, u64)| LaneState {
            name: lane.name.clone(),
            relay: lane.relay.clone(),
            waiting,
            running: lane.taken as u64,
            rests: lane.rests.clone().filter(|(until, _)| *until > now),
            slow: lane.slow.clone(),
        };
        let lanes: Vec<(&Lane, u64)> = self.lanes.all().map(|(_, lane)| (lane, self.lanes.due_in(lane))).collect();
        let blocked = self.blocked.all();
        let blocked = blocked.map(|(channel, why)| (self.lanes.channel_name(channel).to_owned(), why.to_owned()));
        let (mut oldest, mut used) = (None, BTreeSet::new());
        for task in self.lanes.tasks() {
            oldest = Some(oldest.map_or(task.since, |oldest: i64| oldest.min(task.since)));
            used.insert((task.channel, task.lane));
        }
        Snapshot {
            mails: self.lanes.mails() as u64,
            due: lanes.iter().map(|(_, due)| due).sum(),
            running: self.running.len() as u64,
            oldest: oldest.and_then(|at| Timestamp::from_microsecond(at).ok()),
            lanes: lanes.into_iter().filter(|(lane, due)| *due > 0 || lane.taken > 0).map(lane).collect(),
            blocked: blocked.collect(),
            relays: self.relays(used),
            quotas: self.quotas.lock().unwrap_or_else(PoisonError::into_inner).states(now),
            default_relay: config.default_relay.clone(),
            sandbox: config.sandbox.clone(),
        }
    }

    /// The relays that channels' mail waits for, each with the channel whose account it logs in with.
    fn relays(&self, used: BTreeSet<(u32, u32)>) -> BTreeMap<String, BTreeMap<String, Option<String>>> {
        let mut relays = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (channel, lane) in used {
            let Some(lane) = self.lanes.get(lane) else { continue };
            let owner = lane.owner.map(|owner| self.lanes.channel_name(owner).to_owned());
            let of = relays.entry(self.lanes.channel_name(channel).to_owned()).or_default();
            of.insert(lane.relay.clone(), owner);
        }
        relays
    }
}
