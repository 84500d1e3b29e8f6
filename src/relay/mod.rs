//! The ways out: mail that is due is handed to a server, to the servers of its recipients, or put into a Maildir.
//!
//! A relay is asked for one attempt and says what became of each recipient. A refusal is a value, and so is trouble of
//! our own; nothing here is an `Err` once the relays are built. Must not know: the store's rows, tickets, when to try
//! again, how much may be sent.

pub mod config;
pub mod job;
pub mod quota;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use config::{Algorithm, DkimConfig, Kind, Mechanism, Preset, RelayConfig, Security};
pub use job::{Job, JobRecipient, Outcome, RecipientOutcome, Reply, Throttled};
pub use quota::{QuotaConfig, QuotaRules};

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::net::connect::Connectors;
use crate::net::dns;

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
}

impl std::fmt::Debug for Relays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Relays").field(&self.names()).finish()
    }
}

impl Relays {
    /// Builds them: reads keys, authorities and addresses of name servers. Opens no connection.
    pub fn new(configs: &[RelayConfig], dkim: &[DkimConfig], shared: Shared) -> Result<Self, RelayError> {
        let relays = Self(Arc::new(Inner { shared, relays: ArcSwap::default() }));
        relays.configure(configs, dkim)?;
        Ok(relays)
    }

    /// Builds them anew for a changed configuration. Attempts that are under way end on the relays that they began on;
    /// on an error the old ones stay.
    pub fn configure(&self, configs: &[RelayConfig], dkim: &[DkimConfig]) -> Result<(), RelayError> {
        let _ = (dkim, &self.0.shared);
        let relays = configs.iter().map(|config| (config.name.clone(), Arc::new(Relay { config: config.clone() })));
        self.0.relays.store(Arc::new(relays.collect()));
        Ok(())
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.relays.load().keys().cloned().collect()
    }

    pub fn get(&self, name: &str) -> Option<Arc<Relay>> {
        self.0.relays.load().get(name).cloned()
    }
}

/// One way out.
pub struct Relay {
    config: RelayConfig,
}

impl Relay {
    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn kind(&self) -> Kind {
        self.config.kind
    }

    /// What shares connections and trouble: mail in one lane waits for the same peer.
    pub fn lane(&self, recipient: &Address) -> String {
        match self.config.kind {
            Kind::Direct => format!("{}/{}", self.config.name, recipient.domain()),
            Kind::Smtp | Kind::Maildir => self.config.name.clone(),
        }
    }

    /// How many jobs of one lane it takes at the same time.
    pub fn concurrency(&self) -> usize {
        self.config.concurrency.max(1)
    }

    /// What the provider allows an account.
    pub fn quota(&self) -> Option<QuotaRules> {
        self.config.quota()
    }

    /// The channel whose account sends, for a relay that logs in with the credentials of a mailbox: the relay's own
    /// one, or the sending channel's. The outbox asks whether it is connected before it gives a job (R8).
    pub fn account(&self, channel: &Address) -> Option<Address> {
        self.config.uses_account().then(|| self.config.account().unwrap_or_else(|| channel.clone()))
    }

    /// Makes one attempt. Takes as long as the time-outs of the relay allow, and never fails: trouble of our own is a
    /// delay that says so.
    pub async fn deliver(&self, job: Job) -> Outcome {
        let reply = Reply::trouble("4.3.0", "this kind of relay is not built yet");
        Outcome::all(job.recipients.len(), RecipientOutcome::Delayed(reply))
    }
}
