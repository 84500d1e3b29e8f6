//! Going out by way of a proxy: SOCKS5 (RFC 1928) and HTTP CONNECT (RFC 9110 section 9.3.6).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use url::{Host, Url};

use super::dial::{self, authority};

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
        let host = match url.host().ok_or_else(wrong)? {
            Host::Domain("") => return Err(wrong()),
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let login = if url.username().is_empty() {
            None
        } else {
            let undecodable = || "its user or password holds a % that begins no character".to_owned();
            let user = decoded(url.username()).ok_or_else(undecodable)?;
            let password = decoded(url.password().unwrap_or_default()).ok_or_else(undecodable)?;
            Some((user, SecretString::from(password)))
        };
        Ok(Self { kind, host, port: url.port().unwrap_or(port), login })
    }
}

/// Undoes percent-encoding (RFC 3986 section 2.1), which a user or password with `@`, `:` or `/` needs in a URL.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

/// A connection through the proxy. The host's name is looked up by the proxy. The caller bounds the time.
pub async fn connect(proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = dial::tcp(&proxy.host, proxy.port).await.map_err(|error| error.to_string())?;
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
    let target = authority(host, port);
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
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
    }

    #[test]
    fn addresses_are_read_with_their_escapes_and_brackets_and_never_shown() {
        let table = [
            ("socks5://h:1", Ok(("h:1", None))),
            ("socks5://h", Ok(("h:1080", None))),
            ("http://[::1]:3128", Ok(("[::1]:3128", None))),
            ("socks5://[2001:db8::7]", Ok(("[2001:db8::7]:1080", None))),
            ("socks5://127.0.0.1:9", Ok(("127.0.0.1:9", None))),
            ("http://u%40x:p%3A%2F+%25@h:1", Ok(("h:1", Some(("u@x", "p:/+%"))))),
            ("socks5://u:p%C3%A4@h:1", Ok(("h:1", Some(("u", "p\u{e4}"))))),
            ("socks5://u:hush%zz@h:1", Err("begins no character")),
            ("ftp://u:hush@h", Err("socks5://host:port")),
            ("h:1", Err("socks5://host:port")),
        ];
        for (text, want) in table {
            let address = ProxyAddress::from(text);
            assert!(!format!("{address:?}").contains("hush"));
            match (Proxy::parse(&address), want) {
                (Ok(proxy), Ok((shown, login))) => {
                    assert_eq!(proxy.to_string(), shown);
                    assert!(Host::parse(&proxy.host).is_ok() || proxy.host.parse::<std::net::IpAddr>().is_ok());
                    let got = proxy.login.as_ref().map(|(user, password)| (user.as_str(), password.expose_secret()));
                    assert_eq!(got, login, "{text}");
                }
                (Err(said), Err(part)) => assert!(said.contains(part) && !said.contains("hush"), "{said}"),
                (got, want) => panic!("{text}: {got:?} instead of {want:?}"),
            }
        }
        assert!(!format!("{:?}", Proxy::parse(&"http://u:hush@h:1".into()).unwrap()).contains("hush"));
    }
}
