//! What can be wrong with relays and keys.

use std::collections::HashMap;
use std::time::Duration;

use super::Config;
use super::check::Checker;
use super::read::meant;
use crate::accounts::read_password;
use crate::mail::Address;
use crate::net::connect::{ConnectError, Connector, is_loopback};
use crate::relay::{Kind, Preset, RelayConfig, Security, dkim};
use crate::units::show_duration;

/// The bounds of time-outs: below, servers far away fail; above, a dead one holds a place for hours.
const WAITS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// How often a relay may be probed, and for how long a probe is waited for.
const PROBE_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(600)..=Duration::from_secs(365 * 86_400);
const PROBE_PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// The most connections of one relay.
const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=1000;

type Found = Vec<(&'static str, String, String)>;

impl Checker<'_> {
    /// Each relay by itself, and what it names elsewhere.
    pub(super) fn relays(&mut self, config: &Config) {
        let mut names: HashMap<String, usize> = HashMap::new();
        for (index, relay) in config.relays.iter().enumerate() {
            let at = index.to_string();
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if relay.name.is_empty() || relay.name.len() > 40 || !relay.name.bytes().all(legal) {
                let wrong = format!("\"{}\" is no name for a relay", relay.name);
                self.wrong(&["relay", &at, "name"], &wrong, "write up to 40 letters, digits, \"-\", \"_\" and \".\"");
            } else if names.insert(relay.name.clone(), index).is_some() {
                let wrong = format!("\"{}\" is there twice", relay.name);
                self.wrong(&["relay", &at, "name"], &wrong, "rename one of them");
            }
            let mut faults = match relay.kind {
                Kind::Smtp => of_smtp(relay, config),
                Kind::Direct => of_direct(relay, config),
                Kind::Maildir => foreign(relay, &["path"]),
            };
            faults.extend(numbers(relay));
            faults.extend(probes(relay, config));
            if relay.dkim == Some(true) && config.dkim.is_empty() {
                faults.push(("dkim", "there is no key to sign with".into(), "add a [[dkim]] for each domain".into()));
            }
            for (key, wrong, advice) in faults {
                self.wrong(&["relay", &at, key], &wrong, &advice);
            }
        }
    }

    /// That each key can be read, and is what it is said to be.
    pub(super) fn dkim(&mut self, config: &Config) {
        for (index, key) in config.dkim.iter().enumerate() {
            let at = index.to_string();
            if Address::parse(&format!("x@{}", key.domain)).is_err() || key.domain.starts_with('[') {
                let wrong = format!("\"{}\" is not a domain name", key.domain);
                self.wrong(&["dkim", &at, "domain"], &wrong, "write the domain of the From field");
            }
            let label = |part: &str| {
                !part.is_empty()
                    && part.len() <= 63
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            };
            if !key.selector.split('.').all(label) {
                let wrong = format!("\"{}\" is not a selector", key.selector);
                self.wrong(&["dkim", &at, "selector"], &wrong, "write letters, digits and \"-\"");
            }
            if key.key_file.as_os_str().is_empty() {
                self.wrong(
                    &["dkim", &at, "key_file"],
                    "no file is named",
                    "add key_file = \"…\", a private key in PEM",
                );
            } else if let Err(wrong) = dkim::dns_record(key) {
                let advice = "name a private key in PEM: RSA of 2048 bits or more, or ed25519";
                self.wrong(&["dkim", &at, "key_file"], &wrong, advice);
            }
        }
    }
}

/// A relay that hands everything to one server.
fn of_smtp(relay: &RelayConfig, config: &Config) -> Found {
    let mut faults = foreign(relay, &["host", "security", "login", "ca", "connect"]);
    let mut wrong = |key, said: String, advice: &str| faults.push((key, said, advice.to_owned()));
    let host = relay.host().unwrap_or_default();
    if host.is_empty() {
        wrong("host", "the server is not named".into(), "add host = \"…\", or a preset");
    } else if let Some((name, port)) = host.rsplit_once(':').filter(|(name, _)| !name.contains(':')) {
        let advice = format!("write host = \"{name}\" and port = {port}");
        wrong("host", format!("\"{host}\" is not a host name or an IP address"), &advice);
    } else if !is_host(host) {
        wrong("host", format!("\"{host}\" is not a host name or an IP address"), "write the name alone");
    }
    match relay.security() {
        Security::None if relay.logs_in() && !host.is_empty() && !is_loopback(host) => {
            let said = format!("\"none\" would send the credential to {host} in clear");
            wrong("security", said, "write \"tls\" or \"starttls\"; \"none\" is for this machine only");
        }
        Security::Opportunistic if relay.logs_in() => {
            let said = "\"opportunistic\" would send the credential in clear, or to anybody".to_owned();
            wrong("security", said, "write \"tls\" or \"starttls\"");
        }
        _ => {}
    }
    match (&relay.user, &relay.password_file) {
        (Some(_), None) => wrong("user", "it has no password".into(), "add password_file = \"…\""),
        (None, Some(_)) => wrong("password_file", "there is no user for it".into(), "add user = \"…\""),
        (Some(_), Some(file)) => {
            if let Err(said) = read_password(file) {
                wrong("password_file", said, "check the path, its permissions, and what is in it");
            }
            if relay.account.is_some() {
                wrong("account", "it logs in as user already".into(), "take out one of the two");
            }
        }
        (None, None) => {}
    }
    if let Some(account) = relay.account.as_ref().filter(|_| relay.user.is_none()) {
        let with_source = |name: &str| {
            config.channels.iter().any(|channel| channel.address.eq_ignore_ascii_case(name) && channel.source.is_some())
        };
        if !with_source(account) {
            let known = config.channels.iter().filter(|channel| channel.source.is_some());
            let known = known.map(|channel| channel.address.as_str());
            let advice = meant(account, known, "name the address of a [[channel]] with a [channel.source]");
            wrong("account", format!("\"{account}\" is not a channel with a mailbox"), &advice);
        }
    }
    faults.extend(connection(relay));
    faults
}

