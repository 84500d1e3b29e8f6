//! What an account may send: sliding windows that survive a restart, and what the provider says about them (R20, R21).
//!
//! Pure: time comes in as an argument, and what has to be kept comes out as pages, small values under short names. The
//! windows are noted before a mail is sent, so that a crash counts too much and never too little. Must not know: the
//! store, relays, what is in a mail.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::schedule::later;
use crate::relay::QuotaRules;
use crate::ticket::window::{Slots, Sums};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
const FIVE_MINUTES: SignedDuration = SignedDuration::from_secs(300);
const DAY: SignedDuration = SignedDuration::from_secs(24 * 3600);
/// How often recipients that the window has left behind are forgotten.
const FORGET_EVERY: SignedDuration = SignedDuration::from_secs(600);
/// The most of the provider's words that are kept.
const SAID: usize = 200;
/// The waits after a provider that says no without saying for how long.
const SHORT_WAIT: Duration = Duration::from_secs(60);
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// The share of a day's window, in percent, from which on it is nearly full, where the rules name none.
const NEAR: u8 = 90;

/// What of a mail counts.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub bytes: u64,
    /// Keyed hashes of its recipients.
    pub recipients: &'a [u64],
}

/// Whether a mail may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    Yes,
    /// Not before then, and which window it waits for.
    Until(Timestamp, &'static str),
}

/// What is left of the windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    pub messages_per_minute: Option<u64>,
    pub bytes_per_five_minutes: Option<u64>,
    pub recipients_per_day: Option<u64>,
    pub messages_per_day: Option<u64>,
}

/// One value to be kept under a name; `None` is one that goes away.
pub type Page = (Vec<u8>, Option<Vec<u8>>);

/// The windows of one account.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Messages and bytes of the last five minutes, by the second.
    short: Slots,
    /// Messages of the last day, by five minutes.
    day: Slots,
    /// When each recipient of the last day was last sent to, in milliseconds since 1970.
    recipients: HashMap<u64, i64>,
    forgotten_at: Timestamp,
    /// What the provider has said no with, and until when that holds.
    full: Option<(Timestamp, String)>,
    /// How often it has said no in a row.
    refusals: u32,
    changed: BTreeSet<Vec<u8>>,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            short: Slots::new(SECOND, FIVE_MINUTES),
            day: Slots::new(FIVE_MINUTES, DAY),
            recipients: HashMap::new(),
            forgotten_at: Timestamp::MIN,
            full: None,
            refusals: 0,
            changed: BTreeSet::new(),
        }
    }
}

impl Windows {
    /// Takes up the pages that were kept.
    pub fn restore(pages: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut windows = Self::default();
        for (name, value) in pages {
            match name.split_first() {
                Some((b's', _)) => windows.short = Slots::new(SECOND, FIVE_MINUTES).decode(&value),
                Some((b'd', _)) => windows.day = Slots::new(FIVE_MINUTES, DAY).decode(&value),
                Some((b'f', _)) => windows.restore_full(&value),
                Some((b'r', hash)) => {
                    if let (Some(hash), Some(at)) = (eight(hash), eight(&value)) {
                        windows.recipients.insert(u64::from_be_bytes(hash), i64::from_be_bytes(at));
                    }
                }
                _ => {}
            }
        }
        windows
    }

    /// The pages that have changed since the last call.
    pub fn changes(&mut self) -> Vec<Page> {
        let names = std::mem::take(&mut self.changed);
        names.into_iter().map(|name| (name.clone(), self.page(&name))).collect()
    }

