//! What the worker does on the disk, away from the async threads: looking at mail, loading it, writing down its end.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::Worker;
use super::accounts::{self, GivesWay, News, Quotas, Verdict};
use super::fields::Toll;
use super::judge::{Attempt, judge};
use super::lanes::Task;
use super::quota::Load;
use super::room::{Place, Room};
use super::schedule::{Schedule, later};
use super::takeover::{Answer, Way};
use super::{ASK_EVERY, SWEEP_EVERY, choose};
use crate::mail::Address;
use crate::relay::{Job, JobRecipient, Outcome, Relay};
use crate::store::rows::{OutboxRow, OutboxState, RecipientRow};
use crate::store::{Settled, StoreError};

/// The most recipients of one mail that are looked at.
pub(super) const RECIPIENTS: usize = 10_000;
/// How long an account waits that a peer has throttled, where neither the peer nor a quota says for how long.
const THROTTLED: std::time::Duration = std::time::Duration::from_secs(60);

/// A mail with the lanes in which it waits.
#[derive(Debug)]
pub struct Look {
    pub row: OutboxRow,
    pub lanes: Vec<LaneLook>,
}

/// One lane of a mail.
#[derive(Debug)]
pub struct LaneLook {
    pub name: String,
    pub relay: String,
    pub limit: usize,
    pub due: Timestamp,
    /// The channel whose account the relay logs in with, if it does.
    pub owner: Option<String>,
}

/// A task that was taken out, with the name of its lane.
#[derive(Clone, Debug)]
pub struct Picked {
    pub task: Task,
    pub lane: String,
}

/// What came of loading a task.
pub enum Loaded {
    Ready(Box<Ready>),
    /// There is nothing to do in this lane any more, or in another one: the mail is to be looked at again.
    Stale(Task),
    /// Not before then.
    Wait(Task, Timestamp),
    /// Not before one of its lane has left memory.
    Full(Task),
}

/// A job with all that is needed once it has ended.
pub struct Ready {
    pub under: Under,
    pub job: Job,
    pub relay: Arc<Relay>,
}

/// A job that is under way.
#[derive(Debug)]
pub struct Under {
    pub task: Task,
    pub row: OutboxRow,
    pub relay: String,
    pub recipients: Vec<(u32, String)>,
    /// How often each of them was tried before.
    pub attempts: Vec<u32>,
    pub bytes: u64,
    /// The account whose quota counted it, when, and its recipients as the quota knows them.
    pub quota: Option<String>,
    pub noted: Timestamp,
    /// When its attempt began.
    pub began: Timestamp,
    pub hashes: Vec<u64>,
    pub toll: Toll,
}

/// A mail that has not had its turn, and is late or over.
#[derive(Debug)]
pub struct Overdue {
    pub seq: u64,
    pub why: String,
    /// The time by its clock, which stands still while its account may not send.
    pub clock: Timestamp,
}

/// A job that has ended.
#[derive(Debug)]
pub struct Ended {
    pub under: Under,
    pub outcome: Outcome,
}

/// What stands after a commit.
#[derive(Debug, Default)]
pub struct Written {
    /// The jobs that it was about, each mail's look after it, and until when their peer wants no more.
    pub done: Vec<(Task, Option<Look>, Option<Timestamp>)>,
}

