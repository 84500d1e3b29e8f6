//! Checks that log, index and files of a data directory tell the same story.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;

use sha2::{Digest, Sha256};

use super::error::{OpenError, StoreError};
use super::record::Kind;
use super::rows::{EntryKind, EntryRow, Position, TicketRow};
use super::segment::{Found, Record};
use super::step::parse;
use super::values::{MailBytes, OpenReport};
use super::{Config, Inner, Store, body, fsck_ledger, index, keys, ledger, meta, outbox, prints, recover};
use crate::clock::Clock;
use crate::units::{count, hex};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every record's checksum and every row.
    Normal,
    /// The sha256 of every mail as well.
    Deep,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    pub findings: Vec<Finding>,
    pub records: u64,
    pub mails: u64,
    pub entries: u64,
    pub tickets: u64,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A short word for programs, such as `record_damaged`.
    pub code: &'static str,
    pub said: String,
    /// What to do about it.
    pub advice: &'static str,
}

const REBUILD: &str = "stop the daemon, move the directory `index` away and start it again: the index is rebuilt";
const RESTORE: &str = "the bytes are lost on this disk: restore them from a backup";
const REPORT: &str = "this is a fault of the program: please report it with this line";
/// A check ends its list here; so many faults have one cause.
const MOST: usize = 1000;

/// Checks a data directory that no daemon has open. Opening it completes what a crash has left, as a start does.
pub fn offline(dir: &Path, config: &Config, depth: Depth) -> Result<(OpenReport, FsckReport), OpenError> {
    // A check makes nothing: opening would turn whatever directory was named into an empty store.
    let format = dir.join("format");
    // One that may not be looked at is told apart from one that is not there.
    if !format.try_exists().map_err(OpenError::io(&format))? {
        return Err(OpenError::NotAStore(dir.to_owned()));
    }
    if let Some((uid, gid)) = other_owner(dir) {
        return Err(OpenError::OtherOwner { dir: dir.to_owned(), uid, gid });
    }
    let (store, opened) = Store::open(dir, config, Clock::system())?;
    let report = store.fsck(depth).map_err(|error| OpenError::Damaged(error.to_string()))?;
    Ok((opened, report))
}

/// User and group that a data directory belongs to, where that is not the root who runs this: what root makes in there,
/// its owner can neither change nor always read.
pub fn other_owner(dir: &Path) -> Option<(u32, u32)> {
    let facts = std::fs::metadata(dir).ok()?;
    let foreign = rustix::process::geteuid().is_root() && facts.uid() != 0;
    foreign.then(|| (facts.uid(), facts.gid()))
}

/// Checks everything while no step runs.
pub(super) fn check(store: &Inner, depth: Depth) -> Result<FsckReport, StoreError> {
    let _turn = store.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let mut check = Check { store, depth, report: FsckReport::default(), mails: HashMap::new(), files: HashSet::new() };
    let filed = store.index.number(keys::FILED)?;
    check.log()?;
    check.entries(filed)?;
    check.tickets()?;
    check.pointers()?;
    check.live(filed)?;
    check.orphans()?;
    ledger::faults(store, |said| check.find("ledger_broken", said, REBUILD))?;
    outbox::faults(store, |said| check.find("outbox_broken", said, REBUILD))?;
    fsck_ledger::faults(store, |said| check.find("ledger_contradicts", said, REBUILD))?;
    Ok(check.report)
}

struct Check<'a> {
    store: &'a Inner,
    depth: Depth,
    report: FsckReport,
    /// The kinds of the mails' records, by position.
    mails: HashMap<u64, Kind>,
    /// Ids of mails with files of their own.
    files: HashSet<String>,
}

