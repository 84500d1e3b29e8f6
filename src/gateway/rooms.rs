//! The rooms of a running daemon, in the order in which they start and the reverse order in which they stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{GatewayError, ROOM_PATIENCE, default, doors, opening};
use crate::accounts::{Accounts, Probe};
use crate::admin::Upkeep;
use crate::clock::Clock;
use crate::config::Config;
use crate::desk::{Desk, Replies, Reporter, reply, reports};
use crate::filing::{Loops, Worker};
use crate::intake::{self, Intake};
use crate::metrics::Metrics;
use crate::net::connect::Connectors;
use crate::net::listen::Inherited;
use crate::net::verify::Verifier;
use crate::outbox::{self, Board};
use crate::pull::{self, Pull, Source};
use crate::relay::{self, RelayError, Relays};
use crate::shutdown::{self, Shutdown, Trigger};
use crate::smtp;
use crate::store::vault::Vault;
use crate::store::{Store, Suppress, secret};
use crate::ticket::Directory;
use crate::ticket::letter::Letters;
use crate::ticket::loops::Pattern;
use crate::ticket::token::TokenKeys;

/// What a reload exchanges while the daemon runs.
pub struct Shared {
    pub directory: Arc<ArcSwap<Directory>>,
    pub intake: Arc<ArcSwap<intake::Config>>,
    pub loops: Arc<ArcSwap<Loops>>,
    pub outbox: Arc<ArcSwap<outbox::Config>>,
    pub suppress: Arc<ArcSwap<Suppress>>,
    pub never: Arc<ArcSwap<Vec<Pattern>>>,
    pub smtp: Arc<ArcSwap<smtp::Live>>,
    pub submission: Arc<ArcSwap<smtp::Live>>,
    pub sources: watch::Sender<Vec<Source>>,
    pub accounts: Accounts,
    pub relays: Relays,
    pub letters: Arc<ArcSwap<Letters>>,
    pub replies: Arc<ArcSwap<reply::Config>>,
    pub reports: Arc<ArcSwap<reports::Config>>,
}

/// A running daemon.
pub struct Rooms {
    pub(super) config: Config,
    pub(super) shared: Shared,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) board: Board,
    pub(super) store: Store,
    /// Names and addresses of everything that listens, in the order of the configuration.
    pub(super) listening: Vec<(String, SocketAddr)>,
    pub(super) upkeep: Upkeep,
    smtp_addresses: Vec<SocketAddr>,
    pub(super) socket: PathBuf,
    doors: Part,
    pub(super) workers: Part,
    pub(super) desks: Part,
    trouble: watch::Receiver<Option<String>>,
}

/// Rooms that stop together.
pub(super) struct Part {
    trigger: Trigger,
    pub(super) shutdown: Shutdown,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

impl Part {
    fn new() -> Self {
        let (trigger, shutdown) = shutdown::channel();
        Self { trigger, shutdown, tasks: Vec::new() }
    }

