//! The octets of one connection, with or without TLS, and the buffer that they are read into.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

/// Where octets come from and go to.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// It is in the hands of the handshake, or was lost there.
    Gone,
}

/// What was read and not used yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    octets: Vec<u8>,
    used: usize,
}

/// The one timer of a connection. Its deadlines mostly move further away, and then it is not taken out of the runtime's
/// timers and put in again, as a timer for every read would be.
pub(super) struct Timer(Pin<Box<Sleep>>);

/// The deadline has passed.
pub(super) struct Late;

/// The most octets of one read.
pub(super) const MOST_AT_ONCE: usize = 64 << 10;
/// How long, and for how many octets, we listen after we closed our side.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 64 << 10);

impl Stream {
    pub(super) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(octets).await,
            Self::Tls(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Closes so that the peer gets our last reply: octets of its own that nobody reads would make the kernel send a
    /// reset, which throws the reply away.
    pub(super) async fn close(&mut self) {
        let closing = async {
            match self {
                Self::Plain(socket) => socket.shutdown().await?,
                Self::Tls(stream) => stream.shutdown().await?,
                Self::Gone => return Ok(()),
            }
            let (mut rest, mut total) = (Input::default(), 0);
            while total < LINGER.1 {
                match rest.fill(self, LINGER.1).await? {
                    0 => break,
                    count => total += count,
                }
                rest.clear();
            }
            io::Result::Ok(())
        };
        // Whatever goes wrong here, the connection is over.
        let _ = tokio::time::timeout(LINGER.0, closing).await;
    }
}

impl Input {
    pub(super) fn waiting(&self) -> &[u8] {
        &self.octets[self.used..]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.octets.len());
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.octets = Vec::new();
        self.used = 0;
    }

    /// Reads once, up to `want` octets; 0 is the end. The octets come over the stack, so that what waits for them takes
    /// no memory: that is what makes thousands of idle connections cheap.
    pub(super) async fn fill(&mut self, stream: &mut Stream, want: usize) -> io::Result<usize> {
        if self.used == self.octets.len() {
            self.octets = Vec::new();
        } else {
            self.octets.drain(..self.used);
        }
        self.used = 0;
        poll_fn(|context| {
            let mut space = [MaybeUninit::uninit(); MOST_AT_ONCE];
            let mut read = ReadBuf::uninit(&mut space[..want.min(MOST_AT_ONCE)]);
            ready!(stream.poll_read(context, &mut read))?;
            self.octets.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
        .await
    }
}

impl Timer {
    pub(super) fn new(deadline: Instant) -> Self {
        Self(Box::pin(sleep_until(deadline)))
    }

    /// Waits for `work`, but no longer than the deadline. Behind the deadline no work is begun: a peer whose octets are
    /// there whenever we look would never be late.
    pub(super) async fn limit<T>(&mut self, deadline: Instant, work: impl Future<Output = T>) -> Result<T, Late> {
        if Instant::now() >= deadline {
            return Err(Late);
        }
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            if self.0.deadline() != deadline {
                self.0.as_mut().reset(deadline);
            }
            self.0.as_mut().poll(context).map(|()| Err(Late))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_is_always_ready_is_late_all_the_same() {
        let now = Instant::now();
        let mut timer = Timer::new(now);
        assert!(timer.limit(now + Duration::from_secs(60), async {}).await.is_ok());
        assert!(timer.limit(now, async {}).await.is_err());
    }
}
