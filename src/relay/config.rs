//! `[[relay]]` and `[[dkim]]`: the ways out, as the configuration has them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::quota::{QuotaConfig, QuotaRules};
use crate::mail::Address;
use crate::net::connect::{ConnectConfig, ProxyAddress};
use crate::net::oauth::Cloud;

/// How a relay hands mail on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To one server, which knows the rest of the way.
    Smtp,
    /// To the servers of each recipient's domain.
    Direct,
    /// Into a Maildir, to nobody.
    Maildir,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Direct => "direct",
            Self::Maildir => "maildir",
        }
    }
}

/// A provider that is known: gives server, security and quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    None,
    /// A consumer's account at Gmail.
    Gmail,
    /// An account of Google Workspace.
    Workspace,
    /// Exchange Online; the two words mean the same.
    Microsoft365,
    Exchange,
}

/// How the connection to the server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// TLS from the first byte on.
    Tls,
    /// STARTTLS, or nothing is sent.
    Starttls,
    /// STARTTLS where it is offered, without looking at the certificate. Never together with a login.
    Opportunistic,
    /// In clear.
    None,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// PLAIN or LOGIN with a password, XOAUTH2 or OAUTHBEARER with a token: what the server offers.
    Auto,
    Plain,
    Login,
    Xoauth2,
    Oauthbearer,
}

/// What becomes of mail that must carry a header field which a probe has shown this relay to lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostHeaders {
    /// It leaves by another relay that its channel has and that keeps the field; by this one, counted, without such.
    Avoid,
    /// It leaves by this relay all the same, and is counted.
    Count,
}

impl LostHeaders {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avoid => "avoid",
            Self::Count => "count",
        }
    }
}

/// One `[[relay]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    pub name: String,
    pub kind: Kind,
    pub preset: Preset,
    /// Which of Microsoft's clouds the preset stands for: that of its accounts, once the whole configuration is read.
    #[serde(skip)]
    pub cloud: Cloud,
    /// The server; the preset's unless it is named.
    pub host: Option<String>,
    /// 465 for TLS, 587 otherwise; 25 for `direct`.
    pub port: Option<u16>,
    /// The preset's, or STARTTLS, unless it is named.
    pub security: Option<Security>,
    pub mechanism: Mechanism,
    /// A login of the relay's own, with the file of its password.
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// The channel whose mailbox's credentials are used; with a preset, the sending channel's unless it is named.
    pub account: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<ProxyAddress>,
    /// Connections at the same time: to the server, and for `direct` to one destination. 5, and 3 for Exchange.
    pub concurrency: Option<usize>,
    /// Mails on one connection, and how long it is kept open without any.
    pub mails_per_connection: u32,
    #[serde(with = "crate::units::duration")]
    pub idle_timeout: Duration,
    #[serde(with = "crate::units::duration")]
    pub connect_timeout: Duration,
    /// For the answer to a command.
    #[serde(with = "crate::units::duration")]
    pub command_timeout: Duration,
    /// For the mail to be sent, and for the answer to it (RFC 5321 section 4.5.3.2.6).
    #[serde(with = "crate::units::duration")]
    pub data_timeout: Duration,
    /// How long a destination of `direct` rests after it could not be reached, at most.
    #[serde(with = "crate::units::duration")]
    pub rest_most: Duration,
    /// Whether IPv6 is used for `direct`.
    pub ipv6: bool,
    /// Whether DANE (RFC 7672) is looked up; the name servers must validate DNSSEC and lie on this machine.
    pub dane: bool,
    /// Whether MTA-STS (RFC 8461) is looked up.
    pub mta_sts: bool,
    /// Whether mail is signed; for `direct` it is unless this says otherwise.
    pub dkim: Option<bool>,
    /// The Maildir; a path that is not absolute lies in the data directory.
    pub path: Option<PathBuf>,
    /// What becomes of mail whose header fields it loses.
    pub lost_headers: LostHeaders,
    /// How often a probe looks what it does to header fields; `0s` is only when somebody asks for it.
    #[serde(with = "crate::units::duration")]
    pub probe_every: Duration,
    /// The support address that a probe leaves from and comes home to; one that has this relay unless it is named.
    pub probe_channel: Option<String>,
    /// How long a probe may take before it is said not to have come home.
    #[serde(with = "crate::units::duration")]
    pub probe_patience: Duration,
    /// What the provider allows; the preset's unless it is given.
    pub quota: QuotaConfig,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Smtp,
            preset: Preset::None,
            cloud: Cloud::Global,
            host: None,
            port: None,
            security: None,
            mechanism: Mechanism::Auto,
            user: None,
            password_file: None,
            account: None,
            ca_file: None,
            proxy: None,
            concurrency: None,
            mails_per_connection: 100,
            idle_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(120),
            data_timeout: Duration::from_secs(600),
            rest_most: Duration::from_secs(900),
            ipv6: true,
            dane: false,
            mta_sts: true,
            dkim: None,
            path: None,
            lost_headers: LostHeaders::Avoid,
            probe_every: Duration::ZERO,
            probe_channel: None,
            probe_patience: Duration::from_secs(3600),
            quota: QuotaConfig::default(),
        }
    }
}

impl RelayConfig {
    /// The relay that exists without a configuration: a Maildir in the data directory.
    pub fn sandbox() -> Self {
        Self { name: "sandbox".into(), kind: Kind::Maildir, path: Some("outbound".into()), ..Self::default() }
    }

