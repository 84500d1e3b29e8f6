//! Whatever an answer is made of, the mail has the header fields that we write and no other, and reads back.
//!
//! The input is divided at NUL: a byte of choices, the subject, a name, a file, its type, the value of a header field, an
//! identifier, the text, a signature, what is quoted, and the bytes of the file.

use jiff::Timestamp;
use ticketgate::mail::compose::{self, Body, Correspondent, Draft, Enclosure, Identity, Quote, Words};
use ticketgate::mail::message::{Limits, Mailbox, parse};
use ticketgate::mail::{Address, HeaderSection};

/// What begins the boundaries.
const BOUNDARY: &str = "7d1c0a";

/// The fields that the mail may have, each once.
const FIELDS: &[&str] = &[
    "date",
    "from",
    "to",
    "subject",
    "message-id",
    "in-reply-to",
    "references",
    "x-trace",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parts: Vec<&str> = text.splitn(11, '\0').collect();
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    let choice = |bit: u8| part(0).bytes().next().unwrap_or_default() & bit != 0;
    // It is new with each mail, and no text knows it.
    if text.contains(BOUNDARY) {
        return;
    }
    let words = part(7).to_owned();
    let file = |content_id: Option<String>| Enclosure {
        name: part(3).to_owned(),
        content_type: part(4).to_owned(),
        bytes: part(10).as_bytes().to_vec(),
        content_id,
    };
    let draft = Draft {
        words: Words { body: if choice(1) { Body::Markdown(words) } else { Body::Text(words) }, html: None },
        to: vec![Correspondent { name: part(2).to_owned(), address: address("customer@b.example") }],
        cc: Vec::new(),
        subject: part(1).to_owned(),
        attachments: if choice(2) { vec![file(choice(4).then(|| part(6).to_owned()))] } else { Vec::new() },
        in_reply_to: Some(part(6).to_owned()),
        references: part(6).split(' ').map(str::to_owned).collect(),
        signature: choice(8).then(|| part(8).to_owned()),
        quote: choice(16).then(|| Quote {
            from: Mailbox { name: part(2).to_owned(), address: part(6).to_owned() },
            at: Some(Timestamp::UNIX_EPOCH),
            text: part(9).to_owned(),
        }),
    };
    let identity = Identity {
        from: Correspondent { name: part(2).to_owned(), address: address("support@shop.example") },
        reply_to: None,
        message_id: "1@shop.example".to_owned(),
        date: Timestamp::UNIX_EPOCH,
        boundary: BOUNDARY.to_owned(),
        fields: vec![("X-Trace".to_owned(), part(5).to_owned())],
    };
    if let Ok(composed) = compose::compose(&draft, &identity) {
        assert!(!composed.smtputf8);
        reads_back(&draft, &composed.bytes);
    }
}

fn reads_back(draft: &Draft, bytes: &[u8]) {
    assert!(bytes.is_ascii() && bytes.ends_with(b"\r\n"));
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= 998 && !line.contains(&b'\r') && !line.contains(&0), "{line:?}");
    }
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), line_ends(bytes), "a line feed by itself");
    let head = HeaderSection::read(bytes, bytes.len()).expect("a header section");
    let mut names: Vec<String> = head.fields().iter().map(|field| field.name.to_ascii_lowercase()).collect();
    assert!(names.iter().all(|name| FIELDS.contains(&name.as_str())), "{names:?}");
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    let mail = parse(bytes, &Limits::default()).expect("a mail within the limits");
    let summary = mail.summary();
    let sender = summary.from.expect("an author");
    assert_eq!(
        (sender.address.as_str(), summary.message_id.as_deref()),
        ("support@shop.example", Some("1@shop.example"))
    );
    let to: Vec<&str> = summary.to.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(to, ["customer@b.example"]);
    let content = mail.content();
    assert_eq!(content.attachments.len(), draft.attachments.len());
    for (attachment, sent) in content.attachments.iter().zip(&draft.attachments) {
        assert_eq!(mail.attachment(attachment.n).as_ref(), Some(&sent.bytes));
    }
    let html = content.html.unwrap_or_default().to_lowercase();
    for harm in ["<script", "<iframe", "<style", "href=\"javascript:", "src=\"javascript:", "href=\"data:"] {
        assert!(!html.contains(harm), "{harm} in {html}");
    }
}

/// How many line ends there are.
fn line_ends(bytes: &[u8]) -> usize {
    bytes.windows(2).filter(|pair| pair == b"\r\n").count()
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}
