//! What the errors of authorisation servers mean: those of RFC 6749 section 5.2, Microsoft's AADSTS codes, Google's
//! words.
//!
//! Pure. Only `invalid_grant` (or its equal by code) gives a grant up; what is not known never does.

use serde::Deserialize;

use super::error::{ClientKind, GrantKind, OAuthError};

/// The longest description that is handed on.
const SHOWN: usize = 240;

/// An error as a server writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ErrorAnswer {
    pub error: String,
    #[serde(default)]
    pub error_description: Option<String>,
    /// Microsoft's numbers.
    #[serde(default)]
    pub error_codes: Vec<u32>,
    /// Google's addition, such as `invalid_rapt`.
    #[serde(default)]
    pub error_subtype: Option<String>,
    /// Microsoft's addition, such as `consent_required`.
    #[serde(default)]
    pub suberror: Option<String>,
}

/// What a code or word means.
#[derive(Clone, Copy)]
enum Meaning {
    Grant(GrantKind),
    Client(ClientKind),
    Declined,
    NeedConsent,
    Trouble,
    Expired,
    Setting,
}

use Meaning::{Client, Declined, Expired, Grant, NeedConsent, Setting, Trouble};

/// Microsoft's codes, after its "Microsoft Entra authentication and authorization error codes".
const AADSTS: &[(u32, Meaning)] = &[
    (50_034, Grant(GrantKind::AccountBlocked)),
    (50_053, Grant(GrantKind::AccountBlocked)),
    (50_057, Grant(GrantKind::AccountBlocked)),
    (50_105, Grant(GrantKind::AccountBlocked)),
    (53_003, Grant(GrantKind::AccountBlocked)),
    (50_055, Grant(GrantKind::PasswordChanged)),
    (50_132, Grant(GrantKind::PasswordChanged)),
    (50_133, Grant(GrantKind::PasswordChanged)),
    (50_173, Grant(GrantKind::PasswordChanged)),
    (50_076, Grant(GrantKind::InteractionNeeded)),
    (50_079, Grant(GrantKind::InteractionNeeded)),
    (50_158, Grant(GrantKind::InteractionNeeded)),
    (50_074, Grant(GrantKind::InteractionNeeded)),
    (50_078, Grant(GrantKind::SignInPolicy)),
    (70_043, Grant(GrantKind::SignInPolicy)),
    (70_044, Grant(GrantKind::SignInPolicy)),
    (700_082, Grant(GrantKind::Unused)),
    (70_008, Grant(GrantKind::Expired)),
    (700_081, Grant(GrantKind::Expired)),
    (700_084, Grant(GrantKind::Expired)),
    (54_005, Grant(GrantKind::Expired)),
    (65_001, NeedConsent),
    (90_094, NeedConsent),
    (90_095, NeedConsent),
    (65_004, Declined),
    (7_000_222, Client(ClientKind::SecretExpired)),
    (7_000_215, Client(ClientKind::SecretWrong)),
    (700_027, Client(ClientKind::SecretWrong)),
    (700_021, Client(ClientKind::SecretWrong)),
    (7_000_218, Client(ClientKind::SecretMissing)),
    (7_000_216, Client(ClientKind::SecretMissing)),
    (700_024, Client(ClientKind::Clock)),
    (700_016, Client(ClientKind::UnknownApp)),
    (7_000_112, Client(ClientKind::UnknownApp)),
    (700_054, Client(ClientKind::NotAllowed)),
    (70_020, Expired),
    (90_002, Setting),
    (50_011, Setting),
    (50_194, Setting),
    (70_011, Setting),
    (90_009, Setting),
    (90_033, Trouble),
    (90_006, Trouble),
    (90_012, Trouble),
    (90_024, Trouble),
    (50_196, Trouble),
];

/// What descriptions say, in lower case, by the error they come with. The first that fits counts.
const WORDS: &[(&str, &str, Meaning)] = &[
    ("invalid_grant", "reauth related error", Grant(GrantKind::SignInPolicy)),
    ("invalid_grant", "expired or revoked", Grant(GrantKind::Revoked)),
    ("invalid_grant", "revoked", Grant(GrantKind::Revoked)),
    ("invalid_grant", "invalid jwt signature", Client(ClientKind::SecretWrong)),
    ("invalid_grant", "short-lived token", Client(ClientKind::Clock)),
    ("invalid_grant", "account not found", Client(ClientKind::UnknownApp)),
    ("invalid_grant", "invalid email or user id", Grant(GrantKind::AccountBlocked)),
    ("invalid_grant", "account has been deleted", Grant(GrantKind::AccountBlocked)),
    ("invalid_grant", "account disabled", Grant(GrantKind::AccountBlocked)),
    ("invalid_grant", "expired", Grant(GrantKind::Expired)),
    ("invalid_client", "not found", Client(ClientKind::UnknownApp)),
    ("invalid_client", "deleted", Client(ClientKind::UnknownApp)),
    ("invalid_client", "secret", Client(ClientKind::SecretWrong)),
    // A service account that no administrator has let act for the domain's mailboxes.
    ("unauthorized_client", "not authorized for any of the scopes", NeedConsent),
    ("access_denied", "not authorized for any of the scopes", NeedConsent),
];

