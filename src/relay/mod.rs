//! The ways out: mail that is due is handed to a server, to the servers of its recipients, or put into a Maildir.
//!
//! A relay is asked for one attempt and says what became of each recipient. A refusal is a value, and so is trouble of
//! our own; nothing here is an `Err` once the relays are built. Whether a domain lets a relay send for it, `permit`
//! says. Must not know: the store's rows, tickets, when to try again, how much may be sent.

mod answer;
mod body;
mod build;
mod client;
mod command;
pub mod config;
mod direct;
pub mod dkim;
pub mod job;
mod kept;
pub mod lines;
mod login;
mod maildir;
pub mod permit;
mod pool;
pub mod quota;
mod rest;
mod route;
mod server;
pub mod sts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

pub use config::{Algorithm, DkimConfig, Kind, LostHeaders, Mechanism, Preset, RelayConfig, Security};
pub use job::{About, Beyond, Job, JobRecipient, Outcome, RecipientOutcome, Reply, Throttled, Via};
pub use permit::{Permit, Standing};
pub use quota::{GiveWay, QuotaConfig, QuotaRules};

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::net::connect::Connectors;
use crate::net::dns;

use direct::Direct;
use dkim::Signers;
use kept::KeptPolicies;
use maildir::Maildir;
use permit::{OwnKey, Permits, Settings};
use server::{Parcel, Sent, Server};

/// Why the relays could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("relay \"{relay}\": {said}")]
    Relay { relay: String, said: String },
    #[error("DKIM key of {domain}: {said}")]
    Dkim { domain: String, said: String },
    #[error("the name servers cannot be used: {0}")]
    Dns(String),
}

/// What all relays share.
#[derive(Clone)]
pub struct Shared {
    pub accounts: Accounts,
    pub connectors: Connectors,
    pub dns: dns::Config,
    /// The name that we greet servers with.
    pub hostname: String,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// All relays of the configuration; a cheap handle, whose relays a reload replaces.
#[derive(Clone)]
pub struct Relays(Arc<Inner>);

struct Inner {
    shared: Shared,
    relays: ArcSwap<BTreeMap<String, Arc<Relay>>>,
    permits: Permits,
    /// MTA-STS policies, which outlive a reload.
    kept: Arc<KeptPolicies>,
}

impl std::fmt::Debug for Relays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Relays").field(&self.names()).finish()
    }
}

impl Relays {
    /// Builds them: reads keys, authorities and addresses of name servers. Opens no connection.
    pub fn new(configs: &[RelayConfig], dkim: &[DkimConfig], shared: Shared) -> Result<Self, RelayError> {
        let permits = Permits::new(shared.clock.clone());
        let kept = Arc::new(KeptPolicies::open(&shared.data_dir, shared.clock.clone()));
        let relays = Self(Arc::new(Inner { shared, relays: ArcSwap::default(), permits, kept }));
        relays.configure(configs, dkim)?;
        Ok(relays)
    }

    /// Builds them anew for a changed configuration. Attempts that are under way end on the relays that they began on;
    /// on an error the old ones stay.
    pub fn configure(&self, configs: &[RelayConfig], dkim: &[DkimConfig]) -> Result<(), RelayError> {
        let signers = Signers::load(dkim)?;
        // Files of authorities may have changed.
        self.0.shared.connectors.forget();
        let mut relays = BTreeMap::new();
        for config in configs {
            let relay = Relay::new(config, &signers, &self.0.kept, &self.0.shared)?;
            relays.insert(config.name.clone(), Arc::new(relay));
        }
        self.0.relays.store(Arc::new(relays));
        self.0.permits.configure(Settings {
            relays: configs.iter().map(|config| (config.name.clone(), config.clone())).collect(),
            keys: dkim.iter().map(OwnKey::of).collect(),
            dns: self.0.shared.dns.clone(),
            hostname: self.0.shared.hostname.clone(),
        });
        Ok(())
    }

    /// Whether the domain of a mail's author lets it leave by a relay; see [`Permits::ask`].
    pub fn permit(&self, relay: &str, head: &[u8], sender: Option<&Address>) -> Permit {
        self.0.permits.ask(relay, head, sender)
    }

