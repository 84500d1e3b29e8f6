//! What a token endpoint grants (RFC 6749 section 5.1), and whether it is what was asked for.

use jiff::{SignedDuration, Timestamp};
use oauth2::basic::BasicTokenType;
use oauth2::{ExtraTokenFields, StandardTokenResponse, TokenResponse};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::OAuthError;
use super::{Grant, Identity};

/// The answer of a token endpoint.
pub(super) type TokenAnswer = StandardTokenResponse<Extra, BasicTokenType>;

/// Nothing that is granted is taken to last longer than this.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 3660);

/// Scopes that are about the person, not about access to mail; servers leave them out of their answers or rename them.
const ABOUT_IDENTITY: [&str; 4] = ["openid", "offline_access", "profile", "email"];

/// Fields beside those of RFC 6749.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(super) struct Extra {
    /// OpenID Connect Core section 3.1.3.3.
    #[serde(default)]
    pub id_token: Option<String>,
    /// Google's and Microsoft's name for the end of the refresh token, in seconds.
    #[serde(default)]
    pub refresh_token_expires_in: Option<i64>,
    /// Keycloak's; 0 is no end.
    #[serde(default)]
    pub refresh_expires_in: Option<i64>,
}

impl std::fmt::Debug for Extra {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extra")
    }
}

impl ExtraTokenFields for Extra {}

/// An answer as the standards have it. A lifetime that is text or no whole number, as some servers write it, or scopes in
/// a list would make the whole answer unreadable, and with it be lost what a refresh has brought: the old refresh token
/// may be dead by then.
pub(super) fn mended(body: Vec<u8>) -> Vec<u8> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(&body) else { return body };
    for key in ["expires_in", "refresh_token_expires_in", "refresh_expires_in", "interval"] {
        let Some(value) = fields.get(key).filter(|value| !value.is_u64()) else { continue };
        let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match number.filter(|number| *number >= 0.0 && number.is_finite()) {
            // No lifetime is so long that it would not fit.
            Some(number) => drop(fields.insert(key.to_owned(), Value::from(number as u64))),
            None => drop(fields.remove(key)),
        }
    }
    if let Some(Value::Array(list)) = fields.get("scope") {
        let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        let scope = Value::from(words.join(" "));
        fields.insert("scope".to_owned(), scope);
    }
    if fields.contains_key("access_token") {
        fields.entry("token_type").or_insert_with(|| Value::from("Bearer"));
    }
    serde_json::to_vec(&fields).unwrap_or(body)
}

/// The grant in an answer to a request that was sent at `asked_at`; whose it is, the caller finds out.
pub(super) fn grant(answer: &TokenAnswer, asked_at: Timestamp) -> Result<Grant, OAuthError> {
    if *answer.token_type() != BasicTokenType::Bearer {
        return Err(OAuthError::Protocol("it grants a token that is not of the type Bearer".into()));
    }
    let after = |seconds: i64| asked_at.checked_add(SignedDuration::from_secs(seconds).min(LONGEST)).ok();
    let extra = answer.extra_fields();
    let refresh_lifetime = extra.refresh_token_expires_in.or(extra.refresh_expires_in).filter(|seconds| *seconds > 0);
    let lifetime = answer.expires_in().map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let words = answer
        .scopes()
        .map(|scopes| scopes.iter().map(|scope| scope.as_str().to_owned()).filter(|scope| !scope.is_empty()).collect());
    Ok(Grant {
        access: SecretString::from(answer.access_token().secret().clone()),
        expires_at: lifetime.and_then(after),
        refresh: answer.refresh_token().map(|token| SecretString::from(token.secret().clone())),
        refresh_expires_at: refresh_lifetime.and_then(after),
        scopes: words,
        identity: Identity::default(),
    })
}

