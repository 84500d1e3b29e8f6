//! Forwarding and mailbox side by side: what came which way, and whether forwarding can be switched off.
//!
//! Counts mails, not entries: an entry and those that repeat it are one mail with several sightings. Mail that became
//! no ticket is put together by its Message-ID. What is judged is pure; the walk through the store is bounded.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::{Desk, DeskError};
use crate::mail::Address;
use crate::store::rows::{EntryKind, EntryRow};
use crate::units::count;

/// The most entries of all channels that are looked at.
pub const MOST_ENTRIES: usize = 50_000;
/// The most mails that a report lists of each kind.
pub const MOST_LISTED: usize = 100;
/// A verdict needs both ways side by side for so many days, and so many mails by forwarding.
pub const NEEDED_DAYS: i64 = 7;
pub const NEEDED_MAILS: u64 = 10;
/// Mail that was forwarded within this time may still come by the mailbox.
pub const GRACE_MINUTES: i64 = 15;

const PAGE: usize = 500;
const SUBJECT: usize = 80;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Span {
    pub since: Timestamp,
    pub now: Timestamp,
    /// When the mailbox was connected for the first time; `None` without a mailbox.
    pub connected_at: Option<Timestamp>,
}

/// What came which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parity {
    /// From when on mail was counted: the mailbox was connected then, or the period begins.
    pub from: Timestamp,
    pub both: u64,
    pub only_forwarded: Vec<Lone>,
    pub only_connector: Vec<Lone>,
    /// How many there are of each, those that are not listed too.
    pub only_forwarded_count: u64,
    pub only_connector_count: u64,
    /// Forwarded so lately that the mailbox may still bring it.
    pub pending: u64,
    /// How much later the mailbox brought what came both ways, in seconds; negative where it was first.
    pub lag_median: Option<i64>,
    pub lag_most: Option<i64>,
    /// There were more entries than are looked at: the oldest of the period are missing.
    pub cut: bool,
    pub can_switch_off: bool,
    /// Why, or why not.
    pub verdict: String,
}

/// A mail that came one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lone {
    pub entry: String,
    pub message_id: Option<String>,
    pub at: Timestamp,
    pub subject: String,
}

/// The sightings of one mail.
#[derive(Debug)]
struct Sightings {
    forwarded: Option<Timestamp>,
    pulled: Option<Timestamp>,
    lone: Lone,
}

impl Desk {
    /// What came to a channel which way. Blocks on the disk.
    pub fn parity(&self, channel: &Address, span: &Span) -> Result<Parity, DeskError> {
        let (mut rows, mut before, mut looked, mut cut) = (Vec::new(), u64::MAX, 0, false);
        let name = channel.to_string();
        'walk: loop {
            let page = self.store.entries_before(before, PAGE)?;
            if page.is_empty() {
                break;
            }
            looked += page.len();
            for row in page {
                before = row.seq;
                if row.filed_at < span.since {
                    break 'walk;
                }
                if row.channel == name && counts(&row) {
                    rows.push(row);
                }
            }
            if looked >= MOST_ENTRIES {
                cut = true;
                break;
            }
        }
        // The entry that a mail repeats may be older than the period.
        let mut originals = Vec::new();
        for of in rows.iter().filter_map(|row| row.duplicate_of).filter(|of| *of <= before) {
            originals.extend(self.store.entry_at(of)?);
        }
        Ok(report(rows.iter().chain(&originals), span, cut))
    }
}

/// Whether an entry is a mail whose way matters: our own mail that came back does not, nor what was filed again.
fn counts(row: &EntryRow) -> bool {
    let ours = row.kind == EntryKind::Inbound && row.filing != "dropped" && !row.backfill;
    ours && !row.trace.iter().any(|step| step.step == "retried")
}

