//! The steps of delivery reports that came home (B24): the mail that one is about, and what it changes.

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::outgoing::{Bounced, Suppress};
use super::rows::{DeliveryState, EarlyReport, EntryKind, EntryRow, OutboxRow, RecipientRow};
use super::step::{Step, json};
use super::{index, keys};

/// The most of what is said about a recipient that is kept.
const SAID: usize = 400;
/// How many reports are kept of a recipient that still waits, and the most of what each says: a real one comes after
/// those that somebody made up, so the last ones are kept.
const AHEAD: usize = 2;
const SAID_AHEAD: usize = 160;
/// The most entries of a Message-ID, and the latest of a ticket, that the mail of a report is looked for among.
const LOOK_BACK: usize = 200;

impl Step<'_> {
    /// The entry of the mail of ours that a report is about: by the Message-ID, or among the latest mail of the ticket.
    pub fn outbound_of(
        &self,
        message_id: Option<&str>,
        ticket: Option<u64>,
        addresses: &[String],
    ) -> Result<Option<EntryRow>, StoreError> {
        if let Some(id) = message_id {
            for seq in self.store.seqs_of_message(id, LOOK_BACK)? {
                if let Some(row) = self.entry_at(seq)?
                    && row.kind == EntryKind::Outbound
                    && row.duplicate_of.is_none()
                {
                    return Ok(Some(row));
                }
            }
        }
        let Some(ticket) = ticket else { return Ok(None) };
        let mut seqs = Vec::new();
        let (from, to) = (keys::member(ticket, 0), keys::member(ticket, u64::MAX));
        self.store.index.walk(&from, &to, index::Order::Down, |key, _| {
            seqs.push(keys::number_in(key, 1));
            Ok(seqs.len() < LOOK_BACK)
        })?;
        let known = |row: &EntryRow| row.rcpt_to.iter().any(|to| addresses.iter().any(|a| a.eq_ignore_ascii_case(to)));
        for seq in seqs {
            if let Some(row) = self.entry_at(seq)?
                && row.kind == EntryKind::Outbound
                && known(&row)
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Notes what a report says about mail of ours; returns whether it knew the mail.
    pub fn bounced(
        &mut self,
        seq: u64,
        reports: &[Bounced],
        suppress: Suppress,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(row) = self.outbox_row(seq)? else { return Ok(false) };
        let mut known = false;
        let mut addresses = Vec::new();
        for n in 0..row.recipients {
            addresses.extend(self.recipient(seq, n)?.map(|recipient| (n, recipient.address)));
        }
        for report in reports {
            let said = EarlyReport {
                word: report.word.to_owned(),
                said: cut::text(&report.said, SAID),
                hard: report.hard,
                at: report.at,
            };
            for (n, to) in &addresses {
                let named = report.addresses.iter().any(|address| address.eq_ignore_ascii_case(to));
                // Where there is one recipient only, a report about another address is about where it was forwarded.
                if named || (row.recipients == 1 && reports.len() == 1) {
                    self.bounced_one(&row, *n, &said, suppress, now)?;
                    known = true;
                }
            }
        }
        Ok(known)
    }

    /// Notes what a report says about one recipient. One that came before the mail had left counts once an attempt has
    /// ended that had begun by then.
    pub(super) fn bounced_one(
        &mut self,
        row: &OutboxRow,
        n: u32,
        report: &EarlyReport,
        suppress: Suppress,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(mut recipient) = self.recipient(row.seq, n)? else { return Ok(()) };
        if !is_news(&recipient, report) {
            return Ok(());
        }
        // It may have overtaken the commit of the attempt that it is about; but anybody who knows the Message-ID can
        // write one, and must not end the delivery to somebody whom nothing was sent to yet.
        if recipient.state.waits() {
            let mut report = report.clone();
            report.said = cut::text(&report.said, SAID_AHEAD);
            recipient.ahead.push(report);
            if recipient.ahead.len() > AHEAD {
                recipient.ahead.remove(0);
            }
            return self.put(keys::recipient(row.seq, recipient.n), json(&recipient)?);
        }
        recipient.reported = Some(report.word.clone());
        recipient.reply = Some(report.said.clone());
        recipient.at = now;
        if report.word == "failed" {
            recipient.state = DeliveryState::Failed;
        }
        self.put(keys::recipient(row.seq, recipient.n), json(&recipient)?)?;
        let kind = match report.word.as_str() {
            "failed" => "mail_failed",
            "delayed" => "mail_delayed",
            _ => "delivery_changed",
        };
        let said = format!("{} for {}: {}", report.word, recipient.address, report.said);
        self.outbox_event(kind, row, None, Some(said), now)?;
        if report.word == "complaint" {
            return self.complained(&recipient.address, &report.said, now);
        }
        if report.hard {
            self.hard_failure(&recipient.address, &report.said, suppress, now)?;
        }
        Ok(())
    }
}

/// Whether a report says more than is known. One about a recipient whom nothing was sent to is none of a server's.
/// Reports come in any order and more than once, by each address that the mail was led on to: the worst stands, and one
/// mail is one failure.
fn is_news(recipient: &RecipientRow, report: &EarlyReport) -> bool {
    let sent = recipient.state.waits() || matches!(recipient.state, DeliveryState::Relayed | DeliveryState::Failed);
    let weight = |word: &str| match word {
        "complaint" => 3,
        "failed" => 2,
        "delayed" => 0,
        _ => 1,
    };
    let failed = (recipient.state == DeliveryState::Failed).then_some("failed");
    let before = recipient.reported.as_deref().into_iter().chain(failed).map(weight).max();
    sent && before.is_none_or(|before| weight(&report.word) > before)
}
