//! Whose an access token is that somebody shows us (RFC 7662): for programs that log in with one.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::ask::Failure;
use super::{OAuth, OAuthError};

/// What the provider says of a token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    active: bool,
    client_id: Option<String>,
    aud: Option<Audience>,
    exp: Option<i64>,
    username: Option<String>,
    email: Option<String>,
    preferred_username: Option<String>,
    sub: Option<String>,
}

/// Whom a token is for: one, or several (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl OAuth {
    /// The names of the account that an access token belongs to; none for a token that is not valid, or that was given
    /// to another application: whoever runs that one could show it here too.
    pub async fn owners(&self, token: &SecretString) -> Result<Vec<String>, OAuthError> {
        let endpoints = self.0.endpoints().await?;
        let Some(url) = &endpoints.introspection else {
            return Err(OAuthError::Config("introspection_url: the provider has no place to ask about tokens".into()));
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let shown = token.expose_secret().to_owned();
        let params = vec![("token", shown), ("token_type_hint", "access_token".to_owned())];
        let (request, params) = self.0.prove(&endpoints, request, params)?;
        let body = self.0.post(request, params).await.map_err(|failure: Failure| OAuthError::from(failure))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| OAuthError::Protocol("a field of the answer about a token is of another type".into()))?;
        Ok(self.judge(answer))
    }

    fn judge(&self, answer: Answer) -> Vec<String> {
        let own = &self.0.config.client_id;
        let named = match &answer.aud {
            None => false,
            Some(Audience::One(one)) => one == own,
            Some(Audience::Several(several)) => several.contains(own),
        };
        let ours = named || answer.client_id.as_ref() == Some(own);
        let expired = answer.exp.is_some_and(|at| at <= self.0.clock.now().as_second());
        if !answer.active || !ours || expired {
            return Vec::new();
        }
        let names = [answer.username, answer.email, answer.preferred_username, answer.sub];
        names.into_iter().flatten().filter(|name| !name.is_empty()).collect()
    }
}
