//! Checks that log, index and files of a data directory tell the same story.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;

use super::error::{OpenError, StoreError};
use super::record::Kind;
use super::rows::{EntryKind, EntryRow, Position, TicketRow};
use super::step::parse;
use super::values::OpenReport;
use super::{
    Config, Inner, Store, fsck_ledger, fsck_log, fsck_rows, index, keys, ledger, outbox, prints, recover, strays,
};
use crate::clock::Clock;
use crate::units::count;

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

pub(super) const REBUILD: &str =
    "stop the daemon, move the directory `index` away and start it again: the index is rebuilt";
pub(super) const RESTORE: &str = "the bytes are lost on this disk: restore them from a backup";
pub(super) const REPORT: &str = "this is a fault of the program: please report it with this line";
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
    let report = store.fsck(depth).map_err(recover::fault(dir))?;
    let findings = fsck_log::of_opening(&opened).into_iter().chain(report.findings).take(MOST).collect();
    Ok((opened, FsckReport { findings, ..report }))
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
    check.log()?;
    if let Err(error) = check.index() {
        check.find("index_unreadable", error.to_string(), REBUILD);
    }
    check.orphans()?;
    Ok(check.report)
}

pub(super) struct Check<'a> {
    pub(super) store: &'a Inner,
    pub(super) depth: Depth,
    pub(super) report: FsckReport,
    /// The kinds of the mails' records, by position.
    pub(super) mails: HashMap<u64, Kind>,
    /// Ids of mails with files of their own.
    pub(super) files: HashSet<String>,
}

impl Check<'_> {
    /// Everything that is made from the log.
    fn index(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let filed = store.index.number(keys::FILED)?;
        self.entries(filed)?;
        self.tickets()?;
        self.pointers()?;
        self.live(filed)?;
        fsck_rows::unreadable(store, |said| self.find("row_damaged", said, REBUILD))?;
        if self.report.findings.iter().any(|finding| finding.code == "row_damaged") {
            // What follows needs rows that can be read.
            return Ok(());
        }
        ledger::faults(store, |said| self.find("ledger_broken", said, REBUILD))?;
        outbox::faults(store, |said| self.find("outbox_broken", said, REBUILD))?;
        fsck_rows::probes(store, |said| self.find("probe_broken", said, REBUILD))?;
        fsck_ledger::faults(store, |said| self.find("ledger_contradicts", said, REBUILD))
    }

    pub(super) fn find(&mut self, code: &'static str, said: String, advice: &'static str) {
        if self.report.findings.len() < MOST {
            self.report.findings.push(Finding { code, said, advice });
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
        for prefix in [keys::IDS, keys::ORIGINALS, keys::MEMBERS, keys::MENTIONS, keys::OUTLINES] {
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
        if self.report.findings.iter().any(|finding| finding.code == "mail_missing") {
            // The index counts what the log has lost, and is right.
            return Ok(());
        }
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
        for (id, path) in strays::body_files(&self.store.dir)? {
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
