//! What an answer of a provider means for the connection that it was asked for.

use super::problem::{Cause, Problem};
use crate::net::oauth::{ClientKind, GrantKind, OAuthError, Preset, ProviderConfig};

/// What a failed request for a token means.
pub(super) fn problem(error: &OAuthError, provider: &ProviderConfig) -> Problem {
    let whose = match provider.preset {
        Preset::Microsoft => "Microsoft ",
        Preset::Google => "Google ",
        Preset::Generic => "",
    };
    match error {
        OAuthError::ScopeMissing(scopes) => {
            let (what, verb, it) = match scopes.as_slice() {
                [_] => ("permission", "is", "it"),
                _ => ("permissions", "are", "them"),
            };
            let scopes = scopes.join(", ");
            let said = format!(
                "the {whose}account could not be verified: {what} {scopes} {verb} missing; grant {it} and retry"
            );
            Problem::new(Cause::ScopeMissing, said)
        }
        other => Problem::new(cause(other), format!("{}: {other}", provider.name)),
    }
}

fn cause(error: &OAuthError) -> Cause {
    match error {
        OAuthError::Connect(_) | OAuthError::ProviderTrouble { .. } => Cause::OauthProviderTrouble,
        OAuthError::GrantDead { kind: GrantKind::AccountBlocked, .. } => Cause::NoAccess,
        OAuthError::GrantDead { .. } => Cause::ConsentExpired,
        OAuthError::ClientWrong { kind: ClientKind::SecretExpired, .. } => Cause::ClientSecretExpired,
        OAuthError::ClientWrong { kind: ClientKind::Clock, .. } | OAuthError::Clock(_) => Cause::ClockSkew,
        OAuthError::ClientWrong { .. } => Cause::ClientWrong,
        OAuthError::ConsentDeclined(_) => Cause::ConsentDeclined,
        OAuthError::ConsentNeeded(_) => Cause::ConsentMissing,
        OAuthError::ScopeMissing(_) => Cause::ScopeMissing,
        OAuthError::StateMismatch | OAuthError::NonceMismatch => Cause::AnswerMismatch,
        OAuthError::Expired => Cause::AuthorisationExpired,
        OAuthError::Config(_) => Cause::OauthConfig,
        OAuthError::Protocol(_) => Cause::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_disagree_are_no_fault_of_the_protocol() {
        let error = OAuthError::Clock("its id_token has expired before it came".into());
        assert_eq!(problem(&error, &ProviderConfig::default()).cause, Cause::ClockSkew);
    }

    #[test]
    fn a_missing_permission_is_named_as_asked() {
        let table = [
            (
                Preset::Microsoft,
                vec!["Mail.Send"],
                "the Microsoft account could not be verified: permission Mail.Send is missing; grant it and retry",
            ),
            (
                Preset::Generic,
                vec!["a", "b"],
                "the account could not be verified: permissions a, b are missing; grant them and retry",
            ),
        ];
        for (preset, scopes, want) in table {
            let provider = ProviderConfig { preset, ..ProviderConfig::default() };
            let error = OAuthError::ScopeMissing(scopes.into_iter().map(str::to_owned).collect());
            assert_eq!(problem(&error, &provider), Problem::new(Cause::ScopeMissing, want));
        }
    }
}
