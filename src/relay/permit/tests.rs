use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::look::{ends_in_failure, onward};
use super::*;
use crate::clock::Clock;
use crate::mail::Address;
use crate::net::dns;
use crate::relay::stub::{Answer, DnsServer};
use crate::relay::{Algorithm, Security};

fn policy(text: &str) -> Dmarc {
    Ok(Policy::of("a.example", vec![("a.example".into(), format!("v=DMARC1; {text}"))]))
}

fn ours(domain: &str, published: Published) -> Signing {
    let (name, record) = (format!("s._domainkey.{domain}"), "v=DKIM1; p=x".into());
    Signing::Ours(vec![Key { domain: domain.into(), name, record, published }])
}

/// Keys of a.example that are published, of these kinds.
fn kinds(kinds: &[&str]) -> Signing {
    let key = |kind: &&str| Key {
        domain: "a.example".into(),
        name: format!("{kind}._domainkey.a.example"),
        record: format!("v=DKIM1; k={kind}; p=x"),
        published: Published::Same,
    };
    Signing::Ours(kinds.iter().map(key).collect())
}

fn lacks(fails: bool) -> Spf {
    Spf::Lacks { term: "ip4:192.0.2.1".into(), fails }
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::May => "may",
        Standing::MayNot(_) => "may not",
        Standing::NotKnown(_) => "not known",
    }
}

