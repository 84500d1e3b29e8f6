//! The steps of what the senders of mail are told: word of it is left in the commit that decides what became of the
//! mail, and goes in the commit that files the report.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::keys;
use super::outgoing::{Settled, Told};
use super::rows::{OutboxRow, RecipientRow, ReportRow};
use super::step::{Step, json};
use super::step_outbox::NAME;
use crate::mail::notify::{Wish, wish};

/// The most recipients of one report.
const RECIPIENTS: usize = 100;
/// How many reports of one mail within one microsecond are told apart.
const EVENTS: u64 = 10_000;
/// The most of what was said about a recipient that is kept, in bytes.
const SAID: usize = 520;

/// What the sender of a mail is owed for one recipient, if anything. A null sender hears of nothing (RFC 5321 section
/// 4.5.5), so that no report is ever about a report; and where a ticket tells what became of its mail, the sender hears
/// of it only if it has asked.
pub(super) fn report_of(row: &OutboxRow, to: &RecipientRow, told: &Told, at: Timestamp) -> Option<ReportRow> {
    row.sender.as_ref()?;
    let wish = wish(to.notify.as_deref(), told.action);
    if wish == Wish::Not || (wish == Wish::Open && row.ticket.is_some()) {
        return None;
    }
    Some(ReportRow {
        seq: row.seq,
        event: 0,
        n: to.n,
        address: to.address.clone(),
        orcpt: to.orcpt.clone(),
        asked: wish == Wish::Asked,
        action: told.action.as_str().to_owned(),
        status: cut::text(&told.status, NAME),
        said: cut::text(&told.said, SAID),
        remote: told.remote.as_deref().map(|remote| cut::text(remote, NAME)),
        until: told.until,
        at,
    })
}

/// What the senders of mails are owed by one commit.
#[derive(Default)]
pub(super) struct Owed {
    pub reports: Vec<ReportRow>,
    /// Mails that are told to be late, and since when that is known.
    pub late: Vec<(OutboxRow, Timestamp)>,
}

impl Step<'_> {
    /// Leaves word of reports that are owed: those of one mail are one report, of at most 100 recipients.
    pub(super) fn owe_reports(&mut self, owed: Owed, settled: &[Settled]) -> Result<(), StoreError> {
        let mut reports = owed.reports;
        for (row, at) in &owed.late {
            reports.extend(self.delays(row, settled, *at)?);
        }
        let mut mails: BTreeMap<u64, Vec<ReportRow>> = BTreeMap::new();
        reports.into_iter().for_each(|row| mails.entry(row.seq).or_default().push(row));
        for (seq, rows) in mails {
            for part in rows.chunks(RECIPIENTS) {
                let event = self.free_event(seq, part[0].at)?;
                for row in part {
                    let row = ReportRow { event, ..row.clone() };
                    self.put(keys::report(seq, event, row.n), json(&row)?)?;
                }
            }
        }
        Ok(())
    }

    /// What there is to tell of the recipients of a late mail that still wait once all of this commit has been settled.
    /// It is told once, so by whichever job it was noticed, those that wait for other servers are told of as well.
    fn delays(&self, row: &OutboxRow, settled: &[Settled], at: Timestamp) -> Result<Vec<ReportRow>, StoreError> {
        let jobs = settled.iter().filter(|one| one.seq == row.seq);
        let told: BTreeMap<u32, &Told> = jobs.flat_map(|one| &one.delayed).map(|(n, told)| (*n, told)).collect();
        let until = told.values().find_map(|told| told.until);
        let (Some(until), Some(_)) = (until, &row.sender) else { return Ok(Vec::new()) };
        let (waits, mut owed) = (Told::waits(until), Vec::new());
        for n in 0..row.recipients {
            if let Some(recipient) = self.recipient(row.seq, n)?.filter(|recipient| recipient.state.waits()) {
                owed.extend(report_of(row, &recipient, told.get(&n).copied().unwrap_or(&waits), at));
            }
        }
        Ok(owed)
    }

    /// A number that no report about this mail has or had: the time, so that a later one is another one.
    fn free_event(&self, seq: u64, at: Timestamp) -> Result<u64, StoreError> {
        let first = u64::try_from(at.as_microsecond()).unwrap_or(0);
        for event in first..first + EVENTS {
            let prefix = keys::report_event(seq, event);
            let mut taken = !self.changed_under(&prefix).is_empty();
            self.store.index.walk_prefix(&prefix, |_, _| {
                taken = true;
                Ok(false)
            })?;
            if !taken && self.ordered(&super::rows::report_order(seq, event))?.is_none() {
                return Ok(event);
            }
        }
        Err(StoreError::Misuse(format!("{EVENTS} reports about the mail {seq} at the same time")))
    }

    /// A report is filed, or nobody is to have it: it is not owed any more.
    pub fn end_report(&mut self, seq: u64, event: u64) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        self.store.index.walk_prefix(&keys::report_event(seq, event), |key, _| {
            gone.push(key.to_vec());
            Ok(gone.len() <= RECIPIENTS)
        })?;
        gone.into_iter().for_each(|key| self.delete(key));
        Ok(())
    }
}
