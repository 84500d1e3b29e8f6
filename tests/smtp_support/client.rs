//! A client that sends octets and gives back what it hears, with a deadline on everything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Identity;

/// Longer than anything here takes; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(15);

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Gone,
}

/// One connection.
pub struct Client {
    wire: Wire,
    heard: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { wire: Wire::Plain(TcpStream::connect(address).await.unwrap()), heard: Vec::new() }
    }

    pub async fn try_write(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(socket) => socket.write_all(octets).await,
            Wire::Tls(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
            Wire::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub async fn write(&mut self, octets: &[u8]) {
        self.try_write(octets).await.unwrap();
    }

    pub async fn say(&mut self, text: &str) {
        self.write(text.as_bytes()).await;
    }

    /// Reads once; 0 is the end.
    async fn read(&mut self) -> usize {
        let read = async {
            match &mut self.wire {
                Wire::Plain(socket) => socket.read_buf(&mut self.heard).await,
                Wire::Tls(stream) => stream.read_buf(&mut self.heard).await,
                Wire::Gone => Ok(0),
            }
        };
        // A reset is an end as well.
        tokio::time::timeout(PATIENCE, read).await.expect("nothing was heard for too long").unwrap_or(0)
    }

    /// Reads once and gives what came.
    pub async fn read_some(&mut self) -> String {
        self.read().await;
        String::from_utf8(std::mem::take(&mut self.heard)).unwrap()
    }

    /// What can be read without waiting.
    pub fn heard(&mut self) -> String {
        if let Wire::Plain(socket) = &self.wire {
            let mut buffer = [0; 1024];
            if let Ok(count) = socket.try_read(&mut buffer) {
                self.heard.extend_from_slice(&buffer[..count]);
            }
        }
        String::from_utf8(self.heard.clone()).unwrap()
    }

    /// The next line, without its end; `None` when the connection is closed.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|window| window == b"\r\n") {
                let rest = self.heard.split_off(end + 2);
                let mut line = std::mem::replace(&mut self.heard, rest);
                line.truncate(end);
                return Some(String::from_utf8(line).unwrap());
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    /// Reads lines until one begins with `start`.
    pub async fn read_until(&mut self, start: &str) {
        while !self.line().await.unwrap_or_else(|| panic!("closed before {start:?}")).starts_with(start) {}
    }

    pub async fn read_to_end(&mut self) -> String {
        while self.read().await > 0 {}
        String::from_utf8(std::mem::take(&mut self.heard)).unwrap()
    }

    /// Sends one mail.
    pub async fn mail(&mut self, message: &str) {
        self.say("EHLO x\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n").await;
        self.read_until("354 ").await;
        self.say(message).await;
        self.say(".\r\n").await;
        self.read_until("250 2.0.0 Accepted as ").await;
    }

    /// Asks for TLS and turns it on; gives the server's certificate.
    pub async fn start_tls(&mut self, identity: Option<Identity>) -> Option<CertificateDer<'static>> {
        self.say("EHLO x\r\nSTARTTLS\r\n").await;
        self.read_until("220 2.0.0 ").await;
        self.handshake(identity).await.unwrap()
    }

    /// The client's side of a handshake.
    pub async fn handshake(&mut self, identity: Option<Identity>) -> io::Result<Option<CertificateDer<'static>>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        let config = match identity {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let Wire::Plain(socket) = std::mem::replace(&mut self.wire, Wire::Gone) else { panic!("TLS is on already") };
        let name = ServerName::try_from("mx.example.com").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        self.wire = Wire::Tls(Box::new(stream));
        Ok(certificate.map(CertificateDer::into_owned))
    }
}

/// Trusts any server: these tests look at the certificate themselves.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
