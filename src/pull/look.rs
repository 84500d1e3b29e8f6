//! One look into a mailbox: what is there above the cursor, what is to be done with it, and the sweep.

use std::collections::HashMap;

use crate::accounts::Orders;
use crate::pull::account::{Session, Task, Trouble};
use crate::pull::classify::{Rules, Verdict, judge};
use crate::pull::imap::Listed;
use crate::pull::ingest::TRIES;
use crate::store::rows::{LedgerRow, LedgerState, SourceRow};

/// How many mails are judged, fetched and accounted for at once.
const CHUNK: usize = 1000;
/// The same without a limit of mails a minute: at the end of each chunk the server waits for our disk.
const UNLIMITED_CHUNK: usize = 4000;

/// What a look has found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub imported: usize,
    /// Left for later, because the rate lets no more through.
    pub waiting: usize,
    /// Did not come, and is to be asked for again.
    pub again: usize,
}

/// The row of a mailbox with these rows of its ledger counted.
fn counted(row: &SourceRow, rows: &[LedgerRow]) -> SourceRow {
    let count = |state| rows.iter().filter(|row| row.state == state).count() as u64;
    SourceRow {
        gone: row.gone + count(LedgerState::Gone),
        read_elsewhere: row.read_elsewhere + count(LedgerState::ReadElsewhere),
        unfetchable: row.unfetchable + count(LedgerState::Unfetchable),
        ..row.clone()
    }
}

impl Task {
    /// Looks at what is above the cursor, and at what is to be imported from before the connection.
    pub async fn look(&mut self, session: &mut Session) -> Result<Found, Trouble> {
        let mut found = Found::default();
        self.look_back(session, &mut found).await?;
        let (before, next) = (session.row.cursor, session.next);
        let first = before.saturating_add(1);
        let rows = self.rows_above(session, first).await?;
        // What waits has its row, and so has all below it: of a long backlog only what is next is listed again, and what
        // has come since. Otherwise a mailbox with 20,000 mails costs 2 MB at every look.
        let (now, later) = rows.split_at(rows.len().min(CHUNK));
        let later = Some(later).filter(|later| later.iter().any(|row| row.state == LedgerState::Waiting));
        let end = later.and(now.last()).map(|row| row.uid);
        let listed = self.list(session, first, end).await?;
        let mut highest = listed.last().map_or(0, |mail| mail.uid);
        self.note_gone(session, now, &listed).await?;
        let most = if self.source.config.mails_per_minute == 0 { UNLIMITED_CHUNK } else { CHUNK };
        for chunk in listed.chunks(most) {
            self.renew_lease(session).await?;
            self.chunk(session, chunk, &rows, &mut found).await?;
        }
        if let Some((later, last)) = later.and_then(|later| Some((later, later.last()?))) {
            found.waiting += later.iter().filter(|row| row.state == LedgerState::Waiting).count();
            let news = self.list(session, last.uid.saturating_add(1), None).await?;
            highest = news.last().map_or(highest, |mail| mail.uid);
            for chunk in news.chunks(CHUNK) {
                self.chunk(session, chunk, &rows, &mut found).await?;
            }
        }
        self.count_vanished(session, before, next, highest).await?;
        Ok(found)
    }

    /// All rows of the ledger from this uid on; the store hands out a part of them at once.
    pub(super) async fn rows_above(&self, session: &Session, first: u32) -> Result<Vec<LedgerRow>, Trouble> {
        let (channel, validity) = (self.source.channel.clone(), session.row.ledger_validity());
        let read = self.blocking(move |store| {
            let (mut rows, mut next): (Vec<LedgerRow>, _) = (Vec::new(), Some(first));
            while let Some(first) = next {
                let part = store.ledger(&channel, validity, first..=u32::MAX, usize::MAX)?;
                next = part.last().and_then(|row| row.uid.checked_add(1));
                rows.extend(part);
            }
            Ok(rows)
        });
        Ok(read.await?)
    }

    /// Lists mails, and counts what could not be read of that.
    async fn list(&mut self, session: &mut Session, first: u32, last: Option<u32>) -> Result<Vec<Listed>, Trouble> {
        let listed = session.mailbox.list(first, last).await?;
        let unreadable = session.mailbox.take_unreadable();
        if unreadable > 0 {
            tracing::warn!(channel = %self.source.channel, lines = unreadable, "lines of a listing cannot be read; their mails are asked for once more");
            self.warnings.unreadable += unreadable;
        }
        Ok(listed)
    }

    /// Mail that had to wait, and left the folder meanwhile, has its end in the ledger too.
    async fn note_gone(&mut self, session: &mut Session, rows: &[LedgerRow], listed: &[Listed]) -> Result<(), Trouble> {
        let there = |uid: u32| listed.binary_search_by_key(&uid, |mail| mail.uid).is_ok();
        let gone: Vec<LedgerRow> = rows
            .iter()
            .filter(|row| row.state == LedgerState::Waiting && !there(row.uid))
            .map(|row| self.row(session, row.uid, LedgerState::Gone))
            .collect();
        if !gone.is_empty() {
            let mails = gone.len();
            session.row = self.keep(counted(&session.row, &gone), gone).await?;
            self.tell_gone(mails);
        }
        Ok(())
    }

