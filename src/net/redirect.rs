//! A tiny web server for the one page that a browser lands on after somebody has consented (RFC 8252 section 7.3).
//!
//! It answers GET for whatever target its handler knows, one request a connection. Everything is bounded: the request
//! in bytes and time, the connections in number. Must not know: what the target means.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest request that is read, header section included: a code and a state have a few hundred octets each, and
/// browsers add their cookies for the host.
const LONGEST: usize = 32 << 10;
/// How long the request may take to arrive, and the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at the same time; browsers open some in advance and say nothing on them.
const AT_ONCE: usize = 32;

/// What the browser is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub kind: PageKind,
    pub title: String,
    /// Plain text, a paragraph each.
    pub text: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// How the authorisation ended, well or not.
    Told,
    /// Nobody waits for this answer.
    Unasked,
    /// The target is none of ours.
    Unknown,
}

impl Page {
    pub fn unknown() -> Self {
        let text = vec!["This address answers only those who come back from signing in.".into()];
        Self { kind: PageKind::Unknown, title: "Nothing here".into(), text }
    }

    fn response(&self) -> String {
        let status = match self.kind {
            PageKind::Told => "200 OK",
            PageKind::Unasked => "400 Bad Request",
            PageKind::Unknown => "404 Not Found",
        };
        let paragraphs: String = self.text.iter().map(|text| format!("<p>{}</p>\n", escape(text))).collect();
        let title = escape(&self.title);
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
             <body><h1>{title}</h1>\n{paragraphs}</body></html>\n"
        );
        respond(status, "text/html; charset=utf-8", &body)
    }
}

/// The referrer would carry code and state to whatever the page led to; it leads nowhere, and says so twice.
fn respond(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Referrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Serves until it is dropped; the handler is given the target of each GET, such as `/?code=…&state=…`.
pub async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(String) -> F + Clone + Send + 'static,
    F: Future<Output = Page> + Send,
{
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    // Dropping the set ends its tasks, so nothing is left over when nobody listens any more.
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = listener.accept().await;
        while tasks.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let handler = handler.clone();
                tasks.spawn(async move {
                    let _slot = slot;
                    answer(stream, handler).await;
                });
            }
            // Such as for want of file descriptors.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer<H, F>(mut stream: TcpStream, handler: H)
where
    H: Fn(String) -> F,
    F: Future<Output = Page>,
{
    let Ok(Some(head)) = timeout(PATIENCE, head(&mut stream)).await else { return };
    let response = match target(&head) {
        Ok(target) => handler(target).await.response(),
        Err(status) => respond(status, "text/plain; charset=utf-8", "This server answers only GET.\n"),
    };
    // A browser that has gone wants no answer.
    let _ = timeout(PATIENCE, async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// The header section of a request; None where the peer ends, or says too much.
async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0u8; 2048];
    while head.len() <= LONGEST {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(&chunk[..read]);
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            return Some(head);
        }
    }
    None
}

/// The target of the request line (RFC 9112 section 3), which must be in origin form.
fn target(head: &[u8]) -> Result<String, &'static str> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| "400 Bad Request")?;
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("GET"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) if target.starts_with('/') => {
            Ok(target.to_owned())
        }
        (Some(_), Some(_), Some("HTTP/1.1" | "HTTP/1.0"), None) => Err("405 Method Not Allowed"),
        _ => Err("400 Bad Request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, |target: String| async move {
            if target != "/?code=1" {
                return Page::unknown();
            }
            Page { kind: PageKind::Told, title: "Done <b>".into(), text: vec!["a & b".into()] }
        }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut text = Vec::new();
        // The server may end before it has read all of it.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut text).await;
        server.abort();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn requests_are_answered_once_and_escaped() {
        let table: [(&[u8], &str, &str); 6] = [
            (b"GET /?code=1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200", "<h1>Done &lt;b&gt;</h1>\n<p>a &amp; b</p>"),
            (b"GET /favicon.ico HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "Nothing here"),
            (b"POST /?code=1 HTTP/1.1\r\n\r\n", "HTTP/1.1 405", "only GET"),
            (b"GET http://x/ HTTP/1.1\r\n\r\n", "HTTP/1.1 405", "only GET"),
            (b"\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400", "only GET"),
            (b"GET / HTTP/1.1\r\nx: ", "", ""),
        ];
        for (request, status, body) in table {
            let mut request = request.to_vec();
            if status.is_empty() {
                request.resize(2 * LONGEST, b'y');
            }
            let text = ask(&request).await;
            assert!(text.starts_with(status) && text.contains(body), "{text}");
            assert!(text.is_empty() || text.contains("Connection: close"), "{text}");
        }
    }
}
