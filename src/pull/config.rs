//! A channel's `source`: the mailbox that its mail is pulled from.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::imap::{LABEL, Mechanism, Security, Settings, same_folder};
use crate::accounts::Flow;
use crate::mail::Address;
use crate::net::connect::{ConnectConfig, ProxyAddress, is_loopback};
use crate::net::oauth::Cloud;

/// What kind of server it is; gives the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    Generic,
    Gmail,
    Microsoft365,
}

/// What to do with new mail that somebody else has read before it could be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadElsewhere {
    /// It gets its row in the ledger, and is counted.
    Record,
    /// It is imported like any other.
    Import,
}

/// `[channel.source]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// `imap` is the only kind so far.
    pub kind: String,
    pub preset: Preset,
    /// Which of Microsoft's clouds the preset stands for: that of the `[[oauth]]`, once the whole configuration is read.
    #[serde(skip)]
    pub cloud: Cloud,
    /// The server; the preset's unless it is named.
    pub host: Option<String>,
    /// 993 for TLS, 143 otherwise, unless it is named.
    pub port: Option<u16>,
    pub security: Security,
    /// The name to log in with; the channel's address unless it is named.
    pub user: Option<String>,
    /// A file that holds the password; without one `ticketgate connect` asks for it.
    pub password_file: Option<PathBuf>,
    /// The name of an `[[oauth]]` that authorises us, instead of a password.
    pub oauth: Option<String>,
    /// How its consent is had; `app` where the provider has a service account, `code` otherwise.
    pub flow: Option<Flow>,
    /// The account that consents, where `user` is a shared mailbox that it was granted.
    pub consent_as: Option<String>,
    pub mechanism: Mechanism,
    pub folder: String,
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<ProxyAddress>,
    /// How often the mailbox is looked into, and between which bounds that adapts.
    #[serde(with = "crate::units::duration")]
    pub poll: Duration,
    #[serde(with = "crate::units::duration")]
    pub poll_least: Duration,
    #[serde(with = "crate::units::duration")]
    pub poll_most: Duration,
    /// Let the server tell of new mail (IMAP IDLE).
    pub idle: bool,
    /// The most mails that are imported in any 60 seconds; 0 is no limit.
    pub mails_per_minute: u32,
    /// How many mails from before the connection are imported, the most recent ones; at most 50.
    pub import_recent: u32,
    pub read_elsewhere: ReadElsewhere,
    /// Mark imported mail as read.
    pub mark_read: bool,
    /// Label imported mail.
    pub label: bool,
    /// Move imported mail to this folder.
    pub move_to: Option<String>,
    #[serde(with = "crate::units::duration")]
    pub connect_timeout: Duration,
    #[serde(with = "crate::units::duration")]
    pub command_timeout: Duration,
    /// The waits after trouble: the first, and the longest.
    #[serde(with = "crate::units::duration")]
    pub retry_first: Duration,
    #[serde(with = "crate::units::duration")]
    pub retry_most: Duration,
    /// How often mailbox and ledger are compared.
    #[serde(with = "crate::units::duration")]
    pub sweep_every: Duration,
    /// Keep a lease on the server, so that a second gateway on the same mailbox stands by.
    pub lease: bool,
    /// The folder of its own that the lease is kept in; made if it is not there.
    pub lease_folder: String,
    /// How long a lease holds that is not renewed; it is renewed after a third of that.
    #[serde(with = "crate::units::duration")]
    pub lease_for: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            kind: "imap".into(),
            preset: Preset::Generic,
            cloud: Cloud::Global,
            host: None,
            port: None,
            security: Security::Tls,
            user: None,
            password_file: None,
            oauth: None,
            flow: None,
            consent_as: None,
            mechanism: Mechanism::Auto,
            folder: "INBOX".into(),
            ca_file: None,
            proxy: None,
            poll: Duration::from_secs(60),
            poll_least: Duration::from_secs(15),
            poll_most: Duration::from_secs(60),
            idle: true,
            mails_per_minute: 25,
            import_recent: 0,
            read_elsewhere: ReadElsewhere::Record,
            mark_read: true,
            label: true,
            move_to: None,
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(60),
            retry_first: Duration::from_secs(5),
            retry_most: Duration::from_secs(900),
            sweep_every: Duration::from_secs(3600),
            lease: true,
            lease_folder: "TicketgateLease".into(),
            lease_for: Duration::from_secs(300),
        }
    }
}

