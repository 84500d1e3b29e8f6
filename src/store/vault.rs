//! Secrets at rest: passwords and tokens of connected mailboxes, encrypted, a file an account.
//!
//! Must not know: what a secret means. XChaCha20-Poly1305 with a random nonce of 24 bytes: nonces need no counter that
//! a restored backup could set back, and a file that was changed, cut, or moved to another account does not open,
//! because whose it is is part of what is authenticated. A write is complete or did not happen: written aside, synced,
//! renamed, the directory synced.

mod keys;
mod rotate;
mod seal;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::dirs::sync_dir;
use crate::files;
use crate::units::hex;
use keys::KeyRing;
pub use rotate::{KeyUse, OldKeys, Rotation, VaultState};
use seal::LARGEST_FILE;

const KEY_ID: usize = 8;
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
    #[error("{}: {source}; the daemon's user has to be able to read it, and to write its data directory", path.display())]
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
    #[error("{} holds {count} keys already, and no more than {count} are read", path.display())]
    TooManyKeys { path: PathBuf, count: usize },
    /// There is no fresh key, and we may not put one there.
    #[error("{} cannot be written by this daemon, and every secret is under its first key", path.display())]
    NotOurs { path: PathBuf },
}

/// Reads the key file that the configuration names, if it names one, as the start will.
pub fn check_key_file(config: &Config) -> Result<(), VaultError> {
    let Some(path) = &config.key_file else { return Ok(()) };
    KeyRing::load(path, config).map(drop)
}

