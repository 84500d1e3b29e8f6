//! What stays the same of a mail on every way that it may take, so that it is recognised without its Message-ID.
//!
//! Servers on the way add header fields, change line ends and transfer encodings, choose boundaries anew, drop space
//! at line ends; forwarders and lists add a banner or a footer, tag the subject, write themselves into From. The
//! `whole` of a fingerprint survives the first kind of change; `compare` tells the second kind from another mail.

use sha2::{Digest, Sha256};

use super::attachment::{self, Role};
use super::fields;
use super::html;
use super::message::{Parsed, Summary};
use super::structure::Part;
use super::text::{self, TransferEncoding};

/// The most lines of text that are kept one by one; what is beyond is one number.
const MAX_LINES: usize = 1000;
/// The most attachments that are kept one by one.
const MAX_OTHERS: usize = 32;
/// The most people that are kept.
const MAX_PEOPLE: usize = 8;
/// HTML without a text beside it is turned into text up to here.
const MAX_HTML: usize = 64 << 10;
/// The most lines that a banner and a footer together add.
const MOST_ADDED: usize = 40;

/// The fingerprint of a mail. It says nothing of the mail but to somebody who has the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Over author, recipients, date, subject and everything in the body.
    pub whole: [u8; 16],
    /// When the mail says that it was written, in seconds; without a date a whole proves little.
    pub date: Option<i64>,
    from: u64,
    subject: u64,
    /// The author, and whom replies go to: where lists put the author that they replace.
    people: Vec<u64>,
    /// The lines of the text, those that are empty left out.
    lines: Vec<u32>,
    /// Stands for the lines beyond the limit; 0 where there are none.
    beyond: u64,
    /// The attachments.
    others: Vec<u64>,
}

/// What a fingerprint shows at a glance, of a mail that says when it was written: author, recipients, date and subject.
/// Mails with the same whole have the same outline; what is in the body is asked only of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline(pub [u8; 16]);

impl Outline {
    /// `None` without a date: machines write the same words again and again.
    pub fn of(summary: &Summary) -> Option<Self> {
        summary.date?;
        let mut digest = Sha256::new();
        feed_summary(&mut digest, summary);
        let mut outline = [0; 16];
        outline.copy_from_slice(&digest.finalize()[..16]);
        Some(Self(outline))
    }
}

