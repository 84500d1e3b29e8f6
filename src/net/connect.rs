//! Outgoing connections: name look-up, TCP, TLS with the server's certificate checked, by way of a proxy if need be.
//!
//! Must not know: what is spoken over them.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::{self, DialError, authority};
use super::outproxy::{self, Proxy};
use super::pinned::Pinned;
use super::trust::{Trust, TrustVerifier};
use crate::files;

pub use super::outproxy::ProxyAddress;

/// How to reach servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectConfig {
    /// Certificates of authorities to trust beside those of the system, in PEM.
    pub ca_file: Option<PathBuf>,
    /// `socks5://[user:password@]host:port` or `http://[user:password@]host:port`.
    pub proxy: Option<ProxyAddress>,
    /// How long one connection may take to be made, name look-up and TLS included.
    pub timeout: Duration,
}

/// Why a connection was not made. The texts name host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("the name {host} cannot be looked up: {said}")]
    Dns { host: String, said: String },
    #[error("{target} cannot be reached: {said}")]
    Unreachable { target: String, said: String },
    #[error("{target} did not answer within {seconds} s")]
    Timeout { target: String, seconds: u64 },
    #[error("TLS with {target} failed: {said}")]
    Tls { target: String, said: String },
    #[error("the certificate of {target} is not accepted: {said}")]
    Certificate { target: String, said: String },
    /// Its certificate is not valid yet: most likely a clock is wrong, ours or theirs.
    #[error("the certificate of {target} is not valid yet: {said}")]
    NotYetValid { target: String, said: String },
    #[error("the proxy {proxy} failed: {said}")]
    Proxy { proxy: String, said: String },
    #[error("{}: {said}", path.display())]
    Authorities { path: PathBuf, said: String },
}

/// Makes connections; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    proxy: Option<Arc<Proxy>>,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("proxy", &self.proxy).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Connectors by their configuration: those that are configured alike share what they trust, which is large.
#[derive(Clone, Debug, Default)]
pub struct Connectors(Arc<Mutex<Vec<(ConnectConfig, Connector)>>>);

impl Connectors {
    /// The connector of a configuration, made at its first use.
    pub fn get(&self, config: &ConnectConfig) -> Result<Connector, ConnectError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = known.iter().find(|(theirs, _)| theirs == config) {
            return Ok(connector.clone());
        }
        let connector = Connector::new(config)?;
        known.push((config.clone(), connector.clone()));
        Ok(connector)
    }

    /// Forgets them all, so that files of authorities are read again.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Connector {
    /// Reads the authorities and the proxy's address.
    pub fn new(config: &ConnectConfig) -> Result<Self, ConnectError> {
        let extra = match &config.ca_file {
            Some(path) => authorities(path)?,
            None => Vec::new(),
        };
        let wrong = |said: String| ConnectError::Authorities {
            path: config.ca_file.clone().unwrap_or_else(|| "the system's certificate store".into()),
            said,
        };
        let provider = Arc::new(ring::default_provider());
        let chains =
            Verifier::new_with_extra_roots(extra.clone(), provider.clone()).map_err(|e| wrong(e.to_string()))?;
        let verifier = Pinned { named: extra, beneath: Arc::new(chains) };
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            // This verifier checks chain, name and dates by the platform's rules; only its type is not the built-in one.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let proxy = config
            .proxy
            .as_ref()
            .map(Proxy::parse)
            .transpose()
            .map_err(|said| ConnectError::Proxy { proxy: "of the configuration".into(), said })?;
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), proxy: proxy.map(Arc::new), timeout: config.timeout })
    }

    /// A connection without TLS.
    pub async fn plain(&self, host: &str, port: u16) -> Result<Stream, ConnectError> {
        let target = authority(host, port);
        let deadline = Instant::now() + self.timeout;
        let connected = timeout_at(deadline, self.tcp(host, port)).await;
        let stream = connected.map_err(|_| self.late(target.clone()))??;
        // Commands are small and each is waited for.
        let _ = stream.set_nodelay(true);
        Ok(Stream::Plain(stream))
    }

    /// A connection with TLS from its first byte on.
    pub async fn tls(&self, host: &str, port: u16) -> Result<Stream, ConnectError> {
        let stream = self.plain(host, port).await?;
        self.upgrade(stream, host, port).await
    }

    /// Begins TLS on a connection whose plain part is over.
    pub async fn upgrade(&self, stream: Stream, host: &str, port: u16) -> Result<Stream, ConnectError> {
        let target = authority(host, port);
        let Stream::Plain(stream) = stream else { return Ok(stream) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ConnectError::Tls { target: target.clone(), said: "this is no name of a server".into() })?;
        let deadline = Instant::now() + self.timeout;
        let handshake = timeout_at(deadline, self.tls.connect(name, stream)).await;
        match handshake.map_err(|_| self.late(target.clone()))? {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(tls_error(target, &error)),
        }
    }

    fn late(&self, target: String) -> ConnectError {
        ConnectError::Timeout { target, seconds: self.timeout.as_secs() }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        if let Some(proxy) = &self.proxy {
            let failed = |said| ConnectError::Proxy { proxy: proxy.to_string(), said };
            return outproxy::connect(proxy, host, port).await.map_err(failed);
        }
        dial::tcp(host, port).await.map_err(|error| match error {
            DialError::Dns(said) => ConnectError::Dns { host: host.to_owned(), said },
            DialError::Unreachable(error) => {
                ConnectError::Unreachable { target: authority(host, port), said: error.to_string() }
            }
        })
    }

    /// The same with other certificates believed than those of the platform's authorities.
    pub fn trusting(&self, trust: Trust) -> Result<Self, ConnectError> {
        let provider = Arc::new(ring::default_provider());
        let wrong = |error: rustls::Error| ConnectError::Tls { target: "a server".into(), said: error.to_string() };
        let tls = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustVerifier::new(trust, provider)))
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), ..self.clone() })
    }

    /// The same without the proxy, for hosts that only this machine can reach.
    pub fn direct(&self) -> Self {
        Self { proxy: None, ..self.clone() }
    }
}

