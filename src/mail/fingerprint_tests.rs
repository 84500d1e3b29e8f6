//! What a mail is recognised through, and what makes it another one: a table of the same mail on its ways.

use super::super::message::{Limits, parse};
use super::*;

fn both(raw: &str) -> (Fingerprint, Option<Outline>) {
    let raw = raw.replace('\n', "\r\n");
    let parsed = parse(raw.as_bytes(), &Limits::default()).unwrap();
    (Fingerprint::of(&parsed, &parsed.summary()), Outline::of(&parsed.summary()))
}

fn print(raw: &str) -> Fingerprint {
    both(raw).0
}

const HEAD: &str = "From: Ann <Ann@Example.org>\nTo: Support <support@a.example>, bob@b.example\n\
    Subject: Printer\n is on fire\nDate: Sun, 22 Nov 2026 10:00:00 +0000\nMessage-ID: <1@x>\n";
const BODY: &str = "\nIt burns.\n\nGreetings,\nAnn  \n";

fn plain(head: &str, body: &str) -> String {
    format!("{head}{body}")
}

fn mixed(boundary: &str, encoding: &str, text: &str, file: &str) -> String {
    format!(
        "{HEAD}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary={boundary}\n\n--{boundary}\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n{text}\n--{boundary}\n\
         Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n{file}\n--{boundary}--\n"
    )
}

