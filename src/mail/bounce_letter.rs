//! Delivery reports that are written for people: what Postfix, qmail, Exim, Exchange and their kin say in plain text.
//!
//! Such a letter is taken for a report only when it comes from a mail system and speaks of a delivery.

use super::bounce::{self, Recognised, status_in};
use super::content;
use super::fields;
use super::message::{Bounce, BounceKind, BounceRecipient, Parsed};

/// How much of a letter is read.
const MAX_LETTER: usize = 64 << 10;

/// How many lines after an address may explain it.
const EXPLAINING_LINES: usize = 8;

/// Local parts that mail systems write under, in lower case and without hyphens, dots and underscores.
const SYSTEMS: &[&str] = &["mailerdaemon", "postmaster", "maildaemon", "mailadmin", "mailsystem", "mdaemon", "mmdf"];

/// What subjects of such letters hold, in lower case.
const SUBJECTS: &[&str] = &[
    "undeliver",
    "undelivered",
    "returned mail",
    "return to sender",
    "failure notice",
    "delivery failure",
    "delivery fail",
    "delivery has failed",
    "delivery error",
    "delivery problem",
    "delivery status",
    "delivery notification",
    "delivery report",
    "delivery delayed",
    "non-delivery",
    "nondeliverable",
    "not delivered",
    "could not be delivered",
    "couldn't be delivered",
    "mail delivery",
    "mail system error",
    "mail failure",
    "failed mail",
    "failed to deliver",
    "message delayed",
    "warning: could not send",
    "warning: message",
    "returning message to sender",
    "undelivrable",
    "mail could not",
    "message status",
    "user unknown",
    "unzustellbar",
    "nicht zugestellt",
    "non remis",
    "no se puede entregar",
    "não entregue",
    "non recapitabile",
    "onbestelbaar",
    "notification d'état",
    "recapito",
];

/// Lines that begin the copy of the mail that came back, in lower case.
const COPY_BEGINS: &[&str] = &[
    "--- below this line is a copy",
    "------ this is a copy",
    "--- original message",
    "----- original message",
    "the header of the original",
    "----- message header follows",
    "--- the message",
    "----- unsent message",
    "received: from",
    "received: by",
    "return-path:",
    "original message follows",
    "---- transcript of session ends",
    "--- attachment is a copy",
    "------- returned",
    "--- header",
    "message-id:",
];

/// Words that say that delivery is still tried, in lower case.
const DELAYED: &[&str] = &[
    "will continue to try",
    "will be retried",
    "delivery is delayed",
    "still being retried",
    "still trying",
    "warning message only",
    "you do not need to resend",
    "has been delayed",
    "delivery temporarily suspended",
    "no action is required on your part",
    "keep trying",
    "not yet been delivered",
    "has not been delivered to",
];

/// Reads a letter from a mail system.
pub fn recognise(mail: &Parsed<'_>) -> Recognised {
    read(mail).map_or(Recognised::Unknown, Recognised::Report)
}

fn read(mail: &Parsed<'_>) -> Option<Bounce> {
    let head = mail.headers();
    let named: Vec<String> = head.values("X-Failed-Recipients").flat_map(|value| addresses(&value)).collect();
    if named.is_empty() && !(from_system(mail) && speaks_of_delivery(mail)) {
        return None;
    }
    let text = content::first_text(mail, MAX_LETTER)?;
    let (letter, copy) = split_copy(&text);
    let mut recipients = explained(letter, &own_addresses(mail));
    if !named.is_empty() {
        let about = |address: &String| {
            recipients.iter().find(|one| one.address.eq_ignore_ascii_case(address)).cloned().unwrap_or_else(|| {
                BounceRecipient { address: address.clone(), status: status_in(letter), ..BounceRecipient::default() }
            })
        };
        recipients = named.iter().map(about).collect();
    }
    let kind = kind(&recipients, letter);
    let action = if kind == BounceKind::Delayed { "delayed" } else { "failed" };
    for recipient in &mut recipients {
        recipient.action = Some(action.to_owned());
    }
    let original_message_id = bounce::original_message_id(mail).or_else(|| message_id_in(copy));
    Some(Bounce { kind, recipients, original_message_id })
}