/// Errors by themselves: RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, OpenID Connect Core section 3.1.2.6,
/// and the providers' own.
const ERRORS: &[(&str, Meaning)] = &[
    ("invalid_grant", Grant(GrantKind::Unknown)),
    ("invalid_client", Client(ClientKind::Unknown)),
    ("unauthorized_client", Client(ClientKind::NotAllowed)),
    ("deleted_client", Client(ClientKind::UnknownApp)),
    ("disabled_client", Client(ClientKind::UnknownApp)),
    ("org_internal", Client(ClientKind::NotAllowed)),
    ("unsupported_grant_type", Client(ClientKind::NotAllowed)),
    ("access_denied", Declined),
    ("authorization_declined", Declined),
    ("consent_required", NeedConsent),
    ("admin_policy_enforced", NeedConsent),
    ("interaction_required", Grant(GrantKind::InteractionNeeded)),
    ("login_required", Grant(GrantKind::InteractionNeeded)),
    ("expired_token", Expired),
    ("temporarily_unavailable", Trouble),
    ("server_error", Trouble),
    ("slow_down", Trouble),
    ("invalid_scope", Setting),
    ("invalid_target", Setting),
    ("redirect_uri_mismatch", Setting),
];

/// What an error means. The description must be free of secrets already.
pub(super) fn classify(answer: &ErrorAnswer) -> OAuthError {
    let said = said(answer);
    match meaning(answer) {
        Some(Grant(kind)) => OAuthError::GrantDead { kind, said },
        Some(Client(kind)) => OAuthError::ClientWrong { kind, said },
        Some(Declined) => OAuthError::ConsentDeclined(said),
        Some(NeedConsent) => OAuthError::ConsentNeeded(said),
        Some(Trouble) => OAuthError::ProviderTrouble { said, retry_after: None },
        Some(Expired) => OAuthError::Expired,
        Some(Setting) => OAuthError::Config(format!("the provider does not accept a setting: {said}")),
        None => OAuthError::Protocol(said),
    }
}

fn meaning(answer: &ErrorAnswer) -> Option<Meaning> {
    let description = answer.error_description.as_deref().unwrap_or_default();
    let written = codes_in(description);
    let mut codes = answer.error_codes.iter().copied().chain(written);
    if let Some(meaning) = codes.find_map(|code| AADSTS.iter().find(|(known, _)| *known == code)) {
        return Some(meaning.1);
    }
    if answer.error == "invalid_grant" {
        let subtype = answer.error_subtype.as_deref().or(answer.suberror.as_deref());
        match subtype {
            Some("invalid_rapt" | "rapt_required") => return Some(Grant(GrantKind::SignInPolicy)),
            Some("consent_required") => return Some(NeedConsent),
            _ => {}
        }
    }
    let description = description.to_lowercase();
    let by_words = WORDS.iter().find(|(error, words, _)| *error == answer.error && description.contains(words));
    let by_error = || ERRORS.iter().find(|(error, _)| *error == answer.error).map(|(_, meaning)| *meaning);
    by_words.map(|(_, _, meaning)| *meaning).or_else(by_error)
}

/// The numbers behind `AADSTS` in a text.
fn codes_in(text: &str) -> Vec<u32> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    text.split("AADSTS").skip(1).filter_map(digits).collect()
}

/// Error and description on one line, without the numbers that support asks for.
fn said(answer: &ErrorAnswer) -> String {
    let description = answer.error_description.as_deref().unwrap_or_default();
    let mut text = clean(&answer.error);
    if let Some(subtype) = answer.error_subtype.as_deref().or(answer.suberror.as_deref()) {
        text.push_str(&format!(" ({})", clean(subtype)));
    }
    let first = description.split("Trace ID:").next().unwrap_or_default();
    let first = first.lines().next().unwrap_or_default().trim();
    if !first.is_empty() {
        text.push_str(&format!(": {}", clean(first)));
    }
    text
}

