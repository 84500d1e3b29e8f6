//! What can go wrong in the store, one enum for each kind of caller. No type of the engine stands in any of them.

use std::io::ErrorKind;
use std::path::PathBuf;

use jiff::Timestamp;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the data directory {} is held by process {pid} ({command}), started {since:.0}: stop it first, or use another one",
        .dir.display()
    )]
    Held { dir: PathBuf, pid: u32, command: String, since: Timestamp },
    #[error("{} is no data directory, for it has no file \"format\"; name that of server.data_dir", .0.display())]
    NotAStore(PathBuf),
    #[error(
        "{} belongs to user {uid}, who could not change what root makes there; run it as that user: \
         setpriv --reuid {uid} --regid {gid} --clear-groups ticketgate …",
        .dir.display()
    )]
    OtherOwner { dir: PathBuf, uid: u32, gid: u32 },
    #[error("the data directory has format {found}, and this program knows formats up to {known}: install a newer one")]
    TooNew { found: u32, known: u32 },
    #[error("the disk is full: the store cannot be opened; free some space in {} and start again", .dir.display())]
    Full { dir: PathBuf },
    #[error("{}: {source}; {}", .path.display(), advice(.source))]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the store is damaged beyond what can be rebuilt: {0}; look at the disk, and restore it from a backup")]
    Damaged(String),
    #[error(
        "{} is gone or empty, and what lies beside it cannot be without it: is its file system mounted? Put it back, or \
         restore the whole data directory from a backup; nothing was changed",
        .part.display()
    )]
    Gone { part: PathBuf },
    #[error(
        "no record of the log can be read with {}, which comes from another data directory: put the right one back; \
         nothing was changed",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error("the data directory cannot be read or written: {0}; look at the disk, and at whom its files belong to")]
    Trouble(String),
    #[error("the store's configuration cannot be used: {0}")]
    Config(String),
}

/// What to do about a data directory that cannot be read or written.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "everything in the data directory has to belong to the user that runs this",
        ErrorKind::ReadOnlyFilesystem => {
            "its file system is mounted read-only: look for the reason in the system's log"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there and start again",
        _ => "check that it is a data directory that you may read and write, and look at the disk",
    }
}

/// Why a step or a reading failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed; it can be tried again once there is space.
    #[error("the disk is full")]
    Full,
    /// The store refuses everything from here on: the process has to be started anew.
    #[error("the store has stopped after an error: {0}")]
    Broken(String),
    #[error("there is no ticket {0}")]
    NoSuchTicket(u64),
    #[error("there is no entry {0}")]
    NoSuchEntry(String),
    /// What was asked for does not fit the state that the ticket or the entry is in.
    #[error("{0}")]
    NotPossible(String),
    /// A peer may have the mail, so that it could come twice; it can be ordered all the same.
    #[error("{0}")]
    MayComeTwice(String),
    /// The bytes at a position are not what was written there.
    #[error("the record at {position:#x} cannot be read: {said}")]
    Damaged { position: u64, said: String },
    /// A row or a call breaks a rule of the store; a fault of the caller.
    #[error("refused by the store: {0}")]
    Misuse(String),
    #[error("{0}")]
    Io(String),
}

impl StoreError {
    /// What went wrong, for those who say by themselves that the store stops.
    pub fn said(self) -> String {
        if let Self::Broken(said) = self { said } else { self.to_string() }
    }
}

/// Why a mail was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// No space, or less than the low-water mark: 452 4.3.1.
    #[error("the disk is full")]
    Full,
    /// Our own trouble: 451 4.3.0.
    #[error("{0}")]
    Trouble(String),
}

/// Why the bytes of a mail could not be taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("larger than the limit of {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the disk is full")]
    Full,
    #[error("{0}")]
    Trouble(String),
}

/// Whether an I/O error says that there is no space (or no quota) left.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge
    )
}

impl OpenError {
    /// Wraps an I/O error with the path that it is about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| if is_full(&source) { Self::Full { dir: path } } else { Self::Io { path, source } }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Io(error.to_string()) }
    }
}

impl From<std::io::Error> for BodyError {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Trouble(error.to_string()) }
    }
}
