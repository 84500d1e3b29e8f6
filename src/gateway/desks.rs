//! The rooms that show the others to people and programs: admin socket, metrics and health.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::GatewayError;
use super::rooms::Rooms;
use crate::admin::{self, About, Admin, AdminListener, metrics_http};
use crate::net::listen::ListenError;
use crate::ticket::token::TokenKeys;

impl Rooms {
    pub(super) async fn start_desk(&mut self, keys: TokenKeys) -> Result<(), GatewayError> {
        let config = self.config.admin.clone();
        let listener = AdminListener::bind(&self.socket, &config)?;
        let metrics = self.bind_metrics().await?;
        let admin = self.admin(keys);
        if let Some(bound) = metrics {
            let (admin, metrics) = (admin.clone(), self.metrics.clone());
            let mut until = self.desks.shutdown.clone();
            self.desks.tasks.push(tokio::spawn(async move {
                if let Err(trouble) =
                    metrics_http::serve(bound, admin, metrics, async move { until.wait().await }).await
                {
                    tracing::error!(%trouble, "the metrics listener stopped");
                }
            }));
        }
        self.desks.tasks.push(tokio::spawn(async move {
            if let Err(trouble) = admin::serve(listener, admin, &config).await {
                tracing::error!(%trouble, "the admin socket stopped");
            }
        }));
        Ok(())
    }

    /// The listener of `[metrics]`, if it is wanted.
    async fn bind_metrics(&mut self) -> Result<Option<TcpListener>, ListenError> {
        if !self.config.metrics.enabled {
            return Ok(None);
        }
        let address = self.config.metrics.listen;
        let bound = TcpListener::bind(address).await;
        let bound = bound.map_err(|source| ListenError::Bind { name: "metrics".into(), address, source })?;
        self.listening.extend(bound.local_addr().ok().map(|address| ("metrics".to_owned(), address)));
        Ok(Some(bound))
    }

    fn admin(&self, keys: TokenKeys) -> Admin {
        Admin {
            replies: self.replies(keys.clone()),
            desk: self.desk(),
            store: self.store.clone(),
            directory: Arc::clone(&self.shared.directory),
            accounts: self.shared.accounts.clone(),
            board: self.board.clone(),
            relays: self.shared.relays.clone(),
            keys,
            clock: self.clock.clone(),
            upkeep: self.upkeep.clone(),
            shutdown: self.desks.shutdown.clone(),
            about: Arc::new(About {
                hostname: self.config.server.hostname.clone(),
                started_at: self.clock.now(),
                listeners: self.listening.clone(),
                low_water_bytes: self.config.store.low_water_bytes,
            }),
        }
    }
}
