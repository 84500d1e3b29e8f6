use std::net::Ipv4Addr;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::mail::Address;
use crate::net::connect::ConnectConfig;
use crate::net::dns;
use crate::relay::body::nature;
use crate::relay::job::JobRecipient;
use crate::relay::kept::KeptPolicies;
use crate::relay::pool::Limits;
use crate::relay::stub::{Answer, DnsServer};
use crate::relay::tests::{Both, certificate};

/// What a server does about TLS.
#[derive(Clone)]
enum Tls {
    No,
    Yes(TlsAcceptor),
    /// It says yes, and hangs up.
    Broken,
}

/// A server that takes every mail and answers with its label.
async fn serve(listener: TcpListener, label: &'static str, tls: Tls) {
    while let Ok((socket, _)) = listener.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            let mut wire: BufReader<Box<dyn Both>> = BufReader::new(Box::new(socket));
            let _ = wire.write_all(b"220 hello\r\n").await;
            let (mut line, mut data, mut secured) = (String::new(), false, "clear");
            while wire.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                let verb = line.split([' ', '\r', ':']).next().unwrap_or_default().to_uppercase();
                let offers = !matches!(tls, Tls::No) && secured == "clear";
                let answer = match (data, verb.as_str()) {
                    (true, ".") => format!("250 {label} {secured}"),
                    (true, _) => String::new(),
                    (false, "DATA") => "354 go".to_owned(),
                    (false, "EHLO") if offers => "250-hello\r\n250 STARTTLS".to_owned(),
                    (false, "STARTTLS") => "220 go".to_owned(),
                    (false, _) => "250 ok".to_owned(),
                };
                data = verb == "DATA" || (data && verb != ".");
                line.clear();
                if !answer.is_empty() {
                    let _ = wire.write_all(format!("{answer}\r\n").as_bytes()).await;
                }
                if verb == "STARTTLS" {
                    let Tls::Yes(acceptor) = &tls else { return };
                    let Ok(stream) = acceptor.accept(wire.into_inner()).await else { return };
                    let stream: Box<dyn Both> = Box::new(stream);
                    (wire, secured) = (BufReader::new(stream), "tls");
                }
            }
        });
    }
}

/// Name servers, and mail servers on 127.0.0.1 ("one") and 127.0.0.2 ("two").
struct World {
    direct: Direct,
    _dns: DnsServer,
}

async fn world(
    records: &[(&str, Answer)],
    one: Tls,
    two: Tls,
    ca: Option<&Path>,
    policy: Option<&'static str>,
) -> World {
    let dns = DnsServer::start(records).await;
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    tokio::spawn(serve(first, "one", one));
    tokio::spawn(serve(TcpListener::bind(("127.0.0.2", port)).await.unwrap(), "two", two));
    let config = dns::Config { name_servers: vec![dns.address], ..dns::Config::default() };
    let ca_file = ca.map(|dir| dir.join("ca.pem"));
    let connect = ConnectConfig { ca_file, proxy: None, timeout: Duration::from_secs(2) };
    let fetch = move |_| {
        let answer = policy.map(str::to_owned).ok_or_else(|| "404".to_owned());
        Box::pin(async move { answer }) as std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send>>
    };
    let direct = Direct {
        name: "direct".into(),
        port,
        hostname: "gw.example".into(),
        command_timeout: Duration::from_secs(2),
        data_timeout: Duration::from_secs(2),
        ipv6: false,
        dane: true,
        concurrency: 2,
        names: Names::new(&config, true).unwrap(),
        connector: Connector::new(&connect).unwrap(),
        policies: Some(Policies::new(Arc::new(fetch), kept_policies())),
        pool: Pool::new(Limits { mails: 3, idle: Duration::from_secs(5), waiting: 2 }),
        resting: Resting::new(Duration::from_secs(60)),
        places: Mutex::default(),
        metrics: Metrics::new(),
    };
    World { direct, _dns: dns }
}

