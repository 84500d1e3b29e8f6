//! The flow for machines without a browser: a code that a person types in elsewhere (RFC 8628).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oauth2::{Scope, StandardDeviceAuthorizationResponse};
use secrecy::{ExposeSecret, SecretString};

use super::ask::Failure;
use super::client::failed;
use super::error::OAuthError;
use super::{Grant, OAuth};

/// Between two questions: at least, however eager the server, and at most.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// A server may ask for more patience than that, up to this.
const SLOWEST: Duration = Duration::from_secs(900);

/// What `slow_down` adds (RFC 8628 section 3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// No code is waited for longer than this, whatever the server says.
const PATIENCE: SignedDuration = SignedDuration::from_hours(2);

/// A device code: what to tell the person, and what is needed to wait for them.
#[derive(Debug)]
pub struct DeviceRequest {
    /// What the person types in.
    pub user_code: String,
    /// Where they type it in.
    pub verification_url: String,
    /// The same with the code in it, if the provider has that.
    pub verification_url_complete: Option<String>,
    pub expires_at: Timestamp,
    pub pending: PendingDevice,
}

/// A device code that nobody has used yet.
pub struct PendingDevice {
    device_code: SecretString,
    interval: Duration,
    expires_at: Timestamp,
}

impl std::fmt::Debug for PendingDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingDevice").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl OAuth {
    /// Begins the flow for machines without a browser.
    pub async fn begin_device(&self) -> Result<DeviceRequest, OAuthError> {
        let endpoints = self.0.endpoints().await?;
        if endpoints.device.is_none() {
            let said = "the provider gives no device codes for mail (device_url); sign in with a browser instead";
            return Err(OAuthError::Config(said.into()));
        }
        let (asked_at, client) = (self.0.clock.now(), self.0.client(&endpoints));
        let mut request = client
            .exchange_device_code()
            .map_err(|error| OAuthError::Config(error.to_string()))?
            .add_scopes(self.0.scopes().into_iter().map(Scope::new));
        for (key, value) in self.0.assertion(&endpoints)? {
            request = request.add_extra_param(key, value);
        }
        let answer: StandardDeviceAuthorizationResponse =
            request.request_async(&|request| self.0.clone().send(request)).await.map_err(failed)?;
        let shown = |text: &str| super::classify::clean(text);
        let lifetime = SignedDuration::try_from(answer.expires_in()).unwrap_or(PATIENCE).min(PATIENCE);
        let expires_at = asked_at.checked_add(lifetime).unwrap_or(asked_at);
        let device_code = SecretString::from(answer.device_code().secret().clone());
        Ok(DeviceRequest {
            user_code: shown(answer.user_code().secret()),
            verification_url: shown(answer.verification_uri()),
            verification_url_complete: answer.verification_uri_complete().map(|url| shown(url.secret())),
            expires_at,
            pending: PendingDevice { device_code, interval: answer.interval(), expires_at },
        })
    }

    /// Waits until the person has signed in, declined, or let the code expire. May be dropped at any time.
    pub async fn finish_device(&self, pending: PendingDevice) -> Result<Grant, OAuthError> {
        self.wait(pending, tokio::time::sleep).await
    }

    /// Asks again and again, with `sleep` between.
    pub(super) async fn wait<S: Future<Output = ()>>(
        &self,
        pending: PendingDevice,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Grant, OAuthError> {
        let endpoints = self.0.endpoints().await?;
        let mut interval = pending.interval.clamp(LEAST, SLOWEST);
        loop {
            sleep(interval).await;
            let asked_at = self.0.clock.now();
            if asked_at >= pending.expires_at {
                return Err(OAuthError::Expired);
            }
            let params = vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code".to_owned()),
                ("device_code", pending.device_code.expose_secret().to_owned()),
            ];
            match self.0.token(&endpoints, params).await {
                Ok(answer) => return self.0.accept(&endpoints, &answer, asked_at, None).await,
                Err(failure) => interval = next_wait(interval, failure)?,
            }
        }
    }
}

/// How long to wait after a question that was not answered with a grant; an error that ends the waiting.
fn next_wait(interval: Duration, failure: Failure) -> Result<Duration, OAuthError> {
    if let Failure::Said(answer) = &failure {
        match answer.error.as_str() {
            "authorization_pending" => return Ok(interval),
            "slow_down" => return Ok((interval + SLOWER).min(SLOWEST)),
            _ => {}
        }
    }
    match OAuthError::from(failure) {
        OAuthError::ProviderTrouble { retry_after: Some(wait), .. } => Ok(wait.clamp(interval, MOST.max(interval))),
        // "An exponential backoff" after a connection that timed out, says RFC 8628 section 3.5.
        error if error.passes() => Ok((interval * 2).min(MOST.max(interval))),
        error => Err(error),
    }
}
