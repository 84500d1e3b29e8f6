//! Secrets at rest: passwords and tokens of connected mailboxes, encrypted, a file an account.
//!
//! Must not know: what a secret means. XChaCha20-Poly1305 with a random nonce of 24 bytes: nonces need no counter that
//! a restored backup could set back, and a file that was changed, cut, or moved to another account does not open,
//! because its name is part of what is authenticated. A write is complete or did not happen: written aside, synced,
//! renamed, the directory synced.

mod keys;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::segment::sync_dir;
use keys::{Key, KeyRing};

/// Stands at the beginning of every file, and is authenticated with it.
const MAGIC: &[u8; 8] = b"TgVault1";
const KEY_ID: usize = 8;
const NONCE: usize = 24;
/// A token of any provider fits well; a larger file is not one of ours.
const LARGEST: usize = 64 << 10;

/// `[secrets]`: where the key of the secrets at rest comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The key file. Without it: the systemd credential `ticketgate.key`, else a file in the data directory.
    pub key_file: Option<PathBuf>,
}

/// Why a secret cannot be kept or had. No message shows what is secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {said}", path.display())]
    Key { path: PathBuf, said: String },
    #[error(
        "{}: it was encrypted with another key (number {id}); put that key back as a further line of the key file",
        path.display()
    )]
    UnknownKey { path: PathBuf, id: String },
    #[error("{}: it was changed, or belongs to another account; connect the account again", path.display())]
    Damaged { path: PathBuf },
    #[error("a secret of {0} bytes is too large, at most 65536 are kept")]
    TooLarge(usize),
}

/// The secrets of one data directory; a cheap handle. Its methods block on the disk.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    ring: Mutex<KeyRing>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Vault {
    /// Reads the key, and makes one at the first use if none is configured.
    pub fn open(data_dir: &Path, config: &Config) -> Result<Self, VaultError> {
        let ring = KeyRing::load(data_dir, config)?;
        let dir = data_dir.join("vault");
        if !dir.exists() {
            fs::DirBuilder::new().mode(0o700).create(&dir).and_then(|()| sync_dir(data_dir)).map_err(at(&dir))?;
        }
        for left in fs::read_dir(&dir).map_err(at(&dir))?.flatten() {
            if left.path().extension().is_some_and(|extension| extension == "new") {
                fs::remove_file(left.path()).map_err(at(&left.path()))?;
            }
        }
        Ok(Self(Arc::new(Inner { dir, ring: Mutex::new(ring) })))
    }

    /// Keeps a secret under a name; when this returns it is on disk, and the one before it is gone.
    pub fn put(&self, name: &str, plain: &[u8]) -> Result<(), VaultError> {
        if plain.len() > LARGEST {
            return Err(VaultError::TooLarge(plain.len()));
        }
        let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(name, &seal(ring.first(), name, plain, &self.path(name))?)
    }

    /// The secret under a name.
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let path = self.path(name);
        let sealed = match read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(VaultError::Io { path, source }),
        };
        let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        unseal(&ring, name, &sealed, &path).map(Some)
    }

    /// Forgets the secret under a name.
    pub fn remove(&self, name: &str) -> Result<(), VaultError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.0.dir).map_err(at(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(VaultError::Io { path, source }),
        }
    }

    /// Reads the key file again and encrypts every secret of these names anew under its first key; returns how many.
    pub fn rotate(&self, data_dir: &Path, config: &Config, names: &[String]) -> Result<usize, VaultError> {
        let fresh = KeyRing::load(data_dir, config)?;
        let mut ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        *ring = fresh;
        let mut done = 0;
        for name in names {
            let path = self.path(name);
            let sealed = match read(&path) {
                Ok(sealed) => sealed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(VaultError::Io { path, source }),
            };
            let plain = unseal(&ring, name, &sealed, &path)?;
            self.write(name, &seal(ring.first(), name, &plain, &path)?)?;
            done += 1;
        }
        Ok(done)
    }

    /// Puts a fresh key first in the key file, where we may write it; the old ones stay below and still decrypt.
    pub fn add_key(data_dir: &Path, config: &Config) -> Result<PathBuf, VaultError> {
        keys::add(data_dir, config)
    }

    /// Names are addresses, which a file name cannot hold in every case; the hash says nothing of them either.
    fn path(&self, name: &str) -> PathBuf {
        let digest = Sha256::digest(name.as_bytes());
        let short: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.dir.join(short)
    }

    fn write(&self, name: &str, sealed: &[u8]) -> Result<(), VaultError> {
        let path = self.path(name);
        let fresh = path.with_extension("new");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(sealed)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            sync_dir(&self.0.dir)
        };
        write().map_err(at(&path))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> VaultError {
    let path = path.to_owned();
    move |source| VaultError::Io { path: path.clone(), source }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut sealed = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, (LARGEST + 1024) as u64), &mut sealed)?;
    Ok(sealed)
}

