//! One process at a time: the lock on a data directory, which names its holder.
//!
//! A directory is claimed before it is opened, so that a second process hears who holds it and not what else it could
//! not have beside it, such as a port.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::dirs::sync_dir;
use super::error::OpenError;
use super::{Config, OpenReport, Store, recover};
use crate::clock::Clock;

/// A data directory that no other process can open while this lives.
#[derive(Debug)]
pub struct Claim {
    pub(super) dir: PathBuf,
    pub(super) lock: Lock,
}

impl Claim {
    /// Makes the directory if need be and locks it, or says who has it.
    pub fn take(dir: &Path, now: Timestamp) -> Result<Self, OpenError> {
        create(dir).map_err(OpenError::io(dir))?;
        Ok(Self { dir: dir.to_owned(), lock: Lock::take(dir, now)? })
    }

    /// Opens what was claimed, as `Store::open` does.
    pub fn open(self, config: &Config, clock: Clock) -> Result<(Store, OpenReport), OpenError> {
        let (inner, report) = recover::open(self, config, clock)?;
        Ok((Store(Arc::new(inner)), report))
    }
}

/// Makes the data directory, which holds people's mail: for the daemon and, because the admin socket may stand in it, its
/// group. One that is there already belongs to the operator and stays as it is.
fn create(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parents =
        || dir.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let fresh = parents().take_while(|above| !above.exists()).count();
    parents().next().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    // Mail is accepted soon, and its directory must not go with the power. Who may only write above may not sync there.
    parents().take(fresh + 1).try_for_each(|above| match sync_dir(above) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    })
}

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
