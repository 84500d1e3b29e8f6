//! Senders are verified against a name server on loopback, with mails that are signed here.

#[path = "support/dns.rs"]
mod dns;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dns::{Answer, DnsServer};
use mail_auth::arc::ArcSealer;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::DkimSigner;
use mail_auth::{AuthenticatedMessage, AuthenticationResults, MessageAuthenticator};
use ticketgate::mail::Address;
use ticketgate::mail::HeaderSection;
use ticketgate::mail::auth::{AuthResults, DmarcPolicy, Verdict};
use ticketgate::net::verify::{Config, Verifier};

const MAIL: &str = "From: Ann <ann@shop.example>\r\nTo: support@desk.example\r\nSubject: Order\r\n\
                    Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@shop.example>\r\n\r\nWhere is it?\r\n";
const PEER: &str = "192.0.2.7";

/// A case, the peer, the envelope's sender, the mail, and the verdicts of SPF, DKIM, DMARC and ARC.
type Row<'a> = (&'a str, &'a str, Option<&'a str>, &'a str, [&'a str; 4]);

/// A key pair: the signer's half, and the record for its domain.
fn key() -> (Vec<u8>, Answer) {
    let pkcs8 = Ed25519Key::generate_pkcs8().unwrap();
    let public = Ed25519Key::from_pkcs8_maybe_unchecked_der(&pkcs8).unwrap().public_key();
    (pkcs8, Answer::Txt(format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(public))))
}

fn signed(pkcs8: &[u8], domain: &str, mail: &str) -> String {
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8).unwrap();
    let signer = DkimSigner::from_key(key).domain(domain).selector("s").headers(["From", "To", "Subject"]);
    format!("{}{mail}", signer.sign(mail.as_bytes()).unwrap().to_header())
}

/// The mail as a list server would pass it on, sealed by `other.example` (RFC 8617).
async fn sealed(config: &Config, pkcs8: &[u8], mail: &str) -> String {
    let authenticator = MessageAuthenticator(ticketgate::net::dns::resolver(&config.dns).unwrap());
    let message = AuthenticatedMessage::parse(mail.as_bytes()).unwrap();
    let (arc, dkim) = (authenticator.verify_arc(&message).await, authenticator.verify_dkim(&message).await);
    let results = AuthenticationResults::new("list.other.example").with_dkim_results(&dkim, "ann@shop.example");
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8).unwrap();
    let sealer = ArcSealer::from_key(key).domain("other.example").selector("s").headers(["From", "To", "Subject"]);
    format!("{}{mail}", sealer.seal(&message, &results, &arc).unwrap().to_header())
}

fn config(server: &DnsServer) -> Config {
    let mut config = Config::default();
    config.dns.name_servers = vec![server.address];
    config.dns.query_timeout = Duration::from_millis(100);
    config.dns.attempts = 1;
    config
}

async fn verify(config: &Config, peer: &str, mail_from: Option<&str>, raw: &str) -> AuthResults {
    verify_by(&Verifier::new(config, "mx.example.com"), peer, mail_from, raw).await
}

async fn verify_by(verifier: &Verifier, peer: &str, mail_from: Option<&str>, raw: &str) -> AuthResults {
    let mail_from = mail_from.map(|address| Address::parse(address).unwrap());
    let peer: IpAddr = peer.parse().unwrap();
    let read = async { Ok::<_, String>(Cow::Borrowed(raw.as_bytes())) };
    verifier.verify(peer, "mx.shop.example", mail_from.as_ref(), raw.len() as u64, read).await
}

fn words(results: &AuthResults) -> [&'static str; 4] {
    [results.spf.as_str(), results.dkim.as_str(), results.dmarc.as_str(), results.arc.as_str()]
}

