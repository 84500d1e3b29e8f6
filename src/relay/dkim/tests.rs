use std::net::IpAddr;
use std::path::PathBuf;

use super::*;
use crate::mail::auth::Verdict;
use crate::net::verify::{self, Verifier};
use crate::relay::stub::{Answer, DnsServer};

const MAIL: &str = "From: Support <support@help.example.com>\r\nTo: a@b.example\r\nSubject:  two   words\r\n\
                    Date: Wed, 25 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@help.example.com>\r\n\r\n\
                    Hello,  \r\n\r\n.\r\nbye\r\n\r\n\r\n";

fn config(domain: &str, selector: &str, algorithm: Algorithm) -> DkimConfig {
    let name = if algorithm == Algorithm::RsaSha256 { "dkim_rsa.pem" } else { "dkim_ed25519.pem" };
    let key_file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
    DkimConfig { domain: domain.into(), selector: selector.into(), key_file, algorithm }
}

async fn verdict(mail: &[u8], configs: &[DkimConfig]) -> Verdict {
    let records: Vec<(String, String)> = configs.iter().map(|config| dns_record(config).unwrap()).collect();
    let table: Vec<(&str, Answer)> =
        records.iter().map(|(name, text)| (name.as_str(), Answer::Txt(text.clone()))).collect();
    let server = DnsServer::start(&table).await;
    let mut config = verify::Config::default();
    config.dns.name_servers = vec![server.address];
    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    let read = async { Ok::<_, String>(mail.into()) };
    Verifier::new(&config, "mx.example").verify(peer, "gw.example", None, mail.len() as u64, read).await.dkim
}

async fn signed(configs: &[DkimConfig], mail: &str) -> Vec<u8> {
    let mail: Arc<[u8]> = Arc::from(mail.as_bytes());
    let mut signed = Signers::load(configs).unwrap().sign(&mail).await.unwrap();
    signed.extend_from_slice(&mail);
    signed
}

#[tokio::test]
async fn signatures_verify_and_leave_the_mail_alone() {
    use Algorithm::{Ed25519Sha256, RsaSha256};
    // One key, the other, both, and a key of the domain above.
    let table = [
        vec![config("help.example.com", "r", RsaSha256)],
        vec![config("help.example.com", "e", Ed25519Sha256)],
        vec![config("help.example.com", "r", RsaSha256), config("help.example.com", "e", Ed25519Sha256)],
        vec![config("Example.COM", "r", RsaSha256), config("example.org", "r", RsaSha256)],
    ];
    for configs in table {
        let mail = signed(&configs, MAIL).await;
        assert!(mail.ends_with(MAIL.as_bytes()));
        let text = String::from_utf8(mail.clone()).unwrap();
        let wanted = configs.iter().filter(|config| config.domain != "example.org").count();
        assert_eq!(text.matches("DKIM-Signature: ").count(), wanted, "{text}");
        assert!(text.contains("c=relaxed/relaxed"), "{text}");
        assert_eq!(verdict(&mail, &configs).await, Verdict::Pass, "{text}");
        // A From field that somebody adds on the way breaks it, and so does a changed word.
        let added = [b"From: evil@x.example\r\n", &mail[..]].concat();
        assert_ne!(verdict(&added, &configs).await, Verdict::Pass);
        let changed = text.replace("Hello", "Hallo");
        assert_ne!(verdict(changed.as_bytes(), &configs).await, Verdict::Pass);
    }
}

#[tokio::test]
async fn international_domains_are_signed_however_they_are_written() {
    for ours in ["müller.example", "XN--MLLER-KVA.example"] {
        let configs = [config(ours, "e", Algorithm::Ed25519Sha256)];
        assert_eq!(dns_record(&configs[0]).unwrap().0, "e._domainkey.xn--mller-kva.example");
        for theirs in ["müller.example", "help.xn--mller-kva.example"] {
            let mail = signed(&configs, &MAIL.replace("help.example.com>\r\nTo", &format!("{theirs}>\r\nTo"))).await;
            let text = String::from_utf8(mail.clone()).unwrap();
            assert!(text.contains("d=xn--mller-kva.example;"), "{ours} {theirs}: {text}");
            assert_eq!(verdict(&mail, &configs).await, Verdict::Pass, "{text}");
        }
    }
}

#[tokio::test]
async fn a_large_mail_is_signed_as_well() {
    let configs = [config("help.example.com", "e", Algorithm::Ed25519Sha256)];
    let mail = format!("{MAIL}{}", "0123456789\r\n".repeat(40_000));
    assert_eq!(verdict(&signed(&configs, &mail).await, &configs).await, Verdict::Pass);
}

#[tokio::test]
async fn mail_of_another_domain_is_not_signed() {
    let configs = [config("elp.example.com", "e", Algorithm::Ed25519Sha256)];
    assert_eq!(signed(&configs, MAIL).await, MAIL.as_bytes());
}

#[test]
fn records_and_faults() {
    let (name, text) = dns_record(&config("Example.com", "s1", Algorithm::Ed25519Sha256)).unwrap();
    assert_eq!(name, "s1._domainkey.example.com");
    assert!(text.starts_with("v=DKIM1; k=ed25519; p=") && text.len() == 22 + 44, "{text}");
    let wrong = DkimConfig { algorithm: Algorithm::RsaSha256, ..config("x", "s", Algorithm::Ed25519Sha256) };
    assert!(dns_record(&wrong).unwrap_err().contains("it is no such key"));
    let none = DkimConfig { key_file: "/nowhere".into(), ..wrong };
    assert!(Signers::load(&[none]).err().unwrap().to_string().starts_with("DKIM key of x: /nowhere: "));
}