impl Worker {
    /// Where a mail waits; `None` for one that does not.
    pub fn look(&self, row: OutboxRow) -> Result<Option<Look>, StoreError> {
        if row.state != OutboxState::Waiting {
            return Ok(None);
        }
        let name = self.choose(&row)?.relay;
        let relay = name.as_deref().and_then(|name| self.relays.get(name));
        let mut lanes: Vec<LaneLook> = Vec::new();
        let channel = Address::parse(&row.channel);
        let owner = relay.as_ref().zip(channel.as_ref().ok()).and_then(|(relay, channel)| relay.account(channel));
        let owner = owner.map(|owner| owner.to_string());
        for recipient in self.store.recipients(row.seq, 0, RECIPIENTS)? {
            if !recipient.state.waits() {
                continue;
            }
            let due = recipient.due(&row);
            let (lane, limit) = match (&relay, &channel, Address::parse(&recipient.address)) {
                (Some(relay), Ok(channel), Ok(to)) => (relay.lane(channel, &to), relay.concurrency()),
                _ => (format!("(no relay) {}", name.clone().unwrap_or_default()), 0),
            };
            match lanes.iter_mut().find(|known| known.name == lane) {
                Some(known) => known.due = known.due.min(due),
                None => lanes.push(LaneLook {
                    name: lane,
                    relay: name.clone().unwrap_or_default(),
                    limit,
                    due,
                    owner: owner.clone(),
                }),
            }
        }
        Ok(Some(Look { row, lanes }))
    }

    /// The same of a row that may be gone.
    pub(super) fn look_at(&self, row: Option<OutboxRow>) -> Result<Option<Look>, StoreError> {
        row.map_or(Ok(None), |row| self.look(row))
    }

    /// Loads what was picked, as far as there is room, and asks the quotas. What quotas have counted is on disk when
    /// this returns, before anything is sent.
    pub(super) fn load(
        &self,
        picked: Vec<Picked>,
        mut room: Room,
        quotas: &Mutex<Quotas>,
    ) -> Result<Vec<Loaded>, StoreError> {
        let now = self.clock.now();
        let load = |pick| self.load_one(pick, &mut room, quotas, now);
        let loaded = picked.into_iter().map(load).collect::<Result<_, _>>()?;
        self.keep(quotas, now)?;
        Ok(loaded)
    }