/// Policies that nothing is known of, in a directory that is gone at the end of a test.
fn kept_policies() -> Arc<KeptPolicies> {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(KeptPolicies::open(dir.path(), crate::clock::Clock::system()))
}

async fn deliver(world: &World, recipients: &[&str]) -> Vec<String> {
    let recipient = |text: &&str| JobRecipient { address: Address::parse(text).unwrap(), notify: None, orcpt: None };
    let job = Job {
        id: "1".into(),
        sender: Address::parse("a@gw.example").ok(),
        recipients: recipients.iter().map(recipient).collect(),
        bytes: Arc::from(&b"X: y\r\n\r\nhi\r\n"[..]),
        smtputf8: false,
        eight_bit: false,
        ret: None,
        envid: None,
        account: None,
    };
    let sent = world.direct.deliver(Parcel { job: &job, front: b"", nature: nature(&job.bytes) }).await;
    sent.recipients.iter().map(|outcome| format!("{} {}", outcome.as_str(), outcome.reply())).collect()
}

fn a(last: u8) -> Answer {
    Answer::A(Ipv4Addr::new(127, 0, 0, last))
}

#[tokio::test]
async fn servers_are_found_as_dns_says() {
    let records = [
        ("mx.example", Answer::Many(vec![Answer::Mx(20, "two.example"), Answer::Mx(10, "one.example")])),
        ("second.example", Answer::Many(vec![Answer::Mx(20, "two.example"), Answer::Mx(10, "down.example")])),
        ("implicit.example", a(2)),
        ("null.example", Answer::Mx(0, "")),
        ("loop.example", Answer::Many(vec![Answer::Mx(10, "gw.example"), Answer::Mx(20, "one.example")])),
        ("back.example", Answer::Many(vec![Answer::Mx(10, "one.example"), Answer::Mx(20, "GW.example")])),
        ("empty.example", Answer::Mx(10, "nowhere.example")),
        ("text.example", Answer::Txt("no address".into())),
        ("trouble.example", Answer::ServFail),
        ("xn--mller-kva.example", a(1)),
        ("one.example", a(1)),
        ("two.example", a(2)),
        // Nothing listens there.
        ("down.example", a(3)),
    ];
    let world = world(&records, Tls::No, Tls::No, None, None).await;
    let table = [
        ("x@mx.example", "relayed 250 one clear"),
        ("x@second.example", "relayed 250 two clear"),
        ("x@implicit.example", "relayed 250 two clear"),
        ("x@null.example", "failed 556 5.1.10 null.example takes no mail"),
        ("x@none.example", "failed 550 5.1.2 the domain none.example does not exist"),
        ("x@loop.example", "failed 554 5.4.6 mail for loop.example would come back"),
        ("x@back.example", "relayed 250 one clear"),
        ("x@empty.example", "failed 550 5.4.4 the mail server nowhere.example has no address"),
        ("x@text.example", "failed 550 5.4.4 the mail server text.example has no address"),
        ("x@trouble.example", "delayed 451 4.4.3 the question for trouble.example was not answered"),
        ("x@müller.example", "relayed 250 one clear"),
        ("x@[127.0.0.2]", "relayed 250 two clear"),
        ("x@down.example", "delayed 451 4.4.1 down.example could not be reached, and rests"),
    ];
    for (recipient, wanted) in table {
        let told = deliver(&world, &[recipient]).await;
        assert!(told.len() == 1 && told[0].starts_with(wanted), "{recipient}: {told:?}");
    }
    // Several domains in one job, each with its own end.
    let told = deliver(&world, &["x@mx.example", "y@null.example", "z@mx.example", "z@implicit.example"]).await;
    let words: Vec<&str> = told.iter().map(|line| line.split_once(' ').unwrap().0).collect();
    assert_eq!(words, ["relayed", "failed", "relayed", "relayed"], "{told:?}");
}

