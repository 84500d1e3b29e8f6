//! Replies of an SMTP server are read the same however they arrive, and what they say is what came.
//!
//! The first byte says how large the pieces are, the rest is what the server says.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use mail_send::SmtpClient;
use ticketgate::relay::lines::Lines;
use ticketgate::relay::{RecipientOutcome, Reply};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

pub fn run(data: &[u8]) {
    let Some((&piece, said)) = data.split_first() else { return };
    let whole = replies(said, said.len().max(1));
    assert_eq!(whole, replies(said, usize::from(piece).max(1)), "a reply depends on how it came");
    for reply in whole {
        assert!((200..600).contains(&reply.code), "{reply:?}");
        if let Some(status) = &reply.enhanced {
            assert_eq!(status.bytes().next().map(|class| u16::from(class - b'0')), Some(reply.code / 100));
        }
        let shown = reply.to_string();
        assert!(!shown.contains(['\r', '\n']), "{shown:?}");
        let throttles = reply.throttles();
        match reply.clone().outcome() {
            RecipientOutcome::Relayed(_) => assert!(reply.is_positive()),
            RecipientOutcome::Failed(_) => assert!(reply.code >= 500 && !throttles),
            RecipientOutcome::Delayed(_) => assert!(reply.code < 500 || throttles),
            RecipientOutcome::Ambiguous(_) => panic!("a reply leaves nothing open: {reply:?}"),
        }
    }
}

/// The replies until one is none, as a connection reads them.
fn replies(said: &[u8], piece: usize) -> Vec<Reply> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
    let stream = Lines::new(Pieces { rest: said.to_vec(), piece });
    let mut smtp = SmtpClient { stream, timeout: Duration::from_secs(60) };
    let mut found = Vec::new();
    runtime.block_on(async {
        while smtp.read().await.is_ok() {
            let raw = smtp.stream.take_reply();
            assert!(raw.len() <= 8 << 10);
            let Some(reply) = Reply::parse(&raw) else { break };
            assert!(reply.text.len() <= 3 * raw.len());
            found.push(reply);
        }
    });
    found
}

/// A connection that brings so many bytes at once, and ends.
struct Pieces {
    rest: Vec<u8>,
    piece: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let most = self.piece.min(self.rest.len()).min(buf.remaining());
        buf.put_slice(&self.rest[..most]);
        self.rest.drain(..most);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