    fn tell_gone(&self, mails: usize) {
        if mails > 0 {
            let channel = self.source.channel.to_string();
            tracing::warn!(channel, mails, "mail left the folder before it could be imported");
            self.pull.metrics.pulled(&channel, "gone", mails as u64);
        }
    }

    /// Imports what is wanted from before the connection, read or not.
    async fn look_back(&mut self, session: &mut Session, found: &mut Found) -> Result<(), Trouble> {
        let wanted = session.row.backfill.clone();
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(()) };
        let mut listed = session.mailbox.list(*first, Some(*last)).await?;
        listed.retain(|mail| wanted.contains(&mail.uid));
        let known = self.states(session, wanted.clone()).await?;
        let is_open = |uid: &u32| known.get(uid).is_none_or(|state| *state == LedgerState::Waiting);
        let gone = wanted.iter().filter(|uid| is_open(uid) && listed.iter().all(|mail| mail.uid != **uid));
        let mut rows: Vec<LedgerRow> = gone.map(|uid| self.row(session, *uid, LedgerState::Gone)).collect();
        let gone = rows.len();
        listed.retain(|mail| is_open(&mail.uid));
        let validity = session.row.ledger_validity();
        rows.extend(listed.iter().filter(|mail| mail.labelled).map(|mail| self.known(validity, mail.uid)));
        let labelled = rows.len() - gone;
        listed.retain(|mail| !mail.labelled);
        let free = self.rate.free(self.pull.clock.now()).min(listed.len());
        let (now, later) = listed.split_at(free);
        found.waiting += later.len();
        let import = self.import(session, now, &mut found.imported).await?;
        found.again += import.again.len();
        rows.extend(import.rows);
        let mut backfill: Vec<u32> = later.iter().map(|mail| mail.uid).chain(import.again).collect();
        backfill.sort_unstable();
        session.row = self.keep(SourceRow { backfill, ..counted(&session.row, &rows) }, rows).await?;
        self.tell_gone(gone);
        self.pull.metrics.pulled(&self.source.channel.to_string(), "known", labelled as u64);
        Ok(())
    }

    /// Does with these mails what is to be done; among `rows` of the ledger, in their order, are those about them.
    async fn chunk(
        &mut self,
        session: &mut Session,
        chunk: &[Listed],
        rows: &[LedgerRow],
        found: &mut Found,
    ) -> Result<(), Trouble> {
        let from = rows.partition_point(|row| chunk.first().is_some_and(|mail| row.uid < mail.uid));
        let to = rows.partition_point(|row| chunk.last().is_some_and(|mail| row.uid <= mail.uid));
        let known: HashMap<u32, LedgerState> = rows[from..to].iter().map(|row| (row.uid, row.state)).collect();
        let rules = Rules { most_bytes: self.source.max_mail_bytes, read_elsewhere: self.source.config.read_elsewhere };
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        for mail in chunk {
            match judge(mail, known.get(&mail.uid).copied(), rules) {
                Verdict::Done => {}
                Verdict::Known => rows.push(self.known(session.row.ledger_validity(), mail.uid)),
                Verdict::ReadElsewhere => rows.push(self.row(session, mail.uid, LedgerState::ReadElsewhere)),
                Verdict::Import | Verdict::TooLarge => wanted.push(*mail),
            }
        }
        let read_elsewhere = rows.iter().filter(|row| row.state == LedgerState::ReadElsewhere).count() as u64;
        let labelled = rows.len() as u64 - read_elsewhere;
        let free = if found.waiting > 0 { 0 } else { self.rate.free(self.pull.clock.now()).min(wanted.len()) };
        let (now, later) = wanted.split_at(free);
        let import = self.import(session, now, &mut found.imported).await?;
        rows.extend(import.rows);
        let unseen = later.iter().filter(|mail| !known.contains_key(&mail.uid));
        rows.extend(unseen.map(|mail| self.row(session, mail.uid, LedgerState::Waiting)));
        // What did not come waits like what the rate did not let through: its turn comes again.
        let again = import.again.iter().filter(|uid| !known.contains_key(uid));
        rows.extend(again.map(|uid| self.row(session, *uid, LedgerState::Waiting)));
        let caught_up = found.waiting + found.again == 0;
        found.waiting += later.len();
        found.again += import.again.len();
        let open = later.first().map(|mail| mail.uid).into_iter().chain(import.again).min();
        let end = open.map_or(chunk.last().map_or(0, |mail| mail.uid), |uid| uid - 1);
        let cursor = if caught_up { end.max(session.row.cursor) } else { session.row.cursor };
        if !rows.is_empty() || cursor != session.row.cursor {
            let row = SourceRow { cursor, ..counted(&session.row, &rows) };
            session.row = self.keep(row, rows).await?;
        }
        if read_elsewhere > 0 {
            let channel = &self.source.channel;
            tracing::warn!(%channel, mails = read_elsewhere, "somebody else read mail before it could be imported");
        }
        // What is not kept comes again, and would count twice.
        let channel = self.source.channel.to_string();
        self.pull.metrics.pulled(&channel, "read_elsewhere", read_elsewhere);
        self.pull.metrics.pulled(&channel, "known", labelled);
        Ok(())
    }

    /// The states of these mails in the ledger.
    async fn rows(&self, session: &Session, mails: &[Listed]) -> Result<HashMap<u32, LedgerState>, Trouble> {
        self.states(session, mails.iter().map(|mail| mail.uid).collect()).await
    }

    async fn states(&self, session: &Session, uids: Vec<u32>) -> Result<HashMap<u32, LedgerState>, Trouble> {
        let (channel, validity) = (self.source.channel.clone(), session.row.ledger_validity());
        let rows = self.blocking(move |store| store.ledger_rows(&channel, validity, &uids)).await?;
        Ok(rows.into_iter().map(|row| (row.uid, row.state)).collect())
    }

    /// A row for a mail that is not accepted.
    pub fn row(&self, session: &Session, uid: u32, state: LedgerState) -> LedgerRow {
        LedgerRow::new(session.row.ledger_validity(), uid, state, self.pull.clock.now())
    }

    /// A row for a mail that is known, and is owed no label.
    pub fn known(&self, validity: u32, uid: u32) -> LedgerRow {
        LedgerRow { labelled: true, ..LedgerRow::new(validity, uid, LedgerState::Known, self.pull.clock.now()) }
    }

    /// Compares mailbox and ledger, when it is time or somebody asks. What has no row and is unread is fetched next.
    pub async fn sweep(&mut self, session: &mut Session, told: Orders) -> Result<(), Trouble> {
        let now = self.pull.clock.now();
        // A sweep that is said to come was dated by a clock that has stepped back since.
        let is_recent = |at| {
            std::time::Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < self.source.config.sweep_every)
        };
        let due = !session.row.swept_at.is_some_and(is_recent);
        if !due && told.sweep <= self.swept {
            return Ok(());
        }
        self.swept = told.sweep;
        self.warnings.unreadable = 0;
        let SourceRow { baseline, cursor, .. } = session.row;
        let (mut missing, mut unfetchable) = (Vec::<Listed>::new(), self.unfetchable_before(session).await?);
        if cursor > baseline {
            let listed = self.list(session, baseline + 1, Some(cursor)).await?;
            for chunk in listed.chunks(CHUNK) {
                let known = self.rows(session, chunk).await?;
                missing.extend(chunk.iter().filter(|mail| !known.contains_key(&mail.uid)));
                let is_one = |mail: &&Listed| known.get(&mail.uid) == Some(&LedgerState::Unfetchable);
                unfetchable.extend(chunk.iter().filter(is_one));
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
        let row = SourceRow { unfetchable: unfetchable.len() as u64, ..row };
        session.row = self.keep(row, Vec::new()).await?;
        self.try_again(session, unfetchable).await?;
        self.show_warnings(session);
        Ok(())
    }

    /// Mail from before the connection that was wanted and did not come.
    async fn unfetchable_before(&self, session: &mut Session) -> Result<Vec<Listed>, Trouble> {
        let (channel, validity) = (self.source.channel.clone(), session.row.ledger_validity());
        let baseline = session.row.baseline;
        let mut rows = self.blocking(move |store| store.ledger(&channel, validity, 1..=baseline, usize::MAX)).await?;
        rows.retain(|row| row.state == LedgerState::Unfetchable);
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
        let mut listed = session.mailbox.list(first.uid, Some(last.uid)).await?;
        listed.retain(|mail| rows.iter().any(|row| row.uid == mail.uid));
        Ok(listed)
    }

    /// Asks once more for what the server did not hand out. The sweep is noted as done by then: a mail that breaks the
    /// connection does so once a sweep, and the next sweep begins behind it.
    async fn try_again(&mut self, session: &mut Session, mut mails: Vec<Listed>) -> Result<(), Trouble> {
        let behind = mails.partition_point(|mail| mail.uid <= self.tried_again);
        mails.rotate_left(behind);
        for mail in mails {
            if self.rate.free(self.pull.clock.now()) == 0 {
                break;
            }
            self.tried_again = mail.uid;
            self.tries.insert(mail.uid, TRIES - 1);
            let mut came = 0;
            let import = self.import(session, &[mail], &mut came).await?;
            let gone = import.rows.iter().any(|row| row.state == LedgerState::Gone);
            let row = counted(&session.row, &import.rows);
            // It was counted before.
            let fewer = u64::from(came > 0 || gone || !import.rows.is_empty());
            let row = SourceRow { unfetchable: row.unfetchable.saturating_sub(fewer), ..row };
            session.row = self.keep(row, import.rows).await?;
        }
        Ok(())
    }
}
