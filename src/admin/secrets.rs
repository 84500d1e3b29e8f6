//! Routes about the keys of the secrets at rest. None of them shows a secret or a key.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::act::{author, parse_or_none};
use super::connections::refused;
use super::problem::Problem;
use super::{Admin, Peer};
use crate::accounts::AccountError;
use crate::store::vault::{OldKeys, Rotation, VaultError, VaultState};

/// The keys, and how many secrets each of them holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecretsJson {
    pub key_file: String,
    /// Whether `rotate` may put a fresh key into it.
    pub writable: bool,
    /// In the order of the key file: the first encrypts.
    pub keys: Vec<KeyJson>,
    /// Secrets whose key is not in the key file: they cannot be read.
    pub unreadable: u64,
}

/// One key, by the id that says nothing of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyJson {
    pub id: String,
    pub secrets: u64,
}

/// What `rotate` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// Take keys that no secret needs any more out of the key file.
    pub prune: bool,
    pub author: Option<String>,
}

/// What `rotate` has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RotatedJson {
    pub key_file: String,
    /// Whether a fresh key was made; if not, the first of the key file was taken.
    pub added: bool,
    pub secrets: u64,
    /// Secrets of accounts that are not known any more; they stay under their key.
    pub left: u64,
    /// Keys that were taken out of the key file.
    pub dropped: u64,
}

#[utoipa::path(get, path = "/v1/secrets", responses((status = 200, body = SecretsJson)))]
pub(super) async fn secrets(State(admin): State<Admin>) -> Result<Json<SecretsJson>, Problem> {
    let accounts = admin.accounts.clone();
    Ok(Json(blocking(move || accounts.secrets()).await?.into()))
}

#[utoipa::path(post, path = "/v1/secrets/rotate", request_body = Rotate,
    responses((status = 200, body = RotatedJson), (status = 409, body = Problem)))]
pub(super) async fn rotate(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<RotatedJson>, Problem> {
    let asked: Rotate = parse_or_none(&body)?;
    let author = author(asked.author, peer).await;
    let old = if asked.prune { OldKeys::Drop } else { OldKeys::Keep };
    let accounts = admin.accounts.clone();
    Ok(Json(blocking(move || accounts.rotate_secrets(old, &author)).await?.into()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccountError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::trouble("the request was broken off"))?.map_err(|error| match error {
        AccountError::Vault(error) => unrotated(&error),
        other => refused(other),
    })
}

/// What to do about trouble with the key file.
fn unrotated(error: &VaultError) -> Problem {
    let action = match error {
        VaultError::NotOurs { .. } => {
            "put a fresh key (openssl rand -hex 32) as its first line above the old ones, restart the daemon if it is a systemd credential, and run this again"
        }
        VaultError::TooManyKeys { .. } => "take out those that nothing uses with `ticketgate secrets rotate --prune`",
        VaultError::UnknownKey { .. } => {
            "nothing was changed; secrets that are lost come back by `ticketgate reconnect`"
        }
        VaultError::Damaged { .. } => "nothing was changed; move that file away if its account is gone",
        _ => "every secret can still be read; correct this and run it again",
    };
    Problem::new(StatusCode::CONFLICT, "key-not-exchanged", "Key not exchanged", error.to_string(), action)
}

impl From<VaultState> for SecretsJson {
    fn from(state: VaultState) -> Self {
        let keys = state.keys.into_iter().map(|key| KeyJson { id: key.id, secrets: key.secrets as u64 });
        Self {
            key_file: state.key_file.display().to_string(),
            writable: state.writable,
            keys: keys.collect(),
            unreadable: state.unreadable as u64,
        }
    }
}

impl From<Rotation> for RotatedJson {
    fn from(done: Rotation) -> Self {
        Self {
            key_file: done.key_file.display().to_string(),
            added: done.added,
            secrets: done.secrets as u64,
            left: done.left as u64,
            dropped: done.dropped as u64,
        }
    }
}
