//! Accounts of channels with a mailbox: their credentials, the state of their connection, and what people order.
//!
//! This is where the doors that pull and the people who look after them meet: a door writes states to the board and
//! waits for orders; the admin socket reads the board and gives orders. Must not know: IMAP, tickets, HTTP.

pub mod connection;
pub mod problem;
mod secrets;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

pub use connection::{Connection, State};
pub use problem::{Cause, Problem, Remedy};

use crate::clock::Clock;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::store::rows::Wanted;
use crate::store::vault::{Vault, VaultError};
use crate::store::{Store, StoreError};

/// The longest password that is read from a file.
const LONGEST_PASSWORD: usize = 4096;

/// What a mailbox is logged in to with.
#[derive(Clone, Debug)]
pub enum Login {
    Password {
        user: String,
        password: SecretString,
    },
    /// An OAuth access token (RFC 6750).
    Bearer {
        user: String,
        token: SecretString,
    },
}

/// One account, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub channel: Address,
    /// The name that the mailbox is logged in to with.
    pub user: String,
    pub host: String,
    /// A file that holds the password; without one it is asked for by `connect` and kept in the vault.
    pub password_file: Option<PathBuf>,
}

/// Logs in and opens the folder, to see whether a credential works before it is kept. The gateway hands it in, because
/// this room does not know IMAP.
pub type Probe = Arc<dyn Fn(Address, Login) -> Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>> + Send + Sync>;

/// What an account's task is told; the latest of each kind counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Grows when the wish for the connection, or its credential, has changed.
    pub changed: u64,
    /// Grows when somebody wants the mailbox looked into now.
    pub look: u64,
    /// Grows when somebody wants it compared with the ledger now.
    pub sweep: u64,
}

/// Why an order was not carried out, in words for the person who gave it.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("{0} has no mailbox: its [[channel]] has no source")]
    NoSource(Address),
    #[error("{0} has a password_file in the configuration; change the password there")]
    FromFile(Address),
    #[error("{channel} could not be connected: {}", problem.said)]
    Refused { channel: Address, problem: Problem },
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    store: Store,
    vault: Vault,
    probe: Probe,
    clock: Clock,
    metrics: Metrics,
    accounts: ArcSwap<Vec<Account>>,
    board: watch::Sender<BTreeMap<String, Connection>>,
    orders: Mutex<HashMap<String, watch::Sender<Orders>>>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