/// What is authenticated beside the secret: the format, the key's id, whose it is.
fn about(key: &Key, name: &str) -> Vec<u8> {
    [&MAGIC[..], &key.id, name.as_bytes()].concat()
}

fn seal(key: &Key, name: &str, plain: &[u8], path: &Path) -> Result<Vec<u8>, VaultError> {
    let mut nonce = [0u8; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| at(path)(io::Error::other(error.to_string())))?;
    let cipher = XChaCha20Poly1305::new((&*key.secret).into());
    let payload = Payload { msg: plain, aad: &about(key, name) };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::TooLarge(plain.len()))?;
    Ok([&MAGIC[..], &key.id, &nonce, &sealed].concat())
}

fn unseal(ring: &KeyRing, name: &str, sealed: &[u8], path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let damaged = || VaultError::Damaged { path: path.to_owned() };
    let rest = sealed.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (id, rest) = rest.split_first_chunk::<KEY_ID>().ok_or_else(damaged)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
    let key = ring.by_id(id).ok_or_else(|| VaultError::UnknownKey {
        path: path.to_owned(),
        id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
    })?;
    let cipher = XChaCha20Poly1305::new((&*key.secret).into());
    let payload = Payload { msg: sealed, aad: &about(key, name) };
    cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir.join("vault")).unwrap().map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn a_secret_comes_back_and_nothing_else_opens() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &Config::default()).unwrap();
        assert!(vault.get("a@x.example").unwrap().is_none());
        vault.put("a@x.example", b"first").unwrap();
        vault.put("a@x.example", b"second hush-hush").unwrap();
        vault.put("b@x.example", b"other").unwrap();
        let reopened = Vault::open(dir.path(), &Config::default()).unwrap();
        assert_eq!(&**reopened.get("a@x.example").unwrap().unwrap(), b"second hush-hush");
        let path = vault.path("a@x.example");
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(4).any(|part| part == b"hush"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Moved to another account, cut anywhere, one bit changed anywhere: none of it opens.
        fs::copy(&path, vault.path("b@x.example")).unwrap();
        assert!(matches!(vault.get("b@x.example"), Err(VaultError::Damaged { .. })));
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert!(vault.get("a@x.example").is_err(), "cut to {len}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(vault.get("a@x.example").is_err(), "changed at {at}");
        }
        vault.remove("a@x.example").unwrap();
        vault.remove("a@x.example").unwrap();
        assert!(vault.get("a@x.example").unwrap().is_none());
        assert!(matches!(vault.put("a", &vec![0; LARGEST + 1]), Err(VaultError::TooLarge(_))));
    }

    #[test]
    fn keys_are_exchanged_and_a_lost_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let vault = Vault::open(dir.path(), &config).unwrap();
        vault.put("a", b"secret").unwrap();
        let before = fs::read(vault.path("a")).unwrap();
        let file = Vault::add_key(dir.path(), &config).unwrap();
        let names = ["a".to_owned(), "never connected".to_owned()];
        assert_eq!(vault.rotate(dir.path(), &config, &names).unwrap(), 1);
        let after = fs::read(vault.path("a")).unwrap();
        assert_ne!(before[8..16], after[8..16]);
        assert_eq!(&**vault.get("a").unwrap().unwrap(), b"secret");
        // With the old line alone the new file cannot be opened, and the message names the key, not its value.
        let text = fs::read_to_string(&file).unwrap();
        let old = text.lines().rfind(|line| line.len() == 64).unwrap();
        fs::write(&file, old).unwrap();
        let said = Vault::open(dir.path(), &config).unwrap().get("a").unwrap_err().to_string();
        assert!(said.contains("another key") && !said.contains(old), "{said}");
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &Config::default()).unwrap();
        vault.put("a", b"secret").unwrap();
        fs::write(vault.path("a").with_extension("new"), b"half").unwrap();
        drop(vault);
        let vault = Vault::open(dir.path(), &Config::default()).unwrap();
        assert_eq!(files(dir.path()), [vault.path("a")]);
        assert_eq!(&**vault.get("a").unwrap().unwrap(), b"secret");
    }
}
