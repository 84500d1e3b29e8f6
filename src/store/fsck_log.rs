//! Whether the log can be read from end to end, and whether the index could be made from it again.

use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::fsck::{Check, Depth, Finding, REPORT, RESTORE};
use super::overlay::Overlay;
use super::record::Kind;
use super::rows::Position;
use super::segment::{Found, Record};
use super::values::{MailBytes, OpenReport};
use super::{body, meta, snapshot};
use crate::units::{count, hex};

const KEEP: &str = "keep the directory `index` as it is, for the log alone does not bring it back; look at the disk";

/// What was found when the directory was opened, and cannot be seen any more once it was.
pub fn of_opening(opened: &OpenReport) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |code, said, advice| findings.push(Finding { code, said, advice });
    for number in &opened.missing_segments {
        find("segment_missing", format!("segment {number} of the log is gone, with mail that waited"), RESTORE);
    }
    if opened.log_behind {
        find("log_behind", "the log ends before what the index has: its last records are lost".into(), RESTORE);
    }
    if opened.missing_commits > 0 {
        let places = count(opened.missing_commits, "place", "places");
        find("commit_missing", format!("a commit is missing at {places} of the log, and the index lacks it"), RESTORE);
    }
    if opened.set_aside > 0 {
        let files = count(opened.set_aside, "file of a mail", "files of mails");
        let advice = "look into each: it may be the last that is left of a mail that was accepted";
        find("file_set_aside", format!("{files} without a record moved to the directory `lost`"), advice);
    }
    findings
}

/// The commits as the log has them: each names the one before it.
struct Chain {
    last: Position,
    /// What is older than this snapshot is not needed to rebuild the index.
    snapshot: Position,
}

impl Check<'_> {
    /// Every record of the log, up to where it ended when the check began.
    pub(super) fn log(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let numbers = store.segments.list()?;
        let last = numbers.last().copied().unwrap_or(0);
        let snapshot = snapshot::list(&store.dir)?.last().map(|(position, _)| *position).unwrap_or_default();
        let mut chain = Chain { last: Position(0), snapshot };
        for number in numbers {
            let scanned = store.segments.scan::<StoreError>(number, 0, |found| {
                match found {
                    // The log may be writing at its end while we read.
                    Found::Bad { tail: true, .. } if number == last => {}
                    Found::Bad { position, bytes, .. } => {
                        self.find(
                            "log_damaged",
                            format!("{} no record at {:#x}", count(bytes, "byte is", "bytes are"), position.0),
                            RESTORE,
                        );
                    }
                    Found::Record(record) if record.header.kind == Kind::Commit => self.commit(&record, &mut chain),
                    Found::Record(record) => self.record(record),
                }
                Ok(())
            });
            if let Err(error) = scanned {
                self.find("log_unreadable", error.to_string(), RESTORE);
            }
        }
        Ok(())
    }

    fn commit(&mut self, record: &Record, chain: &mut Chain) {
        self.report.records += 1;
        let position = record.header.position;
        let Some((previous, _)) = Overlay::decode(&record.body).filter(|_| record.body_intact) else {
            return self.changed(position);
        };
        // A commit in a segment that was reclaimed is missed by nobody: a snapshot stands for it.
        if previous > chain.snapshot && previous != chain.last {
            let said =
                format!("the commit at {:#x} is not in the log, and the next one is at {:#x}", previous.0, position.0);
            self.find("commit_missing", said, KEEP);
        }
        chain.last = position;
    }

    fn changed(&mut self, position: Position) {
        self.find("record_damaged", format!("the record at {:#x} has changed on the disk", position.0), RESTORE);
    }

    fn record(&mut self, record: Record) {
        self.report.records += 1;
        let (position, kind) = (record.header.position, record.header.kind);
        if !record.body_intact {
            self.changed(position);
        }
        self.mails.insert(position.0, kind);
        if kind == Kind::Erased {
            return;
        }
        self.report.mails += 1;
        let (mail, place) = match meta::decode(&record.meta) {
            Ok(decoded) => decoded,
            Err(said) => return self.find("meta_damaged", format!("{:#x}: {said}", position.0), REPORT),
        };
        let bytes = match place {
            meta::Place::Inline => MailBytes::Inline(record.body),
            meta::Place::File => MailBytes::File { path: body::path(&self.store.dir, mail.id), len: mail.size },
        };
        if let MailBytes::File { path, len } = &bytes {
            self.files.insert(mail.id.to_string());
            if std::fs::metadata(path).map_or(0, |meta| meta.len()) != *len {
                self.find("file_missing", format!("{} is missing or cut", path.display()), RESTORE);
                return;
            }
        }
        if self.depth == Depth::Deep && kind == Kind::Mail {
            let same = bytes.read().is_ok_and(|bytes| hex(&Sha256::digest(&bytes)) == mail.sha256);
            if !same {
                self.find("mail_changed", format!("the bytes of {} have changed on the disk", mail.id), RESTORE);
            }
        }
    }
}
