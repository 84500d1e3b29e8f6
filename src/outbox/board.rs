//! What the outbox shows of itself: its depth, its lanes, what waits and why, what is left of quotas.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Its server took nothing of many mails in a row, and what it said: it gets one at a time.
    pub slow: Option<String>,
}

/// The windows of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaState {
    pub relay: String,
    /// Whose it is: a channel, or the login of the relay's own.
    pub channel: String,
    /// The channels whose mail is counted here, in lower case.
    pub senders: BTreeSet<String>,
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
    /// The relays that each channel's mail waits for, and for each the channel whose account it logs in with.
    pub relays: BTreeMap<String, BTreeMap<String, Option<String>>>,
    pub quotas: Vec<QuotaState>,
    pub default_relay: Option<String>,
    /// The relay that takes everything, where one does.
    pub sandbox: Option<String>,
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
        let channel = row.channel.to_lowercase();
        if let Some(why) = self.blocked.get(&channel).or_else(|| self.owner_blocked(&channel, row)) {
            return Some(why.clone());
        }
        if row.due > now {
            return None;
        }
        let quota = self.quotas.iter().filter(|quota| quota.senders.contains(&channel));
        let quota = quota.filter_map(|quota| quota.until.as_ref().map(|until| (quota, until)));
        if let Some((quota, (until, window))) = quota.max_by_key(|(_, (until, _))| *until) {
            let why = refused(&quota.takeovers, &row.channel).map(|it| format!("; {}", it.said)).unwrap_or_default();
            let QuotaState { channel, relay, .. } = quota;
            return Some(format!("the quota of {channel} at relay \"{relay}\" ({window}) until {until:.0}{why}"));
        }
        let own = self.relays.get(&channel);
        let lane = |lane: &&LaneState| match &row.relay {
            Some(asked) => *asked == lane.relay,
            None => own.is_none_or(|relays| relays.contains_key(&lane.relay)),
        };
        let resting = self.lanes.iter().filter(lane).filter_map(|lane| lane.rests.as_ref().map(|rests| (lane, rests)));
        // Which lane a mail is in is known to the worker alone; where all rest, it does.
        if resting.clone().count() == self.lanes.iter().filter(lane).count() {
            let (lane, (until, why)) = resting.min_by_key(|(_, (until, _))| *until)?;
            return Some(format!("\"{}\" rests until {until:.0}: {why}", lane.name));
        }
        None
    }

    /// Why none of the relays that a mail may leave by can log in. Which one it is the worker alone knows.
    fn owner_blocked(&self, channel: &str, row: &OutboxRow) -> Option<&String> {
        let fits = |relay: &String| row.relay.as_ref().is_none_or(|asked| asked == relay);
        let mut found = None;
        for (_, owner) in self.relays.get(channel)?.iter().filter(|(relay, _)| fits(relay)) {
            found = Some(self.blocked.get(owner.as_ref()?)?);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::judge::tests::{at, row};

    #[test]
    fn mail_names_the_server_of_its_own_relay_that_rests() {
        let lane = |relay: &str, until: i64| LaneState {
            name: relay.into(),
            relay: relay.into(),
            waiting: 1,
            running: 0,
            rests: Some((at(until), "no".into())),
            slow: None,
        };
        let own = BTreeMap::from([("beta".to_owned(), None)]);
        let snapshot = Snapshot {
            lanes: vec![lane("alpha", 50), lane("beta", 60)],
            relays: BTreeMap::from([("support@a.example".to_owned(), own)]),
            ..Snapshot::default()
        };
        // The relay that was asked for; the server that is named.
        for (asked, want) in [(None, "\"beta\" rests until "), (Some("alpha"), "\"alpha\" rests until ")] {
            let row = OutboxRow { relay: asked.map(str::to_owned), ..row() };
            let got = snapshot.waits_for(&row, at(1)).unwrap_or_default();
            assert!(got.starts_with(want) && !got.contains('.'), "{asked:?}: {got}");
        }
    }

    #[test]
    fn mail_says_that_it_waits_for_the_account_of_another_channel() {
        let relays = |list: &[(&str, Option<&str>)]| {
            let of = list.iter().map(|(relay, owner)| ((*relay).to_owned(), owner.map(str::to_owned)));
            BTreeMap::from([("support@a.example".to_owned(), of.collect())])
        };
        let blocked = BTreeMap::from([("desk@a.example".to_owned(), "desk is disconnected".to_owned())]);
        let desk = Some("desk@a.example");
        // The relays that the channel's mail waits for, the one that was asked for; whether the account is blocked.
        let table = [
            (vec![("gmail", desk)], None, true, Some("desk is disconnected")),
            (vec![("gmail", desk), ("smart", None)], None, true, None),
            (vec![("gmail", desk), ("smart", None)], Some("gmail"), true, Some("desk is disconnected")),
            (vec![("gmail", desk), ("smart", None)], Some("smart"), true, None),
            (vec![("gmail", desk)], None, false, None),
        ];
        let running =
            LaneState { name: "x".into(), relay: "smart".into(), waiting: 1, running: 0, rests: None, slow: None };
        for (list, relay, is_blocked, want) in table {
            let snapshot = Snapshot {
                relays: relays(&list),
                blocked: if is_blocked { blocked.clone() } else { BTreeMap::new() },
                lanes: vec![running.clone()],
                ..Snapshot::default()
            };
            let row = OutboxRow { relay: relay.map(str::to_owned), ..row() };
            let got = snapshot.waits_for(&row, at(1));
            assert_eq!(got.as_deref(), want, "{list:?} {relay:?} {is_blocked}");
        }
    }
}
