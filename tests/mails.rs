//! Each mail in `tests/mails` has an expectation beside it: what is named there must be so, the rest is free.

#[path = "../fuzz/harness/headers.rs"]
mod headers;

use std::path::Path;

use serde_json::{Value, json};
use ticketgate::mail::headers::{HeaderSection, check_acceptable};
use ticketgate::mail::message::{Bounce, Limits, Mailbox, parse};

fn mailbox(mailbox: &Mailbox) -> Value {
    json!(if mailbox.name.is_empty() {
        mailbox.address.clone()
    } else {
        format!("{} <{}>", mailbox.name, mailbox.address)
    })
}

fn bounce(bounce: &Bounce) -> Value {
    let recipients = bounce.recipients.iter();
    let recipients: Vec<Value> =
        recipients.map(|one| json!([one.address, one.status, one.action, one.diagnostic])).collect();
    json!({"kind": bounce.kind.as_str(), "recipients": recipients, "original": bounce.original_message_id})
}

/// What we see in a mail, in the words of the expectations.
fn view(raw: &[u8]) -> Value {
    let limits = Limits { max_parts: 20, max_depth: 6, max_header_bytes: 16 << 10 };
    let acceptable = HeaderSection::read(raw, limits.max_header_bytes).and_then(|head| check_acceptable(&head));
    let mail = match acceptable.and_then(|()| parse(raw, &limits)) {
        Ok(mail) => mail,
        Err(reason) => return json!({"reason": reason.code()}),
    };
    let (summary, content) = (mail.summary(), mail.content());
    let attachments: Vec<Value> = content
        .attachments
        .iter()
        .map(|one| json!([one.name, one.content_type, one.size, one.inline, one.content_id]))
        .collect();
    json!({
        "message_id": summary.message_id,
        "in_reply_to": summary.in_reply_to,
        "references": summary.references,
        "date": summary.date.map(|date| date.to_string()),
        "from": summary.from.as_ref().map(mailbox),
        "sender": summary.sender.as_ref().map(mailbox),
        "to": summary.to.iter().map(mailbox).collect::<Vec<_>>(),
        "cc": summary.cc.iter().map(mailbox).collect::<Vec<_>>(),
        "reply_to": summary.reply_to.iter().map(mailbox).collect::<Vec<_>>(),
        "subject": summary.subject,
        "automatic": summary.automatic.as_str(),
        "bounce": summary.bounce.as_ref().map(bounce),
        "hops": summary.received_hops,
        "parts": summary.parts,
        "notes": summary.notes,
        "text": content.text,
        "html": content.html,
        "new_text": content.new_text,
        "attachments": attachments,
    })
}

#[test]
fn mails_are_read_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mails");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        count += 1;
        let expectation = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let want: Value = serde_json::from_str(&expectation).unwrap();
        let raw = std::fs::read(&path).unwrap();
        headers::run(&raw);
        let got = view(&raw);
        for (key, value) in want.as_object().unwrap() {
            if got.get(key) != Some(value) {
                wrong.push(format!("{}: {key}\n  want {value}\n  got  {}", path.display(), got[key]));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 15, "only {count} mails");
}

#[test]
fn limits_are_kept_in_linear_time() {
    let limits = Limits { max_parts: 100, max_depth: 20, max_header_bytes: 16 << 10 };
    let nested: String =
        (0..5000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(5000);
    let many = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(5000));
    let long = format!("Subject: {}\r\n\r\n", "x".repeat(20 << 10));
    let table = [(nested, "too_deep"), (messages, "too_deep"), (many, "too_many_parts"), (long, "header_too_large")];
    for (raw, want) in table {
        assert_eq!(parse(raw.as_bytes(), &limits).err().map(|reason| reason.code()), Some(want));
    }
    // Every line looks like a boundary, and none is.
    let dashes = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--bb\r\n".repeat(200_000));
    let mail = parse(dashes.as_bytes(), &limits).unwrap();
    assert_eq!(mail.summary().parts, 1);
}
