//! Golden mails and what must hold for any mail: it reads back as it was meant, and any relay can take it.

use proptest::prelude::*;

use super::super::message::{self, Content, Limits, Summary};
use super::*;

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn somebody(name: &str, at: &str) -> Correspondent {
    Correspondent { name: name.into(), address: address(at) }
}

fn identity() -> Identity {
    Identity {
        from: somebody("Support", "support@example.com"),
        reply_to: Some(address("support+t12-0123456789abcdef@example.com")),
        message_id: "t12-0123456789abcdef.0hm2x4kq5z7ag@example.com".into(),
        date: Timestamp::from_second(1_795_600_000).unwrap(),
        boundary: "0hm2x4kq5z7ag".into(),
        fields: vec![("X-Mailer".into(), "Ticketgate Mailer".into())],
    }
}

fn text(text: &str) -> Words {
    Words { body: Body::Text(text.into()), html: None }
}

fn draft(words: Words) -> Draft {
    Draft {
        words,
        to: vec![somebody("Ann", "ann@customer.example")],
        subject: "Re: Printer".into(),
        ..Draft::default()
    }
}

fn read(bytes: &[u8]) -> (Summary, Content) {
    let parsed = message::parse(bytes, &Limits::default()).unwrap();
    (parsed.summary(), parsed.content())
}

/// What no relay refuses: 7-bit, CRLF only, lines within the limits of RFC 5322 section 2.1.1.
fn assert_fit(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_ascii(), "not 7-bit: {text}");
    assert!(text.ends_with("\r\n"), "no line end: {text}");
    for line in text.split_terminator("\r\n") {
        assert!(line.len() <= 998, "a line of {} octets", line.len());
        assert!(!line.contains(['\r', '\n', '\0']), "a bare line end in {line:?}");
    }
    let head = text.split("\r\n\r\n").next().unwrap();
    for line in head.split("\r\n") {
        // A Message-ID cannot be folded, and may have 300 octets itself.
        assert!(line.len() <= 320 && !line.trim().is_empty(), "a header line of {} octets: {line}", line.len());
        let field = line.split_once(": ").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_graphic()));
        assert!(field || line.starts_with([' ', '\t']), "not a field: {line:?}");
    }
}

/// The names of the header fields, in order.
fn field_names(bytes: &[u8]) -> Vec<String> {
    let parsed = message::parse(bytes, &Limits::default()).unwrap();
    parsed.headers().fields().iter().map(|field| field.name.to_owned()).collect()
}

#[test]
fn a_plain_answer_byte_for_byte() {
    let mut draft = draft(text("It is fixed.\n\nFrom now on it prints."));
    draft.cc = vec![somebody("Grüße, Jörg", "j@customer.example")];
    draft.in_reply_to = Some("one@customer.example".into());
    draft.references = vec!["zero@customer.example".into(), "one@customer.example".into()];
    draft.signature = Some("Eve\nSupport".into());
    draft.quote = Some(Quote {
        from: Mailbox { name: "Ann".into(), address: "ann@customer.example".into() },
        at: Timestamp::from_second(1_795_500_000).ok(),
        text: "It is on fire.\n\n> What?\n".into(),
    });
    let want = "Date: Wed, 25 Nov 2026 09:46:40 +0000\r\n\
        From: \"Support\" <support@example.com>\r\n\
        To: \"Ann\" <ann@customer.example>\r\n\
        Cc: =?utf-8?B?R3LDvMOfZSwgSsO2cmc=?= <j@customer.example>\r\n\
        Reply-To: <support+t12-0123456789abcdef@example.com>\r\n\
        Subject: Re: Printer\r\n\
        Message-ID: <t12-0123456789abcdef.0hm2x4kq5z7ag@example.com>\r\n\
        In-Reply-To: <one@customer.example>\r\n\
        References: <zero@customer.example> <one@customer.example>\r\n\
        X-Mailer: Ticketgate Mailer\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=\"utf-8\"; format=\"flowed\"\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\n\
        It is fixed.\r\n\r\n From now on it prints.\r\n\r\n--=20\r\nEve\r\nSupport\r\n\r\n\
        On 24 Nov 2026 at 06:00 UTC, Ann <ann@customer.example> wrote:\r\n\
        > It is on fire.\r\n>\r\n>> What?\r\n";
    let composed = compose(&draft, &identity()).unwrap();
    assert_eq!(String::from_utf8(composed.bytes).unwrap(), want);
    assert!(!composed.smtputf8);
}

