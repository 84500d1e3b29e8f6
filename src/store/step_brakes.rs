//! The steps of what keeps mail from leaving: brakes, suppression, acknowledgements owed.

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::outgoing::Suppress;
use super::rows::{
    AcknowledgementRow, BrakeRow, DeliveryState, EntryRow, EventRow, IdempotencyRow, OutboxRow, SuppressionRow,
};
use super::step::{Step, json, parse};
use super::values::OutgoingMeta;
use super::{index, keys};
use crate::mail::{Address, Class};
use crate::ticket::loops::{self, Limit, Scope};
use crate::ticket::window::Slots;
use crate::units::{count, hex};

/// The most of what is said about an address that is kept.
const SAID: usize = 400;
/// How many rows one tidying looks at.
const TIDY: usize = 10_000;

/// What stands for a brake: its counter, and the public name.
fn brake_key(scope: Scope, ticket: Option<u64>, address: &Address) -> ([u8; 16], String) {
    let about = match scope {
        Scope::TicketRecipient => format!("{} {}", ticket.unwrap_or(0), address.key()),
        Scope::Recipient => address.key(),
        Scope::Overall => String::new(),
    };
    let hash = keys::brake_hash(scope.as_str(), &about);
    (hash, hex(&hash[..6]))
}

/// The brakes that a mail to one recipient counts for. A report about a mail has a null sender, which nobody may answer
/// (RFC 5321 section 4.5.5), and is told of to nobody: it can go round with nobody, and a program that submits much in
/// a bad hour must not lose what it is told, nor ordinary mail to its address wait for that. Only its number counts.
fn scopes(ticket: Option<u64>, meta: &OutgoingMeta) -> impl Iterator<Item = Scope> {
    let answered = meta.report.is_none();
    let of_ticket = ticket.filter(|_| answered).map(|_| Scope::TicketRecipient);
    let recipient = answered.then_some(Scope::Recipient);
    let overall = (meta.class == Class::Automatic).then_some(Scope::Overall);
    of_ticket.into_iter().chain(recipient).chain(overall)
}

