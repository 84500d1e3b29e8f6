//! Where a provider is asked for what: the configured URLs, the preset's, or those of the discovery document (OpenID
//! Connect Discovery 1.0 section 4, RFC 8414 section 3).

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::ask::{self, Failure};
use super::config::{ClientAuth, Preset, ProviderConfig};
use super::error::OAuthError;
use super::preset;
use crate::net::http::{Http, check_url};

/// A discovery document is read again after this time.
const FRESH: SignedDuration = SignedDuration::from_hours(24);

/// The URLs of a provider as texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Urls {
    pub authorization: Option<String>,
    pub token: Option<String>,
    pub device: Option<String>,
    pub userinfo: Option<String>,
}

/// Who signs the identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    /// One of these.
    Exactly(Vec<String>),
    /// The directory that the account belongs to, at one of these hosts.
    Microsoft { hosts: &'static [&'static str] },
    /// Not known, and so not compared.
    Unknown,
}

impl Issuer {
    /// Whether this is the issuer. `tenant` is the directory that the identity names (`tid`).
    pub fn is(&self, issuer: &str, tenant: Option<&str>) -> bool {
        match self {
            Self::Exactly(known) => known.iter().any(|known| known == issuer),
            Self::Microsoft { hosts } => {
                let host = |host: &&str| issuer.strip_prefix("https://")?.strip_prefix(*host)?.strip_prefix('/');
                let named = hosts.iter().find_map(host).and_then(|rest| rest.strip_suffix("/v2.0"));
                named.is_some_and(|named| !named.contains('/') && tenant.is_none_or(|tenant| tenant == named))
            }
            Self::Unknown => true,
        }
    }
}

/// What is known of a provider.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub authorization: Option<Url>,
    pub token: Url,
    pub device: Option<Url>,
    pub userinfo: Option<Url>,
    pub introspection: Option<Url>,
    pub issuer: Issuer,
    /// Whether the client secret goes into the Authorization field (RFC 6749 section 2.3.1) and not into the body.
    pub basic: bool,
    /// Whether the answer to a request for a code must name its issuer (RFC 9207 section 3).
    pub names_issuer: bool,
}

/// The part of a discovery document that is used.
#[derive(Clone, Debug, Default, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// The endpoints once they are known, and since when.
pub(super) type Known = Mutex<Option<(Timestamp, Arc<Endpoints>)>>;

/// Whether the discovery document has to be asked for what is not configured.
fn must_discover(config: &ProviderConfig) -> bool {
    config.preset == Preset::Generic
        && config.issuer.is_some()
        && (config.token_url.is_none() || config.authorization_url.is_none())
}

/// The endpoints: from memory, or from the configuration, or from the provider. An old document is better than none.
pub(super) async fn get(
    config: &ProviderConfig,
    http: &Http,
    known: &Known,
    now: Timestamp,
) -> Result<Arc<Endpoints>, OAuthError> {
    let mut known = known.lock().await;
    if let Some((since, endpoints)) = known.as_ref()
        && (!must_discover(config) || now.duration_since(*since) < FRESH)
    {
        return Ok(endpoints.clone());
    }
    let document = match &config.issuer {
        Some(issuer) if must_discover(config) => discover(issuer, http).await.map(Some),
        _ => Ok(None),
    };
    match (document.and_then(|document| build(config, document.as_ref())), known.as_ref()) {
        (Ok(endpoints), _) => {
            let endpoints = Arc::new(endpoints);
            *known = Some((now, endpoints.clone()));
            Ok(endpoints)
        }
        (Err(error), Some((_, old))) if error.passes() => Ok(old.clone()),
        (Err(error), _) => Err(error),
    }
}

fn build(config: &ProviderConfig, document: Option<&Document>) -> Result<Endpoints, OAuthError> {
    let preset = preset::urls(config);
    let found = document.cloned().unwrap_or_default();
    let pick = |key, own: &Option<String>, preset: Option<String>, found: Option<String>| {
        own.clone().or(preset).or(found).map(|text| url(key, &text)).transpose()
    };
    let token = pick("token_url", &config.token_url, preset.token, found.token_endpoint)?;
    let methods = found.token_endpoint_auth_methods_supported;
    Ok(Endpoints {
        authorization: pick(
            "authorization_url",
            &config.authorization_url,
            preset.authorization,
            found.authorization_endpoint,
        )?,
        token: token.ok_or_else(|| OAuthError::Config("the provider has no token_url".into()))?,
        device: pick("device_url", &config.device_url, preset.device, found.device_authorization_endpoint)?,
        userinfo: pick("userinfo_url", &config.userinfo_url, preset.userinfo, found.userinfo_endpoint)?,
        introspection: pick("introspection_url", &config.introspection_url, None, found.introspection_endpoint)?,
        issuer: preset::issuer(config),
        basic: match config.client_auth {
            ClientAuth::ClientSecretBasic => true,
            ClientAuth::ClientSecretPost => false,
            ClientAuth::Auto => config.preset == Preset::Generic && basic(methods.as_deref()),
        },
        names_issuer: found.authorization_response_iss_parameter_supported,
    })
}

