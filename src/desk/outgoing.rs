//! From a checked answer to a mail in the spool: what is answered, how the channel writes, the bytes, the record.

use super::reply::{CLASS, Checked, Order, Replies, close_with, too_large};
use super::{Desk, DeskError, EntryView};
use crate::mail::auth::AuthResults;
use crate::mail::compose::{self, ComposeError, Composed, Draft, Quote, thread};
use crate::mail::origin::OriginKind;
use crate::mail::{Address, Envelope, MailId, Origin};
use crate::store::rows::{EntryKind, EntryRow, TicketRow};
use crate::store::{Appending, Delivery, Incoming, OutgoingMeta, OutgoingRecipient, SpoolError};
use crate::ticket::Channel;
use crate::ticket::letter::reply_address;
use crate::ticket::template::Values;

/// Entries of a ticket among which the mail that is answered is looked for.
const MAX_ENTRIES: usize = 1_000;

/// The bytes of a mail that was written here, with all that its record holds.
pub(super) struct Written {
    pub id: MailId,
    pub envelope: Envelope,
    pub peer: String,
    pub delivery: Delivery,
    /// Set for a mail that leaves.
    pub meta: Option<OutgoingMeta>,
    pub bytes: Vec<u8>,
}

impl Written {
    /// A mail that leaves a channel for the recipients of its record; a report has no return path.
    pub(super) fn leaving(
        id: MailId,
        channel: Address,
        return_path: Option<&Address>,
        peer: String,
        meta: OutgoingMeta,
        bytes: Vec<u8>,
    ) -> Self {
        let envelope = Envelope {
            mail_from: return_path.map(compose::ascii),
            rcpt_to: meta.recipients.iter().map(|one| one.address.clone()).collect(),
        };
        let delivery = Delivery { channel, rcpt_to: Vec::new() };
        Self { id, envelope, peer, delivery, meta: Some(meta), bytes }
    }
}

impl Desk {
    /// Puts a mail that was written here into the spool: returns once its record stands synced in the log.
    pub(super) async fn keep(&self, mail: Written) -> Result<(), DeskError> {
        let appending = self.hand_over(mail).await?;
        self.kept(appending).await
    }

    /// Gives a mail that was written here its place in the order of the log, so that several can share a sync.
    pub(super) async fn hand_over(&self, mail: Written) -> Result<Appending, DeskError> {
        let Written { id, envelope, peer, delivery, meta, bytes } = mail;
        let size = bytes.len() as u64;
        if !self.store.has_room(size) {
            return Err(DeskError::Full);
        }
        let mut body = self.store.body(id, size);
        let trouble = |error: &dyn std::fmt::Display| DeskError::Trouble(format!("the mail cannot be kept: {error}"));
        body.push(&bytes).await.map_err(|error| trouble(&error))?;
        let incoming = Incoming {
            id,
            received_at: self.clock.now(),
            envelope,
            origin: origin(peer),
            deliveries: vec![delivery],
            review: false,
            outgoing: meta,
            body: body.finish().await.map_err(|error| trouble(&error))?,
        };
        Ok(self.store.hand_over(incoming).await?)
    }

    /// Returns once the record of a mail that was handed over stands synced in the log.
    pub(super) async fn kept(&self, appending: Appending) -> Result<(), DeskError> {
        Ok(appending.done().await.map(drop)?)
    }
}

/// A mail of ours that is ready for the spool.
pub(super) struct Outgoing {
    pub id: MailId,
    pub ticket: TicketRow,
    pub channel: Address,
    pub return_path: Address,
    pub peer: String,
    pub composed: Composed,
    pub meta: OutgoingMeta,
    /// The ticket is to be closed once the mail is accepted.
    pub close: bool,
}