    /// Keeps what quotas have counted, and tells what is new of them.
    pub(super) fn keep(&self, quotas: &Mutex<Quotas>, now: Timestamp) -> Result<(), StoreError> {
        // Held until the commit, so that of two commits the later one has the newer pages.
        let mut quotas = quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, news) = (quotas.changes(), quotas.news(now));
        if changes.is_empty() && news.is_empty() {
            return Ok(());
        }
        for News { channel, kind, said } in &news {
            tracing::warn!(channel, kind, said, "a quota is nearly used");
        }
        self.store.step(|step| {
            news.iter().try_for_each(|news| step.quota_event(news.kind, &news.channel, &news.said, now))?;
            changes.into_iter().try_for_each(|(account, pages)| step.put_quota(&account, pages))
        })
    }

    fn load_one(
        &self,
        pick: Picked,
        room: &mut Room,
        quotas: &Mutex<Quotas>,
        now: Timestamp,
    ) -> Result<Loaded, StoreError> {
        let task = pick.task;
        let Some(row) = self.store.outbox_row(task.seq)?.filter(|row| row.state == OutboxState::Waiting) else {
            return Ok(Loaded::Stale(task));
        };
        let chosen = self.choose(&row)?;
        if let Some(again) = chosen.again {
            return Ok(Loaded::Wait(task, again));
        }
        let Some(mut relay) = chosen.relay.as_deref().and_then(|name| self.relays.get(name)) else {
            return Ok(Loaded::Stale(task));
        };
        let Ok(channel) = Address::parse(&row.channel) else { return Ok(Loaded::Stale(task)) };
        // The channel's own account was asked before it was picked; a relay may log in with another one (R8).
        if let Some(owner) = relay.account(&channel).filter(|owner| *owner != channel)
            && accounts::blocked(&self.accounts, &self.store, &owner)?.is_some()
        {
            return Ok(Loaded::Wait(task, later(now, SWEEP_EVERY)));
        }
        let here =
            |to: &RecipientRow| Address::parse(&to.address).is_ok_and(|to| relay.lane(&channel, &to) == pick.lane);
        let recipients = choose::due(self.store.recipients(row.seq, 0, RECIPIENTS)?, &row, now, here);
        let recipients = self.permitted(&row, recipients, now)?;
        if recipients.is_empty() {
            return Ok(Loaded::Stale(task));
        }
        match room.take(&task, row.size) {
            Place::Taken => {}
            Place::Own => return Ok(Loaded::Full(task)),
            Place::Others => return Ok(Loaded::Wait(task, later(now, ASK_EVERY))),
        }
        let hashes: Vec<u64> = match relay.quota() {
            Some(_) => recipients.iter().map(|to| self.store.private_hash(&to.address.to_lowercase())).collect(),
            None => Vec::new(),
        };
        let load = Load { bytes: row.size, recipients: &hashes };
        let instead = self.instead(&row, &relay);
        let gives_way = if instead.is_some() { GivesWay::Yes } else { GivesWay::No };
        let ask = |relay: &Relay, gives_way| match relay.quota() {
            // Where nothing is counted nobody waits for those who count.
            None => Ok(Verdict::Go(None)),
            Some(_) => {
                let mut quotas = quotas.lock().unwrap_or_else(PoisonError::into_inner);
                quotas.ask(&self.store, relay, &channel, load, gives_way, now)
            }
        };
        let (mut verdict, mut again) = (ask(&relay, gives_way)?, None);
        if let (Verdict::GiveWay, Some(other)) = (&verdict, instead) {
            let way = Way { channel: &channel, relay: &relay, other: &other };
            match self.takeover(&row, way, quotas, now)? {
                Answer::Takes => relay = other,
                Answer::Stays(until) => again = Some(until),
            }
            verdict = ask(&relay, GivesWay::Stays)?;
        }
        let quota = match verdict {
            Verdict::Go(quota) => quota,
            // Who may not give way now may do so later.
            Verdict::Wait(until) => {
                room.give_back(&task, row.size);
                return Ok(Loaded::Wait(task, again.map_or(until, |again| again.min(until))));
            }
            Verdict::GiveWay => None,
        };
        let bytes = match self.bytes(&row) {
            Ok(bytes) => bytes,
            Err(trouble) => {
                room.give_back(&task, row.size);
                if let Some(key) = &quota {
                    quotas.lock().unwrap_or_else(PoisonError::into_inner).take_back(key, now, load);
                }
                return self.unreadable(task, &row, &recipients, trouble, now);
            }
        };
        let toll = self.toll(&row, &relay, chosen)?;
        Ok(Loaded::Ready(Box::new(ready(task, row, relay, recipients, bytes, Counted { quota, hashes, now, toll }))))
    }

    /// Writes down how jobs have ended, in one commit with what quotas have learned.
    pub(super) fn write(&self, ended: &[Ended], quotas: &Mutex<Quotas>) -> Result<Written, StoreError> {
        let (now, schedule) = (self.clock.now(), self.config.load().schedule());
        let mut quotas = quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settled = Vec::with_capacity(ended.len());
        let mut pauses = Vec::with_capacity(ended.len());
        for one in ended {
            let pause = learn(&mut quotas, one, now);
            settled.push(self.settled(one, pause, &schedule, now));
            pauses.push(pause);
        }
        let changes = quotas.changes();
        // Held until the commit where pages have changed; mail without quotas goes on meanwhile.
        let held = (!changes.is_empty()).then_some(quotas);
        let suppress = **self.suppress.load();
        let rows = self.store.step(|step| {
            changes.into_iter().try_for_each(|(account, pages)| step.put_quota(&account, pages))?;
            step.settle(&settled, suppress)
        })?;
        drop(held);
        ended.iter().for_each(|one| self.count_lost(one));
        // A mail may stand in a commit more than once, by several lanes; what it is after the last one counts.
        let mut rows: std::collections::HashMap<u64, OutboxRow> = rows.into_iter().map(|row| (row.seq, row)).collect();
        let mut written = Written::default();
        for (one, pause) in ended.iter().zip(pauses).rev() {
            let look = self.look_at(rows.remove(&one.under.task.seq))?;
            written.done.push((one.under.task, look, pause));
        }
        Ok(written)
    }

    fn settled(&self, ended: &Ended, pause: Option<Timestamp>, schedule: &Schedule, now: Timestamp) -> Settled {
        let Ended { under, outcome } = ended;
        let (row, relay, recipients) = (&under.row, under.relay.as_str(), under.recipients.as_slice());
        let transport = outcome.transport.as_ref().map(|via| via.said.as_str());
        for ((_, address), one) in recipients.iter().zip(&outcome.recipients) {
            let reply = one.reply();
            tracing::info!(
                mail = %row.id, relay, to = %address, outcome = one.as_str(), code = reply.code,
                enhanced = reply.enhanced.as_deref(), said = %reply.text, transport, "delivery"
            );
        }
        let attempts = &under.attempts;
        let attempt = Attempt { row, relay, recipients, attempts, began: under.began, now, not_before: pause };
        let settled = judge(&attempt, outcome, schedule);
        Settled { way: under.toll.said.clone(), ..settled }
    }

    /// Writes down what became of mails without an attempt of this moment; returns their rows as they are now.
    pub(super) fn settle(&self, settled: &[Settled]) -> Result<Vec<OutboxRow>, StoreError> {
        let suppress = **self.suppress.load();
        self.store.step(|step| step.settle(settled, suppress))
    }
}

