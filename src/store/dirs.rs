//! The directories of the store: nobody else may look into them, and what stands in them outlives a power cut.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

pub use crate::files::sync_dir;

/// Makes a directory of the store unless it is there. Nobody else may look into it, whatever the data directory allows.
pub fn make_dir(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & 0o007 != 0 => {
            let closed = fs::Permissions::from_mode(meta.permissions().mode() & 0o770);
            // One that belongs to somebody else is the operator's doing.
            if let Err(error) = fs::set_permissions(path, closed) {
                tracing::warn!(dir = %path.display(), %error, "everybody may look into a directory of the store");
            }
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(_) => fs::DirBuilder::new().mode(0o750).create(path),
    }
}
