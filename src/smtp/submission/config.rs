//! The section `[submission]`: listeners, accounts, and the limits of this door.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::logins::{LoginError, Logins, Pattern};
use crate::net::tls;
use crate::smtp::config::{self as door, Listener, TlsMode};

/// The section `[submission]`. Without listeners the door is closed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listeners: Vec<Listener>,
    /// Who may log in.
    pub accounts: Vec<AccountConfig>,
    /// Networks whose programs need no login; they send as the channels, and as nobody else.
    pub trusted: Vec<IpNet>,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub max_mails_per_minute: u32,
    pub max_recipients: usize,
    /// Octets of a message, as SIZE announces it.
    #[serde(with = "crate::units::bytes")]
    pub max_message_bytes: u64,
    /// Logins of one peer that may fail in ten minutes before further ones are refused.
    pub max_failed_logins: u32,
}

/// One `[[submission.accounts]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountConfig {
    /// The name to log in with.
    pub name: String,
    /// A file with the password, or with its SCRAM-SHA-256 verifier.
    pub password_file: Option<PathBuf>,
    /// The `[[oauth]]` client at whose provider bearer tokens are looked up (OAUTHBEARER).
    pub oauth: Option<String>,
    /// The addresses that it may send as: `local@domain`, `*@domain`, or `*`.
    pub senders: Vec<String>,
    /// The relay that its mail leaves by, instead of the channel's.
    pub relay: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            accounts: Vec::new(),
            trusted: Vec::new(),
            max_connections: 500,
            max_connections_per_peer: 50,
            max_mails_per_minute: 600,
            max_recipients: 100,
            max_message_bytes: 50 << 20,
            max_failed_logins: 20,
        }
    }
}

impl Config {
    /// What holds without a configuration file: programs on this machine may send as the channels.
    pub fn without_file() -> Self {
        let listener = Listener {
            name: "submission".into(),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 2587)),
            tls: TlsMode::StartTls,
            proxy_protocol: false,
            proxy_from: Vec::new(),
        };
        Self { listeners: vec![listener], trusted: door::Config::default().rate_exempt, ..Self::default() }
    }

    /// What the door needs: this section's limits, and for the rest those of the section `[smtp]`.
    pub fn door(&self, smtp: &door::Config) -> door::Config {
        door::Config {
            listeners: self.listeners.clone(),
            allow_from: Vec::new(),
            allow_certificates: Vec::new(),
            max_connections: self.max_connections,
            max_connections_per_peer: self.max_connections_per_peer,
            max_mails_per_minute: self.max_mails_per_minute,
            max_recipients: self.max_recipients,
            max_message_bytes: self.max_message_bytes,
            // RFC 4954 section 4: a line of an AUTH exchange may have 12,288 octets.
            max_command_line: smtp.max_command_line.max(12_288),
            ..smtp.clone()
        }
    }

    /// What is wrong: the key below `submission`, what is wrong with it, and what to write. `oauth` and `relays` are
    /// the names that the configuration knows; password files are read.
    pub fn faults(&self, tls: Option<&tls::Config>, oauth: &[&str], relays: &[&str]) -> Vec<SubmissionFault> {
        let mut faults = Vec::new();
        for said in self.door(&door::Config::default()).faults(tls) {
            faults.push(SubmissionFault::of("listeners", said.replace("smtp.", "submission."), "correct the value"));
        }
        for (at, account) in self.accounts.iter().enumerate() {
            self.account_faults(at, account, oauth, relays, &mut faults);
        }
        faults
    }

    fn account_faults(
        &self,
        at: usize,
        account: &AccountConfig,
        oauth: &[&str],
        relays: &[&str],
        faults: &mut Vec<SubmissionFault>,
    ) {
        let mut wrong = |key: &'static str, said: String, advice: &str| {
            faults.push(SubmissionFault { account: Some(at), key, said, advice: advice.to_owned() });
        };
        let twice = self.accounts[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&account.name));
        if account.name.is_empty() || account.name.len() > 255 || account.name.chars().any(char::is_control) || twice {
            wrong("name", format!("{:?} is empty, too long or there twice", account.name), "give it a name of its own");
        }
        if account.senders.is_empty() {
            wrong("senders", "the account may send as nobody".into(), "add senders = [\"support@example.com\"]");
        }
        for text in &account.senders {
            if let Err(said) = Pattern::parse(text) {
                wrong("senders", said, "write local@domain, *@domain, or *");
            }
        }
        if account.password_file.is_none() && account.oauth.is_none() {
            wrong("password_file", "the account has no way to log in".into(), "add password_file, or oauth");
        }
        if let Some(path) = &account.password_file
            && let Err(LoginError { said, .. }) = Logins::read_password(path)
        {
            wrong("password_file", said, "write the password as the first line, and let only the daemon read it");
        }
        let unknown = |name: &Option<String>, known: &[&str]| {
            name.as_deref().filter(|name| !known.contains(name)).map(str::to_owned)
        };
        if let Some(name) = unknown(&account.oauth, oauth) {
            wrong("oauth", format!("there is no [[oauth]] named \"{name}\""), "name one that is configured");
        }
        if let Some(name) = unknown(&account.relay, relays) {
            wrong("relay", format!("there is no [[relay]] named \"{name}\""), "name one that is configured");
        }
    }
}

/// A fault of the section, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionFault {
    /// The place among the accounts, for a fault of one of them.
    pub account: Option<usize>,
    pub key: &'static str,
    pub said: String,
    pub advice: String,
}

impl SubmissionFault {
    fn of(key: &'static str, said: String, advice: &str) -> Self {
        Self { account: None, key, said, advice: advice.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_account_and_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("crm");
        std::fs::write(&file, "hush\n").unwrap();
        let good = AccountConfig {
            name: "crm".into(),
            password_file: Some(file),
            senders: vec!["*@example.com".into()],
            ..AccountConfig::default()
        };
        let table = [
            (good.clone(), vec![]),
            (AccountConfig { name: String::new(), ..good.clone() }, vec!["name"]),
            (AccountConfig { senders: vec!["nonsense".into()], ..good.clone() }, vec!["senders"]),
            (AccountConfig { senders: vec![], ..good.clone() }, vec!["senders"]),
            (AccountConfig { password_file: None, ..good.clone() }, vec!["password_file"]),
            (AccountConfig { password_file: Some("/nowhere".into()), ..good.clone() }, vec!["password_file"]),
            (AccountConfig { oauth: Some("x".into()), ..good.clone() }, vec!["oauth"]),
            (AccountConfig { oauth: Some("idp".into()), relay: Some("x".into()), ..good.clone() }, vec!["relay"]),
        ];
        for (account, want) in table {
            let config = Config { accounts: vec![account], ..Config::default() };
            let faults = config.faults(None, &["idp"], &["main"]);
            assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), want, "{faults:?}");
        }
        let twice = Config { accounts: vec![good.clone(), good], ..Config::default() };
        assert_eq!(twice.faults(None, &[], &[])[0].account, Some(1));
    }
}
