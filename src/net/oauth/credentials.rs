//! What we prove ourselves with: the files that the configuration names, read once.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::assertion::{Signer, Thumbprint};
use super::config::ProviderConfig;
use super::error::OAuthError;
use crate::files;
use crate::net::der;

/// No file with a secret is longer than this.
const LONGEST: u64 = 64 << 10;

/// How the application proves that it is the one.
pub(super) enum ClientProof {
    /// Not at all: a public client (RFC 6749 section 2.1).
    None,
    Secret(SecretString),
    /// A signed assertion (RFC 7523 section 2.2).
    Certificate {
        signer: Signer,
        thumbprint: Thumbprint,
    },
}

/// A service account of Google, from its JSON key.
pub(super) struct ServiceAccount {
    pub email: String,
    pub key_id: String,
    pub signer: Signer,
}

pub(super) struct Credentials {
    pub proof: ClientProof,
    pub service: Option<ServiceAccount>,
    /// When secret or certificate expire, whichever is first.
    pub expires: Option<Timestamp>,
}

/// A key of the configuration and what is wrong with its file.
pub(super) type FileFault = (&'static str, String);

impl Credentials {
    /// Reads the files.
    pub fn load(config: &ProviderConfig) -> Result<Self, FileFault> {
        let mut expires = config.client_secret_expires.and_then(|day| {
            // The day's beginning, wherever the provider counts its days: early is better than late.
            day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
        });
        let service = config.service_account_file.as_deref().map(service_account).transpose()?;
        let proof = match (&config.client_secret_file, &config.certificate_file, &config.private_key_file) {
            (Some(file), ..) => ClientProof::Secret(secret("client_secret_file", file)?),
            (None, Some(certificate), Some(key)) => {
                let (proof, end) = certificate_proof(certificate, key)?;
                expires = expires.into_iter().chain(end).min();
                proof
            }
            _ => ClientProof::None,
        };
        Ok(Self { proof, service, expires })
    }
}

impl From<FileFault> for OAuthError {
    fn from((key, said): FileFault) -> Self {
        Self::Config(format!("{key}: {said}"))
    }
}

fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    files::read(path, LONGEST).map_err(|error| (key, format!("{}: {error}", path.display())))
}

fn secret(key: &'static str, path: &Path) -> Result<SecretString, FileFault> {
    let bytes = read(key, path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| (key, format!("{}: it is not text", path.display())))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err((key, format!("{}: it is empty", path.display()))),
        text => Ok(SecretString::from(text.to_owned())),
    }
}

fn certificate_proof(certificate: &Path, key: &Path) -> Result<(ClientProof, Option<Timestamp>), FileFault> {
    let pem = read("certificate_file", certificate)?;
    let certificate_der = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| ("certificate_file", format!("{}: no certificate in PEM: {error}", certificate.display())))?;
    let wrong = |said: String| ("private_key_file", format!("{}: {said}", key.display()));
    let key_pem = read("private_key_file", key)?;
    let key_der =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| wrong(format!("no private key in PEM: {error}")))?;
    let signer = Signer::for_certificate(&key_der).map_err(wrong)?;
    // What does not belong together would only be refused by the provider, with less to go by.
    let signing = rustls::crypto::ring::sign::any_supported_type(&key_der).map_err(|error| wrong(error.to_string()))?;
    let pair = rustls::sign::CertifiedKey::new(vec![certificate_der.clone()], signing);
    if let Err(error) = pair.keys_match() {
        return Err(wrong(format!("it is not the key of {} ({error})", certificate.display())));
    }
    let end = der::read(&certificate_der).not_after;
    Ok((ClientProof::Certificate { signer, thumbprint: Thumbprint::of(&certificate_der) }, end))
}

fn service_account(path: &Path) -> Result<ServiceAccount, FileFault> {
    #[derive(Deserialize)]
    struct Key {
        client_email: String,
        private_key_id: String,
        private_key: String,
    }
    let wrong = |said: String| ("service_account_file", format!("{}: {said}", path.display()));
    let bytes = read("service_account_file", path)?;
    // The reader's own words could show a part of the key.
    let key: Key =
        serde_json::from_slice(&bytes).map_err(|_| wrong("it is not a service account's JSON key".into()))?;
    let pem = Zeroizing::new(key.private_key);
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| wrong("its private_key is not a key in PEM".into()))?;
    let signer = Signer::for_service_account(&der).map_err(wrong)?;
    Ok(ServiceAccount { email: key.client_email, key_id: key.private_key_id, signer })
}