fn kind(recipients: &[BounceRecipient], letter: &str) -> BounceKind {
    // A letter of this kind never tells of a success; what looks like one is some version number.
    bounce::kind(recipients).filter(|kind| *kind != BounceKind::Delivered).unwrap_or_else(|| {
        let letter = letter.to_lowercase();
        let late = DELAYED.iter().any(|words| letter.contains(words));
        if late { BounceKind::Delayed } else { BounceKind::Failed }
    })
}

fn from_system(mail: &Parsed<'_>) -> bool {
    let head = mail.headers();
    let from = head.raw("From").chain(head.raw("Sender")).flat_map(fields::mailboxes);
    let null = head.values("Return-Path").any(|value| value.trim() == "<>");
    null || from
        .map(|mailbox| plain_local(&mailbox.address))
        .any(|local| SYSTEMS.iter().any(|name| local.starts_with(name)))
}

fn plain_local(address: &str) -> String {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    local.to_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | '.')).collect()
}

fn speaks_of_delivery(mail: &Parsed<'_>) -> bool {
    let subject = mail.headers().text("Subject").unwrap_or_default().to_lowercase();
    let report = &mail.parts[0].content_type;
    SUBJECTS.iter().any(|words| subject.contains(words))
        || (report.kind == "multipart/report" && report.param("report-type") == Some("delivery-status"))
}

fn own_addresses(mail: &Parsed<'_>) -> Vec<String> {
    let fields = ["From", "To", "Sender", "Return-Path"].into_iter();
    let raw = fields.flat_map(|name| mail.headers().raw(name));
    raw.flat_map(fields::mailboxes).map(|mailbox| mailbox.address.to_lowercase()).collect()
}

/// Divides the letter from the copy of the mail that came back.
fn split_copy(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.trim().to_lowercase();
        if COPY_BEGINS.iter().any(|begin| lower.starts_with(begin)) {
            break;
        }
        at += line.len();
    }
    text.split_at(at)
}

/// Every address in the letter that is not of the letter's own head, with what the lines after it say.
fn explained(letter: &str, own: &[String]) -> Vec<BounceRecipient> {
    let lines: Vec<&str> = letter.lines().collect();
    let mut found: Vec<BounceRecipient> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        for address in addresses(line) {
            let known = |one: &BounceRecipient| one.address.eq_ignore_ascii_case(&address);
            if own.contains(&address.to_lowercase()) || found.iter().any(known) {
                continue;
            }
            let after = &lines[index..lines.len().min(index + EXPLAINING_LINES)];
            // The explanation ends where the next address begins one of its own.
            let more = after.iter().skip(1).take_while(|line| !line.trim_start().starts_with('<'));
            let said: Vec<&str> = std::iter::once(*line).chain(more.copied()).map(str::trim).collect();
            let said = said.join(" ").trim().to_owned();
            let (status, diagnostic) = (status_in(&said), Some(said));
            found.push(BounceRecipient { address, status, diagnostic, ..BounceRecipient::default() });
        }
    }
    if let Some(status) = status_in(letter) {
        for recipient in found.iter_mut().filter(|recipient| recipient.status.is_none()) {
            recipient.status = Some(status.clone());
        }
    }
    found
}

/// Every address in a line.
fn addresses(line: &str) -> Vec<String> {
    let divides =
        |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | '"' | '\'' | ':');
    line.split(divides)
        .map(|word| word.trim_matches(['.', '`', '*', '!', '?']).trim_start_matches("mailto:"))
        .filter(|word| super::Address::parse(word).is_ok_and(|address| address.domain().contains('.')))
        .map(str::to_owned)
        .collect()
}

fn message_id_in(copy: &str) -> Option<String> {
    let mut lines = copy.lines().skip_while(|line| !line.trim().to_lowercase().starts_with("message-id:"));
    let (_, value) = lines.next()?.split_once(':')?;
    let value = if value.trim().is_empty() { lines.next()? } else { value };
    fields::ids(value.as_bytes()).into_iter().next()
}
