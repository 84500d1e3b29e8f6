//! Delivery reports that we receive: reports for programs (RFC 3464, RFC 5965) and, below them, letters to people.
//!
//! A table of recognisers is asked in order; each knows one form and says what it found.

use super::attachment;
use super::bounce_fields::{self, Group, MAX_RECIPIENTS, address, is_address, nearest};
use super::bounce_letter;
use super::bounce_notice;
use super::fields;
use super::headers::HeaderSection;
use super::message::{Bounce, BounceKind, BounceRecipient, Parsed, SUCCESS};
use super::structure::Part;

/// The longest report that is read.
const MAX_REPORT: usize = 256 << 10;

/// In how many parts of a report a Message-ID is looked for.
const MAX_TEXTS: usize = 10;

/// The forms of reports that are known, the most exact first.
const RECOGNISERS: &[fn(&Parsed<'_>) -> Recognised] =
    &[feedback_report, delivery_status, bounce_notice::recognise, bounce_letter::recognise];

/// What a recogniser says of a mail.
pub enum Recognised {
    /// It has not the form that this one knows.
    Unknown,
    /// It is a report, but says nothing of a delivery.
    Nothing,
    Report(Bounce),
}

/// What a mail reports, if it is a delivery report.
pub fn recognise(mail: &Parsed<'_>) -> Option<Bounce> {
    let said = RECOGNISERS.iter().map(|recogniser| recogniser(mail));
    match said.into_iter().find(|said| !matches!(said, Recognised::Unknown)) {
        Some(Recognised::Report(bounce)) => Some(bounce),
        _ => None,
    }
}

/// Feedback that is no complaint: somebody takes one back (RFC 6430), or mail in our name that was not authenticated,
/// which others may have sent (RFC 6591).
const NO_COMPLAINT: &[&str] = &["not-spam", "auth-failure", "dmarc"];

/// A complaint in the Abuse Reporting Format (RFC 5965).
fn feedback_report(mail: &Parsed<'_>) -> Recognised {
    let Some(part) = own_part(mail, &["message/feedback-report"]) else { return Recognised::Unknown };
    let text = report_text(part);
    let fields: Group = bounce_fields::groups(&text).into_iter().flatten().collect();
    let mut kinds = fields.iter().filter(|(name, _)| name == "feedback-type");
    if kinds.any(|(_, kind)| NO_COMPLAINT.contains(&kind.to_lowercase().as_str())) {
        return Recognised::Nothing;
    }
    let mut recipients: Vec<BounceRecipient> = Vec::new();
    for (name, value) in fields {
        let address = address(&value);
        let named = matches!(name.as_str(), "original-rcpt-to" | "removal-recipient");
        // Both fields may name the same recipient.
        let known = recipients.iter().any(|one| one.address.eq_ignore_ascii_case(&address));
        if named && !known && recipients.len() < MAX_RECIPIENTS {
            recipients.push(BounceRecipient { address, ..BounceRecipient::default() });
        }
    }
    Recognised::Report(Bounce {
        kind: BounceKind::Complaint,
        recipients,
        original_message_id: original_message_id(mail),
    })
}

/// A delivery status notification (RFC 3464).
fn delivery_status(mail: &Parsed<'_>) -> Recognised {
    let Some(part) = own_part(mail, &["message/delivery-status", "message/global-delivery-status"]) else {
        return Recognised::Unknown;
    };
    let text = report_text(part);
    let groups = bounce_fields::groups(&text);
    let mut recipients: Vec<BounceRecipient> =
        groups.iter().filter_map(bounce_fields::recipient).take(MAX_RECIPIENTS).collect();
    complete(&mut recipients, mail);
    match kind(&recipients) {
        Some(kind) => Recognised::Report(Bounce { kind, recipients, original_message_id: original_message_id(mail) }),
        // A report that names nobody says what it has to say in its text.
        None if recipients.is_empty() => Recognised::Unknown,
        None => Recognised::Nothing,
    }
}

/// Adds what stands elsewhere: the address that failed, where the fields name a program, and what the letter says of a
/// recipient, where the fields say only that it failed.
fn complete(recipients: &mut [BounceRecipient], mail: &Parsed<'_>) {
    let named: Vec<String> = mail.headers().addresses("X-Failed-Recipients").iter().map(ToString::to_string).collect();
    if let [named] = named.as_slice() {
        for one in recipients.iter_mut().filter(|one| !is_address(&one.address)) {
            one.address.clone_from(named);
        }
    }
    let silent = |one: &BounceRecipient| {
        one.diagnostic.is_none() && one.status.as_ref().is_none_or(|status| status.ends_with(".0.0"))
    };
    if !recipients.iter().any(silent) {
        return;
    }
    let letter = bounce_letter::said_of_recipients(mail);
    for one in recipients.iter_mut().filter(|one| silent(one)) {
        let Some(said) = letter.iter().find(|said| said.address.eq_ignore_ascii_case(&one.address)) else { continue };
        one.status = nearest(one.status.take(), said.status.clone(), one.action.as_deref());
        one.diagnostic.clone_from(&said.diagnostic);
    }
}

/// What the recipients' actions and codes say together, the worst first; `None` when they say nothing.
pub fn kind(recipients: &[BounceRecipient]) -> Option<BounceKind> {
    let says = |word: &str, class: char| {
        recipients.iter().any(|one| match &one.action {
            Some(action) => action == word,
            None => one.status.as_ref().is_some_and(|status| status.starts_with(class)),
        })
    };
    if says("failed", '5') {
        Some(BounceKind::Failed)
    } else if says("delayed", '4') {
        Some(BounceKind::Delayed)
    } else if SUCCESS.iter().any(|word| says(word, '2')) {
        Some(BounceKind::Delivered)
    } else {
        None
    }
}

/// The Message-ID of the mail that came back: from that mail, from its header fields wherever they stand, or from what
/// the report says that it answers.
pub fn original_message_id(mail: &Parsed<'_>) -> Option<String> {
    let of = |head: &HeaderSection<'_>| head.raw("Message-ID").find_map(|raw| fields::ids(raw).into_iter().next());
    let inner = mail.parts.iter().filter(|part| part.in_messages == 1).find_map(|part| of(&part.head));
    let returned = || {
        let kinds = ["text/rfc822-headers", "message/rfc822-headers", "message/rfc822", "message/global-headers"];
        let part = own_part(mail, &kinds)?;
        let bytes = attachment::bytes(part);
        let bytes = bytes.trim_ascii_start();
        HeaderSection::read(bytes, MAX_REPORT).ok().and_then(|head| of(&head))
    };
    let answered = || {
        let named = ["In-Reply-To", "References"].into_iter().flat_map(|name| mail.headers().raw(name));
        named.flat_map(fields::ids).last()
    };
    inner.or_else(returned).or_else(|| message_id_in_texts(mail)).or_else(answered)
}

/// The Message-ID that a line of the report's texts names: header fields are often quoted there, and a mail that came back
/// behind a broken boundary is a text as well.
fn message_id_in_texts(mail: &Parsed<'_>) -> Option<String> {
    let parts = mail.parts.iter().filter(|part| !part.is_multipart() || !part.has_parts).take(MAX_TEXTS);
    let texts = parts.map(report_text);
    texts
        .filter_map(|text| {
            let mut lines = text.lines().skip_while(|line| !names_message_id(line));
            let (_, value) = lines.next()?.split_once(':')?;
            let value = if value.trim().is_empty() { lines.next()? } else { value };
            fields::ids(value.as_bytes()).into_iter().next()
        })
        .next()
}

fn names_message_id(line: &str) -> bool {
    line.trim_start().get(..11).is_some_and(|name| name.eq_ignore_ascii_case("message-id:"))
}

/// A part of the mail itself, not of a message attached to it.
fn own_part<'m, 'a>(mail: &'m Parsed<'a>, kinds: &[&str]) -> Option<&'m Part<'a>> {
    mail.parts.iter().find(|part| part.in_messages == 0 && kinds.contains(&part.content_type.kind.as_str()))
}

fn report_text(part: &Part<'_>) -> String {
    let bytes = part.encoding.decode(&part.body[..part.body.len().min(MAX_REPORT)]);
    String::from_utf8_lossy(&bytes).into_owned()
}
