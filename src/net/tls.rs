//! TLS for our listeners: certificates from PEM files, client certificates, what a handshake agreed on.
//!
//! An `Acceptor` never changes; a reload makes a new one, and connections that are open keep theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::der;
use crate::files;

/// The section `[tls]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server's certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Certificates of the authorities that vouch for clients, in PEM.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Ask clients for a certificate even without `client_ca`, to know them by its fingerprint.
    #[serde(default)]
    pub ask_client_certificate: bool,
}

/// Why the certificates cannot be used; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("TLS handshake failed: {0}")]
    Failed(#[from] std::io::Error),
    #[error("TLS handshake took too long")]
    Deadline,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite's name.
    pub cipher: String,
    /// The certificate that the client proved to hold, if it sent one.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The common name, or the first DNS name, or the fingerprint: never empty.
    pub subject: String,
    /// Common name and DNS names, in lower case.
    pub names: Vec<String>,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Whether one of our client authorities vouches for it today. Names mean nothing without it.
    pub trusted: bool,
}

/// Makes TLS of accepted sockets; cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    expires: Option<Timestamp>,
    names: Vec<String>,
}

impl Acceptor {
    /// Reads the files and checks that key and certificate belong together.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&config.certificate)?;
        let facts = chain.first().map(|first| der::read(first)).unwrap_or_default();
        let (expires, names) = (facts.not_after, all_names(facts));
        let key = PrivateKeyDer::from_pem_slice(&read(&config.key)?)
            .map_err(|error| content(&config.key, format!("no private key in PEM: {error}")))?;
        let authorities = match &config.client_ca {
            Some(path) => Some(authorities(path, &provider)?),
            None => None,
        };
        let algorithms = provider.signature_verification_algorithms;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| content(&config.certificate, error.to_string()))?;
        let builder = if authorities.is_some() || config.ask_client_certificate {
            builder.with_client_cert_verifier(Arc::new(AnyClient(algorithms)))
        } else {
            builder.with_no_client_auth()
        };
        let server = builder.with_single_cert(chain, key).map_err(|error| {
            content(&config.certificate, format!("cannot be used with the key {}: {error}", config.key.display()))
        })?;
        Ok(Self { config: Arc::new(server), authorities, expires, names })
    }

    /// When the certificate expires.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// The names that the certificate is for, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Does the server's side of the handshake.
    pub async fn accept(
        &self,
        socket: TcpStream,
        deadline: Instant,
    ) -> Result<(Box<TlsStream<TcpStream>>, TlsInfo), HandshakeError> {
        let handshake = Box::pin(TlsAcceptor::from(self.config.clone()).accept(socket));
        let stream = tokio::time::timeout_at(deadline, handshake).await.map_err(|_| HandshakeError::Deadline)??;
        let info = self.describe(&stream);
        Ok((Box::new(stream), info))
    }

    fn describe(&self, stream: &TlsStream<TcpStream>) -> TlsInfo {
        let session = stream.get_ref().1;
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        let cipher = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        let client = session.peer_certificates().and_then(|chain| chain.split_first()).map(|(first, rest)| {
            let trusted = self
                .authorities
                .as_ref()
                .is_some_and(|verifier| verifier.verify_client_cert(first, rest, UnixTime::now()).is_ok());
            client_certificate(first, trusted)
        });
        TlsInfo { version, cipher, client }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Common name and DNS names, in lower case.
fn all_names(facts: der::Facts) -> Vec<String> {
    let common = Some(facts.common_name.to_lowercase()).filter(|name| !name.is_empty());
    common.into_iter().chain(facts.dns_names).collect()
}

fn client_certificate(certificate: &CertificateDer<'_>, trusted: bool) -> ClientCertificate {
    let facts = der::read(certificate);
    let sha256 = crate::units::hex(&Sha256::digest(certificate.as_ref()));
    let names = all_names(facts);
    let subject = names.first().unwrap_or(&sha256).clone();
    ClientCertificate { subject, names, sha256, trusted }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    files::read(path, files::LONGEST).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn content(path: &Path, reason: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), reason }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, format!("broken PEM: {error}")))?;
    if found.is_empty() { Err(content(path, "no certificate in PEM".into())) } else { Ok(found) }
}

fn authorities(
    path: &Path,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| content(path, error.to_string()))
}

/// Takes any client certificate whose key the client proves to hold, and no certificate as well: a mail server that
/// shows a certificate of its own choice must still be able to speak TLS with us. What the certificate is worth is
/// looked at after the handshake.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let made = rcgen::generate_simple_self_signed(vec!["mx.example.com".into()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["mx.example.com".into()]).unwrap();
        let certificate = file("cert.pem", &made.cert.pem());
        let key = file("key.pem", &made.signing_key.serialize_pem());
        let wrong_key = file("wrong.pem", &other.signing_key.serialize_pem());
        let empty = file("empty.pem", "");
        let missing = directory.path().join("missing.pem");
        let table = [
            (&certificate, &key, None, None),
            (&certificate, &key, Some(&certificate), None),
            (&missing, &key, None, Some("missing.pem: cannot be read: ")),
            (&empty, &key, None, Some("empty.pem: no certificate in PEM")),
            (&certificate, &empty, None, Some("empty.pem: no private key in PEM")),
            (&certificate, &wrong_key, None, Some("cert.pem: cannot be used with the key ")),
            (&certificate, &key, Some(&empty), Some("empty.pem: no certificate in PEM")),
        ];
        for (certificate, key, client_ca, want) in table {
            let config = Config {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: client_ca.cloned(),
                ask_client_certificate: false,
            };
            match (Acceptor::load(&config), want) {
                (Ok(acceptor), None) => assert!(acceptor.expires().is_some()),
                (Err(error), Some(want)) => assert!(error.to_string().contains(want), "{error}"),
                (got, want) => panic!("{got:?} instead of {want:?}"),
            }
        }
    }
}
