//! Builds the rooms, hands each what it uses, starts them, reloads them, drains them.
//!
//! `main` and `demo` read as: settings, start, wait, stop. Must not know: what the rooms do.

mod accounts;
mod default;
mod desks;
mod doors;
mod opening;
mod reload;
mod rooms;
mod signals;
mod workers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::config::Config;
use crate::logging::LevelHandle;
use rooms::Rooms;
use signals::{Ask, Signals};

/// Why the daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Open(#[from] crate::store::OpenError),
    #[error(transparent)]
    Secret(#[from] crate::store::secret::SecretError),
    #[error(transparent)]
    Vault(#[from] crate::store::vault::VaultError),
    #[error(transparent)]
    Listen(#[from] crate::net::listen::ListenError),
    #[error(transparent)]
    Tls(#[from] crate::net::tls::TlsError),
    #[error(transparent)]
    Login(#[from] crate::smtp::submission::logins::LoginError),
    #[error(transparent)]
    Admin(#[from] crate::admin::BindError),
    #[error(transparent)]
    Relay(#[from] crate::relay::RelayError),
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Broken(String),
}

/// A daemon that runs.
pub struct Gateway(Rooms);

/// Opens the store, binds the listeners and starts every room. Returns once mail is taken.
pub async fn start(config: Config) -> Result<Gateway, GatewayError> {
    Ok(Gateway(Rooms::start(config).await?))
}

impl Gateway {
    /// Where mail is taken.
    pub fn smtp_addresses(&self) -> &[SocketAddr] {
        self.0.smtp_addresses()
    }

    /// Where the admin socket lies.
    pub fn socket(&self) -> &Path {
        self.0.socket()
    }

    /// Takes nothing new, lets what runs finish, closes the store.
    pub async fn stop(self) -> Result<(), GatewayError> {
        self.0.stop().await
    }
}

/// The daemon: starts, tells systemd, reloads when asked, drains and ends. `file` is read again at a reload.
pub async fn run(config: Config, file: Option<PathBuf>, level: LevelHandle) -> Result<(), GatewayError> {
    let mut signals = Signals::listen()?;
    let mut rooms = Rooms::start(config).await?;
    signals::tell(&[NotifyState::Ready, NotifyState::Status("taking mail")]);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listens = rooms.listening(), socket = %rooms.socket().display(), "ready");
    let mut failed = rooms.failed();
    let mut watchdog = signals::watchdog_interval().map(tokio::time::interval);
    let trouble = loop {
        tokio::select! {
            ask = signals.next() => match ask {
                Ask::Reload => {
                    signals::tell(&[NotifyState::Reloading]);
                    rooms.reload(file.as_deref(), &level);
                    signals::tell(&[NotifyState::Ready]);
                }
                Ask::Stop => break None,
            },
            said = failed.wait() => break Some(said),
            () = tick(watchdog.as_mut()) => signals::tell(&[NotifyState::Watchdog]),
        }
    };
    signals::tell(&[NotifyState::Stopping, NotifyState::Status("letting running transactions finish")]);
    tracing::info!(reason = trouble.as_deref().unwrap_or("asked to"), "stopping");
    let stopped = rooms.stop().await;
    match trouble {
        Some(said) => Err(GatewayError::Broken(said)),
        None => stopped.inspect(|()| tracing::info!("stopped")),
    }
}

/// Waits for the next time at which systemd wants to hear from us; for ever where it does not.
async fn tick(watchdog: Option<&mut tokio::time::Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns at SIGINT or SIGTERM.
pub async fn wait_for_interrupt() {
    if let Ok(mut signals) = Signals::listen() {
        while signals.next().await != Ask::Stop {}
    }
}

/// The configuration of the demo: the defaults, on free ports, with everything in one directory.
pub fn demo_config(dir: &Path) -> Config {
    let mut config = Config::without_file();
    config.server.data_dir = dir.join("data");
    config.admin.socket = Some(dir.join("admin.sock"));
    config.metrics.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    for listener in config.smtp.listeners.iter_mut().chain(&mut config.submission.listeners) {
        listener.bind.set_port(0);
    }
    config
}

/// How long a room may take to end once it was told to, before it is left behind.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);
