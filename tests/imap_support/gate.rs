//! A gateway that only pulls and files, in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ticketgate::accounts::{Account, Accounts, Connection, Setup};
use ticketgate::clock::Clock;
use ticketgate::filing::{self, Worker};
use ticketgate::intake::{self, Intake};
use ticketgate::mail::Address;
use ticketgate::metrics::Metrics;
use ticketgate::net::connect::Connectors;
use ticketgate::pull::config::SourceConfig;
use ticketgate::pull::imap::Security;
use ticketgate::pull::{Pull, Source};
use ticketgate::shutdown::{self, Trigger};
use ticketgate::store::rows::{EntryRow, LedgerRow, SourceRow};
use ticketgate::store::{self, Store};
use ticketgate::ticket::Directory;
use ticketgate::ticket::channel::Channel;
use ticketgate::ticket::token::TokenKeys;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub fn channel(n: usize) -> Address {
    Address::parse(&format!("support{n}@localhost")).unwrap()
}

/// The source of a channel, on a server of this test.
pub fn source(n: usize, port: u16) -> Source {
    let ms = Duration::from_millis;
    Source {
        channel: channel(n),
        max_mail_bytes: 50 << 20,
        config: SourceConfig {
            host: Some("127.0.0.1".into()),
            port: Some(port),
            security: Security::None,
            mails_per_minute: 0,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(5),
            retry_first: ms(10),
            retry_most: ms(40),
            poll: ms(50),
            poll_least: ms(50),
            poll_most: ms(50),
            lease: false,
            ..SourceConfig::default()
        },
    }
}

pub struct Gate {
    pub store: Store,
    pub accounts: Accounts,
    pub metrics: Metrics,
    trigger: Trigger,
    pull: JoinHandle<()>,
    filing: Option<std::thread::JoinHandle<()>>,
}

/// What a gateway is made of, beside its sources.
pub struct Made {
    pub clock: Clock,
    pub pull_clock: Clock,
    pub host: String,
    /// How deep MIME parts may be nested.
    pub max_depth: usize,
}

impl Default for Made {
    fn default() -> Self {
        let clock = Clock::from_fn(|| Timestamp::from_second(1_795_000_000).unwrap());
        Self { pull_clock: clock.clone(), clock, host: "gate.example".into(), max_depth: 50 }
    }
}

impl Gate {
    pub fn start(dir: &Path, sources: Vec<Source>) -> Self {
        Self::made(dir, sources, Made::default())
    }

    pub fn made(dir: &Path, sources: Vec<Source>, made: Made) -> Self {
        let Made { clock, pull_clock, host, max_depth } = made;
        let config = store::Config { low_water_bytes: 0, ballast_bytes: 0, ..store::Config::default() };
        let (store, _) = Store::open(dir, &config, clock.clone()).unwrap();
        let metrics = Metrics::new();
        let accounts = super::parts::accounts(&store, dir, &clock, &metrics);
        let password = dir.join("password");
        std::fs::write(&password, "secret\n").unwrap();
        let known = sources.iter().map(|source| account(source, &password)).collect();
        accounts.configure(Setup { accounts: known, ..Setup::default() });
        let channels = sources.iter().map(|source| Channel {
            max_mail_bytes: source.max_mail_bytes,
            ..super::settled::channel(&source.channel.to_string())
        });
        let directory = Arc::new(ArcSwap::from_pointee(Directory::new(channels.collect(), vec![], vec![], None)));
        let (trigger, shutdown) = shutdown::channel();
        let filing = {
            let worker = Worker {
                store: store.clone(),
                directory: directory.clone(),
                keys: TokenKeys::new(vec![[7; 32]]),
                loops: Arc::default(),
                config: filing::Config { interval: Duration::ZERO, max_depth, ..filing::Config::default() },
                header_limit: 1 << 18,
                clock: clock.clone(),
                metrics: metrics.clone(),
            };
            let (runtime, shutdown) = (tokio::runtime::Handle::current(), shutdown.clone());
            std::thread::spawn(move || worker.run(&runtime, shutdown).unwrap())
        };
        let limits = Arc::new(ArcSwap::from_pointee(intake::Config::default()));
        let pull = Pull {
            store: store.clone(),
            intake: Intake::new(store.clone(), directory, limits, metrics.clone()),
            accounts: accounts.clone(),
            clock: pull_clock,
            metrics: metrics.clone(),
            connectors: Connectors::default(),
            host,
        };
        let (wanted, sources) = watch::channel(sources);
        let pull = tokio::spawn(async move {
            let _wanted = wanted;
            pull.run(sources, shutdown).await;
        });
        Self { store, accounts, metrics, trigger, pull, filing: Some(filing) }
    }

    /// Stops as the daemon does.
    pub async fn stop(mut self) {
        self.trigger.shut_down();
        self.pull.await.unwrap();
        if let Some(filing) = self.filing.take() {
            tokio::task::spawn_blocking(move || filing.join().unwrap()).await.unwrap();
        }
        self.store.close();
    }

    /// Message-IDs of what was filed as a ticket, in the order of the tickets' numbers.
    pub fn filed(&self) -> Vec<String> {
        let mut rows: Vec<EntryRow> = self.store.entries(0, 1000).unwrap();
        rows.retain(|row| row.filing == "opened");
        rows.sort_by_key(|row| row.ticket);
        let name = |row: EntryRow| row.message_id.unwrap_or_default().trim_end_matches("@client.example").to_owned();
        rows.into_iter().map(name).collect()
    }

    /// Rows of a mailbox's ledger as `uid state`.
    pub fn ledger(&self, n: usize) -> Vec<String> {
        self.rows(n).iter().map(|row| format!("{} {}", row.uid, row.state.as_str())).collect()
    }

    pub fn rows(&self, n: usize) -> Vec<LedgerRow> {
        let validity = self.row(n).ledger_validity();
        self.store.ledger(&channel(n), validity, 0..=u32::MAX, 10_000).unwrap()
    }

    pub fn row(&self, n: usize) -> SourceRow {
        self.store.source(&channel(n)).unwrap().unwrap_or_default()
    }

    pub fn connection(&self, n: usize) -> Option<Connection> {
        self.accounts.connection(&channel(n))
    }

    /// Whether the mailbox was looked into and is waited for.
    pub fn is_idle(&self, n: usize) -> bool {
        self.connection(n).is_some_and(|connection| connection.last_look.is_some())
    }
}

fn account(source: &Source, password: &Path) -> Account {
    Account {
        channel: source.channel.clone(),
        user: source.user(),
        host: "127.0.0.1".into(),
        password_file: Some(PathBuf::from(password)),
        oauth: None,
        inbox: true,
    }
}