/// The secrets of one data directory; a cheap handle. Its methods block on the disk.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    data_dir: PathBuf,
    config: Config,
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
        Ok(Self(Arc::new(Inner { data_dir: data_dir.to_owned(), config: config.clone(), dir, ring: Mutex::new(ring) })))
    }

    /// Keeps a secret under a name; when this returns it is on disk, and the one before it is gone.
    pub fn put(&self, name: &str, plain: &[u8]) -> Result<(), VaultError> {
        let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(name, &seal::seal(ring.first(), name, plain, &self.path(name))?)
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
        seal::unseal(&ring, Some(name), &sealed, &path).map(|opened| Some(opened.secret))
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

    /// Names are addresses, which a file name cannot hold in every case; the hash says nothing of them either.
    fn path(&self, name: &str) -> PathBuf {
        let digest = Sha256::digest(name.as_bytes());
        self.0.dir.join(hex(&digest[..16]))
    }

    fn write(&self, name: &str, sealed: &[u8]) -> Result<(), VaultError> {
        let path = self.path(name);
        files::replace(&path, sealed, 0o600).map_err(at(&path))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> VaultError {
    let path = path.to_owned();
    move |source| VaultError::Io { path: path.clone(), source }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut sealed = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, LARGEST_FILE as u64 + 1), &mut sealed)?;
    Ok(sealed)
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
        let (file, before) = (dir.path().join("vault.keys"), fs::read(vault.path("a")).unwrap());
        let old = fs::read_to_string(&file).unwrap().lines().rfind(|line| line.len() == 64).unwrap().to_owned();
        let done = vault.rotate(&[], OldKeys::Keep).unwrap();
        assert_eq!((done.added, done.secrets, done.left, done.dropped), (true, 1, 0, 0));
        let after = fs::read(vault.path("a")).unwrap();
        assert_ne!(before[8..16], after[8..16]);
        assert_eq!(&**vault.get("a").unwrap().unwrap(), b"secret");
        let state = vault.state().unwrap();
        assert_eq!(state.keys.iter().map(|key| key.secrets).collect::<Vec<_>>(), [1, 0]);
        assert!(state.writable && state.unreadable == 0 && state.keys[0].id == hex(&after[8..16]));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // Both old keys go, and the comment stays.
        assert_eq!(vault.rotate(&[], OldKeys::Drop).unwrap().dropped, 2);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() == 2 && text.contains("# Encrypts") && !text.contains(&old), "{text}");
        assert_eq!(&**Vault::open(dir.path(), &config).unwrap().get("a").unwrap().unwrap(), b"secret");
        // With another key alone nothing can be opened, and the message names the key, not its value.
        fs::write(&file, &old).unwrap();
        let said = Vault::open(dir.path(), &config).unwrap().get("a").unwrap_err().to_string();
        assert!(said.contains("another key") && !said.contains(&old), "{said}");
        assert_eq!(vault.state().unwrap().unreadable, 1);
    }

    #[test]
    fn an_exchange_that_fails_leaves_every_secret_readable() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let vault = Vault::open(dir.path(), &config).unwrap();
        let file = dir.path().join("vault.keys");
        for name in ["a", "b", "c"] {
            vault.put(name, name.as_bytes()).unwrap();
        }
        let readable =
            |vault: &Vault| ["a", "b", "c"].iter().all(|name| &**vault.get(name).unwrap().unwrap() == name.as_bytes());
        let keys = fs::read_to_string(&file).unwrap();
        // A file that cannot be read stops it before anything is written.
        fs::write(vault.path("z"), b"TgVault2 broken").unwrap();
        assert!(matches!(vault.rotate(&[], OldKeys::Drop), Err(VaultError::Damaged { .. })));
        fs::remove_file(vault.path("z")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), keys);
        // A write that fails half way: a directory stands where one of the files is written aside.
        for name in ["a", "b", "c"] {
            let aside = vault.path(name).with_extension("new");
            fs::create_dir(&aside).unwrap();
            assert!(matches!(vault.rotate(&[], OldKeys::Drop), Err(VaultError::Io { .. })));
            assert!(readable(&vault) && readable(&Vault(Arc::clone(&vault.0))));
            fs::remove_dir(&aside).unwrap();
            assert!(readable(&Vault::open(dir.path(), &config).unwrap()), "as after a crash there");
        }
        let done = vault.rotate(&[], OldKeys::Drop).unwrap();
        assert_eq!((done.secrets, vault.state().unwrap().keys.len()), (3, 1));
        assert!(readable(&vault));
        // A full key file is refused before it is written.
        let line = |n: usize| format!("{n:064x}\n");
        fs::write(&file, [fs::read_to_string(&file).unwrap(), (1..16).map(line).collect()].concat()).unwrap();
        let full = fs::read_to_string(&file).unwrap();
        assert!(matches!(vault.rotate(&[], OldKeys::Keep), Err(VaultError::TooManyKeys { count: 16, .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), full);
        assert!(readable(&Vault::open(dir.path(), &config).unwrap()));
        // Giving up what nothing uses makes room.
        assert_eq!((vault.rotate(&[], OldKeys::Drop).unwrap().dropped, readable(&vault)), (16, true));
    }

    #[test]
    fn files_of_the_first_format_are_read_and_become_new_ones() {
        use chacha20poly1305::aead::{Aead, KeyInit, Payload};
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &Config::default()).unwrap();
        for name in ["a", "forgotten"] {
            let ring = vault.0.ring.lock().unwrap();
            let (key, nonce) = (ring.first(), [7u8; 24]);
            let aad = [b"TgVault1", &key.id[..], name.as_bytes()].concat();
            let cipher = chacha20poly1305::XChaCha20Poly1305::new((&*key.secret).into());
            let sealed = cipher.encrypt(&nonce.into(), Payload { msg: b"old", aad: &aad }).unwrap();
            fs::write(vault.path(name), [b"TgVault1", &key.id[..], &nonce, &sealed].concat()).unwrap();
        }
        assert_eq!(&**vault.get("a").unwrap().unwrap(), b"old");
        let done = vault.rotate(&["a".to_owned()], OldKeys::Drop).unwrap();
        // The key of the one that nobody can name stays.
        assert_eq!((done.secrets, done.left, done.dropped), (1, 1, 0));
        assert_eq!(&**vault.get("a").unwrap().unwrap(), b"old");
        assert_eq!(&**vault.get("forgotten").unwrap().unwrap(), b"old");
        assert!(fs::read(vault.path("a")).unwrap().starts_with(b"TgVault2"));
    }

    #[test]
    fn a_key_file_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let line = |digit: &str| digit.repeat(64) + "\n";
        let write = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        };
        write(&line("a"));
        let vault = Vault::open(dir.path(), &Config { key_file: Some(path.clone()) }).unwrap();
        vault.put("a", b"secret").unwrap();
        assert!(matches!(vault.rotate(&[], OldKeys::Keep), Err(VaultError::NotOurs { .. })));
        fs::remove_file(&path).unwrap();
        write(&(line("b") + &line("a")));
        let done = vault.rotate(&[], OldKeys::Keep).unwrap();
        assert_eq!((done.added, done.secrets), (false, 1));
        assert!(!vault.state().unwrap().writable);
        assert!(matches!(vault.rotate(&[], OldKeys::Drop), Err(VaultError::NotOurs { .. })));
        assert_eq!(&**vault.get("a").unwrap().unwrap(), b"secret");
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
