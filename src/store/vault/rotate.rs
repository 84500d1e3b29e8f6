//! Exchanging the key of the secrets, and telling which key is used for what.
//!
//! What a crash can leave: a key file with a fresh key that nothing uses yet, or some secrets under the fresh key and
//! some under the old one. Both keys stand in the key file from before the first secret is written until after the
//! last, so every secret can be read, and running it again completes it.

use std::fs;
use std::path::PathBuf;
use std::sync::PoisonError;

use super::keys::{self, KeyRing};
use super::seal::{self, Opened};
use super::{KEY_ID, Vault, VaultError, at, read};
use crate::units::hex;

/// What becomes of keys that no secret needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    Keep,
    /// They leave the key file: secrets in older backups can then no longer be read.
    Drop,
}

/// What an exchange has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    pub key_file: PathBuf,
    /// A fresh key was put first in the key file; without, its first key was there before.
    pub added: bool,
    /// Secrets that are under the first key now.
    pub secrets: usize,
    /// Secrets of an older format whose account is not known any more; they stay under their key.
    pub left: usize,
    /// Keys that were taken out of the key file.
    pub dropped: usize,
}

/// Which keys there are, and how many secrets each of them holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultState {
    pub key_file: PathBuf,
    /// Whether we may put a fresh key into the key file ourselves.
    pub writable: bool,
    /// In the order of the key file: the first encrypts.
    pub keys: Vec<KeyUse>,
    /// Secrets whose key is not in the key file: they cannot be read.
    pub unreadable: usize,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// What files carry to name it; says nothing of the key.
    pub id: String,
    pub secrets: usize,
}

/// A file of the vault.
struct Sealed {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Vault {
    /// Encrypts every secret anew under the first key of the key file, after putting a fresh one there where we may.
    /// `names` are the names that may be in use; files of the present format need none. All secrets are read before
    /// the first is written. Blocks on the disk; other uses of the vault wait.
    pub fn rotate(&self, names: &[String], old: OldKeys) -> Result<Rotation, VaultError> {
        let (data_dir, config) = (&self.0.data_dir, &self.0.config);
        let mut ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.files()?;
        let present = KeyRing::load(data_dir, config)?;
        // Whatever cannot be read has to be found before there is anything to undo.
        self.open_all(&present, names, &files)?;
        let key_file = keys::place(data_dir, config);
        let added = keys::may_write(&key_file);
        let mut dropped = if old == OldKeys::Drop { keys::drop_unused(&key_file, &ids(&files))? } else { 0 };
        let under_first = |file: &Sealed| seal::key_id(&file.bytes) == Some(present.first().id);
        if added {
            keys::add(&key_file)?;
        } else if files.iter().all(under_first) {
            return Err(VaultError::NotOurs { path: key_file });
        }
        let fresh = if added { KeyRing::load(data_dir, config)? } else { present };
        let (opened, left) = self.open_all(&fresh, names, &files)?;
        for Opened { name, secret } in &opened {
            let path = self.path(name);
            let sealed = seal::seal(fresh.first(), name, secret, &path)?;
            if let Err(error) = self.write(name, &sealed) {
                // Some are under the fresh key and some are not, so both are needed to read them.
                ring.learn(fresh);
                return Err(error);
            }
        }
        *ring = fresh;
        if old == OldKeys::Drop {
            dropped += keys::drop_unused(&key_file, &ids(&self.files()?))?;
            *ring = KeyRing::load(data_dir, config)?;
        }
        Ok(Rotation { key_file, added, secrets: opened.len(), left, dropped })
    }

    /// Which keys there are and what they are used for. Blocks on the disk.
    pub fn state(&self) -> Result<VaultState, VaultError> {
        let ring = KeyRing::load(&self.0.data_dir, &self.0.config)?;
        let ids = ids(&self.files()?);
        let count = |id: &[u8; KEY_ID]| ids.iter().filter(|used| *used == id).count();
        let keys: Vec<KeyUse> = ring.ids().map(|id| KeyUse { id: hex(id), secrets: count(id) }).collect();
        let unreadable = ids.iter().filter(|id| ring.by_id(id).is_none()).count();
        let key_file = keys::place(&self.0.data_dir, &self.0.config);
        Ok(VaultState { writable: keys::may_write(&key_file), key_file, keys, unreadable })
    }

    /// Every file of the vault.
    fn files(&self) -> Result<Vec<Sealed>, VaultError> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.0.dir).map_err(at(&self.0.dir))? {
            let path = file.map_err(at(&self.0.dir))?.path();
            if path.extension().is_none() {
                files.push(Sealed { bytes: read(&path).map_err(at(&path))?, path });
            }
        }
        Ok(files)
    }

    /// Opens them all; returns how many could not be because nobody knows whose they are. One that is damaged, or
    /// whose key is missing, is an error.
    fn open_all(&self, ring: &KeyRing, names: &[String], files: &[Sealed]) -> Result<(Vec<Opened>, usize), VaultError> {
        let (mut opened, mut left) = (Vec::new(), 0);
        for file in files {
            let name = names.iter().find(|name| self.path(name) == file.path);
            if name.is_none() && seal::needs_name(&file.bytes) {
                left += 1;
            } else {
                opened.push(seal::unseal(ring, name.map(String::as_str), &file.bytes, &file.path)?);
            }
        }
        Ok((opened, left))
    }
}

/// The ids of the keys that files are encrypted with.
fn ids(files: &[Sealed]) -> Vec<[u8; KEY_ID]> {
    files.iter().filter_map(|file| seal::key_id(&file.bytes)).collect()
}
