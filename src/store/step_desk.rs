//! The steps of what people do: notes, closing, reopening, merging, filing again.

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::keys;
use super::record::Kind;
use super::rows::{EntryKind, EntryRow, EventRow, TicketRow, TicketState, TraceRow};
use super::step::Step;
use super::step_file::{add_participant, has_bytes};
use crate::mail::{Address, MailId};

/// What a ticket becomes.
struct Turn {
    from: TicketState,
    to: TicketState,
    event: &'static str,
}

impl Step<'_> {
    /// Adds a note to a ticket. A note that is too long for a row is refused, not cut.
    pub fn note(&mut self, ticket: u64, author: &str, text: &str, now: Timestamp) -> Result<EntryRow, StoreError> {
        if cut::text(text, cut::NOTE) != text {
            return Err(StoreError::NotPossible(format!("a note may have at most {} bytes", cut::NOTE)));
        }
        let mut target = self.followed(ticket)?.ok_or(StoreError::NoSuchTicket(ticket))?;
        let id = self.free_id(&MailId::fresh(now).to_string())?;
        let mut row = EntryRow {
            seq: self.next(keys::SEQ)?,
            id,
            kind: EntryKind::Note,
            filing: "noted".into(),
            reason: None,
            ticket: Some(target.number),
            channel: target.channel.clone(),
            queue: target.queue.clone(),
            received_at: now,
            filed_at: now,
            mail: None,
            rcpt_to: Vec::new(),
            message_id: None,
            matched_by: None,
            needs_review: false,
            related: None,
            duplicate_of: None,
            also_seen: Vec::new(),
            size: text.len() as u64,
            sha256: String::new(),
            from: author.to_owned(),
            subject: String::new(),
            author: Some(author.to_owned()),
            note: Some(text.to_owned()),
            door: String::new(),
            backfill: false,
            trace: vec![TraceRow { step: "filed".into(), said: format!("noted in ticket {}", target.number) }],
        };
        self.set_number(&keys::id(&row.id), row.seq)?;
        self.put(keys::member(target.number, row.seq), Vec::new())?;
        self.put_entry(&mut row)?;
        target.entries += 1;
        (target.updated_at, target.changed) = (now, row.seq);
        self.put_ticket(&mut target)?;
        Ok(row)
    }

    /// Closes an open ticket.
    pub fn close(&mut self, ticket: u64, author: &str, now: Timestamp) -> Result<TicketRow, StoreError> {
        let turn = Turn { from: TicketState::Open, to: TicketState::Closed, event: "ticket_closed" };
        self.turn(ticket, author, now, &turn)
    }

    /// Opens a closed ticket again.
    pub fn reopen(&mut self, ticket: u64, author: &str, now: Timestamp) -> Result<TicketRow, StoreError> {
        let turn = Turn { from: TicketState::Closed, to: TicketState::Open, event: "ticket_reopened" };
        self.turn(ticket, author, now, &turn)
    }

    /// Merges `from` into `into`; returns the row of `into`. Later mail for `from` goes to `into`.
    pub fn merge(&mut self, from: u64, into: u64, author: &str, now: Timestamp) -> Result<TicketRow, StoreError> {
        let mut source = self.ticket(from)?.ok_or(StoreError::NoSuchTicket(from))?;
        let mut target = self.followed(into)?.ok_or(StoreError::NoSuchTicket(into))?;
        if source.state == TicketState::Merged {
            return Err(StoreError::NotPossible(format!("ticket {from} was merged before")));
        }
        if source.number == target.number {
            return Err(StoreError::NotPossible(format!("ticket {from} cannot be merged into itself")));
        }
        let mut event = ticket_event("ticket_merged", from, author, now);
        event.other = Some(target.number);
        self.put_event(&mut event)?;
        source.state = TicketState::Merged;
        source.merged_into = Some(target.number);
        (source.updated_at, source.changed) = (now, event.seq);
        target.entries += source.entries;
        target.needs_review |= source.needs_review;
        (target.updated_at, target.changed) = (now, event.seq);
        source.participants.iter().for_each(|address| add_participant(&mut target.participants, address));
        self.put(keys::merged(target.number, from), Vec::new())?;
        self.put_ticket(&mut source)?;
        self.put_ticket(&mut target)?;
        Ok(target)
    }

    /// Has a rejected, quarantined or dropped mail filed again. Its entry stays, and says so once that has happened.
    pub fn retry(&mut self, entry: &str, author: &str, now: Timestamp) -> Result<EntryRow, StoreError> {
        let row = self.entry(entry)?.ok_or_else(|| StoreError::NoSuchEntry(entry.to_owned()))?;
        if !matches!(row.filing.as_str(), "rejected" | "quarantined" | "dropped") {
            return Err(StoreError::NotPossible(format!(
                "entry {entry} was {}: there is nothing to retry",
                row.filing
            )));
        }
        if row.trace.iter().any(|step| step.step == "retried") {
            let newest = "take the newest one of this mail, which \"ticketgate explain\" names";
            return Err(StoreError::NotPossible(format!("entry {entry} was filed again already: {newest}")));
        }
        let gone = || StoreError::NotPossible(format!("the bytes of entry {entry} were not kept"));
        let position = has_bytes(&row).ok_or_else(gone)?;
        let header = self.store.segments.header(position).ok().flatten();
        if header.is_none_or(|header| header.kind != Kind::Mail) {
            return Err(gone());
        }
        let key = keys::retry(position, row.seq);
        if self.get(&key)?.is_some() {
            return Ok(row);
        }
        let channel = Address::parse(&row.channel).map_or(row.channel.clone(), |address| address.key());
        self.put(key, channel.into_bytes())?;
        self.retries += 1;
        let mut event = ticket_event("entry_retried", 0, author, now);
        (event.ticket, event.entry) = (row.ticket, Some(row.id.clone()));
        self.put_event(&mut event)?;
        Ok(row)
    }

    /// Takes the bytes away from every entry of a mail, and leaves word that they are to be erased.
    pub(super) fn forget(&mut self, entry: &str, author: &str, now: Timestamp) -> Result<(), StoreError> {
        let row = self.entry(entry)?.ok_or_else(|| StoreError::NoSuchEntry(entry.to_owned()))?;
        let position = has_bytes(&row).ok_or_else(|| StoreError::NotPossible(format!("{entry} has no bytes")))?;
        if position.0 >= self.number(keys::FILED)? {
            return Err(StoreError::NotPossible(format!("the mail of {entry} still waits for filing")));
        }
        let base = row.id.split('.').next().unwrap_or(&row.id).to_owned();
        let mut id = base.clone();
        let mut count = 1;
        while let Some(mut row) = self.entry(&id)? {
            self.delete_retry(position, row.seq)?;
            self.forget_outline(&row)?;
            row.mail = None;
            self.put_entry(&mut row)?;
            let mut event = ticket_event("entry_erased", 0, author, now);
            (event.ticket, event.entry) = (row.ticket, Some(row.id));
            self.put_event(&mut event)?;
            count += 1;
            id = format!("{base}.{count}");
        }
        let live = keys::live(position.segment());
        let left = self.number(&live)?.saturating_sub(1);
        self.set_number(&live, left)?;
        self.put(keys::erasing(position), base.into_bytes())
    }

    /// A mail that cannot be read any more is not filed again, and its entries say so.
    pub(super) fn give_up_retry(&mut self, position: super::Position, said: &str) -> Result<(), StoreError> {
        let mut seqs = Vec::new();
        self.store.index.walk_prefix(&keys::numbered(keys::RETRIES, position.0), |key, _| {
            seqs.push(keys::number_in(key, 1));
            Ok(true)
        })?;
        for seq in seqs {
            self.delete_retry(position, seq)?;
            self.trace(seq, "retry", said)?;
        }
        Ok(())
    }

    fn delete_retry(&mut self, position: super::Position, seq: u64) -> Result<(), StoreError> {
        let key = keys::retry(position, seq);
        if self.get(&key)?.is_some() {
            self.delete(key);
            self.retries -= 1;
        }
        Ok(())
    }

    fn turn(&mut self, ticket: u64, author: &str, now: Timestamp, turn: &Turn) -> Result<TicketRow, StoreError> {
        let mut row = self.ticket(ticket)?.ok_or(StoreError::NoSuchTicket(ticket))?;
        if let Some(target) = row.merged_into {
            return Err(StoreError::NotPossible(format!("ticket {ticket} was merged into {target}")));
        }
        if row.state != turn.from {
            return Ok(row);
        }
        let mut event = ticket_event(turn.event, ticket, author, now);
        self.put_event(&mut event)?;
        row.state = turn.to;
        (row.updated_at, row.changed) = (now, event.seq);
        self.put_ticket(&mut row)?;
        Ok(row)
    }
}

fn ticket_event(kind: &str, ticket: u64, author: &str, now: Timestamp) -> EventRow {
    EventRow {
        at: now,
        kind: kind.into(),
        ticket: Some(ticket),
        author: Some(author.to_owned()),
        ..EventRow::default()
    }
}
