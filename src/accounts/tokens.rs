//! Access tokens that are fresh when they are needed: one refresh at a time an account, its answer on disk before use.
//!
//! Each refresh runs in a task of its own, so that neither a session that is broken off nor a shutdown can drop an
//! answer half way: a provider that rotates refresh tokens has already forgotten the old one. Before a refresh token
//! is sent the vault notes that it is, which also proves that the answer can be kept. What remains is a kill between
//! the provider's answer and our sync: the old token is dead then, the provider says so at the next refresh, and the
//! problem tells of the unfinished one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::credential::{About, Credential, Flow, Token, same};
use super::problem::{Cause, Problem, Remedy};
use super::{Account, Accounts, trouble};
use crate::mail::Address;
use crate::net::backoff::{Backoff, chance};
use crate::net::oauth::{Grant, OAuth, OAuthError, ProviderConfig};
use crate::store::rows::SourceRow;

/// Refreshes that run at the same time, of all accounts; also how a shutdown waits for all of them.
pub(super) const AT_ONCE: u32 = 512;
/// The waits after a provider's trouble: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A server that refuses a token younger than this would refuse the next one as well.
const FORCED_AT_MOST: Duration = Duration::from_secs(60);

/// What is known of one account's credential while the daemon runs.
pub(super) struct Slot {
    /// Held by whoever reads, renews or replaces the credential.
    pub turn: tokio::sync::Mutex<Turn>,
    /// What may be shown of it; None before it was read, or where there is none.
    shown: Mutex<Option<About>>,
}

/// The state behind the turn.
pub(super) struct Turn {
    /// An answer that could not be written yet. It is not used before it is.
    unsaved: Option<Token>,
    /// After trouble: not before then, and what it was.
    held_off: Option<(Timestamp, Problem)>,
    backoff: Backoff,
    forced_at: Option<Timestamp>,
}

impl Slot {
    pub fn new() -> Self {
        Self { turn: tokio::sync::Mutex::new(Turn::new()), shown: Mutex::default() }
    }

    pub fn shown(&self) -> Option<About> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn show(&self, about: Option<About>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = about;
    }
}

impl Turn {
    fn new() -> Self {
        Self { unsaved: None, held_off: None, backoff: Backoff::new(RETRY.0, RETRY.1), forced_at: None }
    }

    /// The credential was replaced: nothing of the old one counts any more.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

/// What a token is wanted for.
#[derive(Clone, Debug)]
pub(super) enum Need {
    /// To log in with.
    Usable,
    /// The server has refused this one.
    InsteadOf(SecretString),
}

impl Accounts {
    /// A fresh access token.
    pub(super) async fn token(&self, account: &Account, need: Need) -> Result<SecretString, Problem> {
        let (this, account) = (self.clone(), account.clone());
        let task = tokio::spawn(Box::pin(async move { this.usable_token(&account, need).await }));
        task.await.unwrap_or_else(|error| Err(Problem::new(Cause::Protocol, error.to_string())))
    }

    async fn usable_token(&self, account: &Account, need: Need) -> Result<SecretString, Problem> {
        let slot = self.slot(&account.channel);
        let mut turn = slot.turn.lock().await;
        let token = match turn.unsaved.take() {
            Some(token) => Some(self.keep_answer(account, token, &slot, &mut turn).await?),
            None => self.stored(account).await?,
        };
        slot.show(token.as_ref().map(|token| token.about.clone()));
        let now = self.0.clock.now();
        let Some(token) = token else {
            return match account.oauth.as_ref().map(|oauth| oauth.flow) {
                Some(Flow::App) => self.exchange(account, None, &slot, &mut turn).await,
                _ => Err(Problem::new(Cause::ConsentMissing, "nobody has consented to reading this mailbox yet")),
            };
        };
        let alive = token.about.alive(now);
        match need {
            Need::Usable if !token.about.is_due(self.setup().config.refresh_before, now) => {
                return Ok(token.access);
            }
            Need::InsteadOf(refused) if alive && !same(&refused, &token.access) => return Ok(token.access),
            Need::InsteadOf(_) => {
                let before = turn.forced_at.replace(now);
                if before.is_some_and(|at| is_within(at, now, FORCED_AT_MOST)) {
                    let said = "the server refuses tokens that the provider has just issued";
                    return Err(Problem::new(Cause::TokenRefused, said));
                }
            }
            Need::Usable => {
                if let Some((_, problem)) =
                    turn.held_off.as_ref().filter(|(until, _)| now < *until && is_within(now, *until, RETRY.1))
                {
                    return if alive { Ok(token.access) } else { Err(problem.clone()) };
                }
            }
        }
        self.exchange(account, Some(token), &slot, &mut turn).await
    }

