//! What people do with mail that leaves: look at it, hold it, try it again; release brakes; clear suppressed addresses.

use super::{Desk, DeskError, checked_author};
use crate::store::rows::{BrakeRow, EntryRow, OutboxRow, OutboxState, RecipientRow, SuppressionRow};
use crate::store::{Every, OutboxFilter, OutboxOrder, StoreError};

/// The most recipients of one mail that are shown.
const MAX_RECIPIENTS: usize = 1_000;
/// The most mails that one order for all looks at in one commit.
const PAGE: usize = 500;

/// An order for every mail: the mails that wait or, to release them, those that are held.
#[derive(Clone, Debug)]
pub struct OrderAll {
    pub order: OutboxOrder,
    /// Only mail of this channel.
    pub channel: Option<String>,
    /// Only mail with a higher `seq`.
    pub after: u64,
}

/// What one page of such an order has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedPage {
    pub changed: u64,
    /// Where the next page begins, if there is one.
    pub after: Option<u64>,
}

/// A mail that leaves or has left, with its recipients.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxView {
    pub row: OutboxRow,
    pub recipients: Vec<RecipientRow>,
}

/// What an order about a mail has failed of; an id that names none is told as one of the outbox.
fn in_outbox(id: &str, error: StoreError) -> DeskError {
    match error {
        StoreError::NoSuchEntry(_) => no_mail(id),
        other => other.into(),
    }
}

fn no_mail(id: &str) -> DeskError {
    DeskError::NotFound(format!("mail {id} in the outbox"))
}

impl Desk {
    /// Mails of the outbox, the newest first.
    pub fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<OutboxView>, DeskError> {
        self.store.outbox(filter)?.into_iter().map(|row| self.outgoing(row)).collect()
    }

    /// One mail of the outbox.
    pub fn outbox_mail(&self, id: &str) -> Result<OutboxView, DeskError> {
        let none = || no_mail(id);
        let entry = self.store.entry(id)?.ok_or_else(none)?;
        let row = self.store.outbox_row(entry.seq)?.ok_or_else(none)?;
        self.outgoing(row)
    }

    /// What became of the mail of an entry, if it is one that leaves.
    pub fn sent(&self, entry: &EntryRow) -> Result<Option<OutboxView>, DeskError> {
        self.store.outbox_row(entry.seq)?.map(|row| self.outgoing(row)).transpose()
    }

    /// Does what a person wants of a mail.
    pub fn order_outbox(&self, id: &str, order: &OutboxOrder, author: &str) -> Result<OutboxView, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        let row =
            self.store.step(|step| step.order_outbox(id, order, author, now).map_err(|error| in_outbox(id, error)))?;
        self.outgoing(row)
    }

    /// Does the same to every mail for which it can be done, a page at a time: `after` is the `seq` to go on behind.
    /// Each page is one commit. Mail that comes meanwhile is met as well, so that an order to hold holds everything.
    pub fn order_all(&self, all: &OrderAll, author: &str) -> Result<OrderedPage, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        let rows = self.store.undone(all.after, PAGE)?;
        let after = if rows.len() == PAGE { rows.last().map(|row| row.seq) } else { None };
        let wanted = match all.order {
            OutboxOrder::Release => OutboxState::Held,
            _ => OutboxState::Waiting,
        };
        let here = |row: &&OutboxRow| all.channel.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(&row.channel));
        let chosen: Vec<&OutboxRow> = rows.iter().filter(|row| row.state == wanted).filter(here).collect();
        if chosen.is_empty() {
            return Ok(OrderedPage { changed: 0, after });
        }
        let changed = self.store.step(|step| {
            let mut changed = 0;
            for row in chosen {
                match step.order_outbox(&row.id, &all.order, author, now) {
                    Ok(_) => changed += 1,
                    // It has left, or was erased, since it was read.
                    Err(StoreError::NotPossible(_) | StoreError::NoSuchEntry(_)) => {}
                    Err(error) => return Err(DeskError::from(error)),
                }
            }
            Ok(changed)
        })?;
        Ok(OrderedPage { changed, after })
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