impl Check<'_> {
    fn find(&mut self, code: &'static str, said: String, advice: &'static str) {
        if self.report.findings.len() < MOST {
            self.report.findings.push(Finding { code, said, advice });
        }
    }

    /// Every record of the log, up to where it ended when the check began.
    fn log(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let last = store.segments.list()?.last().copied().unwrap_or(0);
        for number in store.segments.list()? {
            store.segments.scan::<StoreError>(number, 0, |found| {
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
                    Found::Record(record) => self.record(record),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn record(&mut self, record: Record) {
        self.report.records += 1;
        let (position, kind) = (record.header.position, record.header.kind);
        if !record.body_intact {
            self.find("record_damaged", format!("the record at {:#x} has changed on the disk", position.0), RESTORE);
        }
        match kind {
            Kind::Commit => return,
            Kind::Erased => {
                self.mails.insert(position.0, kind);
                return;
            }
            Kind::Mail | Kind::Refused => {}
        }
        self.report.mails += 1;
        self.mails.insert(position.0, kind);
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

    fn entries(&mut self, filed: u64) -> Result<(), StoreError> {
        let store = self.store;
        let seq = store.index.number(keys::SEQ)?;
        let mut claimed = HashSet::new();
        store.index.walk_prefix(&[keys::ENTRIES], |key, value| {
            self.report.entries += 1;
            let row: EntryRow = match parse(value) {
                Ok(row) => row,
                Err(error) => {
                    self.find("row_damaged", format!("entry {}: {error}", keys::number_in(key, 0)), REBUILD);
                    return Ok(true);
                }
            };
            claimed.extend(row.mail.map(|mail| mail.0));
            self.entry(&row, seq, filed)?;
            Ok(true)
        })?;
        let lost = |(at, kind): &(&u64, &Kind)| **at < filed && !claimed.contains(at) && **kind == Kind::Mail;
        let lost: Vec<u64> = self.mails.iter().filter(lost).map(|(at, _)| *at).collect();
        for position in lost {
            // A mail that is about to be erased has lost its entry's word already.
            if store.index.get(&keys::erasing(Position(position)))?.is_none() {
                self.find("mail_without_entry", format!("the mail at {position:#x} is filed nowhere"), REPORT);
            }
        }
        Ok(())
    }

    fn entry(&mut self, row: &EntryRow, seq: u64, filed: u64) -> Result<(), StoreError> {
        let index = &self.store.index;
        let name = &row.id;
        if row.seq > seq {
            self.find("counter_behind", format!("entry {name} is {} and the counter is {seq}", row.seq), REBUILD);
        }
        if index.get(&keys::id(name))?.as_deref().map(index::number) != Some(row.seq) {
            self.find("id_missing", format!("the id {name} does not lead to its entry"), REBUILD);
        }
        if let Some(mail) = row.mail {
            if !matches!(self.mails.get(&mail.0), Some(Kind::Mail | Kind::Refused)) {
                self.find("mail_missing", format!("entry {name} has no mail at {:#x}", mail.0), RESTORE);
            }
            if mail.0 >= filed {
                self.find("filed_behind", format!("entry {name} is filed and its mail still waits"), REBUILD);
            }
        }
        let Some(number) = row.ticket else { return Ok(()) };
        if index.get(&keys::ticket(number))?.is_none() {
            self.find("ticket_missing", format!("entry {name} belongs to ticket {number}, which is missing"), REBUILD);
        }
        // A duplicate names the ticket of the entry that it repeats, and is not listed there.
        if row.duplicate_of.is_none() && index.get(&keys::member(number, row.seq))?.is_none() {
            self.find("member_missing", format!("entry {name} is not listed with ticket {number}"), REBUILD);
        }
        if let Some(message) = row.message_id.as_ref().filter(|id| row.kind == EntryKind::Inbound && !id.ends_with('…'))
        {
            let message = keys::message_hash(message);
            let mut known = index.get(&keys::mention(&message, row.seq))?.is_some();
            index.walk_prefix(&[&[keys::ORIGINALS][..], &message].concat(), |_, value| {
                known |= index::number(value) == row.seq;
                Ok(!known)
            })?;
            if !known {
                self.find("message_missing", format!("the Message-ID of entry {name} does not lead to it"), REBUILD);
            }
        }
        Ok(())
    }

    fn tickets(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let highest = store.index.number(keys::TICKET)?;
        let mut members: BTreeMap<u64, u64> = BTreeMap::new();
        store.index.walk_prefix(&[keys::MEMBERS], |key, _| {
            *members.entry(keys::number_in(key, 0)).or_default() += 1;
            Ok(true)
        })?;
        let mut rows: BTreeMap<u64, TicketRow> = BTreeMap::new();
        store.index.walk_prefix(&[keys::TICKETS], |key, value| {
            match parse::<TicketRow>(value) {
                Ok(row) => drop(rows.insert(row.number, row)),
                Err(error) => {
                    self.find("row_damaged", format!("ticket {}: {error}", keys::number_in(key, 0)), REBUILD);
                }
            }
            Ok(true)
        })?;
        self.report.tickets = rows.len() as u64;
        // Merging adds up, also along a chain; a source has a lower count of its own and keeps it.
        let mut sums = members.clone();
        let mut merges = Vec::new();
        store.index.walk_prefix(&[keys::MERGED], |key, _| {
            merges.push((keys::number_in(key, 0), keys::number_in(key, 1)));
            Ok(true)
        })?;
        for (into, from) in merges {
            let moved = rows.get(&from).map_or(0, |row| row.entries);
            *sums.entry(into).or_default() += moved;
        }
        for (number, row) in &rows {
            let sum = sums.get(number).copied().unwrap_or(0);
            if row.entries != sum {
                self.find(
                    "ticket_count",
                    format!("ticket {number} says {}, has {sum}", count(row.entries, "entry", "entries")),
                    REBUILD,
                );
            }
            if *number > highest {
                self.find("counter_behind", format!("ticket {number} exists, the counter is {highest}"), REBUILD);
            }
            if row.merged_into.is_some_and(|into| !rows.contains_key(&into)) {
                self.find("ticket_missing", format!("ticket {number} was merged into one that is missing"), REBUILD);
            }
        }
        Ok(())
    }

    /// Keys that lead to entries lead to ones that exist.
    fn pointers(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        for prefix in [keys::IDS, keys::ORIGINALS, keys::MEMBERS, keys::MENTIONS, keys::WHOLES] {
            store.index.walk_prefix(&[prefix], |key, value| {
                let seqs = match prefix {
                    keys::IDS | keys::ORIGINALS => vec![index::number(value)],
                    keys::MEMBERS => vec![keys::number_in(key, 1)],
                    keys::MENTIONS => vec![keys::number_in(key, 2)],
                    _ => prints::seqs(value),
                };
                for seq in seqs {
                    if store.index.get(&keys::entry(seq))?.is_none() {
                        let said = format!("a key under \"{}\" leads to entry {seq}, which is missing", prefix as char);
                        self.find("entry_missing", said, REBUILD);
                    }
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn live(&mut self, filed: u64) -> Result<(), StoreError> {
        let store = self.store;
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (position, kind) in &self.mails {
            let erasing = store.index.get(&keys::erasing(Position(*position)))?.is_some();
            if *position < filed && *kind != Kind::Erased && !erasing {
                *counts.entry(Position(*position).segment()).or_default() += 1;
            }
        }
        for number in store.segments.list()? {
            let (counted, kept) = (counts.get(&number).copied().unwrap_or(0), store.index.number(&keys::live(number))?);
            if counted != kept {
                self.find(
                    "live_count",
                    format!("segment {number} has {}, the index says {kept}", count(counted, "mail", "mails")),
                    REBUILD,
                );
            }
        }
        Ok(())
    }

    fn orphans(&mut self) -> Result<(), StoreError> {
        for (id, path) in recover::body_files(&self.store.dir)? {
            // A file that came after the log was read belongs to a mail that is being accepted.
            let text = id.to_string();
            let fresh = path.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            if !self.files.contains(&text) && fresh.is_some_and(|age| age.as_secs() > 3600) {
                let advice = "it is removed at the next start; nobody was told that this mail was accepted";
                self.find("file_orphaned", format!("{} belongs to no mail", path.display()), advice);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_makes_nothing_in_the_directory_of_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        let check = || offline(dir.path(), &Config::default(), Depth::Normal);
        assert!(matches!(check(), Err(OpenError::NotAStore(_))));
        std::fs::write(dir.path().join("format"), "{}").unwrap();
        if !rustix::process::geteuid().is_root() {
            assert_eq!(other_owner(dir.path()), None);
            return;
        }
        std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_533)).unwrap();
        let refused = check().unwrap_err();
        assert!(matches!(refused, OpenError::OtherOwner { uid: 65_534, gid: 65_533, .. }), "{refused}");
        assert!(refused.to_string().contains("setpriv --reuid 65534 --regid 65533"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
