//! How one secret lies on disk.
//!
//! `TgVault2`, the key's id, the nonce, and the encrypted rest: the length of the name, the name, the secret. What is
//! authenticated beside it is the head and the file's name. So a file tells whose it is to who has the key, which is
//! what lets keys be exchanged without knowing all names. Files of the first format, whose name stands in what is
//! authenticated only, are still read.

use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::keys::{Key, KeyRing};
use super::{KEY_ID, LARGEST, VaultError, at};

/// Stands at the beginning of every file, and is authenticated with it.
const MAGIC: &[u8; 8] = b"TgVault2";
/// The same of the first format.
const FIRST_MAGIC: &[u8; 8] = b"TgVault1";
const NONCE: usize = 24;
/// Names are addresses, with a word before them at most.
const LONGEST_NAME: usize = 1024;
/// What a file has beside name and secret: head, nonce, length, authentication tag.
const AROUND: usize = 8 + KEY_ID + NONCE + 2 + 16;
/// The largest file that is one of ours.
pub const LARGEST_FILE: usize = LARGEST + LONGEST_NAME + AROUND;

/// A secret with its name.
pub struct Opened {
    pub name: String,
    pub secret: Zeroizing<Vec<u8>>,
}

/// Whether the name stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    First,
    Named,
}

/// The parts of a file.
struct Parts<'a> {
    format: Format,
    key: &'a [u8; KEY_ID],
    nonce: &'a [u8; NONCE],
    sealed: &'a [u8],
}

fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let format = match magic {
        FIRST_MAGIC => Format::First,
        MAGIC => Format::Named,
        _ => return None,
    };
    let (key, rest) = rest.split_first_chunk::<KEY_ID>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    Some(Parts { format, key, nonce, sealed })
}

/// The id of the key that a file is encrypted with; `None` is no file of ours.
pub fn key_id(bytes: &[u8]) -> Option<[u8; KEY_ID]> {
    parts(bytes).map(|parts| *parts.key)
}

/// Whether the name has to be known to open a file.
pub fn needs_name(bytes: &[u8]) -> bool {
    parts(bytes).is_some_and(|parts| parts.format == Format::First)
}

/// Encrypts a secret for the file at `path`.
pub fn seal(key: &Key, name: &str, plain: &[u8], path: &Path) -> Result<Vec<u8>, VaultError> {
    if plain.len() > LARGEST || name.len() > LONGEST_NAME {
        return Err(VaultError::TooLarge(plain.len().max(name.len())));
    }
    let mut nonce = [0u8; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| at(path)(std::io::Error::other(error.to_string())))?;
    let content = Zeroizing::new([&(name.len() as u16).to_be_bytes()[..], name.as_bytes(), plain].concat());
    let cipher = XChaCha20Poly1305::new((&*key.secret).into());
    let payload = Payload { msg: &content, aad: &[&MAGIC[..], &key.id, &file_name(path)].concat() };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::TooLarge(plain.len()))?;
    Ok([&MAGIC[..], &key.id, &nonce, &sealed].concat())
}

/// Decrypts the file at `path`; `name` is whose it should be, where that is known.
pub fn unseal(ring: &KeyRing, name: Option<&str>, bytes: &[u8], path: &Path) -> Result<Opened, VaultError> {
    let damaged = || VaultError::Damaged { path: path.to_owned() };
    let parts = parts(bytes).ok_or_else(damaged)?;
    let unknown = || VaultError::UnknownKey { path: path.to_owned(), id: crate::units::hex(parts.key) };
    let key = ring.by_id(parts.key).ok_or_else(unknown)?;
    let about = match (parts.format, name) {
        (Format::Named, _) => [&MAGIC[..], &key.id, &file_name(path)].concat(),
        (Format::First, Some(name)) => [&FIRST_MAGIC[..], &key.id, name.as_bytes()].concat(),
        (Format::First, None) => return Err(damaged()),
    };
    let cipher = XChaCha20Poly1305::new((&*key.secret).into());
    let payload = Payload { msg: parts.sealed, aad: &about };
    let plain = cipher.decrypt(&XNonce::from(*parts.nonce), payload).map(Zeroizing::new).map_err(|_| damaged())?;
    let opened = match parts.format {
        Format::First => Opened { name: name.unwrap_or_default().to_owned(), secret: plain },
        Format::Named => split(&plain).ok_or_else(damaged)?,
    };
    if name.is_some_and(|name| name != opened.name) { Err(damaged()) } else { Ok(opened) }
}

fn split(content: &[u8]) -> Option<Opened> {
    let (len, rest) = content.split_first_chunk::<2>()?;
    let (name, secret) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some(Opened { name: std::str::from_utf8(name).ok()?.to_owned(), secret: Zeroizing::new(secret.to_vec()) })
}

fn file_name(path: &Path) -> Vec<u8> {
    path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default()
}
