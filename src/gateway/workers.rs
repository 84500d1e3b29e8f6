//! Workers that nobody talks to: sending what waits, and tidying the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::rooms::Rooms;
use crate::outbox;
use crate::ticket::token::TokenKeys;

/// How often the store is tidied: segments without live mail are deleted.
const RECLAIM_EVERY: Duration = Duration::from_secs(600);

impl Rooms {
    /// Starts sending.
    pub(super) fn start_outbox(&mut self, failed: watch::Sender<Option<String>>) {
        let worker = outbox::Worker {
            store: self.store.clone(),
            relays: self.shared.relays.clone(),
            accounts: self.shared.accounts.clone(),
            directory: Arc::clone(&self.shared.directory),
            config: Arc::clone(&self.shared.outbox),
            suppress: Arc::clone(&self.shared.suppress),
            letters: Arc::clone(&self.shared.letters),
            never: Arc::clone(&self.shared.never),
            board: self.board.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        };
        let shutdown = self.workers.shutdown.clone();
        self.workers.tasks.push(tokio::spawn(async move {
            if let Err(trouble) = worker.run(shutdown).await {
                tracing::error!(%trouble, "the outbox stopped");
                failed.send_replace(Some(trouble.to_string()));
            }
        }));
    }

    /// Probes the relays that want it from time to time.
    pub(super) fn start_probes(&mut self, keys: TokenKeys) {
        let run = self.replies(keys).run_probes(self.shared.relays.clone(), self.workers.shutdown.clone());
        self.workers.tasks.push(tokio::spawn(run));
    }

    /// Deletes log segments that hold nothing any more, from time to time.
    pub(super) fn start_tidying(&mut self) {
        let store = self.store.clone();
        let mut shutdown = self.workers.shutdown.clone();
        self.workers.tasks.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(RECLAIM_EVERY) => {}
                    () = shutdown.wait() => return,
                }
                let store = store.clone();
                match tokio::task::spawn_blocking(move || store.reclaim()).await {
                    Ok(Ok(0)) | Err(_) => {}
                    Ok(Ok(segments)) => tracing::info!(segments, "deleted log segments without live mail"),
                    Ok(Err(trouble)) => tracing::warn!(%trouble, "log segments could not be reclaimed"),
                }
            }
        }));
    }
}
