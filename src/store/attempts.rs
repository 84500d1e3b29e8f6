//! A note on disk of the mail that is being read, so that one that takes the process down is found out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::rows::Position;

/// The note. There is one: mails are to be noted one after the other.
#[derive(Debug)]
pub struct Attempts {
    file: File,
    /// What the process before this one was reading when it ended, and how often in a row it was begun.
    before: Option<(Position, u32)>,
    noted: Option<Position>,
}

impl Attempts {
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("attempt");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = [0u8; 16];
        let mut before = None;
        if file.read_exact_at(&mut bytes, 0).is_ok() {
            let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let position = Position(u64::from(word(0)) | u64::from(word(4)) << 32);
            if word(12) == crc32fast::hash(&bytes[..12]) && word(8) > 0 {
                before = Some((position, word(8)));
            }
        }
        Ok(Self { file, before, noted: None })
    }

    /// Notes that reading a mail begins; returns in how many process starts it began before and never ended.
    pub fn begin(&mut self, position: Position) -> u32 {
        let count = self.before.filter(|(before, _)| *before == position).map_or(0, |(_, count)| count);
        self.noted = Some(position);
        self.write(position, count + 1);
        count
    }

    /// This mail has been read to its end. The note of another one stays, and so does the count of the mail that the
    /// process before this one ended in: it may come behind others that are read well.
    pub fn end(&mut self, position: Position) {
        if self.noted == Some(position) {
            self.forget(|noted| noted == position);
        }
    }

    /// Everything before this position is filed. A mail behind it that is being read meanwhile keeps its note.
    pub fn end_before(&mut self, position: Position) {
        if self.noted.is_some_and(|noted| noted < position) || self.suspects().is_some_and(|mail| mail < position) {
            self.forget(|noted| noted < position);
        }
    }

    /// The mail that the process before this one was reading when it ended, until it is read or filed.
    pub fn suspects(&self) -> Option<Position> {
        self.before.map(|(position, _)| position)
    }

    fn forget(&mut self, over: impl Fn(Position) -> bool) {
        self.before = self.before.filter(|(position, _)| !over(*position));
        self.noted = self.noted.filter(|position| !over(*position));
        if self.noted.is_none() {
            let (position, count) = self.before.unwrap_or_default();
            self.write(position, count);
        }
    }

    /// Not synced: a note that a power cut takes away only costs one more attempt.
    fn write(&self, position: Position, count: u32) {
        let mut bytes = [0u8; 16];
        bytes[0..8].copy_from_slice(&position.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&count.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let _ = self.file.write_all_at(&bytes, 0);
    }
}