#[test]
fn markdown_pictures_and_files_stand_in_their_places() {
    let mut draft = draft(Words { body: Body::Markdown("Look: **this**\n\n![p](cid:p@x)".into()), html: None });
    let enclosure = |name: &str, kind: &str, id: Option<&str>| Enclosure {
        name: name.into(),
        content_type: kind.into(),
        bytes: b"a,b\n1,2\r\n.\r\n\xff\0".to_vec(),
        content_id: id.map(str::to_owned),
    };
    draft.attachments = vec![
        enclosure("p.png", "image/png", Some("p@x")),
        enclosure("../../étc/pässwd=?x.csv", "text/csv", None),
        enclosure("mail.eml", "message/rfc822", None),
        enclosure("", "nonsense\r\nBcc: eve@evil.example", None),
    ];
    let bytes = compose(&draft, &identity()).unwrap().bytes;
    assert_fit(&bytes);
    let shape: Vec<String> = String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| line.strip_prefix("Content-Type: ").map(|rest| rest.split(';').next().unwrap().to_owned()))
        .collect();
    let want = "multipart/mixed multipart/alternative text/plain multipart/related text/html image/png text/csv \
                application/octet-stream application/octet-stream";
    assert_eq!(shape.join(" "), want);
    let (_, content) = read(&bytes);
    assert_eq!(content.text.trim(), "Look: **this**\n\n![p](cid:p@x)");
    assert!(content.html.unwrap().contains("<p>Look: <strong>this</strong></p>"));
    let got: Vec<(&str, bool, u64)> =
        content.attachments.iter().map(|one| (one.name.as_deref().unwrap_or("-"), one.inline, one.size)).collect();
    assert_eq!(
        got,
        [("p.png", true, 14), ("_.._étc_pässwd=_x.csv", false, 14), ("mail.eml", false, 14), ("attachment", false, 14)]
    );
    let parsed = message::parse(&bytes, &Limits::default()).unwrap();
    assert_eq!(parsed.attachment(1).unwrap(), draft.attachments[1].bytes);
}

#[test]
fn what_is_no_mail_is_refused() {
    let nobody = Draft { to: Vec::new(), ..draft(text("x")) };
    let field = |name: &str| Identity { fields: vec![(name.into(), "x".into())], ..identity() };
    let table = [
        (draft(text(" \n ")), identity(), ComposeError::Empty),
        (nobody, identity(), ComposeError::NoRecipient),
        (
            draft(text(&"x".repeat(MAX_WORDS + 1))),
            identity(),
            ComposeError::TooLong { what: "text", bytes: MAX_WORDS + 1 },
        ),
        (draft(text("x")), field("Bcc"), ComposeError::Field("Bcc".into())),
        (draft(text("x")), field("X-A: b\r\nBcc"), ComposeError::Field("X-A: b\r\nBcc".into())),
        (draft(text("x")), field("Content-Type"), ComposeError::Field("Content-Type".into())),
    ];
    for (draft, identity, want) in table {
        assert_eq!(compose(&draft, &identity), Err(want));
    }
    let files_only = Draft {
        attachments: vec![Enclosure {
            name: "a".into(),
            content_type: "text/plain".into(),
            bytes: Vec::new(),
            content_id: None,
        }],
        ..draft(text(""))
    };
    assert!(compose(&files_only, &identity()).is_ok());
}

#[test]
fn nothing_that_is_given_becomes_a_header_field() {
    let evil = "x\r\nBcc: eve@evil.example\r\n\r\nbody\n\u{85}Bcc: a@b\u{2028}Bcc: c@d\0";
    let mut draft = draft(text(evil));
    draft.subject = evil.into();
    draft.to[0].name = evil.into();
    draft.cc = vec![somebody("=?utf-8?Q?=0D=0ABcc:_eve?=", "b@customer.example")];
    draft.in_reply_to = Some("a@b>\r\nBcc: <eve@evil.example".into());
    draft.references = vec!["ok@x".into(), "a\r\nBcc:e@x".into(), "<a@b".into()];
    draft.attachments = vec![Enclosure {
        name: evil.into(),
        content_type: evil.into(),
        bytes: evil.into(),
        content_id: Some(evil.into()),
    }];
    let mut identity = identity();
    identity.from.name = evil.into();
    identity.fields = vec![("X-Account".into(), evil.into())];
    let bytes = compose(&draft, &identity).unwrap().bytes;
    assert_fit(&bytes);
    let want = "Date From To Cc Reply-To Subject Message-ID References X-Account MIME-Version Content-Type";
    assert_eq!(field_names(&bytes).join(" "), want);
    assert_eq!(read(&bytes).0.references, ["ok@x"]);
}

#[test]
fn only_local_parts_beyond_ascii_need_smtputf8() {
    for (at, needs, written) in [
        ("ann@müller.example", false, "<ann@xn--mller-kva.example>"),
        ("jürgen@müller.example", true, "<jürgen@xn--mller-kva.example>"),
    ] {
        let draft = Draft { to: vec![somebody("", at)], ..draft(text("x")) };
        let composed = compose(&draft, &identity()).unwrap();
        assert_eq!(composed.smtputf8, needs, "{at}");
        assert!(String::from_utf8(composed.bytes).unwrap().contains(&format!("To: {written}\r\n")), "{at}");
    }
}

