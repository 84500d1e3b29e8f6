//! Starts what accounts do by themselves: watching over credentials, and answering browsers that come back.

use tokio::net::TcpListener;

use super::GatewayError;
use super::rooms::Rooms;
use crate::net::listen::ListenError;

impl Rooms {
    /// Binds the public way back, if there is one, and begins the watch.
    pub(super) async fn start_accounts(&mut self) -> Result<(), GatewayError> {
        let accounts = self.shared.accounts.clone();
        self.workers.tasks.push(tokio::spawn(accounts.clone().watch(self.workers.shutdown.clone())));
        let Some(address) = self.config.accounts.redirect_listen else { return Ok(()) };
        let bound = TcpListener::bind(address).await;
        let bound = bound.map_err(|source| ListenError::Bind { name: "accounts.redirect".into(), address, source })?;
        let mut until = self.workers.shutdown.clone();
        self.workers.tasks.push(tokio::spawn(async move {
            tokio::select! {
                () = accounts.serve_redirects(bound) => {}
                () = until.wait() => {}
            }
        }));
        Ok(())
    }
}