/// The report over entries, the newest first.
fn report<'a>(rows: impl Iterator<Item = &'a EntryRow>, span: &Span, cut: bool) -> Parity {
    let from = span.connected_at.map_or(span.since, |at| at.max(span.since));
    let mut parity = Parity { from, cut, ..Parity::default() };
    let mut lags: Vec<i64> = Vec::new();
    let grace = SignedDuration::from_mins(GRACE_MINUTES);
    for mail in mails(rows).into_values().rev() {
        if mail.lone.at < from {
            continue;
        }
        match (mail.forwarded, mail.pulled) {
            (Some(forwarded), Some(pulled)) => {
                parity.both += 1;
                lags.push(pulled.duration_since(forwarded).as_secs());
            }
            (Some(forwarded), None) if span.now.duration_since(forwarded) < grace => parity.pending += 1,
            (Some(_), None) => {
                parity.only_forwarded_count += 1;
                list(&mut parity.only_forwarded, mail.lone);
            }
            (None, Some(_)) => {
                parity.only_connector_count += 1;
                list(&mut parity.only_connector, mail.lone);
            }
            (None, None) => {}
        }
    }
    lags.sort_unstable();
    (parity.lag_median, parity.lag_most) = (lags.get(lags.len() / 2).copied(), lags.last().copied());
    (parity.can_switch_off, parity.verdict) = match doubt(&parity, span) {
        Some(doubt) => (false, doubt),
        None => {
            let days = span.now.duration_since(from).as_hours() / 24;
            let said = format!("in {days} days all {} mails that were forwarded came by the mailbox too", parity.both);
            (true, format!("forwarding can be switched off: {said}"))
        }
    };
    parity
}

fn list(list: &mut Vec<Lone>, lone: Lone) {
    if list.len() < MOST_LISTED {
        list.push(lone);
    }
}

/// All mails by the `seq` of their oldest entry.
fn mails<'a>(rows: impl Iterator<Item = &'a EntryRow>) -> BTreeMap<u64, Sightings> {
    let mut mails: BTreeMap<u64, Sightings> = BTreeMap::new();
    // Mail without a ticket repeats nothing, but its Message-ID tells the two ways of one mail.
    let mut unticketed: HashMap<&str, u64> = HashMap::new();
    for row in rows {
        let key = match (&row.message_id, row.duplicate_of) {
            (_, Some(of)) => of,
            (Some(id), None) if row.ticket.is_none() => *unticketed.entry(id).or_insert(row.seq),
            _ => row.seq,
        };
        let mail = mails.entry(key).or_insert_with(|| Sightings { forwarded: None, pulled: None, lone: lone(row) });
        let at = match row.door.as_str() {
            "smtp" => &mut mail.forwarded,
            "imap" | "graph" => &mut mail.pulled,
            _ => continue,
        };
        *at = Some(at.map_or(row.received_at, |known| known.min(row.received_at)));
        if row.received_at < mail.lone.at {
            mail.lone = lone(row);
        }
    }
    mails
}

fn lone(row: &EntryRow) -> Lone {
    let mut subject: String = row.subject.chars().take(SUBJECT).collect();
    if subject.len() < row.subject.len() {
        subject.push('…');
    }
    Lone { entry: row.id.clone(), message_id: row.message_id.clone(), at: row.received_at, subject }
}

/// What speaks against switching forwarding off, the weightiest first.
fn doubt(parity: &Parity, span: &Span) -> Option<String> {
    let not_yet = |said: String| Some(format!("keep forwarding: {said}"));
    if span.connected_at.is_none() {
        return not_yet("the channel has no mailbox that was ever connected".into());
    }
    if parity.only_forwarded_count > 0 {
        return not_yet(format!(
            "{} by forwarding only",
            count(parity.only_forwarded_count, "mail came", "mails came")
        ));
    }
    if parity.cut {
        return not_yet(format!("only the newest {MOST_ENTRIES} entries were looked at; ask for a shorter period"));
    }
    if span.now.duration_since(parity.from) < SignedDuration::from_hours(24 * NEEDED_DAYS) {
        return not_yet(format!(
            "both ways have run side by side since {} only, and {NEEDED_DAYS} days are needed",
            parity.from.strftime("%Y-%m-%d %H:%M")
        ));
    }
    let both = count(parity.both, "mail came", "mails came");
    (parity.both < NEEDED_MAILS).then(|| format!("keep forwarding: {both} both ways, and {NEEDED_MAILS} are needed"))
}

#[cfg(test)]
#[path = "parity_tests.rs"]
mod tests;
