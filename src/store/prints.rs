//! Outlines of mail in the index, and fingerprints of what has the same one: what a new mail of a channel may repeat.
//!
//! `p outline channel` are the entries of a channel that have one outline. It is written in the step that files the
//! entry, so the log brings it back; entries of older versions have none. Fingerprints are not kept, nor made of each
//! mail: where a Message-ID or an outline comes a second time, which is rare, both mails are read again.

use std::cell::OnceCell;
use std::panic::catch_unwind;

use super::error::StoreError;
use super::rows::EntryRow;
use super::step::Step;
use super::values::{MailBytes, NewEntry, Question};
use super::{index, keys};
use crate::mail::message::{Limits, parse};
use crate::mail::{Address, Fingerprint, Outline};
use crate::ticket::duplicate::{KnownMail, Seen, Tie, may_be_same};

/// The most entries of one outline, and of one Message-ID, that are looked at.
const MOST: usize = 16;
/// An earlier mail that is larger is not read again: the same Message-ID is then proof enough, as it is without a
/// fingerprint.
const LARGEST: u64 = 32 << 20;
/// Mail that is read again has been read within the limits of the configuration, which are not larger than these.
const LIMITS: Limits = Limits { max_parts: 100_000, max_depth: 1000, max_header_bytes: 64 << 20 };

