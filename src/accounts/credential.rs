//! What the vault holds of an account: a password or a token, in one versioned shape.
//!
//! Must not know: where it is kept. Entries of earlier versions, which are the bytes of a password alone, are still
//! read; whatever is written is the new shape.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::net::oauth::Grant;

/// The shape that this version writes.
const VERSION: u32 = 1;
/// How every entry of that shape begins; no password that a person types does.
const BEGINNING: &[u8] = b"{\"ticketgate_credential\":";

/// How an account's consent is had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// The authorisation code flow (RFC 6749 section 4.1) with PKCE: a browser that comes back to us.
    #[default]
    Code,
    /// The device flow (RFC 8628): a browser anywhere, and a code that is typed there.
    Device,
    /// The application by itself (RFC 6749 section 4.4, or a service account): nobody consents.
    App,
}

impl Flow {
    /// The word that configuration and programs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Device => "device",
            Self::App => "app",
        }
    }

    /// The flow that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Code, Self::Device, Self::App].into_iter().find(|flow| flow.as_str() == word)
    }
}

/// A credential as it is kept.
#[derive(Clone, Debug)]
pub enum Credential {
    Password(SecretString),
    Token(Box<Token>),
}

/// An access token with what renews it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    #[serde(with = "hidden")]
    pub access: SecretString,
    /// None for an application by itself, which asks anew.
    #[serde(with = "hidden::optional", default)]
    pub refresh: Option<SecretString>,
    pub about: About,
}

/// What may be shown of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The name of its `[[oauth]]`.
    pub provider: String,
    pub flow: Flow,
    pub scopes: Vec<String>,
    /// Who consented, as the provider names them.
    pub subject: String,
    pub addresses: Vec<String>,
    /// When the consent was given.
    pub granted_at: Timestamp,
    pub obtained_at: Timestamp,
    pub expires_at: Timestamp,
    pub renewable: bool,
    pub refresh_obtained_at: Timestamp,
    /// None where the provider does not tell.
    pub refresh_expires_at: Option<Timestamp>,
    /// Whether a refresh makes the refresh token live longer; None before the first one.
    pub refresh_extends: Option<bool>,
    /// A refresh was begun then, and its answer is not kept yet.
    pub refreshing_since: Option<Timestamp>,
    /// When the feed was last told that it is going to die.
    pub warned_at: Option<Timestamp>,
}

/// Why an entry of the vault says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the stored credential was written by a newer version ({0})")]
    Newer(u32),
    #[error("the stored credential cannot be read: {0}")]
    Malformed(String),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    ticketgate_credential: u32,
    kind: Kind,
    #[serde(with = "hidden::optional", default, skip_serializing_if = "Option::is_none")]
    password: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Password,
    Oauth,
}

impl Credential {
    /// The bytes for the vault.
    pub fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let (kind, password, token) = match self {
            Self::Password(password) => (Kind::Password, Some(password.clone()), None),
            Self::Token(token) => (Kind::Oauth, None, Some((**token).clone())),
        };
        let stored = Stored { ticketgate_credential: VERSION, kind, password, token };
        // Large enough for any token of a known provider, so that no copy is left behind by a buffer that grew.
        let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
        serde_json::to_writer(&mut *bytes, &stored).map_err(|error| Unreadable::Malformed(error.to_string()))?;
        Ok(bytes)
    }

    /// What the bytes of the vault say. The text of an error names a place in them, never what stands there.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        if !bytes.starts_with(BEGINNING) {
            return Ok(Self::Password(String::from_utf8_lossy(bytes).into_owned().into()));
        }
        let malformed = |error: serde_json::Error| {
            Unreadable::Malformed(format!("line {}, column {}", error.line(), error.column()))
        };
        let stored = match serde_json::from_slice::<Stored>(bytes) {
            Ok(stored) => stored,
            Err(error) => {
                let version = serde_json::from_slice::<Version>(bytes).map_or(VERSION, |v| v.ticketgate_credential);
                return Err(if version > VERSION { Unreadable::Newer(version) } else { malformed(error) });
            }
        };
        match (stored.ticketgate_credential, stored.kind, stored.password, stored.token) {
            (version, ..) if version > VERSION => Err(Unreadable::Newer(version)),
            (_, Kind::Password, Some(password), None) => Ok(Self::Password(password)),
            (_, Kind::Oauth, None, Some(token)) => Ok(Self::Token(Box::new(token))),
            _ => Err(Unreadable::Malformed("its kind and what it holds do not fit".into())),
        }
    }
}