    /// The server's name: the one that is configured, or the preset's.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().or(match self.preset {
            Preset::None => None,
            Preset::Gmail | Preset::Workspace => Some("smtp.gmail.com"),
            Preset::Microsoft365 | Preset::Exchange => Some(self.cloud.smtp_host()),
        })
    }

    /// How connections are protected: as configured, TLS for Gmail, STARTTLS otherwise.
    pub fn security(&self) -> Security {
        self.security.unwrap_or(match (self.kind, self.preset) {
            (Kind::Direct, _) => Security::Opportunistic,
            (_, Preset::Gmail | Preset::Workspace) => Security::Tls,
            _ => Security::Starttls,
        })
    }

    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match (self.kind, self.security()) {
            (Kind::Direct, _) => 25,
            (_, Security::Tls) => 465,
            _ => 587,
        })
    }

    /// How many connections there may be; Exchange takes three of one mailbox (432 4.3.2 beyond).
    pub fn concurrency(&self) -> usize {
        let known = match self.preset {
            Preset::Microsoft365 | Preset::Exchange => 3,
            _ => 5,
        };
        self.concurrency.unwrap_or(known).max(1)
    }

    /// Whether it logs in with the credentials of a channel's mailbox: the named one's, or with a preset the sender's.
    pub fn uses_account(&self) -> bool {
        self.kind == Kind::Smtp && self.user.is_none() && (self.account.is_some() || self.preset != Preset::None)
    }

    /// The channel whose credentials it always uses.
    pub fn account(&self) -> Option<Address> {
        self.account.as_deref().and_then(|text| Address::parse(text).ok())
    }

    /// Whether it logs in as whichever channel sends.
    pub fn per_sender(&self) -> bool {
        self.uses_account() && self.account.is_none()
    }

    /// The channel whose account sends a channel's mail, where it logs in with the credentials of a mailbox.
    pub fn sends_as(&self, channel: &Address) -> Option<Address> {
        self.uses_account().then(|| self.account().unwrap_or_else(|| channel.clone()))
    }

    /// The mailbox that a provider counts a channel's mail under: one login is one mailbox, whichever channel sends.
    pub fn mailbox(&self, channel: &Address) -> String {
        match &self.user {
            Some(user) if self.kind == Kind::Smtp => user.clone(),
            _ => self.sends_as(channel).as_ref().unwrap_or(channel).to_string(),
        }
    }

    /// Whether it logs in at all.
    pub fn logs_in(&self) -> bool {
        self.user.is_some() || self.uses_account()
    }

    /// Whether mail is signed.
    pub fn signs(&self) -> bool {
        self.dkim.unwrap_or(self.kind == Kind::Direct)
    }

    /// What the provider allows; nothing is limited without a preset or limits of one's own.
    pub fn quota(&self) -> Option<QuotaRules> {
        self.quota.rules(self.preset)
    }

    /// What a connection needs to know.
    pub fn connect(&self) -> ConnectConfig {
        ConnectConfig { ca_file: self.ca_file.clone(), proxy: self.proxy.clone(), timeout: self.connect_timeout }
    }
}

/// The algorithm of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "rsa-sha256")]
    RsaSha256,
    #[serde(rename = "ed25519-sha256")]
    Ed25519Sha256,
}

/// One `[[dkim]]`: a key that mail of a domain is signed with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DkimConfig {
    /// The domain of the From field, which the signature speaks for.
    pub domain: String,
    /// Where the public key stands: `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// The private key in PEM.
    pub key_file: PathBuf,
    pub algorithm: Algorithm,
}

impl Default for DkimConfig {
    fn default() -> Self {
        Self {
            domain: String::new(),
            selector: String::new(),
            key_file: PathBuf::new(),
            algorithm: Algorithm::RsaSha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_counts_under_the_login() {
        let channel = Address::parse("support@a.example").unwrap();
        let exchange = RelayConfig { preset: Preset::Exchange, ..RelayConfig::default() };
        let own = RelayConfig { user: Some("out@b.example".into()), ..exchange.clone() };
        let named = RelayConfig { account: Some("sales@a.example".into()), ..exchange.clone() };
        let table = [
            (exchange, "support@a.example"),
            (own, "out@b.example"),
            (named, "sales@a.example"),
            (RelayConfig::default(), "support@a.example"),
        ];
        for (relay, want) in table {
            assert_eq!(relay.mailbox(&channel), want, "{relay:?}");
        }
    }

    #[test]
    fn presets_fill_in() {
        let preset = |preset| RelayConfig { preset, ..RelayConfig::default() };
        let facts = |relay: &RelayConfig| {
            (relay.host().map(str::to_owned), relay.port(), relay.security(), relay.concurrency(), relay.uses_account())
        };
        let google = Some("smtp.gmail.com".to_owned());
        let microsoft = Some("smtp.office365.com".to_owned());
        assert_eq!(facts(&preset(Preset::Gmail)), (google.clone(), 465, Security::Tls, 5, true));
        assert_eq!(facts(&preset(Preset::Exchange)), (microsoft, 587, Security::Starttls, 3, true));
        let starttls = RelayConfig { security: Some(Security::Starttls), ..preset(Preset::Workspace) };
        assert_eq!(facts(&starttls), (google, 587, Security::Starttls, 5, true));
        assert_eq!(facts(&RelayConfig::default()), (None, 587, Security::Starttls, 5, false));
        let direct = RelayConfig { kind: Kind::Direct, ..RelayConfig::default() };
        assert_eq!(facts(&direct), (None, 25, Security::Opportunistic, 5, false));
        assert!(direct.signs() && !RelayConfig::default().signs());
    }
}
