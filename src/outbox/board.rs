//! What the outbox shows of itself: its depth, its lanes, what waits and why, what is left of quotas.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::accounts::{Takeover, refused};
use super::quota::Remaining;
use crate::store::rows::{OutboxRow, OutboxState};

/// One lane as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneState {
    pub name: String,
    pub relay: String,
    pub waiting: u64,
    pub running: u64,
    /// Until when it rests, and why.
    pub rests: Option<(Timestamp, String)>,
}

/// The windows of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaState {
    pub relay: String,
    /// The channel whose account it is.
    pub channel: String,
    pub remaining: Remaining,
    /// A day's window is nearly full.
    pub near: bool,
    /// Until when mail waits for a window, and for which.
    pub until: Option<(Timestamp, String)>,
    /// Near the end of it: whether the default relay takes over, by the domains of the mail's authors.
    pub takeovers: BTreeMap<String, Takeover>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Mails that wait for an attempt, and how many of them are due.
    pub mails: u64,
    pub due: u64,
    pub running: u64,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
    pub lanes: Vec<LaneState>,
    /// Channels whose mail waits, with the reason.
    pub blocked: BTreeMap<String, String>,
    pub quotas: Vec<QuotaState>,
    pub default_relay: Option<String>,
}

/// The newest snapshot, and whether somebody is in a hurry; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board {
    shown: Arc<Mutex<Snapshot>>,
    hurried: Arc<AtomicBool>,
}

impl Board {
    pub fn show(&self, snapshot: Snapshot) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    pub fn now(&self) -> Snapshot {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A person wants mail to be tried now: lanes that rest try one mail as soon as the worker looks here, which the
    /// commit of that person's order makes it do.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
    }

    /// Whether somebody was in a hurry since this was last asked.
    pub fn hurried(&self) -> bool {
        self.hurried.swap(false, Ordering::AcqRel)
    }
}

impl Snapshot {
    /// What a mail waits for beside its time, if it does.
    pub fn waits_for(&self, row: &OutboxRow, now: Timestamp) -> Option<String> {
        if row.state != OutboxState::Waiting {
            return None;
        }
        if let Some(why) = self.blocked.get(&row.channel.to_lowercase()) {
            return Some(why.clone());
        }
        if row.due > now {
            return None;
        }
        let quota = self.quotas.iter().filter(|quota| quota.channel.eq_ignore_ascii_case(&row.channel));
        let quota = quota.filter_map(|quota| quota.until.as_ref().map(|until| (quota, until)));
        if let Some((quota, (until, window))) = quota.max_by_key(|(_, (until, _))| *until) {
            let why = refused(&quota.takeovers, &row.channel).map(|it| format!("; {}", it.said)).unwrap_or_default();
            let QuotaState { channel, relay, .. } = quota;
            return Some(format!("the quota of {channel} at relay \"{relay}\" ({window}) until {until}{why}"));
        }
        let lane = |lane: &&LaneState| row.relay.as_ref().is_none_or(|relay| *relay == lane.relay);
        let resting = self.lanes.iter().filter(lane).filter_map(|lane| lane.rests.as_ref().map(|rests| (lane, rests)));
        // Which lane a mail is in is known to the worker alone; where all rest, it does.
        if resting.clone().count() == self.lanes.iter().filter(lane).count() {
            let (lane, (until, why)) = resting.min_by_key(|(_, (until, _))| *until)?;
            let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
            return Some(format!("\"{}\" rests until {until}: {why}", lane.name));
        }
        None
    }
}
