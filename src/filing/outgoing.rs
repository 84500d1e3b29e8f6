//! From a mail that leaves to its entry: the ticket that it belongs to, and for each recipient whether it may go.
//!
//! Must not know: relays, quotas, when anything is sent. Its bytes are never looked into but for its header fields.

use crate::mail::message::Summary;
use crate::mail::origin::OriginKind;
use crate::mail::{Address, Class};
use crate::store::rows::{DeliveryState, PersonRow};
use crate::store::{NewOutgoing, NewRecipient, OutgoingMeta, OutgoingRecipient, Question, Spooled, Step, StoreError};
use crate::ticket::TraceStep;
use crate::ticket::loops;

use super::candidate::{Context, Filed, person, references};
use super::probe;
use super::reader::Read;

/// The step of the trace that says why nothing is sent to a recipient.
const LOOPS: &str = "loops";

/// Files one mail that leaves.
pub fn file_outgoing(
    step: &mut Step<'_>,
    context: &Context<'_>,
    read: &Read,
    meta: &OutgoingMeta,
    filed: &mut Filed,
) -> Result<(), StoreError> {
    let (spooled, summary) = (&read.spooled, &read.summary);
    let Some(delivery) = spooled.deliveries.first() else { return Ok(()) };
    let channel = &delivery.channel;
    let mut trace = Vec::new();
    let found = find_ticket(step, context, read, meta, channel, &mut trace)?;
    let orders = orders(spooled, summary, meta);
    let repeats = repeated(step, &orders, &mut trace)?;
    let ticket = found.map(|(ticket, _)| ticket);
    let recipients: Vec<NewRecipient> = if repeats.is_some() {
        Vec::new()
    } else {
        let judge = Judge { step, context, read, meta, ticket };
        meta.recipients.iter().map(|to| judge.recipient(to, &mut trace)).collect::<Result<_, _>>()?
    };
    filed.held += recipients.iter().filter(|to| to.brake.is_some()).count() as u64;
    let row = step.file_outgoing(&NewOutgoing {
        mail: spooled,
        meta,
        channel,
        queue: context.directory.by_address(&channel.key()).map_or("", |channel| channel.queue.as_str()),
        message_id: summary.message_id.as_deref(),
        subject: &summary.subject,
        from: summary.from.as_ref().map(person).unwrap_or_default(),
        ticket,
        matched_by: found.and_then(|(_, matched_by)| matched_by),
        opens: meta.opens.then(|| requester(summary, meta)),
        recipients,
        attachments: read.look.attachments,
        orders,
        repeats,
        trace,
        now: context.now,
    })?;
    probe::leaves(step, context, read, &row)?;
    filed.rows.push(row);
    Ok(())
}

/// Whose ticket a mail opens: that of whoever it is to, first of all.
fn requester(summary: &Summary, meta: &OutgoingMeta) -> PersonRow {
    let named = summary.to.first().map(person);
    named.unwrap_or_else(|| PersonRow {
        name: String::new(),
        address: meta.recipients.first().map(|to| to.address.to_string()).unwrap_or_default(),
    })
}

/// The ticket that a mail belongs to, and the word for how it was found. The order is that of certainty.
fn find_ticket(
    step: &Step<'_>,
    context: &Context<'_>,
    read: &Read,
    meta: &OutgoingMeta,
    channel: &Address,
    trace: &mut Vec<TraceStep>,
) -> Result<Option<(u64, Option<&'static str>)>, StoreError> {
    let mut note = |said: String| trace.push(TraceStep { step: "thread", said });
    let named = || {
        let field = read.look.ticket_field.as_deref()?.trim().trim_start_matches('#');
        field.parse().ok().or_else(|| context.keys.verify(field))
    };
    if let Some(number) = meta.ticket.or_else(named) {
        if step.ticket(number)?.is_some() {
            note(format!("whoever sends it names ticket {number}"));
            return Ok(Some((number, None)));
        }
        if meta.opens {
            note(format!("it opens ticket {number}"));
            return Ok(Some((number, None)));
        }
        note(format!("whoever sends it names ticket {number}, which does not exist"));
    }
    let references = references(&read.summary);
    let question = Question {
        channel,
        message_id: None,
        content_key: &read.spooled.sha256,
        compared: None,
        references: &references,
        token_ticket: token_ticket(context, read, &references),
        tag_ticket: None,
    };
    let facts = step.facts(&question)?;
    if let Some(ticket) = facts.token {
        note(format!("a signed token names ticket {}", ticket.number));
        return Ok(Some((ticket.number, Some("token"))));
    }
    if let Some(ticket) = facts.references.first() {
        note(format!("it refers to mail of ticket {}", ticket.number));
        return Ok(Some((ticket.number, Some("reference"))));
    }
    note("nothing ties it to a ticket".into());
    Ok(None)
}

