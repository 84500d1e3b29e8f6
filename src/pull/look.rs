//! One look into a mailbox: what is there above the cursor, what is to be done with it, and the sweep.

use std::collections::HashMap;

use crate::accounts::Orders;
use crate::pull::account::{Session, Task, Trouble};
use crate::pull::classify::{Rules, Verdict, judge};
use crate::pull::imap::Listed;
use crate::store::rows::{LedgerRow, LedgerState, SourceRow};

/// How many mails are judged, fetched and accounted for at once.
const CHUNK: usize = 1000;

/// What a look has found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub imported: usize,
    /// Left for later, because the rate lets no more through.
    pub waiting: usize,
}

impl Task {
    /// Looks at everything above the cursor, and at what is to be imported from before the connection.
    pub async fn look(&mut self, session: &mut Session) -> Result<Found, Trouble> {
        let mut found = Found::default();
        self.look_back(session, &mut found).await?;
        let first = session.row.cursor.saturating_add(1);
        let listed = session.mailbox.list(first, None).await?;
        self.note_gone(session, &listed).await?;
        for chunk in listed.chunks(CHUNK) {
            self.chunk(session, chunk, &mut found).await?;
        }
        Ok(found)
    }

    /// Mail that had to wait, and left the folder meanwhile, has its end in the ledger too.
    async fn note_gone(&mut self, session: &mut Session, listed: &[Listed]) -> Result<(), Trouble> {
        let (channel, validity) = (self.source.channel.clone(), session.row.validity);
        let first = session.row.cursor.saturating_add(1);
        let rows = self.blocking(move |store| store.ledger(&channel, validity, first..=u32::MAX, usize::MAX)).await?;
        let there = |uid: u32| listed.binary_search_by_key(&uid, |mail| mail.uid).is_ok();
        let gone: Vec<LedgerRow> = rows
            .into_iter()
            .filter(|row| row.state == LedgerState::Waiting && !there(row.uid))
            .map(|row| self.row(session, row.uid, LedgerState::Gone))
            .collect();
        if !gone.is_empty() {
            let channel = self.source.channel.to_string();
            tracing::warn!(channel, mails = gone.len(), "mail left the folder before it could be imported");
            self.pull.metrics.pulled(&channel, "gone", gone.len() as u64);
            let row = SourceRow { gone: session.row.gone + gone.len() as u64, ..session.row.clone() };
            session.row = self.keep(row, gone).await?;
        }
        Ok(())
    }

