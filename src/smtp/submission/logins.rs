//! The accounts of the submission door: what proves that somebody is one of them, and whom they may send as.
//!
//! Passwords are kept as SCRAM verifiers (RFC 5802 section 3), from which the password cannot be read back.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::config::{AccountConfig, Config};
use crate::mail::Address;

/// RFC 7677 section 4 asks for at least as many.
const ITERATIONS: u32 = 4096;
/// A verifier with more would keep a processor busy with one login for a second.
const MOST_ITERATIONS: u32 = 2_000_000;
const SALT: usize = 16;
/// The longest password file that is read.
const LONGEST: u64 = 4096;
/// How a verifier begins; the form is PostgreSQL's, which tools can make.
const VERIFIER: &str = "SCRAM-SHA-256$";

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub senders: Vec<Pattern>,
    pub relay: Option<String>,
    /// The `[[oauth]]` client that looks up its bearer tokens.
    pub oauth: Option<String>,
    keys: Option<ScramKeys>,
}

impl Login {
    /// Whether it may send under this address.
    pub fn may_send_as(&self, address: &Address) -> bool {
        self.senders.iter().any(|pattern| pattern.covers(address))
    }
}

/// What a sender may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    Anybody,
    /// In A-labels.
    Domain(String),
    Address(Address),
}

impl Pattern {
    /// Reads `local@domain`, `*@domain`, or `*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Anybody);
        }
        let wrong = |error: crate::mail::address::AddressError| format!("\"{text}\" is no sender: {error}");
        match text.strip_prefix("*@") {
            // The domain is checked as part of an address.
            Some(domain) => {
                let any = Address::parse(&format!("x@{domain}")).map_err(wrong)?;
                Ok(Self::Domain(any.ascii_domain().into_owned()))
            }
            None => Address::parse(text).map(Self::Address).map_err(wrong),
        }
    }

    /// Whether an address is meant; plus-details of a named address are.
    pub fn covers(&self, address: &Address) -> bool {
        match self {
            Self::Anybody => true,
            Self::Domain(domain) => address.ascii_domain() == *domain,
            Self::Address(named) => {
                let local = |one: &Address| one.split_detail().0.to_lowercase();
                named == address || (named.ascii_domain() == address.ascii_domain() && local(named) == local(address))
            }
        }
    }
}

/// What a server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys")
    }
}

/// All accounts. For a name that is none, keys are made up that never change, so that an attempt takes as long and
/// looks the same.
#[derive(Clone, Debug)]
pub struct Logins {
    by_name: HashMap<String, Arc<Login>>,
    made_up: [u8; 32],
}

/// A password file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {said}", path.display())]
pub struct LoginError {
    pub path: PathBuf,
    pub said: String,
}

impl Logins {
    /// Reads the password files. Patterns and names were checked with the configuration.
    pub fn load(config: &Config) -> Result<Self, LoginError> {
        let mut by_name = HashMap::new();
        for account in &config.accounts {
            let login = Arc::new(login(account)?);
            by_name.insert(account.name.to_lowercase(), login);
        }
        Ok(Self { by_name, made_up: random() })
    }

    pub fn find(&self, name: &str) -> Option<Arc<Login>> {
        self.by_name.get(&name.to_lowercase()).cloned()
    }

    /// The keys of a name, made up if it has none.
    pub fn keys(&self, name: &str) -> ScramKeys {
        if let Some(keys) = self.find(name).and_then(|login| login.keys.clone()) {
            return keys;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.made_up);
        let make = |what: &str| {
            let mut bytes = [0u8; 32];
            bytes.copy_from_slice(hmac::sign(&key, format!("{what} {}", name.to_lowercase()).as_bytes()).as_ref());
            bytes
        };
        let salt = make("salt")[..SALT].to_vec();
        ScramKeys { iterations: ITERATIONS, salt, stored_key: make("stored"), server_key: make("server") }
    }

    /// Whether any account has a password, and whether any takes bearer tokens.
    pub fn kinds(&self) -> (bool, bool) {
        let any = |f: fn(&Login) -> bool| self.by_name.values().any(|login| f(login));
        (any(|login| login.keys.is_some()), any(|login| login.oauth.is_some()))
    }

    /// The account that name and password prove. Takes a few milliseconds of a processor, whether there is one or not.
    pub fn check(&self, name: &str, password: &[u8]) -> Option<Arc<Login>> {
        let keys = self.keys(name);
        // As when its keys were made (RFC 4013): accents come composed or not, and LOGIN leaves them as they come.
        let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
        let prepared = prepared.map(|text| Zeroizing::new(text.into_owned()));
        let password = prepared.as_ref().map_or(password, |text| text.as_bytes());
        let (stored_key, _) = derive(password, &keys.salt, keys.iterations)?;
        let same = bool::from(stored_key.ct_eq(&keys.stored_key));
        self.find(name).filter(|login| same && login.keys.is_some())
    }