/// How a mail was counted.
struct Counted {
    quota: Option<String>,
    hashes: Vec<u64>,
    now: Timestamp,
    toll: Toll,
}

fn ready(
    task: Task,
    row: OutboxRow,
    relay: Arc<Relay>,
    recipients: Vec<RecipientRow>,
    bytes: Arc<[u8]>,
    counted: Counted,
) -> Ready {
    let address = |text: &str| Address::parse(text).ok();
    let to = recipients.iter().filter_map(|to| {
        let (notify, orcpt) = (to.notify.clone(), to.orcpt.clone());
        Some(JobRecipient { address: address(&to.address)?, notify, orcpt })
    });
    let job = Job {
        id: row.id.clone(),
        sender: row.sender.as_deref().and_then(address),
        recipients: to.collect(),
        smtputf8: row.smtputf8,
        eight_bit: !bytes.is_ascii(),
        ret: row.ret.clone(),
        envid: row.envid.clone(),
        account: address(&row.channel),
        bytes,
    };
    let under = Under {
        task,
        relay: relay.name().to_owned(),
        attempts: recipients.iter().map(|to| to.attempts).collect(),
        recipients: recipients.into_iter().map(|to| (to.n, to.address)).collect(),
        bytes: job.bytes.len() as u64,
        quota: counted.quota,
        noted: counted.now,
        began: counted.now,
        hashes: counted.hashes,
        toll: counted.toll,
        row,
    };
    Ready { under, job, relay }
}

/// What quotas learn from the end of a job; returns until when the peer wants no more.
fn learn(quotas: &mut Quotas, ended: &Ended, now: Timestamp) -> Option<Timestamp> {
    let Ended { under, outcome } = ended;
    if let Some(key) = &under.quota {
        let load = Load { bytes: under.bytes, recipients: &under.hashes };
        if outcome.transport.is_some() {
            quotas.answered(key, under.noted, now, load);
        }
        if outcome.is_taken() {
            quotas.accepted(key, now);
        } else if outcome.transport.is_none() {
            quotas.take_back(key, under.noted, load);
        }
    }
    let said = outcome.throttled.as_ref()?;
    let known = under.quota.as_deref().and_then(|key| quotas.throttled(key, said, now));
    let asked = || later(now, said.retry_after.unwrap_or(THROTTLED));
    Some(known.unwrap_or_else(asked))
}