/// The scopes of `asked` that are not among those granted. A server that names none has granted all (RFC 6749 section
/// 5.1). Servers may write a name in full that was asked for in short, and letters in another case.
pub(super) fn missing(asked: &[String], granted: Option<&[String]>) -> Vec<String> {
    let Some(granted) = granted else { return Vec::new() };
    let short = |scope: &str| scope.rsplit('/').next().unwrap_or_default().to_lowercase();
    let is_granted = |wanted: &str| {
        granted.iter().any(|scope| {
            scope.eq_ignore_ascii_case(wanted) || (!wanted.contains('/') && short(scope) == wanted.to_lowercase())
        })
    };
    // ".default" stands for whatever the application was given in the provider's console.
    let counts = |scope: &str| !ABOUT_IDENTITY.contains(&scope) && !scope.ends_with(".default");
    asked.iter().filter(|scope| counts(scope) && !is_granted(scope)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn scopes_that_were_not_granted_are_named() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let microsoft = "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/SMTP.Send";
        let table = [
            (microsoft, Some(microsoft), ""),
            (microsoft, None, ""),
            (
                microsoft,
                Some("https://outlook.office.com/IMAP.AccessAsUser.All"),
                "https://outlook.office.com/SMTP.Send",
            ),
            (
                "https://mail.google.com/ openid email",
                Some("openid https://www.googleapis.com/auth/userinfo.email"),
                "https://mail.google.com/",
            ),
            ("https://mail.google.com/ openid email", Some("https://mail.google.com/"), ""),
            ("openid offline_access User.Read Mail.Send", Some("https://graph.microsoft.com/mail.send user.read"), ""),
            ("Mail.Send", Some("https://graph.microsoft.com/Mail.Send.Shared"), "Mail.Send"),
            ("https://a.example/SMTP.Send", Some("https://b.example/SMTP.Send"), "https://a.example/SMTP.Send"),
            ("https://outlook.office365.com/.default", Some("x"), ""),
            ("mail", Some(""), "mail"),
        ];
        for (asked, granted, want) in table {
            let granted = granted.map(words);
            assert_eq!(missing(&words(asked), granted.as_deref()), words(want), "{asked} {granted:?}");
        }
    }

    #[test]
    fn an_answer_that_is_oddly_written_is_a_grant_all_the_same() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let table = [
            (r#""expires_in":"3600","#, Some("2026-01-01T01:00:00Z")),
            (r#""expires_in":3600.9,"#, Some("2026-01-01T01:00:00Z")),
            (r#""expires_in":"soon","refresh_token_expires_in":"x","#, None),
            (r#""expires_in":-1,"refresh_expires_in":null,"#, None),
            (r#""scope":["x","y"],"#, None),
            ("", None),
        ];
        for (more, want) in table {
            let text = format!(r#"{{{more}"access_token":"a","refresh_token":"r"}}"#);
            let grant = grant(&serde_json::from_slice(&mended(text.into_bytes())).unwrap(), now).unwrap();
            assert_eq!(grant.expires_at.map(|at| at.to_string()).as_deref(), want, "{more}");
            assert_eq!(grant.refresh.unwrap().expose_secret(), "r", "{more}");
            assert_eq!(grant.scopes.map(|scopes| scopes.len()), more.contains("scope").then_some(2), "{more}");
        }
        assert_eq!(mended(b"[]".to_vec()), b"[]");
    }

    #[test]
    fn ends_are_counted_from_the_request_and_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let read = |json: &str| grant(&serde_json::from_str(json).unwrap(), now);
        let full = read(
            r#"{"access_token":"a","token_type":"bearer","expires_in":3600,"refresh_token":"r","refresh_token_expires_in":604799,"scope":"x y"}"#,
        );
        let full = full.unwrap();
        assert_eq!(full.expires_at.unwrap().to_string(), "2026-01-01T01:00:00Z");
        assert_eq!(full.refresh_expires_at.unwrap().to_string(), "2026-01-07T23:59:59Z");
        assert_eq!((full.refresh.unwrap().expose_secret(), full.scopes.unwrap().len()), ("r", 2));
        let bare = read(r#"{"access_token":"a","token_type":"Bearer","refresh_expires_in":0}"#).unwrap();
        assert!(bare.expires_at.is_none() && bare.refresh_expires_at.is_none() && bare.scopes.is_none());
        let silly = read(r#"{"access_token":"a","token_type":"Bearer","expires_in":18446744073709551615}"#).unwrap();
        assert!(silly.expires_at.unwrap() > now);
        assert!(matches!(read(r#"{"access_token":"a","token_type":"mac"}"#), Err(OAuthError::Protocol(_))));
    }
}
