//! What people do with mail that leaves: look at it, hold it, try it again; release brakes; clear suppressed addresses.

use super::{Desk, DeskError, checked_author};
use crate::store::rows::{BrakeRow, OutboxRow, RecipientRow, SuppressionRow};
use crate::store::{Every, OutboxFilter, OutboxOrder};

/// The most recipients of one mail that are shown.
const MAX_RECIPIENTS: usize = 1_000;

/// A mail that leaves or has left, with its recipients.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxView {
    pub row: OutboxRow,
    pub recipients: Vec<RecipientRow>,
}

impl Desk {
    /// Mails of the outbox, the newest first.
    pub fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<OutboxView>, DeskError> {
        self.store.outbox(filter)?.into_iter().map(|row| self.outgoing(row)).collect()
    }

    /// One mail of the outbox.
    pub fn outbox_mail(&self, id: &str) -> Result<OutboxView, DeskError> {
        let none = || DeskError::NotFound(format!("mail {id} in the outbox"));
        let entry = self.store.entry(id)?.ok_or_else(none)?;
        let row = self.store.outbox_row(entry.seq)?.ok_or_else(none)?;
        self.outgoing(row)
    }

    /// Does what a person wants of a mail.
    pub fn order_outbox(&self, id: &str, order: &OutboxOrder, author: &str) -> Result<OutboxView, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        let row = self.store.step(|step| step.order_outbox(id, order, author, now).map_err(DeskError::from))?;
        self.outgoing(row)
    }

    fn outgoing(&self, row: OutboxRow) -> Result<OutboxView, DeskError> {
        let recipients = self.store.recipients(row.seq, 0, MAX_RECIPIENTS)?;
        Ok(OutboxView { row, recipients })
    }

    /// Loop brakes that have tripped.
    pub fn brakes(&self) -> Result<Vec<BrakeRow>, DeskError> {
        Ok(self.store.brakes(MAX_RECIPIENTS)?)
    }

    /// Releases a brake; what it held goes out.
    pub fn release_brake(&self, id: &str, author: &str) -> Result<BrakeRow, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        self.store.step(|step| step.release_brake(id, author, now).map_err(DeskError::from))
    }

    /// Addresses that mail is not sent to, or all that have failed.
    pub fn suppressions(&self, every: Every) -> Result<Vec<SuppressionRow>, DeskError> {
        Ok(self.store.suppressions(every, 10_000)?)
    }

    /// Takes an address off the suppression list.
    pub fn clear_suppression(&self, address: &str) -> Result<(), DeskError> {
        self.store.step(|step| step.clear_suppression(address).map_err(DeskError::from))
    }
}
