//! A connection that gives its reader at most one line at a time, and remembers the lines of a reply as they came.
//!
//! The client library reads a kilobyte at once and forgets what stands behind the first reply in it, which is the next
//! reply when commands are pipelined; and it cuts the parts of an enhanced code at 255, so that 5.7.708 is lost. With
//! one line a read it can forget nothing, and the reply is read again from what was remembered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most octets of one reply. RFC 5321 section 4.5.3.1.5 knows lines of 512; some servers send a page of advice.
const LONGEST_REPLY: usize = 8 << 10;

/// How much is read from the connection at once.
const CHUNK: usize = 1 << 10;

/// The connection.
#[derive(Debug)]
pub struct Lines<S> {
    inner: S,
    /// Read, and not given out yet.
    ahead: Vec<u8>,
    /// Given out since the last reply was taken.
    reply: Vec<u8>,
}

impl<S> Lines<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, ahead: Vec::new(), reply: Vec::new() }
    }

    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The bare connection, unless something was read ahead: what came in clear must not be taken for what comes under
    /// TLS.
    pub fn into_inner(self) -> Option<S> {
        self.ahead.is_empty().then_some(self.inner)
    }

    /// The lines that were given out since this was last asked.
    pub fn take_reply(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply)
    }

    /// Moves octets up to the end of the first line into the reader's buffer.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let line = memchr::memchr(b'\n', &self.ahead).map_or(self.ahead.len(), |at| at + 1);
        let taken = line.min(buf.remaining());
        if self.reply.len() + taken > LONGEST_REPLY {
            return Err(io::Error::other(format!("a reply of over {LONGEST_REPLY} octets")));
        }
        self.reply.extend_from_slice(&self.ahead[..taken]);
        buf.put_slice(&self.ahead[..taken]);
        self.ahead.drain(..taken);
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lines<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            let mut chunk = [0u8; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => this.ahead.extend_from_slice(read.filled()),
                other => return other,
            }
        }
        Poll::Ready(this.hand_out(buf))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lines<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_read_gives_one_line_and_a_reply_is_bounded() {
        let mut lines = Lines::new(&b"250-a\r\n250 b\r\n354 go"[..]);
        let mut buffer = [0u8; 64];
        for want in ["250-a\r\n", "250 b\r\n", "354 go"] {
            let read = lines.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], want.as_bytes());
            assert_eq!(lines.take_reply(), want.as_bytes());
        }
        let endless = vec![b'x'; 2 * LONGEST_REPLY];
        let mut lines = Lines::new(&endless[..]);
        let mut all = Vec::new();
        assert!(lines.read_to_end(&mut all).await.is_err());
        assert!(all.len() <= LONGEST_REPLY);
    }
}
