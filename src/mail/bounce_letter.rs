//! Delivery reports that are written for people: what Postfix, qmail, Exim, Exchange and their kin say in plain text.
//!
//! Such a letter is taken for a report only when several signs say so: who writes, what about, in which words, and
//! whether the mail that came back is with it. No sign alone will do: people write of failed mail as well.

use super::bounce::{self, Recognised};
use super::bounce_fields::{self, MAX_RECIPIENTS, status_in};
use super::bounce_people::{addresses, explained};
use super::bounce_signs::{HeadSigns, Signs};
use super::content;
use super::fields;
use super::message::{Bounce, BounceKind, BounceRecipient, Parsed};

/// How much of a letter is read.
const MAX_LETTER: usize = 64 << 10;

/// Lines that begin the copy of the mail that came back.
const COPY_BEGINS: &[&str] = &[
    "--- below this line is a copy",
    "---below this line is a copy",
    "------ this is a copy",
    "--- original message",
    "----- original message",
    "the header of the original",
    "----- message header",
    "--- the message",
    "----- unsent message",
    "--------unsent message",
    "original message follows",
    "original message headers",
    "the original message follows",
    "original mail as follows",
    "---- transcript of session ends",
    "--- attachment is a copy",
    "------- returned",
    "-------- returned",
    "--------returned",
    "--- header",
    "--- the header",
    "-- the header and top",
    "|------------------------- message text",
    "----- returned message",
    "---------- returned",
    "--- undelivered message",
    "message header follows",
    "message headers follow",
    "header of original",
    "unsent message follows",
    "unsent message below",
    "--- your message",
    "--- 原",
];

/// Lines that begin it as fields do, at their very start.
const COPY_FIELDS: &[&str] =
    &["received: from", "received: by", "received: (", "return-path:", "message-id:", "x-originating-ip:"];

/// Words that say that delivery is still tried.
const DELAYED: &[&str] = &[
    "will continue to try",
    "will be retried",
    "will keep trying",
    "delivery is delayed",
    "still being retried",
    "still trying",
    "warning message only",
    "this is a warning only",
    "you do not need to resend",
    "has been delayed",
    "is delayed",
    "delivery temporarily suspended",
    "no action is required on your part",
    "keep trying",
    "not yet been delivered",
    "not yet delivered",
    "has not been delivered to",
    "will try again",
    "attempts will continue",
    "will be attempted",
    "wird weiterhin versucht",
    "noch nicht zugestellt",
    "pas encore",
    "se seguirá intentando",
];

/// Words that say that it no longer is, in lower case.
const GIVEN_UP: &[&str] = &[
    "not going to try again",
    "given up",
    "giving up",
    "gave up",
    "in the queue too long",
    "permanent error",
    "failed permanently",
    "permanent fatal",
    "no further attempts",
    "will be deleted from queue",
    "retry timeout exceeded",
    "retry time not reached for any host after a long failure",
    "was aborted after",
];

/// Reads a letter from a mail system.
pub fn recognise(mail: &Parsed<'_>) -> Recognised {
    read(mail).map_or(Recognised::Unknown, Recognised::Report)
}

/// What the letter of a report for programs says of its recipients.
pub fn said_of_recipients(mail: &Parsed<'_>) -> Vec<BounceRecipient> {
    content::first_text(mail, MAX_LETTER).map_or_else(Vec::new, |text| explained(split_copy(&text).0, &[]))
}

fn read(mail: &Parsed<'_>) -> Option<Bounce> {
    let named: Vec<String> =
        mail.headers().values("X-Failed-Recipients").flat_map(|value| addresses(&value)).take(MAX_RECIPIENTS).collect();
    let head = HeadSigns::of(mail);
    // Most mail is none, which its header fields show without a look at its text.
    if named.is_empty() && !head.any() {
        return None;
    }
    let text = content::first_text(mail, MAX_LETTER).unwrap_or_default();
    let (letter, copy) = split_copy(&text);
    let signs = Signs::of(head, mail, letter, !copy.is_empty());
    if named.is_empty() && !signs.report(true) {
        return None;
    }
    let recipients = recipients(mail, &text, letter, &named);
    if named.is_empty() && !signs.report(!recipients.is_empty()) {
        return None;
    }
    let kind = kind(&recipients, letter);
    let action = if kind == BounceKind::Delayed { "delayed" } else { "failed" };
    let with_action = |one: BounceRecipient| BounceRecipient { action: one.action.or(Some(action.to_owned())), ..one };
    let recipients = recipients.into_iter().map(with_action).collect();
    Some(Bounce { kind, recipients, original_message_id: bounce::original_message_id(mail) })
}

