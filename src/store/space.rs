//! How much space is free, and the ballast file that is given up when the store must finish what it has begun.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long a look at the free space stays good.
const FRESH: Duration = Duration::from_millis(200);

/// The space of one data directory.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    low_water: u64,
    begun: Instant,
    /// Free bytes at the last look, and when that was, in milliseconds since `begun`, plus one.
    free: AtomicU64,
    looked: AtomicU64,
}

impl Space {
    pub fn new(dir: &Path, low_water: u64) -> Self {
        let (free, looked) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Self { dir: dir.to_owned(), low_water, begun: Instant::now(), free, looked }
    }

    /// Free bytes, as they were at most 200 ms ago.
    pub fn free(&self) -> u64 {
        let now = self.begun.elapsed().as_millis() as u64 + 1;
        let looked = self.looked.load(Ordering::Relaxed);
        if (looked == 0 || now - looked.min(now) >= FRESH.as_millis() as u64)
            && let Ok(stat) = rustix::fs::statvfs(&self.dir)
        {
            self.free.store(stat.f_bavail.saturating_mul(stat.f_frsize), Ordering::Relaxed);
            self.looked.store(now, Ordering::Relaxed);
        }
        self.free.load(Ordering::Relaxed)
    }

    /// Whether there is too little space to accept mail.
    pub fn is_low(&self) -> bool {
        !self.has_room(0)
    }

    /// Whether so many bytes would leave the low-water mark alone.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.free() >= self.low_water.saturating_add(bytes)
    }

    /// Gives up the ballast; says whether there was any.
    pub fn release_ballast(&self) -> bool {
        self.looked.store(0, Ordering::Relaxed);
        std::fs::remove_file(ballast(&self.dir)).is_ok()
    }

    /// Sets the ballast aside, where there is space for it beside the low-water mark.
    pub fn set_ballast(&self, bytes: u64) -> io::Result<()> {
        let path = ballast(&self.dir);
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes) {
            return Ok(());
        }
        if self.free() < self.low_water.saturating_add(bytes) {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        let reserved = reserve(&file, bytes);
        if reserved.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        // Some file systems cannot reserve space; they go without a ballast.
        Ok(())
    }
}

fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    if bytes > 0 {
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    }
    Ok(())
}

fn ballast(dir: &Path) -> PathBuf {
    dir.join("ballast")
}
