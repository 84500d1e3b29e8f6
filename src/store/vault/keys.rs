//! The keys of the vault: where they come from, and the file they stand in.
//!
//! A key file has a key a line, 64 hexadecimal digits; the first encrypts, all decrypt. Lines that begin with `#` are
//! comments.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Config, KEY_ID, VaultError, at};
use crate::files;
use crate::units::{count, hex};

/// The file's name in the data directory.
const FILE: &str = "vault.keys";
/// The name of the systemd credential.
const CREDENTIAL: &str = "ticketgate.key";
const MOST: usize = 16;

/// One key, with the id that files carry.
pub struct Key {
    pub id: [u8; KEY_ID],
    pub secret: Zeroizing<[u8; 32]>,
}

/// All keys that there are; at least one.
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// Reads the keys from where the configuration says, and makes the first one in the data directory.
    pub fn load(data_dir: &Path, config: &Config) -> Result<Self, VaultError> {
        let path = place(data_dir, config);
        let own = config.key_file.is_none() && path == data_dir.join(FILE);
        let text = match files::read_text(&path, files::LONGEST) {
            Ok(text) => text,
            Err(error) if own && error.kind() == io::ErrorKind::NotFound => write(
                &path,
                &format!("# Encrypts the secrets in vault/. Keep it secret, and keep it.\n{}\n", &*fresh(&path)?),
            )?,
            Err(source) => return Err(VaultError::Io { path, source }),
        };
        let wrong = |said: String| VaultError::Key { path: path.clone(), said };
        let mode = fs::metadata(&path).map_err(at(&path))?.permissions().mode();
        // systemd makes its credentials readable for nobody else by itself, whatever the bits say.
        if mode & 0o007 != 0 {
            return Err(wrong("everybody may read it; run `chmod 600` on it".into()));
        }
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            keys.push(
                parse(line).ok_or_else(|| wrong(format!("line {number} is not a key of 64 hexadecimal digits")))?,
            );
        }
        if keys.is_empty() || keys.len() > MOST {
            return Err(wrong(format!("it holds {}; 1 to {MOST} are read", count(keys.len(), "key", "keys"))));
        }
        Ok(Self(keys))
    }

    /// The key that encrypts.
    pub fn first(&self) -> &Key {
        &self.0[0]
    }

    pub fn by_id(&self, id: &[u8; KEY_ID]) -> Option<&Key> {
        self.0.iter().find(|key| key.id == *id)
    }

    /// The ids of all, the first first.
    pub fn ids(&self) -> impl Iterator<Item = &[u8; KEY_ID]> {
        self.0.iter().map(|key| &key.id)
    }

    /// Takes over the keys of the key file beside those that are known. What is written from now on is under a key
    /// that stands in the file.
    pub fn learn(&mut self, file: Self) {
        let old = std::mem::replace(&mut self.0, file.0);
        for key in old {
            if self.by_id(&key.id).is_none() {
                self.0.push(key);
            }
        }
    }
}

/// Puts a fresh key first; the old ones stay below and still decrypt. A full file is refused before it is written.
pub fn add(path: &Path) -> Result<(), VaultError> {
    let old = files::read_text(path, files::LONGEST).map_err(at(path))?;
    let count = old.lines().filter(|line| is_key(line)).count();
    if count >= MOST {
        return Err(VaultError::TooManyKeys { path: path.to_owned(), count });
    }
    write(path, &Zeroizing::new(format!("{}\n{}", &*fresh(path)?, &*old))).map(drop)
}

/// Takes out the keys that are neither the first nor among the used ones; returns how many went.
pub fn drop_unused(path: &Path, used: &[[u8; KEY_ID]]) -> Result<usize, VaultError> {
    if !may_write(path) {
        return Ok(0);
    }
    let old = files::read_text(path, files::LONGEST).map_err(at(path))?;
    let first = old.lines().position(is_key);
    let goes = |(index, line): &(usize, &str)| {
        Some(*index) != first && parse(line.trim()).is_some_and(|key| !used.contains(&key.id))
    };
    let dropped = old.lines().enumerate().filter(goes).count();
    if dropped > 0 {
        let kept = old.lines().enumerate().filter(|line| !goes(line)).map(|(_, line)| line);
        let text = Zeroizing::new(kept.fold(String::new(), |text, line| text + line + "\n"));
        write(path, &text)?;
    }
    Ok(dropped)
}

/// Whether the file is ours to replace: a credential of systemd is not, nor is one that belongs to somebody else, or
/// was made read-only on purpose.
pub fn may_write(path: &Path) -> bool {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    if credentials.is_some_and(|dir| path.starts_with(dir)) {
        return false;
    }
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let ours = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o200 != 0;
    let folder = path.parent().unwrap_or(Path::new("/"));
    ours && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

fn is_key(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// The key file.
pub fn place(data_dir: &Path, config: &Config) -> PathBuf {
    if let Some(file) = &config.key_file {
        return file.clone();
    }
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(CREDENTIAL));
    credential.filter(|path| path.exists()).unwrap_or_else(|| data_dir.join(FILE))
}

fn fresh(path: &Path) -> Result<Zeroizing<String>, VaultError> {
    let mut key = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *key).map_err(|error| at(path)(io::Error::other(error.to_string())))?;
    Ok(Zeroizing::new(hex(&*key)))
}

fn write(path: &Path, text: &str) -> Result<Zeroizing<String>, VaultError> {
    files::replace(path, text.as_bytes(), 0o600).map_err(at(path))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn parse(line: &str) -> Option<Key> {
    if line.len() != 64 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    for (slot, pair) in secret.iter_mut().zip(line.as_bytes().as_chunks::<2>().0) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    let digest = Sha256::new().chain_update("vault key").chain_update(*secret).finalize();
    let mut id = [0u8; KEY_ID];
    id.copy_from_slice(&digest[..KEY_ID]);
    Some(Key { id, secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_key_file_is_named_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let config = Config { key_file: Some(path.clone()) };
        let good = "ab".repeat(32);
        let table = [
            (None, 0o600, "No such file"),
            (Some(String::new()), 0o600, "it holds 0 keys"),
            (Some(format!("# comment\n{good}\n{}\n", "secretsecret")), 0o600, "line 3 is not a key"),
            (Some(good.clone()), 0o644, "everybody may read it"),
            (Some(format!("{good}\n").repeat(17)), 0o600, "it holds 17 keys"),
        ];
        for (text, mode, want) in table {
            if let Some(text) = &text {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            let said = KeyRing::load(dir.path(), &config).err().expect("a fault").to_string();
            assert!(said.contains(want) && !said.contains("secretsecret") && !said.contains(&good), "{said}");
        }
    }
}