/// Whom the letter is about: fields for programs in the text say so best, where a mail system or somebody on the way lost
/// the structure, then the header of the letter, then what it says.
fn recipients(mail: &Parsed<'_>, text: &str, letter: &str, named: &[String]) -> Vec<BounceRecipient> {
    let groups = bounce_fields::groups(text);
    let in_fields = groups.iter().filter(|group| is_about_recipient(group)).filter_map(bounce_fields::recipient);
    let mut recipients: Vec<BounceRecipient> = in_fields.take(MAX_RECIPIENTS).collect();
    if !recipients.is_empty() && named.is_empty() {
        return recipients;
    }
    if recipients.is_empty() {
        recipients = explained(letter, &own_addresses(mail));
    }
    if !named.is_empty() {
        let known = |address: &String| recipients.iter().find(|one| one.address.eq_ignore_ascii_case(address)).cloned();
        let about = |address: &String| known(address).unwrap_or_else(|| only_named(address.clone()));
        recipients = named.iter().map(about).collect();
    }
    if recipients.is_empty() {
        recipients.extend(only_recipient_of_copy(mail).map(only_named));
    }
    let status = status_in(letter);
    recipients.iter_mut().filter(|one| one.status.is_none()).for_each(|one| one.status.clone_from(&status));
    recipients
}

fn only_named(address: String) -> BounceRecipient {
    BounceRecipient { address, ..BounceRecipient::default() }
}

fn is_about_recipient(group: &bounce_fields::Group) -> bool {
    let has = |name: &str| group.iter().any(|(key, value)| key == name && !value.is_empty());
    has("final-recipient") && (has("action") || has("status"))
}

/// What became of the mail. The code of one that was given up is still that of what was tried last, such as 4.4.1.
fn kind(recipients: &[BounceRecipient], letter: &str) -> BounceKind {
    let letter = letter.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| letter.contains(words));
    let late = says(DELAYED);
    let in_words = recipients.iter().all(|one| one.action.is_none());
    if in_words && !late && says(GIVEN_UP) {
        return BounceKind::Failed;
    }
    // A letter of this kind never tells of a success; what looks like one is some version number.
    let coded = bounce::kind(recipients).filter(|kind| *kind != BounceKind::Delivered);
    coded.unwrap_or(if late { BounceKind::Delayed } else { BounceKind::Failed })
}

fn own_addresses(mail: &Parsed<'_>) -> Vec<String> {
    let fields = ["From", "To", "Sender", "Return-Path"].into_iter();
    let raw = fields.flat_map(|name| mail.headers().raw(name));
    raw.flat_map(fields::mailboxes).map(|mailbox| mailbox.address.to_lowercase()).collect()
}

/// Whom the mail that came back was for: the server that had it last may say so (RFC 5321 section 4.4), otherwise it has
/// one recipient only.
fn only_recipient_of_copy(mail: &Parsed<'_>) -> Option<String> {
    let copy = mail.parts.iter().find(|part| part.in_messages == 1)?;
    let received = copy.head.values("Received").next();
    let last =
        received.and_then(|trace| trace.split_once(" for ").and_then(|(_, rest)| addresses(rest).into_iter().next()));
    last.or_else(|| {
        let mut people = ["To", "Cc"].into_iter().flat_map(|name| copy.head.addresses(name));
        let only = people.next()?;
        people.next().is_none().then(|| only.to_string())
    })
}

/// Divides the letter from the copy of the mail that came back.
fn split_copy(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.trim().to_lowercase();
        let field =
            line.starts_with(|c: char| !c.is_whitespace()) && COPY_FIELDS.iter().any(|begin| lower.starts_with(begin));
        if field || COPY_BEGINS.iter().any(|begin| lower.starts_with(begin)) {
            break;
        }
        at += line.len();
    }
    text.split_at(at)
}
