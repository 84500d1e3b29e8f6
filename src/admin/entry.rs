//! An entry as `export`, `/v1/entries` and webhooks give it: the shape that other people's programs rely on most.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::outbox::DeliveryJson;
use super::types::{Person, RowJson, TraceJson};
use crate::desk::{EntryView, MailView};
use crate::mail::message::{Bounce, BounceKind, Mailbox};
use crate::mail::{Address, Origin};
use crate::store::rows::{EntryKind, EntryRow, SeenRow};

/// One mail that reached a final state, or a note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryJson {
    pub seq: u64,
    pub id: String,
    /// `opened`, `appended`, `reported`, `duplicate`, `dropped`, `rejected`, `quarantined`; `relayed` for mail
    /// that leaves and belongs to no ticket; `noted` for a note.
    pub filing: String,
    pub reason: Option<String>,
    pub ticket: Option<u64>,
    pub channel: String,
    pub queue: String,
    /// `inbound`, `outbound`; `note` for a note.
    pub direction: String,
    pub received_at: String,
    pub envelope: EnvelopeJson,
    pub origin: Option<OriginJson>,
    pub message_id: Option<String>,
    pub in_reply_to: Vec<String>,
    pub references: Vec<String>,
    pub date: Option<String>,
    pub from: Option<Person>,
    pub reply_to: Vec<Person>,
    pub to: Vec<Person>,
    pub cc: Vec<Person>,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
    pub new_text: String,
    pub attachments: Vec<AttachmentJson>,
    pub automatic: String,
    pub bounce: Option<BounceJson>,
    pub matched_by: Option<String>,
    pub needs_review: bool,
    pub also_seen: Vec<SeenJson>,
    pub size: u64,
    pub sha256: String,
    /// Who wrote a note, or sent a mail.
    pub author: Option<String>,
    /// What became of a mail that leaves, for each recipient; empty for others.
    #[serde(default)]
    pub delivery: Vec<DeliveryJson>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnvelopeJson {
    /// Empty for the null sender.
    pub mail_from: String,
    /// The recipients that led to this entry's channel.
    pub rcpt_to: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OriginJson {
    /// `smtp`, `imap`, `graph`, `submission` or `api`.
    pub kind: String,
    pub peer: String,
    pub helo: Option<String>,
    pub tls: bool,
    /// Version and cipher.
    pub tls_detail: Option<String>,
    pub client_certificate: Option<String>,
    pub spf: String,
    pub dkim: String,
    pub dmarc: String,
    pub arc: String,
    /// Why a verdict is an error or was skipped.
    pub auth_note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentJson {
    pub n: usize,
    pub name: Option<String>,
    pub content_type: String,
    pub size: u64,
    pub inline: bool,
    pub content_id: Option<String>,
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BounceJson {
    /// `failed`, `delayed` or `complaint`.
    pub kind: String,
    pub recipients: Vec<BounceRecipientJson>,
    pub original_message_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BounceRecipientJson {
    pub address: String,
    pub status: Option<String>,
    pub action: Option<String>,
    pub diagnostic: Option<String>,
}

/// Another way in which the same mail was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeenJson {
    pub id: String,
    pub kind: String,
    pub peer: String,
    pub at: String,
}

impl From<EntryView> for EntryJson {
    fn from(view: EntryView) -> Self {
        let row = view.row;
        let mut json = Self::of_row(&row);
        let due = view.due.unwrap_or(row.received_at);
        json.delivery = DeliveryJson::all(view.delivery, due);
        match view.mail {
            Some(mail) => json.add_mail(mail),
            None => json.text = row.note.clone().unwrap_or_default(),
        }
        json.new_text =
            if json.new_text.is_empty() && row.kind == EntryKind::Note { json.text.clone() } else { json.new_text };
        json
    }
}

impl EntryJson {
    /// What the row says by itself.
    fn of_row(row: &EntryRow) -> Self {
        let direction = match row.kind {
            EntryKind::Inbound => "inbound",
            EntryKind::Outbound => "outbound",
            EntryKind::Note => "note",
        };
        let named = !row.from.is_empty();
        Self {
            seq: row.seq,
            id: row.id.clone(),
            filing: row.filing.clone(),
            reason: row.reason.clone(),
            ticket: row.ticket,
            channel: row.channel.clone(),
            queue: row.queue.clone(),
            direction: direction.into(),
            received_at: row.received_at.to_string(),
            envelope: EnvelopeJson { mail_from: String::new(), rcpt_to: row.rcpt_to.clone() },
            origin: None,
            message_id: row.message_id.clone(),
            in_reply_to: Vec::new(),
            references: Vec::new(),
            date: None,
            from: named.then(|| Person { name: String::new(), address: row.from.clone() }),
            reply_to: Vec::new(),
            to: Vec::new(),
            cc: Vec::new(),
            subject: row.subject.clone(),
            text: String::new(),
            html: None,
            new_text: String::new(),
            attachments: Vec::new(),
            automatic: "no".into(),
            bounce: None,
            matched_by: row.matched_by.clone(),
            needs_review: row.needs_review,
            also_seen: row.also_seen.iter().map(seen).collect(),
            size: row.size,
            sha256: row.sha256.clone(),
            author: row.author.clone(),
            delivery: Vec::new(),
        }
    }

    /// What the record and the original bytes say.
    fn add_mail(&mut self, mail: MailView) {
        let MailView { meta, summary, content } = mail;
        self.envelope.mail_from = meta.envelope.mail_from.as_ref().map(Address::to_string).unwrap_or_default();
        self.origin = Some(origin(&meta.origin));
        if summary.message_id.is_some() {
            self.message_id = summary.message_id;
        }
        self.in_reply_to = summary.in_reply_to;
        self.references = summary.references;
        self.date = summary.date.map(|date| date.to_string());
        self.from = summary.from.map(person).or(self.from.take());
        self.reply_to = summary.reply_to.into_iter().map(person).collect();
        self.to = summary.to.into_iter().map(person).collect();
        self.cc = summary.cc.into_iter().map(person).collect();
        if !summary.subject.is_empty() {
            self.subject = summary.subject;
        }
        self.automatic = summary.automatic.as_str().into();
        // That a mail arrived is no bounce: it stands in the `delivery` of that mail.
        let trouble = summary.bounce.filter(|bounce| bounce.kind != BounceKind::Delivered);
        self.bounce = trouble.map(bounce);
        self.text = content.text;
        self.html = content.html;
        self.new_text = content.new_text;
        self.attachments = content
            .attachments
            .into_iter()
            .map(|attachment| AttachmentJson {
                n: attachment.n,
                name: attachment.name,
                content_type: attachment.content_type,
                size: attachment.size,
                inline: attachment.inline,
                content_id: attachment.content_id,
                sha256: attachment.sha256,
            })
            .collect();
    }
}

impl From<EntryRow> for RowJson {
    fn from(row: EntryRow) -> Self {
        let trace = row.trace.into_iter().map(|step| TraceJson { step: step.step, said: step.said });
        Self {
            seq: row.seq,
            id: row.id,
            filing: row.filing,
            reason: row.reason,
            ticket: row.ticket,
            channel: row.channel,
            received_at: row.received_at.to_string(),
            filed_at: row.filed_at.to_string(),
            rcpt_to: row.rcpt_to,
            message_id: row.message_id,
            matched_by: row.matched_by,
            needs_review: row.needs_review,
            related: row.related,
            duplicate_of: row.duplicate_of,
            from: row.from,
            subject: row.subject,
            size: row.size,
            door: row.door,
            mailbox: None,
            waits_for: None,
            delivery: Vec::new(),
            trace: trace.collect(),
        }
    }
}

fn person(mailbox: Mailbox) -> Person {
    Person { name: mailbox.name, address: mailbox.address }
}

fn origin(origin: &Origin) -> OriginJson {
    OriginJson {
        kind: origin.kind.as_str().into(),
        peer: origin.peer.clone(),
        helo: origin.helo.clone(),
        tls: origin.tls.is_some(),
        tls_detail: origin.tls.clone(),
        client_certificate: origin.client_certificate.clone(),
        spf: origin.auth.spf.as_str().into(),
        dkim: origin.auth.dkim.as_str().into(),
        dmarc: origin.auth.dmarc.as_str().into(),
        arc: origin.auth.arc.as_str().into(),
        auth_note: origin.auth.note.clone(),
    }
}

fn seen(row: &SeenRow) -> SeenJson {
    SeenJson { id: row.id.clone(), kind: row.kind.clone(), peer: row.peer.clone(), at: row.at.to_string() }
}

fn bounce(bounce: Bounce) -> BounceJson {
    let recipients = bounce.recipients.into_iter().map(|recipient| BounceRecipientJson {
        address: recipient.address,
        status: recipient.status,
        action: recipient.action,
        diagnostic: recipient.diagnostic,
    });
    BounceJson {
        kind: bounce.kind.as_str().into(),
        recipients: recipients.collect(),
        original_message_id: bounce.original_message_id,
    }
}
