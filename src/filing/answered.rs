//! Whether a machine's mail that leaves answers a machine's mail that came in (RFC 3834 section 2).
//!
//! An acknowledgement of ours is judged when it is written; a program hands in what it likes, and says by In-Reply-To
//! what it answers. Must not know: tickets, what becomes of the mail.

use crate::mail::Class;
use crate::mail::message::{Automatic, Limits, Summary, parse};
use crate::mail::origin::OriginKind;
use crate::store::rows::{EntryKind, EntryRow};
use crate::store::{Spooled, Store};

/// Mails under one Message-ID that are looked at.
const MOST: usize = 3;

/// The id of the entry that a program's automatic mail answers, if a machine wrote that too.
pub fn answers_machine(store: &Store, limits: &Limits, spooled: &Spooled, summary: &Summary) -> Option<String> {
    let outgoing = spooled.outgoing.as_ref()?;
    if spooled.origin.kind != OriginKind::Submission || outgoing.class != Class::Automatic {
        return None;
    }
    let id = summary.in_reply_to.first().or(summary.references.last())?;
    // What cannot be looked up now does not keep mail from leaving: the brakes hold what goes in circles.
    let rows = store.find_message(id).unwrap_or_default().into_iter();
    let answered = rows.filter(|row| row.kind == EntryKind::Inbound && row.message_id.as_ref() == Some(id));
    answered.take(MOST).find(|row| is_machines(store, limits, row)).map(|row| row.id)
}

fn is_machines(store: &Store, limits: &Limits, row: &EntryRow) -> bool {
    // A mail that has taken the parser down before is not read again.
    let stored = row.mail.filter(|_| row.reason.is_none()).and_then(|position| store.mail(position).ok());
    let Some(stored) = stored else { return false };
    let Ok(raw) = stored.body.read() else { return false };
    let null = stored.meta.envelope.has_null_sender(stored.meta.origin.kind, &raw, limits.max_header_bytes);
    null || parse(&raw, limits).is_ok_and(|parsed| parsed.summary().automatic != Automatic::No)
}
