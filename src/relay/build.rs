//! Relays from their configuration.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::config::RelayConfig;
use super::direct::Direct;
use super::job::Reply;
use super::kept::KeptPolicies;
use super::pool::{Limits, Pool};
use super::rest::Resting;
use super::server::{Ask, Server, Slots};
use super::sts::{Fetch, Policies};
use super::{RelayError, Shared};
use crate::accounts::{Accounts, Login, read_password};
use crate::mail::Address;
use crate::net::http::{Http, HttpConfig};
use crate::net::names::Names;

/// How long fetching an MTA-STS policy may take, and how large one may be (RFC 8461 section 3.3).
const FETCH_TIME: Duration = Duration::from_secs(30);
const LONGEST_POLICY: usize = 64 << 10;

/// Connections of `direct` that wait for more mail at the same time.
const MOST_WAITING: usize = 50;

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
        per_sender: config.per_sender(),
        pool: pool(config),
        slots: Slots::new(config.concurrency()),
        metrics: shared.metrics.clone(),
    })
}

/// The delivery of a relay of kind `direct`.
pub(super) fn direct(config: &RelayConfig, kept: &Arc<KeptPolicies>, shared: &Shared) -> Result<Direct, RelayError> {
    let wrong = |said: String| RelayError::Relay { relay: config.name.clone(), said };
    let names = Names::new(&shared.dns, config.dane).map_err(|error| RelayError::Dns(error.to_string()))?;
    let connector = shared.connectors.get(&config.connect()).map_err(|error| wrong(error.to_string()))?;
    let http = HttpConfig { connect: config.connect(), timeout: FETCH_TIME, max_answer: LONGEST_POLICY };
    let http = Http::new(&http).map_err(|error| wrong(error.to_string()))?;
    Ok(Direct {
        name: config.name.clone(),
        port: config.port(),
        hostname: shared.hostname.clone(),
        command_timeout: config.command_timeout,
        data_timeout: config.data_timeout,
        ipv6: config.ipv6,
        dane: config.dane,
        concurrency: config.concurrency(),
        names,
        connector,
        policies: config.mta_sts.then(|| Policies::new(policy_fetcher(http), Arc::clone(kept))),
        // One waits for each of many destinations.
        pool: Pool::new(Limits { waiting: MOST_WAITING, ..limits(config) }),
        resting: Resting::new(config.rest_most),
        places: Mutex::default(),
        metrics: shared.metrics.clone(),
    })
}

/// Fetches policies from where they have to lie (RFC 8461 section 3.3): over HTTPS, without redirects.
fn policy_fetcher(http: Http) -> Fetch {
    Arc::new(move |domain| {
        let http = http.clone();
        Box::pin(async move {
            let url = format!("https://mta-sts.{domain}/.well-known/mta-sts.txt");
            let request = http::Request::get(url).body(Vec::new()).map_err(|error| error.to_string())?;
            let answer = http.send(request).await.map_err(|error| error.to_string())?;
            let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            if answer.status() != http::StatusCode::OK || !kind.is_some_and(|kind| kind.starts_with("text/plain")) {
                return Err(format!("the answer is {} of type {}", answer.status(), kind.unwrap_or("none")));
            }
            String::from_utf8(answer.into_body()).map_err(|error| error.to_string())
        })
    })
}

/// The connections of a relay that wait for mail.
pub(super) fn pool(config: &RelayConfig) -> Arc<Pool> {
    Pool::new(limits(config))
}

fn limits(config: &RelayConfig) -> Limits {
    let waiting = config.concurrency();
    Limits { mails: config.mails_per_connection, idle: config.idle_timeout, waiting }
}

/// Where the login comes from: a file of the relay's own, or the account of a channel.
fn ask(config: &RelayConfig, accounts: &Accounts) -> Ask {
    if let (Some(user), Some(file)) = (config.user.clone(), config.password_file.clone()) {
        return Arc::new(move |_, refused| {
            if refused.is_some() {
                return Box::pin(async { Ok(None) });
            }
            let (user, file) = (user.clone(), file.clone());
            // Read again for every connection, so that a changed password needs no restart.
            Box::pin(async move { blocking(move || password(user, &file)).await.map(Some) })
        });
    }
    if !config.uses_account() {
        return Arc::new(|_, _| Box::pin(async { Ok(None) }));
    }
    let (own, accounts) = (config.account(), accounts.clone());
    Arc::new(move |sender, refused| {
        let (account, accounts) = (own.clone().or(sender), accounts.clone());
        Box::pin(of_account(accounts, account, refused))
    })
}

async fn of_account(
    accounts: Accounts,
    account: Option<Address>,
    refused: Option<Login>,
) -> Result<Option<Login>, Reply> {
    let none = || Reply::trouble("4.7.0", "the mail has no channel whose account could send it");
    let account = account.ok_or_else(none)?;
    let login = match refused {
        None => accounts.login(&account).await.map(Some),
        Some(refused) => accounts.login_instead(&account, &refused).await,
    };
    login.map_err(|problem| {
        Reply::trouble("4.7.0", &format!("the account of {account} cannot log in: {}", problem.said))
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Reply> + Send + 'static) -> Result<T, Reply> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Reply::trouble("4.3.0", &error.to_string())))
}

/// Reads a password file. Blocks on the disk.
fn password(user: String, file: &Path) -> Result<Login, Reply> {
    let password = read_password(file).map_err(|said| Reply::trouble("4.7.0", &said))?;
    Ok(Login::Password { user, password })
}
