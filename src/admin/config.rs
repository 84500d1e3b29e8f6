//! `[admin]` and `[metrics]`: who may ask us, and where.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// `[admin]`: the admin socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it lies; `admin.sock` in the data directory unless it is given.
    pub socket: Option<PathBuf>,
    /// Its file mode, in octal.
    pub mode: String,
    /// The numeric id of the group that its file belongs to.
    pub group: Option<u32>,
    /// User ids that may do everything, beside root and the daemon's own.
    pub allow_uids: Vec<u32>,
    /// Ids of groups whose members may do everything.
    pub allow_gids: Vec<u32>,
    /// User ids that may read, and change nothing.
    pub read_only_uids: Vec<u32>,
    /// Connections at the same time; further ones wait.
    pub max_connections: usize,
    /// How long a request may take to arrive, and how long its answer may take to begin.
    #[serde(with = "crate::units::duration")]
    pub request_timeout: Duration,
}

/// `[metrics]`: the listener for Prometheus and health checks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    pub enabled: bool,
    /// There is no password: keep it on loopback or in a network of your own.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: None,
            mode: "0660".into(),
            group: None,
            allow_uids: Vec::new(),
            allow_gids: Vec::new(),
            read_only_uids: Vec::new(),
            max_connections: 64,
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from(([127, 0, 0, 1], 9725)) }
    }
}

impl Config {
    /// The socket's mode as a number.
    pub fn socket_mode(&self) -> Result<u32, String> {
        let wrong = || format!("\"{}\" is not a file mode", self.mode);
        let mode = u32::from_str_radix(&self.mode, 8).map_err(|_| wrong())?;
        if mode > 0o777 { Err(wrong()) } else { Ok(mode) }
    }
}
