//! Fingerprints of mail in the index: what a new mail of a channel may repeat.
//!
//! `p whole channel` are the entries of a channel that have one whole. It is written in the step that files the entry,
//! so the log brings it back; entries of older versions have none. The rest of a fingerprint is not kept: where a
//! Message-ID comes a second time with another whole, which is rare, the earlier mail is read again.

use super::error::StoreError;
use super::rows::EntryRow;
use super::step::Step;
use super::values::{NewEntry, Question};
use super::{index, keys};
use crate::mail::message::{Limits, parse};
use crate::mail::{Address, Fingerprint};
use crate::ticket::duplicate::{KnownMail, Tie};

/// The most entries of one whole fingerprint, and of one Message-ID, that are looked at.
const MOST: usize = 16;
/// An earlier mail that is larger is not read again: the same Message-ID is then proof enough, as it is without a
/// fingerprint.
const LARGEST: u64 = 32 << 20;

impl Step<'_> {
    /// The mails of a channel that a new one may repeat.
    pub(super) fn known(&self, question: &Question<'_>) -> Result<Vec<KnownMail>, StoreError> {
        let message = super::step_file::message_key(question.message_id, question.content_key);
        let tie = if question.message_id.is_some() { Tie::MessageId } else { Tie::Bytes };
        let mut known: Vec<KnownMail> = Vec::new();
        let alike = question.print.map_or(Ok(Vec::new()), |print| self.of_whole(print, question.channel))?;
        let look = |seq: u64, tie: Tie| {
            let same = question.print.filter(|_| alike.contains(&seq));
            self.known_mail(seq, tie, same)
        };
        if let Some(seq) = self.get(&keys::original(&message, question.channel))? {
            known.extend(look(index::number(&seq), tie)?);
        }
        let Some(print) = question.print else { return Ok(known) };
        let differs = |mail: &KnownMail| mail.print.as_ref().is_some_and(|theirs| theirs.whole != print.whole);
        // A Message-ID that was used for several mails has its others among the mentions.
        if tie == Tie::MessageId && known.iter().any(differs) {
            let channel = question.channel.to_string();
            for seq in self.mentions(&message)? {
                let other = self.entry_at(seq)?.filter(|row| row.channel == channel && is_original(row));
                if other.is_some() {
                    known.extend(look(seq, tie)?);
                }
            }
        }
        for seq in alike.iter().copied() {
            if known.iter().all(|mail| mail.seq != seq) {
                known.extend(look(seq, Tie::Fingerprint)?);
            }
        }
        Ok(known)
    }

    /// Writes the fingerprint of an entry that became part of a ticket.
    pub(super) fn put_print(&mut self, entry: &NewEntry<'_>, row: &EntryRow) -> Result<(), StoreError> {
        let Some(print) = entry.print.filter(|_| is_original(row)) else { return Ok(()) };
        if entry.message_id.is_some() && !self.two_ways(entry)? {
            return Ok(());
        }
        let mut seqs = self.of_whole(print, &entry.delivery.channel)?;
        // Of very many mails that are alike the newest are kept: what comes by another door comes soon.
        seqs.drain(..(seqs.len() + 1).saturating_sub(MOST));
        seqs.push(row.seq);
        self.put_whole(print, &entry.delivery.channel, &seqs)
    }

    /// Whether mail of this channel comes by more than one door: only then can it come again under another Message-ID,
    /// and a row for every mail of a channel that is only forwarded would take a fifth of the index for nothing.
    fn two_ways(&self, entry: &NewEntry<'_>) -> Result<bool, StoreError> {
        let channel = &entry.delivery.channel;
        Ok(entry.mail.origin.remote.is_some() || self.get(&keys::source(channel))?.is_some())
    }

    /// Forgets the fingerprint of an entry whose bytes are erased.
    pub(super) fn forget_print(&mut self, row: &EntryRow) -> Result<(), StoreError> {
        let Some(print) = self.print(row) else { return Ok(()) };
        let Ok(channel) = Address::parse(&row.channel) else { return Ok(()) };
        let mut seqs = self.of_whole(&print, &channel)?;
        seqs.retain(|seq| *seq != row.seq);
        self.put_whole(&print, &channel, &seqs)
    }

    /// An earlier mail; `same` is the fingerprint of the new one, if both have one whole.
    fn known_mail(&self, seq: u64, tie: Tie, same: Option<&Fingerprint>) -> Result<Option<KnownMail>, StoreError> {
        let Some(row) = self.entry_at(seq)? else { return Ok(None) };
        let print = same.cloned().or_else(|| self.print(&row).filter(|_| tie == Tie::MessageId));
        let seen = row.also_seen.into_iter().map(|seen| seen.kind);
        let doors = std::iter::once(row.door).chain(seen).collect();
        Ok(Some(KnownMail { seq, ticket: row.ticket, tie, has_message_id: row.message_id.is_some(), doors, print }))
    }

    /// The fingerprint of an entry, from its bytes; `None` where they are not there or cannot be read.
    fn print(&self, row: &EntryRow) -> Option<Fingerprint> {
        let position = row.mail.filter(|_| row.size <= LARGEST)?;
        let stored = self.store.mail(position).ok()?;
        let raw = stored.body.read().ok().filter(|_| !stored.headers_only)?;
        let parsed = parse(&raw, &Limits::default()).ok()?;
        Some(Fingerprint::of(&parsed, &parsed.summary()))
    }

    fn of_whole(&self, print: &Fingerprint, channel: &Address) -> Result<Vec<u64>, StoreError> {
        Ok(self.get(&keys::whole(&print.whole, channel))?.map_or_else(Vec::new, |value| seqs(&value)))
    }

    fn put_whole(&mut self, print: &Fingerprint, channel: &Address, seqs: &[u64]) -> Result<(), StoreError> {
        let key = keys::whole(&print.whole, channel);
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

/// The entries under one whole fingerprint.
pub(super) fn seqs(value: &[u8]) -> Vec<u64> {
    value.as_chunks::<8>().0.iter().map(|seq| u64::from_be_bytes(*seq)).collect()
}

fn is_original(row: &EntryRow) -> bool {
    row.ticket.is_some() && row.duplicate_of.is_none()
}
