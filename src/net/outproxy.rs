//! Going out by way of a proxy: SOCKS5 (RFC 1928) and HTTP CONNECT (RFC 9110 section 9.3.6).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use url::Url;

/// The longest answer of an HTTP proxy that is read.
const ANSWER: usize = 8 << 10;

/// A proxy's address as it was configured. It may hold a password, so `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct ProxyAddress(String);

impl From<&str> for ProxyAddress {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyAddress")
    }
}

/// A proxy; shown without its password.
#[derive(Debug)]
pub struct Proxy {
    kind: Kind,
    /// A name or an address; one of IPv6 without its brackets.
    host: String,
    port: u16,
    login: Option<(String, SecretString)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Socks5,
    Http,
}

impl Proxy {
    /// Reads an address such as `socks5://user:password@host:1080`. The error does not repeat it.
    pub fn parse(address: &ProxyAddress) -> Result<Self, String> {
        let wrong = || "write it as socks5://host:port or http://host:port".to_owned();
        let url = Url::parse(&address.0).map_err(|_| wrong())?;
        let (kind, port) = match url.scheme() {
            "socks5" => (Kind::Socks5, 1080),
            "http" => (Kind::Http, 8080),
            _ => return Err(wrong()),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned();
        let login = (!url.username().is_empty())
            .then(|| (url.username().to_owned(), SecretString::from(url.password().unwrap_or_default().to_owned())));
        Ok(Self { kind, host, port: url.port().unwrap_or(port), login })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A connection through the proxy. The host's name is looked up by the proxy. The caller bounds the time.
pub async fn connect(proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await.map_err(|error| error.to_string())?;
    match proxy.kind {
        Kind::Socks5 => {
            let tunnel = match &proxy.login {
                Some((user, password)) => {
                    let password = password.expose_secret();
                    Socks5Stream::connect_with_password_and_socket(stream, (host, port), user, password).await
                }
                None => Socks5Stream::connect_with_socket(stream, (host, port)).await,
            };
            tunnel.map(Socks5Stream::into_inner).map_err(|error| error.to_string())
        }
        Kind::Http => http(stream, proxy, host, port).await,
    }
}

async fn http(mut stream: TcpStream, proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, String> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some((user, password)) = &proxy.login {
        let login = BASE64_STANDARD.encode(format!("{user}:{}", password.expose_secret()));
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    // Byte by byte: what follows the answer's end belongs to the server behind the proxy.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER {
            return Err("its answer is too long".into());
        }
        answer.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let granted = line.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
    if granted { Ok(stream) } else { Err(format!("it answered \"{line}\"")) }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that expects these bytes and answers with those, a pair a step, then echoes one byte.
    async fn scripted(steps: Vec<(Vec<u8>, Vec<u8>)>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            for (wanted, answer) in steps {
                let mut got = vec![0; wanted.len()];
                socket.read_exact(&mut got).await.unwrap();
                assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&wanted));
                socket.write_all(&answer).await.unwrap();
            }
            let byte = socket.read_u8().await.unwrap_or(0);
            let _ = socket.write_u8(byte).await;
        });
        port
    }

    #[tokio::test]
    async fn both_kinds_lead_to_the_server_or_say_why_not() {
        let asked =
            b"CONNECT imap.example:993 HTTP/1.1\r\nHost: imap.example:993\r\nProxy-Authorization: Basic dTpw\r\n\r\n";
        let socks = [&[5, 1, 0, 3, 12][..], b"imap.example", &[3, 225]].concat();
        let yes = vec![5, 0, 0, 1, 127, 0, 0, 1, 0, 1];
        let no = vec![5, 2, 0, 1, 127, 0, 0, 1, 0, 1];
        let table = [
            ("http://u:p@", vec![(asked.to_vec(), b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n".to_vec())], None),
            ("http://u:p@", vec![(asked.to_vec(), b"HTTP/1.1 403 No\r\n\r\n".to_vec())], Some("HTTP/1.1 403 No")),
            ("socks5://", vec![(vec![5, 1, 0], vec![5, 0]), (socks.clone(), yes)], None),
            ("socks5://", vec![(vec![5, 1, 0], vec![5, 0]), (socks, no)], Some("not allowed")),
        ];
        for (scheme, steps, want) in table {
            let port = scripted(steps).await;
            let proxy = Proxy::parse(&format!("{scheme}127.0.0.1:{port}").as_str().into()).unwrap();
            match (connect(&proxy, "imap.example", 993).await, want) {
                (Ok(mut stream), None) => {
                    stream.write_u8(9).await.unwrap();
                    assert_eq!(stream.read_u8().await.unwrap(), 9);
                }
                (Err(said), Some(want)) => assert!(said.contains(want), "{said}"),
                (got, want) => panic!("{got:?} instead of {want:?}"),
            }
        }
        assert!(!format!("{:?}", Proxy::parse(&"http://u:hush@h:1".into()).unwrap()).contains("hush"));
    }
}