#[test]
fn html_of_the_caller_gets_signature_and_quote_inside() {
    let words = |html: &str| Words { body: Body::default(), html: Some(html.into()) };
    let table = [
        ("<p>Hi</p>", "<body>\n<p>Hi</p>\n<p>-- <br>\nA &lt;B&gt;</p>\n</body></html>", "Hi\n\n-- \nA <B>"),
        (
            "<html><BODY><p>Hi</p></BODY></html>",
            "<p>Hi</p><p>-- <br>\nA &lt;B&gt;</p>\n</BODY></html>",
            "Hi\n\n-- \nA <B>",
        ),
    ];
    for (html, wanted, text) in table {
        let draft = Draft { signature: Some("A <B>".into()), ..draft(words(html)) };
        let (_, content) = read(&compose(&draft, &identity()).unwrap().bytes);
        assert!(content.html.as_ref().unwrap().contains(wanted), "{content:?}");
        assert_eq!(content.text.trim_end(), text);
    }
}

/// Text in all scripts, with everything that has ever broken a mail.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,120}",
        "\\PC{0,60}",
        "[a-z ]{0,400}",
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("=?utf-8?Q?x?=".to_owned()),
        Just("\n.\n".to_owned()),
        Just("\nFrom me\n>From you\n > x\n".to_owned()),
        Just("x".repeat(2000)),
        Just("語".repeat(700)),
        "\\PC{0,3}[\u{0}-\u{1f}\u{7f}\u{85}\u{2028}]\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// What is left of a text in a header field.
fn in_a_field(text: &str, most: usize) -> String {
    one_line(text, most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_subject_name_file_and_body_comes_back(
        subject in any_text(), name in any_text(), file in any_text(), body in any_text(), bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        let mut draft = draft(text(&format!("begin\n{body}\nend")));
        draft.subject = subject.clone();
        draft.to[0].name = name.clone();
        let enclosure = Enclosure { name: format!("a{file}"), content_type: "application/pdf".into(), bytes, content_id: None };
        draft.attachments = vec![enclosure.clone()];
        let composed = compose(&draft, &identity()).unwrap();
        assert_fit(&composed.bytes);
        let parsed = message::parse(&composed.bytes, &Limits::default()).unwrap();
        let (summary, content) = (parsed.summary(), parsed.content());
        prop_assert_eq!(summary.subject, in_a_field(&subject, MAX_SUBJECT));
        prop_assert_eq!(summary.to.len(), 1);
        prop_assert_eq!(&summary.to[0].address, "ann@customer.example");
        prop_assert_eq!(&summary.to[0].name, &in_a_field(&name, MAX_DISPLAY_NAME).replace("=?", "= ?"));
        prop_assert_eq!(content.attachments.len(), 1);
        prop_assert_eq!(parsed.attachment(0).unwrap(), enclosure.bytes);
        let got = content.attachments[0].name.clone().unwrap();
        prop_assert!(!got.contains(['/', '\\']) && got.starts_with('a'), "{got}");
        // What was written comes back once the soft line breaks are taken out.
        let want: Vec<(usize, String)> = flowed::tests::decode(&flowed::encode(&lines(&format!("begin\n{body}\nend"))));
        prop_assert_eq!(flowed::tests::decode(&content.text.replace('\n', "\r\n")), want);
    }

    #[test]
    fn unquoted_text_is_what_it_was(body in any_text()) {
        let clean: Vec<String> = lines(&body).split('\n').map(|line| line.trim_end_matches(' ').to_owned()).collect();
        let typed: Vec<String> = clean.into_iter().filter(|line| !line.starts_with('>') && line != "--").collect();
        let text = typed.join("\n");
        let got: Vec<String> = flowed::tests::decode(&flowed::encode(&text)).into_iter().map(|(_, line)| line).collect();
        prop_assert_eq!(got.join("\n").trim_end().to_owned(), text.trim_end().to_owned());
    }

    #[test]
    fn any_markdown_makes_a_mail(body in any_text(), html in any_text()) {
        for html in [None, Some(html.clone())] {
            let words = Words { body: Body::Markdown(format!("x{body}")), html };
            assert_fit(&compose(&draft(words), &identity()).unwrap().bytes);
        }
    }

    #[test]
    fn any_chain_is_folded(ids in prop::collection::vec("[!-~]{1,300}@x", 0..200)) {
        let draft = Draft { references: ids, ..draft(text("x")) };
        assert_fit(&compose(&draft, &identity()).unwrap().bytes);
    }
}