    /// Throws the switch and waits for every room, but no longer than `patience` for all of them.
    async fn stop(self, patience: Duration) {
        self.trigger.shut_down();
        let deadline = tokio::time::Instant::now() + patience;
        for task in self.tasks {
            match tokio::time::timeout_at(deadline, task).await {
                Ok(Ok(())) => {}
                Ok(Err(trouble)) => tracing::error!(%trouble, "a room ended badly"),
                Err(_) => tracing::warn!("a room did not end in time and is left behind"),
            }
        }
    }
}

/// The ways out of a configuration.
fn relays(config: &Config, accounts: &Accounts, clock: &Clock, metrics: &Metrics) -> Result<Relays, RelayError> {
    let shared = relay::Shared {
        accounts: accounts.clone(),
        connectors: Connectors::default(),
        dns: config.verify.dns.clone(),
        hostname: config.server.hostname.clone(),
        data_dir: config.server.data_dir.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    Relays::new(&config.relays, &config.dkim, shared)
}

/// Waits for the daemon to fail by itself.
pub struct Failed(watch::Receiver<Option<String>>);

impl Failed {
    /// Returns why, once it has.
    pub async fn wait(&mut self) -> String {
        match self.0.wait_for(Option::is_some).await {
            Ok(said) => said.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Rooms {
    /// Claims the data directory, binds the listeners, opens the store, starts every room.
    pub async fn start(config: Config) -> Result<Self, GatewayError> {
        let clock = Clock::system();
        let metrics = Metrics::new();
        let mut inherited = Inherited::from_systemd()?;
        let live = doors::forwarding(&config)?;
        let submission = doors::submission(&config, &clock)?;
        let claim = opening::claim(&config, &clock).await?;
        // Before the store is opened, which may take long: who connects meanwhile waits instead of being turned away.
        let listeners = smtp::bind(&config.smtp, &mut inherited)?;
        let submission_listeners = smtp::bind(&submission.config, &mut inherited)?;
        for name in inherited.left_over() {
            tracing::warn!(name, "systemd passed a socket that no listener of [smtp] or [submission] is named after");
        }
        let named = |listener: &smtp::BoundListener| Some((listener.name.clone(), listener.socket.local_addr().ok()?));
        let mut listening: Vec<_> = listeners.iter().filter_map(named).collect();
        let smtp_addresses = listening.iter().map(|(_, address)| *address).collect();
        listening.extend(submission_listeners.iter().filter_map(named));
        let store = opening::open(claim, &config, &clock).await?;
        let data_dir = config.server.data_dir.clone();
        let keys = TokenKeys::new(secret::token_keys(&data_dir)?);
        let vault = Vault::open(&data_dir, &config.secrets)?;
        let sources = watch::Sender::new(config.sources());
        let accounts = Accounts::new(store.clone(), vault, probe(&sources), clock.clone(), metrics.clone());
        accounts.configure(config.setup());
        let relays = relays(&config, &accounts, &clock, &metrics)?;
        let loops = config.loops.loops();
        let shared = Shared {
            sources,
            accounts,
            relays,
            letters: Arc::new(ArcSwap::from_pointee(config.letters().map_err(GatewayError::Broken)?)),
            replies: Arc::new(ArcSwap::from_pointee(config.replies.clone())),
            reports: Arc::new(ArcSwap::from_pointee(config.reports.clone())),
            directory: Arc::new(ArcSwap::from_pointee(default::adopted(config.directory(), &store))),
            intake: Arc::new(ArcSwap::from_pointee(config.intake.clone())),
            outbox: Arc::new(ArcSwap::from_pointee(config.outbox.clone())),
            suppress: Arc::new(ArcSwap::from_pointee(loops.suppress)),
            never: Arc::new(ArcSwap::from_pointee(loops.patterns.clone())),
            loops: Arc::new(ArcSwap::from_pointee(loops)),
            smtp: Arc::new(ArcSwap::from_pointee(live)),
            submission: Arc::new(ArcSwap::from_pointee(submission)),
        };
        for listener in config.smtp.listeners.iter().chain(&config.submission.listeners) {
            metrics.smtp_listener(&listener.name);
        }
        let (failed, trouble) = watch::channel(None);
        let socket = config.socket_path();
        let mut rooms = Self {
            config,
            shared,
            metrics,
            clock,
            board: Board::default(),
            store,
            listening,
            upkeep: Upkeep::default(),
            smtp_addresses,
            socket,
            doors: Part::new(),
            workers: Part::new(),
            desks: Part::new(),
            trouble,
        };
        rooms.tell_expiry();
        rooms.start_filing(keys.clone(), failed.clone())?;
        rooms.start_outbox(failed);
        rooms.start_tidying();
        rooms.start_acknowledgements(keys.clone());
        rooms.start_probes(keys.clone());
        rooms.start_reports();
        rooms.start_desk(keys).await?;
        rooms.start_smtp(listeners, Arc::clone(&rooms.shared.smtp));
        rooms.start_smtp(submission_listeners, Arc::clone(&rooms.shared.submission));
        rooms.start_accounts().await?;
        rooms.start_pull();
        Ok(rooms)
    }

    pub fn smtp_addresses(&self) -> &[SocketAddr] {
        &self.smtp_addresses
    }

    /// Everything that listens, as `name address`.
    pub fn listening(&self) -> String {
        let shown: Vec<String> = self.listening.iter().map(|(name, address)| format!("{name} {address}")).collect();
        shown.join(", ")
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What to wait on for a failure of the daemon itself.
    pub fn failed(&self) -> Failed {
        Failed(self.trouble.clone())
    }

    /// Stops the doors first, so that whatever was answered 250 is on disk; then the workers; then those who show it.
    pub async fn stop(self) -> Result<(), GatewayError> {
        let Self { doors, workers, desks, store, config, shared, .. } = self;
        doors.stop(config.smtp.drain_timeout + ROOM_PATIENCE).await;
        shared.accounts.settle(ROOM_PATIENCE).await;
        workers.stop(config.outbox.drain_timeout + ROOM_PATIENCE).await;
        desks.stop(ROOM_PATIENCE).await;
        tokio::task::spawn_blocking(move || store.close())
            .await
            .map_err(|trouble| GatewayError::Broken(trouble.to_string()))
    }

    fn start_filing(&mut self, keys: TokenKeys, failed: watch::Sender<Option<String>>) -> std::io::Result<()> {
        let worker = Worker {
            store: self.store.clone(),
            directory: Arc::clone(&self.shared.directory),
            keys,
            loops: Arc::clone(&self.shared.loops),
            config: self.config.filing.clone(),
            header_limit: self.config.intake.header_limit(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        };
        let shutdown = self.workers.shutdown.clone();
        let runtime = tokio::runtime::Handle::current();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::Builder::new().name("filing".into()).spawn(move || {
            let _ended = ended;
            if let Err(trouble) = worker.run(&runtime, shutdown) {
                tracing::error!(%trouble, "filing stopped");
                failed.send_replace(Some(trouble.to_string()));
            }
        })?;
        // The sender is dropped when the thread ends, however it ends.
        self.workers.tasks.push(tokio::spawn(async move { drop(end.await) }));
        Ok(())
    }

    /// Writes the acknowledgements that filing leaves word of.
    fn start_acknowledgements(&mut self, keys: TokenKeys) {
        let run = self.replies(keys).run_acknowledgements(self.workers.shutdown.clone());
        self.workers.tasks.push(tokio::spawn(run));
    }

    /// Writes the reports that senders of mail are owed.
    fn start_reports(&mut self) {
        let reporter = Reporter {
            desk: self.desk(),
            directory: Arc::clone(&self.shared.directory),
            letters: Arc::clone(&self.shared.letters),
            config: Arc::clone(&self.shared.reports),
            host: self.config.server.hostname.clone(),
            metrics: self.metrics.clone(),
        };
        self.workers.tasks.push(tokio::spawn(reporter.run(self.workers.shutdown.clone())));
    }

    pub(super) fn desk(&self) -> Desk {
        let limits = self.config.filing.limits(self.config.intake.header_limit());
        Desk::new(self.store.clone(), self.clock.clone(), limits)
    }

    pub(super) fn replies(&self, keys: TokenKeys) -> Replies {
        let (letters, config) = (Arc::clone(&self.shared.letters), Arc::clone(&self.shared.replies));
        Replies::new(self.desk(), Arc::clone(&self.shared.directory), keys, letters, config)
    }

    fn intake(&self) -> Intake {
        let (directory, config) = (Arc::clone(&self.shared.directory), Arc::clone(&self.shared.intake));
        Intake::new(self.store.clone(), directory, config, self.metrics.clone())
    }

    fn start_pull(&mut self) {
        let pull = Pull {
            store: self.store.clone(),
            intake: self.intake(),
            accounts: self.shared.accounts.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            connectors: Connectors::default(),
            host: self.config.server.hostname.clone(),
        };
        let run = pull.run(self.shared.sources.subscribe(), self.doors.shutdown.clone());
        self.doors.tasks.push(tokio::spawn(run));
    }

    fn start_smtp(&mut self, listeners: Vec<smtp::BoundListener>, live: Arc<ArcSwap<smtp::Live>>) {
        if listeners.is_empty() {
            return;
        }
        let intake = self.intake();
        let server = smtp::Server {
            live,
            directory: Arc::clone(&self.shared.directory),
            intake,
            verifier: Verifier::new(&self.config.verify, &self.config.server.hostname),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
        };
        let shutdown = self.doors.shutdown.clone();
        self.doors.tasks.push(tokio::spawn(server.run(listeners, shutdown)));
    }
}

/// Tries a credential on the mailbox that it is for.
fn probe(sources: &watch::Sender<Vec<Source>>) -> Probe {
    let sources = sources.subscribe();
    Arc::new(move |channel, login| {
        let source = sources.borrow().iter().find(|source| source.channel == channel).cloned();
        Box::pin(async move {
            match source {
                Some(source) => pull::probe(&source, &login).await,
                None => Ok(()),
            }
        })
    })
}
