//! From a mail that was read to the entries that it becomes: the question to the store, the decision, the entry.

use jiff::Timestamp;

use crate::mail::message::{Mailbox, Summary};
use crate::mail::origin::OriginKind;
use crate::mail::{Address, Reason};
use crate::store::rows::{EntryRow, PersonRow};
use crate::store::{Compared, Delivery, NewEntry, Question, Spooled, Step, StoreError};
use crate::ticket::decide::{Candidate, Decision, Filing, decide, subject_tag};
use crate::ticket::token::TokenKeys;
use crate::ticket::{Directory, TraceStep};

use super::loops::Loops;
use super::outgoing;
use super::probe::{self, Home, Recognised};
use super::reader::Read;
use super::report::{self, Homecoming};

/// The most references that are looked up for one mail.
const MAX_REFERENCES: usize = 50;

/// What every mail of a batch is filed with.
pub struct Context<'a> {
    pub directory: &'a Directory,
    pub keys: &'a TokenKeys,
    pub loops: &'a Loops,
    pub now: Timestamp,
}

/// What was filed.
#[derive(Debug, Default)]
pub struct Filed {
    pub rows: Vec<EntryRow>,
    /// How many recipients of mail that leaves a loop brake holds.
    pub held: u64,
}

/// Files one mail: an entry for each channel that it was accepted for.
pub fn file_mail(step: &mut Step<'_>, context: &Context<'_>, read: &Read, filed: &mut Filed) -> Result<(), StoreError> {
    if let Some(meta) = &read.spooled.outgoing {
        return outgoing::file_outgoing(step, context, read, meta, filed);
    }
    for delivery in &read.spooled.deliveries {
        let (mut decision, probe) = match probe::recognise(step, context, read, delivery)? {
            Some(Recognised { decision, home }) => (decision, home),
            None => (decide_for(step, context, read, delivery)?, None),
        };
        let home = come_home(step, read, &mut decision)?;
        let owed = acknowledgement(context, read, delivery, &mut decision);
        let row = step.file(entry(context, read, delivery, &decision))?;
        if let Some(home) = home {
            step.bounced(home.of.seq, &home.reports, context.loops.suppress, context.now)?;
        }
        if let Some(Home { row, entry, said }) = probe {
            step.probed(row, &entry, &said, context.now)?;
        }
        if owed == Owed::Acknowledgement {
            step.owe_acknowledgement(&row, context.now)?;
        }
        filed.rows.push(row);
    }
    Ok(())
}

/// What is owed to whoever wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Acknowledgement,
    Nothing,
}

/// Looks whether the mail is a report about mail of ours that is new to us.
fn come_home(step: &Step<'_>, read: &Read, decision: &mut Decision) -> Result<Option<Homecoming>, StoreError> {
    // A report of our own tells what the outbox knows already.
    if read.spooled.origin.kind == OriginKind::Api {
        return Ok(None);
    }
    let Decision { filing, trace } = decision;
    report::homecoming(step, read, filing, trace)
}

fn acknowledgement(context: &Context<'_>, read: &Read, delivery: &Delivery, decision: &mut Decision) -> Owed {
    let channel = context.directory.by_address(&delivery.channel.key());
    let (Filing::Open { .. }, Some(channel)) = (&decision.filing, channel) else { return Owed::Nothing };
    match report::owes_acknowledgement(context, read, channel) {
        Ok(()) => Owed::Acknowledgement,
        Err(why) => {
            decision.trace.extend(why);
            Owed::Nothing
        }
    }
}

fn decide_for(
    step: &Step<'_>,
    context: &Context<'_>,
    read: &Read,
    delivery: &Delivery,
) -> Result<Decision, StoreError> {
    let spooled = &read.spooled;
    if let Some(reason) = spooled.refused {
        let said = format!("refused at the door: {}", reason.reply().text);
        return Ok(Decision::outright(Filing::Reject { reason }, "door", said));
    }
    if read.is_damaged() {
        let said = "its bytes on disk are not those that were accepted; look at the disk and run fsck";
        return Ok(Decision::outright(Filing::Quarantine { reason: Reason::Damaged }, "read", said));
    }
    if let Some(reason) = read.fault {
        let said = format!("it could not be read within the limits: {reason}");
        return Ok(Decision::outright(Filing::Quarantine { reason }, "parse", said));
    }
    let summary = &read.summary;
    if context.directory.by_address(&delivery.channel.key()).is_none() {
        let reason = Reason::ChannelGone;
        let said = format!("{} is no longer configured; configure it again and retry", delivery.channel);
        return Ok(Decision::outright(Filing::Quarantine { reason }, "channel", said));
    }
    let references = references(summary);
    let token = token_ticket(context.keys, summary, delivery, &references);
    let question = Question {
        channel: &delivery.channel,
        message_id: summary.message_id.as_deref(),
        content_key: &spooled.sha256,
        compared: Some(Compared {
            door: spooled.origin.kind.as_str(),
            outline: read.outline.as_ref(),
            body: &spooled.body,
        }),
        references: &references,
        token_ticket: token,
        tag_ticket: subject_tag(&summary.subject),
    };
    let facts = step.facts(&question)?;
    let from = sender(summary);
    let decision = decide(&candidate(context, read, &from), &facts);
    Ok(with_recipient_step(decision, spooled, delivery))
}