/// A bounded piece of a foreign text, without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Want {
        Grant(GrantKind),
        Client(ClientKind),
        Declined,
        NeedConsent,
        Trouble,
        Expired,
        Config,
        Protocol,
    }

    fn kind(error: &OAuthError) -> Want {
        match error {
            OAuthError::GrantDead { kind, .. } => Want::Grant(*kind),
            OAuthError::ClientWrong { kind, .. } => Want::Client(*kind),
            OAuthError::ConsentDeclined(_) => Want::Declined,
            OAuthError::ConsentNeeded(_) => Want::NeedConsent,
            OAuthError::ProviderTrouble { .. } => Want::Trouble,
            OAuthError::Expired => Want::Expired,
            OAuthError::Config(_) => Want::Config,
            _ => Want::Protocol,
        }
    }

    #[test]
    fn what_providers_say_is_told_apart() {
        use {ClientKind as C, GrantKind as G};
        let table = [
            // Microsoft, by the code in the description.
            ("invalid_grant", "AADSTS700082: The refresh token has expired due to inactivity.", Want::Grant(G::Unused)),
            ("invalid_grant", "AADSTS50173: The provided grant has expired.", Want::Grant(G::PasswordChanged)),
            ("invalid_grant", "AADSTS70043: bad token due to sign-in frequency", Want::Grant(G::SignInPolicy)),
            ("invalid_grant", "AADSTS50076: you must use multi-factor", Want::Grant(G::InteractionNeeded)),
            ("interaction_required", "AADSTS50079: enroll", Want::Grant(G::InteractionNeeded)),
            ("invalid_grant", "AADSTS50057: The user account is disabled.", Want::Grant(G::AccountBlocked)),
            ("invalid_grant", "AADSTS70008: expired", Want::Grant(G::Expired)),
            ("invalid_grant", "AADSTS65001: has not consented", Want::NeedConsent),
            ("access_denied", "AADSTS65004: User declined to consent", Want::Declined),
            ("invalid_client", "AADSTS7000222: secret keys are expired", Want::Client(C::SecretExpired)),
            ("invalid_client", "AADSTS7000215: Invalid client secret", Want::Client(C::SecretWrong)),
            ("invalid_client", "AADSTS700027: signature", Want::Client(C::SecretWrong)),
            ("invalid_client", "AADSTS700024: not within its valid time range", Want::Client(C::Clock)),
            ("invalid_client", "AADSTS7000218: must contain client_assertion", Want::Client(C::SecretMissing)),
            ("unauthorized_client", "AADSTS700016: not found in the directory", Want::Client(C::UnknownApp)),
            ("invalid_request", "AADSTS90002: Tenant 'x' not found", Want::Config),
            ("invalid_request", "AADSTS90009: requesting a token for itself", Want::Config),
            ("invalid_request", "AADSTS90033: A transient error has occurred", Want::Trouble),
            // A code that is not known falls back on the error.
            ("invalid_grant", "AADSTS999999: something new", Want::Grant(G::Unknown)),
            // Google.
            ("invalid_grant", "Token has been expired or revoked.", Want::Grant(G::Revoked)),
            ("invalid_grant", "Bad Request", Want::Grant(G::Unknown)),
            ("invalid_grant", "reauth related error (invalid_rapt)", Want::Grant(G::SignInPolicy)),
            ("invalid_grant", "Invalid email or User ID", Want::Grant(G::AccountBlocked)),
            ("invalid_grant", "Invalid JWT Signature.", Want::Client(C::SecretWrong)),
            ("invalid_grant", "Invalid JWT: Token must be a short-lived token", Want::Client(C::Clock)),
            ("invalid_grant", "Invalid grant: account not found", Want::Client(C::UnknownApp)),
            ("invalid_client", "The OAuth client was not found.", Want::Client(C::UnknownApp)),
            ("invalid_client", "The OAuth client was deleted.", Want::Client(C::UnknownApp)),
            ("invalid_client", "Unauthorized", Want::Client(C::Unknown)),
            ("deleted_client", "", Want::Client(C::UnknownApp)),
            (
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.",
                Want::NeedConsent,
            ),
            ("admin_policy_enforced", "", Want::NeedConsent),
            // The standards.
            ("access_denied", "", Want::Declined),
            ("consent_required", "", Want::NeedConsent),
            ("expired_token", "", Want::Expired),
            ("unauthorized_client", "", Want::Client(C::NotAllowed)),
            ("server_error", "", Want::Trouble),
            ("temporarily_unavailable", "", Want::Trouble),
            ("invalid_scope", "", Want::Config),
            ("invalid_request", "", Want::Protocol),
            ("gibberish", "invalid_grant", Want::Protocol),
        ];
        for (error, description, want) in table {
            let description = Some(description.to_owned());
            let answer = ErrorAnswer { error: error.into(), error_description: description, ..ErrorAnswer::default() };
            let got = classify(&answer);
            assert_eq!(kind(&got), want, "{error} {:?}: {got}", answer.error_description);
            assert_eq!(got.passes(), want == Want::Trouble);
        }
    }

    #[test]
    fn numbers_and_subtypes_count_and_texts_are_bounded() {
        let read = |json: &str| classify(&serde_json::from_str(json).unwrap());
        let by_number = read(r#"{"error":"invalid_grant","error_codes":[50173]}"#);
        assert_eq!(kind(&by_number), Want::Grant(GrantKind::PasswordChanged));
        let rapt = read(r#"{"error":"invalid_grant","error_description":"x","error_subtype":"invalid_rapt"}"#);
        assert_eq!(kind(&rapt), Want::Grant(GrantKind::SignInPolicy));
        assert!(rapt.to_string().ends_with("invalid_grant (invalid_rapt): x"), "{rapt}");
        let long = format!(r#"{{"error":"e\u0007","error_description":"{}\r\nmore Trace ID: 7"}}"#, "x".repeat(9000));
        let OAuthError::Protocol(said) = read(&long) else { panic!("{long}") };
        assert!(said.starts_with("e: xx") && said.len() < 300 && !said.contains("more"), "{said}");
    }
}
