//! The configuration: one TOML file, one field for each room's own section.
//!
//! Owns reading, the checks across sections, and what a reload may change. Must not know: how a section is used; the
//! structs of the sections live beside their users. All faults of a file are found at once, each with its line.

mod check;
mod check_letters;
mod check_limits;
mod check_mailboxes;
mod check_outbox;
mod check_relays;
mod check_submission;
mod clouds;
mod fault;
mod letters;
mod places;
mod read;
pub mod reload;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use fault::{Fault, Faults};
pub use letters::{Brand, Templates};

use crate::accounts::{self, Account, Flow, OauthUse, Setup, Use};
use crate::desk::{reply, reports};
use crate::logging;
use crate::mail::Address;
use crate::net::oauth::ProviderConfig;
use crate::net::{tls, verify};
use crate::pull::Source;
use crate::pull::config::SourceConfig;
use crate::relay::{DkimConfig, Kind, RelayConfig};
use crate::smtp::submission;
use crate::store;
use crate::store::vault;
use crate::ticket::channel::{AuthPolicy, Queue};
use crate::ticket::letter::Letters;
use crate::ticket::{Channel, Directory};
use crate::{admin, filing, intake, outbox, smtp};

/// Where the packaged service keeps its file; client commands look there for the socket's path.
pub const DEFAULT_FILE: &str = "/etc/ticketgate/ticketgate.toml";

/// The whole configuration, with defaults for what a file leaves out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub log: logging::Config,
    pub store: store::Config,
    pub smtp: smtp::Config,
    /// The door for programs that send mail.
    pub submission: submission::Config,
    /// Certificates for every listener that speaks TLS.
    pub tls: Option<tls::Config>,
    pub intake: intake::Config,
    pub filing: filing::Config,
    /// When mail that leaves is tried, and how much at the same time.
    pub outbox: outbox::Config,
    /// What keeps mail from going in circles.
    pub loops: filing::LoopsConfig,
    pub verify: verify::Config,
    pub admin: admin::Config,
    pub metrics: admin::MetricsConfig,
    /// Where the key of the secrets at rest comes from.
    pub secrets: vault::Config,
    pub people: People,
    /// Authorisations and tokens of mailboxes.
    pub accounts: accounts::Config,
    /// Providers that grant access to mailboxes.
    #[serde(rename = "oauth")]
    pub providers: Vec<ProviderConfig>,
    /// Limits of answers.
    pub replies: reply::Config,
    /// What the senders of mail hear of it.
    pub reports: reports::Config,
    pub brand: Brand,
    pub templates: Templates,
    #[serde(rename = "channel")]
    pub channels: Vec<ChannelConfig>,
    #[serde(rename = "queue")]
    pub queues: Vec<QueueConfig>,
    /// The ways out.
    #[serde(rename = "relay")]
    pub relays: Vec<RelayConfig>,
    /// The keys that outgoing mail is signed with.
    pub dkim: Vec<DkimConfig>,
}

/// `[server]`: who we are and where our data lies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The name that we greet SMTP peers with.
    pub hostname: String,
    /// The one directory that holds everything that must survive.
    pub data_dir: PathBuf,
    /// Addresses that other servers forward everything to; the support address is then found in the header fields.
    pub intake_addresses: Vec<String>,
    /// The channel for mail to the postmaster; the first one unless it is named here.
    pub default_channel: Option<String>,
}

/// `[people]`: addresses that cannot be support addresses, because they are people's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct People {
    pub agents: Vec<String>,
    pub end_users: Vec<String>,
}

/// One `[[channel]]`: a support address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelConfig {
    pub address: String,
    /// The display name; the queue's name unless it is given.
    pub name: Option<String>,
    pub aliases: Vec<String>,
    pub plus_addresses: bool,
    /// The first queue unless it is named.
    pub queue: Option<String>,
    #[serde(with = "AuthPolicyWord")]
    pub auth_policy: AuthPolicy,
    #[serde(with = "crate::units::bytes")]
    pub max_mail_bytes: u64,
    /// The relay that its replies leave by; the default relay of `[outbox]` unless it is named.
    pub relay: Option<String>,
    /// The relay for mail with attachments.
    pub attachments_relay: Option<String>,
    /// Whether a new ticket is acknowledged to its requester.
    pub acknowledge: bool,
    /// Template files; those of `[templates]` unless they are named.
    pub acknowledgement: Option<PathBuf>,
    pub signature: Option<PathBuf>,
    /// The mailbox that its mail is pulled from, beside what is forwarded.
    pub source: Option<SourceConfig>,
}

