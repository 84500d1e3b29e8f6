//! One `[[oauth]]`: a provider that grants access to mailboxes, and our registration there.
//!
//! Holds paths of secrets, never secrets. Must not know: which channel uses it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Date;
use serde::Deserialize;

use crate::net::connect::{ConnectConfig, ProxyAddress};

/// Which provider it is; gives URLs and scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    Microsoft,
    Google,
    Generic,
}

/// Which of Microsoft's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cloud {
    Global,
    UsGov,
    UsGovDod,
    China,
}

impl Cloud {
    pub const ALL: [Self; 4] = [Self::Global, Self::UsGov, Self::UsGovDod, Self::China];

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::UsGov => "us_gov",
            Self::UsGovDod => "us_gov_dod",
            Self::China => "china",
        }
    }

    /// The server of the cloud's mailboxes, which takes the tokens of this cloud only.
    pub fn mail_host(self) -> &'static str {
        match self {
            Self::Global => "outlook.office365.com",
            Self::UsGov => "outlook.office365.us",
            Self::UsGovDod => "outlook-dod.office365.us",
            Self::China => "partner.outlook.cn",
        }
    }

    /// The server of the cloud that mail is submitted to.
    pub fn smtp_host(self) -> &'static str {
        match self {
            Self::Global => "smtp.office365.com",
            Self::UsGov => "smtp.office365.us",
            // It has no name of its own for submission.
            Self::UsGovDod => "outlook-dod.office365.us",
            Self::China => "smtp.partner.outlook.cn",
        }
    }

    /// The name under which the cloud publishes the addresses that it sends from (RFC 7208 section 5.2).
    pub fn spf_name(self) -> &'static str {
        match self {
            Self::Global => "spf.protection.outlook.com",
            Self::UsGov | Self::UsGovDod => "spf.protection.office365.us",
            Self::China => "spf.protection.partner.outlook.cn",
        }
    }

    /// The cloud that a server belongs to, where that is known.
    pub fn of_host(host: &str) -> Option<Self> {
        let is_its =
            |cloud: &Self| [cloud.mail_host(), cloud.smtp_host()].iter().any(|its| its.eq_ignore_ascii_case(host));
        Self::ALL.into_iter().find(is_its)
    }
}

/// How the client secret is sent, in the words of the registry of OAuth (RFC 7591 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// As the discovery document says, or the preset; otherwise `client_secret_basic`, which every server knows.
    Auto,
    /// In the Authorization field.
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

/// What the grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeUse {
    /// Mail over IMAP and SMTP.
    Imap,
    /// Mail over Microsoft Graph.
    Graph,
}

/// `[[oauth]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// What sources and relays call it.
    pub name: String,
    pub preset: Preset,
    /// Microsoft only.
    pub cloud: Cloud,
    /// Microsoft only: the directory, by its domain or id; `common` for any.
    pub tenant: String,
    pub client_id: String,
    /// A file that holds the client secret.
    pub client_secret_file: Option<PathBuf>,
    /// How it is sent; some servers take it only in the way that is registered for the client.
    pub client_auth: ClientAuth,
    /// A certificate in PEM that is registered instead of a secret, and its key (RFC 7523 section 2.2).
    pub certificate_file: Option<PathBuf>,
    pub private_key_file: Option<PathBuf>,
    /// Google only: the JSON key of a service account that acts for the mailboxes of its domain.
    pub service_account_file: Option<PathBuf>,
    /// The issuer whose discovery document names the URLs (OpenID Connect Discovery, RFC 8414).
    pub issuer: Option<String>,
    pub authorization_url: Option<String>,
    pub token_url: Option<String>,
    pub device_url: Option<String>,
    pub userinfo_url: Option<String>,
    /// Where it is asked about tokens that programs log in with (RFC 7662).
    pub introspection_url: Option<String>,
    /// Asked for instead of the preset's.
    pub scopes: Option<Vec<String>>,
    /// Where the browser is sent back to; a loopback address of ours when not named (RFC 8252 section 7.3).
    pub redirect_url: Option<String>,
    /// The day on which the provider's console says that the client secret expires, for the forecast.
    #[serde(deserialize_with = "date")]
    pub client_secret_expires: Option<Date>,
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<ProxyAddress>,
    /// How long one request may take, connection and answer included.
    #[serde(with = "crate::units::duration")]
    pub timeout: Duration,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            preset: Preset::Generic,
            cloud: Cloud::Global,
            tenant: "common".into(),
            client_id: String::new(),
            client_secret_file: None,
            client_auth: ClientAuth::Auto,
            certificate_file: None,
            private_key_file: None,
            service_account_file: None,
            issuer: None,
            authorization_url: None,
            token_url: None,
            device_url: None,
            userinfo_url: None,
            introspection_url: None,
            scopes: None,
            redirect_url: None,
            client_secret_expires: None,
            ca_file: None,
            proxy: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// A date as TOML writes it, or the same in quotes.
fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Date(toml::value::Datetime),
    }
    let wrong = || serde::de::Error::custom("this is not a date; write it as 2027-05-31");
    let text = match Written::deserialize(deserializer).map_err(|_| wrong())? {
        Written::Text(text) => text,
        Written::Date(date) => date.to_string(),
    };
    text.parse().map(Some).map_err(|_| wrong())
}

impl ProviderConfig {
    /// What is wrong, as the key, what is wrong with it, and what to write. Reads the files that are named.
    pub fn faults(&self) -> Vec<(&'static str, String, String)> {
        super::check::faults(self)
    }

    /// The scopes that are asked for: the configured ones, or the preset's.
    pub fn scopes(&self, use_: ScopeUse) -> Vec<String> {
        self.scopes.clone().unwrap_or_else(|| super::preset::scopes(self, use_))
    }

    /// What a connection needs to know.
    pub fn connect(&self) -> ConnectConfig {
        ConnectConfig { ca_file: self.ca_file.clone(), proxy: self.proxy.clone(), timeout: self.timeout }
    }
}