#[tokio::test]
async fn verdicts_follow_the_records() {
    let (pkcs8, record) = key();
    let server = DnsServer::start(&[
        ("shop.example", Answer::Txt(format!("v=spf1 ip4:{PEER} -all"))),
        ("s._domainkey.shop.example", record.clone()),
        ("_dmarc.shop.example", Answer::Txt("v=DMARC1; p=reject".to_owned())),
        ("s._domainkey.other.example", record),
        ("slow.example", Answer::Silence),
        ("sick.example", Answer::ServFail),
        ("soft.example", Answer::Txt("v=spf1 ~all".to_owned())),
        ("broken.example", Answer::Txt("v=spf1 include:broken.example -all".to_owned())),
        ("named.example", Answer::Txt("v=spf1 a:host.example -all".to_owned())),
        ("host.example", Answer::A(PEER.parse().unwrap())),
    ])
    .await;
    let config = config(&server);
    let good = signed(&pkcs8, "shop.example", MAIL);
    let foreign = signed(&pkcs8, "other.example", MAIL);
    let changed = good.replace("Where", "There");
    let retitled = good.replace("Subject: Order", "Subject: Bill");
    let unknown_key = good.replace("s=s;", "s=t;");
    let table: &[Row<'_>] = &[
        ("all in order", PEER, Some("ann@shop.example"), &good, ["pass", "pass", "pass", "none"]),
        ("forwarded", "198.51.100.1", Some("ann@shop.example"), &good, ["fail", "pass", "pass", "none"]),
        ("not signed", PEER, Some("ann@shop.example"), MAIL, ["pass", "none", "pass", "none"]),
        ("forged", "198.51.100.1", Some("ann@shop.example"), MAIL, ["fail", "none", "fail", "none"]),
        ("body changed", "198.51.100.1", Some("ann@shop.example"), &changed, ["fail", "fail", "fail", "none"]),
        ("subject changed", "198.51.100.1", Some("ann@shop.example"), &retitled, ["fail", "fail", "fail", "none"]),
        ("signed by another", "198.51.100.1", None, &foreign, ["none", "pass", "fail", "none"]),
        ("no such key", PEER, None, &unknown_key, ["none", "permerror", "fail", "none"]),
        ("null sender", PEER, None, &good, ["none", "pass", "pass", "none"]),
        ("by host name", PEER, Some("a@named.example"), MAIL, ["pass", "none", "fail", "none"]),
        ("soft failure", PEER, Some("a@soft.example"), MAIL, ["softfail", "none", "fail", "none"]),
        ("broken record", PEER, Some("a@broken.example"), MAIL, ["permerror", "none", "fail", "none"]),
        ("server trouble", PEER, Some("a@sick.example"), MAIL, ["temperror", "none", "fail", "none"]),
        ("server silent", PEER, Some("a@slow.example"), MAIL, ["temperror", "none", "fail", "none"]),
        ("mapped address", "::ffff:192.0.2.7", Some("ann@shop.example"), MAIL, ["pass", "none", "pass", "none"]),
    ];
    for (case, peer, mail_from, raw, want) in table {
        let results = verify(&config, peer, *mail_from, raw).await;
        assert_eq!(words(&results), *want, "{case}: {results:?}");
    }
    let sealed = sealed(&config, &pkcs8, &good).await;
    assert_eq!(words(&verify(&config, PEER, None, &sealed).await), ["none", "pass", "pass", "pass"]);
    let changed = sealed.replace("Where", "There");
    assert_eq!(words(&verify(&config, PEER, None, &changed).await), ["none", "fail", "fail", "fail"]);
    let results = verify(&config, "198.51.100.1", Some("ann@shop.example"), MAIL).await;
    assert_eq!(results.dmarc_policy, DmarcPolicy::Reject);
    assert_eq!(verify(&config, PEER, None, &good).await.dkim_domain.as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn the_return_path_counts_and_not_the_name_in_helo() {
    for helo in [Answer::Txt("v=spf1 -all".to_owned()), Answer::Silence] {
        let shop = Answer::Txt(format!("v=spf1 ip4:{PEER} -all"));
        let server = DnsServer::start(&[
            ("mx.shop.example", helo),
            ("shop.example", shop.clone()),
            ("xn--mller-kva.example", shop),
            ("_dmarc.shop.example", Answer::Txt("v=DMARC1; p=reject".to_owned())),
        ])
        .await;
        let mut config = config(&server);
        (config.dns.query_timeout, config.timeout) = (Duration::from_secs(60), Duration::from_secs(2));
        let sent = |mail_from| verify(&config, PEER, mail_from, MAIL);
        assert_eq!(words(&sent(Some("ann@shop.example")).await), ["pass", "none", "pass", "none"]);
        assert_eq!(words(&sent(Some("jürgen@müller.example")).await), ["pass", "none", "fail", "none"]);
    }
}

/// However its field is written, DMARC is about the author that a ticket shows.
#[tokio::test]
async fn the_author_that_is_shown_is_the_one_that_is_verified() {
    let server = DnsServer::start(&[
        ("evil.example", Answer::Txt(format!("v=spf1 ip4:{PEER} -all"))),
        ("_dmarc.shop.example", Answer::Txt("v=DMARC1; p=reject".to_owned())),
        ("_dmarc.xn--mller-kva.example", Answer::Txt("v=DMARC1; p=reject".to_owned())),
    ])
    .await;
    let config = config(&server);
    let fields = [
        "From: ann@shop.example",
        "From: ann@SHOP.example (x@evil.example)",
        "From: Team: ann@shop.example;",
        "From: \"ann@shop.example\"",
        "From: =?utf-8?q?ann=40shop.example?=",
        "From: <ann @ shop.example>",
        "From: <ann@shop.example",
        "Cc: x@evil.example\r\nFrom : ann@shop.example",
        "From:\r\n ann@shop.example",
        "From: ann@shop.example <x@evil.example",
        "From: x@evil.example <ann@shop.example>",
        "From: <@evil.example:ann@shop.example>",
        "From: jürgen@müller.example",
        "From: ann@shop.example.",
        "From: boss, ann@shop.example",
        "From:\r\nFrom: ann@shop.example",
        "From: ann@shop.example\x00",
        "From: \u{200b}ann@shop.example",
        "stray line\r\nFrom: ann@shop.example",
    ];
    for field in fields {
        let raw = format!("{field}\r\nTo: support@desk.example\r\nSubject: Order\r\n\r\nHello\r\n");
        let shown = HeaderSection::read(raw.as_bytes(), 1000).unwrap().addresses("From");
        let results = verify(&config, PEER, Some("x@evil.example"), &raw).await;
        let own = !shown.is_empty() && shown.iter().all(|from| from.domain() == "evil.example");
        assert_eq!(results.dmarc, if own { Verdict::None } else { Verdict::Fail }, "{field}: {shown:?} {results:?}");
    }
}

#[tokio::test]
async fn a_signature_that_nobody_could_look_at_in_time_fails_no_mail() {
    let (pkcs8, record) = key();
    let server = DnsServer::start(&[
        ("shop.example", Answer::Txt("v=spf1 -all".to_owned())),
        ("s._domainkey.shop.example", record),
        ("t._domainkey.shop.example", Answer::Silence),
        ("_dmarc.shop.example", Answer::Txt("v=DMARC1; p=reject".to_owned())),
    ])
    .await;
    let mut config = config(&server);
    (config.dns.query_timeout, config.timeout) = (Duration::from_secs(60), Duration::from_millis(500));
    let (verifier, good) = (Verifier::new(&config, "mx.example.com"), signed(&pkcs8, "shop.example", MAIL));
    let sent = |raw: String| {
        let verifier = verifier.clone();
        async move { verify_by(&verifier, PEER, Some("ann@shop.example"), &raw).await }
    };
    assert_eq!(words(&sent(good.clone()).await), ["fail", "pass", "pass", "none"]);
    let slow = sent(good.replace("s=s;", "s=t;")).await;
    assert_eq!(words(&slow), ["fail", "temperror", "temperror", "none"]);
    assert!(!slow.failed());
    assert_eq!(words(&sent(MAIL.to_owned()).await), ["fail", "none", "fail", "none"]);
}

/// Large mails lie in files, and what is read of them at the same time is bounded.
#[tokio::test]
async fn no_more_is_read_than_there_is_room_for() {
    let server = DnsServer::start(&[("shop.example", Answer::Silence)]).await;
    let mut config = config(&server);
    (config.dns.query_timeout, config.timeout) = (Duration::from_millis(200), Duration::from_secs(10));
    config.max_memory = 10 << 20;
    let (verifier, steps) = (Verifier::new(&config, "mx.example.com"), Mutex::new(Vec::new()));
    let one = async |name: &'static str, size: u64| {
        let read = async {
            steps.lock().unwrap().push(format!("{name} is read"));
            Ok::<_, String>(Cow::Borrowed(MAIL.as_bytes()))
        };
        let sender = Address::parse("ann@shop.example").unwrap();
        verifier.verify(PEER.parse().unwrap(), "mx", Some(&sender), size, read).await;
        steps.lock().unwrap().push(format!("{name} is done"));
    };
    tokio::join!(one("first", 9 << 20), one("second", 2 << 20));
    let order = ["first is read", "first is done", "second is read", "second is done"];
    assert_eq!(*steps.lock().unwrap(), order);
    // One that is larger than all room there is waits for the others, and two small ones do not wait.
    steps.lock().unwrap().clear();
    tokio::join!(one("huge", 30 << 20), async {});
    tokio::join!(one("first", 5 << 20), one("second", 5 << 20));
    let read: Vec<String> = steps.lock().unwrap().drain(..).collect();
    assert_eq!(read[..4], ["huge is read", "huge is done", "first is read", "second is read"]);
}

#[tokio::test]
async fn exempt_peers_cost_no_question() {
    let server = DnsServer::start(&[]).await;
    let mut config = config(&server);
    for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1"] {
        let results = verify(&config, peer, Some("ann@shop.example"), MAIL).await;
        assert_eq!(results.note.as_deref(), Some("peer is exempt"), "{peer}");
        assert_eq!(words(&results), ["none"; 4]);
    }
    config.enabled = false;
    let results = verify(&config, PEER, Some("ann@shop.example"), MAIL).await;
    assert_eq!(results.note.as_deref(), Some("verification is off"));
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn a_silent_name_server_holds_nobody_up() {
    let (pkcs8, _) = key();
    let names = ["shop.example", "s._domainkey.shop.example", "_dmarc.shop.example", "mx.shop.example"];
    let server = DnsServer::start(&names.map(|name| (name, Answer::Silence))).await;
    let mut config = config(&server);
    config.dns.query_timeout = Duration::from_secs(60);
    config.timeout = Duration::from_millis(100);
    let begun = std::time::Instant::now();
    let results = verify(&config, PEER, Some("ann@shop.example"), &signed(&pkcs8, "shop.example", MAIL)).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(words(&results), ["temperror", "temperror", "temperror", "none"]);
    assert_eq!(results.note.as_deref(), Some("DNS took longer than 100ms"));
}

#[tokio::test]
async fn the_work_for_one_mail_is_bounded() {
    let (pkcs8, record) = key();
    let dmarc = Answer::Txt("v=DMARC1; p=quarantine".to_owned());
    let server = DnsServer::start(&[("s._domainkey.shop.example", record), ("_dmarc.shop.example", dmarc)]).await;
    let mut config = config(&server);
    let good = signed(&pkcs8, "shop.example", MAIL);

    config.max_signatures = 0;
    let results = verify(&config, PEER, None, &good).await;
    assert_eq!((results.dkim, results.dmarc), (Verdict::None, Verdict::Fail));
    assert_eq!(results.note.as_deref(), Some("1 DKIM signature, the first 0 count"));

    // The author's own signature is looked at, however many stand above it.
    config.max_signatures = 1;
    let other = signed(&pkcs8, "other.example", &good);
    let results = verify(&config, PEER, None, &other).await;
    assert_eq!((results.dkim, results.dmarc), (Verdict::Pass, Verdict::Pass));
    assert_eq!(results.note.as_deref(), Some("2 DKIM signatures, the first 1 count"));

    config.max_signatures = 5;
    config.max_body_bytes = 100;
    let results = verify(&config, PEER, None, &good).await;
    assert_eq!((results.dkim, results.dmarc), (Verdict::None, Verdict::Fail));
    assert_eq!(results.note.as_deref(), Some("body too large to be hashed"));

    config.max_body_bytes = 1 << 20;
    let two = format!("From: x@evil.example\r\n{good}");
    let results = verify(&config, PEER, None, &two).await;
    assert_eq!(results.dmarc, Verdict::PermError);
    assert_eq!(results.note.as_deref(), Some("From names several domains"));

    let fields = format!("{}{good}", "a:\n".repeat(400_000));
    let results = verify(&config, PEER, None, &fields).await;
    assert_eq!(words(&results), ["none"; 4]);
    assert_eq!(results.note.as_deref(), Some("header section too large to verify"));

    let chain: String =
        (1..=20).map(|i| format!("ARC-Seal: i={i}; a=rsa-sha256; cv=pass; d=a.example; s=s; b=aGk=\r\n")).collect();
    let results = verify(&config, PEER, None, &format!("{chain}{good}")).await;
    assert_eq!(results.arc, Verdict::None);
    assert!(results.note.unwrap().contains("ARC chain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_mails_are_verified_from_a_task_of_their_own() {
    let (pkcs8, record) = key();
    let server = DnsServer::start(&[("s._domainkey.shop.example", record)]).await;
    let mut config = config(&server);
    config.max_concurrent = 1;
    let verifier = Verifier::new(&config, "mx.example.com");
    let raw = signed(&pkcs8, "shop.example", &format!("{MAIL}{}", "0123456789abcdef\r\n".repeat(60_000)));
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (verifier, raw) = (verifier.clone(), raw.clone());
            tokio::spawn(async move { verify_by(&verifier, PEER, None, &raw).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().dkim, Verdict::Pass);
    }
}
