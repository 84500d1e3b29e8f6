//! Delivery reports that we receive: reports for programs (RFC 3464, RFC 5965) and, below them, letters to people.
//!
//! A table of recognisers is asked in order; each knows one form and says what it found.

use super::attachment;
use super::bounce_letter;
use super::fields;
use super::headers::HeaderSection;
use super::message::{Bounce, BounceKind, BounceRecipient, Parsed, SUCCESS};
use super::structure::Part;

/// The longest report that is read.
const MAX_REPORT: usize = 256 << 10;

/// How many recipients of one report are taken.
const MAX_RECIPIENTS: usize = 500;

/// The longest diagnostic text that is kept, in characters.
const MAX_DIAGNOSTIC: usize = 1000;

/// The forms of reports that are known, the most exact first.
const RECOGNISERS: &[fn(&Parsed<'_>) -> Recognised] = &[feedback_report, delivery_status, bounce_letter::recognise];

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
    let fields: Group = groups(&text).into_iter().flatten().collect();
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
    let recipients: Vec<BounceRecipient> = groups(&text).iter().filter_map(recipient).take(MAX_RECIPIENTS).collect();
    match kind(&recipients) {
        Some(kind) => Recognised::Report(Bounce { kind, recipients, original_message_id: original_message_id(mail) }),
        // A report that names nobody says what it has to say in its text.
        None if recipients.is_empty() => Recognised::Unknown,
        None => Recognised::Nothing,
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

/// The Message-ID of the mail that came back, from its header fields or from the mail itself.
pub fn original_message_id(mail: &Parsed<'_>) -> Option<String> {
    let of = |head: &HeaderSection<'_>| head.raw("Message-ID").find_map(|raw| fields::ids(raw).into_iter().next());
    let inner = mail.parts.iter().filter(|part| part.in_messages == 1).find_map(|part| of(&part.head));
    inner.or_else(|| {
        let kinds = ["text/rfc822-headers", "message/rfc822-headers", "message/rfc822", "message/global-headers"];
        let part = own_part(mail, &kinds)?;
        let bytes = attachment::bytes(part);
        let bytes = bytes.trim_ascii_start();
        HeaderSection::read(bytes, MAX_REPORT).ok().and_then(|head| of(&head))
    })
}

/// Finds an enhanced status code: a class of 2, 4 or 5, a subject and a detail (RFC 3463 section 2).
pub fn status_in(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    text.split(|c: char| !is_part(c)).map(|word| word.trim_matches('.')).find_map(|word| {
        let numbers: Vec<&str> = word.split('.').collect();
        let [class, subject, detail] = numbers.as_slice() else { return None };
        let fits =
            matches!(*class, "2" | "4" | "5") && (1..=3).contains(&subject.len()) && (1..=3).contains(&detail.len());
        fits.then(|| word.to_owned())
    })
}

/// A part of the mail itself, not of a message attached to it.
fn own_part<'m, 'a>(mail: &'m Parsed<'a>, kinds: &[&str]) -> Option<&'m Part<'a>> {
    mail.parts.iter().find(|part| part.in_messages == 0 && kinds.contains(&part.content_type.kind.as_str()))
}

fn report_text(part: &Part<'_>) -> String {
    let bytes = part.encoding.decode(&part.body[..part.body.len().min(MAX_REPORT)]);
    String::from_utf8_lossy(&bytes).into_owned()
}

type Group = Vec<(String, String)>;

/// The groups of fields, which empty lines divide; names in lower case, values unfolded.
fn groups(text: &str) -> Vec<Group> {
    let mut groups = vec![Group::new()];
    for line in text.lines() {
        let Some(group) = groups.last_mut() else { break };
        if line.trim().is_empty() {
            if !group.is_empty() {
                groups.push(Group::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            group.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    groups
}

/// The recipient that a group is about (RFC 3464 section 2.3); the first group is about the whole mail and has none.
fn recipient(group: &Group) -> Option<BounceRecipient> {
    let value = |name: &str| group.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value);
    let named =
        value("final-recipient").or_else(|| value("original-recipient")).or_else(|| value("x-actual-recipient"))?;
    let diagnostic =
        value("diagnostic-code").map(|text| after_type(text).chars().take(MAX_DIAGNOSTIC).collect::<String>());
    let stated = value("status").and_then(|text| status_in(text));
    // A code that says only the class is bettered by what the remote server said.
    let status = match &stated {
        Some(code) if !code.ends_with(".0.0") => stated,
        _ => diagnostic.as_deref().and_then(status_in).or(stated),
    };
    let action = value("action").and_then(|text| text.split([' ', '(', ';']).next()).map(str::to_lowercase);
    let address = address(named);
    let original = value("original-recipient").map(|text| self::address(text));
    let original = original.filter(|original| !original.eq_ignore_ascii_case(&address));
    Some(BounceRecipient { address, original, status, action, diagnostic })
}

/// The address in `rfc822; <a@b>`.
fn address(value: &str) -> String {
    after_type(value).trim_matches(['<', '>', '"', '\'', ' ']).to_owned()
}

/// What follows the type of a typed value, such as `smtp; 550 no`.
fn after_type(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.trim().contains([' ', '@']) => rest.trim(),
        _ => value.trim(),
    }
}
