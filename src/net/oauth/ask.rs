//! One request to a provider, and what its answer is worth: JSON, an error in JSON, or trouble.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use secrecy::SecretString;

use super::classify::{ErrorAnswer, classify};
use super::error::OAuthError;
use crate::net::conceal::Hidden;
use crate::net::http::{Http, HttpError};

/// Nobody tells us to wait longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// The parameters that hold secrets. A server that repeats one in a description shall not bring it into a log.
const SECRET: &[&str] = &[
    "refresh_token",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "assertion",
    "client_assertion",
    "subject_token",
];

/// Why a request has no useful answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server says what is wrong, as the standards have it.
    #[error("{}", .0.error)]
    Said(ErrorAnswer),
    /// It answers with this status and JSON that says nothing that the standards know.
    #[error("{1} answered {0}")]
    Status(StatusCode, String),
    #[error(transparent)]
    Other(#[from] OAuthError),
}

impl From<Failure> for OAuthError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Said(answer) => classify(&answer),
            Failure::Status(status, host) => Self::Protocol(format!("{host} answered {}", status.as_u16())),
            Failure::Other(error) => error,
        }
    }
}

/// Sends a request and gives the body of an answer that is 200 and JSON. `secrets` are those that the request holds
/// beside the parameters in its body.
pub(super) async fn json(
    http: &Http,
    request: Request<Vec<u8>>,
    secrets: &[&SecretString],
) -> Result<Vec<u8>, Failure> {
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let hidden = hidden(&request, secrets);
    let answer = http.send(request).await.map_err(from_http)?;
    let (head, body) = answer.into_parts();
    let status = head.status;
    let trouble = |what: String| {
        let said = format!("{host} answered {}{what}", status.as_u16());
        Failure::Other(OAuthError::ProviderTrouble { said, retry_after: retry_after(&head.headers) })
    };
    if status.is_redirection() {
        let said = format!("{host} answered {} (a redirect), which is not followed; check the URLs", status.as_u16());
        return Err(OAuthError::Protocol(said).into());
    }
    if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
        return Err(trouble(String::new()));
    }
    if !is_json(&head.headers) {
        return Err(match status {
            StatusCode::NOT_FOUND => Failure::Status(status, host),
            _ => trouble(" with something that is not JSON".into()),
        });
    }
    if let Ok(mut said) = serde_json::from_slice::<ErrorAnswer>(&body) {
        for text in [&mut said.error_description, &mut said.error_subtype, &mut said.suberror].into_iter().flatten() {
            *text = hidden.conceal(text);
        }
        said.error = hidden.conceal(&said.error);
        return Err(Failure::Said(said));
    }
    if status == StatusCode::OK { Ok(body) } else { Err(Failure::Status(status, host)) }
}

fn from_http(error: HttpError) -> Failure {
    Failure::Other(match error {
        HttpError::Connect(error) => OAuthError::Connect(error),
        HttpError::Address(said) => OAuthError::Config(said),
        HttpError::Broken { .. } | HttpError::TooLarge { .. } => {
            OAuthError::ProviderTrouble { said: error.to_string(), retry_after: None }
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// How long the server wants us to wait: in seconds, or until a date (RFC 9110 section 10.2.3). A date is compared with
/// the server's own, since its clock may not be ours.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = |text: &str| -> Option<Timestamp> {
                jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
            };
            let server = date(headers.get(http::header::DATE)?.to_str().ok()?)?;
            Duration::try_from(date(text)?.duration_since(server)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The secrets that a request holds.
fn hidden(request: &Request<Vec<u8>>, others: &[&SecretString]) -> Hidden {
    let sent = url::form_urlencoded::parse(request.body());
    let secrets = sent
        .filter(|(key, _)| SECRET.contains(&key.as_ref()))
        .map(|(_, value)| SecretString::from(value.into_owned()))
        .chain(others.iter().map(|secret| (*secret).clone()))
        .chain(request.headers().get(AUTHORIZATION).and_then(|value| {
            let (_, credentials) = value.to_str().ok()?.split_once(' ')?;
            Some(SecretString::from(credentials.to_owned()))
        }));
    Hidden::new(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_both_forms_and_bounded() {
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        let table = [
            (Some("120"), Some(120)),
            (Some("Wed, 21 Oct 2026 07:30:00 GMT"), Some(120)),
            (Some("Wed, 21 Oct 2026 07:00:00 GMT"), Some(0)),
            (Some("99999999"), Some(86_400)),
            (Some("soon"), None),
            (None, None),
        ];
        for (text, want) in table {
            let mut headers = HeaderMap::new();
            headers.insert("date", date.parse().unwrap());
            if let Some(text) = text {
                headers.insert("retry-after", text.parse().unwrap());
            }
            assert_eq!(retry_after(&headers), want.map(Duration::from_secs), "{text:?}");
        }
    }
}
