//! The watch over credentials: what is shown of them, and the warning before one dies (B9).

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::credential::{About, Credential};
use super::forecast::{self, Client, End, Issuer, Use};
use super::{Account, Accounts, Flow, State};
use crate::net::der;
use crate::net::oauth::{Preset, ProviderConfig};
use crate::shutdown::Shutdown;

/// How often the forecast is made.
const EVERY: Duration = Duration::from_secs(600);
/// How often the feed is told of the same account.
const TOLD_EVERY: i64 = 86_400;

/// What may be shown of an account's credential.
#[derive(Clone, Debug)]
pub struct Shown {
    /// `password` or `oauth`.
    pub kind: &'static str,
    /// Whether the password stands in a file that the configuration names.
    pub from_file: bool,
    pub provider: Option<String>,
    pub flow: Option<Flow>,
    /// Who consented.
    pub account: Option<String>,
    pub scopes: Vec<String>,
    pub access_expires_at: Option<Timestamp>,
    pub refresh_expires_at: Option<Timestamp>,
    pub next_refresh_at: Option<Timestamp>,
    pub warnings: Vec<End>,
}

impl Accounts {
    /// What may be shown of the credential of a channel that has a mailbox.
    pub fn credential(&self, channel: &crate::mail::Address) -> Option<Shown> {
        let account = self.account(channel).ok()?;
        let oauth = account.oauth.clone();
        let about = self.slot(channel).shown().filter(|_| oauth.is_some());
        let setup = self.setup();
        let warnings = forecast::warnings(&self.ends(&account), setup.config.warn_before, self.0.clock.now());
        let next = |about: &About| about.next_refresh(setup.config.refresh_before);
        Some(Shown {
            kind: if oauth.is_some() { "oauth" } else { "password" },
            from_file: oauth.is_none() && account.password_file.is_some(),
            flow: oauth.as_ref().map(|oauth| about.as_ref().map_or(oauth.flow, |about| about.flow)),
            provider: oauth.map(|oauth| oauth.provider),
            account: about.as_ref().and_then(About::account).map(str::to_owned),
            scopes: about.as_ref().map(|about| about.scopes.clone()).unwrap_or_default(),
            access_expires_at: about.as_ref().map(|about| about.expires_at),
            refresh_expires_at: about.as_ref().and_then(|about| about.refresh_expires_at),
            next_refresh_at: about.as_ref().map(next),
            warnings,
        })
    }

    fn ends(&self, account: &Account) -> Vec<End> {
        let Some(oauth) = &account.oauth else { return Vec::new() };
        let setup = self.setup();
        let provider = setup.providers.iter().find(|provider| provider.name == oauth.provider);
        let about = self.slot(&account.channel).shown();
        let connected = self.connection(&account.channel).is_some_and(|c| c.state == State::Connected);
        let in_use = if connected { Use::Connected } else { Use::Idle };
        forecast::ends(about.as_ref(), &provider.map(client).unwrap_or_default(), in_use)
    }

    /// Looks at all credentials from time to time, until the shutdown.
    pub async fn watch(self, mut shutdown: Shutdown) {
        loop {
            self.look_at_credentials().await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.wait() => return,
            }
        }
    }

    /// Reads what was not read yet, shows every end in the metrics, and tells of the near ones.
    pub async fn look_at_credentials(&self) {
        let mut looks = JoinSet::new();
        for account in self.setup().accounts.iter().filter(|account| account.oauth.is_some()) {
            let (this, account) = (self.clone(), account.clone());
            looks.spawn(Box::pin(async move { this.look_at(&account).await }));
        }
        while looks.join_next().await.is_some() {}
    }

    async fn look_at(&self, account: &Account) {
        let slot = self.slot(&account.channel);
        // A slow provider may hold the turn for a while, and what is known then will do.
        if let (None, Ok(_turn)) = (slot.shown(), slot.turn.try_lock())
            && let Ok(Some(Credential::Token(token))) = self.read(&account.channel).await
        {
            slot.show(Some(token.about));
        }
        let ends = self.ends(account);
        let channel = account.channel.to_string();
        self.0.metrics.credential_expires(&channel, ends.first().map(|end| end.at));
        let now = self.0.clock.now();
        let near = forecast::warnings(&ends, self.setup().config.warn_before, now);
        if !near.is_empty() {
            self.tell_warnings(account, &near, now).await;
        }
    }

    /// Tells log and feed, once a day at most: the vault remembers when, so that a restart does not tell again.
    async fn tell_warnings(&self, account: &Account, near: &[End], now: Timestamp) {
        let slot = self.slot(&account.channel);
        let Ok(_turn) = slot.turn.try_lock() else { return };
        let Ok(Some(Credential::Token(mut token))) = self.read(&account.channel).await else { return };
        if token.about.warned_at.is_some_and(|at| (0..TOLD_EVERY).contains(&now.duration_since(at).as_secs())) {
            return;
        }
        token.about.warned_at = Some(now);
        let about = token.about.clone();
        if self.write(&account.channel, Credential::Token(token)).await.is_err() {
            return;
        }
        slot.show(Some(about));
        let (store, channel) = (self.0.store.clone(), account.channel.clone());
        let said: Vec<String> = near.iter().map(|end| format!("{}: {}; {}", end.code, end.said, end.action)).collect();
        let said = said.join("; ");
        tracing::warn!(%channel, said, "a credential is going to die");
        let told = tokio::task::spawn_blocking(move || {
            store.step(|step| step.connection_event(&channel, "credential_warning", &said, None, now))
        });
        if let Ok(Err(trouble)) = told.await {
            tracing::warn!(%trouble, "a warning could not be written to the feed");
        }
    }
}

/// What is known of the client at a provider.
fn client(provider: &ProviderConfig) -> Client {
    let midnight = |date: jiff::civil::Date| date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp());
    Client {
        issuer: match provider.preset {
            Preset::Microsoft => Issuer::Microsoft,
            Preset::Google => Issuer::Google,
            Preset::Generic => Issuer::Other,
        },
        secret_expires: provider.client_secret_expires.and_then(midnight),
        certificate_expires: provider.certificate_file.as_deref().and_then(der::expiry_of_file),
    }
}