/// Whether a text can be the name or the address of a server.
fn is_host(text: &str) -> bool {
    let label = |part: &str| !part.is_empty() && part.len() <= 63 && part.chars().all(is_of_name);
    text.parse::<std::net::IpAddr>().is_ok() || (text.len() <= 253 && text.trim_end_matches('.').split('.').all(label))
}

/// Letters beyond ASCII are those of internationalised names (RFC 5890).
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

fn connection(relay: &RelayConfig) -> Option<(&'static str, String, String)> {
    let error = Connector::new(&relay.connect()).err()?;
    let key = if matches!(error, ConnectError::Proxy { .. }) { "proxy" } else { "ca_file" };
    Some((key, error.to_string(), "check the path and that it is PEM, or the proxy's address".to_owned()))
}

/// A relay that looks for the servers of each domain.
fn of_direct(relay: &RelayConfig, config: &Config) -> Found {
    let mut faults = foreign(relay, &["ca"]);
    let servers = &config.verify.dns.name_servers;
    if relay.dane && (servers.is_empty() || !servers.iter().all(|server| server.ip().is_loopback())) {
        let said = "DANE needs a name server on this machine that validates DNSSEC".to_owned();
        let advice = "name it in verify.dns.name_servers, such as [\"127.0.0.1:53\"], or write dane = false";
        faults.push(("dane", said, advice.into()));
    }
    faults.extend(connection(relay));
    faults
}

/// Keys that a kind of relay has no use for, but for the groups in `known`.
fn foreign(relay: &RelayConfig, known: &[&str]) -> Found {
    let given = [
        ("host", "host", relay.host.is_some()),
        ("preset", "host", relay.preset != Preset::None),
        ("security", "security", relay.security.is_some()),
        ("user", "login", relay.user.is_some()),
        ("password_file", "login", relay.password_file.is_some()),
        ("account", "login", relay.account.is_some()),
        ("ca_file", "ca", relay.ca_file.is_some()),
        ("proxy", "connect", relay.proxy.is_some()),
        ("path", "path", relay.path.is_some()),
    ];
    let idle = given.into_iter().filter(|(_, group, is_given)| *is_given && !known.contains(group));
    let said = format!("a relay of kind \"{}\" has no use for it", relay.kind.as_str());
    idle.map(|(key, _, _)| (key, said.clone(), "take it out".to_owned())).collect()
}

/// How a relay is probed.
fn probes(relay: &RelayConfig, config: &Config) -> Found {
    let mut faults = Found::new();
    let mut wrong = |key, wrong: String, advice: String| faults.push((key, wrong, advice));
    for (key, value, range) in
        [("probe_every", relay.probe_every, PROBE_EVERY), ("probe_patience", relay.probe_patience, PROBE_PATIENCE)]
    {
        let off = key == "probe_every" && value.is_zero();
        if !off && !range.contains(&value) {
            let advice = format!("write {} to {}", show_duration(*range.start()), show_duration(*range.end()));
            wrong(key, format!("{} is out of range", show_duration(value)), advice);
        }
    }
    if relay.kind == Kind::Maildir && !relay.probe_every.is_zero() {
        wrong("probe_every", "no mail of a Maildir comes home".into(), "take it out".into());
    }
    let channels = || config.channels.iter().map(|channel| channel.address.as_str());
    if let Some(name) = relay.probe_channel.as_ref().filter(|name| !channels().any(|it| it.eq_ignore_ascii_case(name)))
    {
        let advice = meant(name, channels(), "name the address of a [[channel]]");
        wrong("probe_channel", format!("\"{name}\" is not a channel"), advice);
    }
    faults
}

fn numbers(relay: &RelayConfig) -> Found {
    let mut faults = Found::new();
    let mut wrong = |key, shown: String, advice: &str| {
        faults.push((key, format!("{shown} is out of range"), format!("write {advice}")));
    };
    if let Some(connections) = relay.concurrency.filter(|connections| !CONNECTIONS.contains(connections)) {
        wrong("concurrency", connections.to_string(), "1 to 1000");
    }
    if relay.mails_per_connection == 0 {
        wrong("mails_per_connection", "0".into(), "1 or more");
    }
    if relay.port == Some(0) {
        wrong("port", "0".into(), "1 to 65535");
    }
    let waits = [
        ("connect_timeout", relay.connect_timeout),
        ("command_timeout", relay.command_timeout),
        ("data_timeout", relay.data_timeout),
        ("rest_most", relay.rest_most),
    ];
    for (key, value) in waits {
        if !WAITS.contains(&value) {
            wrong(key, show_duration(value), "1s to 1h");
        }
    }
    if relay.idle_timeout > *WAITS.end() {
        wrong("idle_timeout", show_duration(relay.idle_timeout), "0s to 1h");
    }
    if let Some(percent) = relay.quota.give_way_percent.filter(|percent| *percent > 100) {
        wrong("quota", format!("give_way_percent = {percent}"), "0 to 100");
    }
    faults
}