    /// Asks the provider, and keeps its answer before anybody uses it.
    async fn exchange(
        &self,
        account: &Account,
        token: Option<Token>,
        slot: &Slot,
        turn: &mut Turn,
    ) -> Result<SecretString, Problem> {
        let name = account.oauth.as_ref().map(|oauth| oauth.provider.clone()).unwrap_or_default();
        let (config, oauth) = self.provider(&name).await?;
        let stopping = || Problem::new(Cause::OauthProviderTrouble, "the daemon is stopping");
        let _running = self.0.running.clone().acquire_owned().await.map_err(|_| stopping())?;
        let unfinished = token.as_ref().and_then(|token| token.about.refreshing_since);
        let answer = match &token {
            Some(token) if token.refresh.is_some() => self.refresh(account, token, &oauth).await?,
            Some(token) if token.about.flow != Flow::App => {
                return if token.about.alive(self.0.clock.now()) {
                    Ok(token.access.clone())
                } else {
                    let said = format!("{name} has granted no refresh token, and the access token is over");
                    Err(Problem::new(Cause::ConsentExpired, said))
                };
            }
            _ => oauth.app(&account.mailbox().to_string()).await,
        };
        let now = self.0.clock.now();
        match answer {
            Ok(grant) => {
                let lacks = match &token {
                    Some(token) if token.about.flow != Flow::App => oauth.missing_scopes(&grant),
                    _ => Vec::new(),
                };
                let fresh = match &token {
                    Some(token) => token.renewed(grant, now),
                    None => first(&config, Flow::App, grant, now),
                };
                let kept = self.keep_answer(account, fresh, slot, turn).await?;
                (turn.held_off, turn.backoff) = (None, Backoff::new(RETRY.0, RETRY.1));
                self.count(account, "refreshed");
                tracing::debug!(channel = %account.channel, expires_at = %kept.about.expires_at, "a token was renewed");
                if lacks.is_empty() {
                    Ok(kept.access)
                } else {
                    Err(trouble::problem(&OAuthError::ScopeMissing(lacks), &config))
                }
            }
            Err(error) => self.failed(account, &error, &config, token, turn, unfinished),
        }
    }

    /// Notes in the vault that the refresh token is on its way, and sends it.
    async fn refresh(
        &self,
        account: &Account,
        token: &Token,
        oauth: &OAuth,
    ) -> Result<Result<Grant, OAuthError>, Problem> {
        let Some(refresh) = &token.refresh else {
            return Ok(Err(OAuthError::Protocol("there is no refresh token".into())));
        };
        let mut noted = token.clone();
        noted.about.refreshing_since = Some(self.0.clock.now());
        self.write(&account.channel, Credential::Token(Box::new(noted))).await?;
        Ok(oauth.refresh(refresh).await)
    }

    /// What a refresh that failed leaves: a token that still lives goes on, and everything else is a problem.
    fn failed(
        &self,
        account: &Account,
        error: &OAuthError,
        config: &ProviderConfig,
        token: Option<Token>,
        turn: &mut Turn,
        unfinished: Option<Timestamp>,
    ) -> Result<SecretString, Problem> {
        let mut problem = trouble::problem(error, config);
        let now = self.0.clock.now();
        if problem.cause.remedy() == Remedy::Wait {
            let mut wait = turn.backoff.next(chance());
            if let OAuthError::ProviderTrouble { retry_after: Some(asked), .. } = error {
                wait = wait.max((*asked).min(RETRY.1));
            }
            turn.held_off = Some((now.saturating_add(wait).unwrap_or(now), problem.clone()));
            if let Some(token) = token.filter(|token| token.about.alive(now)) {
                self.count(account, "kept");
                tracing::info!(channel = %account.channel, %problem, "a token was not renewed; the old one still works");
                return Ok(token.access);
            }
        } else if let Some(at) = unfinished.filter(|_| problem.cause == Cause::ConsentExpired) {
            problem.said += &format!("; the answer to the refresh of {at:.0} was lost, in a crash or on the way");
        }
        self.count(account, if problem.cause == Cause::ConsentExpired { "dead" } else { "failed" });
        Err(problem)
    }

    /// Puts an answer on disk. One that cannot be written waits in memory for the next try.
    async fn keep_answer(
        &self,
        account: &Account,
        token: Token,
        slot: &Slot,
        turn: &mut Turn,
    ) -> Result<Token, Problem> {
        match self.write(&account.channel, Credential::Token(Box::new(token.clone()))).await {
            Ok(()) => {
                slot.show(Some(token.about.clone()));
                Ok(token)
            }
            Err(problem) => {
                turn.unsaved = Some(token);
                Err(problem)
            }
        }
    }

