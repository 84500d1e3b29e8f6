//! One process at a time: the lock on a data directory, which names its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::OpenError;

/// The lock; it ends with the process or when this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: Timestamp,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(dir: &Path, now: Timestamp) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(OpenError::io(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(dir, file)),
            Err(error) => return Err(OpenError::io(path)(error.into())),
        }
        let command = std::env::args().next().unwrap_or_default();
        let holder = Holder { pid: std::process::id(), command, since: now };
        // The note is for people; the lock holds without it, also on a disk that is full.
        let text = serde_json::to_vec(&holder).unwrap_or_default();
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text));
        Ok(Self { _file: file })
    }
}

fn held(dir: &Path, mut file: File) -> OpenError {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let unknown = || Holder { pid: 0, command: "unknown".into(), since: Timestamp::UNIX_EPOCH };
    let holder: Holder = serde_json::from_str(&text).unwrap_or_else(|_| unknown());
    OpenError::Held { dir: dir.to_owned(), pid: holder.pid, command: holder.command, since: holder.since }
}