#[derive(Deserialize)]
struct Version {
    ticketgate_credential: u32,
}

/// How long an access token is taken to live where the provider does not say; one that dies sooner is renewed when
/// the mailbox's server refuses it.
const ASSUMED_LIFE: Duration = Duration::from_secs(1800);

/// What a clock may step back without anything being made of it.
const STEP: Duration = Duration::from_secs(60);

fn expiry(told: Option<Timestamp>, now: Timestamp) -> Timestamp {
    told.unwrap_or_else(|| now.saturating_add(ASSUMED_LIFE).unwrap_or(now))
}

impl Token {
    /// What a provider has granted for the first time; `asked` are the scopes where it does not name them.
    pub fn granted(provider: &str, flow: Flow, asked: Vec<String>, grant: Grant, now: Timestamp) -> Self {
        let about = About {
            provider: provider.to_owned(),
            flow,
            scopes: grant.scopes.unwrap_or(asked),
            subject: grant.identity.subject.unwrap_or_default(),
            addresses: grant.identity.addresses,
            granted_at: now,
            obtained_at: now,
            expires_at: expiry(grant.expires_at, now),
            renewable: grant.refresh.is_some(),
            refresh_obtained_at: now,
            refresh_expires_at: grant.refresh_expires_at,
            ..About::default()
        };
        Self { access: grant.access, refresh: grant.refresh, about }
    }

    /// The same consent after a refresh. Whatever the answer leaves out stays as it was (RFC 6749 section 6).
    pub fn renewed(&self, grant: Grant, now: Timestamp) -> Self {
        let expires_at = expiry(grant.expires_at, now);
        let mut about = About { obtained_at: now, expires_at, refreshing_since: None, ..self.about.clone() };
        if let Some(scopes) = grant.scopes {
            about.scopes = scopes;
        }
        if grant.refresh.is_some() {
            about.refresh_obtained_at = now;
        }
        if let Some(at) = grant.refresh_expires_at {
            let before = self.about.refresh_expires_at.unwrap_or(at);
            // Clocks and roundings differ by seconds; an expiry that moved on with the refresh moves by its age.
            let age = now.duration_since(self.about.refresh_obtained_at).as_secs().max(2);
            about.refresh_extends = Some(at.duration_since(before).as_secs() * 2 >= age);
            about.refresh_expires_at = Some(at);
        }
        let refresh = grant.refresh.or_else(|| self.refresh.clone());
        about.renewable = refresh.is_some();
        Self { access: grant.access, refresh, about }
    }
}

impl About {
    /// When a new access token is asked for: `before` its end, or after two thirds of its life if that is later.
    pub fn next_refresh(&self, before: Duration) -> Timestamp {
        let life = Duration::try_from(self.expires_at.duration_since(self.obtained_at)).unwrap_or_default();
        self.expires_at.saturating_sub(before.min(life / 3)).unwrap_or(self.expires_at)
    }

    /// Whether it is time to ask for a new access token. One that comes from the future was dated by a clock that has
    /// stepped back since, and nobody knows when it ends.
    pub fn is_due(&self, before: Duration, now: Timestamp) -> bool {
        let dated = self.obtained_at.saturating_sub(STEP).unwrap_or(self.obtained_at);
        now >= self.next_refresh(before) || dated > now
    }

    /// Whether the access token still opens anything.
    pub fn alive(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }

    /// The account as people know it.
    pub fn account(&self) -> Option<&str> {
        self.addresses.first().map(String::as_str).or(Some(self.subject.as_str())).filter(|name| !name.is_empty())
    }

    /// Whether this is the account of one of these addresses.
    pub fn is_one_of(&self, wanted: &[&str]) -> bool {
        let named = self.addresses.iter().map(String::as_str).chain([self.subject.as_str()]);
        named.into_iter().any(|name| !name.is_empty() && wanted.iter().any(|want| want.eq_ignore_ascii_case(name)))
    }
}

/// Secrets in JSON that is going to be encrypted; nowhere else.
mod hidden {
    use secrecy::{ExposeSecret, SecretString};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose_secret())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::from)
    }

    pub mod optional {
        use super::{Deserialize, Deserializer, ExposeSecret, SecretString, Serializer};

        pub fn serialize<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
            match secret {
                Some(secret) => serializer.serialize_some(secret.expose_secret()),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
            Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
        }
    }
}

/// Whether two secrets are the same.
pub fn same(left: &SecretString, right: &SecretString) -> bool {
    use subtle::ConstantTimeEq;
    left.expose_secret().as_bytes().ct_eq(right.expose_secret().as_bytes()).into()
}
