//! Delivery reports that come home: which mail of ours they are about, and what they say of its recipients (B24).

use crate::mail::message::{Automatic, Bounce, BounceKind, BounceRecipient, Summary};
use crate::store::rows::EntryRow;
use crate::store::{Bounced, Step, StoreError};
use crate::ticket::loops::{self, Asked};
use crate::ticket::{Channel, TraceStep};

use crate::mail::Address;

use super::candidate::Context;
use super::reader::Read;

/// The mail of ours that a report is about, and what it says.
pub struct Homecoming {
    pub of: EntryRow,
    pub reports: Vec<Bounced>,
}

impl Homecoming {
    pub fn trace(&self) -> TraceStep {
        let words: Vec<&str> = self.reports.iter().map(|report| report.word).collect();
        TraceStep { step: "report", said: format!("it reports our mail {}: {}", self.of.id, words.join(", ")) }
    }
}

/// Finds the mail of ours that a report is about.
pub fn homecoming(step: &Step<'_>, summary: &Summary, ticket: Option<u64>) -> Result<Option<Homecoming>, StoreError> {
    let Some(bounce) = summary.bounce.as_ref().filter(|_| is_report(summary.automatic)) else { return Ok(None) };
    let reports = reports(bounce);
    let addresses: Vec<String> = reports.iter().flat_map(|report| report.addresses.clone()).collect();
    let of = step.outbound_of(bounce.original_message_id.as_deref(), ticket, &addresses)?;
    Ok(of.map(|of| Homecoming { of, reports }))
}

fn is_report(automatic: Automatic) -> bool {
    matches!(automatic, Automatic::Bounce | Automatic::Complaint)
}

fn reports(bounce: &Bounce) -> Vec<Bounced> {
    bounce.recipients.iter().filter_map(|recipient| reported(bounce.kind, recipient)).collect()
}

/// What a report says about one recipient; a success is no news.
fn reported(kind: BounceKind, recipient: &BounceRecipient) -> Option<Bounced> {
    let word = match (kind, recipient.action.as_deref()) {
        (BounceKind::Complaint, _) => "complaint",
        (_, Some("delivered" | "relayed" | "expanded")) => return None,
        (_, Some("delayed")) | (BounceKind::Delayed, None) => "delayed",
        _ => "failed",
    };
    let status = recipient.status.clone().unwrap_or_default();
    let said = [status.as_str(), recipient.diagnostic.as_deref().unwrap_or("")];
    let said = said.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let hard = word == "failed" && is_hard(&status);
    let said = if said.is_empty() { "without a reason".into() } else { said };
    Some(Bounced { addresses: vec![recipient.address.clone()], word, said, hard })
}

/// Whether the address itself is at fault (RFC 3463 sections 3.2 and 3.3): it is bad, or its mailbox is disabled.
fn is_hard(status: &str) -> bool {
    status.starts_with("5.1.") || status == "5.2.1"
}

/// Whether the ticket that a mail has opened is owed an acknowledgement; the trace says why not.
pub fn owes_acknowledgement(context: &Context<'_>, read: &Read, channel: &Channel) -> Result<(), Option<TraceStep>> {
    if !channel.acknowledge {
        return Err(None);
    }
    let from = read.summary.from.as_ref().and_then(|from| Address::parse(&from.address).ok());
    let asked = Asked {
        automatic: read.summary.automatic,
        return_path: read.spooled.envelope.mail_from.as_ref(),
        from: from.as_ref(),
        backfill: read.spooled.origin.remote.as_ref().is_some_and(|remote| remote.backfill),
    };
    match loops::no_answer(&asked, context.directory, &context.loops.patterns) {
        None => Ok(()),
        Some(why) => Err(Some(TraceStep { step: "acknowledge", said: format!("no acknowledgement: {why}") })),
    }
}