#[tokio::test]
async fn tls_is_used_where_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, _) = certificate(dir.path(), "other.example");
    let world =
        world(&[("one.example", a(1)), ("two.example", a(2))], Tls::Yes(acceptor), Tls::Broken, None, None).await;
    // Nobody vouches for the certificate, and encrypted is better than not.
    assert_eq!(deliver(&world, &["x@one.example"]).await, ["relayed 250 one tls"]);
    assert_eq!(deliver(&world, &["x@two.example"]).await, ["relayed 250 two clear"]);
}

#[tokio::test]
async fn dane_decides_where_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, digest) = certificate(dir.path(), "other.example");
    let secure = |answer: Answer| Answer::Secure(Box::new(answer));
    let dns = |tlsa: Answer, mx: Answer| {
        move |port: u16| {
            vec![("d.example".to_owned(), mx.clone()), (format!("_{port}._tcp.mx.d.example"), tlsa.clone())]
        }
    };
    let wrong = Answer::Tlsa(3, 0, 1, vec![7; 32]);
    let right = Answer::Tlsa(3, 0, 1, digest);
    let mx = Answer::Mx(10, "mx.d.example");
    let yes = || Tls::Yes(acceptor.clone());
    let table = [
        ("the right certificate", dns(secure(right.clone()), secure(mx.clone())), yes(), "relayed 250 one tls"),
        ("another one", dns(secure(wrong.clone()), secure(mx.clone())), yes(), "delayed 451 4.7.5 the certificate of"),
        ("no TLS", dns(secure(right.clone()), secure(mx.clone())), Tls::No, "delayed 451 4.7.4 mx.d.example does not"),
        ("no answer", dns(Answer::ServFail, secure(mx.clone())), yes(), "delayed 451 4.4.3 the question for _"),
        ("nobody vouches", dns(wrong.clone(), secure(mx.clone())), yes(), "relayed 250 one tls"),
        // A name server that knows nothing of TLSA is not asked.
        ("nobody vouches for the address", dns(Answer::ServFail, secure(mx.clone())), yes(), "relayed 250 one tls"),
        ("nobody vouches for the host", dns(secure(wrong), mx), yes(), "relayed 250 one tls"),
    ];
    for (what, records, tls, wanted) in table {
        // The port stands in the name of the record, so the name server comes last.
        let mut world = world(&[], tls, Tls::No, None, None).await;
        let mut records = records(world.direct.port);
        let unsigned = what == "nobody vouches for the address";
        records.push(("mx.d.example".to_owned(), if unsigned { a(1) } else { secure(a(1)) }));
        let records: Vec<(&str, Answer)> =
            records.iter().map(|(name, answer)| (name.as_str(), answer.clone())).collect();
        let dns = DnsServer::start(&records).await;
        let config = dns::Config { name_servers: vec![dns.address], ..dns::Config::default() };
        world.direct.names = Names::new(&config, true).unwrap();
        let told = deliver(&world, &["x@d.example"]).await;
        assert!(told[0].starts_with(wanted), "{what}: {told:?}");
    }
}

