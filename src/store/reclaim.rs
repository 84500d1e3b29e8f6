//! Giving space back: erased mails, and segments that hold nothing any more.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::dirs::sync_dir;
use super::error::StoreError;
use super::rows::Position;
use super::{Inner, body, keys, rebuild, snapshot};
use crate::mail::MailId;

impl Inner {
    /// Erases a mail: first every entry forgets its bytes, durably, then the bytes go.
    pub fn erase(&self, id: &str, author: &str, now: Timestamp) -> Result<(), StoreError> {
        self.step(|step| step.forget(id, author, now))?;
        self.finish_erasing()
    }

    /// Erases whatever was asked for and not finished.
    pub fn finish_erasing(&self) -> Result<(), StoreError> {
        let mut pending = Vec::new();
        self.index.walk_prefix(&[keys::ERASING], |key, id| {
            pending.push((Position(keys::number_in(key, 0)), String::from_utf8_lossy(id).into_owned()));
            Ok(true)
        })?;
        for (position, id) in &pending {
            match self.segments.erase(*position) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            if let Some(id) = MailId::parse(id) {
                let path = body::path(&self.dir, id);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    Err(_) => {}
                    // A power cut must not bring the name back once nothing remembers that it has to go.
                    Ok(()) => sync_dir(path.parent().unwrap_or(&self.dir))?,
                }
            }
        }
        if pending.is_empty() {
            return Ok(());
        }
        self.step(|step| {
            pending.iter().for_each(|(position, _)| step.delete(keys::erasing(*position)));
            Ok(())
        })
    }

    /// Writes a snapshot of the index; filing waits meanwhile.
    pub fn snapshot(&self) -> Result<Position, StoreError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        // An index on disk that is older than the newest snapshot would be taken for an old copy at the next start.
        self.index.settle()?;
        snapshot::write(&self.dir, &self.index, turn.last)?;
        Ok(turn.last)
    }

    /// Deletes segments that are wholly filed and have no mail left; returns how many.
    pub fn reclaim(&self) -> Result<u64, StoreError> {
        self.check()?;
        let filed = Position(self.index.number(keys::FILED)?);
        let applied = Position(self.index.number(keys::APPLIED)?);
        // The segment that is written to is never older than the one with the newest commit.
        let newest = filed.segment().min(applied.segment());
        let mut empty = Vec::new();
        for number in self.segments.list()? {
            if number < newest && self.index.number(&keys::live(number))? == 0 {
                empty.push(number);
            }
        }
        let Some(last) = empty.last() else { return Ok(0) };
        // The commits in these segments go on the word of a snapshot, so it has to be one that can be used today.
        if rebuild::newest(&self.dir, &self.segments, Position::new(last + 1, 0))?.is_none() {
            self.snapshot()?;
        }
        for number in &empty {
            self.segments.remove(*number)?;
        }
        self.step(|step| {
            empty.iter().for_each(|number| step.delete(keys::live(*number)));
            Ok::<_, StoreError>(())
        })?;
        Ok(empty.len() as u64)
    }
}
