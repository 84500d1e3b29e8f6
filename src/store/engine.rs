//! The only file that knows the embedded engine, sled 0.34.7, and what it does not promise.
//!
//! Its `flush` neither syncs metadata nor the disk's cache, so the file is synced after it; a half-written snapshot
//! file of its own keeps it from opening, so such files go first; opening a damaged database may panic; after an error
//! the handle stays bad, so the store stops; values over about 7 KiB go to files that are never synced, so there is a
//! limit far below; what was not synced takes many times its size in memory; its threads may hold the lock of its
//! file for a moment after it was dropped.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{StoreError, is_full};
use super::index::Order;
use super::overlay::MAX_VALUE;
use super::segment::sync_dir;

/// How long the lock of a database that was just closed is waited for, and how often is looked.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// The open database.
pub struct Engine {
    db: sled::Db,
    file: File,
}

/// Why the database could not be opened.
#[derive(Debug)]
pub enum Unopened {
    Full,
    /// It has to be rebuilt.
    Damaged(String),
}

/// Keys and values in order, from one end or the other.
pub struct Range {
    iter: sled::Iter,
    order: Order,
}

impl Engine {
    /// Opens the database in its directory, or makes it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Unopened> {
        let io = |error: io::Error| if is_full(&error) { Unopened::Full } else { Unopened::Damaged(error.to_string()) };
        if dir.exists() {
            remove_half_snapshots(dir).map_err(io)?;
        }
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
        let begun = Instant::now();
        let mut opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        while let Ok(Err(sled::Error::Io(error))) = &opened
            && is_locked(error)
            && begun.elapsed() < LOCK_WAIT
        {
            std::thread::park_timeout(LOCK_LOOK);
            opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        }
        let db = match opened {
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

    /// Applies some changes as a whole, without syncing them.
    pub fn load<'a>(&self, changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) if value.len() > MAX_VALUE => {
                    return Err(StoreError::Misuse(format!("a value of {} bytes", value.len())));
                }
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.guarded(|| self.db.apply_batch(batch))
    }

    /// Flushes, and syncs the engine's file, which `flush` alone does not do.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.guarded(|| self.db.flush().map(drop))?;
        Ok(self.file.sync_data()?)
    }

    /// The keys from one (inclusive) to another (exclusive). What is written while it is read may be in it or not.
    pub fn range(&self, from: &[u8], to: &[u8], order: Order) -> Range {
        Range { iter: self.db.range(from..to), order }
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

impl Iterator for Range {
    type Item = Result<(sled::IVec, sled::IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.order {
            Order::Up => self.iter.next(),
            Order::Down => self.iter.next_back(),
        };
        item.map(|item| item.map_err(error))
    }
}

fn error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) if is_full(&error) => StoreError::Full,
        other => StoreError::Broken(format!("the index failed: {other}")),
    }
}

/// Whether another handle holds the database. The lock of the data directory keeps other processes away, so it can only
/// be one of this process that has just been dropped.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
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
