//! Why a connection does not work: a closed list of causes, each with what to do about it.
//!
//! Pure. The texts are read by somebody who was woken by an alert, so each action is one step that can be taken.

use crate::net::connect::ConnectError;

/// A cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    CredentialMissing,
    WrongPassword,
    AppPasswordNeeded,
    ImapDisabled,
    NoAccess,
    Certificate,
    ClockSkew,
    Tls,
    Dns,
    Unreachable,
    Timeout,
    ProxyFailed,
    Throttled,
    MailboxFull,
    FolderMissing,
    ProviderTrouble,
    Protocol,
    OtherConsumer,
    DiskLow,
    VaultKey,
    ConsentMissing,
    ConsentDeclined,
    ConsentExpired,
    ScopeMissing,
    WrongAccount,
    AddressInUse,
    AuthorisationExpired,
    AnswerMismatch,
    TokenRefused,
    ClientSecretExpired,
    ClientWrong,
    OauthConfig,
    OauthProviderTrouble,
}

/// Whether waiting helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is tried again soon, and may go away by itself.
    Wait,
    /// A person has to do something; it is tried again rarely.
    Person,
}

impl Cause {
    /// Every cause, for documentation, metrics and tests.
    pub const ALL: [Self; 33] = [
        Self::CredentialMissing,
        Self::WrongPassword,
        Self::AppPasswordNeeded,
        Self::ImapDisabled,
        Self::NoAccess,
        Self::Certificate,
        Self::ClockSkew,
        Self::Tls,
        Self::Dns,
        Self::Unreachable,
        Self::Timeout,
        Self::ProxyFailed,
        Self::Throttled,
        Self::MailboxFull,
        Self::FolderMissing,
        Self::ProviderTrouble,
        Self::Protocol,
        Self::OtherConsumer,
        Self::DiskLow,
        Self::VaultKey,
        Self::ConsentMissing,
        Self::ConsentDeclined,
        Self::ConsentExpired,
        Self::ScopeMissing,
        Self::WrongAccount,
        Self::AddressInUse,
        Self::AuthorisationExpired,
        Self::AnswerMismatch,
        Self::TokenRefused,
        Self::ClientSecretExpired,
        Self::ClientWrong,
        Self::OauthConfig,
        Self::OauthProviderTrouble,
    ];