fn candidate<'a>(context: &Context<'_>, read: &'a Read, from: &'a str) -> Candidate<'a> {
    let (summary, spooled) = (&read.summary, &read.spooled);
    Candidate {
        from,
        own_mail: summary.message_id.as_deref().and_then(|id| context.keys.verify(id)),
        door: spooled.origin.kind.as_str(),
        has_message_id: summary.message_id.is_some(),
        is_report: summary.bounce.is_some(),
        auth_review: spooled.review,
    }
}

/// The address in the From field in lower case, as participants are kept.
fn sender(summary: &Summary) -> String {
    summary.from.as_ref().map_or_else(String::new, |from| from.address.to_lowercase())
}

/// The Message-IDs that a mail refers to, the nearest first: what it replies to, then its ancestors from the last
/// to the first (RFC 5322 section 3.6.4), and for a report the mail that it is about.
pub(super) fn references(summary: &Summary) -> Vec<String> {
    let bounced = summary.bounce.as_ref().and_then(|bounce| bounce.original_message_id.as_ref());
    let mut found: Vec<String> = Vec::new();
    for id in bounced.into_iter().chain(&summary.in_reply_to).chain(summary.references.iter().rev()) {
        if !found.contains(id) {
            found.push(id.clone());
        }
        if found.len() == MAX_REFERENCES {
            break;
        }
    }
    found
}

/// The ticket that a valid token names: in the envelope, in an address field, in what the mail refers to.
fn token_ticket(keys: &TokenKeys, summary: &Summary, delivery: &Delivery, references: &[String]) -> Option<u64> {
    let envelope = delivery.rcpt_to.iter().find_map(|address| keys.verify_address(address));
    let fields = || {
        let people = summary.to.iter().chain(&summary.cc);
        people.filter_map(|who| Address::parse(&who.address).ok()).find_map(|address| keys.verify_address(&address))
    };
    envelope.or_else(fields).or_else(|| references.iter().find_map(|id| keys.verify(id)))
}

/// Puts in front how the channel was found: by the envelope, or by a header field of mail to an intake address.
fn with_recipient_step(mut decision: Decision, spooled: &Spooled, delivery: &Delivery) -> Decision {
    let named = delivery.rcpt_to.first().map_or_else(String::new, Address::to_string);
    let by_envelope = delivery.rcpt_to.iter().any(|address| spooled.envelope.rcpt_to.contains(address));
    let said = if by_envelope {
        format!("the envelope names {named}, which is {}", delivery.channel)
    } else {
        format!("sent to an intake address; a header field names {named}, which is {}", delivery.channel)
    };
    decision.trace.insert(0, TraceStep { step: "recipient", said });
    decision
}

fn entry<'a>(context: &Context<'a>, read: &'a Read, delivery: &'a Delivery, decision: &'a Decision) -> NewEntry<'a> {
    let summary = &read.summary;
    let queue = context.directory.by_address(&delivery.channel.key()).map_or("", |channel| channel.queue.as_str());
    let from = summary.from.as_ref().map(person).unwrap_or_default();
    NewEntry {
        mail: &read.spooled,
        delivery,
        queue,
        decision,
        message_id: summary.message_id.as_deref(),
        content_key: &read.spooled.sha256,
        outline: read.outline.as_ref(),
        subject: &summary.subject,
        requester: from.clone(),
        from,
        others: others(context.directory, summary),
        now: context.now,
    }
}

pub(super) fn person(mailbox: &Mailbox) -> PersonRow {
    PersonRow { name: mailbox.name.clone(), address: mailbox.address.clone() }
}

/// Who takes part beside the requester: CC and Reply-To, but never a channel of ours.
fn others(directory: &Directory, summary: &Summary) -> Vec<String> {
    let ours = |text: &str| Address::parse(text).is_ok_and(|address| directory.channel_for(&address).is_some());
    let people = summary.cc.iter().chain(&summary.reply_to);
    people.map(|who| who.address.to_lowercase()).filter(|address| !address.is_empty() && !ours(address)).collect()
}
