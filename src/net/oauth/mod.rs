//! Access that is granted by an authorisation server: OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), device codes
//! (RFC 8628), signed assertions (RFC 7523), and what OpenID Connect says of who granted it.
//!
//! Must not know: mailboxes, channels, where grants are kept, the store.

mod answer;
mod app;
mod ask;
mod assertion;
mod check;
mod classify;
mod client;
mod code;
mod config;
mod credentials;
mod device;
mod endpoints;
mod error;
mod identity;
mod preset;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, Request};
use jiff::Timestamp;
use oauth2::{RefreshToken, Scope};
use secrecy::{ExposeSecret, SecretString};

use self::answer::TokenAnswer;
use self::client::failed;
use self::credentials::Credentials;
use self::endpoints::{Endpoints, Known};
use self::identity::Expected;
use super::http::{Http, HttpConfig};
use crate::clock::Clock;

pub use code::{CodeRequest, PendingCode};
pub use config::{ClientAuth, Cloud, Preset, ProviderConfig, ScopeUse};
pub use device::{DeviceRequest, PendingDevice};
pub use error::{ClientKind, GrantKind, OAuthError};

/// The longest answer of a provider that is read.
const LONGEST_ANSWER: usize = 1 << 20;

/// One provider, with our registration there; cheap to clone.
#[derive(Clone)]
pub struct OAuth(Arc<Inner>);

struct Inner {
    config: ProviderConfig,
    credentials: Credentials,
    http: Http,
    clock: Clock,
    known: Known,
}

impl std::fmt::Debug for OAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OAuth").field(&self.0.config.name).finish()
    }
}

/// What was granted.
#[derive(Clone, Debug)]
pub struct Grant {
    pub access: SecretString,
    /// When the access token expires, if the provider said so.
    pub expires_at: Option<Timestamp>,
    /// The refresh token to keep from now on: a new one, or nothing where the provider did not send one, and then the
    /// one that was used stays valid (RFC 6749 section 6).
    pub refresh: Option<SecretString>,
    pub refresh_expires_at: Option<Timestamp>,
    /// The scopes that were granted; nothing where the provider did not say, which means all (RFC 6749 section 5.1).
    pub scopes: Option<Vec<String>>,
    pub identity: Identity,
}

/// Who granted it. Empty where the provider did not say: access of an application has nobody behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The provider's name for the account (`sub`), which does not change.
    pub subject: Option<String>,
    /// Addresses and user names of the account, in lower case, the most telling first.
    pub addresses: Vec<String>,
}

impl OAuth {
    /// Reads the files that the configuration names. Nothing is asked of the provider yet.
    pub fn new(config: &ProviderConfig, clock: Clock) -> Result<Self, OAuthError> {
        let credentials = Credentials::load(config)?;
        let http = HttpConfig { connect: config.connect(), timeout: config.timeout, max_answer: LONGEST_ANSWER };
        let http = Http::new(&http).map_err(|error| OAuthError::Config(error.to_string()))?;
        Ok(Self(Arc::new(Inner { config: config.clone(), credentials, http, clock, known: Known::default() })))
    }

    /// When the client secret (by the configuration) or the certificate (by itself) expires, whichever is first.
    pub fn client_expires(&self) -> Option<Timestamp> {
        self.0.credentials.expires
    }

    /// Whether access is had without a person, by `app`, where a service account is configured.
    pub fn has_service_account(&self) -> bool {
        self.0.credentials.service.is_some()
    }

    /// A new access token for a refresh token. What comes back in `refresh` replaces it and must be kept before the
    /// access token is used. Once the provider has answered with a grant this does not fail for what else is odd about
    /// it: the old refresh token may be dead by then. What it lacks is told by [`Self::missing_scopes`]; who it belongs
    /// to stands in it only where the provider says so and proves it.
    pub async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant, OAuthError> {
        let endpoints = self.0.endpoints().await?;
        let (asked_at, client) = (self.0.clock.now(), self.0.client(&endpoints));
        let token = RefreshToken::new(refresh_token.expose_secret().to_owned());
        let mut request = client.exchange_refresh_token(&token);
        // Without them Microsoft grants for another resource, or refuses (AADSTS90009).
        if self.0.config.preset == Preset::Microsoft {
            request = request.add_scopes(self.0.scopes().into_iter().map(Scope::new));
        }
        for (key, value) in self.0.assertion(&endpoints)? {
            request = request.add_extra_param(key, value);
        }
        let answer = request.request_async(&|request| self.0.clone().send(request)).await.map_err(failed)?;
        let mut grant = answer::grant(&answer, asked_at)?;
        grant.identity = self.0.identity(&endpoints, &answer, None).unwrap_or_default();
        Ok(grant)
    }

    /// The scopes that a person's grant lacks of those that are asked for.
    pub fn missing_scopes(&self, grant: &Grant) -> Vec<String> {
        answer::missing(&self.0.scopes(), grant.scopes.as_deref())
    }
}

impl Inner {
    /// What a person is asked for.
    fn scopes(&self) -> Vec<String> {
        self.config.scopes(ScopeUse::Imap)
    }

    async fn endpoints(&self) -> Result<Arc<Endpoints>, OAuthError> {
        endpoints::get(&self.config, &self.http, &self.known, self.clock.now()).await
    }

    /// A person's first grant: it must cover what was asked for, and say who the person is if the provider knows how.
    async fn accept(
        &self,
        endpoints: &Endpoints,
        answer: &TokenAnswer,
        asked_at: Timestamp,
        nonce: Option<&str>,
    ) -> Result<Grant, OAuthError> {
        let mut grant = answer::grant(answer, asked_at)?;
        let missing = answer::missing(&self.scopes(), grant.scopes.as_deref());
        if !missing.is_empty() {
            return Err(OAuthError::ScopeMissing(missing));
        }
        grant.identity = self.identity(endpoints, answer, nonce)?;
        if grant.identity.addresses.is_empty()
            && let Some(url) = &endpoints.userinfo
        {
            grant.identity = self.userinfo(url.as_str(), &grant).await?;
        }
        Ok(grant)
    }

    /// Who the ID token names; nobody if there is none.
    fn identity(
        &self,
        endpoints: &Endpoints,
        answer: &TokenAnswer,
        nonce: Option<&str>,
    ) -> Result<Identity, OAuthError> {
        let Some(token) = &answer.extra_fields().id_token else { return Ok(Identity::default()) };
        let (client_id, issuer, now) = (&*self.config.client_id, &endpoints.issuer, self.clock.now());
        identity::from_token(token, &Expected { client_id, issuer, nonce, now })
    }

    /// OpenID Connect Core section 5.3.
    async fn userinfo(&self, url: &str, grant: &Grant) -> Result<Identity, OAuthError> {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", grant.access.expose_secret()));
        let mut bearer = bearer.map_err(|_| OAuthError::Protocol("its access token cannot be sent back".into()))?;
        bearer.set_sensitive(true);
        let request = Request::builder().method(Method::GET).uri(url).header(ACCEPT, "application/json");
        let request = request.header(AUTHORIZATION, bearer).body(Vec::new());
        let request = request.map_err(|error| OAuthError::Config(format!("userinfo_url: {error}")))?;
        let body = ask::json(&self.http, request, &[]).await?;
        identity::from_userinfo(&body, &grant.identity)
    }
}
