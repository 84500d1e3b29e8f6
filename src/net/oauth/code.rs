//! The flow with a browser: authorisation code (RFC 6749 section 4.1) with PKCE (RFC 7636), state and nonce.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use jiff::{SignedDuration, Timestamp};
use oauth2::{AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::classify::{ErrorAnswer, classify};
use super::client::failed;
use super::config::Preset;
use super::endpoints::Endpoints;
use super::error::{GrantKind, OAuthError};
use super::{Grant, OAuth};
use crate::net::http::check_url;

/// A browser that comes back later than this is not answered any more.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// The longest URL that a browser is expected to be sent back with.
const LONGEST: usize = 16 << 10;

/// A request for a code: where to send the browser, and what is needed to take the answer.
#[derive(Debug)]
pub struct CodeRequest {
    pub url: String,
    pub pending: PendingCode,
}

/// A request for a code that is not answered yet.
pub struct PendingCode {
    state: SecretString,
    nonce: SecretString,
    verifier: PkceCodeVerifier,
    redirect_url: RedirectUrl,
    begun: Timestamp,
}

impl std::fmt::Debug for PendingCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingCode").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl PendingCode {
    /// Whether this is the request that the browser was sent back for: its state is the same (compared in constant
    /// time). For a listener that serves several requests.
    pub fn is_for(&self, redirected_to: &str) -> bool {
        query(redirected_to).is_ok_and(|params| self.knows(&params))
    }

    fn knows(&self, params: &HashMap<String, String>) -> bool {
        let theirs = params.get("state").map(String::as_bytes).unwrap_or_default();
        theirs.ct_eq(self.state.expose_secret().as_bytes()).into()
    }
}

impl OAuth {
    /// Begins the flow with a browser. `redirect_url` is where it shall come back to; `login_hint` the address of the
    /// account that is wanted. Asks the provider for its discovery document if need be.
    pub async fn begin_code(&self, redirect_url: &str, login_hint: Option<&str>) -> Result<CodeRequest, OAuthError> {
        check_url(redirect_url).map_err(|said| OAuthError::Config(format!("redirect_url: {said}")))?;
        let redirect_url = RedirectUrl::new(redirect_url.to_owned())
            .map_err(|error| OAuthError::Config(format!("redirect_url: {error}")))?;
        let endpoints = self.0.endpoints().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (state, nonce) = (random()?, random()?);
        let scopes = self.0.scopes();
        let client = self.0.client(&endpoints);
        let mut request = client
            .authorize_url(|| CsrfToken::new(state.expose_secret().to_owned()))
            .map_err(|_| OAuthError::Config("the provider has no authorization_url".into()))?
            .add_scopes(scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .set_redirect_uri(Cow::Borrowed(&redirect_url))
            .add_extra_param("nonce", nonce.expose_secret());
        for (key, value) in self.extras(&scopes) {
            request = request.add_extra_param(*key, *value);
        }
        if let Some(hint) = login_hint {
            request = request.add_extra_param("login_hint", hint);
        }
        let url = request.url().0.into();
        let begun = self.0.clock.now();
        Ok(CodeRequest { url, pending: PendingCode { state, nonce, verifier, redirect_url, begun } })
    }

    /// What makes the provider hand out a refresh token.
    fn extras(&self, scopes: &[String]) -> &'static [(&'static str, &'static str)] {
        match self.0.config.preset {
            Preset::Google => &[("access_type", "offline"), ("prompt", "consent")],
            // OpenID Connect Core section 11: without it the scope is ignored.
            Preset::Generic if scopes.iter().any(|scope| scope == "offline_access") => &[("prompt", "consent")],
            Preset::Generic | Preset::Microsoft => &[],
        }
    }

    /// Takes the URL that the browser was sent back to, or its query: checks that it answers this request, exchanges
    /// the code in it, and finds out who granted what. A grant that lacks a scope is an error, and is forgotten.
    pub async fn finish_code(&self, pending: PendingCode, redirected_to: &str) -> Result<Grant, OAuthError> {
        let endpoints = self.0.endpoints().await?;
        let code = self.code(&pending, redirected_to, &endpoints)?;
        let (asked_at, client) = (self.0.clock.now(), self.0.client(&endpoints));
        let mut request = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(pending.verifier)
            .set_redirect_uri(Cow::Borrowed(&pending.redirect_url));
        for (key, value) in self.0.assertion(&endpoints)? {
            request = request.add_extra_param(key, value);
        }
        let answer = request.request_async(&|request| self.0.clone().send(request)).await;
        let answer = answer.map_err(|error| match failed(error) {
            // It is the code that has expired here, not a grant.
            OAuthError::GrantDead { kind: GrantKind::Expired, .. } => OAuthError::Expired,
            other => other,
        })?;
        self.0.accept(&endpoints, &answer, asked_at, Some(pending.nonce.expose_secret())).await
    }

    /// The code in an answer that belongs to this request.
    fn code(&self, pending: &PendingCode, redirected_to: &str, endpoints: &Endpoints) -> Result<String, OAuthError> {
        let mut params = query(redirected_to)?;
        if !pending.knows(&params) {
            return Err(OAuthError::StateMismatch);
        }
        // RFC 9207: an answer of another provider, whose code would else be given away to this one.
        match params.get("iss") {
            Some(issuer) if !endpoints.issuer.is(issuer, None) => return Err(OAuthError::StateMismatch),
            None if endpoints.names_issuer => return Err(OAuthError::StateMismatch),
            _ => {}
        }
        if self.0.clock.now().duration_since(pending.begun) > PATIENCE {
            return Err(OAuthError::Expired);
        }
        if let Some(error) = params.remove("error") {
            let error_description = params.remove("error_description");
            let error_subtype = params.remove("error_subtype");
            let said = ErrorAnswer { error, error_description, error_subtype, ..ErrorAnswer::default() };
            return Err(classify(&said));
        }
        let code = params.remove("code").filter(|code| !code.is_empty());
        code.ok_or_else(|| OAuthError::Protocol("the browser came back without a code".into()))
    }
}

/// The parameters of a URL, a path with a query, or a query alone. None may stand there twice (RFC 6749 section 3.1).
fn query(redirected_to: &str) -> Result<HashMap<String, String>, OAuthError> {
    let text = redirected_to.trim();
    if text.len() > LONGEST {
        return Err(OAuthError::Protocol(format!("the browser came back with over {LONGEST} bytes")));
    }
    let text = text.split('#').next().unwrap_or_default();
    let text = text.split_once('?').map_or(text, |(_, query)| query);
    let mut params = HashMap::new();
    for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if params.insert(key.clone().into_owned(), value.into_owned()).is_some() {
            let said = format!("the browser came back with \"{}\" twice", super::classify::clean(&key));
            return Err(OAuthError::Protocol(said));
        }
    }
    Ok(params)
}

/// 256 bits of chance as text.
fn random() -> Result<SecretString, OAuthError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| OAuthError::Config(format!("no random numbers: {error}")))?;
    Ok(SecretString::from(BASE64_URL.encode(bytes)))
}
