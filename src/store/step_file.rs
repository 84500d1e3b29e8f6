//! The steps of filing: what the store knows about a mail, and writing down what was decided.

use super::error::StoreError;
use super::rows::{
    EntryKind, EntryRow, EventRow, LedgerRow, LedgerState, PersonRow, Position, SeenRow, TicketRow, TicketState,
    TraceRow,
};
use super::step::Step;
use super::values::{NewEntry, Question};
use super::{index, keys};
use crate::mail::origin::RemoteMessage;
use crate::ticket::{Facts, Filing, TicketFacts};

/// How many tickets are followed from one that was merged.
pub(super) const MERGE_HOPS: usize = 16;
/// How many references of a mail are looked up.
const MAX_REFERENCES: usize = 50;

impl Step<'_> {
    /// What a decision about a mail needs to know.
    pub fn facts(&self, question: &Question<'_>) -> Result<Facts, StoreError> {
        let (known, print) = self.known(question)?;
        let mut references: Vec<TicketFacts> = Vec::new();
        for reference in question.references.iter().take(MAX_REFERENCES) {
            let key = keys::original(&keys::message_hash(reference), question.channel);
            let Some(seq) = self.get(&key)? else { continue };
            let Some(number) = self.entry_at(index::number(&seq))?.and_then(|row| row.ticket) else { continue };
            if let Some(facts) = self.ticket_facts(number)?
                && references.iter().all(|known| known.number != facts.number)
            {
                references.push(facts);
            }
        }
        let named = |number: Option<u64>| number.map_or(Ok(None), |number| self.ticket_facts(number));
        let (token, subject_tag) = (named(question.token_ticket)?, named(question.tag_ticket)?);
        Ok(Facts { known, print, token, references, subject_tag })
    }

    /// Writes down what was decided about a mail in one channel.
    pub fn file(&mut self, entry: NewEntry<'_>) -> Result<EntryRow, StoreError> {
        let id = self.free_id(&entry.mail.id.to_string())?;
        let old = if entry.mail.retried { self.end_retry(&entry, &id)? } else { None };
        let mut row = self.entry_row(&entry, id)?;
        match &entry.decision.filing {
            Filing::Open { related, needs_review } => {
                row.related = related.map(|(ticket, _)| ticket);
                row.needs_review |= needs_review;
                self.open_ticket(&entry, &mut row)?;
            }
            Filing::Append { ticket, matched_by, reopen, needs_review } => {
                row.matched_by = Some(matched_by.as_str().to_owned());
                row.needs_review |= needs_review;
                self.append(&entry, &mut row, *ticket, Joins::Speaking { reopen: *reopen })?;
            }
            Filing::Report { ticket, matched_by } => {
                row.matched_by = Some(matched_by.as_str().to_owned());
                self.append(&entry, &mut row, *ticket, Joins::Silently)?;
            }
            Filing::Duplicate { of, .. } => self.see_again(&entry, &mut row, *of)?,
            Filing::Drop { .. } | Filing::Reject { .. } | Filing::Quarantine { .. } => {}
        }
        let said = match row.ticket {
            Some(number) => format!("{} in ticket {number}", row.filing),
            None => row.reason.as_ref().map_or(row.filing.clone(), |reason| format!("{}: {reason}", row.filing)),
        };
        row.trace.push(TraceRow { step: "filed".into(), said });
        let message = message_key(entry.message_id, entry.content_key);
        let original = keys::original(&message, &entry.delivery.channel);
        if row.ticket.is_some() && self.get(&original)?.is_none() && row.duplicate_of.is_none() {
            self.set_number(&original, row.seq)?;
        } else {
            self.put(keys::mention(&message, row.seq), Vec::new())?;
        }
        if let Some(of) = row.duplicate_of
            && self.get(&original)?.is_none()
        {
            // It came under a Message-ID of its own, and replies may refer to either.
            self.set_number(&original, of)?;
        }
        self.put_outline(&entry, &row)?;
        self.set_number(&keys::id(&row.id), row.seq)?;
        self.put_entry(&mut row)?;
        if let Some(remote) = &entry.mail.origin.remote {
            let ledger = ledger_row(&entry, &row, remote);
            self.file_remote(remote, ledger)?;
        }
        if let Some(mut old) = old {
            old.trace.push(TraceRow { step: "retried".into(), said: format!("filed again as {}", row.id) });
            self.put_entry(&mut old)?;
        }
        Ok(row)
    }

    /// The ticket behind a number, followed to the one that it was merged into.
    pub(super) fn followed(&self, number: u64) -> Result<Option<TicketRow>, StoreError> {
        let mut row = self.ticket(number)?;
        for _ in 0..MERGE_HOPS {
            match row.as_ref().and_then(|row| row.merged_into) {
                Some(next) => row = self.ticket(next)?,
                None => return Ok(row),
            }
        }
        Ok(None)
    }

    fn ticket_facts(&self, number: u64) -> Result<Option<TicketFacts>, StoreError> {
        Ok(self.followed(number)?.map(|row| TicketFacts {
            number: row.number,
            closed: row.state == TicketState::Closed,
            channel: row.channel,
            participants: row.participants,
        }))
    }

    fn entry_row(&mut self, entry: &NewEntry<'_>, id: String) -> Result<EntryRow, StoreError> {
        let NewEntry { mail, delivery, decision, .. } = entry;
        Ok(EntryRow {
            seq: self.next(keys::SEQ)?,
            id,
            kind: EntryKind::Inbound,
            filing: decision.filing.as_str().to_owned(),
            reason: decision.filing.reason().map(|reason| reason.code().to_owned()),
            ticket: None,
            channel: delivery.channel.to_string(),
            queue: entry.queue.to_owned(),
            received_at: mail.received_at,
            filed_at: entry.now,
            mail: Some(mail.position),
            rcpt_to: delivery.rcpt_to.iter().map(ToString::to_string).collect(),
            message_id: entry.message_id.map(str::to_owned),
            matched_by: None,
            needs_review: mail.review,
            related: None,
            duplicate_of: None,
            also_seen: Vec::new(),
            size: mail.size,
            sha256: mail.sha256.clone(),
            from: entry.from.shown(),
            subject: entry.subject.to_owned(),
            author: None,
            note: None,
            door: mail.origin.kind.as_str().to_owned(),
            backfill: mail.origin.remote.as_ref().is_some_and(|remote| remote.backfill),
            trace: decision.trace.iter().map(|t| TraceRow { step: t.step.into(), said: t.said.clone() }).collect(),
        })
    }

    /// Sets the number of a ticket aside, for a mail of ours that has to name it before it is written. A number that is
    /// never used leaves a gap and no other trace.
    pub fn set_ticket_number_aside(&mut self) -> Result<u64, StoreError> {
        self.next(keys::TICKET)
    }

    fn open_ticket(&mut self, entry: &NewEntry<'_>, row: &mut EntryRow) -> Result<(), StoreError> {
        let number = self.next(keys::TICKET)?;
        let mut ticket = opened(number, row, entry.requester.clone(), entry.subject);
        let everybody = [&entry.requester.address, &entry.from.address].into_iter().chain(&entry.others);
        everybody.for_each(|address| add_participant(&mut ticket.participants, address));
        row.ticket = Some(number);
        self.put(keys::member(number, row.seq), Vec::new())?;
        self.put_ticket(&mut ticket)
    }

    fn append(
        &mut self,
        entry: &NewEntry<'_>,
        row: &mut EntryRow,
        number: u64,
        joins: Joins,
    ) -> Result<(), StoreError> {
        let mut ticket = self.followed(number)?.ok_or(StoreError::NoSuchTicket(number))?;
        let number = ticket.number;
        if let Joins::Speaking { reopen } = joins {
            if reopen || ticket.state == TicketState::Closed {
                ticket.state = TicketState::Open;
            }
            // What the header fields of later mail claim changes neither requester nor CC; only who wrote joins.
            add_participant(&mut ticket.participants, &entry.from.address);
        }
        ticket.entries += 1;
        ticket.needs_review |= row.needs_review;
        (ticket.updated_at, ticket.changed) = (entry.now, row.seq);
        row.ticket = Some(number);
        self.put(keys::member(number, row.seq), Vec::new())?;
        self.put_ticket(&mut ticket)
    }

    /// A duplicate has a row of its own, and is noted with the entry that it repeats.
    fn see_again(&mut self, entry: &NewEntry<'_>, row: &mut EntryRow, of: u64) -> Result<(), StoreError> {
        row.duplicate_of = Some(of);
        let Some(mut original) = self.entry_at(of)? else { return Ok(()) };
        row.ticket = original.ticket;
        let origin = &entry.mail.origin;
        let (kind, peer) = (origin.kind.as_str().to_owned(), origin.peer.clone());
        original.also_seen.push(SeenRow { id: row.id.clone(), kind, peer, at: entry.mail.received_at });
        self.put_entry(&mut original)?;
        self.put_event(&mut EventRow {
            seq: 0,
            at: entry.now,
            kind: "entry_seen_again".into(),
            ticket: original.ticket,
            entry: Some(original.id),
            ..EventRow::default()
        })
    }

    /// The id itself, or with the first number behind it that is free.
    pub(super) fn free_id(&self, base: &str) -> Result<String, StoreError> {
        let mut id = base.to_owned();
        let mut count = 1;
        while self.get(&keys::id(&id))?.is_some() {
            count += 1;
            id = format!("{base}.{count}");
        }
        Ok(id)
    }

    /// Clears what asked for this delivery to be filed again; returns the entry that it was before.
    fn end_retry(&mut self, entry: &NewEntry<'_>, id: &str) -> Result<Option<EntryRow>, StoreError> {
        let (position, channel) = (entry.mail.position, entry.delivery.channel.key());
        let mut seqs = Vec::new();
        self.store.index.walk_prefix(&keys::numbered(keys::RETRIES, position.0), |key, value| {
            if value == channel.as_bytes() {
                seqs.push(keys::number_in(key, 1));
            }
            Ok(true)
        })?;
        let mut old = None;
        for seq in seqs {
            let key = keys::retry(position, seq);
            if self.get(&key)?.is_some() {
                self.delete(key);
                self.retries -= 1;
                old = self.entry_at(seq)?.filter(|row| row.id != id);
            }
        }
        Ok(old)
    }
}