impl Step<'_> {
    /// The mails of a channel that a new one may repeat, and its own fingerprint where there are any to compare it with.
    pub(super) fn known(&self, question: &Question<'_>) -> Result<(Vec<KnownMail>, Option<Fingerprint>), StoreError> {
        let message = super::step_file::message_key(question.message_id, question.content_key);
        let tie = if question.message_id.is_some() { Tie::MessageId } else { Tie::Bytes };
        let mut known: Vec<KnownMail> = Vec::new();
        if let Some(seq) = self.get(&keys::original(&message, question.channel))? {
            known.extend(self.known_mail(index::number(&seq), tie, |_| question.compared.is_some())?);
        }
        let Some(compared) = question.compared else { return Ok((known, None)) };
        let print = OnceCell::new();
        let own = || print.get_or_init(|| fingerprint(compared.body)).as_ref();
        let differs = |mail: &KnownMail| {
            let theirs = mail.print.as_ref();
            theirs.is_some_and(|theirs| own().is_some_and(|own| theirs.whole != own.whole))
        };
        // A Message-ID that was used for several mails has its others among the mentions.
        if known.iter().any(differs) {
            let channel = question.channel.to_string();
            for seq in self.mentions(&message)? {
                let other = self.entry_at(seq)?.filter(|row| row.channel == channel && is_original(row));
                if other.is_some() {
                    known.extend(self.known_mail(seq, tie, |_| true)?);
                }
            }
        }
        let seen = Seen { door: compared.door, has_message_id: question.message_id.is_some(), print: None };
        for seq in compared.outline.map_or(Ok(Vec::new()), |outline| self.alike(outline, question.channel))? {
            if known.iter().any(|mail| mail.seq == seq) {
                continue;
            }
            let alike = self.known_mail(seq, Tie::Fingerprint, |mail| may_be_same(seen, mail))?;
            known.extend(alike.filter(|mail| mail.print.is_some() && !differs(mail)));
        }
        Ok((known, print.into_inner().flatten()))
    }

    /// Writes the outline of an entry that became part of a ticket.
    pub(super) fn put_outline(&mut self, entry: &NewEntry<'_>, row: &EntryRow) -> Result<(), StoreError> {
        let Some(outline) = entry.outline.filter(|_| is_original(row)) else { return Ok(()) };
        if entry.message_id.is_some() && !self.two_ways(entry)? {
            return Ok(());
        }
        let mut seqs = self.alike(outline, &entry.delivery.channel)?;
        // Of very many mails that are alike the newest are kept: what comes by another door comes soon.
        seqs.drain(..(seqs.len() + 1).saturating_sub(MOST));
        seqs.push(row.seq);
        self.put_alike(outline, &entry.delivery.channel, &seqs)
    }

    /// Whether mail of this channel comes by more than one door: only then can it come again under another Message-ID,
    /// and a row for every mail of a channel that is only forwarded would take a fifth of the index for nothing.
    fn two_ways(&self, entry: &NewEntry<'_>) -> Result<bool, StoreError> {
        let channel = &entry.delivery.channel;
        Ok(entry.mail.origin.remote.is_some() || self.get(&keys::source(channel))?.is_some())
    }

    /// Forgets the outline of an entry whose bytes are to be erased; it is read from them.
    pub(super) fn forget_outline(&mut self, row: &EntryRow) -> Result<(), StoreError> {
        let Some(outline) = self.body(row).and_then(|body| outline(&body)) else { return Ok(()) };
        let Ok(channel) = Address::parse(&row.channel) else { return Ok(()) };
        let mut seqs = self.alike(&outline, &channel)?;
        seqs.retain(|seq| *seq != row.seq);
        self.put_alike(&outline, &channel, &seqs)
    }

    /// An earlier mail. Its bytes are read if it is worth that; the same bytes need no comparison.
    fn known_mail(
        &self,
        seq: u64,
        tie: Tie,
        worth: impl Fn(&KnownMail) -> bool,
    ) -> Result<Option<KnownMail>, StoreError> {
        let Some(row) = self.entry_at(seq)? else { return Ok(None) };
        let seen = row.also_seen.iter().map(|seen| seen.kind.clone());
        let doors = std::iter::once(row.door.clone()).chain(seen).collect();
        let has_message_id = row.message_id.is_some();
        let mut known = KnownMail { seq, ticket: row.ticket, tie, has_message_id, doors, print: None };
        if tie != Tie::Bytes && worth(&known) {
            known.print = self.body(&row).and_then(|body| fingerprint(&body));
        }
        Ok(Some(known))
    }

    /// The bytes of an entry; `None` where they are not there or too many.
    fn body(&self, row: &EntryRow) -> Option<MailBytes> {
        let position = row.mail.filter(|_| row.size <= LARGEST)?;
        let stored = self.store.mail(position).ok()?;
        (!stored.headers_only).then_some(stored.body)
    }

    fn alike(&self, outline: &Outline, channel: &Address) -> Result<Vec<u64>, StoreError> {
        Ok(self.get(&keys::outline(outline, channel))?.map_or_else(Vec::new, |value| seqs(&value)))
    }

    fn put_alike(&mut self, outline: &Outline, channel: &Address, seqs: &[u64]) -> Result<(), StoreError> {
        let key = keys::outline(outline, channel);
        if seqs.is_empty() {
            self.delete(key);
            return Ok(());
        }
        self.put(key, seqs.iter().flat_map(|seq| seq.to_be_bytes()).collect())
    }

    /// The entries of a Message-ID beside the first, those of this step too.
    fn mentions(&self, message: &[u8; 16]) -> Result<Vec<u64>, StoreError> {
        let mut found = self.changed_under(&[&[keys::MENTIONS][..], message].concat());
        self.store.index.walk_prefix(&[&[keys::MENTIONS][..], message].concat(), |key, _| {
            found.push(key.to_vec());
            Ok(found.len() < MOST * 4)
        })?;
        Ok(found.iter().map(|key| keys::number_in(key, 2)).collect())
    }
}

/// The fingerprint of a mail; `None` where its bytes are not there. One that the code fails on is like no other mail.
fn fingerprint(body: &MailBytes) -> Option<Fingerprint> {
    let raw = body.read().ok()?;
    let read = || parse(&raw, &LIMITS).ok().map(|parsed| Fingerprint::of(&parsed, &parsed.summary()));
    Some(catch_unwind(read).ok().flatten().unwrap_or_else(|| Fingerprint::of_bytes(&raw)))
}

fn outline(body: &MailBytes) -> Option<Outline> {
    Outline::of(&parse(&body.read().ok()?, &LIMITS).ok()?.summary())
}

/// The entries under one outline.
pub(super) fn seqs(value: &[u8]) -> Vec<u64> {
    value.as_chunks::<8>().0.iter().map(|seq| u64::from_be_bytes(*seq)).collect()
}

fn is_original(row: &EntryRow) -> bool {
    row.ticket.is_some() && row.duplicate_of.is_none()
}
