//! An entry as readers want it: the row of the store, and what its original bytes say.

use jiff::Timestamp;

use super::DeskError;
use crate::mail::message::{self, Content, Limits, Summary};
use crate::store::rows::{EntryKind, EntryRow, RecipientRow};
use crate::store::{MailMeta, Store, StoreError};

/// The most recipients of one mail that are shown.
const MAX_RECIPIENTS: usize = 1_000;

/// An entry; a note and an erased mail have no `mail`.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryView {
    pub row: EntryRow,
    pub mail: Option<MailView>,
    /// Of a mail that left or leaves: its recipients with their states, and when those that wait are tried again.
    pub delivery: Vec<RecipientRow>,
    pub due: Option<Timestamp>,
}

/// What the record of a mail says.
#[derive(Clone, Debug, PartialEq)]
pub struct MailView {
    pub meta: MailMeta,
    /// Empty where the mail cannot be read, which is then why it was quarantined.
    pub summary: Summary,
    pub content: Content,
}

/// Reads the mail of a row. A record that the disk has damaged gives a view without a mail, so that one broken mail
/// never hides the others of a list.
pub(super) fn view(store: &Store, row: EntryRow, limits: &Limits) -> Result<EntryView, DeskError> {
    let (delivery, due) = match row.kind {
        EntryKind::Outbound => {
            let due = store.outbox_row(row.seq)?.map(|row| row.due);
            (store.recipients(row.seq, 0, MAX_RECIPIENTS)?, due)
        }
        _ => (Vec::new(), None),
    };
    let Some(position) = row.mail.filter(|_| row.kind != EntryKind::Note) else {
        return Ok(EntryView { row, mail: None, delivery, due });
    };
    let stored = match store.mail(position) {
        Ok(stored) => stored,
        Err(StoreError::Damaged { said, .. }) => {
            tracing::error!(mail = %row.id, said, "the record of a mail cannot be read");
            return Ok(EntryView { row, mail: None, delivery, due });
        }
        Err(error) => return Err(error.into()),
    };
    let mut mail = MailView { meta: stored.meta, summary: Summary::default(), content: Content::default() };
    if !is_harmful(&row) {
        let raw = stored.body.read()?;
        if let Ok(parsed) = message::parse(&raw, limits) {
            mail.summary = parsed.summary();
            let (envelope, kind) = (&mail.meta.envelope, mail.meta.origin.kind);
            if envelope.has_null_sender(kind, &raw, limits.max_header_bytes) {
                mail.summary.automatic = mail.summary.automatic.with_null_sender();
            }
            if !stored.headers_only {
                mail.content = parsed.content();
            }
        }
    }
    Ok(EntryView { row, mail: Some(mail), delivery, due })
}

/// Whether reading this mail has taken the parser down or taken too long before: then nobody reads it again but a
/// person who looks at its bytes.
fn is_harmful(row: &EntryRow) -> bool {
    matches!(row.reason.as_deref(), Some("parser_crashed" | "parse_timeout"))
}
