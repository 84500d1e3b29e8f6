//! Whether a mail is one that its channel has already.
//!
//! Pure. A mail is lost when it is taken for another one, and costs a second ticket when it is not recognised, so what
//! is in doubt is a mail of its own. The rows of the table in the tests are the specification.

use crate::mail::Reason;
use crate::mail::fingerprint::{Fingerprint, Likeness};

/// What the question is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The word of the door that it came by.
    pub door: &'a str,
    pub has_message_id: bool,
    /// `None` where there is no earlier mail that it would be compared to.
    pub print: Option<&'a Fingerprint>,
}

/// What an earlier mail has in common with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    MessageId,
    /// The same bytes; neither has a Message-ID.
    Bytes,
    /// The same whole fingerprint.
    Fingerprint,
}

/// An earlier mail of the same channel that became part of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMail {
    pub seq: u64,
    pub ticket: Option<u64>,
    pub tie: Tie,
    pub has_message_id: bool,
    /// The words of all doors that it was seen at.
    pub doors: Vec<String>,
    /// `None` for an entry of an older version.
    pub print: Option<Fingerprint>,
}

/// What a mail is to those that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    /// It is the mail of an earlier entry.
    Same {
        of: u64,
        reason: Reason,
        said: String,
    },
    /// It carries the Message-ID of an earlier mail and is another one.
    Reused {
        ticket: Option<u64>,
        said: String,
    },
}

/// Judges a mail by the earlier ones that have something in common with it.
pub fn judge(mail: Seen<'_>, known: &[KnownMail]) -> Verdict {
    let mut reused = None;
    for earlier in known.iter().filter(|earlier| earlier.tie == Tie::MessageId) {
        let of = earlier.seq;
        let likeness = mail.print.zip(earlier.print.as_ref()).map(|(mine, theirs)| mine.compare(theirs));
        let said = match likeness {
            None | Some(Likeness::Same) => format!("entry {of} of this channel has the same Message-ID"),
            Some(Likeness::Changed(how)) => format!("entry {of} of this channel has the same Message-ID; {how}"),
            Some(Likeness::Other(why)) => {
                let said = format!("entry {of} has the same Message-ID, but is another mail: {why}");
                reused.get_or_insert(Verdict::Reused { ticket: earlier.ticket, said });
                continue;
            }
        };
        return Verdict::Same { of, reason: Reason::DuplicateMessageId, said };
    }
    if let Some(KnownMail { seq: of, .. }) = known.iter().find(|earlier| earlier.tie == Tie::Bytes) {
        let said = format!("entry {of} of this channel has the same bytes, and no Message-ID either");
        return Verdict::Same { of: *of, reason: Reason::DuplicateContent, said };
    }
    match known.iter().find(|earlier| earlier.tie == Tie::Fingerprint && same_print(mail, earlier)) {
        Some(KnownMail { seq: of, .. }) => {
            let same = "author, recipients, date, subject and content are the same";
            let said = format!("entry {of} of this channel has another Message-ID or none; {same}");
            Verdict::Same { of: *of, reason: Reason::DuplicateFingerprint, said }
        }
        None => reused.unwrap_or(Verdict::New),
    }
}

/// Whether the same fingerprint means the same mail. Without a date it proves nothing: machines write the same words
/// again and again. Two Message-IDs are two mails, unless they came by different doors, where one of the ways may have
/// written its own; each entry can be the other half of one mail of a door only.
fn same_print(mail: Seen<'_>, earlier: &KnownMail) -> bool {
    mail.print.is_some_and(|print| print.date.is_some()) && may_be_same(mail, earlier)
}

