//! The only file that knows the embedded engine, sled 0.34.7, and what it does not promise.
//!
//! Its `flush` neither syncs metadata nor the disk's cache, so the file is synced after it; a half-written snapshot
//! file of its own keeps it from opening, so such files go first; opening a damaged database may panic; after an error
//! the handle stays bad, so the store stops; values over about 7 KiB go to files that are never synced, so there is a
//! limit far below.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::error::{StoreError, is_full};
use super::keys;
use super::overlay::{MAX_VALUE, Overlay};
use super::rows::Position;
use super::segment::sync_dir;

/// The open index.
pub struct Index {
    db: sled::Db,
    file: File,
}

/// Why the index could not be opened.
#[derive(Debug)]
pub enum Unopened {
    Full,
    /// It has to be rebuilt.
    Damaged(String),
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Index {
    /// Opens the index in its directory, or makes it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Unopened> {
        let io = |error: io::Error| if is_full(&error) { Unopened::Full } else { Unopened::Damaged(error.to_string()) };
        if dir.exists() {
            remove_half_snapshots(dir).map_err(io)?;
        }
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
        let db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => db,
            Ok(Err(sled::Error::Io(error))) => return Err(io(error)),
            Ok(Err(error)) => return Err(Unopened::Damaged(error.to_string())),
            Err(_) => return Err(Unopened::Damaged("the engine panicked".into())),
        };
        let file = File::open(dir.join("db")).map_err(io)?;
        file.sync_all().and_then(|()| sync_dir(dir)).map_err(io)?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent).map_err(io)?;
        }
        Ok(Self { db, file })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(error)?.map(|value| value.to_vec()))
    }

    /// The number under a key; 0 where there is none.
    pub fn number(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.get(key)?.as_deref().map_or(0, number))
    }

    /// Applies the changes of one commit as a whole, and returns when they are on disk.
    pub fn apply(&self, overlay: &Overlay, applied: Position) -> Result<(), StoreError> {
        self.load(&overlay.changes, applied)?;
        self.sync()
    }

    /// Applies changes without syncing them: for a rebuild, which syncs at its end.
    pub fn load<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
        applied: Position,
    ) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) if value.len() > MAX_VALUE => {
                    return Err(StoreError::Misuse(format!("a value of {} bytes", value.len())));
                }
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        batch.insert(keys::APPLIED, &applied.0.to_be_bytes());
        self.guarded(|| self.db.apply_batch(batch))
    }

    /// Flushes, and syncs the engine's file, which `flush` alone does not do.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.guarded(|| self.db.flush().map(drop))?;
        Ok(self.file.sync_data()?)
    }

    /// Calls `visit` for the keys of a range, in order, or backwards, until it answers `false`.
    pub fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        order: Order,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut range = self.db.range(from..to);
        while let Some(item) = match order {
            Order::Up => range.next(),
            Order::Down => range.next_back(),
        } {
            let (key, value) = item.map_err(error)?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` for every key with this prefix.
    pub fn walk_prefix(
        &self,
        prefix: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut end = prefix.to_vec();
        // No prefix of ours ends in 0xff throughout, as all begin with a letter.
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        self.walk(prefix, &end, Order::Up, visit)
    }

    pub fn bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    /// The engine asserts in places where it meets bytes that it did not expect; that must not take the writer along.
    fn guarded(&self, f: impl FnOnce() -> sled::Result<()>) -> Result<(), StoreError> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => result.map_err(error),
            Err(_) => Err(StoreError::Broken("the engine of the index panicked".into())),
        }
    }
}

/// Which way a walk goes.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    Up,
    Down,
}

/// A number as the index keeps it.
pub fn number(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_be_bytes)
}

fn error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) if is_full(&error) => StoreError::Full,
        other => StoreError::Broken(format!("the index failed: {other}")),
    }
}

fn remove_half_snapshots(dir: &Path) -> io::Result<()> {
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(item.path())?;
        }
    }
    Ok(())
}
