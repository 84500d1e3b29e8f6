//! Whom to believe at the other end of TLS when it is not the platform's authorities: anybody, or who DANE names.
//!
//! Delivery to the servers of a domain encrypts where it can (RFC 7435): a certificate that nobody vouches for is no
//! worse than clear text. Where the domain publishes TLSA records, they decide (RFC 7672).

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha512};

use super::names::Tlsa;

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever answers.
    Anybody,
    /// Whom one of these records names; and the names that a certificate under an authority of theirs may have beside
    /// the host's (RFC 7672 section 3.2.2).
    Dane { records: Vec<Tlsa>, names: Vec<String> },
}

impl Tlsa {
    /// Whether it can be used for SMTP: usages 2 and 3 with known selectors and digests (RFC 7672 section 3.1).
    pub fn is_usable(&self) -> bool {
        let whole = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, 2 | 3) && self.selector <= 1 && whole
    }

    /// Whether it names this certificate.
    fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        let selected = if self.selector == 0 { Some(certificate.to_vec()) } else { public_key(certificate) };
        let Some(selected) = selected else { return false };
        match self.matching {
            0 => selected == self.data,
            1 => Sha256::digest(&selected)[..] == self.data[..],
            2 => Sha512::digest(&selected)[..] == self.data[..],
            _ => false,
        }
    }
}

/// The SubjectPublicKeyInfo of a certificate in DER.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let mut store = RootCertStore::empty();
    store.add(certificate.clone().into_owned()).ok()?;
    let value = store.roots.first()?.subject_public_key_info.to_vec();
    // The store keeps it without its outermost tag and length (X.690 section 8.1.3).
    let mut out = vec![0x30];
    match u16::try_from(value.len()).ok()? {
        short @ ..0x80 => out.push(short as u8),
        middle @ 0x80..0x100 => out.extend_from_slice(&[0x81, middle as u8]),
        long => out.extend_from_slice(&[0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend_from_slice(&value);
    Some(out)
}

/// Checks certificates by a [`Trust`].
#[derive(Debug)]
pub(super) struct TrustVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl TrustVerifier {
    pub fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, provider }
    }

    /// Whether a certificate of the chain is the authority that a record names, and vouches for the host.
    fn under_authority(
        &self,
        record: &Tlsa,
        chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
        names: &[ServerName<'_>],
        now: UnixTime,
    ) -> bool {
        let Some(authority) = chain.1.iter().find(|certificate| record.matches(certificate)) else { return false };
        let mut roots = RootCertStore::empty();
        if roots.add(authority.clone().into_owned()).is_err() {
            return false;
        }
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let Ok(verifier) = built else { return false };
        names.iter().any(|name| verifier.verify_server_cert(chain.0, chain.1, name, &[], now).is_ok())
    }
}

impl ServerCertVerifier for TrustVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Dane { records, names } = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let mut accepted = vec![server_name.clone()];
        accepted.extend(names.iter().filter_map(|name| ServerName::try_from(name.clone()).ok()));
        let usable: Vec<&Tlsa> = records.iter().filter(|record| record.is_usable()).collect();
        // With records that nobody can use, TLS is asked for and nobody's name (RFC 7672 section 2.2).
        let vouched = usable.is_empty()
            || usable.iter().any(|record| match record.usage {
                // The key itself: name and dates do not matter (RFC 7672 section 3.1.1).
                3 => record.matches(end_entity),
                _ => self.under_authority(record, (end_entity, intermediates), &accepted, now),
            });
        if vouched {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    fn tlsa(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
        Tlsa { usage, selector, matching, data: data.to_vec() }
    }

    /// An authority, and a certificate for mx.example under it.
    fn chain() -> (CertificateDer<'static>, CertificateDer<'static>, Vec<u8>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (leaf.der().clone(), ca.der().clone(), rcgen::PublicKeyData::subject_public_key_info(&key))
    }

    #[test]
    fn who_is_believed() {
        let (leaf, ca, leaf_key) = chain();
        let (other, _, _) = chain();
        let sha256 = |data: &[u8]| Sha256::digest(data).to_vec();
        let by_key = tlsa(3, 1, 1, &sha256(&leaf_key));
        let by_authority = tlsa(2, 0, 1, &sha256(&ca));
        let table = [
            ("key", vec![by_key.clone()], "other.example", true),
            ("whole key", vec![tlsa(3, 1, 0, &leaf_key)], "other.example", true),
            ("certificate", vec![tlsa(3, 0, 2, &Sha512::digest(&leaf))], "other.example", true),
            ("another key", vec![tlsa(3, 0, 1, &sha256(&other))], "mx.example", false),
            ("one of two", vec![tlsa(3, 0, 1, &sha256(&other)), by_key], "mx.example", true),
            ("authority", vec![by_authority.clone()], "mx.example", true),
            ("authority, other name", vec![by_authority], "other.example", false),
            ("authority's name only", vec![tlsa(2, 0, 1, &sha256(&other))], "mx.example", false),
            ("nothing usable", vec![tlsa(1, 0, 1, &sha256(&other)), tlsa(3, 9, 1, &[])], "mx.example", true),
        ];
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_000_000));
        let chain = [ca];
        for (what, records, name, wanted) in table {
            let trust = Trust::Dane { records, names: Vec::new() };
            let verifier = TrustVerifier::new(trust, Arc::new(rustls::crypto::ring::default_provider()));
            let name = ServerName::try_from(name).unwrap();
            let said = verifier.verify_server_cert(&leaf, &chain, &name, &[], now);
            assert_eq!(said.is_ok(), wanted, "{what}: {said:?}");
        }
    }
}
