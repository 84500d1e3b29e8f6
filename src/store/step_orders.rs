//! The steps of what people order about mail that leaves: try it now, hold it, release it, cancel it, reroute it.

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::outgoing::OutboxOrder;
use super::rows::{DeliveryState, OutboxRow, OutboxState, RecipientRow};
use super::step::{Step, json};
use super::step_outbox::NAME;
use super::{index, keys};

impl Step<'_> {
    /// Does what a person wants of a mail.
    pub fn order_outbox(
        &mut self,
        id: &str,
        order: &OutboxOrder,
        author: &str,
        now: Timestamp,
    ) -> Result<OutboxRow, StoreError> {
        let none = || StoreError::NoSuchEntry(id.to_owned());
        let seq = self.get(&keys::id(id))?.as_deref().map(index::number).ok_or_else(none)?;
        let mut row = self.outbox_row(seq)?.ok_or_else(none)?;
        let undone = matches!(row.state, OutboxState::Waiting | OutboxState::Held);
        let fits = match order {
            OutboxOrder::Retry => row.state != OutboxState::Cancelled,
            OutboxOrder::Hold => row.state == OutboxState::Waiting,
            OutboxOrder::Release => row.state == OutboxState::Held,
            OutboxOrder::Cancel | OutboxOrder::Reroute(_) | OutboxOrder::RerouteAnyway(_) => undone,
        };
        if !fits {
            let which = match order {
                OutboxOrder::Retry => "what was cancelled is not tried again",
                OutboxOrder::Hold => "only mail that waits can be held",
                OutboxOrder::Release => "only mail that is held can be released",
                OutboxOrder::Cancel => "only mail that waits or is held can be cancelled",
                OutboxOrder::Reroute(_) | OutboxOrder::RerouteAnyway(_) => {
                    "only mail that waits or is held can be rerouted"
                }
            };
            return Err(StoreError::NotPossible(format!("mail {id} is {}: {which}", row.state.as_str())));
        }
        match order {
            OutboxOrder::Retry => {
                let again = self.change_recipients(&mut row, now, |to| {
                    (to.state == DeliveryState::Failed).then_some(DeliveryState::Queued)
                })?;
                if again == 0 && row.open == 0 {
                    let said =
                        format!("mail {id} has no recipient that waits or has failed: there is nothing to retry");
                    return Err(StoreError::NotPossible(said));
                }
                if again > 0 {
                    self.begin_anew(&mut row, now)?;
                } else {
                    self.try_now(&mut row, now)?;
                }
                row.state = OutboxState::Waiting;
            }
            OutboxOrder::Hold => row.state = OutboxState::Held,
            OutboxOrder::Release => {
                self.change_recipients(&mut row, now, |to| to.brake.is_some().then_some(DeliveryState::Queued))?;
                // While it was held it could not be sent.
                self.begin_anew(&mut row, now)?;
                row.state = OutboxState::Waiting;
            }
            OutboxOrder::Cancel => {
                self.change_recipients(&mut row, now, |to| {
                    (to.state.waits() || to.brake.is_some()).then_some(DeliveryState::Cancelled)
                })?;
                row.state = OutboxState::Cancelled;
            }
            OutboxOrder::Reroute(relay) | OutboxOrder::RerouteAnyway(relay) => {
                row.anyway = matches!(order, OutboxOrder::RerouteAnyway(_));
                if !row.anyway {
                    self.refuse_twice(&row, relay)?;
                }
                row.relay = Some(cut::text(relay, NAME));
                self.begin_anew(&mut row, now)?;
            }
        }
        let said = match order {
            OutboxOrder::Retry => format!("tried again by {author}"),
            OutboxOrder::Hold => format!("held by {author}"),
            OutboxOrder::Release => format!("released by {author}"),
            OutboxOrder::Cancel => format!("cancelled by {author}"),
            OutboxOrder::Reroute(relay) | OutboxOrder::RerouteAnyway(relay) => {
                format!("rerouted by {author}, by way of {relay}")
            }
        };
        row.why = Some(cut::text(&said, NAME));
        self.put_outbox(&mut row)?;
        self.outgoing.push(seq);
        self.outbox_event("delivery_changed", &row, Some(author), row.why.clone(), now)?;
        Ok(row)
    }

    /// Refuses to have a mail leave by a relay while another one may have it for somebody who waits.
    fn refuse_twice(&self, row: &OutboxRow, relay: &str) -> Result<(), StoreError> {
        for n in 0..row.recipients {
            let waits = self.recipient(row.seq, n)?.filter(|to| to.state.waits() || to.brake.is_some());
            let other = waits.and_then(|to| Some((to.unanswered.filter(|other| other != relay)?, to.address)));
            if let Some((other, address)) = other {
                return Err(StoreError::MayComeTwice(format!(
                    "mail {} may be with {address} already: relay \"{other}\" had all of it and did not answer, so by \
                     \"{relay}\" it may come a second time",
                    row.id
                )));
            }
        }
        Ok(())
    }

    /// When the first recipient that waits is due. The last ones are looked at first, as attempts begin with the first
    /// ones: where one is due already, the others do not matter.
    pub(super) fn first_due(&self, row: &OutboxRow, now: Timestamp) -> Result<Timestamp, StoreError> {
        let mut first: Option<Timestamp> = None;
        for n in (0..row.recipients).rev().take_while(|_| row.open > 0) {
            let Some(recipient) = self.recipient(row.seq, n)?.filter(|to| to.state.waits()) else { continue };
            let due = recipient.due(row);
            first = Some(first.map_or(due, |first| first.min(due)));
            if due <= now {
                break;
            }
        }
        Ok(first.unwrap_or(row.due))
    }

    /// A mail has all its time before it again, and is due now.
    pub(super) fn begin_anew(&mut self, row: &mut OutboxRow, now: Timestamp) -> Result<(), StoreError> {
        (row.since, row.delayed_told) = (now, false);
        self.try_now(row, now)
    }

    /// All recipients that wait are due now.
    fn try_now(&mut self, row: &mut OutboxRow, now: Timestamp) -> Result<(), StoreError> {
        row.due = now;
        for n in 0..row.recipients {
            let waits = self.recipient(row.seq, n)?.filter(|to| to.state.waits() && to.due.is_some());
            if let Some(recipient) = waits {
                self.put(keys::recipient(row.seq, n), json(&RecipientRow { due: None, ..recipient })?)?;
            }
        }
        Ok(())
    }

    /// Gives recipients a new state; returns how many have one.
    pub(super) fn change_recipients(
        &mut self,
        row: &mut OutboxRow,
        now: Timestamp,
        change: impl Fn(&RecipientRow) -> Option<DeliveryState>,
    ) -> Result<u32, StoreError> {
        let mut changed = 0;
        for n in 0..row.recipients {
            let Some(mut recipient) = self.recipient(row.seq, n)? else { continue };
            let Some(state) = change(&recipient) else { continue };
            if let Some(brake) = recipient.brake.take() {
                self.delete(keys::braked(&brake, row.seq, n));
                self.holds_one_less(&brake)?;
                row.braked -= 1;
            }
            row.open = row.open + u32::from(state.waits()) - u32::from(recipient.state.waits());
            (recipient.state, recipient.at) = (state, now);
            // What was reported was about an earlier attempt.
            recipient.reported = recipient.reported.take().filter(|_| !state.waits());
            self.put(keys::recipient(row.seq, n), json(&recipient)?)?;
            changed += 1;
        }
        Ok(changed)
    }
}