    /// Imports what is wanted from before the connection, read or not.
    async fn look_back(&mut self, session: &mut Session, found: &mut Found) -> Result<(), Trouble> {
        let wanted = session.row.backfill.clone();
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(()) };
        let mut listed = session.mailbox.list(*first, Some(*last)).await?;
        listed.retain(|mail| wanted.contains(&mail.uid));
        let known = self.rows(session, &listed).await?;
        listed.retain(|mail| known.get(&mail.uid).is_none_or(|state| *state == LedgerState::Waiting));
        let free = self.rate.free(self.pull.clock.now()).min(listed.len());
        let (now, later) = listed.split_at(free);
        found.waiting += later.len();
        let rows = self.import(session, now, &mut found.imported).await?;
        let backfill = later.iter().map(|mail| mail.uid).collect();
        session.row = self.keep(SourceRow { backfill, ..session.row.clone() }, rows).await?;
        Ok(())
    }

    async fn chunk(&mut self, session: &mut Session, chunk: &[Listed], found: &mut Found) -> Result<(), Trouble> {
        let known = self.rows(session, chunk).await?;
        let rules = Rules { most_bytes: self.source.max_mail_bytes, read_elsewhere: self.source.config.read_elsewhere };
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        for mail in chunk {
            match judge(mail, known.get(&mail.uid).copied(), rules) {
                Verdict::Done => {}
                Verdict::ReadElsewhere => rows.push(self.row(session, mail.uid, LedgerState::ReadElsewhere)),
                Verdict::Import | Verdict::TooLarge => wanted.push(*mail),
            }
        }
        let read_elsewhere = rows.len() as u64;
        let free = if found.waiting > 0 { 0 } else { self.rate.free(self.pull.clock.now()).min(wanted.len()) };
        let (now, later) = wanted.split_at(free);
        let more = self.import(session, now, &mut found.imported).await?;
        let gone = more.len() as u64;
        rows.extend(more);
        let unseen = later.iter().filter(|mail| !known.contains_key(&mail.uid));
        rows.extend(unseen.map(|mail| self.row(session, mail.uid, LedgerState::Waiting)));
        let caught_up = found.waiting == 0;
        found.waiting += later.len();
        let end = later.first().map_or(chunk.last().map_or(0, |mail| mail.uid), |mail| mail.uid - 1);
        let cursor = if caught_up { end.max(session.row.cursor) } else { session.row.cursor };
        if read_elsewhere > 0 {
            let channel = &self.source.channel;
            tracing::warn!(%channel, mails = read_elsewhere, "somebody else read mail before it could be imported");
            self.pull.metrics.pulled(&channel.to_string(), "read_elsewhere", read_elsewhere);
        }
        let changed = !rows.is_empty() || cursor != session.row.cursor;
        if changed {
            let row = SourceRow {
                cursor,
                read_elsewhere: session.row.read_elsewhere + read_elsewhere,
                gone: session.row.gone + gone,
                ..session.row.clone()
            };
            session.row = self.keep(row, rows).await?;
        }
        Ok(())
    }

    /// The states of these mails in the ledger.
    async fn rows(&self, session: &Session, mails: &[Listed]) -> Result<HashMap<u32, LedgerState>, Trouble> {
        let uids: Vec<u32> = mails.iter().map(|mail| mail.uid).collect();
        let (channel, validity) = (self.source.channel.clone(), session.row.validity);
        let rows = self.blocking(move |store| store.ledger_rows(&channel, validity, &uids)).await?;
        Ok(rows.into_iter().map(|row| (row.uid, row.state)).collect())
    }

    /// A row for a mail that is not accepted.
    pub fn row(&self, session: &Session, uid: u32, state: LedgerState) -> LedgerRow {
        let at = self.pull.clock.now();
        LedgerRow { uid, validity: session.row.validity, state, reason: None, mail: None, at, labelled: false }
    }

    /// Compares mailbox and ledger, when it is time or somebody asks. What has no row and is unread is fetched next.
    pub async fn sweep(&mut self, session: &mut Session, told: Orders) -> Result<(), Trouble> {
        let now = self.pull.clock.now();
        let due = session.row.swept_at.is_none_or(|at| {
            let age = std::time::Duration::try_from(now.duration_since(at)).unwrap_or_default();
            age >= self.source.config.sweep_every
        });
        if !due && told.sweep <= self.swept {
            return Ok(());
        }
        self.swept = told.sweep;
        let SourceRow { baseline, cursor, .. } = session.row;
        let mut missing: Vec<Listed> = Vec::new();
        if cursor > baseline {
            let listed = session.mailbox.list(baseline + 1, Some(cursor)).await?;
            for chunk in listed.chunks(CHUNK) {
                let known = self.rows(session, chunk).await?;
                missing.extend(chunk.iter().filter(|mail| !known.contains_key(&mail.uid)));
            }
        }
        let channel = self.source.channel.to_string();
        self.pull.metrics.swept(&channel, missing.len() as u64);
        if !missing.is_empty() {
            tracing::warn!(channel, mails = missing.len(), "the sweep found mail without a row in the ledger");
        }
        let unread = missing.iter().filter(|mail| !mail.seen).map(|mail| mail.uid).min();
        let cursor = unread.map_or(cursor, |uid| uid - 1);
        let row = SourceRow { swept_at: Some(now), unaccounted: missing.len() as u64, cursor, ..session.row.clone() };
        session.row = self.keep(row, Vec::new()).await?;
        Ok(())
    }
}
