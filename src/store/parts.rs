//! Whether the parts of a data directory belong together: a log, an index, snapshots, files of mails.
//!
//! A part that is gone, or comes from elsewhere, is never made anew in place of what may come back.

use std::path::Path;

use super::error::{OpenError, StoreError};
use super::recover::fault;
use super::rows::Position;
use super::segment::{Found, Segments};
use super::snapshot;
use super::strays::body_files;

/// Refuses a store of which a directory is gone while the others are there, before anything is made in its place.
pub fn check(dir: &Path) -> Result<(), OpenError> {
    let gone = |name: &str| !dir.join(name).exists();
    let begun = || Ok(!gone("log") && std::fs::read_dir(dir.join("log"))?.next().is_some());
    let (log, bodies) = (dir.join("log"), dir.join("bodies"));
    if gone("log") && has_rest(dir).map_err(OpenError::io(dir))? {
        return Err(OpenError::Gone { part: log });
    }
    if gone("bodies") && begun().map_err(OpenError::io(log))? {
        return Err(OpenError::Gone { part: bodies });
    }
    Ok(())
}

/// Whether there is a part of a store that only a log can have led to.
fn has_rest(dir: &Path) -> std::io::Result<bool> {
    Ok(dir.join("index").exists()
        || !snapshot::list(dir)?.is_empty()
        || dir.join("bodies").exists() && !body_files(dir)?.is_empty())
}

/// Makes the first segment of a new log. A log that is empty beside what was made from it is not new.
pub fn first_segment(dir: &Path, segments: &Segments) -> Result<(), OpenError> {
    let list = segments.list().map_err(OpenError::io(dir))?;
    if !list.is_empty() {
        let foreign = is_foreign(segments, &list).map_err(fault(dir))?;
        return if foreign { Err(OpenError::Foreign(dir.join("format"))) } else { Ok(()) };
    }
    if has_rest(dir).map_err(OpenError::io(dir))? {
        return Err(OpenError::Gone { part: dir.join("log") });
    }
    segments.create(1).map(drop).map_err(OpenError::io(segments.path(1)))
}

/// Whether a log has records and none that can be read: then their checksums have another salt.
fn is_foreign(segments: &Segments, list: &[u32]) -> Result<bool, StoreError> {
    let (mut readable, mut changed) = (false, false);
    for number in list {
        let start = Position::new(*number, 0);
        if segments.header(start)?.is_some() {
            return Ok(false);
        }
        changed |= segments.is_changed_header(start)?;
        segments.scan::<StoreError>(*number, 0, |found| {
            readable |= matches!(found, Found::Record(_));
            Ok(())
        })?;
    }
    Ok(changed && !readable)
}