/// How one mail compares to another of the same Message-ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Nothing that counts differs.
    Same,
    /// It is the same mail, to which a forwarder or a list has added something.
    Changed(&'static str),
    /// It is another mail.
    Other(&'static str),
}

impl Fingerprint {
    /// The fingerprint of a mail whose summary was read.
    pub fn of(mail: &Parsed<'_>, summary: &Summary) -> Self {
        let mut whole = Sha256::new();
        feed_summary(&mut whole, summary);
        let (from, subject) = (number(author(summary).as_bytes()), number(subject(summary).as_bytes()));
        let mut print = Self { date: summary.date.map(|date| date.as_second()), from, subject, ..Self::default() };
        print.add_people(mail, summary);
        let has_plain = (0..mail.parts.len()).any(|index| {
            attachment::role(mail, index) == Role::Plain && !mail.parts[index].body.trim_ascii().is_empty()
        });
        for (index, part) in mail.parts.iter().enumerate() {
            if part.in_messages > 0 {
                // The header section of an attached message is a part of the content.
                ["Message-ID", "Subject"].iter().flat_map(|name| part.head.raw(name)).for_each(|value| {
                    feed(&mut whole, value.trim_ascii());
                });
            }
            if !part.has_parts {
                print.add_part(part, attachment::role(mail, index), has_plain, &mut whole);
            }
        }
        print.others.sort_unstable();
        print.others.dedup();
        if print.others.len() > MAX_OTHERS {
            let rest = print.others.split_off(MAX_OTHERS - 1);
            print.others.push(rest.into_iter().fold(0, |sum, one| sum.rotate_left(5) ^ one));
        }
        print.whole.copy_from_slice(&whole.finalize()[..16]);
        print
    }

    /// Of a mail that cannot be taken apart: like one with the same bytes, and like no other.
    pub fn of_bytes(raw: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(raw).into();
        let mut print = Self { from: u64::from_le_bytes(first_eight(&digest)), ..Self::default() };
        print.whole.copy_from_slice(&digest[..16]);
        print
    }

    fn add_people(&mut self, mail: &Parsed<'_>, summary: &Summary) {
        let original = mail.headers().raw("X-Original-From").flat_map(fields::mailboxes);
        let named = summary.from.iter().chain(&summary.reply_to).map(|who| who.address.to_lowercase());
        for address in named.chain(original.map(|who| who.address.to_lowercase())).filter(|a| !a.is_empty()) {
            let person = number(address.as_bytes());
            if self.people.len() < MAX_PEOPLE && !self.people.contains(&person) {
                self.people.push(person);
            }
        }
    }

    fn add_part(&mut self, part: &Part<'_>, role: Role, has_plain: bool, whole: &mut Sha256) {
        let bytes = part.encoding.decode(part.body);
        // What was sent as it is may have other line ends on another way, whatever it is.
        let by_lines = role != Role::Attached || part.encoding == TransferEncoding::Identity;
        let digest = if by_lines { digest_lines(&bytes) } else { Some(Sha256::digest(&bytes).into()) };
        let Some(digest) = digest else { return };
        feed(whole, &digest);
        match role {
            Role::Plain => self.add_lines(&bytes),
            Role::Html if !has_plain => {
                let (shown, rest) = bytes.split_at(bytes.len().min(MAX_HTML));
                let shown = html::to_text(&text::decode(shown, part.content_type.param("charset")));
                self.add_lines(shown.as_bytes());
                if !rest.is_empty() {
                    self.beyond = mix(self.beyond, rest);
                }
            }
            // What stands beside a text says the same once more.
            Role::Html => {}
            Role::Attached | Role::Hidden => self.others.push(u64::from_le_bytes(first_eight(&digest))),
        }
    }

    fn add_lines(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let line = unquoted_from(line.trim_ascii());
            if line.is_empty() {
                continue;
            }
            if self.lines.len() < MAX_LINES {
                let hash = mix(0, line);
                self.lines.push((hash ^ hash >> 32) as u32);
            } else {
                self.beyond = mix(self.beyond, line);
            }
        }
    }

    /// Compares this mail to an earlier one that has the same Message-ID. An error on the side of "other" costs a
    /// second ticket, one on the side of "same" a mail; so whatever a person may have written makes it another.
    pub fn compare(&self, earlier: &Self) -> Likeness {
        if self.whole == earlier.whole {
            return Likeness::Same;
        }
        let same_content =
            self.lines == earlier.lines && self.beyond == earlier.beyond && self.others == earlier.others;
        let same_date = self.date.zip(earlier.date).is_none_or(|(mine, theirs)| mine == theirs);
        if self.from == earlier.from && same_content && (same_date || self.subject == earlier.subject) {
            return Likeness::Same;
        }
        if self.from != earlier.from && !self.people.contains(&earlier.from) && !earlier.people.contains(&self.from) {
            return Likeness::Other("another author");
        }
        // Nobody on the way changes the date, and who writes something new has a new one.
        if !same_date {
            return Likeness::Other("another date, and not the same subject and content");
        }
        if self.others.iter().any(|other| !earlier.others.contains(other)) {
            return Likeness::Other("another attachment");
        }
        if same_content {
            return Likeness::Changed("a list stands in for its author");
        }
        if self.only_adds(earlier) || earlier.only_adds(self) {
            Likeness::Changed("a banner, a footer or a part was added or taken away")
        } else {
            Likeness::Other("another text")
        }
    }

    /// Whether this text is the other one with something before or behind it.
    fn only_adds(&self, other: &Self) -> bool {
        let added = self.lines.len().saturating_sub(other.lines.len());
        let whole = self.beyond == 0 && other.beyond == 0 && added <= MOST_ADDED;
        if other.lines.is_empty() {
            return whole && self.others == other.others && !other.others.is_empty();
        }
        (self.lines == other.lines && self.beyond == other.beyond)
            || whole && self.lines.windows(other.lines.len()).any(|run| run == other.lines)
    }
}

/// The digest of a body whose line ends, trailing space and empty lines at both ends do not count; `None` for nothing.
fn digest_lines(bytes: &[u8]) -> Option<[u8; 32]> {
    let bytes = bytes.trim_ascii_end();
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let mut digest = Sha256::new();
    let mut gathered = Vec::with_capacity(bytes.len() - start);
    for line in bytes[start..].split(|byte| *byte == b'\n') {
        gathered.extend_from_slice(unquoted_from(line.trim_ascii_end()));
        gathered.push(b'\n');
    }
    digest.update(&gathered);
    Some(digest.finalize().into())
}

/// Mailboxes in files quote lines that begin like a mail of theirs.
fn unquoted_from(line: &[u8]) -> &[u8] {
    if line.starts_with(b">From ") { &line[1..] } else { line }
}

fn author(summary: &Summary) -> String {
    summary.from.as_ref().map_or_else(String::new, |from| from.address.to_lowercase())
}

fn subject(summary: &Summary) -> String {
    summary.subject.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands in an outline, with which a whole begins.
fn feed_summary(digest: &mut Sha256, summary: &Summary) {
    let people = summary.to.iter().chain(&summary.cc);
    let mut recipients: Vec<String> = people.map(|who| who.address.to_lowercase()).collect();
    recipients.sort_unstable();
    recipients.dedup();
    feed(digest, author(summary).as_bytes());
    feed(digest, recipients.join(",").as_bytes());
    feed(digest, &summary.date.map_or(i64::MIN, |date| date.as_second()).to_le_bytes());
    feed(digest, subject(summary).as_bytes());
}

fn feed(digest: &mut Sha256, field: &[u8]) {
    digest.update((field.len() as u64).to_le_bytes());
    digest.update(field);
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(first_eight(&Sha256::digest(bytes).into()))
}

fn first_eight(digest: &[u8; 32]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    first
}

/// FNV-1a, which is fast on short lines; whoever makes two lines collide on purpose hides only mail of their own.
fn mix(seed: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;
