//! MAIL and RCPT lines for a job, as far as the peer's extensions go, and what cannot be sent at all. Pure.
//!
//! What comes in here was checked where it came from, and is checked again: a line end in an address or a parameter
//! would be a command of its own.

use super::body::Nature;
use super::job::{Job, JobRecipient, Reply};
use crate::mail::Address;
use crate::mail::address::ascii_domain;

/// The extensions of a peer that make a difference to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub binary_mime: bool,
    pub chunking: bool,
    pub smtp_utf8: bool,
    pub dsn: bool,
    pub starttls: bool,
    /// SIZE (RFC 1870); with the limit, unless it is 0.
    pub size: Option<u64>,
}

/// How the octets of the mail are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Data,
    /// BDAT (RFC 3030).
    Chunk,
}

/// The commands of one transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub mail: String,
    /// For each recipient its command, or why it is not sent.
    pub recipients: Vec<Result<String, Reply>>,
    pub way: Way,
}

/// The commands for a mail of `size` octets in all, or why none of its recipients can get it from this peer.
pub(super) fn plan(job: &Job, nature: Nature, size: u64, peer: &Extensions) -> Result<Plan, Reply> {
    if let Some(limit) = peer.size.filter(|limit| *limit > 0 && size > *limit) {
        let said = format!("the mail has {size} octets, the server takes {limit}; nothing was sent");
        return Err(Reply::new(552, Some("5.3.4"), &said));
    }
    let utf8 = job.smtputf8 && nature.eight_bit_header;
    if utf8 && !peer.smtp_utf8 {
        return Err(Reply::new(553, Some("5.6.7"), "the header fields need SMTPUTF8, which the server does not offer"));
    }
    if nature.eight_bit && !peer.eight_bit_mime {
        let said = "the mail has 8-bit octets, and the server does not offer 8BITMIME; relayed mail is not converted";
        return Err(Reply::refusal("5.6.3", said));
    }
    let way = if (nature.bare || nature.open_end) && peer.chunking { Way::Chunk } else { Way::Data };
    if nature.bare && way == Way::Data {
        let said = "a CR or LF stands by itself, which DATA cannot carry; the server does not offer CHUNKING";
        return Err(Reply::refusal("5.6.0", said));
    }
    let sender = job.sender.as_ref().map_or(Ok(String::new()), |address| path(address, peer))?;
    let any_utf8 = !sender.is_ascii() || job.recipients.iter().any(|recipient| !recipient.address.local().is_ascii());
    let mut mail = format!("MAIL FROM:<{sender}>");
    if peer.size.is_some() {
        mail.push_str(&format!(" SIZE={size}"));
    }
    match (nature.bare && way == Way::Chunk && peer.binary_mime, nature.eight_bit || job.eight_bit) {
        (true, _) => mail.push_str(" BODY=BINARYMIME"),
        (false, true) if peer.eight_bit_mime => mail.push_str(" BODY=8BITMIME"),
        _ => {}
    }
    if peer.smtp_utf8 && (utf8 || any_utf8) {
        mail.push_str(" SMTPUTF8");
    }
    report_parameters(job, peer, &mut mail)?;
    mail.push_str("\r\n");
    let recipients = job.recipients.iter().map(|recipient| recipient_line(recipient, peer)).collect();
    Ok(Plan { mail, recipients, way })
}

/// RET and ENVID (RFC 3461 sections 4.3 and 4.4).
fn report_parameters(job: &Job, peer: &Extensions, line: &mut String) -> Result<(), Reply> {
    if let Some(ret) = &job.ret {
        let known = ["FULL", "HDRS"].iter().find(|word| word.eq_ignore_ascii_case(ret));
        let known = known.ok_or_else(|| wrong_parameter("RET"))?;
        if peer.dsn {
            line.push_str(&format!(" RET={known}"));
        }
    }
    if let Some(envid) = &job.envid {
        if envid.is_empty() || envid.len() > 100 || !is_xtext(envid) {
            return Err(wrong_parameter("ENVID"));
        }
        if peer.dsn {
            line.push_str(&format!(" ENVID={envid}"));
        }
    }
    Ok(())
}