#[tokio::test]
async fn dane_of_an_alias_is_that_of_its_end_and_then_its_own() {
    let dir = tempfile::tempdir().unwrap();
    // Its certificate stands under an authority that TLSA records name, so that the name matters.
    let (acceptor, digest) = certificate(dir.path(), "real.p.example");
    let secure = |answer: Answer| Answer::Secure(Box::new(answer));
    let alias = || Answer::Alias("real.p.example", Box::new(a(1)));
    let (right, wrong) = (Answer::Tlsa(3, 0, 1, digest), Answer::Tlsa(3, 0, 1, vec![7; 32]));
    // What stands under the alias, under its end; the host, the host as an alias only; what comes of it.
    let table = [
        (None, Some(right.clone()), secure(alias()), None, "relayed 250 one tls"),
        (Some(wrong.clone()), Some(right.clone()), secure(alias()), None, "relayed 250 one tls"),
        (Some(right.clone()), Some(wrong.clone()), secure(alias()), None, "delayed 451 4.7.5 the certificate of"),
        (Some(right.clone()), None, secure(alias()), None, "relayed 250 one tls"),
        (Some(wrong.clone()), None, secure(alias()), None, "delayed 451 4.7.5 the certificate of"),
        // DNSSEC vouches for the alias and not for where it leads to.
        (Some(wrong.clone()), Some(right.clone()), alias(), Some(true), "delayed 451 4.7.5 the certificate of"),
        (None, Some(wrong.clone()), alias(), Some(true), "relayed 250 one tls"),
        (Some(wrong.clone()), Some(wrong), alias(), Some(false), "relayed 250 one tls"),
    ];
    for (own, end, host, vouched, wanted) in table {
        let mut world = world(&[], Tls::Yes(acceptor.clone()), Tls::No, None, None).await;
        let port = world.direct.port;
        let names = [format!("_{port}._tcp.mx.d.example"), format!("_{port}._tcp.real.p.example")];
        let mut records = vec![("d.example", secure(Answer::Mx(10, "mx.d.example"))), ("real.p.example", a(1))];
        let host = match vouched {
            // The table of the name server has one answer a name: its own part alone is what DNSSEC vouches for.
            Some(true) => Answer::HalfSecure(Box::new(host)),
            _ => host,
        };
        records.push(("mx.d.example", host));
        records.extend(own.map(|tlsa| (names[0].as_str(), secure(tlsa))));
        records.extend(end.map(|tlsa| (names[1].as_str(), secure(tlsa))));
        let dns = DnsServer::start(&records).await;
        let config = dns::Config { name_servers: vec![dns.address], ..dns::Config::default() };
        world.direct.names = Names::new(&config, true).unwrap();
        let told = deliver(&world, &["x@d.example"]).await;
        assert!(told[0].starts_with(wanted), "{records:?}: {told:?}");
    }
}

#[tokio::test]
async fn mta_sts_decides_where_it_is_enforced() {
    const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: mx.s.example\nmax_age: 86400\n";
    const TESTING: &str = "version: STSv1\nmode: testing\nmx: elsewhere.example\nmax_age: 86400\n";
    const ELSEWHERE: &str = "version: STSv1\nmode: enforce\nmx: *.s.test\nmax_age: 86400\n";
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = certificate(dir.path(), "mx.s.example");
    let records = [
        ("s.example", Answer::Mx(10, "mx.s.example")),
        ("mx.s.example", a(1)),
        ("_mta-sts.s.example", Answer::Txt("v=STSv1; id=1".into())),
    ];
    let table = [
        ("all is well", ENFORCE, Tls::Yes(good.clone()), Some(dir.path()), "relayed 250 one tls"),
        ("a stranger", ENFORCE, Tls::Yes(good.clone()), None, "delayed 451 4.7.5 the certificate of"),
        ("no TLS", ENFORCE, Tls::No, Some(dir.path()), "delayed 451 4.7.4 mx.s.example does not offer"),
        ("another host", ELSEWHERE, Tls::Yes(good.clone()), Some(dir.path()), "delayed 451 4.7.5 the MTA-STS policy"),
        ("testing", TESTING, Tls::Yes(good), None, "relayed 250 one tls"),
    ];
    for (what, policy, tls, ca, wanted) in table {
        let world = world(&records, tls, Tls::No, ca, Some(policy)).await;
        let told = deliver(&world, &["x@s.example"]).await;
        assert!(told[0].starts_with(wanted), "{what}: {told:?}");
    }
}

#[tokio::test]
async fn places_of_a_domain_are_shared_and_go_away() {
    let world = world(&[], Tls::No, Tls::No, None, None).await;
    let (one, again) = (world.direct.place("a.example"), world.direct.place("a.example"));
    assert!(Arc::ptr_eq(&one, &again));
    drop((one, again));
    let _other = world.direct.place("b.example");
    assert_eq!(world.direct.places.lock().unwrap().len(), 1);
}
