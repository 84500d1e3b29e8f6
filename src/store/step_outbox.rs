//! The steps of mail that leaves: filing it, and its rows.

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::keys;
use super::outgoing::{NewOutgoing, NewRecipient, Told};
use super::rows::{
    DeliveryState, EntryKind, EntryRow, EventRow, IdempotencyRow, OutboxRow, OutboxState, RecipientRow, TraceRow,
};
use super::step::{Step, json, parse};
use super::step_file::{add_participant, message_key, opened};
use super::step_owed::{Owed, report_of};

/// The most of a reply that is kept with a recipient.
pub(super) const REPLY: usize = 500;
/// The most of what a client asked for with a recipient, and of names.
const PARAMETER: usize = 600;
pub(super) const NAME: usize = 200;

impl Step<'_> {
    /// Writes down a mail that leaves: its entry, its outbox row and its recipients.
    pub fn file_outgoing(&mut self, new: &NewOutgoing<'_>) -> Result<EntryRow, StoreError> {
        let id = self.free_id(&new.mail.id.to_string())?;
        let mut row = self.outgoing_entry(new, id)?;
        if let Some(repeated) = &new.repeats {
            let original = self.entry(repeated)?;
            row.duplicate_of = original.as_ref().map(|entry| entry.seq);
            row.ticket = original.and_then(|entry| entry.ticket);
            row.filing = "duplicate".into();
            row.reason = Some(crate::mail::Reason::DuplicateMessageId.code().to_owned());
        } else {
            self.join_ticket(new, &mut row)?;
            self.put_outgoing(new, &row)?;
        }
        if let Some((seq, event)) = new.meta.report {
            self.end_report(seq, event)?;
        }
        let said = match row.ticket {
            Some(number) => format!("{} in ticket {number}", row.filing),
            None if row.filing == "relayed" => "to be sent; it belongs to no ticket".into(),
            None => row.filing.clone(),
        };
        row.trace.push(TraceRow { step: "filed".into(), said });
        self.put_message(new, &row)?;
        self.set_number(&keys::id(&row.id), row.seq)?;
        self.put_entry(&mut row)?;
        Ok(row)
    }

    fn outgoing_entry(&mut self, new: &NewOutgoing<'_>, id: String) -> Result<EntryRow, StoreError> {
        let mail = new.mail;
        Ok(EntryRow {
            seq: self.next(keys::SEQ)?,
            id,
            kind: EntryKind::Outbound,
            filing: "relayed".into(),
            reason: None,
            ticket: None,
            channel: new.channel.to_string(),
            queue: new.queue.to_owned(),
            received_at: mail.received_at,
            filed_at: new.now,
            mail: Some(mail.position),
            rcpt_to: mail.envelope.rcpt_to.iter().map(ToString::to_string).collect(),
            message_id: new.message_id.map(str::to_owned),
            matched_by: new.matched_by.map(str::to_owned),
            needs_review: false,
            related: None,
            duplicate_of: None,
            also_seen: Vec::new(),
            size: mail.size,
            sha256: mail.sha256.clone(),
            from: new.from.shown(),
            subject: new.subject.to_owned(),
            author: Some(new.meta.author.clone()),
            note: None,
            door: mail.origin.kind.as_str().to_owned(),
            backfill: false,
            trace: new.trace.iter().map(|t| TraceRow { step: t.step.into(), said: t.said.clone() }).collect(),
        })
    }

    /// The mail becomes an entry of its ticket, or opens it, and those whom it goes to take part there. The sender of a
    /// mail that is told what became of it does not: it is a program, or a mailbox for reports.
    fn join_ticket(&mut self, new: &NewOutgoing<'_>, row: &mut EntryRow) -> Result<(), StoreError> {
        let Some(number) = new.ticket else { return Ok(()) };
        let mut ticket = match (self.followed(number)?, &new.opens) {
            (Some(mut ticket), _) => {
                row.filing = "appended".into();
                ticket.entries += 1;
                (ticket.updated_at, ticket.changed) = (new.now, row.seq);
                ticket
            }
            (None, Some(requester)) => {
                row.filing = "opened".into();
                opened(number, row, requester.clone(), new.subject)
            }
            (None, None) => return Ok(()),
        };
        row.ticket = Some(ticket.number);
        let reached =
            new.recipients.iter().filter(|to| to.state != DeliveryState::Filtered && new.meta.report.is_none());
        reached.for_each(|to| add_participant(&mut ticket.participants, &to.address.to_string()));
        self.put(keys::member(ticket.number, row.seq), Vec::new())?;
        self.put_ticket(&mut ticket)
    }

    /// Replies to this mail find it by its Message-ID.
    fn put_message(&mut self, new: &NewOutgoing<'_>, row: &EntryRow) -> Result<(), StoreError> {
        let message = message_key(new.message_id, &new.mail.sha256);
        let original = keys::original(&message, new.channel);
        if row.ticket.is_some() && row.duplicate_of.is_none() && self.get(&original)?.is_none() {
            self.set_number(&original, row.seq)
        } else {
            self.put(keys::mention(&message, row.seq), Vec::new())
        }
    }

    fn put_outgoing(&mut self, new: &NewOutgoing<'_>, entry: &EntryRow) -> Result<(), StoreError> {
        let (mail, meta) = (new.mail, new.meta);
        let cut = |text: &Option<String>| text.as_deref().map(|text| cut::text(text, NAME));
        let mut row = OutboxRow {
            id: entry.id.clone(),
            seq: entry.seq,
            mail: mail.position,
            size: mail.size,
            channel: new.channel.to_string(),
            ticket: entry.ticket,
            class: meta.class,
            sender: mail.envelope.mail_from.as_ref().map(ToString::to_string),
            relay: cut(&meta.relay),
            created_at: mail.received_at,
            due: new.now,
            attempts: 0,
            state: OutboxState::Waiting,
            why: None,
            waits_for: None,
            delayed_told: false,
            attachments: new.attachments,
            smtputf8: meta.smtputf8,
            ret: cut(&meta.ret),
            envid: cut(&meta.envid),
            recipients: 0,
            open: 0,
            braked: 0,
            since: mail.received_at,
            anyway: false,
        };
        let mut owed = Owed::default();
        for (n, to) in new.recipients.iter().enumerate() {
            let recipient = self.new_recipient(new, &row, n as u32, to)?;
            owed.reports.extend(refused(&recipient).and_then(|told| report_of(&row, &recipient, &told, new.now)));
            row.recipients += 1;
            row.open += u32::from(recipient.state.waits());
            row.braked += u32::from(recipient.brake.is_some());
            self.put(keys::recipient(row.seq, recipient.n), json(&recipient)?)?;
        }
        self.put_outbox(&mut row)?;
        self.owe_reports(owed, &[])?;
        self.outgoing.push(row.seq);
        let order = IdempotencyRow { entry: row.id.clone(), fingerprint: meta.fingerprint.clone(), at: new.now };
        for key in &new.orders {
            self.put(keys::order(key), json(&order)?)?;
        }
        if let Some(answered) = meta.answers.as_deref().map(|id| self.entry(id)).transpose()?.flatten() {
            self.delete(keys::acknowledge(answered.seq));
        }
        Ok(())
    }

    fn new_recipient(
        &mut self,
        new: &NewOutgoing<'_>,
        row: &OutboxRow,
        n: u32,
        to: &NewRecipient,
    ) -> Result<RecipientRow, StoreError> {
        let cut = |text: &Option<String>, most| text.as_deref().map(|text| cut::text(text, most));
        let brake = match to.brake {
            Some((scope, limit)) => Some(self.trip(scope, limit, row, n, &to.address, new.now)?),
            None if to.state.waits() => {
                self.count_mail(row.ticket, new.meta, &to.address, new.now)?;
                None
            }
            None => None,
        };
        Ok(RecipientRow {
            n,
            address: to.address.to_string(),
            state: to.state,
            attempts: 0,
            relay: None,
            reply: cut(&to.why, REPLY),
            at: new.now,
            notify: cut(&to.notify, PARAMETER),
            orcpt: cut(&to.orcpt, PARAMETER),
            brake,
            reported: None,
            due: None,
            ahead: Vec::new(),
            unanswered: None,
        })
    }

    /// Writes a row, with the state that its recipients give it, and whether it is done.
    pub(super) fn put_outbox(&mut self, row: &mut OutboxRow) -> Result<(), StoreError> {
        row.state = match row.state {
            OutboxState::Cancelled => OutboxState::Cancelled,
            OutboxState::Held if row.open > 0 || row.braked > 0 => OutboxState::Held,
            _ if row.open > 0 => OutboxState::Waiting,
            _ if row.braked > 0 => OutboxState::Held,
            _ => OutboxState::Done,
        };
        let key = keys::undone(row.seq);
        match row.state {
            OutboxState::Waiting | OutboxState::Held => {
                if self.get(&key)?.is_none() {
                    self.put(key, Vec::new())?;
                }
            }
            OutboxState::Done | OutboxState::Cancelled => self.delete(key),
        }
        self.put(keys::outbox(row.seq), json(row)?)
    }

    pub(super) fn outbox_event(
        &mut self,
        kind: &str,
        row: &OutboxRow,
        author: Option<&str>,
        said: Option<String>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.put_event(&mut EventRow {
            at,
            kind: kind.to_owned(),
            ticket: row.ticket,
            entry: Some(row.id.clone()),
            author: author.map(str::to_owned),
            channel: Some(row.channel.clone()),
            said: said.map(|said| cut::text(&said, cut::SAID)),
            ..EventRow::default()
        })
    }

    /// The outbox row of the entry with this `seq`.
    pub fn outbox_row(&self, seq: u64) -> Result<Option<OutboxRow>, StoreError> {
        self.get(&keys::outbox(seq))?.map(|value| parse(&value)).transpose()
    }

    /// One recipient of a mail.
    pub fn recipient(&self, seq: u64, n: u32) -> Result<Option<RecipientRow>, StoreError> {
        self.get(&keys::recipient(seq, n))?.map(|value| parse(&value)).transpose()
    }

    /// What was handed in under an idempotency key.
    pub fn ordered(&self, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.get(&keys::order(key))?.map(|value| parse(&value)).transpose()
    }

    /// Keeps pages of the quota windows of an account.
    pub fn put_quota(&mut self, account: &str, pages: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        for (page, value) in pages {
            let key = keys::quota(account, &page);
            match value {
                Some(value) => self.put(key, value)?,
                None => self.delete(key),
            }
        }
        Ok(())
    }

    /// Tells the feed of the quota of a channel's account: `quota_near`, `takeover`, `takeover_refused`.
    pub fn quota_event(&mut self, kind: &str, channel: &str, said: &str, at: Timestamp) -> Result<(), StoreError> {
        self.put_event(&mut EventRow {
            at,
            kind: kind.into(),
            channel: Some(channel.to_owned()),
            said: Some(cut::text(said, cut::SAID)),
            ..EventRow::default()
        })
    }
}

/// Of a recipient that a mail is not even tried for: what there is to tell its sender. The filter list is no refusal
/// but the operator's wish, and a brake may be released.
fn refused(recipient: &RecipientRow) -> Option<Told> {
    let status = match recipient.state {
        DeliveryState::Suppressed => "5.7.1",
        DeliveryState::Failed => "5.3.0",
        _ => return None,
    };
    Some(Told::failed(status, recipient.reply.clone().unwrap_or_default()))
}
