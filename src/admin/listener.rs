//! Connections of the admin and metrics listeners: who is at the other end, how many there are, and for how long one
//! may stay silent.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::Config;

/// After a failed accept, such as one for want of file descriptors, we wait this long before the next.
const PAUSE: Duration = Duration::from_millis(100);

/// What the peer of a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Full,
    ReadOnly,
    Nothing,
}

/// Who is at the other end of the admin socket (SO_PEERCRED, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub role: Role,
}

/// The bound admin socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminListener {
    listener: UnixListener,
    path: PathBuf,
    config: Config,
    slots: Arc<Semaphore>,
}

/// Why the admin socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{} is the admin socket of a daemon that runs: stop it first, or give this one another data directory", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is no socket: move it away, or set admin.socket to another path", .0.display())]
    NotASocket(PathBuf),
    #[error("the admin socket {} cannot be bound ({source}): check the directory and its permissions", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl AdminListener {
    /// Binds the socket. One that is left over from a crash is removed first, but only if nobody answers on it.
    pub fn bind(path: &Path, config: &Config) -> Result<Self, BindError> {
        let wrap = |source| BindError::Io { path: path.into(), source };
        remove_stale(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(wrap)?;
        }
        let listener = UnixListener::bind(path).map_err(wrap)?;
        if let Some(group) = config.group {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(wrap)?;
        }
        let mode = config.socket_mode().map_err(|said| wrap(io::Error::new(io::ErrorKind::InvalidInput, said)))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(wrap)?;
        let slots = Arc::new(Semaphore::new(config.max_connections));
        Ok(Self { listener, path: path.into(), config: config.clone(), slots })
    }

    fn peer(&self, stream: &UnixStream) -> Peer {
        let Ok(credentials) = stream.peer_cred() else { return Peer { uid: u32::MAX, role: Role::Nothing } };
        let own = rustix::process::geteuid().as_raw();
        // The primary group comes with the credentials; the others are asked for only where groups may do something.
        let mut groups = vec![credentials.gid()];
        if !self.config.allow_gids.is_empty() {
            groups.extend(supplementary_groups(stream));
        }
        Peer { uid: credentials.uid(), role: role(&self.config, own, credentials.uid(), &groups) }
    }
}

/// The most groups of a peer that are looked at.
const MAX_GROUPS: usize = 1_024;

/// The groups that a peer was in when it connected, beside its primary one (SO_PEERGROUPS, unix(7)); none where the kernel
/// does not say.
fn supplementary_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups: Vec<libc::gid_t> = vec![0; MAX_GROUPS];
    let mut length = libc::socklen_t::try_from(std::mem::size_of_val(groups.as_slice())).unwrap_or_default();
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and the kernel writes at most `length` octets
    // into a vector that has as many, and then says how many those were (getsockopt(2)).
    #[allow(unsafe_code)]
    let refused = unsafe {
        let into = groups.as_mut_ptr().cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, into, &raw mut length)
    };
    let known = if refused == 0 { length as usize / size_of::<libc::gid_t>() } else { 0 };
    groups.truncate(known);
    groups
}

/// What a peer may do, from its ids.
fn role(config: &Config, own: u32, uid: u32, groups: &[u32]) -> Role {
    let by_group = || groups.iter().any(|group| config.allow_gids.contains(group));
    if uid == 0 || uid == own || config.allow_uids.contains(&uid) || by_group() {
        Role::Full
    } else if config.read_only_uids.contains(&uid) {
        Role::ReadOnly
    } else {
        Role::Nothing
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        // The next start removes what is left over.
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.into()));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(BindError::InUse(path.into()));
    }
    fs::remove_file(path).map_err(|source| BindError::Io { path: path.into(), source })
}

impl axum::serve::Listener for AdminListener {
    type Io = Held<UnixStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let slot = slot(&self.slots).await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let peer = self.peer(&stream);
                    return (Held::new(stream, slot, self.config.request_timeout), peer);
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: rustix::process::geteuid().as_raw(), role: Role::Full })
    }
}

impl Connected<IncomingStream<'_, AdminListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, AdminListener>) -> Self {
        *stream.remote_addr()
    }
}

/// A TCP listener with the same limits.
#[derive(Debug)]
pub struct LimitedTcp {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    idle: Duration,
}

impl LimitedTcp {
    pub fn new(listener: TcpListener, max_connections: usize, idle: Duration) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(max_connections)), idle }
    }
}

impl axum::serve::Listener for LimitedTcp {
    type Io = Held<tokio::net::TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let slot = slot(&self.slots).await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (Held::new(stream, slot, self.idle), peer),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Waits for a free place. Nobody closes the semaphore, so the error is only for form.
async fn slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    slots.clone().acquire_owned().await.ok()
}

/// A connection that holds its place, and fails once nothing moved in either direction for some time.
#[derive(Debug)]
pub struct Held<S> {
    stream: S,
    _slot: Option<OwnedSemaphorePermit>,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Held<S> {
    fn new(stream: S, slot: Option<OwnedSemaphorePermit>, idle: Duration) -> Self {
        Self { stream, _slot: slot, idle, deadline: Box::pin(tokio::time::sleep(idle)) }
    }

    /// Passes on what happened; progress moves the deadline, a wait beyond it is an error.
    fn watched<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline.as_mut().reset(Instant::now() + self.idle);
            return polled;
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_come_from_ids() {
        let config =
            Config { allow_uids: vec![10], allow_gids: vec![20], read_only_uids: vec![30], ..Config::default() };
        let table = [
            (0, 0, Role::Full),
            (5, 5, Role::Full),
            (10, 1, Role::Full),
            (1, 20, Role::Full),
            (30, 1, Role::ReadOnly),
            (31, 1, Role::Nothing),
        ];
        for (uid, gid, want) in table {
            assert_eq!(role(&config, 5, uid, &[gid]), want, "{uid}:{gid}");
        }
        assert_eq!(role(&config, 5, 31, &[1, 20]), Role::Full, "by another group than the primary one");
    }

    #[tokio::test]
    async fn the_groups_of_a_peer_are_those_of_its_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut want: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        let mut got = supplementary_groups(&ours);
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, want);
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = AdminListener::bind(&path, &Config::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(AdminListener::bind(&path, &Config::default()), Err(BindError::InUse(_))));
        drop(live);
        assert!(!path.exists());
        fs::write(&path, "no socket").unwrap();
        assert!(matches!(AdminListener::bind(&path, &Config::default()), Err(BindError::NotASocket(_))));
    }
}
