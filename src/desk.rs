//! What people do: list, read, note, close, reopen, merge, retry, erase, explain.
//!
//! Owns the reading of entries: a row of the store together with what its original bytes say. Must not know: sockets,
//! JSON, who is allowed to do what. Everything here may block on the disk.

mod acknowledge;
mod order;
mod outbox;
mod outgoing;
mod owed;
pub mod parity;
mod probe;
pub mod reply;
pub mod reports;
mod view;

pub use outbox::{OrderAll, OrderedPage, OutboxView};
pub use probe::{ProbeOrder, ProbeState, ProbeView};
pub use reply::Replies;
pub use reports::Reporter;
pub use view::{EntryView, MailView};

use crate::clock::Clock;
use crate::mail::message::{self, Limits};
use crate::store::rows::{EntryKind, EntryRow, EventRow, LedgerRow, TicketRow};
use crate::store::{MailBytes, Store, StoreError, TicketFilter};

/// At most this many rows are looked at for one answer.
const MAX_SCAN: usize = 10_000;

/// Rows that are read from the store at once.
const PAGE: usize = 500;

/// The longest note, in bytes: it has to fit a row of the store.
pub const MAX_NOTE: usize = 2_000;

/// The longest name of somebody who does something, in bytes.
const MAX_AUTHOR: usize = 100;

/// Entries of one ticket that are read at once.
const MAX_TICKET_ENTRIES: usize = 1_000;

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    #[error("there is no {0}")]
    NotFound(String),
    /// It does not fit the state of the ticket or the entry.
    #[error("{0}")]
    NotPossible(String),
    /// A mail could come twice; it can be ordered all the same.
    #[error("{0}")]
    MayComeTwice(String),
    /// What was given cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The mail's bytes were erased or never kept.
    #[error("{0}")]
    Gone(String),
    #[error("the disk is full")]
    Full,
    #[error("{0}")]
    Trouble(String),
}

impl From<StoreError> for DeskError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchTicket(number) => Self::NotFound(format!("ticket {number}")),
            StoreError::NoSuchEntry(id) => Self::NotFound(format!("entry {id}")),
            StoreError::NotPossible(said) => Self::NotPossible(said),
            StoreError::MayComeTwice(said) => Self::MayComeTwice(said),
            StoreError::Full => Self::Full,
            other => Self::Trouble(other.to_string()),
        }
    }
}

impl From<std::io::Error> for DeskError {
    fn from(error: std::io::Error) -> Self {
        Self::Trouble(format!("the original bytes cannot be read: {error}"))
    }
}

/// The desk; a cheap handle.
#[derive(Clone, Debug)]
pub struct Desk {
    store: Store,
    clock: Clock,
    limits: Limits,
}

/// One page of something.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The highest `seq` that was looked at: where the next page begins.
    pub next: u64,
}

impl Desk {
    /// A desk over a store; mail is read within `limits`.
    pub fn new(store: Store, clock: Clock, limits: Limits) -> Self {
        Self { store, clock, limits }
    }

    // ---- reading

    pub fn tickets(&self, filter: &TicketFilter) -> Result<Vec<TicketRow>, DeskError> {
        Ok(self.store.tickets(filter)?)
    }

    /// A ticket and its entries, oldest first.
    pub fn ticket(&self, number: u64) -> Result<(TicketRow, Vec<EntryView>), DeskError> {
        let missing = || DeskError::NotFound(format!("ticket {number}"));
        let row = self.store.ticket(number)?.ok_or_else(missing)?;
        let rows = self.store.entries_of(number, MAX_TICKET_ENTRIES)?;
        Ok((row, rows.into_iter().map(|row| self.view(row)).collect::<Result<_, _>>()?))
    }