impl Replies {
    /// Writes the mail.
    pub(super) fn compose(
        &self,
        order: Order,
        checked: Checked,
        fingerprint: Option<String>,
    ) -> Result<Outgoing, DeskError> {
        let now = self.desk.clock.now();
        let id = MailId::fresh(now);
        let Checked { ticket, opens, channel, to, cc, subject } = checked;
        let parent = self.answered(&ticket)?;
        let letters = self.letters.load();
        let author = order.from_name.clone().unwrap_or_else(|| channel.name.clone());
        let values = self.values(&ticket, &channel, &author);
        let mut head = letters.letterhead(&channel, ticket.number, &self.keys, id, CLASS, now);
        head.identity.from.name = author;
        let summary = parent.as_ref().and_then(|view| view.mail.as_ref()).map(|mail| &mail.summary);
        let draft = Draft {
            words: order.words,
            to,
            cc,
            subject,
            attachments: order.attachments,
            in_reply_to: summary.and_then(|summary| summary.message_id.clone()),
            references: summary.map(thread::chain).unwrap_or_default(),
            signature: letters.signature(&channel.address, &values),
            quote: if order.quote { parent.as_ref().and_then(quote) } else { None },
        };
        let composed = compose::compose(&draft, &head.identity)?;
        too_large(composed.bytes.len() as u64, &self.config.load())?;
        let meta = OutgoingMeta {
            class: CLASS,
            ticket: Some(ticket.number),
            opens,
            author: order.author,
            key: order.key,
            fingerprint,
            recipients: envelope_recipients(&draft),
            smtputf8: composed.smtputf8,
            ..OutgoingMeta::default()
        };
        let (channel, return_path, peer) = (channel.address, head.return_path, order.peer);
        Ok(Outgoing { id, ticket, channel, return_path, peer, composed, meta, close: order.close })
    }

    /// Takes responsibility for the mail: returns once its record stands synced in the log.
    pub(super) async fn accept(&self, mail: Outgoing) -> Result<MailId, DeskError> {
        let Outgoing { id, ticket, channel, return_path, peer, composed, meta, close } = mail;
        let (author, size) = (meta.author.clone(), composed.bytes.len());
        self.desk.keep(Written::leaving(id, channel, Some(&return_path), peer, meta, composed.bytes)).await?;
        tracing::info!(mail = %id, ticket = ticket.number, %author, size, "accepted a mail to send");
        if close {
            let desk = self.desk.clone();
            super::reply::blocking(move || close_with(&desk, &ticket, &author)).await?;
        }
        Ok(id)
    }

    /// What is answered: the last mail of the other side, or of ours where there is none.
    fn answered(&self, ticket: &TicketRow) -> Result<Option<EntryView>, DeskError> {
        let rows = self.desk.store.entries_of(ticket.number, MAX_ENTRIES)?;
        let spoken = |row: &&EntryRow| matches!(row.filing.as_str(), "opened" | "appended") && row.mail.is_some();
        let last = |kind: EntryKind| rows.iter().rev().filter(spoken).find(|row| row.kind == kind).cloned();
        let row = last(EntryKind::Inbound).or_else(|| last(EntryKind::Outbound));
        row.map(|row| self.desk.view(row)).transpose()
    }

    /// What the templates say about a ticket.
    pub(super) fn values(&self, ticket: &TicketRow, channel: &Channel, author: &str) -> Values {
        let requester = &ticket.requester;
        let back = reply_address(channel, ticket.number, &self.keys);
        Values {
            ticket_number: ticket.number,
            ticket_title: ticket.title.clone(),
            ticket_reply_address: back.as_ref().unwrap_or(&channel.address).to_string(),
            channel_name: channel.name.clone(),
            channel_address: channel.address.to_string(),
            queue_name: ticket.queue.clone(),
            requester_name: if requester.name.is_empty() { &requester.address } else { &requester.name }.clone(),
            requester_address: requester.address.clone(),
            author_name: author.to_owned(),
        }
    }
}

impl From<SpoolError> for DeskError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Full => Self::Full,
            SpoolError::Trouble(said) => Self::Trouble(said),
        }
    }
}

impl From<ComposeError> for DeskError {
    fn from(error: ComposeError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Everybody who gets the draft, as the envelope names them.
pub(super) fn envelope_recipients(draft: &Draft) -> Vec<OutgoingRecipient> {
    let people = draft.to.iter().chain(&draft.cc);
    people.map(|who| OutgoingRecipient { address: compose::ascii(&who.address), notify: None, orcpt: None }).collect()
}

fn quote(parent: &EntryView) -> Option<Quote> {
    let mail = parent.mail.as_ref()?;
    let text = mail.content.text.clone();
    let from = mail.summary.from.clone().unwrap_or_default();
    (!text.trim().is_empty()).then(|| Quote {
        from,
        at: Some(mail.summary.date.unwrap_or(parent.row.received_at)),
        text,
    })
}

fn origin(peer: String) -> Origin {
    Origin {
        kind: OriginKind::Api,
        peer,
        helo: None,
        tls: None,
        client_certificate: None,
        auth: AuthResults::default(),
        remote: None,
    }
}
