//! The fields for programs (RFC 3464 section 2), in 7-bit.

use std::fmt::Write;

use super::super::ascii;
use super::{Recipient, Report};
use crate::mail::notify::Action;
use crate::mail::{Address, address, date};

/// The line length that fields are folded to (RFC 5322 section 2.1.1).
const FOLD: usize = 76;

/// The per-message fields, then for each recipient an empty line and its fields.
pub fn fields(report: &Report<'_>) -> String {
    let mut out = String::with_capacity(256 + report.recipients.len() * 256);
    field(&mut out, "Reporting-MTA", &format!("dns; {}", report.reporter));
    if let Some(id) = report.envelope_id {
        field(&mut out, "Original-Envelope-Id", &decoded(id));
    }
    field(&mut out, "Arrival-Date", &date::written(report.arrived));
    field(&mut out, "X-Ticketgate-Mail-Id", report.mail_id);
    for recipient in report.recipients {
        out.push_str("\r\n");
        of_recipient(&mut out, recipient);
    }
    out
}

fn of_recipient(out: &mut String, recipient: &Recipient) {
    if let Some((kind, value)) = recipient.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
        // The form for addresses beyond ASCII is 7-bit by itself (RFC 6533 section 3).
        let value = if kind.eq_ignore_ascii_case("utf-8") { value.to_owned() } else { decoded(value) };
        field(out, "Original-Recipient", &format!("{kind}; {value}"));
    }
    field(out, "Final-Recipient", &typed(&recipient.address));
    field(out, "Action", recipient.action.as_str());
    field(out, "Status", &recipient.status);
    if let Some(remote) = &recipient.remote {
        field(out, "Remote-MTA", &format!("dns; {}", literal(remote)));
    }
    // A word of ours is no reply of SMTP (RFC 3464 section 2.3.6).
    let kind = if recipient.remote.is_some() { "smtp" } else { "x-ticketgate" };
    field(out, "Diagnostic-Code", &format!("{kind}; {}", recipient.said));
    field(out, "Last-Attempt-Date", &date::written(recipient.at));
    if let Some(until) = recipient.until.filter(|_| recipient.action == Action::Delayed) {
        field(out, "Will-Retry-Until", &date::written(until));
    }
}

/// One field, folded between words; what is not ASCII, or would end the line, is not let through.
fn field(out: &mut String, name: &str, value: &str) {
    let mut length = name.len() + 1;
    out.push_str(name);
    out.push(':');
    for word in value.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if length + 1 + word.len() > FOLD && length > name.len() + 1 {
            out.push_str("\r\n");
            length = 0;
        }
        out.push(' ');
        out.extend(word.chars().map(|c| if c.is_ascii() { c } else { '?' }));
        length += 1 + word.len();
    }
    out.push_str("\r\n");
}

/// An address with its type; beyond ASCII in the form that 7-bit takes (RFC 6533 section 3).
fn typed(address: &str) -> String {
    let address = Address::parse(address).map_or_else(|_| address.to_owned(), |address| ascii(&address).to_string());
    if address.is_ascii() {
        return format!("rfc822; {address}");
    }
    let mut out = String::from("utf-8; ");
    for c in address.chars() {
        if c.is_ascii() && !matches!(c, '+' | '=' | '\\') {
            out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
        }
    }
    out
}

/// A name, or an address as it stands for one.
fn literal(host: &str) -> String {
    host.parse().map_or_else(|_| host.to_owned(), address::literal)
}

/// Takes xtext apart (RFC 3461 section 4); what is none, or would not be printable, stays as it is.
fn decoded(xtext: &str) -> String {
    let mut out = String::with_capacity(xtext.len());
    let mut rest = xtext;
    while let Some((before, after)) = rest.split_once('+') {
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte.filter(|byte| (b' '..=b'~').contains(byte)) else { return xtext.to_owned() };
        out.push_str(before);
        out.push(char::from(byte));
        rest = after.get(2..).unwrap_or_default();
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_made_fit_for_7_bit() {
        let table = [
            ("ann@example.net", "rfc822; ann@example.net"),
            ("ann@bücher.example", "rfc822; ann@xn--bcher-kva.example"),
            ("jörg+x@bücher.example", "utf-8; j\\x{F6}rg\\x{2B}x@xn--bcher-kva.example"),
        ];
        for (address, want) in table {
            assert_eq!(typed(address), want);
        }
        let table = [
            ("QQ314159", "QQ314159"),
            ("a+2Bb+3D+20c", "a+b= c"),
            ("a+0D+0AX-Forged: yes", "a+0D+0AX-Forged: yes"),
            ("a+", "a+"),
            ("a+zz", "a+zz"),
            ("+FC", "+FC"),
        ];
        for (xtext, want) in table {
            assert_eq!(decoded(xtext), want);
        }
        for (host, want) in [("mx.example", "mx.example"), ("192.0.2.1", "[192.0.2.1]"), ("::1", "[IPv6:::1]")] {
            assert_eq!(literal(host), want);
        }
    }

    #[test]
    fn fields_are_folded_and_forge_nothing() {
        let mut out = String::new();
        field(&mut out, "Diagnostic-Code", "smtp; 550 ü\r\nAction: delivered\0x");
        assert_eq!(out, "Diagnostic-Code: smtp; 550 ? Action: delivered x\r\n");
        let mut out = String::new();
        field(&mut out, "Diagnostic-Code", &"word ".repeat(40));
        assert!(out.split("\r\n").all(|line| line.len() <= FOLD), "{out}");
        assert!(out.split("\r\n").skip(1).all(|line| line.is_empty() || line.starts_with(' ')), "{out}");
    }
}
