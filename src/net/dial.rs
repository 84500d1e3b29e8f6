//! TCP to a host that may have several addresses, of which some may be dead (RFC 8305).
//!
//! Must not know: what is spoken, and how long the caller is willing to wait.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long one address is waited for before the next is tried beside it (RFC 8305 section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Of a name with more addresses than this, the rest is not tried.
const MOST: usize = 16;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the name cannot be looked up: {0}")]
    Dns(String),
    #[error("{0}")]
    Unreachable(io::Error),
}

/// Host and port as URLs write them: an address of IPv6 has brackets (RFC 3986 section 3.2.2).
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A connection to the first address that answers. The caller bounds the time.
pub(super) async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| DialError::Dns(error.to_string()))?;
    first(in_turns(found.take(MOST).collect())).await
}

/// The families in turns, beginning with the one that the resolver put first (RFC 8305 section 4).
fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == preferred);
    let longest = one.len().max(other.len());
    (0..longest).flat_map(|n| [one.get(n).copied(), other.get(n).copied()]).flatten().collect()
}

/// Tries the addresses in order: the next as soon as one has failed, or has not answered for a moment. So a dead
/// address costs that moment, and not the caller's whole patience.
async fn first(addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.into_iter();
    let mut tries = JoinSet::new();
    let mut failed = DialError::Dns("it has no address".into());
    loop {
        if let Some(address) = waiting.next() {
            tries.spawn(TcpStream::connect(address));
        }
        let others = waiting.len() > 0;
        tokio::select! {
            done = tries.join_next() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failed = DialError::Unreachable(error),
                Some(Err(error)) => failed = DialError::Unreachable(io::Error::other(error)),
                None => return Err(failed),
            },
            () = tokio::time::sleep(STAGGER), if others => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    /// A listener whose queue is full, so that it answers nobody; with what keeps it full.
    async fn dead() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(stream) = timeout(STAGGER / 2, TcpStream::connect(address)).await {
            held.push(stream.unwrap());
            assert!(held.len() < 64, "the queue never fills");
        }
        (address, listener, held)
    }

    #[tokio::test]
    async fn dead_addresses_do_not_use_up_the_time() {
        let (dead, _listener, _held) = dead().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = alive.local_addr().unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let patience = Duration::from_secs(5);
        for addresses in [vec![dead, good], vec![dead, refused, dead, good], vec![refused, good], vec![good, dead]] {
            let stream = timeout(patience, first(addresses)).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
        }
        assert!(matches!(first(vec![refused, refused]).await, Err(DialError::Unreachable(_))));
        assert!(matches!(first(Vec::new()).await, Err(DialError::Dns(_))));
        assert!(timeout(STAGGER, first(vec![dead])).await.is_err(), "waiting is the caller's");
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        assert_eq!(in_turns(found), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]));
        assert_eq!(in_turns(parse(&["1.1.1.1:1", "[::1]:1"])), parse(&["1.1.1.1:1", "[::1]:1"]));
        assert_eq!(in_turns(Vec::new()), Vec::new());
        assert_eq!((authority("::1", 1), authority("h", 2)), ("[::1]:1".into(), "h:2".into()));
    }
}
