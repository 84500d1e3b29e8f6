//! Files that no record speaks of: what was on its way when a process ended, and what damage has left without a name.
//!
//! What was never acknowledged goes. But where the log or the index has lost something, a file may be the last that is
//! left of a mail that was accepted, so it is moved to `lost` for a person to look at, and never removed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::dirs::{make_dir, sync_dir};
use super::error::StoreError;
use super::index::Index;
use super::values::OpenReport;
use super::{body, keys};
use crate::mail::MailId;

/// Where a file goes that may be the last of a mail.
pub const LOST: &str = "lost";

/// Throws away what was on its way in.
pub fn clear_tmp(dir: &Path) -> std::io::Result<()> {
    let tmp = dir.join("tmp");
    if tmp.exists() {
        std::fs::remove_dir_all(&tmp)?;
    }
    make_dir(&tmp)
}

/// Takes away the files of mails that have neither a record that waits nor an entry: nobody was told of them, unless
/// something was lost that would have told.
pub fn clear_bodies(
    dir: &Path,
    index: &Index,
    waiting: &HashSet<MailId>,
    report: &mut OpenReport,
) -> Result<(), StoreError> {
    let lost = dir.join(LOST);
    for (id, path) in body_files(dir)? {
        if waiting.contains(&id) || index.get(&keys::id(&id.to_string()))?.is_some() {
            continue;
        }
        if report.has_lost() {
            make_dir(&lost)?;
            std::fs::rename(&path, lost.join(id.to_string()))?;
            report.set_aside += 1;
        } else {
            std::fs::remove_file(path)?;
            report.orphans += 1;
        }
    }
    if report.set_aside > 0 {
        sync_dir(&lost)?;
    }
    Ok(())
}

/// All files of mails, with their ids.
pub fn body_files(dir: &Path) -> std::io::Result<Vec<(MailId, PathBuf)>> {
    let mut files = Vec::new();
    for group in std::fs::read_dir(dir.join("bodies"))? {
        let group = group?.path();
        if !group.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(group)? {
            let file = file?;
            if let Some(id) = file.file_name().to_str().and_then(MailId::parse)
                && file.path() == body::path(dir, id)
            {
                files.push((id, file.path()));
            }
        }
    }
    Ok(files)
}
