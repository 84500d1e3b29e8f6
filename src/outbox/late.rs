//! What does not get its turn: mail of channels whose account may not send, and mail that is late meanwhile.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::accounts;
use super::blocked::Question;
use super::clocks::{Asked, Given, Owed};
use super::judge::without_attempt;
use super::schedule::Schedule;
use super::state::State;
use super::work::{Overdue, RECIPIENTS};
use super::{Looks, Worker};
use crate::store::rows::{ClockRow, OutboxState};
use crate::store::{Settled, StoreError};

/// Mails that are late and are told of in one sweep.
const OVERDUE: usize = 200;
/// Their recipients that share a commit, but for those of the last one.
const TOGETHER: usize = 2_000;

impl State {
    /// Channels whose account nobody has asked about yet.
    pub fn strangers(&self) -> bool {
        self.lanes.channel_count() > self.blocked.known()
    }

    /// Takes up the clocks that stood still when the process before this one ended.
    pub fn restore(&mut self, clocks: Vec<ClockRow>) {
        for ClockRow { account, since, until, .. } in clocks {
            let channel = self.lanes.channel(&account);
            self.blocked.restore(channel, since, until);
        }
    }

    /// What is to be asked of all channels that have or had mail.
    pub fn questions(&self, now: Timestamp) -> Vec<Question> {
        let count = self.lanes.channel_count() as u32;
        let ask = |number| self.blocked.question(number, self.lanes.channel_name(number).to_owned(), now);
        (0..count).map(ask).collect()
    }

    /// Takes up which channels may send. What was loaded for one that may not waits with the rest.
    pub fn asked(
        &mut self,
        asked: Result<Result<Asked, StoreError>, StoreError>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Asked { whys, written, at } = asked??;
        let (written, trouble) = match written {
            Ok(written) => (written, Ok(())),
            Err(trouble) => (HashSet::new(), Err(trouble)),
        };
        self.blocked.asked(whys, &written, at);
        let barred = |channel: &u32| !self.blocked.may(*channel);
        let channels: HashSet<u32> = (0..self.lanes.channel_count() as u32).filter(barred).collect();
        if !channels.is_empty() {
            let lanes = self.lanes.all().filter(|(_, lane)| lane.owner.is_some_and(|owner| channels.contains(&owner)));
            let lanes: HashSet<u32> = lanes.map(|(number, _)| number).collect();
            self.unload(|task| channels.contains(&task.channel) || lanes.contains(&task.lane), now);
        }
        trouble
    }

    /// A channel whose mail is to get back the time for which it could not be sent.
    pub fn owed(&self) -> Option<Owed> {
        let (channel, (since, until)) = self.blocked.owed()?;
        Some(Owed { channel, account: self.lanes.channel_name(channel).to_owned(), since, until })
    }

    /// That is written down.
    pub fn given(&mut self, given: Result<Given, StoreError>) -> Result<(), StoreError> {
        let (channel, written) = given?;
        written?;
        self.blocked.given(channel);
        Ok(())
    }

    /// Mails that are late or over without having had their turn, and what they wait for.
    pub fn overdue(&self, schedule: &Schedule, now: Timestamp) -> Vec<Overdue> {
        let mut found = BTreeMap::new();
        for task in self.lanes.tasks() {
            let since = Timestamp::from_microsecond(task.since).unwrap_or(now);
            let lane = self.lanes.get(task.lane);
            let owner = lane.and_then(|lane| lane.owner);
            let by_owner = owner.map_or(now, |owner| self.blocked.clock(owner, now));
            let clock = self.blocked.clock(task.channel, now).min(by_owner);
            // A lane of a relay that was not there is looked at again: it may have been configured by now.
            let lost = lane.is_some_and(|lane| lane.limit == 0);
            if !lost && !schedule.is_over(task.class, since, clock) && (task.told || !schedule.is_late(since, now)) {
                continue;
            }
            let blocked = self.blocked.why(task.channel).or_else(|| self.blocked.why(owner?)).map(str::to_owned);
            let rests = || lane.and_then(|lane| lane.rests.as_ref().map(|(_, why)| why.clone()));
            let why = || match lost {
                true => "its relay is not configured".to_owned(),
                false => accounts::waits(&self.quotas, self.lanes.channel_name(task.channel)),
            };
            let why = blocked.or_else(rests).unwrap_or_else(why);
            found.insert(task.seq, Overdue { seq: task.seq, why, clock });
            if found.len() >= OVERDUE {
                break;
            }
        }
        found.into_values().filter(|one| !self.flight.has_mail(one.seq)).collect()
    }
}

impl Worker {
    /// Tells of mails that are late, or gives them up, although it was never their turn; many share a commit.
    pub(super) fn overdue(&self, overdue: &[Overdue]) -> Looks {
        let (mut looks, mut settled, mut recipients) = (Vec::new(), Vec::new(), 0);
        for one in overdue {
            match self.without_turn(one)? {
                Some(one) => {
                    recipients += one.recipients.len() + one.delayed.len();
                    settled.push(one);
                }
                None => looks.push((one.seq, self.look_at(self.store.outbox_row(one.seq)?)?)),
            }
            if recipients >= TOGETHER {
                looks.extend(self.settled_looks(&settled)?);
                (settled, recipients) = (Vec::new(), 0);
            }
        }
        if !settled.is_empty() {
            looks.extend(self.settled_looks(&settled)?);
        }
        Ok(looks)
    }

    /// Writes down what became of mails, and looks at them again.
    fn settled_looks(&self, settled: &[Settled]) -> Looks {
        self.settle(settled)?.into_iter().map(|row| Ok((row.seq, self.look(row)?))).collect()
    }

    /// What is to be written down of a mail that is late or over by now, if it is.
    fn without_turn(&self, overdue: &Overdue) -> Result<Option<Settled>, StoreError> {
        let Overdue { seq, ref why, clock } = *overdue;
        let row = self.store.outbox_row(seq)?.filter(|row| row.state == OutboxState::Waiting);
        let Some(row) = row else { return Ok(None) };
        let (now, schedule) = (self.clock.now(), self.config.load().schedule());
        let over = schedule.is_over(row.class, row.since, clock);
        let still = !schedule.is_over(row.class, row.since, now);
        let late = !row.delayed_told && still && schedule.is_late(row.since, now);
        if !(over || late) {
            return Ok(None);
        }
        let recipients = self.store.recipients(seq, 0, RECIPIENTS)?.into_iter().filter(|to| to.state.waits());
        let recipients: Vec<(u32, String)> = recipients.map(|to| (to.n, to.address)).collect();
        Ok(Some(without_attempt(&row, &recipients, why, &schedule, now)))
    }
}
