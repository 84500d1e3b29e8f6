//! Listening sockets: bound by ourselves, or taken over from systemd by name.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::net::sockopt::set_tcp_nodelay;
use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be taken up.
const BACKLOG: u32 = 1024;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("listener {name:?}: cannot listen on {address}: {source}; {}", advice(.source))]
    Bind { name: String, address: SocketAddr, source: std::io::Error },
    #[error("listener {name:?}: the socket passed by systemd cannot be used: {source}")]
    Inherited { name: String, source: std::io::Error },
    #[error("the sockets passed by systemd cannot be read: {0}")]
    Systemd(std::io::Error),
}

/// What to do about an address that cannot be bound.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "`ss -ltnp` names who listens there: stop it, or set another address or port",
        ErrorKind::PermissionDenied => "for a port under 1024 let systemd pass the socket, or set a port over 1023",
        ErrorKind::AddrNotAvailable => "this machine has no such address: set one that it has",
        _ => "set another address or port",
    }
}

/// The sockets that systemd passed to this process, by the name in their `FileDescriptorName=`.
#[derive(Debug, Default)]
pub struct Inherited(HashMap<String, Vec<OwnedFd>>);

impl Inherited {
    /// No sockets: everything is bound by ourselves.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes the sockets over. Call it once, before anything else could use their numbers.
    pub fn from_systemd() -> Result<Self, ListenError> {
        let mut sockets: HashMap<String, Vec<OwnedFd>> = HashMap::new();
        for (number, name) in sd_notify::listen_fds_with_names().map_err(ListenError::Systemd)? {
            // SAFETY: systemd's protocol gives these descriptors to this process and to nobody else in it; this is
            // the only place that takes them.
            #[allow(unsafe_code)]
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            sockets.entry(name).or_default().push(socket);
        }
        Ok(Self(sockets))
    }

    /// Takes all sockets of one name; empty when there is none.
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        self.0.remove(name).unwrap_or_default()
    }

    /// The names that nobody took: most likely a listener's name that is spelled differently in the socket unit.
    pub fn left_over(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The listeners of one name: those that systemd passed, or one bound to `address`. Must run inside a runtime.
///
/// Their connections send at once what is written (on Linux they inherit this): replies are written whole, so waiting to
/// fill a packet only costs time.
pub fn listen(name: &str, address: SocketAddr, inherited: &mut Inherited) -> Result<Vec<TcpListener>, ListenError> {
    let passed = inherited.take(name);
    if passed.is_empty() {
        let bound = bind(address).map_err(|source| ListenError::Bind { name: name.to_owned(), address, source })?;
        return Ok(vec![bound]);
    }
    passed
        .into_iter()
        .map(|socket| adopt(socket).map_err(|source| ListenError::Inherited { name: name.to_owned(), source }))
        .collect()
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old connections' last minutes.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

fn adopt(socket: OwnedFd) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    listener.local_addr()?;
    set_tcp_nodelay(&listener, true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_passed_socket_is_used_and_otherwise_one_is_bound() {
        let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let mut inherited = Inherited(HashMap::from([("smtp".to_owned(), vec![OwnedFd::from(passed)])]));
        let elsewhere = "127.0.0.1:0".parse().unwrap();
        assert_eq!(listen("smtp", elsewhere, &mut inherited).unwrap()[0].local_addr().unwrap(), address);
        assert_eq!(inherited.left_over().count(), 0);
        let bound = listen("smtp", elsewhere, &mut inherited).unwrap();
        let taken = bound[0].local_addr().unwrap();
        let error = listen("second", taken, &mut inherited).unwrap_err().to_string();
        assert!(error.starts_with(&format!("listener \"second\": cannot listen on {taken}: ")), "{error}");
        assert!(error.ends_with("stop it, or set another address or port"), "{error}");
    }
}
