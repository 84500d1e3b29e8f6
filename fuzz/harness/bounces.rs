//! Delivery reports of every form: what they are read as is bounded, and is what a mail can say of a delivery.

use ticketgate::mail::message::{Limits, SUCCESS, parse};
use ticketgate::mail::status;

pub fn run(data: &[u8]) {
    let Ok(mail) = parse(data, &Limits::default()) else { return };
    let Some(bounce) = mail.summary().bounce else { return };
    let id = bounce.original_message_id.unwrap_or_default();
    assert!(!id.contains(['<', '>', '\r', '\n']), "{id:?}");
    assert!(bounce.recipients.len() <= 500);
    for one in &bounce.recipients {
        assert!(!one.address.contains('\n') && one.original.as_ref().is_none_or(|original| !original.contains('\n')));
        let action = one.action.as_deref();
        assert!(
            action.is_none_or(|action| ["failed", "delayed"].contains(&action) || SUCCESS.contains(&action)),
            "{one:?}"
        );
        assert!(one.diagnostic.as_ref().is_none_or(|said| said.chars().count() <= 1000), "{one:?}");
        if let Some(code) = &one.status {
            let parts: Vec<&str> = code.split('.').collect();
            let number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            assert!(matches!(parts.as_slice(), ["2" | "4" | "5", _, _]) && parts.iter().all(number), "{one:?}");
            let _ = status::blames_address(code);
        }
    }
}
