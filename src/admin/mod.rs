//! The admin socket: HTTP with JSON over a Unix socket for operators and programs, and the metrics listener.
//!
//! Owns the protocol and its types. Must not know: SMTP, how mail is filed, the engine under the store.

mod act;
pub mod channels;
mod config;
mod connections;
pub mod credential;
pub mod entry;
mod events;
mod listener;
pub mod mailbox_status;
pub mod metrics_http;
pub mod outbox;
mod outbox_status;
pub mod problem;
mod read;
pub mod relays;
pub mod replies;
mod routes;
pub mod secrets;
mod status;
pub mod types;
mod upkeep;
mod user;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

pub use config::{Config, MetricsConfig};
pub use listener::{AdminListener, BindError, Peer, Role};
pub use routes::openapi;
pub use upkeep::Upkeep;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::desk::{Desk, Replies};
use crate::outbox::Board;
use crate::relay::Relays;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::ticket::Directory;
use crate::ticket::token::TokenKeys;
use problem::Problem;

/// What the admin socket serves.
#[derive(Clone, Debug)]
pub struct Admin {
    pub desk: Desk,
    pub replies: Replies,
    pub store: Store,
    pub directory: Arc<ArcSwap<Directory>>,
    pub accounts: Accounts,
    /// What the outbox shows of itself, and the relays that mail can be sent by.
    pub board: Board,
    pub relays: Relays,
    /// Sign the addresses under which replies come back to their ticket.
    pub keys: TokenKeys,
    pub clock: Clock,
    /// What the gateway found in its files.
    pub upkeep: Upkeep,
    pub shutdown: Shutdown,
    pub about: Arc<About>,
}

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct About {
    pub hostname: String,
    pub started_at: Timestamp,
    /// Names and addresses of everything that listens.
    pub listeners: Vec<(String, SocketAddr)>,
    /// Below this much free space no mail is accepted.
    pub low_water_bytes: u64,
}

/// Serves the admin socket until the shutdown; then open requests may end, and live feeds are closed.
pub async fn serve(listener: AdminListener, admin: Admin, config: &Config) -> io::Result<()> {
    let mut shutdown = admin.shutdown.clone();
    let app = routes::router(admin, config.request_timeout);
    let service = app.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).with_graceful_shutdown(async move { shutdown.wait().await }).await
}

/// Runs what blocks on the disk away from the async threads.
async fn blocking<T, F>(work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, crate::desk::DeskError> + Send + 'static,
{
    match flatten(tokio::task::spawn_blocking(work)).await {
        Some(result) => result.map_err(Problem::from),
        None => Err(Problem::trouble("the request was broken off")),
    }
}

async fn flatten<T>(task: impl Future<Output = Result<T, tokio::task::JoinError>>) -> Option<T> {
    task.await.inspect_err(|error| tracing::error!(%error, "a request of the admin socket was broken off")).ok()
}
