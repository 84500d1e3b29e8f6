//! Delivery reports that come home: which mail of ours they are about, and what they say of its recipients (B24).
//!
//! Anybody can write a report. One is believed when it shows what only those know who had the mail: its Message-ID, or
//! the signed token of its ticket. Whatever else it refers to, such as the customer's own mail, proves nothing.

use jiff::Timestamp;

use crate::mail::message::{Bounce, BounceKind, BounceRecipient, SUCCESS};
use crate::mail::status::{blames_address, code_blames_address};
use crate::store::rows::EntryRow;
use crate::store::{Bounced, Step, StoreError};
use crate::ticket::decide::{Filing, MatchedBy};
use crate::ticket::loops::{self, Asked};
use crate::ticket::{Channel, TraceStep};

use crate::mail::{Address, Reason};

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

/// Finds the mail of ours that a report is about; what the report says of mail that it does not prove to know is left
/// alone, and the trace says so.
pub fn homecoming(
    step: &Step<'_>,
    read: &Read,
    filing: &Filing,
    trace: &mut Vec<TraceStep>,
) -> Result<Option<Homecoming>, StoreError> {
    let Some(bounce) = &read.summary.bounce else { return Ok(None) };
    let ticket = match filing {
        Filing::Report { ticket, matched_by: MatchedBy::Token } => Some(*ticket),
        Filing::Report { .. } | Filing::Open { .. } | Filing::Drop { reason: Reason::Probe } => None,
        _ => return Ok(None),
    };
    let reports = reports(bounce, read.spooled.received_at);
    let addresses: Vec<String> = reports.iter().flat_map(|report| report.addresses.clone()).collect();
    let of = step.outbound_of(bounce.original_message_id.as_deref(), ticket, &addresses)?;
    let home = of.map(|of| Homecoming { of, reports });
    trace.push(home.as_ref().map_or_else(unproven, Homecoming::trace));
    Ok(home)
}

fn unproven() -> TraceStep {
    let said = "it names no mail of ours by Message-ID or signed token, so it changes no state";
    TraceStep { step: "report", said: said.into() }
}

fn reports(bounce: &Bounce, came: Timestamp) -> Vec<Bounced> {
    // Providers black out who complained; where the mail had one recipient it was that one.
    let unnamed = [BounceRecipient::default()];
    let complaint = bounce.kind == BounceKind::Complaint && bounce.recipients.is_empty();
    let recipients = if complaint { &unnamed[..] } else { &bounce.recipients };
    recipients.iter().map(|recipient| reported(bounce.kind, recipient, came)).collect()
}

/// What a report says about one recipient.
fn reported(kind: BounceKind, recipient: &BounceRecipient, came: Timestamp) -> Bounced {
    let success = SUCCESS.iter().find(|word| recipient.action.as_deref() == Some(**word)).copied();
    let word = match (kind, recipient.action.as_deref()) {
        (BounceKind::Complaint, _) => "complaint",
        (_, Some("delayed")) | (BounceKind::Delayed, None) => "delayed",
        (BounceKind::Delivered, _) => success.unwrap_or("delivered"),
        _ => success.unwrap_or("failed"),
    };
    let status = recipient.status.clone().unwrap_or_default();
    let diagnostic = recipient.diagnostic.as_deref().unwrap_or("");
    let said = [status.as_str(), diagnostic];
    let said = said.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let hard = word == "failed" && is_hard(&status, diagnostic);
    let said = if said.is_empty() { "without a reason".into() } else { said };
    let addresses = [&recipient.address].into_iter().chain(&recipient.original);
    let addresses = addresses.filter(|address| !address.is_empty()).cloned().collect();
    Bounced { addresses, word, said, hard, at: came }
}

/// Whether the address itself is at fault (RFC 3463 sections 3.2 and 3.3): it is bad, or its mailbox is disabled. A
/// status that says only that it failed leaves the remote server's reply code to tell.
fn is_hard(status: &str, diagnostic: &str) -> bool {
    let code = |said: &str| said.get(..3).and_then(|code| code.parse().ok());
    match status {
        "" | "5.0.0" => code(diagnostic).is_some_and(code_blames_address),
        _ => blames_address(status),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(action: Option<&str>, status: &str, diagnostic: &str) -> BounceRecipient {
        BounceRecipient {
            address: "ann@example.net".into(),
            original: Some("info@example.net".into()),
            status: (!status.is_empty()).then(|| status.into()),
            action: action.map(str::to_owned),
            diagnostic: (!diagnostic.is_empty()).then(|| diagnostic.into()),
        }
    }

    #[test]
    fn every_report_says_what_its_row_says() {
        use BounceKind::{Complaint, Delayed, Delivered, Failed};
        // Kind of the whole report, action, status, diagnostic; the word, and whether the address is at fault.
        let table = [
            (Failed, Some("failed"), "5.1.1", "550 5.1.1 no such user", "failed", true),
            (Failed, Some("failed"), "5.2.1", "", "failed", true),
            (Failed, Some("failed"), "5.1.8", "550 5.1.8 bad outbound sender", "failed", false),
            (Failed, Some("failed"), "5.1.90", "550 5.1.90 daily limit", "failed", false),
            (Failed, Some("failed"), "5.2.2", "552 5.2.2 mailbox full", "failed", false),
            (Failed, Some("failed"), "4.4.1", "no route", "failed", false),
            (Failed, Some("failed"), "5.0.0", "550 no such user", "failed", true),
            (Failed, Some("failed"), "5.0.0", "554 we do not like you", "failed", false),
            (Failed, None, "", "550 no such user", "failed", true),
            (Failed, None, "", "", "failed", false),
            (Failed, Some("delayed"), "4.4.1", "", "delayed", false),
            (Failed, Some("delivered"), "2.0.0", "", "delivered", false),
            (Delayed, None, "4.4.1", "", "delayed", false),
            (Delivered, Some("delivered"), "2.0.0", "250 ok", "delivered", false),
            (Delivered, Some("relayed"), "2.0.0", "", "relayed", false),
            (Delivered, None, "2.0.0", "", "delivered", false),
            (Complaint, None, "", "", "complaint", false),
        ];
        for (kind, action, status, diagnostic, word, hard) in table {
            let said = reported(kind, &recipient(action, status, diagnostic), Timestamp::UNIX_EPOCH);
            assert_eq!((said.word, said.hard), (word, hard), "{kind:?} {action:?} {status} {diagnostic}");
            assert_eq!(said.addresses, ["ann@example.net", "info@example.net"]);
        }
        let nobody = Bounce { kind: Complaint, recipients: Vec::new(), original_message_id: None };
        assert_eq!(
            reports(&nobody, Timestamp::UNIX_EPOCH).len(),
            1,
            "a complaint whose recipient is blacked out is one all the same"
        );
        assert_eq!(reports(&Bounce { kind: Failed, ..nobody }, Timestamp::UNIX_EPOCH).len(), 0);
    }
}