/// One `[[queue]]`: a named, coloured pile of tickets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    pub name: String,
    /// A CSS colour, `#rrggbb`.
    pub colour: String,
}

/// The words for what a channel does with mail that fails sender verification.
#[derive(Deserialize)]
#[serde(remote = "AuthPolicy", rename_all = "snake_case")]
enum AuthPolicyWord {
    Record,
    Review,
    Refuse,
}

impl Default for Config {
    fn default() -> Self {
        let support = ChannelConfig {
            address: "support@localhost".into(),
            name: Some("Support".into()),
            queue: Some("Support".into()),
            ..ChannelConfig::default()
        };
        Self {
            server: Server::default(),
            log: logging::Config::default(),
            store: store::Config::default(),
            smtp: smtp::Config::default(),
            submission: submission::Config::default(),
            tls: None,
            intake: intake::Config::default(),
            filing: filing::Config::default(),
            outbox: outbox::Config::default(),
            loops: filing::LoopsConfig::default(),
            verify: verify::Config::default(),
            admin: admin::Config::default(),
            metrics: admin::MetricsConfig::default(),
            secrets: vault::Config::default(),
            people: People::default(),
            accounts: accounts::Config::default(),
            providers: Vec::new(),
            replies: reply::Config::default(),
            reports: reports::Config::default(),
            brand: Brand::default(),
            templates: Templates::default(),
            channels: vec![support],
            queues: vec![QueueConfig { name: "Support".into(), ..QueueConfig::default() }],
            relays: vec![RelayConfig::sandbox()],
            dkim: Vec::new(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            data_dir: "ticketgate-data".into(),
            intake_addresses: Vec::new(),
            default_channel: None,
        }
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            name: None,
            aliases: Vec::new(),
            plus_addresses: true,
            queue: None,
            auth_policy: AuthPolicy::Record,
            max_mail_bytes: 50 << 20,
            relay: None,
            attachments_relay: None,
            acknowledge: false,
            acknowledgement: None,
            signature: None,
            source: None,
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { name: String::new(), colour: "#2f80ed".into() }
    }
}

impl Config {
    /// Reads and checks a file; without one, the defaults.
    pub fn load(file: Option<&Path>) -> Result<Self, Faults> {
        let Some(file) = file else { return Ok(Self::without_file()) };
        let text = read::text(file).map_err(|fault| Faults::new(file, vec![fault]))?;
        Self::parse(&text, file)
    }

    /// What holds without a file: the defaults, and a submission door for programs on this machine.
    pub fn without_file() -> Self {
        Self { submission: submission::Config::without_file(), ..Self::default() }
    }

    /// Reads and checks a text; `file` is the name that faults carry.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Faults> {
        let read::Reading { mut config, places, mut faults } = read::read(text);
        clouds::settle(&mut config);
        check::check(&config, &places, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(Faults::new(file, faults)) }
    }

    /// The relay of mail for which nothing names one, as the outbox chooses it: `outbox.default_relay`, else the first by
    /// name that is not a sandbox, else the first.
    pub fn default_relay(&self) -> Option<&RelayConfig> {
        let named = self.outbox.default_relay.as_ref();
        let named = named.and_then(|name| self.relays.iter().find(|relay| relay.name == *name));
        named.or_else(|| self.relays.iter().min_by_key(|relay| (relay.kind == Kind::Maildir, &relay.name)))
    }

    /// The channels and queues with their look-ups.
    pub fn directory(&self) -> Directory {
        let address = |text: &String| Address::parse(text).ok();
        let channels = self.channels.iter().filter_map(|channel| self.channel(channel)).collect();
        let queues = self.queues.iter().map(|queue| Queue { name: queue.name.clone(), colour: queue.colour.clone() });
        let intake = self.server.intake_addresses.iter().filter_map(address).collect();
        let default = self.server.default_channel.as_ref().and_then(address);
        Directory::new(channels, queues.collect(), intake, default.as_ref())
    }

