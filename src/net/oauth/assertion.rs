//! Signed statements about ourselves: JSON Web Tokens (RFC 7519, RFC 7515) as RFC 7523 uses them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use super::error::OAuthError;

/// Servers refuse a statement that is valid for longer than an hour; this one is used at once.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// Clocks that are this much behind ours do not take a statement for one of the future.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

/// A private key, and the algorithm that the other side expects of it.
pub(super) enum Signer {
    Rsa { key: Box<RsaKeyPair>, padding: &'static dyn RsaEncoding, algorithm: &'static str },
    Ec(Box<EcdsaKeyPair>),
}

/// The digests of a certificate by which the other side finds it (RFC 7515 sections 4.1.7 and 4.1.8).
pub(super) struct Thumbprint {
    pub sha256: String,
    /// Older servers look for this one only; it identifies, it protects nothing.
    pub sha1: String,
}

impl Thumbprint {
    pub fn of(certificate: &[u8]) -> Self {
        Self {
            sha256: BASE64_URL.encode(digest(&SHA256, certificate)),
            sha1: BASE64_URL.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate)),
        }
    }
}

impl Signer {
    /// For a client's certificate: PS256, which Microsoft asks for, or ES256.
    pub fn for_certificate(key: &PrivateKeyDer<'_>) -> Result<Self, String> {
        Self::read(key, &RSA_PSS_SHA256, "PS256")
    }

    /// For a Google service account: RS256, the only one that it takes.
    pub fn for_service_account(key: &PrivateKeyDer<'_>) -> Result<Self, String> {
        match Self::read(key, &RSA_PKCS1_SHA256, "RS256")? {
            Self::Ec(_) => Err("its key is not an RSA key".into()),
            rsa @ Self::Rsa { .. } => Ok(rsa),
        }
    }

    fn read(
        key: &PrivateKeyDer<'_>,
        padding: &'static dyn RsaEncoding,
        algorithm: &'static str,
    ) -> Result<Self, String> {
        let rsa = |key| Self::Rsa { key: Box::new(key), padding, algorithm };
        let unusable = |error: ring::error::KeyRejected| format!("its key cannot be used: {error}");
        match key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).map(rsa).map_err(unusable),
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
                match ec {
                    Ok(ec) => Ok(Self::Ec(Box::new(ec))),
                    Err(_) => RsaKeyPair::from_pkcs8(der).map(rsa).map_err(unusable),
                }
            }
            _ => Err("write its key as PKCS#8, with `openssl pkcs8 -topk8 -nocrypt`".into()),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { algorithm, .. } => algorithm,
            Self::Ec(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa { key, padding, .. } => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*padding, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Ec(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
        }
    }
}

/// A statement that the client makes about itself (RFC 7523 section 3).
pub(super) fn client(
    signer: &Signer,
    thumbprint: &Thumbprint,
    client_id: &str,
    audience: &str,
    now: Timestamp,
) -> Result<String, OAuthError> {
    let header = json!({ "typ": "JWT", "x5t#S256": thumbprint.sha256, "x5t": thumbprint.sha1 });
    // The number makes each statement good for one use.
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).map_err(|error| OAuthError::Config(format!("no random numbers: {error}")))?;
    let claims = json!({ "iss": client_id, "sub": client_id, "jti": BASE64_URL.encode(id) });
    token(signer, header, claims, audience, now)
}

/// A statement of a service account that it acts for `subject`.
pub(super) fn service_account(
    account: &super::credentials::ServiceAccount,
    subject: &str,
    scope: &str,
    audience: &str,
    now: Timestamp,
) -> Result<String, OAuthError> {
    let header = json!({ "typ": "JWT", "kid": account.key_id });
    let claims = json!({ "iss": account.email, "sub": subject, "scope": scope });
    token(&account.signer, header, claims, audience, now)
}

fn token(
    signer: &Signer,
    mut header: Value,
    mut claims: Value,
    audience: &str,
    now: Timestamp,
) -> Result<String, OAuthError> {
    header["alg"] = signer.algorithm().into();
    claims["aud"] = audience.into();
    let at = |moment: Result<Timestamp, jiff::Error>| moment.unwrap_or(now).as_second();
    claims["iat"] = at(now.checked_sub(SKEW)).into();
    claims["nbf"] = at(now.checked_sub(SKEW)).into();
    claims["exp"] = at(now.checked_add(LIFETIME)).into();
    let message = format!("{}.{}", BASE64_URL.encode(header.to_string()), BASE64_URL.encode(claims.to_string()));
    let signature = signer.sign(message.as_bytes());
    let signature = signature.map_err(|_| OAuthError::Config("the private key cannot sign".into()))?;
    Ok(format!("{message}.{}", BASE64_URL.encode(signature)))
}
