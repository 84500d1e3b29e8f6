//! What is new in a text is taken from it line by line, plain or HTML, and files in it are taken out whole.
//!
//! The first byte says what the text is: `p` plain, `q` HTML, `r` and `s` the same in a mail that is handed on.

use ticketgate::mail::message::{Limits, parse};

/// How much longer a text may be than the HTML it is made of: marks of nested quotes stand before each of its lines.
const LONGER: usize = 250;

pub fn run(data: &[u8]) {
    let Some((&form, body)) = data.split_first() else { return };
    let kind = if form & 1 == 0 { "plain" } else { "html" };
    let subject = if form & 2 == 0 { "Re: order" } else { "Fwd: order" };
    let head = format!("Subject: {subject}\r\nContent-Type: text/{kind}; charset=utf-8\r\n\r\n");
    let raw = [head.as_bytes(), body].concat();
    let mail = parse(&raw, &Limits::default()).expect("a mail of one part");
    let content = mail.content();
    // A new line begins as one of the text does: of a line with an attribution at its end the rest is cut off.
    let mut lines = content.text.lines();
    for new in content.new_text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(lines.any(|line| line.trim().starts_with(new)), "{new:?} does not stand there in {:?}", content.text);
    }
    assert!(content.new_text.len() <= content.text.len());
    assert!(content.text.len() <= 1000 + LONGER * body.len(), "{} bytes of {}", content.text.len(), body.len());
    let says = content.text.contains(char::is_alphanumeric);
    assert!(!says || !content.new_text.is_empty(), "nothing is left of {:?}", content.text);
    // What marks a quoted mail for ourselves is for nobody else, unless somebody wrote it.
    if std::str::from_utf8(body).is_ok_and(|text| !text.contains(['\u{f8d1}', '\u{1b}']) && !text.contains("&#")) {
        assert!(!content.text.contains('\u{f8d1}') && !content.new_text.contains('\u{f8d1}'));
    }
    // Space at the ends of its lines may have been lost, which was a part of it.
    for attachment in &content.attachments {
        let bytes = mail.attachment(attachment.n).expect("a listed attachment has bytes");
        assert!(bytes.len() as u64 == attachment.size && bytes.len() <= (64 << 10) + 2 * body.len());
    }
}
