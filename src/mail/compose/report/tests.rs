//! Reports byte for byte, and that our own reader and another one understand them.

use super::super::super::message::{self, Automatic, BounceKind, Limits};
use super::*;

const MAIL: &str = "Received: from crm ([127.0.0.1])\r\n\tby desk.example.com with ESMTPSA id 0hm2x4kq5z7ag;\r\n\t\
    Wed, 18 Nov 2026 11:06:40 +0000\r\nFrom: Shop <shop@example.com>\r\nTo: bob@example.net\r\n\
    Subject: Your order\r\nMessage-ID: <order1@shop.example>\r\n\r\nIt is on its way.\r\n";

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + minutes * 60).unwrap()
}

fn identity() -> Identity {
    Identity {
        from: Correspondent {
            name: "Mail Delivery System".into(),
            address: Address::parse("support@example.com").unwrap(),
        },
        reply_to: None,
        message_id: "0hm2x4kq5z7ag.1795000060000000.report@example.com".into(),
        date: at(1),
        boundary: "0hm2x4kq5z7ag.1795000060000000".into(),
        fields: vec![("Auto-Submitted".into(), "auto-replied".into())],
    }
}

fn recipient(address: &str, action: Action, status: &str, said: &str) -> Recipient {
    Recipient {
        address: address.into(),
        orcpt: None,
        action,
        status: status.into(),
        said: said.into(),
        remote: Some("mx.example.net".into()),
        at: at(1),
        until: None,
    }
}

fn write(recipients: &[Recipient], original: Option<(&[u8], Back)>) -> Vec<u8> {
    let asked = Report {
        reporter: "desk.example.com",
        mail_id: "0hm2x4kq5z7ag",
        arrived: at(0),
        envelope_id: Some("QQ+2B1"),
        recipients,
        original: original.map(|(bytes, back)| Original { bytes, back }),
    };
    let composed = report(&asked, &Address::parse("crm@shop.example").unwrap(), &identity());
    let text = std::str::from_utf8(&composed.bytes).unwrap();
    assert!(text.is_ascii(), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= MAX_LINE && !line.contains(['\r', '\n'])), "{text}");
    composed.bytes
}

#[test]
fn a_failure_byte_for_byte() {
    let bob = Recipient {
        orcpt: Some("rfc822;Bob+2Bx@example.net".into()),
        ..recipient("bob@example.net", Action::Failed, "5.1.1", "550 5.1.1 no such user")
    };
    let late = Recipient {
        remote: None,
        ..recipient("eve@example.net", Action::Failed, "4.4.7", "451 4.4.1 mx.example.net: connection refused")
    };
    let got = write(&[bob, late], Some((MAIL.as_bytes(), Back::Headers)));
    let want = include_str!("failure.eml").replace('\n', "\r\n");
    assert_eq!(String::from_utf8(got).unwrap(), want);
}

#[test]
fn our_own_reader_understands_every_report() {
    let bad = recipient("bob@example.net", Action::Failed, "5.1.1", "550 5.1.1 no such user");
    let late = Recipient {
        until: Some(at(7200)),
        ..recipient("eve@example.net", Action::Delayed, "4.2.0", "451 4.2.0 later")
    };
    let gone = recipient("ann@example.net", Action::Relayed, "2.0.0", "250 2.0.0 taken");
    let there = recipient("ann@example.net", Action::Delivered, "2.0.0", "250 2.0.0 kept as x");
    let table = [
        (vec![bad.clone()], BounceKind::Failed, "Not delivered: Your order"),
        (vec![late.clone()], BounceKind::Delayed, "Delayed: Your order"),
        (vec![gone.clone(), late.clone(), bad.clone()], BounceKind::Failed, "Not delivered: Your order"),
        (vec![gone], BounceKind::Delivered, "Relayed: Your order"),
        (vec![there], BounceKind::Delivered, "Delivered: Your order"),
    ];
    for (recipients, kind, subject) in table {
        let bytes = write(&recipients, Some((MAIL.as_bytes(), Back::Headers)));
        let summary = message::parse(&bytes, &Limits::default()).unwrap().summary();
        assert_eq!(summary.subject, subject);
        assert_eq!(summary.in_reply_to, ["order1@shop.example"]);
        assert_eq!(summary.bounce.as_ref().map(|bounce| bounce.kind), Some(kind), "{recipients:?}");
        let bounce = summary.bounce.unwrap();
        let good_news = kind == BounceKind::Delivered;
        assert_eq!(summary.automatic, if good_news { Automatic::AutoReplied } else { Automatic::Bounce });
        assert_eq!(bounce.original_message_id.as_deref(), Some("order1@shop.example"));
        let got: Vec<_> = bounce.recipients.iter().map(|r| (r.address.as_str(), r.action.as_deref())).collect();
        let want: Vec<_> = recipients.iter().map(|r| (r.address.as_str(), Some(r.action.as_str()))).collect();
        assert_eq!(got, want);
        assert_eq!(
            bounce.recipients.last().unwrap().diagnostic.as_deref(),
            Some(recipients.last().unwrap().said.as_str())
        );
        // Another reader finds the same three parts.
        let mail = mail_parser::MessageParser::new().parse(&bytes).unwrap();
        assert_eq!(mail.parts.len(), 4, "report, words, fields, header section");
    }
}

