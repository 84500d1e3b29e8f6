//! What can go wrong between us and an authorisation server, told apart where a caller acts differently.
//!
//! Pure. The texts may be shown to anybody: they name hosts, codes and what the server said of itself, never a secret.

use std::time::Duration;

use crate::net::connect::ConnectError;

/// Why a grant (a refresh token, a code, a device code) is worth nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// It was only valid for so long.
    Expired,
    /// A person or an administrator withdrew it.
    Revoked,
    /// The account's password was changed, or its sessions were ended.
    PasswordChanged,
    /// Nobody used it for too long.
    Unused,
    /// A policy of the provider wants people to sign in anew every so often.
    SignInPolicy,
    /// The provider wants a person to take part: a second factor, terms of use.
    InteractionNeeded,
    /// The account was disabled or removed, or is not allowed to use this application.
    AccountBlocked,
    /// The server did not say why.
    Unknown,
}

impl GrantKind {
    /// What happened, as part of a sentence about the grant.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "it has expired",
            Self::Revoked => "it was revoked",
            Self::PasswordChanged => "the password was changed or the sessions were ended",
            Self::Unused => "it was not used for too long",
            Self::SignInPolicy => "a policy of the provider wants a new sign-in",
            Self::InteractionNeeded => "the provider wants a person to sign in",
            Self::AccountBlocked => "the account is blocked, gone, or not allowed to use this application",
            Self::Unknown => "the provider does not say why",
        }
    }
}

/// What is wrong with our registration at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// The client secret or certificate has expired there.
    SecretExpired,
    /// The client secret, certificate or key is not the one that is registered.
    SecretWrong,
    /// The provider wants a secret or a certificate, and none is configured.
    SecretMissing,
    /// The application is unknown, disabled or deleted there.
    UnknownApp,
    /// The application is known, and may not use this way to get a token.
    NotAllowed,
    /// The provider's clock and ours disagree too much for a signed assertion.
    Clock,
    /// The server did not say why.
    Unknown,
}

impl ClientKind {
    /// What is wrong, as part of a sentence about the application.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretExpired => "its secret or certificate has expired",
            Self::SecretWrong => "its secret, certificate or key is wrong",
            Self::SecretMissing => "the provider wants a secret or a certificate",
            Self::UnknownApp => "it is unknown, disabled or deleted",
            Self::NotAllowed => "it may not get tokens this way",
            Self::Clock => "the provider's clock and ours disagree",
            Self::Unknown => "the provider does not say why",
        }
    }
}

/// Why there is no grant. Every text in it is safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// The provider was not reached, or did not answer in time. Passes.
    #[error(transparent)]
    Connect(ConnectError),
    /// The provider has trouble of its own (5xx, an answer that is not JSON) or throttles us (429). Passes.
    #[error("the provider has trouble: {said}")]
    ProviderTrouble { said: String, retry_after: Option<Duration> },
    /// The provider said in so many words (`invalid_grant`) that the grant is dead: somebody has to sign in anew.
    #[error("the sign-in is not valid any more, {}: {said}", kind.as_str())]
    GrantDead { kind: GrantKind, said: String },
    /// The provider does not accept the application itself: the operator has to mend its registration or our settings.
    #[error("the provider does not accept the application, {}: {said}", kind.as_str())]
    ClientWrong { kind: ClientKind, said: String },
    /// The person said no.
    #[error("the consent was declined: {0}")]
    ConsentDeclined(String),
    /// Nobody has consented yet, or an administrator has to.
    #[error("consent is needed, perhaps an administrator's: {0}")]
    ConsentNeeded(String),
    /// The grant lacks these of the scopes that were asked for.
    #[error("the grant lacks: {}", .0.join(", "))]
    ScopeMissing(Vec<String>),
    /// The answer belongs to another request of ours, or to nobody's.
    #[error("the answer does not belong to this request (state or issuer differ)")]
    StateMismatch,
    /// The identity in the answer was made for another request.
    #[error("the identity does not belong to this request (nonce differs)")]
    NonceMismatch,
    /// Nobody signed in before the code expired.
    #[error("nobody signed in before the code expired")]
    Expired,
    /// The provider's clock and ours disagree, so that what it has just issued is over already.
    #[error("the provider's clock and ours disagree: {0}")]
    Clock(String),
    /// The configuration cannot work; names the key.
    #[error("{0}")]
    Config(String),
    /// The provider answered in a way that the standards do not know.
    #[error("the provider's answer is not understood: {0}")]
    Protocol(String),
}

impl OAuthError {
    /// Whether it may go away by itself, so that nothing has to be told to a person and no grant given up.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::ProviderTrouble { .. })
    }
}