impl Accounts {
    pub fn new(store: Store, vault: Vault, probe: Probe, clock: Clock, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            store,
            vault,
            probe,
            clock,
            metrics,
            accounts: ArcSwap::default(),
            board: watch::Sender::default(),
            orders: Mutex::default(),
        }))
    }

    /// Takes over what the configuration says now.
    pub fn configure(&self, accounts: Vec<Account>) {
        self.0.board.send_modify(|board| {
            board.retain(|key, _| accounts.iter().any(|account| account.channel.key() == *key));
        });
        self.0.accounts.store(accounts.into());
    }

    /// The accounts of the configuration.
    pub fn configured(&self) -> Arc<Vec<Account>> {
        self.0.accounts.load_full()
    }

    /// What to log in with. Blocks on the disk.
    pub fn login(&self, channel: &Address) -> Result<Login, Problem> {
        let account = self.account(channel).map_err(|e| Problem::new(Cause::CredentialMissing, e.to_string()))?;
        if let Some(file) = &account.password_file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Problem::new(Cause::CredentialMissing, format!("{}: {error}", file.display())))?;
            let password = text.trim_end_matches(['\r', '\n']);
            if password.is_empty() || password.len() > LONGEST_PASSWORD {
                let said = format!("{}: it is empty or over {LONGEST_PASSWORD} bytes long", file.display());
                return Err(Problem::new(Cause::CredentialMissing, said));
            }
            return Ok(Login::Password { user: account.user, password: password.to_owned().into() });
        }
        match self.0.vault.get(&channel.key()) {
            Ok(Some(secret)) => {
                let password = String::from_utf8_lossy(&secret).into_owned();
                Ok(Login::Password { user: account.user, password: password.into() })
            }
            Ok(None) => Err(Problem::new(Cause::CredentialMissing, "no password is known")),
            Err(error) => Err(Problem::new(Cause::VaultKey, error.to_string())),
        }
    }

    /// Connects an account, or connects it again: the credential is tried first, and kept only if it works. Where the
    /// mailbox was connected before, fetching goes on where it stopped.
    pub async fn connect(
        &self,
        channel: &Address,
        password: Option<SecretString>,
        author: &str,
    ) -> Result<(), AccountError> {
        let account = self.account(channel)?;
        let login = match password {
            Some(_) if account.password_file.is_some() => return Err(AccountError::FromFile(channel.clone())),
            Some(password) => Login::Password { user: account.user, password },
            None => {
                let (this, wanted) = (self.clone(), channel.clone());
                let login = tokio::task::spawn_blocking(move || this.login(&wanted)).await;
                let refused = |problem| AccountError::Refused { channel: channel.clone(), problem };
                login.map_err(|e| refused(Problem::new(Cause::Protocol, e.to_string())))?.map_err(refused)?
            }
        };
        let tried = (self.0.probe)(channel.clone(), login.clone()).await;
        tried.map_err(|problem| AccountError::Refused { channel: channel.clone(), problem })?;
        let (this, wanted, author) = (self.clone(), channel.clone(), author.to_owned());
        let kept = tokio::task::spawn_blocking(move || this.keep(&wanted, &account.password_file, &login, &author));
        kept.await.unwrap_or_else(|error| Err(StoreError::Broken(error.to_string()).into()))
    }

    fn keep(&self, channel: &Address, file: &Option<PathBuf>, login: &Login, author: &str) -> Result<(), AccountError> {
        if let (None, Login::Password { password, .. }) = (file, login) {
            self.0.vault.put(&channel.key(), password.expose_secret().as_bytes())?;
        }
        self.want(channel, Wanted::Connected, author)
    }

    /// Changes what is wanted of a connection. Blocks on the disk.
    pub fn want(&self, channel: &Address, wanted: Wanted, author: &str) -> Result<(), AccountError> {
        self.account(channel)?;
        let now = self.0.clock.now();
        self.0.store.step(|step| {
            let mut row = step.source(channel)?.unwrap_or_default();
            row.channel = channel.to_string();
            (row.wanted, row.since) = (wanted, now);
            step.put_source(channel, &row)?;
            let said = format!("{} is wanted to be {}", channel, wanted.as_str());
            step.connection_event(channel, "connection_changed", &said, Some(author), now)
        })?;
        tracing::info!(channel = %channel, wanted = wanted.as_str(), author, "a connection was changed");
        self.order(channel, |orders| orders.changed += 1);
        Ok(())
    }

    /// Gives an order to an account's task.
    pub fn order(&self, channel: &Address, change: impl FnOnce(&mut Orders)) {
        self.sender(channel).send_modify(change);
    }

    /// What an account's task waits on.
    pub fn orders(&self, channel: &Address) -> watch::Receiver<Orders> {
        self.sender(channel).subscribe()
    }

    fn sender(&self, channel: &Address) -> watch::Sender<Orders> {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.entry(channel.key()).or_default().clone()
    }

    /// All connections, in the order of their addresses.
    pub fn connections(&self) -> Vec<Connection> {
        self.0.board.borrow().values().cloned().collect()
    }

    /// The connection of a channel.
    pub fn connection(&self, channel: &Address) -> Option<Connection> {
        self.0.board.borrow().get(&channel.key()).cloned()
    }

    /// Changes what the board shows of a connection; a new state is told to log, metrics and feed. The feed is behind
    /// a sync, so it is written away from the caller.
    pub fn show(&self, channel: &Address, change: impl FnOnce(&mut Connection)) {
        let now = self.0.clock.now();
        let mut told = None;
        self.0.board.send_modify(|board| {
            let connection = board.entry(channel.key()).or_insert_with(|| self.fresh(channel, now));
            let before = connection.state.clone();
            change(connection);
            if connection.state.as_str() != before.as_str() || cause(&connection.state) != cause(&before) {
                connection.since = now;
                told = Some(connection.clone());
            }
        });
        if let Some(connection) = told {
            self.tell(&connection);
        }
    }

    fn fresh(&self, channel: &Address, now: Timestamp) -> Connection {
        let account = self.account(channel).map(|account| format!("{}@{}", account.user, account.host));
        Connection {
            channel: channel.clone(),
            account: account.unwrap_or_default(),
            state: State::Connecting,
            since: now,
            next_try: None,
            last_look: None,
            next_look: None,
            labels_refused: false,
            waiting: 0,
            warnings: Vec::new(),
        }
    }

    fn tell(&self, connection: &Connection) {
        let (channel, state) = (connection.channel.clone(), connection.state.as_str());
        self.0.metrics.connection_state(&channel.to_string(), state, cause(&connection.state).map(Cause::code));
        let said = match &connection.state {
            State::Problem(problem) => {
                let action = problem.cause.action();
                tracing::warn!(channel = %channel, cause = problem.cause.code(), said = %problem.said, action, "connection problem");
                format!("problem {problem}; {action}")
            }
            other => {
                tracing::info!(channel = %channel, state, "connection");
                other.as_str().to_owned()
            }
        };
        let (store, now) = (self.0.store.clone(), connection.since);
        tokio::task::spawn_blocking(move || {
            let write = store.step(|step| step.connection_event(&channel, "connection_changed", &said, None, now));
            if let Err(trouble) = write {
                tracing::warn!(%trouble, "a change of a connection could not be written to the feed");
            }
        });
    }

    fn account(&self, channel: &Address) -> Result<Account, AccountError> {
        let accounts = self.0.accounts.load();
        let found = accounts.iter().find(|account| account.channel == *channel).cloned();
        found.ok_or_else(|| AccountError::NoSource(channel.clone()))
    }
}

fn cause(state: &State) -> Option<Cause> {
    match state {
        State::Problem(problem) => Some(problem.cause),
        _ => None,
    }
}