impl Step<'_> {
    /// What the brakes have counted that a mail to one recipient counts for.
    pub fn counted(
        &self,
        ticket: Option<u64>,
        meta: &OutgoingMeta,
        address: &Address,
    ) -> Result<Vec<(Scope, Slots)>, StoreError> {
        let count = |scope| {
            let value = self.get(&keys::brake_count(&brake_key(scope, ticket, address).0))?;
            Ok((scope, value.map_or_else(loops::count, |value| loops::count().decode(&value))))
        };
        scopes(ticket, meta).map(count).collect()
    }

    pub(super) fn count_mail(
        &mut self,
        ticket: Option<u64>,
        meta: &OutgoingMeta,
        address: &Address,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (scope, mut counted) in self.counted(ticket, meta, address)? {
            counted.add(now, 1, 0);
            self.put(keys::brake_count(&brake_key(scope, ticket, address).0), counted.encode())?;
        }
        Ok(())
    }

    /// Notes that a brake holds a recipient; the first time it is told. Returns the brake's name.
    pub(super) fn trip(
        &mut self,
        scope: Scope,
        (minutes, mails): Limit,
        row: &OutboxRow,
        n: u32,
        address: &Address,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        let (_, id) = brake_key(scope, row.ticket, address);
        let known: Option<BrakeRow> = self.get(&keys::brake(&id))?.map(|value| parse(&value)).transpose()?;
        let first = known.is_none();
        let mut brake = known.unwrap_or_else(|| BrakeRow {
            id: id.clone(),
            scope: scope.as_str().to_owned(),
            ticket: row.ticket.filter(|_| scope == Scope::TicketRecipient),
            recipient: (scope != Scope::Overall).then(|| address.to_string()),
            minutes,
            mails,
            at: now,
            held: 0,
        });
        brake.held += 1;
        self.put(keys::brake(&id), json(&brake)?)?;
        self.put(keys::braked(&id, row.seq, n), Vec::new())?;
        if first {
            let whom = brake.recipient.clone().unwrap_or_else(|| "all automatic mail".into());
            let said = format!("brake {id}: {} to {whom}", loops::over((minutes, mails)));
            self.outbox_event("brake_tripped", row, None, Some(said), now)?;
        }
        Ok(id)
    }

    /// A person released or cancelled what a brake held for one recipient. The brake itself stays.
    pub(super) fn holds_one_less(&mut self, id: &str) -> Result<(), StoreError> {
        if let Some(value) = self.get(&keys::brake(id))? {
            let brake: BrakeRow = parse(&value)?;
            self.put(keys::brake(id), json(&BrakeRow { held: brake.held.saturating_sub(1), ..brake })?)?;
        }
        Ok(())
    }

    /// Releases a brake: its count begins anew, and the mail that it holds goes out.
    pub fn release_brake(&mut self, id: &str, author: &str, now: Timestamp) -> Result<BrakeRow, StoreError> {
        let value = self.get(&keys::brake(id))?;
        let value = value.ok_or_else(|| StoreError::NotPossible(format!("no brake {id} has tripped")))?;
        let brake: BrakeRow = parse(&value)?;
        let prefix = keys::braked_by(id);
        let mut held = Vec::new();
        self.store.index.walk_prefix(&prefix, |key, _| {
            held.push(key[prefix.len()..].get(..8).map_or(0, index::number));
            Ok(true)
        })?;
        held.sort_unstable();
        held.dedup();
        for seq in held {
            let Some(mut row) = self.outbox_row(seq)? else { continue };
            self.change_recipients(&mut row, now, |to| {
                (to.brake.as_deref() == Some(id)).then_some(DeliveryState::Queued)
            })?;
            // Held by the brake alone: it waits again. What a person holds has a reason of its own and stays.
            if !row.why.as_deref().is_some_and(|why| why.starts_with("hold ")) {
                row.state = super::rows::OutboxState::Waiting;
            }
            self.begin_anew(&mut row, now)?;
            self.put_outbox(&mut row)?;
            self.outgoing.push(seq);
        }
        self.delete(keys::brake(id));
        let scope = [Scope::TicketRecipient, Scope::Recipient, Scope::Overall];
        let scope = scope.into_iter().find(|scope| scope.as_str() == brake.scope).unwrap_or(Scope::Overall);
        let about = match (scope, &brake.recipient) {
            (Scope::Overall, _) | (_, None) => String::new(),
            (Scope::Recipient, Some(address)) => address.to_lowercase(),
            (Scope::TicketRecipient, Some(address)) => {
                format!("{} {}", brake.ticket.unwrap_or(0), address.to_lowercase())
            }
        };
        self.delete(keys::brake_count(&keys::brake_hash(scope.as_str(), &about)));
        self.put_event(&mut EventRow {
            at: now,
            kind: "brake_released".into(),
            ticket: brake.ticket,
            author: Some(author.to_owned()),
            said: Some(format!("brake {id} was released; held: {}", count(brake.held, "mail", "mails"))),
            ..EventRow::default()
        })?;
        Ok(brake)
    }

    /// Why nothing is sent to an address, if it has failed too often or complained.
    pub fn suppressed(&self, address: &Address) -> Result<Option<SuppressionRow>, StoreError> {
        Ok(self.suppression(&address.to_string())?.filter(|row| row.suppressed))
    }

    fn suppression(&self, address: &str) -> Result<Option<SuppressionRow>, StoreError> {
        self.get(&keys::suppressed(address))?.map(|value| parse(&value)).transpose()
    }

    /// An address has failed for good, by its own fault.
    pub(super) fn hard_failure(
        &mut self,
        address: &str,
        said: &str,
        suppress: Suppress,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let fresh = || SuppressionRow { address: address.to_owned(), first_at: now, ..SuppressionRow::default() };
        let known = self.suppression(address)?;
        // Old failures are forgotten; an address that is suppressed stays so until a person clears it.
        let counts = |row: &SuppressionRow| row.suppressed || now.duration_since(row.first_at) <= suppress.within;
        let mut row = known.filter(counts).unwrap_or_else(fresh);
        row.failures += 1;
        let full = suppress.after > 0 && row.failures >= suppress.after;
        self.put_suppression(row, full, said, now)
    }

    /// A recipient has complained: one complaint is enough.
    pub(super) fn complained(&mut self, address: &str, said: &str, now: Timestamp) -> Result<(), StoreError> {
        let fresh = || SuppressionRow { address: address.to_owned(), first_at: now, ..SuppressionRow::default() };
        let row = self.suppression(address)?.unwrap_or_else(fresh);
        self.put_suppression(row, true, &format!("complained: {said}"), now)
    }

    fn put_suppression(
        &mut self,
        mut row: SuppressionRow,
        full: bool,
        said: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let news = full && !row.suppressed;
        row.suppressed |= full;
        (row.last_at, row.why) = (now, cut::text(said, SAID));
        let key = keys::suppressed(&row.address);
        let value = json(&row)?;
        if news {
            self.put_event(&mut EventRow {
                at: now,
                kind: "address_suppressed".into(),
                said: Some(cut::text(&format!("{}: {said}", row.address), cut::SAID)),
                ..EventRow::default()
            })?;
        }
        self.put(key, value)
    }

    /// Takes an address off the suppression list.
    pub fn clear_suppression(&mut self, address: &str) -> Result<(), StoreError> {
        if self.suppression(address)?.is_none() {
            return Err(StoreError::NotPossible(format!("{address} is not on the suppression list")));
        }
        self.delete(keys::suppressed(address));
        Ok(())
    }

    /// A ticket that was opened is owed an acknowledgement.
    pub fn owe_acknowledgement(&mut self, row: &EntryRow, now: Timestamp) -> Result<(), StoreError> {
        let Some(ticket) = row.ticket else { return Ok(()) };
        let (entry, channel) = (row.id.clone(), row.channel.clone());
        let owed = AcknowledgementRow { seq: row.seq, entry, ticket, channel, at: now };
        self.put(keys::acknowledge(row.seq), json(&owed)?)
    }

    /// An acknowledgement that cannot be written is not owed any more.
    pub fn waive_acknowledgement(&mut self, seq: u64) {
        self.delete(keys::acknowledge(seq));
    }

    /// Forgets what brakes counted long ago and which orders are older than a time, among some of all; returns how many
    /// rows went. Keys are hashes, so that a beginning that the time of day picks comes past each of them now and then.
    pub fn tidy_outbox(&mut self, now: Timestamp, orders_before: Timestamp) -> Result<usize, StoreError> {
        let mut gone = Vec::new();
        let [counters, orders] = [&[keys::BRAKES, b'c'][..], &[keys::ORDERS][..]];
        self.some(counters, now, |key, value| {
            if loops::count().decode(value).is_empty(now) {
                gone.push(key.to_vec());
            }
            Ok(())
        })?;
        self.some(orders, now, |key, value| {
            let row: IdempotencyRow = parse(value)?;
            if row.at < orders_before {
                gone.push(key.to_vec());
            }
            Ok(())
        })?;
        let count = gone.len();
        gone.into_iter().for_each(|key| self.delete(key));
        Ok(count)
    }

    /// Looks at some rows of a prefix; at all of them where they are few.
    fn some(
        &self,
        prefix: &[u8],
        now: Timestamp,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let begin = keys::brake_hash("tidy", &now.to_string())[0];
        let middle = [prefix, &[begin]].concat();
        let end = [prefix, &[u8::MAX; 20]].concat();
        let mut looked = 0;
        for (from, to) in [(&middle, &end), (&prefix.to_vec(), &middle)] {
            self.store.index.walk(from, to, index::Order::Up, |key, value| {
                look(key, value)?;
                looked += 1;
                Ok(looked < TIDY)
            })?;
            if looked >= TIDY {
                break;
            }
        }
        Ok(())
    }
}
