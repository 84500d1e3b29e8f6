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
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dirs::{make_dir, sync_dir};
use super::error::{StoreError, is_full};
use super::index::Order;
use super::overlay::MAX_VALUE;
use super::rebuild;

/// How often the engine's lock is tried, and how long the wait is between two tries.
const HELD_TRIES: u32 = 40;
const HELD_WAIT: Duration = Duration::from_millis(50);

/// The open database.
pub struct Engine {
    db: sled::Db,
    /// Behind `db`, so that it goes after it.
    _last: Last,
    file: File,
    data_dir: PathBuf,
    doubted: AtomicBool,
}

/// Why the database could not be opened.
#[derive(Debug)]
pub enum Unopened {
    Full,
    /// The machine does not let us have it, which says nothing of the index itself.
    Trouble(io::Error),
    /// It has to be rebuilt.
    Damaged(String),
}

/// Keys and values in order, from one end or the other.
pub struct Range<'a> {
    engine: &'a Engine,
    iter: sled::Iter,
    order: Order,
}

impl Engine {
    /// Opens the database in its directory, or makes it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Unopened> {
        if dir.exists() {
            remove_half_snapshots(dir).map_err(io)?;
        }
        make_dir(dir).map_err(io)?;
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => break db,
                // A thread of the engine may still write for an index that was closed a moment ago.
                Ok(Err(sled::Error::Io(error))) if is_held(&error) && tries < HELD_TRIES => {
                    tries += 1;
                    std::thread::park_timeout(HELD_WAIT);
                }
                Ok(Err(sled::Error::Io(error))) => return Err(io(error)),
                Ok(Err(error)) => return Err(Unopened::Damaged(error.to_string())),
                Err(_) => return Err(Unopened::Damaged("the engine panicked".into())),
            }
        };
        let file = File::open(dir.join("db")).map_err(io)?;
        file.sync_all().and_then(|()| sync_dir(dir)).map_err(io)?;
        let data_dir = dir.parent().unwrap_or(dir).to_owned();
        sync_dir(&data_dir).map_err(io)?;
        Ok(Self { _last: Last(Some(db.clone())), db, file, data_dir, doubted: AtomicBool::new(false) })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.guarded(|| self.db.get(key))?.map(|value| value.to_vec()))
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
        // What a failed sync leaves on the disk nobody knows, though it can be read as long as it is in memory.
        self.file.sync_data().map_err(|error| self.failed(sled::Error::Io(error)))
    }

    /// The keys from one (inclusive) to another (exclusive). What is written while it is read may be in it or not.
    pub fn range(&self, from: &[u8], to: &[u8], order: Order) -> Range<'_> {
        Range { engine: self, iter: self.db.range(from..to), order }
    }

    pub fn bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    /// The engine asserts in places where it meets bytes that it did not expect; that must not take the writer along.
    fn guarded<T>(&self, f: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => result.map_err(|error| self.failed(error)),
            Err(_) => Err(self.failed(sled::Error::ReportableBug("it panicked".into()))),
        }
    }

    /// An index that fails is not opened as it is a second time: the log brings it back.
    fn failed(&self, error: sled::Error) -> StoreError {
        match error {
            sled::Error::Io(error) if is_full(&error) => StoreError::Full,
            other => {
                let said = format!("the index failed: {other}");
                if !self.doubted.swap(true, Ordering::Relaxed) {
                    rebuild::ask_for(&self.data_dir, &said);
                }
                StoreError::Broken(said)
            }
        }
    }
}

/// The last handle of the engine, which writes when it goes, and asserts that it could: on a disk that fails this must not
/// take the daemon's last words along.
struct Last(Option<sled::Db>);

impl Drop for Last {
    fn drop(&mut self) {
        let db = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(sled::IVec, sled::IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (iter, order) = (&mut self.iter, self.order);
        let item = self.engine.guarded(|| {
            let item = match order {
                Order::Up => iter.next(),
                Order::Down => iter.next_back(),
            };
            item.transpose()
        });
        item.transpose()
    }
}

/// Whether somebody has the engine's own lock, which it tells in words only.
fn is_held(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn io(error: io::Error) -> Unopened {
    use io::ErrorKind::{OutOfMemory, PermissionDenied, ReadOnlyFilesystem};
    let machines = matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | OutOfMemory)
        || matches!(
            rustix::io::Errno::from_io_error(&error),
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
        );
    match error {
        error if is_full(&error) => Unopened::Full,
        // What another process has must not be moved away from under it.
        error if machines || is_held(&error) => Unopened::Trouble(error),
        error => Unopened::Damaged(error.to_string()),
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