    /// All of them as they are now, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Relay>> {
        self.0.relays.load().values().cloned().collect()
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.relays.load().keys().cloned().collect()
    }

    /// Says goodbye on the connections that wait for more mail (RFC 5321 section 4.1.1.10).
    pub async fn close(&self) {
        let relays = self.0.relays.load_full();
        for relay in relays.values() {
            match &relay.transport {
                Transport::Smtp(server) => server.pool.close().await,
                Transport::Direct(direct) => direct.pool.close().await,
                Transport::Maildir(_) => {}
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<Arc<Relay>> {
        self.0.relays.load().get(name).cloned()
    }
}

/// One way out.
pub struct Relay {
    config: RelayConfig,
    transport: Transport,
    signers: Signers,
    metrics: Metrics,
}

/// The code that speaks to where mail goes.
enum Transport {
    Smtp(Server),
    Direct(Box<Direct>),
    Maildir(Maildir),
}

impl Relay {
    fn new(
        config: &RelayConfig,
        signers: &Signers,
        kept: &Arc<KeptPolicies>,
        shared: &Shared,
    ) -> Result<Self, RelayError> {
        shared.metrics.relay(&config.name);
        let transport = match config.kind {
            Kind::Smtp => Transport::Smtp(build::server(config, shared)?),
            Kind::Direct => Transport::Direct(Box::new(build::direct(config, kept, shared)?)),
            Kind::Maildir => {
                let path = config.path.clone().unwrap_or_else(|| config.name.clone().into());
                Transport::Maildir(Maildir::new(shared.data_dir.join(path), shared.clock.clone()))
            }
        };
        let signers = if config.signs() { signers.clone() } else { Signers::default() };
        Ok(Self { config: config.clone(), transport, signers, metrics: shared.metrics.clone() })
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn kind(&self) -> Kind {
        self.config.kind
    }

    /// As it is configured.
    pub fn config(&self) -> &RelayConfig {
        &self.config
    }

    /// What shares connections and trouble: mail in one lane waits for the same peer. A relay that logs in as the
    /// sending channel has a lane for each, since a provider slows down one mailbox and not the others.
    pub fn lane(&self, channel: &Address, recipient: &Address) -> String {
        match self.config.kind {
            Kind::Direct => format!("{}/{}", self.config.name, recipient.domain()),
            Kind::Smtp if self.config.per_sender() => format!("{} as {}", self.config.name, channel.key()),
            Kind::Smtp | Kind::Maildir => self.config.name.clone(),
        }
    }

    /// How many jobs of one lane it takes at the same time.
    pub fn concurrency(&self) -> usize {
        self.config.concurrency()
    }

    /// What the provider allows an account.
    pub fn quota(&self) -> Option<QuotaRules> {
        self.config.quota()
    }

    /// The channel whose account sends, for a relay that logs in with the credentials of a mailbox: the relay's own
    /// one, or the sending channel's. The outbox asks whether it is connected before it gives a job (R8).
    pub fn account(&self, channel: &Address) -> Option<Address> {
        self.config.sends_as(channel)
    }

    /// What the provider counts a channel's mail under.
    pub fn mailbox(&self, channel: &Address) -> String {
        self.config.mailbox(channel)
    }

    /// Makes one attempt. Takes as long as the time-outs of the relay allow, and never fails: trouble of our own is a
    /// delay that says so.
    pub async fn deliver(&self, job: Job) -> Outcome {
        let began = Instant::now();
        let sent = self.attempt(&job).await;
        self.metrics.relay_attempt_took(&self.config.name, began.elapsed());
        for (recipient, outcome) in job.recipients.iter().zip(&sent.recipients) {
            self.metrics.relay_settled(&self.config.name, outcome.as_str());
            let (relay, reply) = (self.name(), outcome.reply());
            tracing::debug!(id = %job.id, relay, to = %recipient.address, outcome = outcome.as_str(), %reply, "attempt");
        }
        let throttled = answer::throttled(&sent.recipients);
        Outcome { recipients: sent.recipients, throttled, transport: sent.transport, beyond: sent.beyond }
    }

    async fn attempt(&self, job: &Job) -> Sent {
        let nature = body::nature(&job.bytes);
        // Lines that have no proper end are changed on the way sooner or later, and the signature broken.
        let front = if nature.bare { Ok(Vec::new()) } else { self.signers.sign(&job.bytes).await };
        let parcel = Parcel { job, front: front.as_deref().unwrap_or_default(), nature };
        if let Err(said) = &front {
            return Sent::delayed(parcel, Reply::trouble("4.3.0", said));
        }
        match &self.transport {
            Transport::Smtp(server) => server.deliver(parcel).await,
            Transport::Direct(direct) => direct.deliver(parcel).await,
            Transport::Maildir(maildir) => maildir.deliver(parcel).await,
        }
    }
}

#[cfg(test)]
use crate::net::stub;
#[cfg(test)]
mod tests;