#[test]
fn what_comes_back_is_what_was_asked_for_and_what_7_bit_can_carry() {
    let bad = [recipient("bob@example.net", Action::Failed, "5.1.1", "550 no")];
    let gone = [recipient("bob@example.net", Action::Relayed, "2.0.0", "250 ok")];
    let eight_bit = MAIL.replace("way", "w\u{e4}y");
    let eight_bit_head = MAIL.replace("Your order", "B\u{fc}cher");
    let long = MAIL.replace("way", &"x".repeat(1000));
    let bare = MAIL.replace("way.\r\n", "way.\n");
    let whole = Back::Whole(64 << 10);
    let (full, head) = ("message/rfc822", "text/rfc822-headers");
    // What became of it, the mail, RET, the part that comes back, words in it, words that are not.
    type Case<'a> = (&'a [Recipient], &'a str, Back, &'static str, &'static str, &'static str);
    let table: [Case<'_>; 8] = [
        (&bad, MAIL, whole, full, "It is on its way.", "\0"),
        (&bad, MAIL, Back::Headers, head, "Message-ID: <order1@shop.example>\r\n", "on its way"),
        (&bad, MAIL, Back::Whole(100), head, "Subject: Your order\r\n", "on its way"),
        (&gone, MAIL, whole, head, "Subject: Your order\r\n", "on its way"),
        (&bad, &eight_bit, whole, head, "Subject: Your order\r\n", "on its"),
        (&bad, &eight_bit_head, whole, head, "B=C3=BCcher", "on its way"),
        (&bad, &long, whole, head, "Subject: Your order\r\n", "xxxx"),
        (&bad, &bare, whole, head, "Subject: Your order\r\n", "on its way"),
    ];
    for (recipients, mail, back, kind, with, without) in table {
        let bytes = write(recipients, Some((mail.as_bytes(), back)));
        let text = String::from_utf8(bytes).unwrap();
        let part = text.rsplit("--=_").nth(1).unwrap();
        assert!(part.contains(&format!("Content-Type: {kind}")), "{kind} in {text}");
        assert!(part.contains(with) && !part.contains(without), "{with} in {text}");
    }
    let text = String::from_utf8(write(&bad, None)).unwrap();
    assert!(!text.contains("rfc822-headers") && text.contains("for programs.\r\n"), "{text}");
}

#[test]
fn nothing_in_a_report_forges_another_line() {
    let foul = Recipient {
        orcpt: Some("rfc822;a+0D+0AAction: delivered".into()),
        remote: Some("mx\r\nX: y".into()),
        ..recipient("bob@example.net", Action::Failed, "5.1.1", "550 no\r\nAction: delivered")
    };
    let text = String::from_utf8(write(&[foul], None)).unwrap();
    assert_eq!(text.matches("\r\nAction: ").count(), 1, "{text}");
    assert!(!text.contains("\r\nX: y"), "{text}");
}

#[test]
fn each_failure_says_what_to_do() {
    for (status, remote, want) in [
        ("5.1.1", true, "Check its spelling"),
        ("5.1.2", true, "behind the @"),
        ("5.2.2", true, "full"),
        ("5.3.4", true, "too large"),
        ("5.7.26", true, "by its own rules"),
        ("5.7.1", false, "allow it again"),
        ("4.4.7", false, "given up"),
        ("5.0.0", true, "whoever looks after"),
    ] {
        let remote = remote.then(|| "mx.example.net".to_owned());
        let one = Recipient { remote, ..recipient("bob@example.net", Action::Failed, status, "it says so") };
        let text = String::from_utf8(write(&[one], None)).unwrap();
        assert!(text.contains(want), "{want} for {status} in {text}");
    }
}
