//! `/metrics`, `/healthz` and `/readyz` on a TCP listener.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::store::rows::OutboxState;
use crate::store::{Every, OutboxFilter};

use super::listener::LimitedTcp;
use super::status::not_ready;
use super::{Admin, relays};
use crate::metrics::{Health, Metrics, StoreTotals};

/// Scrapers and probes at the same time.
const MAX_CONNECTIONS: usize = 64;

/// A connection on which nothing moves for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Probe {
    admin: Admin,
    metrics: Metrics,
}

/// Serves until the shutdown. It goes on while the daemon drains, so that probes see that it is not ready.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    metrics: Metrics,
    until: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(exposition))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Probe { admin, metrics });
    axum::serve(LimitedTcp::new(listener, MAX_CONNECTIONS, IDLE), app).with_graceful_shutdown(until).await
}

async fn exposition(State(probe): State<Probe>) -> Response {
    let gathered = tokio::task::spawn_blocking(move || {
        probe.refresh();
        probe.metrics.render()
    });
    match gathered.await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(probe): State<Probe>) -> Response {
    if probe.admin.store.watch().borrow().broken {
        let said = "the store has stopped after an error; the daemon has to be started again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, said).into_response();
    }
    "ok\n".into_response()
}

async fn readyz(State(probe): State<Probe>) -> Response {
    match not_ready(&probe.admin, probe.admin.store.free_bytes()) {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

impl Probe {
    /// Brings the gauges up to date that nobody sets by themselves.
    fn refresh(&self) {
        let (store, metrics) = (&self.admin.store, &self.metrics);
        let stats = store.stats();
        let now = self.admin.clock.now();
        let waited = stats.spool.oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok());
        metrics.spool_is(stats.spool.depth, stats.spool.bytes, waited.unwrap_or_default());
        metrics.store_is(stats.log_bytes + stats.index_bytes, stats.free_bytes, stats.segments);
        metrics.store_did(&StoreTotals {
            records: stats.records,
            bytes: stats.bytes,
            syncs: stats.syncs,
            sync_seconds: stats.sync_seconds,
            commits: stats.commits,
            commit_seconds: stats.index_seconds,
            damaged: stats.damaged,
            last_flush: stats.last_flush,
        });
        let oldest = self.admin.board.now().oldest;
        let age = oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok());
        metrics.outbox_oldest(age.unwrap_or_default());
        let held = OutboxFilter { state: Some(OutboxState::Held), limit: 1000, ..OutboxFilter::default() };
        let held = store.outbox(&held).map_or(0, |rows| rows.len());
        let brakes = store.brakes(1000).unwrap_or_default();
        let suppressed = store.suppressions(Every::Suppressed, 10_000).map_or(0, |rows| rows.len());
        metrics.outbox_keeps(held as u64, brakes.len() as u64, suppressed as u64);
        metrics.headers_are(&relays::survivals(&relays::all(&self.admin).unwrap_or_default()));
        let health = |good: bool| if good { Health::Good } else { Health::Bad };
        let ready = not_ready(&self.admin, stats.free_bytes).is_none();
        metrics.health_is(health(!store.watch().borrow().broken), health(ready));
    }
}
