//! How much space is free, and the ballast file that is given up when the store must finish what it has begun.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::units::rough_bytes;

/// For how long a look at the free space stays good.
const FRESH: Duration = Duration::from_millis(200);

/// The space of one data directory.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    low_water: u64,
    /// What the ballast is to hold, and how much of it is not there: given up, or never set aside for want of space.
    ballast: u64,
    missing: AtomicU64,
    /// What filing the mails that are accepted will still take.
    owed: AtomicU64,
    /// Space ran low, and has not come back well over the mark since.
    low: AtomicBool,
    begun: Instant,
    /// Free bytes at the last look, and when that was, in milliseconds since `begun`, plus one.
    free: AtomicU64,
    looked: AtomicU64,
}

/// What one mail takes when it is filed: its rows in the commit and in the index, and what the index writes around them.
/// Measured at 8 KiB for mails of 20 KB; twice that is on the safe side.
const ROWS_OF_A_MAIL: u64 = 16 << 10;
/// How many times the size of its rows the index may write for them.
const SPACE_OF_ROWS: u64 = 4;

impl Space {
    /// The space around a data directory. No mail is accepted below the low-water mark, nor with what was the ballast.
    pub fn new(dir: &Path, low_water: u64, ballast: u64) -> Self {
        let (free, looked, missing) = (AtomicU64::new(u64::MAX), AtomicU64::new(0), AtomicU64::new(0));
        Self {
            dir: dir.to_owned(),
            low_water,
            ballast,
            missing,
            owed: AtomicU64::new(0),
            low: AtomicBool::new(false),
            begun: Instant::now(),
            free,
            looked,
        }
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
            if self.missing.load(Ordering::Relaxed) > 0 {
                self.set_ballast();
            }
        }
        self.free.load(Ordering::Relaxed)
    }

    /// Whether there is too little space to accept mail. Once there was, there has to be half as much again over the
    /// mark: the index gives a little back when it tidies up, and doors that open and shut for it help nobody.
    pub fn is_low(&self) -> bool {
        let margin = if self.low.load(Ordering::Relaxed) { self.low_water / 2 } else { 0 };
        let free = self.free();
        let low = free < self.mark().saturating_add(margin);
        self.becomes(low);
        low
    }

    /// Notes whether space is low, and tells the log when that has changed: otherwise only the senders would hear of it.
    fn becomes(&self, low: bool) {
        if self.low.swap(low, Ordering::Relaxed) == low {
            return;
        }
        let (dir, free) = (self.dir.display(), rough_bytes(self.free.load(Ordering::Relaxed)));
        if low {
            let mark = rough_bytes(self.mark());
            tracing::warn!(%dir, free, mark, "the disk is low: no mail is accepted until some space is freed");
        } else {
            tracing::info!(%dir, free, "the disk has room again: mail is accepted");
        }
    }

    /// Whether so many bytes would leave the low-water mark alone.
    pub fn has_room(&self, bytes: u64) -> bool {
        // Looking at the space may set the ballast aside again, so it comes first.
        !self.is_low() && self.free() >= self.mark().saturating_add(bytes)
    }

    /// What has to stay free: the low-water mark, the ballast while it is not set aside, and what filing still needs.
    fn mark(&self) -> u64 {
        let missing = self.missing.load(Ordering::Relaxed);
        self.low_water.saturating_add(missing).saturating_add(self.owed.load(Ordering::Relaxed))
    }

    /// So many mails are accepted and not filed, and so many bytes of rows are not in the index's files: both will need
    /// space too, and nobody can refuse them any more.
    pub fn owe(&self, mails: u64, unsettled: u64) {
        let rows = unsettled.saturating_mul(SPACE_OF_ROWS);
        self.owed.store(mails.saturating_mul(ROWS_OF_A_MAIL).saturating_add(rows), Ordering::Relaxed);
    }

    /// Bytes were written. Counted at once, because a fast sender writes more than the low-water mark between two looks.
    pub fn took(&self, bytes: u64) {
        let less = |free: u64| Some(free.saturating_sub(bytes));
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A write found no space, whatever the last look said.
    pub fn ran_out(&self) {
        self.becomes(true);
        self.looked.store(0, Ordering::Relaxed);
    }

    /// Gives up the ballast; says whether there was any.
    pub fn release_ballast(&self) -> bool {
        // Until it is set aside again, new mail must not use up what was to finish old work.
        self.missing.store(self.ballast, Ordering::Relaxed);
        let given_up = std::fs::remove_file(ballast(&self.dir)).is_ok();
        self.looked.store(0, Ordering::Relaxed);
        given_up
    }

    /// Sets the ballast aside, where there is space for it beside the low-water mark.
    pub fn set_ballast(&self) {
        let path = ballast(&self.dir);
        // A copy of the file, as a backup makes it, may be all hole and hold nothing back.
        let holds = |meta: std::fs::Metadata| meta.len() == self.ballast && meta.blocks() * 512 >= self.ballast;
        let there = std::fs::metadata(&path).is_ok_and(holds);
        let free = self.free.load(Ordering::Relaxed);
        if there || self.ballast == 0 {
            self.missing.store(0, Ordering::Relaxed);
        } else if free >= self.low_water.saturating_add(self.ballast) && self.make_ballast(&path) {
            self.free.store(free.saturating_sub(self.ballast), Ordering::Relaxed);
            self.missing.store(0, Ordering::Relaxed);
        } else {
            self.missing.store(self.ballast, Ordering::Relaxed);
        }
    }

    /// Makes the file. A file system that cannot reserve space goes without, and so does one that is full by now.
    fn make_ballast(&self, path: &Path) -> bool {
        let made = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match made.and_then(|file| reserve(&file, self.ballast)) {
            Ok(()) => true,
            Err(error) => {
                let _ = std::fs::remove_file(path);
                error.kind() == io::ErrorKind::Unsupported
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_the_ballast_is_not_for_new_mail_until_it_is_set_aside_again() {
        let dir = tempfile::tempdir().unwrap();
        let low_water = 1 << 20;
        let space = Space::new(dir.path(), low_water, 4096);
        assert!(space.free() > 2 * low_water, "the test needs a little space");
        space.set_ballast();
        assert_eq!(std::fs::metadata(ballast(dir.path())).unwrap().len(), 4096);
        assert!(space.release_ballast());
        assert!(!space.release_ballast(), "there is one only");
        // A disk with a little over the low-water mark, as it is just after the ballast went.
        space.looked.store(u64::MAX, Ordering::Relaxed);
        space.free.store(low_water + 4000, Ordering::Relaxed);
        assert!(!space.has_room(0));
        space.free.store(3 * low_water, Ordering::Relaxed);
        assert!(space.has_room(0));
        space.took(2 * low_water);
        assert!(!space.has_room(0), "what was written since the last look counts");
        space.free.store(low_water + 4096, Ordering::Relaxed);
        assert!(!space.has_room(0), "a little over the mark is not enough once space was low");
        // The next look finds enough for both.
        space.looked.store(0, Ordering::Relaxed);
        assert!(space.has_room(0));
        assert_eq!(std::fs::metadata(ballast(dir.path())).unwrap().len(), 4096);
    }
}
