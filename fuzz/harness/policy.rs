//! What domains publish: policies and records of MTA-STS, and the tags of records such as those of DMARC and DKIM.

use ticketgate::relay::permit::tag;
use ticketgate::relay::sts::{Policy, record_id};

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(policy) = Policy::parse(&text) {
        // About a year (RFC 8461 section 3.2).
        assert!(policy.max_age().as_secs() <= 31_557_600);
        for host in ["mx.b.example", "b.example", "a.mx.b.example"] {
            let fits = text.to_lowercase().contains(host.split_once('.').map_or("", |(_, parent)| parent));
            assert!(!policy.allows(host) || fits, "{host} is not in {text:?}");
        }
        assert!(!policy.allows(""));
    }
    let records: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(id) = record_id(&records) {
        assert!((1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id:?}");
    }
    for name in ["v", "p", "adkim", "k"] {
        assert!(tag(&text, name).is_none_or(|value| !value.contains(char::is_whitespace)));
    }
}
