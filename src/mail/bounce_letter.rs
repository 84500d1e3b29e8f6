//! Delivery reports that are written for people: what Postfix, qmail, Exim, Exchange and their kin say in plain text.
//!
//! Such a letter is taken for a report only when several signs say so: who writes, what about, in which words, and
//! whether the mail that came back is with it. No sign alone will do: people write of failed mail as well.

use super::automated;
use super::bounce::{self, Recognised};
use super::bounce_fields::{self, status_in};
use super::bounce_people::{addresses, explained};
use super::bounce_phrases as phrases;
use super::content;
use super::fields;
use super::message::{Automatic, Bounce, BounceKind, BounceRecipient, Parsed};

/// How much of a letter is read.
const MAX_LETTER: usize = 64 << 10;

/// Within how many lines with text a letter that comes from no mail system must say what it is.
const OPENING_LINES: usize = 4;

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

/// Reads a letter from a mail system.
pub fn recognise(mail: &Parsed<'_>) -> Recognised {
    read(mail).map_or(Recognised::Unknown, Recognised::Report)
}

/// What the letter of a report for programs says of its recipients.
pub fn said_of_recipients(mail: &Parsed<'_>) -> Vec<BounceRecipient> {
    content::first_text(mail, MAX_LETTER).map_or_else(Vec::new, |text| explained(split_copy(&text).0, &[]))
}

fn read(mail: &Parsed<'_>) -> Option<Bounce> {
    let head = mail.headers();
    let named: Vec<String> = head.values("X-Failed-Recipients").flat_map(|value| addresses(&value)).collect();
    let text = content::first_text(mail, MAX_LETTER).unwrap_or_default();
    let (letter, _) = split_copy(&text);
    let signs = Signs::of(mail, letter, text.len() > letter.len());
    if named.is_empty() && !signs.may_report() {
        return None;
    }
    // Fields for programs may stand in the text, where a mail system or somebody on the way lost the structure.
    let mut recipients: Vec<BounceRecipient> = bounce_fields::groups(&text)
        .iter()
        .filter(|group| is_about_recipient(group))
        .filter_map(bounce_fields::recipient)
        .collect();
    let in_fields = !recipients.is_empty();
    if recipients.is_empty() {
        recipients = explained(letter, &own_addresses(mail));
    }
    if !named.is_empty() {
        let about = |address: &String| {
            recipients.iter().find(|one| one.address.eq_ignore_ascii_case(address)).cloned().unwrap_or_else(|| {
                BounceRecipient { address: address.clone(), status: status_in(letter), ..BounceRecipient::default() }
            })
        };
        recipients = named.iter().map(about).collect();
    }
    if recipients.is_empty() {
        recipients.extend(
            only_recipient_of_copy(mail).map(|address| BounceRecipient { address, ..BounceRecipient::default() }),
        );
    }
    if named.is_empty() && !signs.reports(!recipients.is_empty()) {
        return None;
    }
    if let (false, Some(status)) = (in_fields, status_in(letter)) {
        recipients.iter_mut().filter(|one| one.status.is_none()).for_each(|one| one.status = Some(status.clone()));
    }
    let kind = kind(&recipients, letter);
    let action = if kind == BounceKind::Delayed { "delayed" } else { "failed" };
    recipients.iter_mut().filter(|one| one.action.is_none()).for_each(|one| one.action = Some(action.to_owned()));
    Some(Bounce { kind, recipients, original_message_id: bounce::original_message_id(mail) })
}

/// What says that a mail is such a letter.
struct Signs {
    /// A mail system names itself as who writes.
    daemon: bool,
    /// Nobody is to be told if the letter fails itself, which absence notes say as well.
    null: bool,
    /// Some machine does.
    machine: bool,
    subject: bool,
    /// Its structure is that of a report.
    report: bool,
    /// It says so somewhere.
    words: bool,
    /// It says so at its beginning.
    opening: bool,
    /// The mail that came back is with it.
    copy: bool,
}

impl Signs {
    fn of(mail: &Parsed<'_>, letter: &str, copy_in_text: bool) -> Self {
        let head = mail.headers();
        let absent = automated::is_absence(head);
        let lower = letter.to_lowercase();
        let rule = |line: &&str| line.chars().any(char::is_alphanumeric);
        let opening =
            letter.lines().filter(rule).take(OPENING_LINES).map(str::trim).collect::<Vec<_>>().join(" ").to_lowercase();
        let fails = |text: &str| phrases::FAILED.iter().any(|words| text.contains(words));
        let answers =
            lower.contains("rcpt to:<") || lower.contains("remote host said") || lower.contains("final-recipient:");
        let subject = head.text("Subject").unwrap_or_default().to_lowercase();
        let structure = &mail.parts[0].content_type;
        let returned = |kind: &str| matches!(kind, "message/rfc822" | "text/rfc822-headers" | "message/rfc822-headers");
        Self {
            daemon: from_daemon(mail),
            machine: !absent && automated::judge(head, None) != Automatic::No,
            null: head.values("Return-Path").any(|value| value.trim() == "<>") && !absent,
            subject: phrases::SUBJECTS.iter().any(|words| subject.contains(words)) && !absent,
            report: structure.kind == "multipart/report"
                && matches!(structure.param("report-type"), None | Some("delivery-status")),
            words: answers || fails(&lower),
            opening: fails(&opening) && !is_handed_on(&subject),
            copy: copy_in_text || mail.parts.iter().any(|part| returned(&part.content_type.kind)),
        }
    }

    /// Whether it is worth looking for recipients.
    fn may_report(&self) -> bool {
        self.reports(true)
    }

    fn reports(&self, names_somebody: bool) -> bool {
        let system = self.daemon && (self.subject || self.words);
        let null = self.null && (self.subject || (self.words && names_somebody));
        let report = self.report && (self.subject || self.words);
        // Whoever writes: no person does, and it says at once that a mail failed, and whose.
        let other = self.opening && names_somebody && self.subject && (self.copy || self.machine);
        system || null || report || other
    }
}

fn is_handed_on(subject: &str) -> bool {
    ["fw:", "fwd:", "wg:", "tr:", "rv:", "enc:"].iter().any(|start| subject.starts_with(start))
}

fn is_about_recipient(group: &bounce_fields::Group) -> bool {
    let has = |name: &str| group.iter().any(|(key, value)| key == name && !value.is_empty());
    has("final-recipient") && (has("action") || has("status"))
}

fn kind(recipients: &[BounceRecipient], letter: &str) -> BounceKind {
    // A letter of this kind never tells of a success; what looks like one is some version number.
    bounce::kind(recipients).filter(|kind| *kind != BounceKind::Delivered).unwrap_or_else(|| {
        let letter = letter.to_lowercase();
        let late = DELAYED.iter().any(|words| letter.contains(words));
        if late { BounceKind::Delayed } else { BounceKind::Failed }
    })
}

fn from_daemon(mail: &Parsed<'_>) -> bool {
    let head = mail.headers();
    let fields = ["From", "Sender", "Return-Path"].into_iter().flat_map(|name| head.raw(name));
    fields.flat_map(fields::mailboxes).any(|mailbox| {
        let local = plain_local(&mailbox.address);
        let name = mailbox.name.to_lowercase();
        phrases::SYSTEMS.iter().any(|system| local.starts_with(system))
            || phrases::NAMES.iter().any(|part| name.contains(part))
    })
}

fn plain_local(address: &str) -> String {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    local.to_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | '.' | '"' | ' ')).collect()
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
