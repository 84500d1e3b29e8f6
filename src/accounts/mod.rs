//! Accounts of channels with a mailbox: their credentials, the state of their connection, and what people order.
//!
//! This is where the doors that pull and the people who look after them meet: a door writes states to the board and
//! waits for orders; the admin socket reads the board and gives orders. Must not know: IMAP, tickets, HTTP.

mod account;
mod authorise;
mod board;
mod config;
pub mod connection;
mod consent;
mod credential;
mod forecast;
mod password;
pub mod problem;
mod redirect;
mod said;
pub mod sasl;
mod secrets;
mod tokens;
mod trouble;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio::sync::{Semaphore, watch as wake};

pub use account::{Account, OauthUse, Setup, Use};
pub use authorise::{Authorisation, Outcome};
pub use config::Config;
pub use connection::{Connection, State};
pub use credential::Flow;
pub use forecast::End;
pub use password::read_password;
pub use problem::{Cause, Problem, Remedy};
use redirect::Doors;
pub use redirect::is_loopback;
pub use said::{Absence, absence, holds_for_all, wait_asked};
pub use watch::Shown;

use crate::clock::Clock;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::net::oauth::OAuth;
use crate::store::rows::Wanted;
use crate::store::vault::{Vault, VaultError};
use crate::store::{Store, StoreError};
use authorise::Authorisations;
use credential::Credential;
use tokens::{Need, Slot};

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
    #[error("{0} is authorised by OAuth, and takes no password")]
    NoPassword(Address),
    #[error("{0} is logged in to with a password: its source names no oauth")]
    NoOauth(Address),
    #[error("{channel} could not be connected: {}", problem.said)]
    Refused { channel: Address, problem: Problem },
    #[error("{0} authorisations wait for somebody already")]
    TooManyAuthorisations(usize),
    #[error("this answer belongs to another authorisation: its state is not the one that was sent")]
    ForeignAnswer,
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
    setup: ArcSwap<Setup>,
    board: wake::Sender<BTreeMap<String, Connection>>,
    orders: Mutex<HashMap<String, wake::Sender<Orders>>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// Providers by name, made at their first use after a reload.
    providers: Mutex<HashMap<String, OAuth>>,
    /// A permit for each refresh that runs.
    running: Arc<Semaphore>,
    authorisations: Authorisations,
    doors: Doors,
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
            setup: ArcSwap::default(),
            board: wake::Sender::default(),
            orders: Mutex::default(),
            slots: Mutex::default(),
            providers: Mutex::default(),
            running: Arc::new(Semaphore::new(tokens::AT_ONCE as usize)),
            authorisations: Authorisations::default(),
            doors: Doors::default(),
        }))
    }

    /// Takes over what the configuration says now. Files of providers are read again at their next use.
    pub fn configure(&self, setup: Setup) {
        self.0.board.send_modify(|board| {
            board.retain(|key, _| setup.accounts.iter().any(|account| account.channel.key() == *key));
        });
        self.0.setup.store(setup.into());
        self.0.providers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What the configuration says.
    pub fn setup(&self) -> Arc<Setup> {
        self.0.setup.load_full()
    }

    /// What to log in with.
    pub async fn login(&self, channel: &Address) -> Result<Login, Problem> {
        let missing = |error: AccountError| Problem::new(Cause::CredentialMissing, error.to_string());
        let account = self.account(channel).map_err(missing)?;
        if account.oauth.is_some() {
            let token = self.token(&account, Need::Usable).await?;
            return Ok(Login::Bearer { user: account.user, token });
        }
        if account.password_file.is_some() {
            return tokens::blocking(move || password_of_file(&account)).await;
        }
        match self.read(channel).await? {
            Some(Credential::Password(password)) => Ok(Login::Password { user: account.user, password }),
            _ => Err(Problem::new(Cause::CredentialMissing, "no password is known")),
        }
    }

    /// What to log in with after the server has refused `refused`: another token, if the provider gives one. None for
    /// a password, of which there is only one.
    pub async fn login_instead(&self, channel: &Address, refused: &Login) -> Result<Option<Login>, Problem> {
        let Login::Bearer { user, token } = refused else { return Ok(None) };
        let Ok(account) = self.account(channel) else { return Ok(None) };
        let token = self.token(&account, Need::InsteadOf(token.clone())).await?;
        Ok(Some(Login::Bearer { user: user.clone(), token }))
    }

    /// Keeps the token of a connection that is in use fresh. A session outlives its token, so only what a person has
    /// to mend is an error.
    pub async fn renew(&self, channel: &Address) -> Result<(), Problem> {
        let Ok(account) = self.account(channel) else { return Ok(()) };
        let Some(about) = self.slot(channel).shown().filter(|_| account.oauth.is_some()) else { return Ok(()) };
        if !about.is_due(self.setup().config.refresh_before, self.0.clock.now()) {
            return Ok(());
        }
        match self.token(&account, Need::Usable).await {
            Err(problem) if problem.cause.remedy() == Remedy::Person => Err(problem),
            _ => Ok(()),
        }
    }

    /// Connects an account with a password, or connects it again: it is tried first, and kept only if it works. Where
    /// the mailbox was connected before, fetching goes on where it stopped.
    pub async fn connect(
        &self,
        channel: &Address,
        password: Option<SecretString>,
        author: &str,
    ) -> Result<(), AccountError> {
        let account = self.usable(channel)?;
        if account.oauth.is_some() {
            return Err(AccountError::NoPassword(channel.clone()));
        }
        let refused = |problem| AccountError::Refused { channel: channel.clone(), problem };
        let login = match password {
            Some(_) if account.password_file.is_some() => return Err(AccountError::FromFile(channel.clone())),
            Some(password) => Login::Password { user: account.user.clone(), password },
            None => self.login(channel).await.map_err(refused)?,
        };
        (self.0.probe)(channel.clone(), login.clone()).await.map_err(refused)?;
        if let (None, Login::Password { password, .. }) = (&account.password_file, login) {
            self.replace(channel, Credential::Password(password)).await.map_err(refused)?;
        }
        let (this, wanted, author) = (self.clone(), channel.clone(), author.to_owned());
        let done = tokio::task::spawn_blocking(move || this.want(&wanted, Wanted::Connected, &author)).await;
        done.unwrap_or_else(|error| Err(StoreError::Broken(error.to_string()).into()))
    }

    /// The account of a channel, if none of its addresses is used for something else (R3).
    fn usable(&self, channel: &Address) -> Result<Account, AccountError> {
        let account = self.account(channel)?;
        let refused = |problem| AccountError::Refused { channel: channel.clone(), problem };
        self.is_free(&account).map_err(refused)?;
        Ok(account)
    }

    /// Whether a mailbox may be opened as far as its addresses go (R3). One whose password stands in a file is opened
    /// without anybody having connected it.
    pub fn may_open(&self, channel: &Address) -> Result<(), Problem> {
        self.account(channel).map_or(Ok(()), |account| self.is_free(&account))
    }

    fn is_free(&self, account: &Account) -> Result<(), Problem> {
        let taken = self.setup().taken(account);
        taken.map_or(Ok(()), |(used, by)| Err(Problem::new(Cause::AddressInUse, format!("{used} is {by}"))))
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

    fn account(&self, channel: &Address) -> Result<Account, AccountError> {
        let setup = self.0.setup.load();
        let found = setup.accounts.iter().find(|account| account.channel == *channel).cloned();
        found.ok_or_else(|| AccountError::NoSource(channel.clone()))
    }
}

fn password_of_file(account: &Account) -> Result<Login, Problem> {
    let Some(file) = &account.password_file else {
        return Err(Problem::new(Cause::CredentialMissing, "no password is known"));
    };
    let password = read_password(file).map_err(|said| Problem::new(Cause::CredentialMissing, said))?;
    Ok(Login::Password { user: account.user.clone(), password })
}

#[cfg(test)]
mod tests;
