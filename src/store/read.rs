//! Reading rows. Every list is bounded.

use super::error::StoreError;
use super::index::{self, Order};
use super::rows::{EntryRow, EventRow, TicketRow};
use super::step::parse;
use super::step_file::MERGE_HOPS;
use super::values::TicketFilter;
use super::{Inner, keys};

/// The most rows that one reading gives.
const MOST: usize = 1000;
/// The most merged tickets whose entries are shown with the one that they went into.
const MERGED_MOST: usize = 100;

impl Inner {
    pub fn entries(&self, after: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        self.rows_after(keys::ENTRIES, after, limit.min(MOST))
    }

    pub fn entries_before(&self, before: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        let published = self.shared.progress.borrow().published;
        let (to, limit) = (keys::entry(before.min(published.saturating_add(1))), limit.min(MOST));
        let mut rows = Vec::new();
        self.index.walk(&keys::entry(0), &to, Order::Down, |_, value| {
            rows.push(parse(value)?);
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    pub fn entry_at(&self, seq: u64) -> Result<Option<EntryRow>, StoreError> {
        self.index.get(&keys::entry(seq))?.map(|value| parse(&value)).transpose()
    }

    pub fn entry(&self, id: &str) -> Result<Option<EntryRow>, StoreError> {
        match self.index.get(&keys::id(id))? {
            Some(seq) => self.entry_at(index::number(&seq)),
            None => Ok(None),
        }
    }

    pub fn ticket(&self, number: u64) -> Result<Option<TicketRow>, StoreError> {
        self.index.get(&keys::ticket(number))?.map(|value| parse(&value)).transpose()
    }

    /// The entries of a ticket and of those merged into it, oldest first.
    pub fn entries_of(&self, ticket: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        let limit = limit.min(MOST);
        let mut tickets = vec![ticket];
        let mut looked = 0;
        while looked < tickets.len() && looked < MERGED_MOST * MERGE_HOPS {
            self.index.walk_prefix(&keys::numbered(keys::MERGED, tickets[looked]), |key, _| {
                let from = keys::number_in(key, 1);
                if !tickets.contains(&from) {
                    tickets.push(from);
                }
                Ok(tickets.len() < MERGED_MOST)
            })?;
            looked += 1;
        }
        let mut seqs = Vec::new();
        for number in tickets {
            let mut taken = 0;
            self.index.walk_prefix(&keys::numbered(keys::MEMBERS, number), |key, _| {
                seqs.push(keys::number_in(key, 1));
                taken += 1;
                Ok(taken < limit)
            })?;
        }
        self.rows_at(seqs, limit)
    }

    /// Every entry of a Message-ID, in all channels, oldest first.
    pub fn find_message(&self, message_id: &str) -> Result<Vec<EntryRow>, StoreError> {
        self.rows_at(self.seqs_of_message(message_id, MOST)?, MOST)
    }

    /// The `seq` of entries of a Message-ID: those that stand for it in a channel, then the others. Each of both walks
    /// ends where there are `most`.
    pub fn seqs_of_message(&self, message_id: &str, most: usize) -> Result<Vec<u64>, StoreError> {
        let hash = keys::message_hash(message_id);
        let mut seqs = Vec::new();
        self.index.walk_prefix(&[&[keys::ORIGINALS][..], &hash].concat(), |_, seq| {
            seqs.push(index::number(seq));
            Ok(seqs.len() < most)
        })?;
        self.index.walk_prefix(&[&[keys::MENTIONS][..], &hash].concat(), |key, _| {
            seqs.push(keys::number_in(key, 2));
            Ok(seqs.len() < most)
        })?;
        Ok(seqs)
    }

    /// Tickets, the newest number first.
    pub fn tickets(&self, filter: &TicketFilter) -> Result<Vec<TicketRow>, StoreError> {
        let limit = filter.limit.min(MOST);
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        let to = keys::ticket(filter.before.unwrap_or(u64::MAX));
        self.index.walk(&keys::ticket(0), &to, Order::Down, |_, value| {
            let row: TicketRow = parse(value)?;
            let fits = filter.state.is_none_or(|state| state == row.state)
                && filter.queue.as_ref().is_none_or(|queue| *queue == row.queue)
                && filter.channel.as_ref().is_none_or(|channel| channel.eq_ignore_ascii_case(&row.channel));
            if fits {
                rows.push(row);
            }
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    /// The feed of all changes: entries and what else happened, in the order of `seq`.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRow>, StoreError> {
        let limit = limit.min(MOST);
        let entries: Vec<EntryRow> = self.rows_after(keys::ENTRIES, after, limit)?;
        let mut events: Vec<EventRow> = self.rows_after(keys::EVENTS, after, limit)?;
        events.extend(entries.into_iter().map(|row| EventRow {
            seq: row.seq,
            at: row.filed_at,
            kind: "entry".into(),
            ticket: row.ticket,
            entry: Some(row.id),
            author: row.author,
            filing: Some(row.filing),
            ..EventRow::default()
        }));
        events.sort_unstable_by_key(|event| event.seq);
        events.truncate(limit);
        Ok(events)
    }

    fn rows_after<T: serde::de::DeserializeOwned>(
        &self,
        prefix: u8,
        after: u64,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        // What is in the index but not published is still being synced; it is told in a moment.
        let published = self.shared.progress.borrow().published;
        let mut rows = Vec::new();
        if limit == 0 || after >= published {
            return Ok(rows);
        }
        let (from, to) = (keys::numbered(prefix, after + 1), keys::numbered(prefix, published + 1));
        self.index.walk(&from, &to, Order::Up, |_, value| {
            rows.push(parse(value)?);
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    fn rows_at(&self, mut seqs: Vec<u64>, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        seqs.sort_unstable();
        seqs.dedup();
        let rows = seqs.into_iter().take(limit).map(|seq| self.entry_at(seq));
        rows.filter_map(Result::transpose).collect()
    }
}
