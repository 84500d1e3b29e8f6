//! The bytes of a mail that is to be sent, and what becomes of it when they cannot be read.

use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
use std::sync::Arc;

use jiff::Timestamp;

use super::judge::{Attempt, judge};
use super::lanes::Task;
use super::schedule::later;
use super::work::Loaded;
use super::{SWEEP_EVERY, Worker};
use crate::relay::{Outcome, RecipientOutcome, Reply};
use crate::store::StoreError;
use crate::store::rows::{OutboxRow, RecipientRow};

impl Worker {
    pub(super) fn bytes(&self, row: &OutboxRow) -> Result<Arc<[u8]>, StoreError> {
        let stored = self.store.mail(row.mail)?;
        let damaged = |said: String| StoreError::Damaged { position: row.mail.0, said };
        if stored.damaged {
            return Err(damaged("they have changed on the disk".into()));
        }
        let bytes = stored.body.verified(&stored.meta.sha256).map_err(|error| match error.kind() {
            NotFound | UnexpectedEof | InvalidData => damaged(error.to_string()),
            _ => error.into(),
        })?;
        Ok(bytes.into_owned().into())
    }

    /// A mail whose bytes are gone can never be sent. While the disk or the system is in trouble it waits, and holds up
    /// no other mail.
    pub(super) fn unreadable(
        &self,
        task: Task,
        row: &OutboxRow,
        recipients: &[RecipientRow],
        trouble: StoreError,
        now: Timestamp,
    ) -> Result<Loaded, StoreError> {
        match trouble {
            StoreError::Damaged { .. } | StoreError::NotPossible(_) => {
                self.lost(row, recipients, &trouble.to_string(), now).map(|()| Loaded::Stale(task))
            }
            StoreError::Broken(_) => Err(trouble),
            _ => {
                tracing::warn!(mail = %row.id, %trouble, "the bytes of a mail cannot be read now: it waits");
                Ok(Loaded::Wait(task, later(now, SWEEP_EVERY)))
            }
        }
    }

    fn lost(&self, row: &OutboxRow, recipients: &[RecipientRow], said: &str, now: Timestamp) -> Result<(), StoreError> {
        tracing::error!(mail = %row.id, said, "the bytes of a mail that leaves cannot be read");
        let named: Vec<(u32, String)> = recipients.iter().map(|to| (to.n, to.address.clone())).collect();
        let reply = Reply::refusal("5.3.0", &format!("its bytes cannot be read: {said}"));
        let outcome = Outcome::all(named.len(), RecipientOutcome::Failed(reply));
        let attempts: Vec<u32> = recipients.iter().map(|to| to.attempts).collect();
        let attempt = Attempt {
            row,
            relay: "ticketgate",
            recipients: &named,
            attempts: &attempts,
            began: now,
            now,
            not_before: None,
        };
        let settled = judge(&attempt, &outcome, &self.config.load().schedule());
        self.settle(&[settled]).map(drop)
    }
}