    /// Mails that reached a final state, in the order of `seq`: at most `limit`, and no more than `max_bytes` of
    /// original mail but for one. Notes are not mails and are left out.
    pub fn entries(&self, after: u64, limit: usize, max_bytes: u64) -> Result<Page<EntryView>, DeskError> {
        let mut page = Page { items: Vec::new(), next: after };
        let mut bytes = 0;
        while page.items.len() < limit {
            let rows = self.store.entries(page.next, PAGE.min(limit))?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let heavier = bytes + row.size;
                if page.items.len() == limit || (heavier > max_bytes && !page.items.is_empty()) {
                    return Ok(page);
                }
                page.next = row.seq;
                if row.kind != EntryKind::Note {
                    bytes = heavier;
                    page.items.push(self.view(row)?);
                }
            }
        }
        Ok(page)
    }

    /// One entry by its public id.
    pub fn entry(&self, id: &str) -> Result<EntryView, DeskError> {
        self.view(self.row(id)?)
    }

    /// The original bytes of an entry; of mail that was refused at the door only the header section was kept.
    pub fn raw(&self, id: &str) -> Result<MailBytes, DeskError> {
        let row = self.row(id)?;
        let position = row.mail.ok_or_else(|| DeskError::Gone(no_bytes(&row)))?;
        Ok(self.store.mail(position)?.body)
    }

    /// One attachment: what it is, and its decoded bytes.
    pub fn attachment(&self, id: &str, n: usize) -> Result<(message::Attachment, Vec<u8>), DeskError> {
        let missing = || DeskError::NotFound(format!("attachment {n} of entry {id}"));
        let body = self.raw(id)?;
        let raw = body.read()?;
        let parsed = message::parse(&raw, &self.limits).map_err(|_| missing())?;
        let attachment = parsed.content().attachments.into_iter().find(|attachment| attachment.n == n);
        attachment.zip(parsed.attachment(n)).ok_or_else(missing)
    }

    /// Mails that were rejected, quarantined or dropped, in the order of `seq`.
    pub fn rejects(&self, after: u64, limit: usize) -> Result<Page<EntryRow>, DeskError> {
        let mut page = Page { items: Vec::new(), next: after };
        let mut looked_at = 0;
        while looked_at < MAX_SCAN {
            let rows = self.store.entries(page.next, PAGE)?;
            if rows.is_empty() {
                break;
            }
            looked_at += rows.len();
            for row in rows {
                if page.items.len() == limit {
                    return Ok(page);
                }
                page.next = row.seq;
                if matches!(row.filing.as_str(), "rejected" | "quarantined" | "dropped") {
                    page.items.push(row);
                }
            }
        }
        Ok(page)
    }

    /// Every entry that a Message-ID has in any channel, with the trace of the decisions about it.
    pub fn explain(&self, message_id: &str) -> Result<Vec<EntryRow>, DeskError> {
        let bare = message_id.trim().trim_start_matches('<').trim_end_matches('>');
        if bare.is_empty() {
            return Err(DeskError::Unusable("no Message-ID was given".into()));
        }
        let rows = self.store.find_message(bare)?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        // People copy what they see: the id of an entry is as good a name, and so is its place in the feed, by which
        // the log and the decisions about other mails name it.
        let by_seq = || bare.parse().ok().map(|seq| self.store.entry_at(seq)).transpose();
        match self.store.entry(bare)?.map_or_else(|| Ok(by_seq()?.flatten()), |row| Ok::<_, DeskError>(Some(row)))? {
            Some(row) => Ok(vec![row]),
            None => Err(DeskError::NotFound(format!("mail with the Message-ID or the entry id \"{bare}\""))),
        }
    }

    /// The row that a pulled mail has in the ledger of its mailbox; `None` for other mail, and where its record is gone.
    pub fn ledger_row(&self, row: &EntryRow) -> Result<Option<LedgerRow>, DeskError> {
        let Some(position) = row.mail.filter(|_| row.door == "imap") else { return Ok(None) };
        let Ok(stored) = self.store.mail(position) else { return Ok(None) };
        let Some(remote) = stored.meta.origin.remote else { return Ok(None) };
        Ok(self.store.ledger_rows(&remote.channel, remote.validity, &[remote.uid])?.pop())
    }

    /// Changes after a place in the feed.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRow>, DeskError> {
        Ok(self.store.events(after, limit)?)
    }

    // ---- acting

    pub fn note(&self, ticket: u64, author: &str, text: &str) -> Result<EntryView, DeskError> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_NOTE {
            let said = format!("a note has 1 to {MAX_NOTE} bytes, this one has {}", text.len());
            return Err(DeskError::Unusable(said));
        }
        let author = checked_author(author)?;
        let now = self.clock.now();
        let row = self.store.step(|step| step.note(ticket, author, text, now).map_err(DeskError::from))?;
        self.view(row)
    }

    pub fn close(&self, ticket: u64, author: &str) -> Result<TicketRow, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        self.store.step(|step| step.close(ticket, author, now).map_err(DeskError::from))
    }

    pub fn reopen(&self, ticket: u64, author: &str) -> Result<TicketRow, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        self.store.step(|step| step.reopen(ticket, author, now).map_err(DeskError::from))
    }

    /// Merges `from` into `into`; returns the row of `into`.
    pub fn merge(&self, from: u64, into: u64, author: &str) -> Result<TicketRow, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        if from == into {
            return Err(DeskError::Unusable(format!("ticket {from} cannot be merged into itself")));
        }
        self.store.step(|step| step.merge(from, into, author, now).map_err(DeskError::from))
    }

    /// Has a rejected, quarantined or dropped mail filed again.
    pub fn retry(&self, entry: &str, author: &str) -> Result<EntryRow, DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        self.store.step(|step| step.retry(entry, author, now).map_err(DeskError::from))
    }

    /// Erases the bytes of a mail for good; its entries stay, without bytes.
    pub fn erase(&self, entry: &str, author: &str) -> Result<(), DeskError> {
        let (author, now) = (checked_author(author)?, self.clock.now());
        Ok(self.store.erase(entry, author, now)?)
    }

    fn row(&self, id: &str) -> Result<EntryRow, DeskError> {
        self.store.entry(id)?.ok_or_else(|| DeskError::NotFound(format!("entry {id}")))
    }

    fn view(&self, row: EntryRow) -> Result<EntryView, DeskError> {
        view::view(&self.store, row, &self.limits)
    }
}

fn no_bytes(row: &EntryRow) -> String {
    match row.kind {
        EntryKind::Note => format!("entry {} is a note and has no original bytes", row.id),
        _ => format!("the original bytes of entry {} were erased", row.id),
    }
}

/// A name that fits a row and a line of a log.
fn checked_author(author: &str) -> Result<&str, DeskError> {
    let author = author.trim();
    if author.is_empty() || author.len() > MAX_AUTHOR || author.chars().any(char::is_control) {
        let said = format!("an author is a name of 1 to {MAX_AUTHOR} bytes without control characters");
        return Err(DeskError::Unusable(said));
    }
    Ok(author)
}