    /// The token of the vault, if it is one of the provider that is configured now.
    async fn stored(&self, account: &Account) -> Result<Option<Token>, Problem> {
        let configured = account.oauth.as_ref().map(|oauth| oauth.provider.as_str()).unwrap_or_default();
        match self.read(&account.channel).await? {
            Some(Credential::Token(token)) if token.about.provider == configured => Ok(Some(*token)),
            Some(Credential::Token(token)) if account.oauth.as_ref().is_some_and(|o| o.flow != Flow::App) => {
                let said =
                    format!("the consent was given for {}, and now {configured} is configured", token.about.provider);
                Err(Problem::new(Cause::ConsentMissing, said))
            }
            _ => Ok(None),
        }
    }

    /// What the vault holds of an account.
    pub(super) async fn read(&self, channel: &Address) -> Result<Option<Credential>, Problem> {
        let (this, name) = (self.clone(), channel.key());
        blocking(move || {
            let bytes = this.0.vault.get(&name).map_err(|error| vault_problem(&error))?;
            let unreadable = |error: super::credential::Unreadable| Problem::new(Cause::VaultKey, error.to_string());
            bytes.map(|bytes| Credential::read(&bytes).map_err(unreadable)).transpose()
        })
        .await
    }

    /// Writes to the vault. The account's row comes first, because key rotation finds secrets by the rows.
    pub(super) async fn write(&self, channel: &Address, credential: Credential) -> Result<(), Problem> {
        let (this, channel) = (self.clone(), channel.clone());
        blocking(move || {
            let disk = |error: crate::store::StoreError| Problem::new(Cause::DiskLow, error.to_string());
            if this.0.store.source(&channel).map_err(disk)?.is_none() {
                let now = this.0.clock.now();
                let row = SourceRow { channel: channel.to_string(), since: now, ..SourceRow::default() };
                this.0.store.step(|step| step.put_source(&channel, &row)).map_err(disk)?;
            }
            let bytes = credential.bytes().map_err(|error| Problem::new(Cause::VaultKey, error.to_string()))?;
            this.0.vault.put(&channel.key(), &bytes).map_err(|error| vault_problem(&error))
        })
        .await
    }

    /// A provider by its name, made at its first use after a reload.
    pub(super) async fn provider(&self, name: &str) -> Result<(ProviderConfig, OAuth), Problem> {
        let setup = self.setup();
        let Some(config) = setup.providers.iter().find(|provider| provider.name == name).cloned() else {
            return Err(Problem::new(Cause::OauthConfig, format!("there is no [[oauth]] \"{name}\" any more")));
        };
        let known = self.0.providers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(oauth) = known {
            return Ok((config, oauth));
        }
        let (clock, reads) = (self.0.clock.clone(), config.clone());
        let made =
            blocking(move || OAuth::new(&reads, clock).map_err(|error| trouble::problem(&error, &reads))).await?;
        let mut providers = self.0.providers.lock().unwrap_or_else(PoisonError::into_inner);
        providers.insert(name.to_owned(), made.clone());
        Ok((config, made))
    }

    pub(super) fn slot(&self, channel: &Address) -> Arc<Slot> {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(channel.key()).or_insert_with(|| Arc::new(Slot::new())).clone()
    }

    fn count(&self, account: &Account, outcome: &str) {
        self.0.metrics.oauth_refreshed(&account.channel.to_string(), outcome);
    }

    /// Begins no new refresh, and waits for those that run; an answer that could not be written is tried once more.
    pub async fn settle(&self, patience: Duration) {
        self.end_authorisations();
        if tokio::time::timeout(patience, self.0.running.acquire_many(AT_ONCE)).await.is_err() {
            tracing::warn!("a refresh of a token did not end in time and is left behind");
        }
        self.0.running.close();
        for account in &self.setup().accounts {
            let slot = self.slot(&account.channel);
            let Ok(mut turn) = slot.turn.try_lock() else { continue };
            let Some(token) = turn.unsaved.take() else { continue };
            if let Err(problem) = self.keep_answer(account, token, &slot, &mut turn).await {
                tracing::error!(channel = %account.channel, %problem, "a renewed token is lost: reconnect the account");
            }
        }
    }
}

/// Whether `to` lies after `from`, and not further than `most`. A time that does was noted by a clock that has stepped
/// since, and says nothing.
fn is_within(from: Timestamp, to: Timestamp, most: Duration) -> bool {
    Duration::try_from(to.duration_since(from)).is_ok_and(|between| between <= most)
}

/// The token of a first grant.
pub(super) fn first(config: &ProviderConfig, flow: Flow, grant: Grant, now: Timestamp) -> Token {
    let asked = config.scopes(crate::net::oauth::ScopeUse::Imap);
    Token::granted(&config.name, flow, asked, grant, now)
}

fn vault_problem(error: &crate::store::vault::VaultError) -> Problem {
    use crate::store::vault::VaultError;
    let cause = match error {
        VaultError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Cause::DiskLow,
        _ => Cause::VaultKey,
    };
    Problem::new(cause, error.to_string())
}

/// Runs what blocks on the disk away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Problem::new(Cause::Protocol, error.to_string())))
}
