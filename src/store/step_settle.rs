//! The step of settling: what became of mail that left, for each recipient, and who hears of it.

use super::cut;
use super::error::StoreError;
use super::keys;
use super::outgoing::{Settled, Suppress};
use super::rows::{DeliveryState, OutboxRow};
use super::step::{Step, json};
use super::step_outbox::{NAME, REPLY};
use super::step_owed::{Owed, report_of};
use crate::units::count;

impl Step<'_> {
    /// Writes down what became of mails; returns their rows as they are now.
    pub fn settle(&mut self, settled: &[Settled], suppress: Suppress) -> Result<Vec<OutboxRow>, StoreError> {
        let (mut rows, mut owed) = (Vec::with_capacity(settled.len()), Owed::default());
        for one in settled {
            if let Some(row) = self.settle_one(one, suppress, &mut owed)? {
                rows.push(row);
            }
        }
        self.owe_reports(owed, settled)?;
        Ok(rows)
    }

    fn settle_one(
        &mut self,
        settled: &Settled,
        suppress: Suppress,
        owed: &mut Owed,
    ) -> Result<Option<OutboxRow>, StoreError> {
        let Some(mut row) = self.outbox_row(settled.seq)? else { return Ok(None) };
        let (mut worst, mut reports) = (None, Vec::new());
        for one in &settled.recipients {
            let Some(mut recipient) = self.recipient(row.seq, one.n)? else { continue };
            let waited = recipient.state.waits();
            // What was cancelled on the way stays cancelled, unless a peer has it now.
            let relay = settled.relay.as_ref().map(|relay| cut::text(relay, NAME));
            if one.unanswered {
                recipient.unanswered.clone_from(&relay);
            }
            if !waited && one.state != DeliveryState::Relayed {
                if one.unanswered {
                    self.put(keys::recipient(row.seq, one.n), json(&recipient)?)?;
                }
                continue;
            }
            let tried = one.state != DeliveryState::Queued;
            if let Some(relay) = relay.filter(|_| tried) {
                recipient.attempts += 1;
                recipient.relay = Some(relay);
            }
            recipient.due = one.next;
            // A report can overtake the commit of the attempt that it is about, if that has sent anything.
            let ahead = if tried { std::mem::take(&mut recipient.ahead) } else { Vec::new() };
            let ahead = ahead.into_iter().filter(|_| one.state == DeliveryState::Relayed);
            reports.extend(ahead.map(|report| (one.n, report)));
            row.open -= u32::from(waited && !one.state.waits());
            if tried {
                (recipient.state, recipient.at) = (one.state, settled.at);
            }
            recipient.reply = one.reply.as_deref().map(|reply| cut::text(reply, REPLY)).or(recipient.reply);
            self.put(keys::recipient(row.seq, one.n), json(&recipient)?)?;
            owed.reports.extend(one.told.as_ref().and_then(|told| report_of(&row, &recipient, told, settled.at)));
            if one.hard {
                let said = recipient.reply.clone().unwrap_or_default();
                self.hard_failure(&recipient.address, &said, suppress, settled.at)?;
            }
            worst = worst.max(Some(one.state));
        }
        row.attempts += u32::from(settled.relay.is_some());
        row.due = self.first_due(&row, settled.at)?;
        let late = settled.late.as_ref().filter(|_| !row.delayed_told);
        let late = late.map(|note| with_others(note, row.open.saturating_sub(settled.delayed.len() as u32)));
        row.delayed_told |= late.is_some();
        let stays = undo_reroute(&mut row, settled);
        self.put_outbox(&mut row)?;
        if let Some(way) = &settled.way {
            self.trace(row.seq, "fields", way)?;
        }
        owed.late.extend(late.as_ref().map(|_| (row.clone(), settled.at)));
        self.tell_settled(settled, &row, worst, late.as_ref())?;
        if stays {
            self.outbox_event("delivery_changed", &row, None, row.why.clone(), settled.at)?;
        }
        // What came before the attempt began was made up by somebody who knows the Message-ID.
        for (n, report) in reports {
            if settled.began.is_some_and(|began| report.at >= began) {
                self.bounced_one(&row, n, &report, suppress, settled.at)?;
            } else {
                let said =
                    format!("one that says \"{}\" came before the mail was sent, so it is not about it", report.word);
                self.trace(row.seq, "report", &said)?;
            }
        }
        Ok(Some(row))
    }

    fn tell_settled(
        &mut self,
        settled: &Settled,
        row: &OutboxRow,
        worst: Option<DeliveryState>,
        late: Option<&String>,
    ) -> Result<(), StoreError> {
        let kind = match worst {
            _ if late.is_some() => "mail_delayed",
            Some(DeliveryState::Failed) => "mail_failed",
            Some(DeliveryState::Relayed) if row.open == 0 => "mail_relayed",
            // Another attempt is no news for those who follow the feed; the first failure is.
            Some(DeliveryState::Delayed) if row.attempts > 1 => "",
            Some(_) => "delivery_changed",
            None => "",
        };
        if !kind.is_empty() {
            let said = settled.recipients.iter().find_map(|one| one.reply.clone()).or_else(|| late.cloned());
            self.outbox_event(kind, row, None, said, settled.at)?;
        }
        if let Some(ticket) = row.ticket {
            for note in settled.notes.iter().chain(late) {
                // A ticket that is gone is no reason to lose what became of the mail.
                match self.note(ticket, super::NOTED_BY, &cut::text(note, cut::NOTE), settled.at) {
                    Ok(_) | Err(StoreError::NoSuchTicket(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// A mail is told once to be late, so the note counts those who wait for other servers.
fn with_others(note: &str, others: u32) -> String {
    match others {
        0 => note.to_owned(),
        _ => format!("{note}\n- and {}", count(others, "other recipient", "other recipients")),
    }
}

/// Whoever rerouted a mail while it was under way could not know that its peer would not answer: it stays with the relay
/// that may have it, as it would by the same order now. Returns whether it does.
fn undo_reroute(row: &mut OutboxRow, settled: &Settled) -> bool {
    let silent = settled.recipients.iter().any(|one| one.unanswered && one.state.waits());
    let first = settled.relay.as_ref().filter(|_| silent && !row.anyway).map(|relay| cut::text(relay, NAME));
    let (Some(first), Some(wanted)) = (first, &row.relay) else { return false };
    if first == *wanted {
        return false;
    }
    row.why = Some(cut::text(&format!("not rerouted to {wanted}: {first} did not answer and may have it"), NAME));
    row.relay = Some(first);
    true
}
