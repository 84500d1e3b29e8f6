//! The bytes of one mail on their way in: hashed as they come, kept in memory while small, in a file when not.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::dirs::sync_dir;
use super::error::BodyError;
use super::space::Space;
use crate::mail::MailId;
use crate::units::hex;

/// How much of the beginning stays at hand for those who look at the header section. A limit on header sections has to
/// be smaller, or a section that is too large cannot be told from one that ends.
pub const HEAD: usize = (1 << 20) + 1;
/// Held while a directory of bodies is made.
static MAKING: Mutex<()> = Mutex::new(());
/// How much is gathered for one write to a file.
const CHUNK: usize = 256 << 10;

/// Takes the bytes of one mail; dropping it unfinished leaves nothing behind.
#[derive(Debug)]
pub struct BodyWriter {
    id: MailId,
    limit: u64,
    inline: usize,
    tmp: PathBuf,
    space: Arc<Space>,
    hasher: Sha256,
    size: u64,
    /// Everything while it is small, then what is not in the file yet.
    buffer: Vec<u8>,
    head: Vec<u8>,
    file: Option<(Arc<File>, Temporary)>,
}

/// The bytes of one mail, complete, hashed and (where they are in a file) synced. Dropping it unspooled removes the
/// file.
#[derive(Debug)]
pub struct Body {
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) bytes: Bytes,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Bytes {
    Memory(Vec<u8>),
    File { head: Vec<u8>, file: Temporary },
}

/// A file that goes away unless it is kept.
#[derive(Debug)]
pub(super) struct Temporary(Option<PathBuf>);

impl BodyWriter {
    pub(super) fn new(id: MailId, limit: u64, inline: u64, dir: &Path, space: Arc<Space>) -> Self {
        let tmp = dir.join("tmp").join(id.to_string());
        let inline = inline as usize;
        let (hasher, buffer, head) = (Sha256::new(), Vec::new(), Vec::new());
        Self { id, limit, inline, tmp, space, hasher, size: 0, buffer, head, file: None }
    }

    /// The id that the mail will have.
    pub fn id(&self) -> MailId {
        self.id
    }

    /// Takes the next bytes. After an error the writer is of no further use.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.count(bytes)?;
        self.buffer.extend_from_slice(bytes);
        let most = if self.file.is_some() { CHUNK } else { self.inline.max(1) };
        if self.buffer.len() > most { self.spill().await } else { Ok(()) }
    }

    /// The mail is complete with these bytes, which are all of it.
    pub async fn whole(mut self, bytes: Vec<u8>) -> Result<Body, BodyError> {
        if self.holds(bytes.len()) {
            return Ok(self.hold(bytes));
        }
        self.count(&bytes)?;
        self.buffer = bytes;
        self.spill().await?;
        self.finish().await
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether a mail of so many bytes stays in memory.
    pub fn holds(&self, len: usize) -> bool {
        len <= self.inline.max(1) && len as u64 <= self.limit
    }

    /// The mail is complete with these bytes, which are all of it and stay in memory.
    pub fn hold(self, bytes: Vec<u8>) -> Body {
        Body { size: bytes.len() as u64, sha256: hex(&Sha256::digest(&bytes)), bytes: Bytes::Memory(bytes) }
    }

    /// The first bytes, at most `HEAD`.
    pub fn head(&self) -> &[u8] {
        if self.file.is_some() { &self.head } else { &self.buffer[..self.buffer.len().min(HEAD)] }
    }

    /// How many bytes came so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The mail is complete; returns once a file of it is synced.
    pub async fn finish(mut self) -> Result<Body, BodyError> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.spill().await?;
        }
        let sha256 = hex(&self.hasher.finalize());
        let Some((file, temporary)) = self.file else {
            return Ok(Body { size: self.size, sha256, bytes: Bytes::Memory(self.buffer) });
        };
        blocking(move || Ok(file.sync_data()?)).await?;
        Ok(Body { size: self.size, sha256, bytes: Bytes::File { head: self.head, file: temporary } })
    }

    /// Moves what is gathered into the file.
    async fn spill(&mut self) -> Result<(), BodyError> {
        let buffer = std::mem::take(&mut self.buffer);
        self.space.took(buffer.len() as u64);
        let wanted = HEAD.saturating_sub(self.head.len()).min(buffer.len());
        self.head.extend_from_slice(&buffer[..wanted]);
        if self.space.is_low() {
            return Err(BodyError::Full);
        }
        let known = self.file.as_ref().map(|(file, _)| file.clone());
        let path = self.tmp.clone();
        // The guard stands before the file does, so that a caller who goes away mid-write leaves no file.
        if self.file.is_none() {
            let (file, temporary) = blocking(move || {
                let temporary = Temporary(Some(path.clone()));
                Ok((Arc::new(File::create(&path)?), temporary))
            })
            .await?;
            self.file = Some((file, temporary));
        }
        let Some(file) = known.or_else(|| self.file.as_ref().map(|(file, _)| file.clone())) else { return Ok(()) };
        blocking(move || Ok((&*file).write_all(&buffer)?)).await
    }
}

impl Body {
    /// How many bytes the mail has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many of them are in memory.
    pub fn held(&self) -> u64 {
        match &self.bytes {
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::File { .. } => 0,
        }
    }

    /// In lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The first bytes, at most `HEAD`.
    pub fn head(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Memory(bytes) => &bytes[..bytes.len().min(HEAD)],
            Bytes::File { head, .. } => head,
        }
    }
}

impl Body {
    /// All bytes, from memory or from the file.
    pub async fn read(&self) -> Result<Cow<'_, [u8]>, BodyError> {
        match &self.bytes {
            Bytes::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Bytes::File { file, .. } => {
                let path = file.0.clone().ok_or_else(|| BodyError::Trouble("the mail has no file any more".into()))?;
                blocking(move || Ok(std::fs::read(path)?)).await.map(Cow::Owned)
            }
        }
    }
}

impl Temporary {
    /// Gives the file its lasting name, durably.
    pub(super) fn keep(&mut self, dir: &Path, id: MailId) -> std::io::Result<PathBuf> {
        let target = path(dir, id);
        if let (Some(from), Some(parent)) = (&self.0, target.parent()) {
            // Whoever finds the directory of another mail must find its name durable as well.
            let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
            if !parent.exists() {
                std::fs::create_dir_all(parent)?;
                sync_dir(&dir.join("bodies"))?;
            }
            drop(making);
            std::fs::rename(from, &target)?;
            self.0 = Some(target.clone());
            sync_dir(parent)?;
        }
        Ok(target)
    }

    /// The file stays from here on.
    pub(super) fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where the bytes of a large mail are kept. The last two letters of an id change fastest, so they name the directory.
pub(super) fn path(dir: &Path, id: MailId) -> PathBuf {
    let text = id.to_string();
    dir.join("bodies").join(&text[text.len() - 2..]).join(text)
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, BodyError> + Send + 'static,
) -> Result<T, BodyError> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|error| Err(BodyError::Trouble(error.to_string())))
}