    /// Whether a mail may be sent now.
    pub fn may(&self, rules: &QuotaRules, now: Timestamp, load: Load<'_>) -> May {
        let mut until = May::Yes;
        let mut wait = |at: Timestamp, window: &'static str| {
            let longer = !matches!(&until, May::Until(known, _) if *known >= at);
            if at > now && longer {
                until = May::Until(at, window);
            }
        };
        if let Some((at, _)) = &self.full {
            wait(*at, "what the provider said");
        }
        let one = Sums { count: 1, weight: 0 };
        if let Some(count) = rules.mails_per_minute {
            wait(self.short.room_at(now, MINUTE, one, Sums { count, weight: u64::MAX }), "messages a minute");
        }
        if let Some(weight) = rules.bytes_per_5_minutes {
            let more = Sums { count: 0, weight: load.bytes };
            wait(self.short.room_at(now, FIVE_MINUTES, more, Sums { count: u64::MAX, weight }), "bytes in 5 minutes");
        }
        if let Some(count) = rules.mails_per_day {
            wait(self.day.room_at(now, DAY, one, Sums { count, weight: u64::MAX }), "messages in 24 hours");
        }
        if let Some(most) = rules.recipients_per_day {
            wait(self.recipients_at(now, load.recipients, most), "recipients in 24 hours");
        }
        until
    }

    /// Notes that a mail is about to be sent.
    pub fn note(&mut self, now: Timestamp, load: Load<'_>) {
        self.short.add(now, 1, load.bytes);
        self.day.add(now, 1, load.bytes);
        self.changed.extend([b"s".to_vec(), b"d".to_vec()]);
        for recipient in load.recipients {
            self.recipients.insert(*recipient, now.as_millisecond());
            self.changed.insert(recipient_page(*recipient));
        }
        self.forget(now);
    }

    /// Takes back a mail that never reached the provider. Its recipients stay noted, which costs nothing.
    pub fn take_back(&mut self, noted: Timestamp, load: Load<'_>) {
        self.short.take_back(noted, 1, load.bytes);
        self.day.take_back(noted, 1, load.bytes);
        self.changed.extend([b"s".to_vec(), b"d".to_vec()]);
    }

    /// The provider has answered a mail. It counted it somewhere between its noting and now, so that the windows count it
    /// as late as can be: otherwise ours open before the provider's do.
    pub fn answered(&mut self, noted: Timestamp, now: Timestamp, load: Load<'_>) {
        // What has left its window is not known any more, and must not be taken from what came later.
        let age = now.duration_since(noted);
        if age < FIVE_MINUTES {
            self.short.take_back(noted, 1, load.bytes);
        }
        if age < DAY {
            self.day.take_back(noted, 1, load.bytes);
        }
        self.note(now, load);
    }

    /// The provider took a mail: what it said before is over.
    pub fn accepted(&mut self, now: Timestamp) {
        self.refusals = 0;
        if self.full.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.full = None;
            self.changed.insert(b"f".to_vec());
        }
    }

    /// The provider says that we send too much, whatever we have counted. Returns until when nothing is sent.
    pub fn refused(&mut self, now: Timestamp, said: &str, retry_after: Option<Duration>) -> Timestamp {
        let first = if is_of_a_day(said) { LONG_WAIT } else { SHORT_WAIT };
        let grown = first.saturating_mul(1 << self.refusals.min(6)).min(LONG_WAIT);
        self.refusals = self.refusals.saturating_add(1);
        let until = later(now, retry_after.unwrap_or(grown).min(Duration::from_secs(24 * 3600)));
        let until = self.full.as_ref().map_or(until, |(known, _)| until.max(*known));
        let end = said.char_indices().map(|(at, _)| at).take_while(|at| *at <= SAID).last().unwrap_or(0);
        let said = if said.len() <= SAID { said } else { &said[..end] };
        self.full = Some((until, said.to_owned()));
        self.changed.insert(b"f".to_vec());
        until
    }

    /// What the provider said, while it holds.
    pub fn full(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        self.full.as_ref().filter(|(until, _)| *until > now).map(|(until, said)| (*until, said.as_str()))
    }

    /// Whether a day's window is nearly full, or the provider says that it is.
    pub fn is_near(&self, rules: &QuotaRules, now: Timestamp) -> bool {
        let percent = u64::from(rules.give_way_percent.unwrap_or(NEAR));
        let near = |used: u64, most: Option<u64>| {
            most.is_some_and(|most| used.saturating_mul(100) >= most.saturating_mul(percent))
        };
        near(self.day.sums(now, DAY).count, rules.mails_per_day)
            || near(self.recipients_now(now), rules.recipients_per_day)
            || self.full(now).is_some_and(|(_, said)| is_of_a_day(said))
    }

    /// What is left.
    pub fn remaining(&self, rules: &QuotaRules, now: Timestamp) -> Remaining {
        let full = self.full(now).is_some();
        let left = |used: u64, most: Option<u64>| most.map(|most| if full { 0 } else { most.saturating_sub(used) });
        Remaining {
            messages_per_minute: left(self.short.sums(now, MINUTE).count, rules.mails_per_minute),
            bytes_per_five_minutes: left(self.short.sums(now, FIVE_MINUTES).weight, rules.bytes_per_5_minutes),
            recipients_per_day: left(self.recipients_now(now), rules.recipients_per_day),
            messages_per_day: left(self.day.sums(now, DAY).count, rules.mails_per_day),
        }
    }

    fn recipients_now(&self, now: Timestamp) -> u64 {
        let since = now.as_millisecond() - DAY.as_millis() as i64;
        self.recipients.values().filter(|at| **at > since).count() as u64
    }

    /// When there is room for these recipients.
    fn recipients_at(&self, now: Timestamp, recipients: &[u64], most: u64) -> Timestamp {
        let day = DAY.as_millis() as i64;
        let since = now.as_millisecond() - day;
        let known = |hash: &u64| self.recipients.get(hash).is_some_and(|at| *at > since);
        let fresh = recipients.iter().filter(|hash| !known(hash)).collect::<BTreeSet<_>>().len() as u64;
        // Cheap as long as the window is far from full.
        if fresh == 0 || (self.recipients.len() as u64).saturating_add(fresh) <= most {
            return now;
        }
        let mut times: Vec<i64> = self.recipients.values().copied().filter(|at| *at > since).collect();
        let over = (times.len() as u64).saturating_add(fresh).saturating_sub(most);
        if over == 0 || times.is_empty() {
            return now;
        }
        let index = usize::try_from(over - 1).unwrap_or(usize::MAX).min(times.len() - 1);
        let (_, at, _) = times.select_nth_unstable(index);
        Timestamp::from_millisecond(*at + day).unwrap_or(Timestamp::MAX)
    }

    fn forget(&mut self, now: Timestamp) {
        if now.duration_since(self.forgotten_at) < FORGET_EVERY {
            return;
        }
        self.forgotten_at = now;
        let since = now.as_millisecond() - DAY.as_millis() as i64;
        let changed = &mut self.changed;
        self.recipients.retain(|hash, at| {
            let kept = *at > since;
            if !kept {
                changed.insert(recipient_page(*hash));
            }
            kept
        });
    }

    fn page(&self, name: &[u8]) -> Option<Vec<u8>> {
        match name.split_first()? {
            (b's', _) => Some(self.short.encode()),
            (b'd', _) => Some(self.day.encode()),
            (b'f', _) => self.full.as_ref().map(|(until, said)| {
                [&until.as_millisecond().to_be_bytes()[..], &self.refusals.to_be_bytes(), said.as_bytes()].concat()
            }),
            (_, hash) => {
                let at = self.recipients.get(&u64::from_be_bytes(eight(hash)?))?;
                Some(at.to_be_bytes().to_vec())
            }
        }
    }

    fn restore_full(&mut self, value: &[u8]) {
        let Some((until, rest)) = value.split_at_checked(8) else { return };
        let Some((refusals, said)) = rest.split_at_checked(4) else { return };
        let until = eight(until).and_then(|bytes| Timestamp::from_millisecond(i64::from_be_bytes(bytes)).ok());
        self.refusals = refusals.try_into().map_or(0, u32::from_be_bytes);
        self.full = until.map(|until| (until, String::from_utf8_lossy(said).into_owned()));
    }
}

fn recipient_page(hash: u64) -> Vec<u8> {
    [&b"r"[..], &hash.to_be_bytes()].concat()
}

fn eight(bytes: &[u8]) -> Option<[u8; 8]> {
    bytes.try_into().ok()
}

/// Whether a provider speaks of a day's limit: Gmail, and Exchange.
fn is_of_a_day(said: &str) -> bool {
    ["5.4.5", "5.1.90"].iter().any(|status| said.contains(status))
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
