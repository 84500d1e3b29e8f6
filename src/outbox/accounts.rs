//! Which accounts may send: whether they are connected (R8), and what their quota windows say (R20, R21).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::board::QuotaState;
use super::quota::{Load, May, Page, Windows};
use crate::accounts::{Accounts, Remedy, State};
use crate::mail::Address;
use crate::relay::{GiveWay, QuotaRules, Relay, Throttled};
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
        return Ok(Some(disconnected(channel)));
    }
    Ok(accounts.connection(channel).and_then(|connection| match connection.state {
        State::Disconnected => Some(disconnected(channel)),
        State::Problem(problem) if problem.cause.remedy() == Remedy::Person => {
            Some(format!("{channel}: {}; {}", problem.said, problem.action_for(channel)))
        }
        _ => None,
    }))
}

fn disconnected(channel: &Address) -> String {
    format!("{channel} is disconnected; run `ticketgate reconnect {channel}`")
}

/// Domains of one account of which it is known whether the default relay takes over.
const DOMAINS: usize = 32;

/// One account at one relay.
#[derive(Debug)]
struct Account {
    relay: String,
    /// Whose it is: a channel, or the login of the relay's own.
    channel: String,
    /// The channels whose mail is counted here.
    senders: BTreeSet<String>,
    rules: QuotaRules,
    windows: Windows,
    until: Option<(Timestamp, String)>,
    told_near: bool,
    /// Whether there was another relay for the mail that came last.
    gives_way: GivesWay,
    /// While it is near the end of its quota: what was decided for each domain, and what of that is not told yet.
    takeovers: BTreeMap<String, Takeover>,
    untold: BTreeSet<String>,
}

/// Whether the default relay takes over for a domain, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    pub takes: bool,
    pub said: String,
}

/// Something that the feed is told about a channel's quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub channel: String,
    /// `quota_near`, `takeover` or `takeover_refused`.
    pub kind: &'static str,
    pub said: String,
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
        if gives_way != GivesWay::Stays {
            account.gives_way = gives_way;
        }
        if gives_way == GivesWay::Yes && account.rules.gives_way() && account.windows.is_near(&account.rules, now) {
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
        let (key, owner) = key(relay, channel);
        if !self.0.contains_key(&key) {
            let account = Account {
                relay: relay.name().to_owned(),
                channel: owner,
                senders: BTreeSet::new(),
                rules,
                windows: Windows::restore(store.quota(&key)?),
                until: None,
                told_near: false,
                gives_way: GivesWay::No,
                takeovers: BTreeMap::new(),
                untold: BTreeSet::new(),
            };
            self.0.insert(key.clone(), account);
        }
        if let Some(account) = self.0.get_mut(&key) {
            account.rules = rules;
            account.senders.insert(channel.key());
        }
        Ok(Some(key))
    }

    /// It was decided whether the default relay takes over for a domain.
    pub fn decided(&mut self, relay: &Relay, channel: &Address, domain: String, takeover: Takeover) {
        let Some(account) = self.0.get_mut(&key(relay, channel).0) else { return };
        let known = account.takeovers.get(&domain);
        if known == Some(&takeover) || (known.is_none() && account.takeovers.len() >= DOMAINS) {
            return;
        }
        account.untold.insert(domain.clone());
        account.takeovers.insert(domain, takeover);
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

    /// What has changed since the last call: accounts that have come near the end of a day's window, and domains for
    /// which the default relay takes over, or may not.
    pub fn news(&mut self, now: Timestamp) -> Vec<News> {
        let mut news = Vec::new();
        for account in self.0.values_mut() {
            let near = account.windows.is_near(&account.rules, now);
            if near && !account.told_near {
                let instead = match account.rules.give_way {
                    _ if account.gives_way == GivesWay::No => "; its mail waits then, as no other relay takes over",
                    GiveWay::Aligned if account.rules.gives_way() => {
                        "; the default relay takes over until there is room again, where the sender's domain permits it"
                    }
                    GiveWay::Always if account.rules.gives_way() => {
                        "; the default relay takes over until there is room again"
                    }
                    _ => "",
                };
                let (channel, relay) = (account.channel.clone(), &account.relay);
                let said = format!("the quota of {channel} at relay \"{relay}\" is nearly used{instead}");
                news.push(News { channel, kind: "quota_near", said });
            }
            for takeover in std::mem::take(&mut account.untold).iter().filter_map(|name| account.takeovers.get(name)) {
                let kind = if takeover.takes { "takeover" } else { "takeover_refused" };
                news.push(News { channel: account.channel.clone(), kind, said: takeover.said.clone() });
            }
            account.told_near = near;
            if !near {
                account.takeovers.clear();
            }
        }
        news
    }

    pub fn states(&self, now: Timestamp) -> Vec<QuotaState> {
        let state = |account: &Account| {
            let near = account.windows.is_near(&account.rules, now);
            QuotaState {
                relay: account.relay.clone(),
                channel: account.channel.clone(),
                senders: account.senders.clone(),
                remaining: account.windows.remaining(&account.rules, now),
                near,
                until: account.until.clone().filter(|(until, _)| *until > now),
                takeovers: if near { account.takeovers.clone() } else { BTreeMap::new() },
            }
        };
        self.0.values().map(state).collect()
    }
}

/// Whether there is a relay that mail could give way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivesWay {
    Yes,
    No,
    /// There is one, and it does not take this mail.
    Stays,
}

/// The key of the account that a channel's mail is counted under at a relay, and whose account it is.
fn key(relay: &Relay, channel: &Address) -> (String, String) {
    let owner = relay.mailbox(channel);
    (format!("{} {}", relay.name(), owner.to_lowercase()), owner)
}

/// The domains for which the default relay does not take over; that of an address comes first.
pub fn refused<'a>(takeovers: &'a BTreeMap<String, Takeover>, address: &str) -> Option<&'a Takeover> {
    let domain = address.rsplit_once('@').map_or(address, |(_, domain)| domain).to_lowercase();
    let own = takeovers.get(&domain);
    own.or_else(|| takeovers.values().find(|takeover| !takeover.takes)).filter(|takeover| !takeover.takes)
}

/// What a channel's mail waits for that has not had its turn, and why no other relay takes it.
pub fn waits(quotas: &Mutex<Quotas>, channel: &str) -> String {
    let quotas = quotas.lock().unwrap_or_else(PoisonError::into_inner);
    let accounts = quotas.0.values().filter(|account| account.senders.contains(&channel.to_lowercase()));
    let why = accounts.filter_map(|account| refused(&account.takeovers, channel)).map(|it| format!("; {}", it.said));
    format!("it waits for its quota or its relay{}", why.collect::<String>())
}