/// The bounds of every duration of a source.
const WAITS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Shorter leases would be lost over a slow command.
const LEAST_LEASE: Duration = Duration::from_secs(60);

impl SourceConfig {
    /// The server's name: the one that is configured, or the preset's.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().or(match self.preset {
            Preset::Generic => None,
            Preset::Gmail => Some("imap.gmail.com"),
            Preset::Microsoft365 => Some(self.cloud.mail_host()),
        })
    }

    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.security == Security::Tls { 993 } else { 143 })
    }

    /// What the protocol needs to know.
    pub fn settings(&self) -> Settings {
        Settings {
            host: self.host().unwrap_or_default().to_owned(),
            port: self.port(),
            security: self.security,
            mechanism: self.mechanism,
            folder: self.folder.clone(),
            command_timeout: self.command_timeout,
        }
    }

    /// What a connection needs to know.
    pub fn connect(&self) -> ConnectConfig {
        ConnectConfig { ca_file: self.ca_file.clone(), proxy: self.proxy.clone(), timeout: self.connect_timeout }
    }

    /// What is wrong, as the key, what is wrong with it, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::new();
        let mut wrong = |key, said: String, advice: &str| faults.push((key, said, advice.to_owned()));
        if self.kind != "imap" {
            wrong("kind", format!("\"{}\" is no kind of source", self.kind), "write \"imap\"");
        }
        match self.host() {
            None => wrong("host", "the server is not named".into(), "add host = \"…\", or a preset"),
            Some(host) if self.security == Security::None && !is_loopback(host) => {
                let said = format!("\"none\" would send the password to {host} in clear");
                wrong("security", said, "write \"tls\" or \"starttls\"; \"none\" is for this machine only");
            }
            Some(_) => {}
        }
        if !is_folder(&self.folder) {
            wrong("folder", "it is no name of a folder".into(), "write a name such as \"INBOX\"");
        }
        self.move_faults(&mut wrong);
        self.lease_faults(&mut wrong);
        self.login_faults(&mut wrong);
        if self.import_recent > 50 {
            wrong("import_recent", format!("{} is out of range", self.import_recent), "write 0 to 50");
        }
        let waits = [
            ("poll", self.poll),
            ("poll_least", self.poll_least),
            ("poll_most", self.poll_most),
            ("connect_timeout", self.connect_timeout),
            ("command_timeout", self.command_timeout),
            ("retry_first", self.retry_first),
            ("retry_most", self.retry_most),
            ("sweep_every", self.sweep_every),
        ];
        for (key, value) in waits {
            if !WAITS.contains(&value) {
                wrong(key, format!("{} is out of range", crate::units::show_duration(value)), "write 1s to 1d");
            }
        }
        if self.poll_least > self.poll || self.poll > self.poll_most {
            wrong("poll", "it does not lie between poll_least and poll_most".into(), "put the three in order");
        }
        if let Err(error) = crate::net::connect::Connector::new(&self.connect()) {
            let key =
                if matches!(error, crate::net::connect::ConnectError::Proxy { .. }) { "proxy" } else { "ca_file" };
            wrong(key, error.to_string(), "check the path and that it is PEM, or the proxy's address");
        }
        faults
    }
}

/// The longest name of a folder, in bytes; servers take less.
const FOLDER: usize = 255;

fn is_folder(name: &str) -> bool {
    !name.is_empty() && name.len() <= FOLDER && !name.contains(char::is_control)
}

impl SourceConfig {
    /// Whether mail is pulled from the inbox itself.
    pub fn is_inbox(&self) -> bool {
        same_folder(&self.folder, "INBOX")
    }

