//! What the operating system and systemd say to the daemon, and what it says back.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the daemon is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read the configuration again.
    Reload,
    /// Finish what runs, take nothing new, end.
    Stop,
}

/// The signals that are listened for: SIGHUP, SIGTERM, SIGINT.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen; from here on none of these ends the process by itself.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next thing that is asked for.
    pub async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.hangup.recv() => Ask::Reload,
            _ = self.terminate.recv() => Ask::Stop,
            _ = self.interrupt.recv() => Ask::Stop,
        }
    }
}

/// Tells systemd a state, if it listens. Not being run by systemd is no trouble.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(trouble) = sd_notify::notify(states) {
        tracing::debug!(%trouble, "systemd was not told");
    }
}

/// How often to tell systemd that all is well: half of what it waits for, if it waits at all.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}
