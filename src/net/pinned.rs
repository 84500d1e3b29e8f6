//! Certificates of servers that are named themselves as what to trust.
//!
//! A certificate that somebody made for one server with `openssl req -x509` says that it is an authority, and the
//! rules for chains (RFC 5280 section 4.2.1.9) refuse an authority as a server's own certificate. Who names that very
//! certificate as `ca_file` means it, so it is believed when its bytes are the same; name and dates are still checked.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::der;

/// Believes the named certificates, and for all others asks the verifier beneath.
#[derive(Debug)]
pub struct Pinned {
    pub named: Vec<CertificateDer<'static>>,
    pub beneath: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.named.iter().any(|named| named.as_ref() == end_entity.as_ref()) {
            return self.beneath.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        }
        in_time(end_entity, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.beneath.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.beneath.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.beneath.supported_verify_schemes()
    }
}

/// Whether the certificate is valid at that time; one whose dates cannot be read is not.
fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let facts = der::read(certificate);
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match (facts.not_before, facts.not_after) {
        (Some(begin), _) if now < begin.as_second() => Err(CertificateError::NotValidYet.into()),
        (Some(_), Some(end)) if now <= end.as_second() => Ok(()),
        (Some(_), Some(_)) => Err(CertificateError::Expired.into()),
        _ => Err(CertificateError::BadEncoding.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::client::WebPkiServerVerifier;
    use rustls::crypto::ring;

    use super::*;

    fn certificate(ca: IsCa) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["imap.example".to_owned()]).unwrap();
        params.is_ca = ca;
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_named_certificate_is_believed_as_long_as_name_and_dates_fit() {
        let (named, stranger) = (
            certificate(IsCa::Ca(BasicConstraints::Unconstrained)),
            certificate(IsCa::Ca(BasicConstraints::Unconstrained)),
        );
        let mut roots = rustls::RootCertStore::empty();
        roots.add(named.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let beneath = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let pinned = Pinned { named: vec![named.clone()], beneath: beneath.clone() };
        let (early, good, late) = (1_700_000_000, 1_780_000_000, 1_900_000_000);
        let table = [
            (&named, "imap.example", good, "accepted"),
            (&named, "other.example", good, "NotValidForName"),
            (&named, "imap.example", early, "NotValidYet"),
            (&named, "imap.example", late, "Expired"),
            (&stranger, "imap.example", good, "InvalidCertificate"),
        ];
        for (certificate, name, at, want) in table {
            let (name, now) =
                (ServerName::try_from(name).unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(at)));
            let got = match pinned.verify_server_cert(certificate, &[], &name, &[], now) {
                Ok(_) => "accepted".to_owned(),
                Err(error) => format!("{error:?}"),
            };
            assert!(got.contains(want), "{name:?} at {at}: {got}");
            // The verifier beneath refuses all of them, this very certificate too.
            assert!(beneath.verify_server_cert(certificate, &[], &name, &[], now).is_err());
        }
    }
}
