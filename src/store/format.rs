//! The version of a data directory, and where a later version brings an older directory up to date.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::OpenError;
use crate::files;

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// What the `format` file says.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Format {
    pub format: u32,
    /// Goes into the checksum of every record header.
    pub salt: u64,
}

/// Reads the `format` file, or writes it into a directory that is new.
pub fn read_or_create(dir: &Path) -> Result<Format, OpenError> {
    let path = dir.join("format");
    match std::fs::read(&path) {
        Ok(text) => {
            let format: Format = serde_json::from_slice(&text)
                .map_err(|error| OpenError::Damaged(format!("{}: {error}", path.display())))?;
            migrate(format)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Without its salt no record of the log can be read.
            if std::fs::read_dir(dir.join("log")).is_ok_and(|mut log| log.next().is_some())
                || dir.join("index").exists()
            {
                return Err(OpenError::Damaged(format!("{} is missing beside a log or an index", path.display())));
            }
            create(dir)
        }
        Err(error) => Err(OpenError::io(path)(error)),
    }
}

/// Brings an older directory up to date, one version after the other. There is no older version yet.
fn migrate(format: Format) -> Result<Format, OpenError> {
    if format.format > VERSION {
        return Err(OpenError::TooNew { found: format.format, known: VERSION });
    }
    Ok(format)
}

fn create(dir: &Path) -> Result<Format, OpenError> {
    let mut salt = [0u8; 8];
    getrandom::fill(&mut salt).map_err(|error| OpenError::Damaged(format!("no random numbers: {error}")))?;
    let format = Format { format: VERSION, salt: u64::from_le_bytes(salt) };
    let text = serde_json::to_vec(&format).map_err(|error| OpenError::Damaged(error.to_string()))?;
    let path = dir.join("format");
    files::replace(&path, &text, 0o644).map_err(OpenError::io(&path))?;
    Ok(format)
}
