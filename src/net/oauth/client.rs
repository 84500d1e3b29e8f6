//! The crate that writes the requests of OAuth 2.0, over our own HTTP.
//!
//! Its errors lose the status and the providers' own fields, so an answer that is no grant never reaches it: `ask` has
//! judged it before. It cannot sign assertions nor wait for devices in a way that tells trouble from refusal; those
//! requests are written here.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use oauth2::basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse};
use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    ErrorResponse, HttpRequest, HttpResponse, RequestTokenError, StandardRevocableToken, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::Inner;
use super::answer::{self, TokenAnswer};
use super::ask::{self, Failure};
use super::assertion;
use super::credentials::ClientProof;
use super::endpoints::Endpoints;
use super::error::OAuthError;

/// The crate's client, with the endpoints that every provider has.
type Client = oauth2::Client<
    BasicErrorResponse,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointMaybeSet,
    EndpointMaybeSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// A parameter of a request.
pub(super) type Param = (&'static str, String);

impl Inner {
    /// The crate's client for these endpoints.
    pub fn client(&self, endpoints: &Endpoints) -> Client {
        let client = oauth2::Client::new(ClientId::new(self.config.client_id.clone()))
            .set_auth_type(if endpoints.basic { AuthType::BasicAuth } else { AuthType::RequestBody })
            .set_auth_uri_option(endpoints.authorization.clone().map(AuthUrl::from_url))
            .set_device_authorization_url_option(endpoints.device.clone().map(DeviceAuthorizationUrl::from_url))
            .set_token_uri(TokenUrl::from_url(endpoints.token.clone()));
        match &self.credentials.proof {
            ClientProof::Secret(secret) => {
                client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()))
            }
            ClientProof::None | ClientProof::Certificate { .. } => client,
        }
    }

    /// The parameters that prove the client where that is not a secret (RFC 7523 section 2.2).
    pub fn assertion(&self, endpoints: &Endpoints) -> Result<Vec<Param>, OAuthError> {
        let ClientProof::Certificate { signer, thumbprint } = &self.credentials.proof else { return Ok(Vec::new()) };
        let (id, audience) = (&self.config.client_id, endpoints.token.as_str());
        let token = assertion::client(signer, thumbprint, id, audience, self.clock.now())?;
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned();
        Ok(vec![("client_assertion_type", kind), ("client_assertion", token)])
    }

    /// Sends a request of the crate.
    pub async fn send(self: Arc<Self>, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let secrets: Vec<&SecretString> = self.secret().into_iter().collect();
        let body = answer::mended(ask::json(&self.http, request, &secrets).await?);
        let answer = http::Response::builder().header(CONTENT_TYPE, "application/json").body(body);
        answer.map_err(|error| OAuthError::Protocol(error.to_string()).into())
    }

    /// A request to the token endpoint that the crate does not know, with the proof of the client.
    pub async fn token(&self, endpoints: &Endpoints, params: Vec<Param>) -> Result<TokenAnswer, Failure> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoints.token.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (request, params) = self.prove(endpoints, request, params)?;
        self.grant(request, params).await
    }

    /// Adds the proof of the client to a request.
    pub fn prove(
        &self,
        endpoints: &Endpoints,
        mut request: http::request::Builder,
        mut params: Vec<Param>,
    ) -> Result<(http::request::Builder, Vec<Param>), OAuthError> {
        params.extend(self.assertion(endpoints)?);
        match self.secret() {
            Some(secret) if endpoints.basic => {
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&self.config.client_id), encoded(secret.expose_secret()));
                request = request.header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(pair)));
            }
            secret => {
                params.push(("client_id", self.config.client_id.clone()));
                params.extend(secret.map(|secret| ("client_secret", secret.expose_secret().to_owned())));
            }
        }
        Ok((request, params))
    }

    /// Sends a form; returns the JSON of a good answer.
    pub async fn post(&self, request: http::request::Builder, params: Vec<Param>) -> Result<Vec<u8>, Failure> {
        let body = Serializer::new(String::new()).extend_pairs(params).finish().into_bytes();
        let request = request.body(body).map_err(|error| OAuthError::Config(error.to_string()))?;
        let secrets: Vec<&SecretString> = self.secret().into_iter().collect();
        ask::json(&self.http, request, &secrets).await
    }

    /// The same for a grant that proves itself, without a client.
    pub async fn bare_token(&self, endpoints: &Endpoints, params: Vec<Param>) -> Result<TokenAnswer, Failure> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoints.token.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.grant(request, params).await
    }

    async fn grant(&self, request: http::request::Builder, params: Vec<Param>) -> Result<TokenAnswer, Failure> {
        let body = answer::mended(self.post(request, params).await?);
        // The reader's own words could show a part of a token.
        let unread = |_| OAuthError::Protocol("a field of the token answer is missing or of another type".into());
        Ok(serde_json::from_slice(&body).map_err(unread)?)
    }

    fn secret(&self) -> Option<&SecretString> {
        match &self.credentials.proof {
            ClientProof::Secret(secret) => Some(secret),
            ClientProof::None | ClientProof::Certificate { .. } => None,
        }
    }
}

/// What a failure of the crate means.
pub(super) fn failed<E: ErrorResponse>(error: RequestTokenError<Failure, E>) -> OAuthError {
    match error {
        RequestTokenError::Request(failure) => failure.into(),
        // Only the path: the error's own words could show a part of a token.
        RequestTokenError::Parse(error, _) => {
            OAuthError::Protocol(format!("\"{}\" of the answer is missing or of another type", error.path()))
        }
        RequestTokenError::ServerResponse(_) => OAuthError::Protocol("the answer is an error without a status".into()),
        RequestTokenError::Other(_) => OAuthError::Protocol("the answer is empty or of another type".into()),
    }
}