fn recipient_line(recipient: &JobRecipient, peer: &Extensions) -> Result<String, Reply> {
    let mut line = format!("RCPT TO:<{}>", path(&recipient.address, peer)?);
    if let Some(notify) = &recipient.notify {
        let words: Vec<String> = notify.split(',').map(str::to_ascii_uppercase).collect();
        let alone = words.len() == 1 && words[0] == "NEVER";
        if !alone && !words.iter().all(|word| matches!(word.as_str(), "SUCCESS" | "FAILURE" | "DELAY")) {
            return Err(wrong_parameter("NOTIFY"));
        }
        if peer.dsn {
            line.push_str(&format!(" NOTIFY={}", words.join(",")));
        }
    }
    if let Some(orcpt) = &recipient.orcpt {
        let fine = orcpt.len() <= 500
            && orcpt.split_once(';').is_some_and(|(kind, value)| {
                let atom = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
                !kind.is_empty() && kind.bytes().all(atom) && !value.is_empty() && is_xtext(value)
            });
        if !fine {
            return Err(wrong_parameter("ORCPT"));
        }
        if peer.dsn {
            line.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    line.push_str("\r\n");
    Ok(line)
}

fn wrong_parameter(name: &str) -> Reply {
    Reply::new(501, Some("5.5.4"), &format!("the parameter {name} of the mail is not one that may be sent"))
}

/// RFC 3461 section 4: printable ASCII, with `+XX` for the rest.
fn is_xtext(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

/// An address between the angle brackets: in ASCII wherever that can be, since only a transaction that says SMTPUTF8 may
/// hold anything else (RFC 6531 section 3.4). The domain can be written as A-labels (RFC 5891), the local part cannot.
fn path(address: &Address, peer: &Extensions) -> Result<String, Reply> {
    if !is_safe(address.local()) || address.domain().contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(Reply::new(553, Some("5.1.3"), "an address that cannot stand in an SMTP command"));
    }
    if !address.local().is_ascii() {
        if peer.smtp_utf8 {
            return Ok(address.to_string());
        }
        let said = "the address needs SMTPUTF8, which the server does not offer";
        return Err(Reply::new(553, Some("5.6.7"), said));
    }
    let domain = ascii_domain(address.domain());
    let domain = domain.ok_or_else(|| Reply::new(553, Some("5.1.2"), "the domain is not a domain name"))?;
    Ok(format!("{}@{domain}", address.local()))
}

/// A dot-string or a quoted string (RFC 5321 section 4.1.2), with more dots than the grammar has, since providers in
/// use give such addresses out.
fn is_safe(local: &str) -> bool {
    let special = |c: char| c.is_control() || c.is_whitespace() || "\"\\()<>,:;[]@".contains(c);
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return !local.is_empty() && !local.contains(special);
    };
    let mut escaped = false;
    for c in inner.chars() {
        match c {
            c if c.is_control() => return false,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    local.len() >= 2 && !escaped
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::relay::body::nature;

    fn job(sender: &str, recipients: &[&str], mail: &str) -> Job {
        let address = |text: &str| Address::parse(text).unwrap();
        let recipient = |text: &&str| JobRecipient { address: address(text), notify: None, orcpt: None };
        Job {
            id: "1".into(),
            sender: (!sender.is_empty()).then(|| address(sender)),
            recipients: recipients.iter().map(recipient).collect(),
            bytes: Arc::from(mail.as_bytes()),
            smtputf8: false,
            eight_bit: false,
            ret: None,
            envid: None,
            account: None,
        }
    }

    fn planned(job: &Job, peer: &Extensions) -> Result<Plan, Reply> {
        plan(job, nature(&job.bytes), job.bytes.len() as u64, peer)
    }

    fn everything() -> Extensions {
        Extensions {
            pipelining: true,
            eight_bit_mime: true,
            binary_mime: true,
            chunking: true,
            smtp_utf8: true,
            dsn: true,
            starttls: true,
            size: Some(1000),
        }
    }

    #[test]
    fn extensions_are_used_where_they_are_offered() {
        let all = everything();
        let table: &[(&str, &str, &str, &Extensions, &str)] = &[
            ("a@b.example", "c@d.example", "x: y\r\n", &Extensions::default(), "MAIL FROM:<a@b.example>\r\n"),
            ("", "c@d.example", "x: y\r\n", &all, "MAIL FROM:<> SIZE=6\r\n"),
            ("a@b", "c@d", "x: y\r\n\r\nü\r\n", &all, "MAIL FROM:<a@b> SIZE=12 BODY=8BITMIME\r\n"),
            ("a@b", "ü@d", "x: y\r\n", &all, "MAIL FROM:<a@b> SIZE=6 SMTPUTF8\r\n"),
            ("a@ü.example", "c@ü.example", "x: y\r\n", &all, "MAIL FROM:<a@xn--tda.example> SIZE=6\r\n"),
            ("ü@ü.example", "c@d", "x: y\r\n", &all, "MAIL FROM:<ü@ü.example> SIZE=6 SMTPUTF8\r\n"),
            ("a@b", "c@d", "x: y\n", &all, "MAIL FROM:<a@b> SIZE=5 BODY=BINARYMIME\r\n"),
            ("a@ü.example", "c@d", "x: y\r\n", &Extensions::default(), "MAIL FROM:<a@xn--tda.example>\r\n"),
        ];
        for (sender, recipient, mail, peer, want) in table {
            let plan = planned(&job(sender, &[recipient], mail), peer).unwrap();
            assert_eq!(plan.mail, *want);
            let ascii = plan.recipients.iter().flatten().all(|line| line.is_ascii());
            assert!(ascii || plan.mail.ends_with(" SMTPUTF8\r\n"), "{:?}", plan.recipients);
        }
        let mut with_reports = job("a@b", &["c@d"], "x: y\r\n");
        (with_reports.ret, with_reports.envid) = (Some("hdrs".into()), Some("QQ+3D".into()));
        with_reports.recipients[0].notify = Some("success,Failure".into());
        with_reports.recipients[0].orcpt = Some("rfc822;Bob@d".into());
        let plan = planned(&with_reports, &all).unwrap();
        assert_eq!(plan.mail, "MAIL FROM:<a@b> SIZE=6 RET=HDRS ENVID=QQ+3D\r\n");
        let want = "RCPT TO:<c@d> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@d\r\n";
        assert_eq!(plan.recipients, [Ok(want.to_owned())]);
        let plan = planned(&with_reports, &Extensions::default()).unwrap();
        assert_eq!(
            (plan.mail.as_str(), plan.recipients[0].as_deref()),
            ("MAIL FROM:<a@b>\r\n", Ok("RCPT TO:<c@d>\r\n"))
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_anything_is() {
        let none = Extensions::default();
        let small = Extensions { size: Some(3), ..Extensions::default() };
        let table: &[(&str, &str, &str, &Extensions, &str)] = &[
            ("a@b", "c@d", "x: y\r\n", &small, "5.3.4"),
            ("a@b", "c@d", "x: y\r\n\r\nü\r\n", &none, "5.6.3"),
            ("ü@b", "c@d", "x: y\r\n", &none, "5.6.7"),
            ("a@b", "c@d", "x: y\n.\r\nMAIL FROM:<x@y>\r\n", &none, "5.6.0"),
            ("\"a\"b\"@b", "c@d", "x: y\r\n", &none, "5.1.3"),
        ];
        for (sender, recipient, mail, peer, want) in table {
            let reply = planned(&job(sender, &[recipient], mail), peer).unwrap_err();
            assert_eq!(reply.enhanced.as_deref(), Some(*want), "{reply}");
        }
        let mixed = planned(&job("a@b", &["ü@d", "c@d"], "x: y\r\n"), &none).unwrap();

        assert!(mixed.recipients[0].is_err() && mixed.recipients[1].is_ok());
    }

    #[test]
    fn nothing_that_ends_a_line_gets_into_a_command() {
        for (ret, envid) in [("FULL\r\nRSET", "x"), ("FULL", "a\r\nRSET"), ("FULL", "a b"), ("FULL", "")] {
            let mut job = job("a@b", &["c@d"], "x: y\r\n");
            (job.ret, job.envid) = (Some(ret.into()), Some(envid.into()));
            assert_eq!(
                planned(&job, &everything()).unwrap_err().enhanced.as_deref(),
                Some("5.5.4"),
                "{ret:?} {envid:?}"
            );
        }
        for (notify, orcpt) in
            [("NEVER,SUCCESS", "rfc822;a"), ("X\r\nRSET", "rfc822;a"), ("DELAY", "rfc822;a\r\nRSET"), ("DELAY", "a")]
        {
            let mut job = job("a@b", &["c@d"], "x: y\r\n");
            (job.recipients[0].notify, job.recipients[0].orcpt) = (Some(notify.into()), Some(orcpt.into()));
            assert!(planned(&job, &everything()).unwrap().recipients[0].is_err(), "{notify:?} {orcpt:?}");
        }
    }
}