/// Every server takes the secret in the Authorization field, but for those that say otherwise.
fn basic(methods: Option<&[String]>) -> bool {
    let has = |list: &[String], method: &str| list.iter().any(|known| known == method);
    methods.is_none_or(|list| has(list, "client_secret_basic") || !has(list, "client_secret_post"))
}

fn url(key: &str, text: &str) -> Result<Url, OAuthError> {
    check_url(text).map_err(|said| OAuthError::Config(format!("{key}: {said}")))?;
    Url::parse(text).map_err(|error| OAuthError::Config(format!("{key}: \"{text}\" is not a URL: {error}")))
}

/// Asks for the document of OpenID Connect, and where there is none for that of RFC 8414. Its issuer must be the one
/// that was asked for, letter by letter, or somebody else's server could speak for it.
async fn discover(issuer: &str, http: &Http) -> Result<Document, OAuthError> {
    for place in places(issuer)? {
        let request = Request::builder().method(Method::GET).uri(place.as_str()).header("accept", "application/json");
        let request = request.body(Vec::new()).map_err(|error| OAuthError::Config(format!("issuer: {error}")))?;
        match ask::json(http, request, &[]).await {
            Ok(body) => {
                let document: Document = serde_json::from_slice(&body)
                    .map_err(|_| OAuthError::Protocol(format!("{place} is not a discovery document")))?;
                if document.issuer != issuer {
                    let theirs = super::classify::clean(&document.issuer);
                    return Err(OAuthError::Config(format!("issuer: {place} says \"{theirs}\" and not \"{issuer}\"")));
                }
                return Ok(document);
            }
            Err(Failure::Status(StatusCode::NOT_FOUND, _)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(OAuthError::Config(format!("issuer: {issuer} has no discovery document; name authorization_url and token_url")))
}

fn places(issuer: &str) -> Result<[String; 2], OAuthError> {
    let base = url("issuer", issuer)?;
    let mut inserted = base.clone();
    inserted.set_path(&format!("/.well-known/oauth-authorization-server{}", base.path().trim_end_matches('/')));
    let appended = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    Ok([appended, inserted.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_compared_and_documents_found() {
        let exactly = Issuer::Exactly(vec!["https://a".into()]);
        let microsoft = Issuer::Microsoft { hosts: &["login.microsoftonline.com"] };
        let china = Issuer::Microsoft { hosts: &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"] };
        let table = [
            (&exactly, "https://a", None, true),
            (&exactly, "https://a/", None, false),
            (&microsoft, "https://login.microsoftonline.com/t1/v2.0", Some("t1"), true),
            (&microsoft, "https://login.microsoftonline.com/t1/v2.0", Some("t2"), false),
            (&microsoft, "https://login.microsoftonline.com/t1/x/v2.0", None, false),
            (&microsoft, "https://login.microsoftonline.us/t1/v2.0", Some("t1"), false),
            (&china, "https://login.partner.microsoftonline.cn/t1/v2.0", Some("t1"), true),
            (&china, "https://login.chinacloudapi.cn/t1/v2.0", Some("t1"), true),
            (&china, "https://login.microsoftonline.com/t1/v2.0", Some("t1"), false),
            (&Issuer::Unknown, "anything", None, true),
        ];
        for (issuer, text, tenant, want) in table {
            assert_eq!(issuer.is(text, tenant), want, "{issuer:?} {text}");
        }
        assert_eq!(
            places("https://a.example/realms/x/").unwrap(),
            [
                "https://a.example/realms/x/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/realms/x"
            ]
        );
        assert!(places("http://a.example").is_err());
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(basic(None) && basic(Some(&list(&["client_secret_basic", "client_secret_post"]))));
        assert!(!basic(Some(&list(&["client_secret_post"]))));
    }
}