    /// What our mail looks like. Reads the template files, which may have changed since the configuration was checked.
    pub fn letters(&self) -> Result<Letters, String> {
        letters::letters(self).map_err(|faults| {
            let said = faults.into_iter().map(|fault| format!("{}; {}", fault.wrong, fault.advice));
            said.collect::<Vec<_>>().join("\n")
        })
    }

    /// The mailboxes that are pulled.
    pub fn sources(&self) -> Vec<Source> {
        let sources = self.channels.iter().filter_map(|channel| {
            let config = channel.source.clone()?;
            let max_mail_bytes = channel.max_mail_bytes;
            Some(Source { channel: Address::parse(&channel.address).ok()?, config, max_mail_bytes })
        });
        sources.collect()
    }

    /// The accounts of those mailboxes, with what else their room has to know.
    pub fn setup(&self) -> Setup {
        let account = |source: Source| Account {
            user: source.user(),
            host: source.config.host().unwrap_or_default().to_owned(),
            password_file: source.config.password_file.clone(),
            oauth: self.oauth_use(&source.config),
            inbox: source.config.is_inbox(),
            channel: source.channel,
        };
        Setup {
            config: self.accounts.clone(),
            accounts: self.sources().into_iter().map(account).collect(),
            providers: self.providers.clone(),
            uses: self.uses(),
        }
    }

    fn oauth_use(&self, source: &SourceConfig) -> Option<OauthUse> {
        let name = source.oauth.clone()?;
        let provider = self.providers.iter().find(|provider| provider.name == name);
        let usual = match provider.is_some_and(|provider| provider.service_account_file.is_some()) {
            true => Flow::App,
            false => Flow::Code,
        };
        let consent_as = source.consent_as.clone();
        Some(OauthUse { provider: name, flow: source.flow.unwrap_or(usual), consent_as })
    }

    /// Every address that has a use already (R3).
    fn uses(&self) -> Vec<(Address, Use)> {
        let people = [(&self.people.agents, Use::Agent), (&self.people.end_users, Use::EndUser)];
        let people = people.into_iter().flat_map(|(list, by)| list.iter().map(move |text| (text, by.clone())));
        let channels = self.channels.iter().filter_map(|channel| {
            let owner = Address::parse(&channel.address).ok()?;
            let own = std::iter::once(&channel.address).chain(&channel.aliases);
            Some(own.map(move |text| (text, Use::Channel(owner.clone()))))
        });
        let all = people.chain(channels.flatten());
        all.filter_map(|(text, by)| Some((Address::parse(text).ok()?, by))).collect()
    }

    /// The names of the OAuth clients.
    pub(crate) fn oauth_names(&self) -> Vec<&str> {
        self.providers.iter().map(|provider| provider.name.as_str()).collect()
    }

    /// The names of the relays.
    pub(crate) fn relay_names(&self) -> Vec<&str> {
        self.relays.iter().map(|relay| relay.name.as_str()).collect()
    }

    /// Where the admin socket lies: in the data directory, unless the configuration says where.
    pub fn socket_path(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.server.data_dir.join("admin.sock"))
    }

    /// What the configuration says of one channel as a value; `None` for one that the checks have refused.
    fn channel(&self, config: &ChannelConfig) -> Option<Channel> {
        let first = || self.queues.first().map(|queue| queue.name.clone());
        let queue = config.queue.clone().or_else(first)?;
        Some(Channel {
            address: Address::parse(&config.address).ok()?,
            name: config.name.clone().unwrap_or_else(|| queue.clone()),
            aliases: config.aliases.iter().filter_map(|alias| Address::parse(alias).ok()).collect(),
            plus_addresses: config.plus_addresses,
            queue,
            auth_policy: config.auth_policy,
            max_mail_bytes: config.max_mail_bytes,
            relay: config.relay.clone(),
            attachments_relay: config.attachments_relay.clone(),
            acknowledge: config.acknowledge,
        })
    }
}