/// The ticket that a token names: in its own Message-ID, in the return path, in Reply-To or From, in what it answers.
fn token_ticket(context: &Context<'_>, read: &Read, references: &[String]) -> Option<u64> {
    let summary = &read.summary;
    let own = summary.message_id.iter().chain(references).find_map(|id| context.keys.verify(id));
    let envelope = || read.spooled.envelope.mail_from.as_ref().and_then(|from| context.keys.verify_address(from));
    let fields = || {
        let people = summary.reply_to.iter().chain(&summary.from);
        people.filter_map(|who| Address::parse(&who.address).ok()).find_map(|who| context.keys.verify_address(&who))
    };
    own.or_else(envelope).or_else(fields)
}

/// The keys under which this mail must not be taken twice: the one that it was ordered under; for an acknowledgement
/// what it answers; for the submission of a program that did not hear our 250 the Message-ID with the recipients and what was
/// written: there are programs that give all of their mails one Message-ID.
fn orders(spooled: &Spooled, summary: &Summary, meta: &OutgoingMeta) -> Vec<String> {
    let mut orders: Vec<String> = meta.key.iter().cloned().collect();
    if let Some(answered) = &meta.answers {
        orders.push(format!("answers {answered}"));
    }
    if let (OriginKind::Submission, Some(id)) = (spooled.origin.kind, &summary.message_id) {
        let mut to: Vec<String> = meta.recipients.iter().map(|to| to.address.key()).collect();
        to.sort_unstable();
        let written = meta.fingerprint.as_ref().unwrap_or(&spooled.sha256);
        orders.push(format!("submission <{id}> {written} {}", to.join(" ")));
    }
    orders
}

fn repeated(step: &Step<'_>, orders: &[String], trace: &mut Vec<TraceStep>) -> Result<Option<String>, StoreError> {
    for key in orders {
        if let Some(row) = step.ordered(key)? {
            let said = format!("it was handed in before, as {}: nothing is sent", row.entry);
            trace.push(TraceStep { step: "duplicate", said });
            return Ok(Some(row.entry));
        }
    }
    Ok(None)
}

/// What decides about the recipients of a mail.
struct Judge<'a, 'b> {
    step: &'a Step<'b>,
    context: &'a Context<'a>,
    read: &'a Read,
    meta: &'a OutgoingMeta,
    ticket: Option<u64>,
}

impl Judge<'_, '_> {
    fn recipient(&self, to: &OutgoingRecipient, trace: &mut Vec<TraceStep>) -> Result<NewRecipient, StoreError> {
        let mut new = NewRecipient {
            address: to.address.clone(),
            notify: to.notify.clone(),
            orcpt: to.orcpt.clone(),
            state: DeliveryState::Queued,
            why: None,
            brake: None,
        };
        if let Some((state, why)) = self.refusal(&to.address)? {
            (new.state, new.why) = (state, Some(why));
        } else {
            for (scope, counted) in self.step.counted(self.ticket, self.meta, &to.address)? {
                if let Some(limit) = self.context.loops.brakes.tripped(scope, &counted, self.context.now) {
                    let why = format!("a loop brake holds it: {}", loops::over(limit));
                    (new.state, new.why) = (DeliveryState::Held, Some(why));
                    new.brake = Some((scope, limit));
                    break;
                }
            }
        }
        if let Some(why) = &new.why {
            let said = format!("{}: {}, {why}", to.address, new.state.as_str());
            trace.push(TraceStep { step: LOOPS, said });
        }
        Ok(new)
    }

    /// Whether it is a probe of ours on its way to the channel that it leaves from: nothing else may go to an address of
    /// ours, since it would go in a circle.
    fn comes_home(&self, address: &Address) -> bool {
        let from = self.read.spooled.deliveries.first().map(|delivery| &delivery.channel);
        let home = self.context.directory.channel_for(address).map(|channel| &channel.address);
        home.is_some() && home == from && probe::is_own(self.context.keys, &self.read.spooled, &self.read.summary)
    }

    /// Why nothing is sent to an address, whoever sends it.
    fn refusal(&self, address: &Address) -> Result<Option<(DeliveryState, String)>, StoreError> {
        if self.read.is_damaged() {
            let said = "its bytes on disk are not those that were accepted";
            return Ok(Some((DeliveryState::Failed, said.into())));
        }
        let filtered = loops::filtered(address, self.context.directory, &self.context.loops.patterns);
        if let Some(why) = filtered.filter(|_| !self.comes_home(address)) {
            return Ok(Some((DeliveryState::Filtered, why)));
        }
        let answered = self.meta.answers.as_deref().map(|id| self.step.entry(id)).transpose()?.flatten();
        if self.meta.class == Class::Automatic && answered.is_some_and(|row| row.backfill) {
            let said = "it would answer mail from before the mailbox was connected";
            return Ok(Some((DeliveryState::Filtered, said.into())));
        }
        if let Some(answered) = &self.read.look.answers_machine {
            let said = format!("a machine wrote it, and it answers a machine's mail, {answered}");
            return Ok(Some((DeliveryState::Filtered, said)));
        }
        let suppressed = self.step.suppressed(address)?;
        Ok(suppressed.map(|row| (DeliveryState::Suppressed, format!("the address is suppressed: {}", row.why))))
    }
}
