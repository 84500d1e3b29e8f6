//! Access that is granted by an authorisation server: OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), device codes
//! (RFC 8628), signed assertions (RFC 7523), and what OpenID Connect says of who granted it.
//!
//! Must not know: mailboxes, channels, where grants are kept, the store.

mod check;
mod config;
mod error;
mod preset;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::clock::Clock;

pub use config::{Cloud, Preset, ProviderConfig, ScopeUse};
pub use error::{ClientKind, GrantKind, OAuthError};

/// One provider, with our registration there; cheap to clone.
#[derive(Clone, Debug)]
pub struct OAuth {
    #[expect(dead_code, reason = "the flows come next")]
    clock: Clock,
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

/// Who granted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The provider's name for the account (`sub`), which does not change.
    pub subject: Option<String>,
    /// Addresses and user names of the account, in lower case, the most telling first.
    pub addresses: Vec<String>,
}

/// A request for a code: where to send the browser, and what is needed to take the answer.
#[derive(Debug)]
pub struct CodeRequest {
    pub url: String,
    pub pending: PendingCode,
}

/// A request for a code that is not answered yet.
pub struct PendingCode {
    _private: (),
}

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
    _private: (),
}

impl std::fmt::Debug for PendingCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingCode")
    }
}

impl std::fmt::Debug for PendingDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingDevice")
    }
}

fn not_yet<T>() -> Result<T, OAuthError> {
    Err(OAuthError::Protocol("this flow is not there yet".into()))
}

impl OAuth {
    /// Reads the files that the configuration names. Nothing is asked of the provider yet.
    pub fn new(_config: &ProviderConfig, clock: Clock) -> Result<Self, OAuthError> {
        Ok(Self { clock })
    }

    /// Begins the flow with a browser (RFC 6749 section 4.1, with PKCE).
    pub async fn begin_code(&self, _redirect_url: &str, _login_hint: Option<&str>) -> Result<CodeRequest, OAuthError> {
        not_yet()
    }

    /// Takes the URL that the browser was sent back to, or its query, and exchanges the code in it.
    pub async fn finish_code(&self, _pending: PendingCode, _redirected_to: &str) -> Result<Grant, OAuthError> {
        not_yet()
    }

    /// Begins the flow for machines without a browser (RFC 8628).
    pub async fn begin_device(&self) -> Result<DeviceRequest, OAuthError> {
        not_yet()
    }

    /// Waits until the person has signed in, declined, or let the code expire. May be dropped at any time.
    pub async fn finish_device(&self, _pending: PendingDevice) -> Result<Grant, OAuthError> {
        not_yet()
    }

    /// Access of the application itself (RFC 6749 section 4.4), or of a service account that acts for `subject`.
    pub async fn app(&self, _subject: &str) -> Result<Grant, OAuthError> {
        not_yet()
    }

    /// A new access token for a refresh token. What comes back in `refresh` replaces it and must be kept before the
    /// access token is used.
    pub async fn refresh(&self, _refresh_token: &SecretString) -> Result<Grant, OAuthError> {
        not_yet()
    }
}