    /// What is wrong with where imported mail is moved to: from the folder itself it would come again without end.
    fn move_faults(&self, wrong: &mut impl FnMut(&'static str, String, &str)) {
        let Some(to) = &self.move_to else { return };
        let advice = "write a name such as \"Archive\", or leave it out";
        if !is_folder(to) {
            wrong("move_to", "it is no name of a folder".into(), advice);
        } else if same_folder(to, &self.folder) {
            wrong("move_to", format!("\"{to}\" is the folder that mail is pulled from"), advice);
        } else if self.lease && same_folder(to, &self.lease_folder) {
            wrong("move_to", format!("\"{to}\" is the folder of the lease"), advice);
        }
    }

    /// What is wrong with the lease.
    fn lease_faults(&self, wrong: &mut impl FnMut(&'static str, String, &str)) {
        let lease = &self.lease_folder;
        if !is_folder(lease) || same_folder(lease, &self.folder) || same_folder(lease, "INBOX") {
            wrong("lease_folder", "it is no name of a folder of its own".into(), "write \"TicketgateLease\"");
        } else if lease.eq_ignore_ascii_case(LABEL) {
            let said = format!("\"{lease}\" is the label of imported mail, which is a folder on some servers");
            wrong("lease_folder", said, "write \"TicketgateLease\"");
        }
        if !(LEAST_LEASE..=*WAITS.end()).contains(&self.lease_for) {
            let said = format!("{} is out of range", crate::units::show_duration(self.lease_for));
            wrong("lease_for", said, "write 1m to 1d");
        }
    }

    /// What does not fit together in the ways to log in.
    fn login_faults(&self, wrong: &mut impl FnMut(&'static str, String, &str)) {
        let bearer = matches!(self.mechanism, Mechanism::Xoauth2 | Mechanism::Oauthbearer);
        match &self.oauth {
            Some(_) if self.password_file.is_some() => {
                wrong("password_file", "there is oauth as well".into(), "keep one of the two");
            }
            Some(_) if !bearer && self.mechanism != Mechanism::Auto => {
                let said = "it sends a password, and oauth has none".into();
                wrong("mechanism", said, "write \"auto\", \"xoauth2\" or \"oauthbearer\"");
            }
            None if bearer => wrong("mechanism", "it needs oauth".into(), "add oauth = \"…\", or write \"auto\""),
            _ => {}
        }
        if self.oauth.is_none() {
            let unused = [("flow", self.flow.is_some()), ("consent_as", self.consent_as.is_some())];
            for (key, _) in unused.iter().filter(|(_, set)| *set) {
                wrong(key, "it needs oauth".into(), "add oauth = \"…\", or take it out");
            }
        }
        if let Some(text) = &self.consent_as
            && let Err(error) = Address::parse(text)
        {
            wrong("consent_as", format!("\"{text}\" is not an address: {error}"), "write it as local@domain");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_fill_in_and_faults_name_their_key() {
        let good = SourceConfig { host: Some("imap.example.com".into()), ..SourceConfig::default() };
        assert_eq!((good.faults(), good.port()), (Vec::new(), 993));
        let gmail = SourceConfig { preset: Preset::Gmail, ..SourceConfig::default() };
        assert_eq!((gmail.faults(), gmail.host()), (Vec::new(), Some("imap.gmail.com")));
        let local = SourceConfig { host: Some("127.0.0.1".into()), security: Security::None, ..good.clone() };
        assert_eq!((local.faults(), local.port()), (Vec::new(), 143));
        let table = [
            (SourceConfig::default(), "host"),
            (SourceConfig { kind: "pop3".into(), ..good.clone() }, "kind"),
            (SourceConfig { security: Security::None, ..good.clone() }, "security"),
            (SourceConfig { folder: "a\nb".into(), ..good.clone() }, "folder"),
            (SourceConfig { import_recent: 51, ..good.clone() }, "import_recent"),
            (SourceConfig { poll: Duration::from_secs(61), ..good.clone() }, "poll"),
            (SourceConfig { retry_most: Duration::ZERO, ..good.clone() }, "retry_most"),
            (SourceConfig { lease_folder: "INBOX".into(), ..good.clone() }, "lease_folder"),
            (SourceConfig { lease_folder: "inbox".into(), ..good.clone() }, "lease_folder"),
            (SourceConfig { lease_folder: "inbox".into(), folder: "Support".into(), ..good.clone() }, "lease_folder"),
            (SourceConfig { lease_folder: "ticketgate".into(), ..good.clone() }, "lease_folder"),
            (SourceConfig { move_to: Some(String::new()), ..good.clone() }, "move_to"),
            (SourceConfig { move_to: Some("inbox".into()), ..good.clone() }, "move_to"),
            (SourceConfig { move_to: Some("Help".into()), folder: "Help".into(), ..good.clone() }, "move_to"),
            (SourceConfig { move_to: Some("TicketgateLease".into()), ..good.clone() }, "move_to"),
            (SourceConfig { folder: "x".repeat(256), ..good.clone() }, "folder"),
            (SourceConfig { lease_for: Duration::from_secs(59), ..good.clone() }, "lease_for"),
            (SourceConfig { ca_file: Some("/nowhere".into()), ..good.clone() }, "ca_file"),
            (SourceConfig { proxy: Some("x".into()), ..good }, "proxy"),
        ];
        for (config, want) in table {
            let faults = config.faults();
            assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [want], "{faults:?}");
        }
    }
}
