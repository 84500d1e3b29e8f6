//! Header sections, structure, text, reports and recipients of arbitrary bytes.

use std::sync::OnceLock;

use ticketgate::mail::Address;
use ticketgate::mail::headers::{HeaderSection, check_acceptable};
use ticketgate::mail::message::{Limits, parse};
use ticketgate::ticket::channel::{AuthPolicy, Channel, Directory};
use ticketgate::ticket::recipient;

/// Reads the bytes in every way that a mail is read.
pub fn run(data: &[u8]) {
    let limits = Limits { max_parts: 50, max_depth: 10, max_header_bytes: 4096 };
    if let Ok(head) = HeaderSection::read(data, limits.max_header_bytes) {
        let _ = check_acceptable(&head);
        assert!(head.body_offset() <= data.len());
        if let Ok(found) = recipient::resolve(&[address("in@gw.example")], directory(), &head) {
            assert!(found.iter().all(|one| !one.rcpt_to.is_empty()));
        }
    }
    let Ok(mail) = parse(data, &limits) else { return };
    let summary = mail.summary();
    assert!(summary.parts <= limits.max_parts);
    assert!(summary.message_id.is_none_or(|id| !id.contains(['<', '\r', '\n'])));
    assert!(!summary.subject.contains(['\r', '\n']));
    let content = mail.content();
    for attachment in &content.attachments {
        let bytes = mail.attachment(attachment.n).expect("a listed attachment has bytes");
        assert_eq!(bytes.len() as u64, attachment.size);
    }
    assert!(mail.attachment(content.attachments.len()).is_none());
}

fn directory() -> &'static Directory {
    static DIRECTORY: OnceLock<Directory> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let channel = Channel {
            address: address("support@shop.example"),
            name: String::new(),
            aliases: Vec::new(),
            plus_addresses: true,
            queue: String::new(),
            auth_policy: AuthPolicy::Record,
            max_mail_bytes: 1 << 20,
            relay: None,
            attachments_relay: None,
            acknowledge: false,
        };
        Directory::new(vec![channel], Vec::new(), vec![address("in@gw.example")], None)
    })
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}
