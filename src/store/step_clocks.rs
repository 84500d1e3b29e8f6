//! The clocks of mail whose account may not send (R8): since when they stand still, and the time that mail gets back.
//!
//! The row says how far that has come, in the commit that gives it: over a crash each mail has it once.

use jiff::Timestamp;

use super::error::StoreError;
use super::rows::{ClockRow, OutboxState};
use super::step::{Step, json, parse};
use super::{Store, keys};

impl Store {
    /// Accounts whose mail has clocks that stand still, or is being given time back.
    pub fn clocks(&self) -> Result<Vec<ClockRow>, StoreError> {
        let mut rows = Vec::new();
        self.0.index.walk_prefix(&[keys::CLOCKS], |_, value| {
            rows.push(parse(value)?);
            Ok(true)
        })?;
        Ok(rows)
    }
}

impl Step<'_> {
    /// The clock of the mail that an account sends stands still from then on, unless it does so already.
    pub fn stop_clock(&mut self, account: &str, since: Timestamp) -> Result<(), StoreError> {
        if self.clock(account)?.is_some() {
            return Ok(());
        }
        self.put_clock(&ClockRow { account: account.to_owned(), since, until: None, after: 0 })
    }

    /// Mails get back what they could not use between the time since which the account's clock stands still and the
    /// one beside each. `until` is when it went on, `last` the last mail that was looked at; without one all have it,
    /// and the clock goes.
    pub fn give_time(
        &mut self,
        account: &str,
        mails: &[(u64, Timestamp)],
        until: Timestamp,
        last: Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(clock) = self.clock(account)? else { return Ok(()) };
        for (seq, until) in mails.iter().filter(|(seq, _)| *seq > clock.after) {
            let row = self.outbox_row(*seq)?.filter(|row| row.state == OutboxState::Waiting);
            // A mail that began later, or began anew, has lost less.
            let Some(mut row) = row.filter(|row| row.since.max(clock.since) < *until) else { continue };
            let lost = until.duration_since(clock.since.max(row.since));
            row.since = row.since.checked_add(lost).unwrap_or(*until);
            self.put_outbox(&mut row)?;
            self.outgoing.push(*seq);
        }
        match last {
            Some(after) => self.put_clock(&ClockRow { until: Some(until), after, ..clock }),
            None => {
                self.delete(keys::clock(account));
                Ok(())
            }
        }
    }

    fn clock(&self, account: &str) -> Result<Option<ClockRow>, StoreError> {
        self.get(&keys::clock(account))?.map(|value| parse(&value)).transpose()
    }

    fn put_clock(&mut self, row: &ClockRow) -> Result<(), StoreError> {
        self.put(keys::clock(&row.account), json(row)?)
    }
}
