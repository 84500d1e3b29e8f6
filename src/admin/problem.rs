//! Errors as RFC 9457 has them: `application/problem+json`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::desk::DeskError;

/// The media type of RFC 9457.
pub const PROBLEM: &str = "application/problem+json";

/// What went wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable word for programs, as a URN: `urn:ticketgate:problem:not-found`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// What the caller can do.
    pub action: String,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>, action: &str) -> Self {
        Self {
            kind: format!("urn:ticketgate:problem:{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            action: action.into(),
        }
    }

    /// What was sent cannot be used.
    pub fn unusable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unusable", "Unusable request", detail, "correct the request")
    }

    /// The caller may not do that.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        let action = "run it as the daemon's user or root, or add the user under [admin] of the configuration";
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail, action)
    }

    /// The body is larger than the route takes.
    pub fn too_large(detail: impl Into<String>, action: &str) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail, action)
    }

    pub fn no_such_route(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "No such route", detail, "see /v1/openapi.json")
    }

    pub fn no_such_method() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "no-such-method", "No such method", "this route has other methods", "see /v1/openapi.json")
    }

    pub fn timeout() -> Self {
        let status = StatusCode::GATEWAY_TIMEOUT;
        let action = "ask for less, or try again; the log says if the store is slow";
        Self::new(status, "timeout", "Took too long", "the answer did not begin in time", action)
    }

    pub fn trouble(detail: impl Into<String>) -> Self {
        let action = "look into the daemon's log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "trouble", "Our own trouble", detail, action)
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        let detail = error.to_string();
        match error {
            DeskError::NotFound(_) => {
                let action = "look for it with the list commands";
                Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail, action)
            }
            DeskError::NotPossible(_) => {
                let action = "look at its present state first";
                Self::new(StatusCode::CONFLICT, "not-possible", "Not possible now", detail, action)
            }
            DeskError::MayComeTwice(_) => {
                let action = "wait for the next attempt, or repeat it with \"force\": true (--force)";
                Self::new(StatusCode::CONFLICT, "may-come-twice", "It may come twice", detail, action)
            }
            DeskError::Unusable(_) => Self::unusable(detail),
            DeskError::Gone(_) => {
                let action = "nothing can bring them back but a backup";
                Self::new(StatusCode::GONE, "gone", "Bytes are gone", detail, action)
            }
            DeskError::Full => {
                let action = "free some space on the data directory's file system and try again";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "Disk full", detail, action)
            }
            DeskError::Trouble(_) => Self::trouble(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let media = HeaderValue::from_static(PROBLEM);
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        response
    }
}