    /// The word that programs see.
    pub fn code(self) -> &'static str {
        match self {
            Self::CredentialMissing => "credential_missing",
            Self::WrongPassword => "wrong_password",
            Self::AppPasswordNeeded => "app_password_needed",
            Self::ImapDisabled => "imap_disabled",
            Self::NoAccess => "no_access",
            Self::Certificate => "certificate",
            Self::ClockSkew => "clock_skew",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::ProxyFailed => "proxy_failed",
            Self::Throttled => "throttled",
            Self::MailboxFull => "mailbox_full",
            Self::FolderMissing => "folder_missing",
            Self::ProviderTrouble => "provider_trouble",
            Self::Protocol => "protocol",
            Self::OtherConsumer => "other_consumer",
            Self::DiskLow => "disk_low",
            Self::VaultKey => "vault_key",
            Self::ConsentMissing => "consent_missing",
            Self::ConsentDeclined => "consent_declined",
            Self::ConsentExpired => "consent_expired",
            Self::ScopeMissing => "scope_missing",
            Self::WrongAccount => "wrong_account",
            Self::AddressInUse => "address_in_use",
            Self::AuthorisationExpired => "authorisation_expired",
            Self::AnswerMismatch => "answer_mismatch",
            Self::TokenRefused => "token_refused",
            Self::ClientSecretExpired => "client_secret_expired",
            Self::ClientWrong => "client_wrong",
            Self::OauthConfig => "oauth_config",
            Self::OauthProviderTrouble => "oauth_provider_trouble",
        }
    }

    /// What to do about it.
    pub fn action(self) -> &'static str {
        match self {
            Self::CredentialMissing => {
                "run `ticketgate connect ADDRESS`, or put the password into a password_file of its source"
            }
            Self::WrongPassword => {
                "correct `user` or what is in the password_file, where there is one, and run `ticketgate reconnect ADDRESS`"
            }
            Self::AppPasswordNeeded => {
                "the provider wants an app password here: make one in the account's security settings and reconnect"
            }
            Self::ImapDisabled => "switch IMAP on for this mailbox, in its settings or in the provider's admin centre",
            Self::NoAccess => "the account may not open this mailbox: grant it access there",
            Self::Certificate => {
                "if the server is your own, name its authority as ca_file; if not, somebody is in between"
            }
            Self::ClockSkew => "compare the clocks of this machine and of the server",
            Self::Tls => "check `security` and `port` of the source",
            Self::Dns => "check `host` of the source and this machine's resolver",
            Self::Unreachable => "check host, port and the firewall; it is tried again by itself",
            Self::Timeout => "the server does not answer; it is tried again by itself",
            Self::ProxyFailed => "check `proxy` of the source and the proxy itself",
            Self::Throttled => "the provider wants us to slow down: nothing to do, it is tried again later",
            Self::MailboxFull => "make room in the mailbox: labels cannot be set in a full one",
            Self::FolderMissing => "check `folder` of the source, and that it may be written to",
            Self::ProviderTrouble => "the server has trouble of its own; it is tried again by itself",
            Self::Protocol => "the server answered in a way that is not understood: please report it with this line",
            Self::OtherConsumer => "another ticketgate reads this mailbox: stop one of the two",
            Self::DiskLow => "free some space on the data directory's file system",
            Self::VaultKey => {
                "the stored secret cannot be opened: put its key back, or run `ticketgate reconnect ADDRESS`"
            }
            Self::ConsentMissing => "run `ticketgate connect ADDRESS` and consent with the mailbox's account",
            Self::ConsentDeclined => "run `ticketgate connect ADDRESS` again, and accept what the provider asks",
            Self::ConsentExpired => "the consent is over: run `ticketgate reconnect ADDRESS`",
            Self::ScopeMissing => {
                "grant the missing permission to the application, then run `ticketgate reconnect ADDRESS`"
            }
            Self::WrongAccount => {
                "run `ticketgate reconnect ADDRESS` and sign in as the mailbox's own account, or name the other one as consent_as"
            }
            Self::AddressInUse => "an address has one use only: take one of the two out of the configuration",
            Self::AuthorisationExpired => "nobody consented in time: run `ticketgate connect ADDRESS` again",
            Self::AnswerMismatch => {
                "the answer belongs to another authorisation: run `ticketgate connect ADDRESS` again, in one browser"
            }
            Self::TokenRefused => {
                "the mailbox's server does not take the provider's token: check the scopes, and that IMAP is on for the mailbox"
            }
            Self::ClientSecretExpired => {
                "make a new client secret at the provider, put it into its client_secret_file, and reload"
            }
            Self::ClientWrong => {
                "the provider does not know this client: compare client_id, tenant and secret of the [[oauth]] section"
            }
            Self::OauthConfig => "correct the [[oauth]] section and reload",
            Self::OauthProviderTrouble => {
                "the provider of the tokens has trouble of its own; it is tried again by itself"
            }
        }
    }

    /// Whether waiting helps.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::CredentialMissing
            | Self::WrongPassword
            | Self::AppPasswordNeeded
            | Self::ImapDisabled
            | Self::NoAccess
            | Self::Certificate
            | Self::FolderMissing
            | Self::VaultKey
            | Self::ConsentMissing
            | Self::ConsentDeclined
            | Self::ConsentExpired
            | Self::ScopeMissing
            | Self::WrongAccount
            | Self::AddressInUse
            | Self::AuthorisationExpired
            | Self::AnswerMismatch
            | Self::TokenRefused
            | Self::ClientSecretExpired
            | Self::ClientWrong
            | Self::OauthConfig => Remedy::Person,
            _ => Remedy::Wait,
        }
    }

    /// The cause behind a connection that was not made.
    pub fn from_connect(error: &ConnectError) -> Self {
        match error {
            ConnectError::Dns { .. } => Self::Dns,
            ConnectError::Unreachable { .. } => Self::Unreachable,
            ConnectError::Timeout { .. } => Self::Timeout,
            ConnectError::Tls { .. } => Self::Tls,
            ConnectError::Certificate { .. } | ConnectError::Authorities { .. } => Self::Certificate,
            ConnectError::NotYetValid { .. } => Self::ClockSkew,
            ConnectError::Proxy { .. } => Self::ProxyFailed,
        }
    }
}

/// A problem as it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub cause: Cause,
    /// What the server or the system said; never a secret.
    pub said: String,
}

impl Problem {
    pub fn new(cause: Cause, said: impl Into<String>) -> Self {
        Self { cause, said: said.into() }
    }

    /// What to do, with the address in the commands.
    pub fn action_for(&self, channel: &crate::mail::Address) -> String {
        self.cause.action().replace("ADDRESS", &channel.to_string())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.cause.code(), self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_code_of_its_own_and_an_action() {
        let codes: std::collections::BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        assert!(Cause::ALL.iter().all(|cause| !cause.action().is_empty() && !cause.action().ends_with('.')));
    }
}
