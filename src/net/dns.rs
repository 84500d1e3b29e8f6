//! The resolver: which name servers are asked, and how long they may take.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use serde::Deserialize;

/// How many answers are kept until they expire.
const CACHED_ANSWERS: u64 = 2048;

/// `[verify.dns]`: the name servers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name servers to ask, as `address:port`. Empty means those of the system (`/etc/resolv.conf`).
    pub name_servers: Vec<SocketAddr>,
    /// How long one question may take.
    #[serde(with = "crate::units::duration")]
    pub query_timeout: Duration,
    /// How often a question is asked before it counts as unanswered.
    pub attempts: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { name_servers: Vec::new(), query_timeout: Duration::from_secs(2), attempts: 2 }
    }
}

/// Builds a resolver. It opens no socket before the first question.
pub fn resolver(config: &Config) -> Result<TokioResolver, NetError> {
    let (servers, mut options) = if config.name_servers.is_empty() {
        read_system_conf()?
    } else {
        (ResolverConfig::from_parts(None, Vec::new(), servers(&config.name_servers)), ResolverOpts::default())
    };
    options.timeout = config.query_timeout.max(Duration::from_millis(1));
    options.attempts = config.attempts.max(1);
    options.cache_size = CACHED_ANSWERS;
    options.edns0 = true;
    TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default()).with_options(options).build()
}

fn servers(addresses: &[SocketAddr]) -> Vec<NameServerConfig> {
    addresses
        .iter()
        .map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        })
        .collect()
}