/// The same without a look at the fingerprints.
pub fn may_be_same(mail: Seen<'_>, earlier: &KnownMail) -> bool {
    let no_ids = !mail.has_message_id && !earlier.has_message_id;
    no_ids || !earlier.doors.iter().any(|door| door == mail.door)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::message::{Limits, parse};

    fn print(from: &str, date: &str, body: &str) -> Fingerprint {
        let raw = format!("From: {from}\r\nSubject: x\r\n{date}\r\n\r\n{body}\r\n");
        let parsed = parse(raw.as_bytes(), &Limits::default()).unwrap();
        Fingerprint::of(&parsed, &parsed.summary())
    }

    #[test]
    fn every_row_is_judged_as_it_says() {
        use Tie::{Bytes, Fingerprint as Print, MessageId};
        let dated = print("ann@x", "Date: Sun, 22 Nov 2026 10:00:00 +0000", "It burns.");
        let undated = print("ann@x", "X: y", "It burns.");
        let footer = print("ann@x", "Date: Sun, 22 Nov 2026 10:00:00 +0000", "It burns.\r\n-- \r\nlist");
        let eve = print("eve@x", "Date: Sun, 22 Nov 2026 10:00:00 +0000", "It burns.");
        let known = |tie, id: bool, doors: &[&str], print: Option<&Fingerprint>| KnownMail {
            seq: 7,
            ticket: Some(3),
            tie,
            has_message_id: id,
            doors: doors.iter().map(|door| (*door).to_owned()).collect(),
            print: print.cloned(),
        };
        // What is asked about: door, has a Message-ID, fingerprint; what is known; the verdict.
        let table = [
            ("nothing known", ("smtp", true, &dated), vec![], "new"),
            (
                "same id",
                ("smtp", true, &dated),
                vec![known(MessageId, true, &["smtp"], Some(&dated))],
                "duplicate_message_id",
            ),
            (
                "same id, other door",
                ("imap", true, &dated),
                vec![known(MessageId, true, &["smtp"], Some(&dated))],
                "duplicate_message_id",
            ),
            (
                "same id, a footer",
                ("imap", true, &footer),
                vec![known(MessageId, true, &["smtp"], Some(&dated))],
                "duplicate_message_id",
            ),
            (
                "same id, another author",
                ("smtp", true, &eve),
                vec![known(MessageId, true, &["smtp"], Some(&dated))],
                "reused",
            ),
            (
                "same id, an old entry",
                ("smtp", true, &eve),
                vec![known(MessageId, true, &[""], None)],
                "duplicate_message_id",
            ),
            (
                "same id as one and the content of another of that id",
                ("smtp", true, &eve),
                vec![known(MessageId, true, &["smtp"], Some(&dated)), known(MessageId, true, &["smtp"], Some(&eve))],
                "duplicate_message_id",
            ),
            (
                "no id, same bytes",
                ("smtp", false, &undated),
                vec![known(Bytes, false, &["smtp"], Some(&undated))],
                "duplicate_content",
            ),
            (
                "no ids, same print and date",
                ("smtp", false, &dated),
                vec![known(Print, false, &["smtp"], Some(&dated))],
                "duplicate_fingerprint",
            ),
            (
                "no ids, same print, no date",
                ("smtp", false, &undated),
                vec![known(Print, false, &["smtp"], Some(&undated))],
                "new",
            ),
            ("two ids, one door", ("smtp", true, &dated), vec![known(Print, true, &["smtp"], Some(&dated))], "new"),
            (
                "two ids, two doors",
                ("imap", true, &dated),
                vec![known(Print, true, &["smtp"], Some(&dated))],
                "duplicate_fingerprint",
            ),
            (
                "two ids, seen at both doors",
                ("imap", true, &dated),
                vec![known(Print, true, &["smtp", "imap"], Some(&dated))],
                "new",
            ),
            (
                "two ids, two doors, no date",
                ("imap", true, &undated),
                vec![known(Print, true, &["smtp"], Some(&undated))],
                "new",
            ),
            (
                "an id was added on the way",
                ("imap", true, &dated),
                vec![known(Print, false, &["smtp"], Some(&dated))],
                "duplicate_fingerprint",
            ),
            (
                "an id was lost, at one door",
                ("smtp", false, &dated),
                vec![known(Print, true, &["smtp"], Some(&dated))],
                "new",
            ),
            (
                "the id of one mail and the content of another from the other door",
                ("imap", true, &eve),
                vec![known(MessageId, true, &["smtp"], Some(&dated)), known(Print, true, &["smtp"], Some(&eve))],
                "duplicate_fingerprint",
            ),
        ];
        for (name, (door, has_message_id, print), known, want) in table {
            let got = match judge(Seen { door, has_message_id, print: Some(print) }, &known) {
                Verdict::New => "new",
                Verdict::Same { of: 7, reason, .. } => reason.code(),
                Verdict::Reused { ticket: Some(3), .. } => "reused",
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(got, want, "{name}");
        }
    }
}
