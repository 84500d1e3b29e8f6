//! Which accounts may send: whether they are connected (R8), and what their quota windows say (R20, R21).

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::board::QuotaState;
use super::quota::{Load, May, Page, Windows};
use crate::accounts::{Accounts, Remedy, State};
use crate::mail::Address;
use crate::relay::{QuotaRules, Relay, Throttled};
use crate::store::rows::Wanted;
use crate::store::{Store, StoreError};

/// Why mail of a channel waits whatever relay it would leave by, if it does: its account is disconnected, or needs a
/// person. Nothing falls back to another relay then.
pub fn blocked(accounts: &Accounts, store: &Store, channel: &Address) -> Result<Option<String>, StoreError> {
    if !accounts.setup().accounts.iter().any(|account| account.channel == *channel) {
        return Ok(None);
    }
    // The board is empty until the doors have started, and what is wanted stands on disk.
    if store.source(channel)?.is_some_and(|row| row.wanted == Wanted::Disconnected) {
        return Ok(Some(format!("{channel} is disconnected: connect it again")));
    }
    Ok(accounts.connection(channel).and_then(|connection| match connection.state {
        State::Disconnected => Some(format!("{channel} is disconnected: connect it again")),
        State::Problem(problem) if problem.cause.remedy() == Remedy::Person => {
            Some(format!("{channel}: {}; {}", problem.said, problem.cause.action()))
        }
        _ => None,
    }))
}

/// One account at one relay.
#[derive(Debug)]
struct Account {
    relay: String,
    channel: String,
    rules: QuotaRules,
    windows: Windows,
    until: Option<(Timestamp, String)>,
    told_near: bool,
}

/// The quota windows of all accounts that have one.
#[derive(Debug, Default)]
pub struct Quotas(BTreeMap<String, Account>);

/// What a mail may do as far as quotas go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is counted, under this account if it has a quota.
    Go(Option<String>),
    Wait(Timestamp),
    /// Its account is nearly full: the default relay takes over.
    GiveWay,
}

/// Pages to keep, by account.
pub type Kept = HashMap<String, Vec<Page>>;

impl Quotas {
    /// Asks and counts. `gives_way` says whether there is another relay that could take over.
    pub fn ask(
        &mut self,
        store: &Store,
        relay: &Relay,
        channel: &Address,
        load: Load<'_>,
        gives_way: GivesWay,
        now: Timestamp,
    ) -> Result<Verdict, StoreError> {
        let Some(key) = self.account(store, relay, channel)? else { return Ok(Verdict::Go(None)) };
        let Some(account) = self.0.get_mut(&key) else { return Ok(Verdict::Go(None)) };
        if gives_way == GivesWay::Yes
            && account.rules.give_way_percent.is_some()
            && account.windows.is_near(&account.rules, now)
        {
            return Ok(Verdict::GiveWay);
        }
        match account.windows.may(&account.rules, now, load) {
            May::Yes => {
                account.windows.note(now, load);
                account.until = None;
                Ok(Verdict::Go(Some(key)))
            }
            May::Until(until, window) => {
                account.until = Some((until, window.to_owned()));
                Ok(Verdict::Wait(until))
            }
        }
    }

    /// The key of an account that has a quota; its windows are read from disk at the first use.
    fn account(&mut self, store: &Store, relay: &Relay, channel: &Address) -> Result<Option<String>, StoreError> {
        let Some(rules) = relay.quota() else { return Ok(None) };
        let owner = relay.account(channel).unwrap_or_else(|| channel.clone());
        let key = format!("{} {}", relay.name(), owner.key());
        match self.0.get_mut(&key) {
            Some(account) => account.rules = rules,
            None => {
                let windows = Windows::restore(store.quota(&key)?);
                let (relay, channel) = (relay.name().to_owned(), owner.to_string());
                let account = Account { relay, channel, rules, windows, until: None, told_near: false };
                self.0.insert(key.clone(), account);
            }
        }
        Ok(Some(key))
    }

    /// The mail never reached the provider.
    pub fn take_back(&mut self, key: &str, noted: Timestamp, load: Load<'_>) {
        if let Some(account) = self.0.get_mut(key) {
            account.windows.take_back(noted, load);
        }
    }

    /// The provider has answered what was noted at that time.
    pub fn answered(&mut self, key: &str, noted: Timestamp, now: Timestamp, load: Load<'_>) {
        if let Some(account) = self.0.get_mut(key) {
            account.windows.answered(noted, now, load);
        }
    }

    /// The provider took it.
    pub fn accepted(&mut self, key: &str, now: Timestamp) {
        if let Some(account) = self.0.get_mut(key) {
            account.windows.accepted(now);
        }
    }

    /// The provider says that it is too much; returns until when the account waits.
    pub fn throttled(&mut self, key: &str, said: &Throttled, now: Timestamp) -> Option<Timestamp> {
        let account = self.0.get_mut(key)?;
        let until = account.windows.refused(now, &said.said, said.retry_after);
        account.until = Some((until, "what the provider said".into()));
        Some(until)
    }

    /// What has to be kept of what has changed.
    pub fn changes(&mut self) -> Kept {
        let changed = self.0.iter_mut().map(|(key, account)| (key.clone(), account.windows.changes()));
        changed.filter(|(_, pages)| !pages.is_empty()).collect()
    }

    /// Accounts that have come near the end of a day's window since the last call: channel, and a sentence.
    pub fn news(&mut self, now: Timestamp) -> Vec<(String, String)> {
        let mut news = Vec::new();
        for account in self.0.values_mut() {
            let near = account.windows.is_near(&account.rules, now);
            if near && !account.told_near {
                let instead = match account.rules.give_way_percent {
                    Some(_) => "; the default relay takes over until there is room again",
                    None => "",
                };
                let said =
                    format!("the quota of {} at relay \"{}\" is nearly used{instead}", account.channel, account.relay);
                news.push((account.channel.clone(), said));
            }
            account.told_near = near;
        }
        news
    }

    pub fn states(&self, now: Timestamp) -> Vec<QuotaState> {
        let state = |account: &Account| QuotaState {
            relay: account.relay.clone(),
            channel: account.channel.clone(),
            remaining: account.windows.remaining(&account.rules, now),
            near: account.windows.is_near(&account.rules, now),
            until: account.until.clone().filter(|(until, _)| *until > now),
        };
        self.0.values().map(state).collect()
    }
}

/// Whether there is a relay that mail could give way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivesWay {
    Yes,
    No,
}