/// A ticket as its first entry opens it.
pub(super) fn opened(number: u64, first: &EntryRow, requester: PersonRow, subject: &str) -> TicketRow {
    let ticket = TicketRow::open(number, subject, &first.channel, &first.queue, requester, first.filed_at);
    TicketRow { needs_review: first.needs_review, changed: first.seq, ..ticket }
}

/// How a mail joins a ticket.
enum Joins {
    /// Somebody says something.
    Speaking { reopen: bool },
    /// A machine reports: nothing is reopened, and nobody takes part because of it.
    Silently,
}

/// What the ledger says of a pulled mail from now on.
fn ledger_row(entry: &NewEntry<'_>, row: &EntryRow, remote: &RemoteMessage) -> LedgerRow {
    let failed = matches!(entry.decision.filing, Filing::Reject { .. } | Filing::Quarantine { .. });
    let state = if failed { LedgerState::Rejected } else { LedgerState::Imported };
    let (reason, mail) = (row.reason.clone(), Some(row.id.clone()));
    LedgerRow { reason, mail, ..LedgerRow::new(remote.validity, remote.uid, state, row.received_at) }
}

pub(super) fn message_key(message_id: Option<&str>, content_key: &str) -> [u8; 16] {
    match message_id {
        Some(id) => keys::message_hash(id),
        None => keys::content_hash(content_key),
    }
}

pub(super) fn add_participant(list: &mut Vec<String>, address: &str) {
    let address = address.trim().to_lowercase();
    if !address.is_empty() && address.len() <= 320 && !list.contains(&address) {
        list.push(address);
    }
}

/// Whether a row's mail bytes can be read again as a whole.
pub(super) fn has_bytes(row: &EntryRow) -> Option<Position> {
    row.mail.filter(|_| row.kind != EntryKind::Note)
}