#[test]
fn a_mail_may_leave_where_it_passes() {
    let smart = || Way::Smarthost("smtp.hub.example".into());
    let reject = || policy("p=reject");
    let (nobody, broken) = (|| Signing::Nobody, || Spf::Broken("loop".into()));
    let silent = || Spf::NotKnown("no answer".into());
    let own = Some("a.example");
    // The way, the domain of the return path, SPF, who signs, DMARC; whether it may, and a part of why not.
    type Case = (Way, Option<&'static str>, Spf, Signing, Dmarc, &'static str, &'static str);
    let table: Vec<Case> = vec![
        // With a policy SPF or DKIM has to pass, and be aligned.
        (Way::Here, own, Spf::Permits, nobody(), reject(), "may", ""),
        (Way::Here, own, lacks(true), ours("a.example", Published::Same), reject(), "may", ""),
        (Way::Here, own, lacks(true), nobody(), reject(), "may not", "(p=reject) SPF or DKIM has to pass"),
        (Way::Here, own, lacks(true), nobody(), policy("p=none"), "may not", "\"ip4:192.0.2.1\" is missing"),
        (Way::Here, own, lacks(false), nobody(), reject(), "may not", "signs nothing"),
        (Way::Here, own, broken(), nobody(), reject(), "may not", "cannot be evaluated: loop"),
        (Way::Here, own, Spf::NoRecord("x".into()), nobody(), reject(), "may not", "there is no SPF record"),
        (Way::Here, own, lacks(true), ours("a.example", Published::Other), reject(), "may not", "another DKIM key"),
        (Way::Here, own, lacks(true), ours("a.example", Published::Missing), reject(), "may not", "does not exist"),
        // A return path of somebody else's, of a domain below, of nobody.
        (
            Way::Here,
            Some("b.example"),
            Spf::Permits,
            nobody(),
            reject(),
            "may not",
            "of b.example, which is not aligned",
        ),
        (Way::Here, Some("m.a.example"), Spf::Permits, nobody(), reject(), "may", ""),
        (Way::Here, Some("m.a.example"), Spf::Permits, nobody(), policy("p=reject; aspf=s"), "may not", "not aligned"),
        (Way::Here, None, Spf::Permits, nobody(), reject(), "may not", "no return path"),
        (Way::Here, None, Spf::Permits, ours("a.example", Published::Same), reject(), "may", ""),
        (Way::Here, own, lacks(true), ours("example", Published::Same), reject(), "may not", "is not aligned"),
        // What only some receivers can check is no permission by itself.
        (Way::Here, own, lacks(true), kinds(&["ed25519"]), reject(), "may not", "an ed25519 one, which many receivers"),
        (Way::Here, own, lacks(true), kinds(&["ed25519", "rsa"]), reject(), "may", ""),
        (Way::Here, own, Spf::Permits, kinds(&["ed25519"]), reject(), "may", ""),
        (smart(), own, lacks(true), kinds(&["ed25519"]), reject(), "not known", "an ed25519 one"),
        // What DNS does not say is not known, unless something else is enough.
        (Way::Here, own, silent(), nobody(), reject(), "not known", "SPF: no answer"),
        (Way::Here, own, silent(), ours("a.example", Published::Same), reject(), "may", ""),
        (
            Way::Here,
            own,
            lacks(true),
            ours("a.example", Published::NotKnown("no answer".into())),
            reject(),
            "not known",
            "",
        ),
        (Way::Here, own, Spf::Permits, nobody(), Err("no answer".into()), "not known", "DMARC record: no answer"),
        (Way::Provider, own, Spf::Permits, Signing::Provider, reject(), "may", ""),
        (Way::Provider, own, lacks(true), Signing::Provider, reject(), "not known", "whether the provider signs"),
        (smart(), own, Spf::Permits, nobody(), reject(), "may", ""),
        (smart(), own, lacks(true), nobody(), reject(), "not known", "smtp.hub.example, and from which addresses"),
        (smart(), own, lacks(true), ours("a.example", Published::Same), reject(), "may", ""),
        // Without a policy SPF must not fail.
        (Way::Here, own, Spf::Permits, nobody(), Ok(None), "may", ""),
        (Way::Here, own, Spf::NoRecord("x".into()), nobody(), Ok(None), "may", ""),
        (Way::Here, own, lacks(false), nobody(), Ok(None), "may", ""),
        (Way::Here, own, lacks(true), nobody(), Ok(None), "may not", "is missing"),
        (Way::Here, own, lacks(true), ours("a.example", Published::Same), Ok(None), "may not", "is missing"),
        (Way::Here, own, broken(), nobody(), Ok(None), "may not", "loop"),
        (Way::Here, own, silent(), nobody(), Ok(None), "not known", "no answer"),
        (smart(), own, lacks(true), nobody(), Ok(None), "not known", "is not known here"),
        (smart(), own, lacks(false), nobody(), Ok(None), "may", ""),
    ];
    for (way, path, spf, signing, dmarc, want, part) in table {
        let (domain, relay) = ("a.example".into(), "out".into());
        let looked = Looked { domain, path: path.map(str::to_owned), relay, way, spf, signing, dmarc };
        let got = looked.standing();
        assert_eq!(word(&got), want, "{looked:?}");
        if let Standing::MayNot(why) | Standing::NotKnown(why) = &got {
            assert!(why.contains(part), "{why}");
        }
    }
}

#[test]
fn the_policy_is_found_on_the_way_up() {
    // The domain; the records of names on the way up; the organisation, and what is asked of receivers.
    type Case = (&'static str, &'static [(&'static str, &'static str)], Option<(&'static str, &'static str)>);
    let table: [Case; 8] = [
        ("a.example.com", &[], None),
        ("example.com", &[("example.com", "p=reject")], Some(("example.com", "reject"))),
        ("a.example.com", &[("example.com", "p=reject")], Some(("example.com", "reject"))),
        ("a.example.com", &[("example.com", "p=reject; sp=none")], Some(("example.com", "none"))),
        (
            "a.example.com",
            &[("a.example.com", "p=quarantine; sp=none"), ("example.com", "p=reject")],
            Some(("example.com", "quarantine")),
        ),
        (
            "x.a.example.com",
            &[("a.example.com", "p=reject; psd=n"), ("example.com", "p=none")],
            Some(("a.example.com", "reject")),
        ),
        ("x.a.co.uk", &[("co.uk", "p=none; psd=y")], Some(("a.co.uk", "none"))),
        ("a.co.uk", &[("a.co.uk", "p=reject"), ("co.uk", "p=none; psd=y")], Some(("a.co.uk", "reject"))),
    ];
    for (domain, records, want) in table {
        let found = records.iter().map(|(name, text)| ((*name).to_owned(), format!("v=DMARC1; {text}"))).collect();
        let got = Policy::of(domain, found);
        let got = got.map(|policy| (policy.organisation.clone(), policy.word()));
        assert_eq!(got, want.map(|(domain, word)| (domain.to_owned(), word.to_owned())), "{domain} {records:?}");
    }
    assert_eq!(walk("a.b.example"), ["a.b.example", "b.example"]);
    assert_eq!(walk("localhost"), ["localhost"]);
    let deep = walk("1.2.3.4.5.6.7.8.9.10.a.example");
    assert!(deep.len() <= WALK && deep[1] == "6.7.8.9.10.a.example", "{deep:?}");
}

#[test]
fn records_are_read_as_they_are_written() {
    assert_eq!(tag("v=DMARC1; p=none; rua=mailto:a@b", "p").as_deref(), Some("none"));
    assert_eq!(tag("v=DKIM1;k=rsa;p= MII B ", "p").as_deref(), Some("MIIB"));
    let record = "v=spf1 ip4:192.0.2.1 include:_SPF.google.com. -include:no.example ~all redirect=b.example";
    assert_eq!(onward(record), ["_spf.google.com", "b.example"]);
    let table = [
        ("v=spf1 a -all", true),
        ("v=spf1 a ~ALL", true),
        ("v=spf1 a ?all", false),
        ("v=spf1 a", false),
        ("v=spf1 +all", false),
        ("v=spf1 redirect=b.example", true),
    ];
    for (record, fails) in table {
        assert_eq!(ends_in_failure(record), fails, "{record}");
    }
}

/// Relays as an operator has them: directly, by a smarthost, signed and not.
fn relays() -> Vec<RelayConfig> {
    let smart = RelayConfig {
        name: "smart".into(),
        host: Some("192.0.2.9".into()),
        security: Some(Security::None),
        ..RelayConfig::default()
    };
    let signing = RelayConfig { name: "signing".into(), dkim: Some(true), ..smart.clone() };
    vec![RelayConfig { name: "direct".into(), kind: Kind::Direct, ..RelayConfig::default() }, smart, signing]
}

fn key() -> DkimConfig {
    let key_file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys/dkim_rsa.pem");
    DkimConfig { domain: "keyed.example".into(), selector: "s".into(), key_file, algorithm: Algorithm::RsaSha256 }
}

struct Bed {
    server: DnsServer,
    permits: Permits,
    now: Arc<AtomicI64>,
}

impl Bed {
    async fn new() -> Self {
        let text = |text: &str| Answer::Txt(text.into());
        let (name, record) = dns_record(&key()).unwrap();
        let server = DnsServer::start(&[
            ("gw.example", Answer::A([192, 0, 2, 5].into())),
            ("a.example", text("v=spf1 ip4:192.0.2.5 -all")),
            ("_dmarc.a.example", text("v=DMARC1; p=reject")),
            ("b.example", text("v=spf1 -all")),
            ("_dmarc.b.example", text("v=DMARC1; p=reject")),
            ("keyed.example", text("v=spf1 -all")),
            ("_dmarc.keyed.example", text("v=DMARC1; p=reject; adkim=s; aspf=s")),
            (name.as_str(), Answer::Txt(record)),
            ("quiet.example", Answer::ServFail),
        ])
        .await;
        let now = Arc::new(AtomicI64::new(1_795_000_000));
        let ticking = Arc::clone(&now);
        let permits =
            Permits::new(Clock::from_fn(move || Timestamp::from_second(ticking.load(Ordering::SeqCst)).unwrap()));
        let bed = Self { server, permits, now };
        bed.configure();
        bed
    }

    fn configure(&self) {
        let timeout = Duration::from_millis(200);
        let dns = dns::Config { name_servers: vec![self.server.address], query_timeout: timeout, attempts: 1 };
        let relays = relays().into_iter().map(|relay| (relay.name.clone(), relay)).collect();
        self.permits.configure(Settings { relays, keys: vec![OwnKey::of(&key())], dns, hostname: "gw.example".into() });
    }

    fn ask(&self, relay: &str, from: &str) -> Permit {
        let sender = Address::parse(from).ok();
        self.permits.ask(relay, format!("From: <{from}>\r\n\r\nHello\r\n").as_bytes(), sender.as_ref())
    }

    /// Asks until there is an answer.
    async fn answer(&self, relay: &str, from: &str) -> Standing {
        let asked = async {
            loop {
                match self.ask(relay, from) {
                    Permit::Known { standing, .. } => return standing,
                    Permit::Asking(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap()
    }
}

#[tokio::test]
async fn domains_are_asked_about_their_relays() {
    let bed = Bed::new().await;
    let table = [
        ("direct", "x@a.example", "may"),
        ("direct", "x@b.example", "may not"),
        ("smart", "x@b.example", "not known"),
        ("direct", "x@keyed.example", "may"),
        ("smart", "x@keyed.example", "not known"),
        ("signing", "x@keyed.example", "may"),
        ("direct", "x@none.example", "may"),
        ("direct", "x@quiet.example", "not known"),
        ("gone", "x@a.example", "may not"),
    ];
    for (relay, from, want) in table {
        let got = bed.answer(relay, from).await;
        assert_eq!(word(&got), want, "{relay} {from}: {got:?}");
    }
    let several = b"From: <x@a.example>, <y@b.example>\r\n\r\n";
    for head in [several.as_slice(), b"Subject: x\r\n\r\n"] {
        let Permit::Known { standing, .. } = bed.permits.ask("direct", head, None) else { panic!() };
        assert_eq!(word(&standing), "may not");
    }
}

#[tokio::test]
async fn answers_are_kept_for_a_while_and_nobody_waits_for_them() {
    let bed = Bed::new().await;
    assert!(matches!(bed.ask("direct", "x@a.example"), Permit::Asking(_)), "the first one comes again");
    assert_eq!(bed.answer("direct", "x@a.example").await, Standing::May);
    let asked = bed.server.asked();
    assert_eq!(bed.answer("direct", "other@a.example").await, Standing::May);
    assert_eq!(bed.server.asked(), asked, "one question for a domain");
    bed.now.fetch_add(599, Ordering::SeqCst);
    assert!(matches!(bed.ask("direct", "x@a.example"), Permit::Known { .. }));
    bed.now.fetch_add(1, Ordering::SeqCst);
    assert!(matches!(bed.ask("direct", "x@a.example"), Permit::Asking(_)), "it is looked up anew");
    // What DNS did not say is asked sooner, and a reload forgets everything.
    assert_eq!(word(&bed.answer("direct", "x@quiet.example").await), "not known");
    bed.now.fetch_add(60, Ordering::SeqCst);
    assert!(matches!(bed.ask("direct", "x@quiet.example"), Permit::Asking(_)));
    assert_eq!(bed.answer("direct", "x@a.example").await, Standing::May);
    bed.configure();
    assert!(matches!(bed.ask("direct", "x@a.example"), Permit::Asking(_)));
}