#[test]
fn transport_changes_nothing() {
    let one = print(&plain(HEAD, BODY));
    let table = [
        ("added header fields", plain(&format!("Received: from a\nDKIM-Signature: x\n{HEAD}X-Spam: no\n"), BODY)),
        ("another Message-ID", plain(&HEAD.replace("<1@x>", "<2@y>"), BODY)),
        ("space at line ends and empty lines", plain(HEAD, "\nIt burns.  \n\nGreetings,\nAnn\n\n\n")),
        (
            "quoted-printable",
            plain(&format!("{HEAD}Content-Transfer-Encoding: quoted-printable\n"), &BODY.replace("burns", "b=75rns")),
        ),
        (
            "base64",
            plain(&format!("{HEAD}Content-Transfer-Encoding: base64\n"), "\nSXQgYnVybnMuCgpHcmVldGluZ3MsCkFubgo=\n"),
        ),
        (
            "another order of recipients, folded anew",
            plain(
                &HEAD
                    .replace("Support <support@a.example>, bob@b.example", "bob@b.example,\n support@A.example")
                    .replace("Printer\n is", "Printer is"),
                BODY,
            ),
        ),
        ("a zone of the same instant", plain(&HEAD.replace("10:00:00 +0000", "11:00:00 +0100"), BODY)),
    ];
    for (name, raw) in table {
        assert_eq!(print(&raw).whole, one.whole, "{name}");
        assert_eq!(both(&raw).1, both(&plain(HEAD, BODY)).1, "{name}");
    }
    let lf = plain(HEAD, BODY);
    let parsed = parse(lf.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(Fingerprint::of(&parsed, &parsed.summary()), one);
    let a = print(&mixed("b1", "8bit", "Grüße", "JVBERi0xLjQK"));
    assert_eq!(a.whole, print(&mixed("other", "quoted-printable", "Gr=C3=BC=C3=9Fe", "JVBE\nRi0xLjQK")).whole);
    assert_ne!(a.whole, print(&mixed("b1", "8bit", "Grüße", "JVBERi0xLjUK")).whole);
    for (from, to) in [("Ann@", "Eve@"), ("10:00:00", "10:00:01"), ("Printer", "Scanner"), ("bob@", "carl@")] {
        let other = both(&plain(&HEAD.replace(from, to), BODY));
        assert_ne!(other.0.whole, one.whole, "{from}");
        assert_ne!(other.1, both(&plain(HEAD, BODY)).1, "{from}");
    }
}

#[test]
fn a_mail_that_cannot_be_taken_apart_is_like_no_other() {
    let (one, other) = (Fingerprint::of_bytes(b"one"), Fingerprint::of_bytes(b"two"));
    assert_eq!(one.compare(&Fingerprint::of_bytes(b"one")), Likeness::Same);
    for other in [other, print(&plain(HEAD, BODY))] {
        let another = Likeness::Other("another author");
        assert_eq!((one.compare(&other), other.compare(&one)), (another, another));
    }
    assert_eq!(both("From: a@x\nSubject: x\n\nno date\n").1, None);
}

#[test]
fn the_same_message_id_is_the_same_mail_or_another() {
    use Likeness::{Changed, Other, Same};
    let footer = format!("{BODY}--\nlist mailing list\nhttps://list.example/\n");
    let banner = format!("\nCAUTION: from outside\n{}", &BODY[1..]);
    let via = HEAD.replace("Ann <Ann@Example.org>", "Ann via List <list@l.example>");
    let later = HEAD.replace("10:00:00", "10:05:00");
    let added = Changed("a banner, a footer or a part was added or taken away");
    let table = [
        ("the same", plain(HEAD, BODY), Same),
        ("a tag in the subject", plain(&HEAD.replace("Printer", "[EXT] Printer"), BODY), Same),
        ("sent again, with a new date", plain(&later, BODY), Same),
        (
            "the same text about something else, later",
            plain(&later.replace("Printer", "Scanner"), BODY),
            Other("another date, and not the same subject and content"),
        ),
        ("a footer", plain(HEAD, &footer), added),
        ("a banner", plain(HEAD, &banner), added),
        ("a list that names the author", plain(&format!("{via}Reply-To: ann@example.org\n"), &footer), added),
        (
            "the same without a footer",
            plain(&format!("{via}Reply-To: ann@example.org\n"), BODY),
            Changed("a list stands in for its author"),
        ),
        ("another author", plain(&HEAD.replace("Ann@", "Eve@"), BODY), Other("another author")),
        ("a list that does not say for whom", plain(&via, BODY), Other("another author")),
        ("another text", plain(HEAD, "\nIt floats.\n\nGreetings,\nAnn\n"), Other("another text")),
        ("a line in the middle", plain(HEAD, "\nIt burns.\nHelp!\n\nGreetings,\nAnn\n"), Other("another text")),
        (
            "an answer above its quote, which is written later",
            plain(&later, &banner),
            Other("another date, and not the same subject and content"),
        ),
        ("a long addition", plain(HEAD, &format!("{BODY}{}", "more\n".repeat(50))), Other("another text")),
        ("a file came with it", mixed("b", "7bit", &BODY[1..], "JVBERi0xLjQK"), Other("another attachment")),
    ];
    let one = print(&plain(HEAD, BODY));
    for (name, raw, want) in table {
        assert_eq!(print(&raw).compare(&one), want, "{name}");
    }
    // A file that was taken out by somebody is no loss where the first copy has it; the other way round it is.
    let (full, bare) = (print(&mixed("b", "7bit", "Look.", "JVBERi0xLjQK")), print(&plain(HEAD, "\nLook.\n")));
    assert_eq!((bare.compare(&full), full.compare(&bare)), (added, Other("another attachment")));
    // HTML counts by its text where it stands alone, and not at all beside a text.
    let html = |text: &str| print(&plain(&format!("{HEAD}Content-Type: text/html\n"), &format!("\n<p>{text}</p>\n")));
    assert_eq!(html("<b>It</b> burns.").compare(&html("It burns.")), Same);
    assert_eq!(html("It floats.").compare(&html("It burns.")), Other("another text"));
}

#[test]
fn what_stands_beyond_the_lines_that_are_kept_counts_as_one() {
    let long = format!("\n{}", (0..5000).map(|n| format!("line {n}\n")).collect::<String>());
    let other_end = print(&plain(HEAD, &format!("{long}more\n")));
    assert_eq!(other_end.compare(&print(&plain(HEAD, &long))), Likeness::Other("another text"));
}
