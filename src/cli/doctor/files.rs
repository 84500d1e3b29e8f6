//! Files that the configuration names: secrets that others than the daemon can get at, and the certificate of `[tls]`.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::good;
use super::judge::{Finding, Level};
use crate::config::Config;
use crate::net::tls::Acceptor;

/// The codes of problems that are told here in more detail.
pub(super) const TOLD_HERE: [&str; 2] = ["tls_certificate_expired", "tls_certificate_expires"];

/// What others than owner and group may do with a file.
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;

/// A finding for each secret that others can get at; one if there is none.
pub(super) fn secrets(config: &Config) -> Vec<Finding> {
    let files = secret_files(config);
    let findings: Vec<Finding> = files.iter().filter_map(|(key, path)| secret(key, path)).collect();
    if findings.is_empty() && !files.is_empty() {
        return vec![good("secrets", "mode", "no file with a password or a key is open to others".into())];
    }
    findings
}

fn secret(key: &str, path: &Path) -> Option<Finding> {
    let name = path.display();
    let finding = |level, said, action| Finding { level, about: "secrets".into(), check: "mode", said, action };
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        // What is not there the daemon makes, or the configuration has a fault that was told.
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            let action = Some("run this as root or the daemon's user".into());
            return Some(finding(Level::NotKnown, format!("{key}: {name}: {error}"), action));
        }
    };
    let mode = facts.mode() & 0o777;
    let action = Some(format!("chmod o= {name}"));
    if facts.is_file() && mode & OTHERS_WRITE != 0 {
        return Some(finding(Level::Wrong, format!("{key}: everybody may change {name} (mode {mode:04o})"), action));
    }
    let open = facts.is_file() && mode & OTHERS_READ != 0;
    open.then(|| finding(Level::Warning, format!("{key}: everybody may read {name} (mode {mode:04o})"), action))
}

/// The files that hold secrets, with the keys that name them.
fn secret_files(config: &Config) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut add = |key: String, path: Option<&PathBuf>| files.extend(path.map(|path| (key, path.clone())));
    for channel in &config.channels {
        let path = channel.source.as_ref().and_then(|source| source.password_file.as_ref());
        add(format!("channel.source.password_file of {}", channel.address), path);
    }
    for relay in &config.relays {
        add(format!("relay.password_file of \"{}\"", relay.name), relay.password_file.as_ref());
    }
    for account in &config.submission.accounts {
        add(format!("submission.accounts.password_file of \"{}\"", account.name), account.password_file.as_ref());
    }
    for key in &config.dkim {
        add(format!("dkim.key_file of \"{}\"", key.selector), Some(&key.key_file));
    }
    for client in &config.providers {
        let named = [
            ("client_secret_file", &client.client_secret_file),
            ("private_key_file", &client.private_key_file),
            ("service_account_file", &client.service_account_file),
        ];
        for (key, path) in named {
            add(format!("oauth.{key} of \"{}\"", client.name), path.as_ref());
        }
    }
    add("tls.key".into(), config.tls.as_ref().map(|tls| &tls.key));
    add("secrets.key_file".into(), config.secrets.key_file.as_ref());
    for kept in ["token.keys", "vault.keys"] {
        add("data directory".into(), Some(&config.server.data_dir.join(kept)));
    }
    files
}

/// How the certificate of `[tls]` is: when it ends, and whether it names this host.
pub(super) fn certificate(config: &Config, now: Timestamp) -> Option<Finding> {
    let tls = config.tls.as_ref()?;
    let name = tls.certificate.display();
    let finding = |level, said: String, action: &str| {
        Some(Finding { level, about: "tls".into(), check: "certificate", said, action: Some(action.into()) })
    };
    // A file that cannot be used is a fault of the configuration, which was told.
    let acceptor = Acceptor::load(tls).ok()?;
    let Some(at) = acceptor.expires() else {
        return finding(
            Level::NotKnown,
            format!("{name} does not say when it expires"),
            "look at it with openssl x509",
        );
    };
    let replace = "put a new one in its place and reload";
    if at <= now {
        return finding(Level::Wrong, format!("{name} expired at {at:.0}"), replace);
    }
    if at.duration_since(now) < jiff::SignedDuration::try_from(config.accounts.warn_before).unwrap_or_default() {
        return finding(Level::Warning, format!("{name} expires at {at:.0}"), replace);
    }
    let host = config.server.hostname.to_lowercase();
    if !acceptor.names().iter().any(|known| names(known, &host)) {
        let said = format!("{name} is for {}, and not for server.hostname, {host}", acceptor.names().join(", "));
        return finding(Level::Warning, said, "use a certificate for that name, or correct server.hostname");
    }
    Some(good("tls", "certificate", format!("{name} is for {host} and holds until {at:.0}")))
}

/// Whether a name of a certificate, perhaps with a `*` for its first label, is this host (RFC 6125 section 6.4.3).
fn names(known: &str, host: &str) -> bool {
    let behind = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_owned());
    known == host || (known.starts_with("*.") && behind(known).is_some() && behind(known) == behind(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_that_lie_open_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.password");
        std::fs::write(&path, "hush").unwrap();
        let relay = crate::relay::RelayConfig {
            name: "smart".into(),
            password_file: Some(path.clone()),
            ..crate::relay::RelayConfig::default()
        };
        let mut config = Config { relays: vec![relay], ..Config::default() };
        config.server.data_dir = dir.path().join("none");
        for (mode, want) in [(0o600, Level::Good), (0o640, Level::Good), (0o644, Level::Warning), (0o602, Level::Wrong)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = secrets(&config);
            assert_eq!((found.len(), found[0].level), (1, want), "{mode:o} {found:?}");
            assert!(!found[0].said.contains("hush"));
        }
    }

    #[test]
    fn a_certificate_is_held_against_the_clock_and_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["mx.a.example".into(), "*.b.example".into()]).unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut config = Config::default();
        assert_eq!(certificate_level(&config, 0), None, "no certificate, no finding");
        config.tls = Some(tls::Config { certificate, key, client_ca: None, ask_client_certificate: false });
        let ends = Acceptor::load(config.tls.as_ref().unwrap()).unwrap().expires().unwrap().as_second();
        let day = 86_400;
        let table = [
            ("mx.a.example", ends - 30 * day, Level::Good),
            ("host.b.example", ends - 30 * day, Level::Good),
            ("b.example", ends - 30 * day, Level::Warning),
            ("deep.host.b.example", ends - 30 * day, Level::Warning),
            ("mx.a.example", ends - 13 * day, Level::Warning),
            ("mx.a.example", ends, Level::Wrong),
        ];
        for (host, now, want) in table {
            config.server.hostname = host.into();
            assert_eq!(certificate_level(&config, now), Some(want), "{host} {}", ends - now);
        }
    }

    fn certificate_level(config: &Config, now: i64) -> Option<Level> {
        certificate(config, Timestamp::from_second(now).unwrap()).map(|finding| finding.level)
    }
}
