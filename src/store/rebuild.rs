//! Building the index anew from the newest snapshot and the log behind it.
//!
//! The file `index.building` asks for it at the next start: with a sentence in it the index cannot be used for that
//! reason, and with `HALF` the index beside it is what an earlier rebuild has left.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::dirs::sync_dir;
use super::engine::Unopened;
use super::error::OpenError;
use super::index::Index;
use super::overlay::Overlay;
use super::recover::fault;
use super::rows::Position;
use super::segment::Segments;
use super::values::OpenReport;
use super::{Config, keys, snapshot};
use crate::files;

const HALF: &str = "half-built";
/// A reason is no longer than this.
const REASON: u64 = 4096;

/// Asks for a rebuild at the next start. Best effort: whoever asks stops in any case.
pub fn ask_for(dir: &Path, because: &str) {
    if let Err(error) = mark(dir, because) {
        tracing::error!(%error, because, "the next start cannot be told to rebuild the index");
    }
}

/// Why an earlier run has asked for a rebuild.
pub fn asked_for(dir: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(building(dir)) {
        Ok(file) => io::Read::read_to_string(&mut io::Read::take(file, REASON), &mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let unfinished = text.is_empty() || text == HALF;
    Ok(Some(if unfinished { "an earlier rebuild was not completed".into() } else { text }))
}

/// Takes the index out of the way and begins a new one with the newest snapshot that can be read. Without any base for
/// it nothing is touched.
pub fn begin(
    dir: &Path,
    config: &Config,
    segments: &Segments,
    because: &str,
    report: &mut OpenReport,
    now: Timestamp,
) -> Result<Index, OpenError> {
    let base = base(dir, segments)?;
    let path = dir.join("index");
    let aside = put_aside(dir, because, now).map_err(OpenError::io(&path))?;
    tracing::error!(because, aside = %aside.display(), "the index cannot be used and is rebuilt from the log");
    report.rebuilt_because = Some(format!("{because}; the old index was moved to {}", aside.display()));
    let index = Index::open(&path, config).map_err(|error| match error {
        Unopened::Full => OpenError::Full { dir: dir.to_owned() },
        Unopened::Trouble(error) => OpenError::io(&path)(error),
        Unopened::Damaged(said) => OpenError::Damaged(format!("a new index cannot be made: {said}")),
    })?;
    if let Some(base) = base {
        let load = |overlay: &Overlay| index.load(overlay, Position(0));
        let position = snapshot::read(&base, load).map_err(fault(dir))?;
        index.load(&Overlay::default(), position).map_err(fault(dir))?;
    }
    Ok(index)
}

/// The rebuild is complete and synced.
pub fn completed(dir: &Path) -> Result<(), OpenError> {
    let building = building(dir);
    std::fs::remove_file(&building).and_then(|()| sync_dir(dir)).map_err(OpenError::io(&building))
}

/// The newest snapshot that an index can be built with, of those at this position or behind it. Each is read to its end.
pub fn newest(dir: &Path, segments: &Segments, from: Position) -> io::Result<Option<PathBuf>> {
    let snapshots = snapshot::list(dir)?.into_iter().rev().take_while(|(at, _)| *at >= from);
    Ok(snapshots.map(|(_, path)| path).find(|path| is_usable(path, segments)))
}

/// Whether a snapshot can be read to its end, and is one of this log.
fn is_usable(snapshot: &Path, segments: &Segments) -> bool {
    let mut ours = true;
    let read = snapshot::read(snapshot, |overlay| {
        ours &= overlay.changes.get(keys::LOG).is_none_or(|mark| *mark == Some(segments.mark()));
        Ok(())
    });
    match read {
        Ok(_) if ours => return true,
        Ok(_) => tracing::error!(snapshot = %snapshot.display(), "a snapshot belongs to another log"),
        Err(error) => tracing::error!(snapshot = %snapshot.display(), %error, "a snapshot cannot be read"),
    }
    false
}

/// The snapshot to begin with; `None` where the log is there from its beginning.
fn base(dir: &Path, segments: &Segments) -> Result<Option<PathBuf>, OpenError> {
    let newest = newest(dir, segments, Position(0)).map_err(OpenError::io(dir))?;
    if newest.is_some() {
        return Ok(newest);
    }
    let first = segments.list().map_err(OpenError::io(dir))?.first().copied().unwrap_or(1);
    if first != 1 {
        let said = "the index cannot be used, the first log segment was reclaimed, and no snapshot can be read";
        return Err(OpenError::Damaged(said.into()));
    }
    Ok(None)
}

/// Moves the index aside, or removes what an earlier rebuild has left of a new one. Returns where the old one is.
fn put_aside(dir: &Path, because: &str, now: Timestamp) -> io::Result<PathBuf> {
    let (path, aside) = (dir.join("index"), dir.join(format!("index.damaged-{}", now.as_second())));
    let half = std::fs::read_to_string(building(dir)).is_ok_and(|text| text == HALF);
    if !half {
        mark(dir, because)?;
    }
    if path.exists() && (half || aside.exists()) {
        std::fs::remove_dir_all(&path)?;
    } else if path.exists() {
        std::fs::rename(&path, &aside)?;
    }
    sync_dir(dir)?;
    mark(dir, HALF)?;
    Ok(aside)
}

fn mark(dir: &Path, text: &str) -> io::Result<()> {
    files::replace(&building(dir), text.as_bytes(), 0o644)
}

fn building(dir: &Path) -> PathBuf {
    dir.join("index.building")
}
