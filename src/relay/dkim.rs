//! DKIM signatures of what leaves (RFC 6376, RFC 8463): in front of the mail, whose own bytes stay as they are.
//!
//! A mail is signed by every key of the domain of its From field, or of the nearest domain above it, which is aligned
//! for DMARC all the same. Keys are changed by their configuration: the new one beside the old one, then without it.
//! The time in a signature is the machine's, which the library reads by itself.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner, Done};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::RelayError;
use super::config::{Algorithm, DkimConfig};
use crate::files;
use crate::mail::address::{ascii_domain, is_under};
use crate::mail::headers::HeaderSection;

/// The fields that are signed. A field that is named once more than it stands in the mail cannot be added by somebody
/// on the way: that holds for those that are missing, and for those that readers see, which are named twice.
const SIGNED: &[&str] = &[
    "From",
    "From",
    "To",
    "To",
    "Cc",
    "Cc",
    "Subject",
    "Subject",
    "Date",
    "Date",
    "Reply-To",
    "Reply-To",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Sender",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Auto-Submitted",
];

/// Larger mails are hashed away from the tasks that wait for sockets.
const LARGE: usize = 256 << 10;

/// The start of a SubjectPublicKeyInfo of an RSA key (RFC 8017 appendix A.1): rsaEncryption without parameters.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

enum Key {
    Rsa(DkimSigner<RsaKey<Sha256>, Done>),
    Ed25519(DkimSigner<Ed25519Key, Done>),
}

struct Signer {
    domain: String,
    key: Key,
}

/// All keys; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Signers(Arc<Vec<Signer>>);

impl Signers {
    /// Reads the keys.
    pub fn load(configs: &[DkimConfig]) -> Result<Self, RelayError> {
        let signer = |config: &DkimConfig| {
            let key = match load(config).map_err(|said| RelayError::Dkim { domain: config.domain.clone(), said })? {
                Loaded::Rsa(key) => Key::Rsa(signer(DkimSigner::from_key(key), config)),
                Loaded::Ed25519(key) => Key::Ed25519(signer(DkimSigner::from_key(key), config)),
            };
            Ok(Signer { domain: signing_domain(config), key })
        };
        Ok(Self(Arc::new(configs.iter().map(signer).collect::<Result<_, _>>()?)))
    }

    /// The signature fields for a mail, ready to stand in front of it; empty when no key is its domain's.
    pub async fn sign(&self, mail: &Arc<[u8]>) -> Result<Vec<u8>, String> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        if mail.len() <= LARGE {
            return self.fields(mail);
        }
        let (this, mail) = (self.clone(), mail.clone());
        tokio::task::spawn_blocking(move || this.fields(&mail)).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn fields(&self, mail: &[u8]) -> Result<Vec<u8>, String> {
        let mut fields = Vec::new();
        let Some(domain) = from_domain(mail) else { return Ok(fields) };
        let ours = self.0.iter().map(|signer| signer.domain.as_str());
        let Some(nearest) = nearest(&domain, ours) else { return Ok(fields) };
        for signer in self.0.iter().filter(|signer| signer.domain == nearest) {
            let signature = match &signer.key {
                Key::Rsa(key) => key.sign(mail),
                Key::Ed25519(key) => key.sign(mail),
            };
            let signature = signature.map_err(|error| format!("the DKIM key of {nearest} failed: {error}"))?;
            fields.extend_from_slice(signature.to_header().as_bytes());
        }
        Ok(fields)
    }
}

/// Whose keys sign for a domain: of the domains that we have keys of it is this one, or the nearest above it.
pub(super) fn nearest<'a>(domain: &str, ours: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    ours.filter(|ours| is_under(domain, ours)).max_by_key(|ours| ours.len())
}

/// The domain of the first author.
fn from_domain(mail: &[u8]) -> Option<String> {
    let section = HeaderSection::read(mail, mail.len()).ok()?;
    let author = section.addresses("From").into_iter().next()?;
    ascii_domain(author.domain())
}

/// The domain of a key as signatures and DNS have it: in lower case and in A-labels (RFC 6376 section 3.5).
pub fn signing_domain(config: &DkimConfig) -> String {
    let lower = config.domain.to_lowercase();
    ascii_domain(&lower).unwrap_or(lower)
}

fn signer<T: mail_auth::common::crypto::SigningKey>(
    signer: DkimSigner<T, mail_auth::dkim::NeedDomain>,
    config: &DkimConfig,
) -> DkimSigner<T, Done> {
    signer
        .domain(signing_domain(config))
        .selector(config.selector.clone())
        .headers(SIGNED.iter().copied())
        .header_canonicalization(Canonicalization::Relaxed)
        .body_canonicalization(Canonicalization::Relaxed)
}

enum Loaded {
    Rsa(RsaKey<Sha256>),
    Ed25519(Ed25519Key),
}

fn load(config: &DkimConfig) -> Result<Loaded, String> {
    let (path, wrong) = (config.key_file.as_path(), |said: String| format!("{}: {said}", config.key_file.display()));
    let der = private_key(path).map_err(wrong)?;
    let wrong = |error: mail_auth::Error| format!("{}: it is no such key: {error}", path.display());
    match (config.algorithm, der) {
        (Algorithm::RsaSha256, der) => RsaKey::from_key_der(der).map(Loaded::Rsa).map_err(wrong),
        (Algorithm::Ed25519Sha256, PrivateKeyDer::Pkcs8(der)) => {
            // Keys that openssl writes do not hold their public half.
            Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der()).map(Loaded::Ed25519).map_err(wrong)
        }
        (Algorithm::Ed25519Sha256, _) => Err(format!("{}: an ed25519 key must be in PKCS#8", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = files::read(path, files::LONGEST).map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| format!("no private key in PEM: {error}"))
}

/// The TXT record that publishes a key: its name, and its text (RFC 6376 section 3.6.1, RFC 8463 section 4).
pub fn dns_record(config: &DkimConfig) -> Result<(String, String), String> {
    let (kind, public) = match load(config)? {
        Loaded::Rsa(key) => ("rsa", subject_public_key_info(&key.public_key())),
        Loaded::Ed25519(key) => ("ed25519", key.public_key()),
    };
    let name = format!("{}._domainkey.{}", config.selector, signing_domain(config));
    Ok((name, format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(public))))
}

/// An RSA public key in the form that verifiers in use expect.
fn subject_public_key_info(key: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let inner = [RSA_ALGORITHM, &tagged(0x03, &bits)].concat();
    tagged(0x30, &inner)
}

/// Tag, length and value in DER (X.690 section 8.1.3).
fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let bytes = value.len().to_be_bytes();
    let digits = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1)..];
    let mut out = vec![tag];
    match digits {
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests;
