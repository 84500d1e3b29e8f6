//! By what a mail is recognised: its fingerprint, its authors, its tokens and tags, and what arrived of its fields.

use std::sync::OnceLock;

use ticketgate::mail::authors::authors;
use ticketgate::mail::envelope::ReturnPath;
use ticketgate::mail::fingerprint::{Fingerprint, Likeness};
use ticketgate::mail::message::{Limits, parse};
use ticketgate::mail::survival::{self, Survival};
use ticketgate::ticket::decide::subject_tag;
use ticketgate::ticket::token::TokenKeys;

pub fn run(data: &[u8]) {
    let Ok(mail) = parse(data, &Limits::default()) else { return };
    let (summary, head) = (mail.summary(), mail.headers());
    let print = Fingerprint::of(&mail, &summary);
    assert_eq!(print.compare(&print), Likeness::Same);
    // A server on the way adds a trace, and the mail stays the same; what stood before its fields is lost.
    let passed = [b"Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n", data].concat();
    let begins = head.fields().first().is_some_and(|field| data.starts_with(format!("{}:", field.name).as_bytes()));
    if begins
        && head.raw("Received").next().is_some()
        && let Ok(passed) = parse(&passed, &Limits::default())
    {
        assert_eq!(Fingerprint::of(&passed, &passed.summary()).whole, print.whole);
    }
    for raw in head.raw("From").chain(head.raw("Sender")) {
        let text = String::from_utf8_lossy(raw);
        for author in authors(raw).unwrap_or_default() {
            assert!(text.contains('@') && !author.local().is_empty());
        }
    }
    for fate in survival::compare(head, head) {
        assert_eq!(fate.survival, Survival::Kept, "{fate:?}");
    }
    let _ = (survival::signers(head), ReturnPath::of(head));
    assert!(subject_tag(&summary.subject).is_none_or(|number| summary.subject.contains(&number.to_string())));
    for id in summary.in_reply_to.iter().chain(&summary.references).chain(&summary.message_id) {
        assert_eq!((keys().verify(id), keys().verify_probe(id), keys().verify_probe_answer(id)), (None, None, None));
    }
    for who in summary.to.iter().chain(&summary.cc) {
        let _ = ticketgate::mail::Address::parse(&who.address).map(|address| keys().verify_address(&address));
    }
}

/// A key that no input was signed with.
fn keys() -> &'static TokenKeys {
    static KEYS: OnceLock<TokenKeys> = OnceLock::new();
    KEYS.get_or_init(|| TokenKeys::new(vec![[7; 32]]))
}
