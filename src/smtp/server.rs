//! The door: takes connections up on any number of listeners, and drains them when the daemon stops.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::net::listen::{Inherited, ListenError, listen};
use crate::net::proxy::{self, Header, Progress};
use crate::net::tls::{self, Acceptor, TlsError};
use crate::net::verify::Verifier;
use crate::shutdown::Shutdown;
use crate::ticket::Directory;

use super::allow::in_networks;
use super::config::{Config, Listener, TlsMode};
use super::connection::{Connection, turn_away};
use super::fault::Fault;
use super::peers::Peers;
use super::session::Tls;
use super::stream::Stream;
use super::submission::Submission;

/// What a reload replaces. Connections keep what they began with.
#[derive(Clone, Debug)]
pub struct Live {
    pub config: Config,
    /// The name we greet with.
    pub host: String,
    pub tls: Option<Acceptor>,
    /// Set at the submission door.
    pub submission: Option<Arc<Submission>>,
}

impl Live {
    /// Reads the certificates, if there are any, and puts together what connections begin with.
    pub fn load(config: &Config, tls: Option<&tls::Config>, host: &str) -> Result<Self, TlsError> {
        let tls = tls.map(Acceptor::load).transpose()?;
        Ok(Self { config: config.clone(), host: host.to_owned(), tls, submission: None })
    }

    /// Makes it what connections at the submission door begin with.
    pub fn at_submission(self, submission: Submission) -> Self {
        Self { submission: Some(Arc::new(submission)), ..self }
    }
}

/// A listener whose socket is open.
#[derive(Debug)]
pub struct BoundListener {
    pub name: String,
    pub tls: TlsMode,
    /// The networks whose PROXY headers are believed; `None` expects no header.
    pub proxy_from: Option<Vec<IpNet>>,
    pub socket: TcpListener,
}

/// The SMTP door, with everything that its connections use.
pub struct Server {
    pub live: Arc<ArcSwap<Live>>,
    pub directory: Arc<ArcSwap<Directory>>,
    pub intake: Intake,
    pub verifier: Verifier,
    pub metrics: Metrics,
    pub clock: Clock,
}

/// What all connections use.
pub(super) struct Door {
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) intake: Intake,
    pub(super) verifier: Verifier,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) peers: Peers,
}

/// How long we wait after a socket could not be taken up, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often peers that are gone are forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Opens the configured listeners, or takes them over from systemd by their names.
pub fn bind(config: &Config, inherited: &mut Inherited) -> Result<Vec<BoundListener>, ListenError> {
    let mut bound = Vec::new();
    for Listener { name, bind, tls, proxy_protocol, proxy_from } in &config.listeners {
        for socket in listen(name, *bind, inherited)? {
            let proxy_from = proxy_protocol.then(|| proxy_from.clone());
            bound.push(BoundListener { name: name.clone(), tls: *tls, proxy_from, socket });
        }
    }
    Ok(bound)
}

impl Server {
    /// Serves until `shutdown`; returns when every connection has ended or `drain_timeout` have passed.
    pub async fn run(self, listeners: Vec<BoundListener>, shutdown: Shutdown) {
        let Self { live, directory, intake, verifier, metrics, clock } = self;
        let door = Arc::new(Door { live, directory, intake, verifier, metrics, clock, peers: Peers::default() });
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept(Arc::new(listener), door.clone(), shutdown.clone()));
        }
        tasks.spawn(tidy(door, shutdown));
        while tasks.join_next().await.is_some() {}
    }
}

async fn tidy(door: Arc<Door>, mut shutdown: Shutdown) {
    while timeout(TIDY_EVERY, shutdown.wait()).await.is_err() {
        door.peers.tidy(&door.live.load().config, Instant::now());
    }
}

