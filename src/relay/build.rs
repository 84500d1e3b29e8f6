//! Relays from their configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::config::RelayConfig;
use super::job::Reply;
use super::pool::{Limits, Pool};
use super::server::{Ask, Server};
use super::{RelayError, Shared};
use crate::accounts::{Accounts, Login};
use crate::mail::Address;

/// The longest password that is read from a file.
const LONGEST_PASSWORD: usize = 4096;

/// The server of a relay of kind `smtp`.
pub(super) fn server(config: &RelayConfig, shared: &Shared) -> Result<Server, RelayError> {
    let wrong = |said: String| RelayError::Relay { relay: config.name.clone(), said };
    let host = config.host().ok_or_else(|| wrong("the server is not named; add host, or a preset".into()))?;
    let connector = shared.connectors.get(&config.connect()).map_err(|error| wrong(error.to_string()))?;
    Ok(Server {
        name: config.name.clone(),
        host: host.to_owned(),
        port: config.port(),
        security: config.security(),
        mechanism: config.mechanism,
        hostname: shared.hostname.clone(),
        command_timeout: config.command_timeout,
        data_timeout: config.data_timeout,
        connector,
        ask: ask(config, &shared.accounts),
        per_sender: config.uses_account() && config.account.is_none(),
        pool: pool(config),
        slots: Semaphore::new(config.concurrency.max(1)),
        metrics: shared.metrics.clone(),
    })
}

/// The connections of a relay that wait for mail.
pub(super) fn pool(config: &RelayConfig) -> Arc<Pool> {
    let waiting = config.concurrency.max(1);
    Pool::new(Limits { mails: config.mails_per_connection, idle: config.idle_timeout, waiting })
}

/// Where the login comes from: a file of the relay's own, or the account of a channel.
fn ask(config: &RelayConfig, accounts: &Accounts) -> Ask {
    if let (Some(user), Some(file)) = (config.user.clone(), config.password_file.clone()) {
        return Arc::new(move |_| {
            let (user, file) = (user.clone(), file.clone());
            // Read again for every connection, so that a changed password needs no restart.
            Box::pin(async move { blocking(move || password(user, &file)).await.map(Some) })
        });
    }
    if !config.uses_account() {
        return Arc::new(|_| Box::pin(async { Ok(None) }));
    }
    let (own, accounts) = (config.account(), accounts.clone());
    Arc::new(move |sender| {
        let (account, accounts) = (own.clone().or(sender), accounts.clone());
        Box::pin(async move { of_account(accounts, account).await.map(Some) })
    })
}

async fn of_account(accounts: Accounts, account: Option<Address>) -> Result<Login, Reply> {
    let account =
        account.ok_or_else(|| Reply::trouble("4.7.0", "the mail has no channel whose account could send it"))?;
    let named = account.clone();
    let login = blocking(move || Ok(accounts.login(&account))).await?;
    login.map_err(|problem| Reply::trouble("4.7.0", &format!("the account of {named} cannot log in: {}", problem.said)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Reply> + Send + 'static) -> Result<T, Reply> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Reply::trouble("4.3.0", &error.to_string())))
}

/// Reads a password file. Blocks on the disk.
fn password(user: String, file: &Path) -> Result<Login, Reply> {
    let wrong = |said: String| Reply::trouble("4.7.0", &format!("{}: {said}", PathBuf::from(file).display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > LONGEST_PASSWORD {
        return Err(wrong(format!("it is empty or over {LONGEST_PASSWORD} bytes long")));
    }
    Ok(Login::Password { user, password: password.to_owned().into() })
}
