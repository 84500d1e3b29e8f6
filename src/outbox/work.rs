//! What the worker does on the disk, away from the async threads: looking at mail, loading it, writing down its end.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::Worker;
use super::accounts::{self, GivesWay, News, Quotas, Verdict};
use super::fields::Toll;
use super::judge::{Attempt, judge, without_attempt};
use super::lanes::Task;
use super::quota::Load;
use super::schedule::Schedule;
use super::takeover::{Answer, Way};
use crate::mail::Address;
use crate::relay::{Job, JobRecipient, Outcome, RecipientOutcome, Relay, Reply};
use crate::store::rows::{OutboxRow, OutboxState, RecipientRow};
use crate::store::{Settled, StoreError};

/// The most recipients of one mail that are looked at.
const RECIPIENTS: usize = 10_000;
/// The most recipients of one job: more than some servers take in one transaction (RFC 5321 section 4.5.3.1.8).
const JOB_RECIPIENTS: usize = 100;
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
    pub bytes: u64,
    /// The account whose quota counted it, when, and its recipients as the quota knows them.
    pub quota: Option<String>,
    pub noted: Timestamp,
    pub hashes: Vec<u64>,
    pub toll: Toll,
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
        for recipient in self.store.recipients(row.seq, 0, RECIPIENTS)? {
            if !recipient.state.waits() {
                continue;
            }
            // Who was never tried does not wait for the others' next time.
            let due = if recipient.attempts == 0 { row.created_at.min(row.due) } else { row.due };
            let (lane, limit) = match (&relay, &channel, Address::parse(&recipient.address)) {
                (Some(relay), Ok(channel), Ok(to)) => (relay.lane(channel, &to), relay.concurrency()),
                _ => (format!("(no relay) {}", name.clone().unwrap_or_default()), 0),
            };
            match lanes.iter_mut().find(|known| known.name == lane) {
                Some(known) => known.due = known.due.min(due),
                None => lanes.push(LaneLook { name: lane, relay: name.clone().unwrap_or_default(), limit, due }),
            }
        }
        Ok(Some(Look { row, lanes }))
    }

    /// Loads what was picked, within so many bytes, and asks the quotas. What quotas have counted is on disk when this
    /// returns, before anything is sent.
    pub(super) fn load(
        &self,
        picked: Vec<Picked>,
        room: u64,
        quotas: &Mutex<Quotas>,
    ) -> Result<Vec<Loaded>, StoreError> {
        let (mut loaded, mut used) = (Vec::with_capacity(picked.len()), 0u64);
        let now = self.clock.now();
        for pick in picked {
            let task = pick.task;
            // A mail that is larger than all the room goes when it is alone.
            if used > 0 && used >= room {
                loaded.push(Loaded::Wait(task, now));
                continue;
            }
            let one = self.load_one(pick, quotas, now)?;
            if let Loaded::Ready(ready) = &one {
                used += ready.under.bytes;
            }
            loaded.push(one);
        }
        self.keep(quotas, now)?;
        Ok(loaded)
    }

    fn keep(&self, quotas: &Mutex<Quotas>, now: Timestamp) -> Result<(), StoreError> {
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

    fn load_one(&self, pick: Picked, quotas: &Mutex<Quotas>, now: Timestamp) -> Result<Loaded, StoreError> {
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
            return Ok(Loaded::Wait(task, super::schedule::later(now, super::SWEEP_EVERY)));
        }
        let here = |to: &RecipientRow| {
            to.state.waits() && Address::parse(&to.address).is_ok_and(|to| relay.lane(&channel, &to) == pick.lane)
        };
        let recipients = self.store.recipients(row.seq, 0, RECIPIENTS)?;
        let recipients: Vec<RecipientRow> = recipients.into_iter().filter(here).take(JOB_RECIPIENTS).collect();
        if recipients.is_empty() {
            return Ok(Loaded::Stale(task));
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
            Verdict::Wait(until) => return Ok(Loaded::Wait(task, again.map_or(until, |again| again.min(until)))),
            Verdict::GiveWay => None,
        };
        let bytes = match self.bytes(&row) {
            Ok(bytes) => bytes,
            Err(said) => return self.lost(&row, &recipients, &said, now).map(|()| Loaded::Stale(task)),
        };
        let toll = self.toll(&row, &relay, chosen)?;
        Ok(Loaded::Ready(Box::new(ready(task, row, relay, recipients, bytes, Counted { quota, hashes, now, toll }))))
    }

    fn bytes(&self, row: &OutboxRow) -> Result<Arc<[u8]>, String> {
        let stored = self.store.mail(row.mail).map_err(|error| error.to_string())?;
        let bytes = stored.body.read().map_err(|error| error.to_string())?;
        Ok(bytes.into_owned().into())
    }

    /// A mail without its bytes can never be sent.
    fn lost(&self, row: &OutboxRow, recipients: &[RecipientRow], said: &str, now: Timestamp) -> Result<(), StoreError> {
        tracing::error!(mail = %row.id, said, "the bytes of a mail that leaves cannot be read");
        let named: Vec<(u32, String)> = recipients.iter().map(|to| (to.n, to.address.clone())).collect();
        let reply = Reply::refusal("5.3.0", &format!("its bytes cannot be read: {said}"));
        let outcome = Outcome::all(named.len(), RecipientOutcome::Failed(reply));
        let attempt = Attempt { row, relay: "ticketgate", recipients: &named, now, not_before: None };
        let settled = judge(&attempt, &outcome, &self.config.load().schedule());
        let suppress = **self.suppress.load();
        self.store.step(|step| step.settle(&[settled], suppress)).map(drop)
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
            let row = rows.remove(&one.under.task.seq);
            let look = row.map(|row| self.look(row)).transpose()?.flatten();
            written.done.push((one.under.task, look, pause));
        }
        Ok(written)
    }

    fn settled(&self, ended: &Ended, pause: Option<Timestamp>, schedule: &Schedule, now: Timestamp) -> Settled {
        let Ended { under, outcome } = ended;
        let (row, relay, recipients) = (&under.row, under.relay.as_str(), under.recipients.as_slice());
        for ((_, address), one) in recipients.iter().zip(&outcome.recipients) {
            let reply = one.reply();
            tracing::info!(
                mail = %row.id, relay, to = %address, outcome = one.as_str(), code = reply.code,
                enhanced = reply.enhanced.as_deref(), said = %reply.text, transport = outcome.transport.as_deref(), "delivery"
            );
        }
        let settled = judge(&Attempt { row, relay, recipients, now, not_before: pause }, outcome, schedule);
        Settled { way: under.toll.said.clone(), ..settled }
    }

    /// Tells of a mail that is late, or gives it up, although it was never its turn.
    pub(super) fn overdue(&self, seq: u64, why: &str) -> Result<Option<Look>, StoreError> {
        let Some(row) = self.store.outbox_row(seq)?.filter(|row| row.state == OutboxState::Waiting) else {
            return Ok(None);
        };
        let (now, schedule) = (self.clock.now(), self.config.load().schedule());
        let due =
            schedule.is_over(row.class, row.since, now) || (!row.delayed_told && schedule.is_late(row.since, now));
        if !due {
            return self.look(row);
        }
        let recipients = self.store.recipients(seq, 0, RECIPIENTS)?.into_iter().filter(|to| to.state.waits());
        let recipients: Vec<(u32, String)> = recipients.map(|to| (to.n, to.address)).collect();
        let settled = without_attempt(&row, &recipients, why, &schedule, now);
        let suppress = **self.suppress.load();
        let row = self.store.step(|step| step.settle(&[settled], suppress))?.pop();
        row.map(|row| self.look(row)).transpose().map(Option::flatten)
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
        recipients: recipients.into_iter().map(|to| (to.n, to.address)).collect(),
        bytes: job.bytes.len() as u64,
        quota: counted.quota,
        noted: counted.now,
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
        if outcome.recipients.iter().any(|one| matches!(one, RecipientOutcome::Relayed(_))) {
            quotas.accepted(key, now);
        } else if outcome.transport.is_none() {
            quotas.take_back(key, under.noted, load);
        }
    }
    let said = outcome.throttled.as_ref()?;
    let known = under.quota.as_deref().and_then(|key| quotas.throttled(key, said, now));
    let asked = || super::schedule::later(now, said.retry_after.unwrap_or(THROTTLED));
    Some(known.unwrap_or_else(asked))
}