    /// The keys that a password file holds: those of a password, or a verifier.
    pub fn read_password(path: &Path) -> Result<ScramKeys, LoginError> {
        let wrong = |said: String| LoginError { path: path.to_owned(), said };
        let text = crate::files::read_text(path, LONGEST).map_err(|error| wrong(error.to_string()))?;
        let line = text.lines().next().unwrap_or_default();
        if let Some(verifier) = line.strip_prefix(VERIFIER) {
            return read_verifier(verifier).ok_or_else(|| {
                wrong("its verifier is not \"SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey\"".into())
            });
        }
        if line.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        let prepared = stringprep::saslprep(line)
            .map_err(|_| wrong("the password has characters that no password may have (RFC 4013)".into()))?;
        let salt = random()[..SALT].to_vec();
        let (stored_key, server_key) =
            derive(prepared.as_bytes(), &salt, ITERATIONS).ok_or_else(|| wrong("no keys can be made of it".into()))?;
        Ok(ScramKeys { iterations: ITERATIONS, salt, stored_key, server_key })
    }
}

fn login(account: &AccountConfig) -> Result<Login, LoginError> {
    Ok(Login {
        name: account.name.clone(),
        senders: account.senders.iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
        relay: account.relay.clone(),
        oauth: account.oauth.clone(),
        keys: account.password_file.as_deref().map(Logins::read_password).transpose()?,
    })
}

/// `iterations:salt$StoredKey:ServerKey`, all but the number in base 64.
fn read_verifier(text: &str) -> Option<ScramKeys> {
    let (numbers, keys) = text.split_once('$')?;
    let (iterations, salt) = numbers.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let key = |text: &str| -> Option<[u8; 32]> { BASE64_STANDARD.decode(text).ok()?.try_into().ok() };
    let iterations = iterations.parse().ok().filter(|n| (ITERATIONS..=MOST_ITERATIONS).contains(n))?;
    let salt = BASE64_STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
    Some(ScramKeys { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
}

/// StoredKey and ServerKey (RFC 5802 section 3).
fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Option<([u8; 32], [u8; 32])> {
    let mut salted = Zeroizing::new([0u8; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(iterations)?, salt, password, &mut *salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    Some((stored_key.as_ref().try_into().ok()?, server_key.as_ref().try_into().ok()?))
}

/// Random bytes. Where the system gives none, the process's own are still unknown to a peer.
fn random() -> [u8; 32] {
    let mut bytes = [0u8; 32];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the system gives no random numbers");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_or_its_verifier_proves_the_account_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, verifier) = (dir.path().join("plain"), dir.path().join("verifier"));
        std::fs::write(&plain, "pencil\n").unwrap();
        // The example of RFC 7677 section 3, as PostgreSQL would store it.
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (stored, server) = derive(b"pencil", &salt, 4096).unwrap();
        let text = format!(
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${}:{}\n",
            BASE64_STANDARD.encode(stored),
            BASE64_STANDARD.encode(server)
        );
        std::fs::write(&verifier, text).unwrap();
        let account = |name: &str, file: &Path| AccountConfig {
            name: name.into(),
            password_file: Some(file.to_owned()),
            senders: vec!["*".into()],
            ..AccountConfig::default()
        };
        let accounts = vec![account("crm", &plain), account("shop", &verifier)];
        let logins = Logins::load(&Config { accounts, ..Config::default() }).unwrap();
        for (name, password, want) in [
            ("crm", "pencil", true),
            ("CRM", "pencil", true),
            ("shop", "pencil", true),
            ("shop", "Pencil", false),
            ("nobody", "pencil", false),
            ("", "", false),
        ] {
            assert_eq!(logins.check(name, password.as_bytes()).is_some(), want, "{name} {password}");
        }
        assert_eq!(logins.keys("nobody"), logins.keys("Nobody"), "a made-up account stays the same");
        let shown = format!("{logins:?} {:?}", logins.keys("shop"));
        assert!(!shown.contains("pencil") && !shown.contains("stored_key"), "{shown}");
        std::fs::write(&plain, "SCRAM-SHA-256$12:x$y:z").unwrap();
        assert!(Logins::read_password(&plain).unwrap_err().said.contains("verifier"));
        std::fs::write(&plain, "x".repeat(4097)).unwrap();
        assert_eq!(Logins::read_password(&plain).unwrap_err().said, "it is longer than 4096 bytes");
    }

    #[test]
    fn senders_are_covered_by_address_domain_or_everything() {
        let table = [
            ("support@example.com", "Support@Example.com", true),
            ("support@example.com", "support+t1@example.com", true),
            ("support@example.com", "sales@example.com", false),
            ("*@example.com", "sales@example.com", true),
            ("*@example.com", "sales@sub.example.com", false),
            ("*@müller.example", "jan@xn--mller-kva.example", true),
            ("hilfe@xn--mller-kva.example", "hilfe+t1@müller.example", true),
            ("*", "anybody@else.example", true),
        ];
        for (pattern, address, want) in table {
            let got = Pattern::parse(pattern).unwrap().covers(&Address::parse(address).unwrap());
            assert_eq!(got, want, "{pattern} {address}");
        }
        assert!(Pattern::parse("nonsense").is_err() && Pattern::parse("*@").is_err());
    }
}