/// Takes connections up on one listener, and drains them in the end.
async fn accept(listener: Arc<BoundListener>, door: Arc<Door>, mut shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = shutdown.wait() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, listener = listener.name, "a connection's task failed");
                }
                continue;
            }
            taken = listener.socket.accept() => taken,
        };
        match taken {
            Ok((socket, address)) => {
                connections.spawn(serve(socket, address, listener.clone(), door.clone(), shutdown.clone()));
            }
            Err(error) => {
                warn!(%error, listener = listener.name, "could not take a connection up");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nobody new gets through while the open ones end.
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(door.live.load().config.drain_timeout, drained).await.is_err() {
        info!(left = connections.len(), "closing SMTP connections that did not end in time");
    }
}

async fn serve(
    socket: TcpStream,
    address: SocketAddr,
    listener: Arc<BoundListener>,
    door: Arc<Door>,
    shutdown: Shutdown,
) {
    let live = door.live.load_full();
    let Some(place) = Place::take(&socket, &listener.name, &door, &live) else { return };
    let (tls_mode, proxy_from) = (listener.tls, listener.proxy_from.clone());
    drop(listener);
    if let Some(connection) = Box::pin(open(socket, address, (tls_mode, proxy_from), place, live, shutdown)).await {
        let (connection, _place) = connection;
        connection.run().await;
    }
}

/// What comes before the session: PROXY header, the peer's limits, and TLS where it is implicit.
async fn open(
    mut socket: TcpStream,
    address: SocketAddr,
    (tls_mode, proxy_from): (TlsMode, Option<Vec<IpNet>>),
    mut place: Place,
    live: Arc<Live>,
    shutdown: Shutdown,
) -> Option<(Connection, Place)> {
    let door = place.door.clone();
    let deadline = Instant::now() + live.config.handshake_timeout;
    let mut peer = address.ip().to_canonical();
    if let Some(networks) = proxy_from {
        match client(&mut socket, peer, &networks, deadline).await {
            Ok(Some(client)) => peer = client,
            // A balancer looks whether we are there, every few seconds: nothing to tell or to count.
            Ok(None) => return None,
            Err(why) => {
                door.metrics.smtp_refused(Fault::ProxyHeader.as_str());
                info!(%peer, why, "connection closed");
                return None;
            }
        }
    }
    if let Err(fault) = place.enter(peer, &live.config) {
        if tls_mode != TlsMode::Implicit {
            turn_away(&socket, fault);
        }
        return None;
    }
    let tls = Tls::at_start(tls_mode, live.tls.is_some());
    let stream = if tls == Tls::On {
        let Some(acceptor) = &live.tls else {
            // The configuration's checks refuse such a listener, but a reload leaves the old one open until a restart.
            door.metrics.smtp_refused(Fault::TlsHandshake.as_str());
            info!(%peer, "no TLS: the configuration has no section [tls] any more");
            return None;
        };
        match acceptor.accept(socket, deadline).await {
            Ok((stream, info)) => (Stream::Tls(stream), Some(info)),
            Err(error) => {
                door.metrics.smtp_refused(Fault::TlsHandshake.as_str());
                info!(%peer, %error, "no TLS");
                return None;
            }
        }
    } else {
        (Stream::Plain(socket), None)
    };
    Some((Connection::new(door, live, peer, stream, tls, shutdown), place))
}

/// Whom a proxy speaks for; `None` when it closes without a word. Never reads past the header.
async fn client(
    socket: &mut TcpStream,
    peer: IpAddr,
    networks: &[IpNet],
    deadline: Instant,
) -> Result<Option<IpAddr>, String> {
    if !in_networks(networks, peer) {
        return Err("a PROXY header is expected, and the peer is not in proxy_from".into());
    }
    let mut header = Vec::with_capacity(128);
    loop {
        match proxy::parse(&header).map_err(|error| error.to_string())? {
            Progress::Done(Header::Client(client)) => return Ok(Some(client)),
            Progress::Done(Header::Local) => return Ok(Some(peer)),
            Progress::Need(more) => {
                let have = header.len();
                header.resize(have + more, 0);
                let read = timeout_at(deadline, socket.read_exact(&mut header[have..])).await;
                match read.map_err(|_| "the PROXY header took too long")? {
                    Err(error) if have == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    read => read.map_err(|error| error.to_string())?,
                };
            }
        }
    }
}

/// A connection's place in the counts, given back when it ends however it ends.
struct Place {
    door: Arc<Door>,
    listener: String,
    peer: Option<IpAddr>,
}

impl Place {
    fn take(socket: &TcpStream, listener: &str, door: &Arc<Door>, live: &Live) -> Option<Self> {
        if let Err(fault) = door.peers.open(&live.config) {
            door.metrics.smtp_refused(fault.as_str());
            turn_away(socket, fault);
            return None;
        }
        door.metrics.smtp_connection_opened(listener);
        Some(Self { door: door.clone(), listener: listener.to_owned(), peer: None })
    }

    fn enter(&mut self, peer: IpAddr, config: &Config) -> Result<(), Fault> {
        let entered = self.door.peers.enter(peer, config, Instant::now());
        match entered {
            Ok(()) => self.peer = Some(peer),
            Err(fault) => self.door.metrics.smtp_refused(fault.as_str()),
        }
        entered
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            self.door.peers.leave(peer);
        }
        self.door.peers.close();
        self.door.metrics.smtp_connection_closed(&self.listener);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::verify;
    use crate::store::{self, Store};

    /// 10,000 idle connections must be cheap: this is what each takes besides its socket and small strings.
    #[tokio::test]
    async fn a_connection_is_small() {
        let (_trigger, shutdown) = crate::shutdown::channel();
        let config = Config::default();
        let directory = tempfile::tempdir().unwrap();
        let roomy = store::Config { low_water_bytes: 0, ballast_bytes: 0, ..store::Config::default() };
        let (store, _) = Store::open(directory.path(), &roomy, Clock::system()).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let door = Door {
            live: Arc::new(ArcSwap::from_pointee(Live { config, host: "x".into(), tls: None, submission: None })),
            directory: Arc::default(),
            intake: Intake::new(store, Arc::default(), Arc::default(), Metrics::new()),
            verifier: Verifier::new(&verify::Config { enabled: false, ..verify::Config::default() }, "x"),
            metrics: Metrics::new(),
            clock: Clock::system(),
            peers: Peers::default(),
        };
        let listener = BoundListener { name: "x".into(), tls: TlsMode::Plain, proxy_from: None, socket };
        let task = serve(client, address, Arc::new(listener), Arc::new(door), shutdown);
        assert!(size_of_val(&task) < 2048, "{}", size_of_val(&task));
    }
}
