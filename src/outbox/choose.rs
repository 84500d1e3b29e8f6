//! Which recipients of a mail an attempt is made for.

use jiff::Timestamp;

use super::judge::not_sent;
use super::{Worker, told};
use crate::mail::Address;
use crate::store::rows::{DeliveryState, OutboxRow, RecipientRow, SuppressionRow};
use crate::store::{SettledRecipient, StoreError};
use crate::ticket::loops;

/// The most recipients of one job: more than some servers take in one transaction (RFC 5321 section 4.5.3.1.8).
const JOB_RECIPIENTS: usize = 100;

/// Those that are due in a lane, which `here` knows: first who was never tried, then who was tried least, so that each
/// has its turn.
pub fn due(
    recipients: Vec<RecipientRow>,
    row: &OutboxRow,
    now: Timestamp,
    here: impl Fn(&RecipientRow) -> bool,
) -> Vec<RecipientRow> {
    let due = recipients.into_iter().filter(|to| to.state.waits() && to.due(row) <= now);
    let (new, mut tried): (Vec<_>, Vec<_>) = due.partition(|to| to.attempts == 0);
    tried.sort_by_key(|to| to.attempts);
    new.into_iter().chain(tried).filter(here).take(JOB_RECIPIENTS).collect()
}

impl Worker {
    /// Leaves out those that nothing is sent to by now, and settles them: an address may have been put on the filter
    /// list or the suppression list while its mail waited (R29).
    pub(super) fn permitted(
        &self,
        row: &OutboxRow,
        recipients: Vec<RecipientRow>,
        now: Timestamp,
    ) -> Result<Vec<RecipientRow>, StoreError> {
        let (directory, never) = (self.directory.load(), self.never.load());
        // A probe goes to an address of ours, and filing has looked at its token.
        let probe = match row.relay.as_deref() {
            Some(relay) => self.probes(row, relay)?,
            None => false,
        };
        let mut permitted = Vec::with_capacity(recipients.len());
        let (mut settled, mut reasons) = (Vec::new(), Vec::new());
        for to in recipients {
            let Ok(address) = Address::parse(&to.address) else { continue };
            let suppressed =
                |row: SuppressionRow| (DeliveryState::Suppressed, format!("the address is suppressed: {}", row.why));
            let filtered = if probe { None } else { loops::filtered(&address, &directory, &never) };
            let refusal = match filtered {
                Some(why) => Some((DeliveryState::Filtered, why)),
                None => self.store.suppressed(&address)?.map(suppressed),
            };
            let Some((state, why)) = refusal else {
                permitted.push(to);
                continue;
            };
            settled.push(SettledRecipient {
                n: to.n,
                state,
                reply: Some(why.clone()),
                hard: false,
                unanswered: false,
                next: None,
                // The filter list is no refusal, but the operator's wish.
                told: (state == DeliveryState::Suppressed).then(|| told::suppressed(&why)),
            });
            reasons.push((to.address, why));
        }
        if !settled.is_empty() {
            self.settle(&[not_sent(row, settled, &reasons, now)])?;
        }
        Ok(permitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::judge::tests::{at, row};

    #[test]
    fn who_was_tried_least_comes_first_and_nobody_before_its_time() {
        use DeliveryState::{Delayed, Failed, Queued};
        let to = |n: u32, state, attempts, due: Option<i64>| RecipientRow {
            n,
            state,
            attempts,
            due: due.map(at),
            address: format!("a{n}@example.net"),
            ..RecipientRow::default()
        };
        let row = OutboxRow { due: at(7), ..row() };
        let rows = vec![
            to(0, Delayed, 3, Some(5)),
            to(1, Delayed, 1, Some(20)),
            to(2, Delayed, 2, Some(10)),
            // Of an older version, which had one time for all of a mail.
            to(3, Delayed, 9, None),
            to(4, Queued, 0, None),
            to(5, Failed, 1, None),
            to(6, Queued, 0, None),
        ];
        let chosen =
            |now: i64| -> Vec<u32> { due(rows.clone(), &row, at(now), |to| to.n != 6).iter().map(|to| to.n).collect() };
        for (now, want) in
            [(0, vec![4]), (5, vec![4, 0]), (7, vec![4, 0, 3]), (10, vec![4, 2, 0, 3]), (20, vec![4, 1, 2, 0, 3])]
        {
            assert_eq!(chosen(now), want, "{now}");
        }
        // More than fit into one job: those that were left out come next.
        let many =
            (0..150).map(|n| if n < 100 { to(n, Delayed, 1, Some(1)) } else { to(n, Queued, 0, None) }).collect();
        let first: Vec<u32> = due(many, &row, at(9), |_| true).iter().map(|to| to.n).collect();
        assert_eq!((first.len(), first[0], first[49], first[50]), (100, 100, 149, 0));
    }
}