/// Whether a host is this machine itself, so that nothing that is sent to it can be overheard.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let wrong = |said: String| ConnectError::Authorities { path: path.to_owned(), said };
    let text = files::read(path, files::LONGEST).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong("no certificate in PEM".into())),
        Err(error) => Err(wrong(format!("broken PEM: {error}"))),
    }
}

/// Tells a certificate that is not accepted from other trouble of the handshake.
fn tls_error(target: String, error: &io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => ConnectError::NotYetValid { target, said: error.to_string() },
        Some(rustls::Error::InvalidCertificate(_)) => ConnectError::Certificate { target, said: error.to_string() },
        _ => ConnectError::Tls { target, said: error.to_string() },
    }
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// TLS version and cipher, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub fn tls_info(&self) -> Option<String> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().1;
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        session.negotiated_cipher_suite().map(|suite| format!("{version} {:?}", suite.suite()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn config(ca_file: Option<PathBuf>) -> ConnectConfig {
        ConnectConfig { ca_file, proxy: None, timeout: Duration::from_secs(5) }
    }

    /// A TLS server that echoes one byte; returns its port and the file of its certificate.
    async fn server(dir: &Path, names: &[&str]) -> (u16, PathBuf) {
        let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let made = made.unwrap();
        let path = dir.join("ca.pem");
        std::fs::write(&path, made.cert.pem()).unwrap();
        let key =
            rustls::pki_types::PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls.clone()));
                if let Ok(mut stream) = acceptor.accept(socket).await {
                    let byte = stream.read_u8().await.unwrap_or(0);
                    let _ = stream.write_u8(byte).await;
                    let _ = stream.flush().await;
                }
            }
        });
        (port, path)
    }

    #[tokio::test]
    async fn a_private_authority_is_believed_and_a_stranger_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (port, ca) = server(dir.path(), &["localhost"]).await;
        let mut stream = Connector::new(&config(Some(ca.clone()))).unwrap().tls("localhost", port).await.unwrap();
        stream.write_u8(7).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 7);
        assert!(stream.tls_info().unwrap().starts_with("TLSv1.3 "));
        let strange = Connector::new(&config(None)).unwrap().tls("localhost", port).await.unwrap_err();
        assert!(matches!(strange, ConnectError::Certificate { .. }), "{strange}");
        // The right authority, and a name that the certificate does not have.
        let other = Connector::new(&config(Some(ca))).unwrap().tls("127.0.0.1", port).await.unwrap_err();
        assert!(matches!(other, ConnectError::Certificate { .. }), "{other}");
    }

    #[tokio::test]
    async fn each_trouble_has_its_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap().port();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let connector = Connector::new(&ConnectConfig { timeout: Duration::from_millis(200), ..config(None) }).unwrap();
        assert!(matches!(connector.tls("127.0.0.1", silent).await, Err(ConnectError::Timeout { .. })));
        assert!(matches!(connector.plain("127.0.0.1", gone).await, Err(ConnectError::Unreachable { .. })));
        let broken = config(Some("/nowhere/ca.pem".into()));
        assert!(matches!(Connector::new(&broken), Err(ConnectError::Authorities { .. })));
        let proxy = ConnectConfig { proxy: Some("ftp://x:secret@y".into()), ..config(None) };
        let said = Connector::new(&proxy).unwrap_err().to_string();
        assert!(said.contains("socks5://") && !said.contains("secret"), "{said}");
    }
}
