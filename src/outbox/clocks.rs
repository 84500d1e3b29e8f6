//! The clocks of mail whose account may not send (R8): they are stopped on disk as soon as that is seen, so that no
//! restart loses anything of it, and mail gets its time back once the account may send again.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::blocked::Question;
use super::{BATCH, Worker, accounts};
use crate::mail::Address;
use crate::store::StoreError;
use crate::store::rows::{ClockRow, OutboxRow, OutboxState};

/// What came of asking about channels.
#[derive(Debug)]
pub struct Asked {
    /// Why each may not send, if it may not.
    pub whys: HashMap<u32, Option<String>>,
    /// Those of which it was written down now.
    pub written: Result<HashSet<u32>, StoreError>,
    /// When they were asked about.
    pub at: Timestamp,
}

/// An account whose mail is to get back the time between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    pub channel: u32,
    pub account: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// A channel with what came of giving its mail time back.
pub type Given = (u32, Result<(), StoreError>);

impl Worker {
    /// Asks which channels may not send. Whatever comes of writing it down, their mail waits.
    pub(super) fn ask(&self, questions: &[Question], at: Timestamp) -> Result<Asked, StoreError> {
        let mut whys = HashMap::with_capacity(questions.len());
        for Question { channel, address, .. } in questions {
            let parsed = Address::parse(address).ok();
            let why = parsed.map(|address| accounts::blocked(&self.accounts, &self.store, &address));
            whys.insert(*channel, why.transpose()?.flatten());
        }
        let stopped = |question: &&Question| whys.get(&question.channel).is_some_and(Option::is_some);
        let new = questions.iter().filter(stopped).filter_map(|it| Some((it.channel, &it.address, it.unwritten?)));
        let new: Vec<(u32, &String, Timestamp)> = new.collect();
        let written = match new.is_empty() {
            true => Ok(()),
            false => self.store.step(|step| new.iter().try_for_each(|(_, account, at)| step.stop_clock(account, *at))),
        };
        let written = written.map(|()| new.iter().map(|(channel, ..)| *channel).collect());
        Ok(Asked { whys, written, at })
    }

    /// Gives the mail of an account its time back, a batch a commit.
    pub(super) fn give(&self, owed: &Owed) -> Result<(), StoreError> {
        loop {
            let clocks = self.store.clocks()?;
            let known = clocks.iter().find(|clock| clock.account == owed.account);
            let after = known.map_or(0, |clock| clock.after);
            let rows = self.store.undone(after, BATCH)?;
            let mut mails = Vec::new();
            for row in rows.iter().filter(|row| row.state == OutboxState::Waiting) {
                mails.extend(self.time_of(row, owed, &clocks)?.map(|until| (row.seq, until)));
            }
            let last = rows.last().map(|row| row.seq);
            self.store.step(|step| {
                step.stop_clock(&owed.account, owed.since)?;
                step.give_time(&owed.account, &mails, owed.until, last)
            })?;
            if last.is_none() {
                return Ok(());
            }
        }
    }

    /// Until when a mail gets time back for an account, if it leaves by it. Where another account that it needs stands
    /// still as well, that one gives the rest once it may send.
    fn time_of(&self, row: &OutboxRow, owed: &Owed, clocks: &[ClockRow]) -> Result<Option<Timestamp>, StoreError> {
        let relay = self.choose(row)?.relay.and_then(|name| self.relays.get(&name));
        let channel = Address::parse(&row.channel).ok();
        let owner = relay.zip(channel).and_then(|(relay, channel)| relay.account(&channel));
        let (own, owner) = (row.channel.to_lowercase(), owner.map(|owner| owner.key()));
        let needs = |account: &String| *account == own || owner.as_ref() == Some(account);
        if !needs(&owed.account) {
            return Ok(None);
        }
        let others = clocks.iter().filter(|clock| clock.account != owed.account && needs(&clock.account));
        Ok(others.map(|clock| clock.since).chain([owed.until]).min())
    }
}
