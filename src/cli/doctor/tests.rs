//! Channels are looked at by a name server on loopback.

use super::*;
use crate::relay::dkim::dns_record;
use crate::relay::{Algorithm, DkimConfig, Preset};
use stub::{Answer, DnsServer};

fn key() -> DkimConfig {
    let key_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/dkim_rsa.pem");
    DkimConfig { domain: "b.example".into(), selector: "s1".into(), key_file, algorithm: Algorithm::RsaSha256 }
}

async fn levels(table: &[(&str, Answer)], channel: &str, relay: RelayConfig) -> Vec<(&'static str, Level)> {
    let server = DnsServer::start(table).await;
    let mut config = Config { dkim: vec![key()], ..Config::default() };
    config.verify.dns.name_servers = vec![server.address];
    config.verify.dns.query_timeout = std::time::Duration::from_millis(200);
    config.verify.dns.attempts = 1;
    config.server.hostname = "gw.example".into();
    let looker = looker(&config).unwrap();
    let findings = by_relay(&looker, &Address::parse(channel).unwrap(), &relay).await;
    findings.into_iter().map(|finding| (finding.check, finding.level)).collect()
}

#[tokio::test]
async fn what_domains_publish_is_found() {
    use Level::{Good, NotKnown, Warning, Wrong};
    let text = |text: &str| Answer::Txt(text.into());
    let (name, record) = dns_record(&key()).unwrap();
    let table = [
        (
            "a.example",
            Answer::Many(vec![text("v=spf1 include:deep.example -all"), text("v=spf10 x"), Answer::Mx(1, "m.example")]),
        ),
        ("deep.example", text("v=spf1 include:_spf.google.com ~all")),
        ("_spf.google.com", text("v=spf1 ip4:198.51.100.1 -all")),
        ("_dmarc.a.example", text("v=DMARC1; p=reject")),
        ("gw.example", Answer::A([192, 0, 2, 5].into())),
        ("b.example", Answer::Many(vec![text("v=spf1 ip4:192.0.2.5 -all"), Answer::Mx(0, "")])),
        (name.as_str(), Answer::Txt(record)),
        ("_dmarc.b.example", text("v=DMARC1; p=quarantine; adkim=s")),
        ("c.example", Answer::Silence),
        ("_dmarc.c.example", Answer::ServFail),
        ("loop.example", text("v=spf1 include:loop.example -all")),
        (
            "m.example",
            Answer::Many(vec![text("v=spf1 include:spf.protection.outlook.com -all"), Answer::Mx(1, "m.example")]),
        ),
        ("_dmarc.m.example", text("v=DMARC1; p=reject")),
    ];
    let gmail = || RelayConfig { name: "g".into(), preset: Preset::Gmail, ..RelayConfig::default() };
    let microsoft = || RelayConfig { preset: Preset::Microsoft365, ..gmail() };
    let direct = || RelayConfig { name: "d".into(), kind: Kind::Direct, ..RelayConfig::default() };
    let smart = |host: &str| RelayConfig { name: "s".into(), host: Some(host.into()), ..RelayConfig::default() };
    let signing = |host: &str| RelayConfig { dkim: Some(true), ..smart(host) };
    // The channel, its relay; SPF, DKIM, DMARC, MX.
    let rows = [
        ("x@a.example", gmail(), [Good, NotKnown, Good, Good]),
        ("x@a.example", direct(), [Wrong, Warning, Wrong, Good]),
        ("x@a.example", smart("192.0.2.5"), [Warning, Warning, Warning, Good]),
        ("x@b.example", direct(), [Good, Good, Good, Wrong]),
        ("x@b.example", smart("192.0.2.6"), [Warning, Warning, Warning, Wrong]),
        ("x@b.example", signing("192.0.2.6"), [Good, Good, Good, Wrong]),
        ("x@b.example", smart("192.0.2.5"), [Good, Warning, Good, Wrong]),
        ("x@b.example", gmail(), [Wrong, NotKnown, NotKnown, Wrong]),
        ("x@m.example", microsoft(), [Good, NotKnown, Good, Good]),
        ("x@m.example", gmail(), [Wrong, NotKnown, NotKnown, Good]),
        ("x@sub.b.example", direct(), [Warning, Good, Wrong, Wrong]),
        ("x@c.example", gmail(), [NotKnown, NotKnown, NotKnown, NotKnown]),
        ("x@loop.example", gmail(), [Wrong, NotKnown, Warning, Good]),
    ];
    for (channel, relay, want) in rows {
        let got = levels(&table, channel, relay.clone()).await;
        assert_eq!(
            got.iter().map(|(_, level)| *level).collect::<Vec<_>>(),
            want,
            "{channel} by {}: {got:?}",
            relay.name
        );
    }
}
