//! The section `[smtp]`: listeners, who may forward, and every limit of the door.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::net::tls;

use super::allow::CertificateRule;
use crate::units::show_duration;

/// The section `[smtp]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where we listen.
    pub listeners: Vec<Listener>,
    /// The networks whose servers may forward mail to us.
    pub allow_from: Vec<IpNet>,
    /// Client certificates whose holders may forward mail to us, wherever they are.
    pub allow_certificates: Vec<CertificateRule>,
    /// Networks that the two limits per peer do not hold for.
    pub rate_exempt: Vec<IpNet>,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub max_mails_per_minute: u32,
    /// Commands in a session since it began or since its last accepted mail; recipients that are taken, or that are more
    /// than `max_recipients`, are not counted.
    pub max_commands: u32,
    /// Commands in a session that are unknown, broken, out of order or not allowed; those that were on their way when
    /// their mail was refused are not counted.
    pub max_bad_commands: u32,
    pub max_recipients: usize,
    /// Octets of a command line with its CR LF.
    pub max_command_line: usize,
    /// Octets of a line of a message.
    #[serde(with = "crate::units::bytes")]
    pub max_data_line: u64,
    /// Octets of a message, as SIZE announces it.
    #[serde(with = "crate::units::bytes")]
    pub max_message_bytes: u64,
    pub bare_newlines: BareNewlines,
    /// How long we wait for a complete command, or for the next octets of a message.
    #[serde(with = "crate::units::duration")]
    pub idle_timeout: Duration,
    /// How long one mail may take from MAIL to the end of its data.
    #[serde(with = "crate::units::duration")]
    pub transaction_timeout: Duration,
    /// How long a TLS handshake or a PROXY header may take.
    #[serde(with = "crate::units::duration")]
    pub handshake_timeout: Duration,
    /// How long mails that are under way may take to finish when the daemon stops.
    #[serde(with = "crate::units::duration")]
    pub drain_timeout: Duration,
}

/// One place where we listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name in logs and metrics; a socket that systemd passes under this name takes the place of `bind`.
    pub name: String,
    pub bind: SocketAddr,
    #[serde(default)]
    pub tls: TlsMode,
    /// Whether connections begin with a PROXY header.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The networks whose PROXY headers are believed; connections from elsewhere are closed.
    #[serde(default)]
    pub proxy_from: Vec<IpNet>,
}

/// How a listener uses TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// No TLS.
    Plain,
    /// STARTTLS is offered when there is a certificate.
    #[default]
    StartTls,
    /// STARTTLS is offered, and no mail is taken before it.
    Required,
    /// TLS begins with the first octet (RFC 8314).
    Implicit,
}

/// What to do with a message that has a CR or LF by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewlines {
    /// It is data like any other, kept as received; it never ends a line or the message.
    #[default]
    Accept,
    /// The message is refused with 554 5.6.0 once it is complete.
    Refuse,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: vec![Listener {
                name: "smtp".into(),
                bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 2525)),
                tls: TlsMode::StartTls,
                proxy_protocol: false,
                proxy_from: Vec::new(),
            }],
            allow_from: loopback(),
            allow_certificates: Vec::new(),
            rate_exempt: loopback(),
            max_connections: 2000,
            max_connections_per_peer: 100,
            max_mails_per_minute: 600,
            max_commands: 1000,
            max_bad_commands: 20,
            max_recipients: 100,
            max_command_line: 2048,
            max_data_line: 1 << 20,
            max_message_bytes: 50 << 20,
            bare_newlines: BareNewlines::Accept,
            idle_timeout: Duration::from_secs(300),
            transaction_timeout: Duration::from_secs(900),
            handshake_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// Everything that is wrong with the section beside the section `[tls]`, one sentence each.
    pub fn faults(&self, tls: Option<&tls::Config>) -> Vec<String> {
        let mut faults = Vec::new();
        for (at, listener) in self.listeners.iter().enumerate() {
            let name = &listener.name;
            if name.is_empty() || self.listeners[..at].iter().any(|other| other.name == *name) {
                faults.push(format!("smtp.listeners: the name {name:?} is empty or used twice"));
            }
            if matches!(listener.tls, TlsMode::Required | TlsMode::Implicit) && tls.is_none() {
                faults.push(format!("smtp.listeners {name:?}: tls needs a certificate in the section [tls]"));
            }
            if listener.proxy_protocol == listener.proxy_from.is_empty() {
                faults.push(format!("smtp.listeners {name:?}: proxy_protocol and proxy_from need each other"));
            }
        }
        let asked = tls.is_some_and(|tls| tls.client_ca.is_some() || tls.ask_client_certificate);
        let vouched = tls.is_some_and(|tls| tls.client_ca.is_some());
        for rule in &self.allow_certificates {
            match rule {
                CertificateRule::Name(_) if !vouched => {
                    faults.push(format!("smtp.allow_certificates {rule}: a name needs tls.client_ca"));
                }
                CertificateRule::Fingerprint(_) if !asked => {
                    faults.push(format!("smtp.allow_certificates {rule}: needs tls.ask_client_certificate = true"));
                }
                _ => {}
            }
        }
        // Smaller ones break RFC 5321 section 4.5.3.1, or let nothing through.
        let floors = [
            ("max_connections", self.max_connections as u64, 1),
            ("max_connections_per_peer", self.max_connections_per_peer as u64, 1),
            ("max_mails_per_minute", u64::from(self.max_mails_per_minute), 1),
            ("max_commands", u64::from(self.max_commands), 10),
            ("max_recipients", self.max_recipients as u64, 1),
            ("max_command_line", self.max_command_line as u64, 512),
            ("max_data_line", self.max_data_line, 1000),
            ("max_message_bytes", self.max_message_bytes, 64 << 10),
        ];
        for (key, value, floor) in floors {
            if value < floor {
                faults.push(format!("smtp.{key} = {value} is too small: at least {floor}"));
            }
        }
        let waits = [
            ("idle_timeout", self.idle_timeout),
            ("transaction_timeout", self.transaction_timeout),
            ("handshake_timeout", self.handshake_timeout),
        ];
        for (key, value) in waits {
            if value < Duration::from_secs(1) {
                faults.push(format!("smtp.{key} = \"{}\" is too short: at least \"1s\"", show_duration(value)));
            }
        }
        faults
    }
}

fn loopback() -> Vec<IpNet> {
    vec![
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_reads_and_an_unknown_key_is_named() {
        let text = r#"
            allow_from = ["192.0.2.0/24"]
            allow_certificates = ["mx.example.com"]
            bare_newlines = "refuse"
            [[listeners]]
            name = "mx"
            bind = "0.0.0.0:25"
            tls = "required"
            proxy_protocol = true
            proxy_from = ["10.0.0.0/8"]
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.listeners[0].tls, TlsMode::Required);
        assert_eq!(config.bare_newlines, BareNewlines::Refuse);
        assert_eq!(config.max_recipients, Config::default().max_recipients);
        let mut tls =
            tls::Config { certificate: "c".into(), key: "k".into(), client_ca: None, ask_client_certificate: false };
        assert_eq!(config.faults(None).len(), 2);
        assert_eq!(config.faults(Some(&tls)), ["smtp.allow_certificates mx.example.com: a name needs tls.client_ca"]);
        tls.client_ca = Some("ca".into());
        assert_eq!(config.faults(Some(&tls)), Vec::<String>::new());
        let wrong = Config { max_command_line: 100, max_recipients: 0, ..config };
        assert_eq!(wrong.faults(Some(&tls)).len(), 2);
        let error = toml::from_str::<Config>("max_recipient = 1").unwrap_err().to_string();
        assert!(error.contains("max_recipient"), "{error}");
    }
}
