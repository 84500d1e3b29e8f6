//! Opening a data directory: completing or rebuilding the index from the log, and finding what waits for filing.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use super::attempts::Attempts;
use super::engine::Unopened;
use super::error::{OpenError, StoreError};
use super::index::{self, Index};
use super::ledger::{LedgerKey, Pending};
use super::log::Log;
use super::meta::{self, Place};
use super::overlay::Overlay;
use super::record::Kind;
use super::rows::Position;
use super::segment::{Found, Record, Segments, sync_dir};
use super::shared::Shared;
use super::space::Space;
use super::spool::Waiting;
use super::step::Turn;
use super::values::{DamagedSpan, OpenReport};
use super::{Claim, Config, Inner, body, format, keys, snapshot};
use crate::clock::Clock;
use crate::mail::MailId;

/// Commits that are applied between two syncs of a rebuild.
const SYNC_EVERY: u64 = 1000;

/// Opens everything, in the order that a crash at any moment asks for.
pub fn open(claim: Claim, config: &Config, clock: Clock) -> Result<(Inner, OpenReport), OpenError> {
    let begun = Instant::now();
    check_config(config)?;
    let Claim { dir, lock } = claim;
    let dir = dir.as_path();
    for path in [dir.join("log"), dir.join("bodies")] {
        std::fs::create_dir_all(&path).map_err(OpenError::io(path))?;
    }
    let format = format::read_or_create(dir)?;
    clear_tmp(dir).map_err(OpenError::io(dir.join("tmp")))?;
    let segments = Arc::new(Segments::new(dir.join("log"), format.salt));
    if segments.list().map_err(OpenError::io(dir))?.is_empty() {
        segments.create(1).map_err(OpenError::io(segments.path(1)))?;
    }
    sync_dir(dir).map_err(OpenError::io(dir))?;
    let space = Arc::new(Space::new(dir, config.low_water_bytes, config.ballast_bytes));
    let mut report = OpenReport::default();
    let shared = Arc::new(Shared::new());
    let (index, tail) = indexed(dir, config, &segments, &space, &shared, &mut report, clock.now())?;
    let end = cut_tail(&segments, &tail, &mut report).map_err(OpenError::io(segments.path(tail.end.segment())))?;
    space.free();
    space.set_ballast();
    report.orphans = remove_orphans(dir, &index, &tail.files).map_err(fault(dir))?;
    let seq = index.number(keys::SEQ).map_err(fault(dir))?;
    let last = Position(index.number(keys::APPLIED).map_err(fault(dir))?);
    let mut retries = 0;
    let counted = index.walk_prefix(&[keys::RETRIES], |_, _| {
        retries += 1;
        Ok(true)
    });
    counted.map_err(fault(dir))?;
    shared.progress.send_modify(|progress| {
        progress.published = seq;
        progress.retries = retries;
    });
    shared.arrivals.send_replace(tail.newest);
    report.spooled = shared.queue.lock().unwrap_or_else(PoisonError::into_inner).state().depth;
    let attempts = Attempts::open(dir).map_err(OpenError::io(dir.join("attempt")))?;
    let limits = (config.segment_bytes, config.group_max.max(1));
    index.start(shared.clone()).map_err(OpenError::io(dir.join("index")))?;
    let log = Log::start(segments.clone(), shared.clone(), space.clone(), limits, end).map_err(OpenError::io(dir))?;
    let inner = Inner {
        log,
        index,
        segments,
        shared,
        space,
        turn: Mutex::new(Turn { last }),
        attempts: Mutex::new(attempts),
        last_flush: Mutex::default(),
        clock,
        config: config.clone(),
        dir: dir.to_owned(),
        _lock: lock,
    };
    inner.finish_erasing().or_else(|error| if error == StoreError::Full { Ok(()) } else { Err(fault(dir)(error)) })?;
    report.took = begun.elapsed();
    Ok((inner, report))
}

/// What a look through the log's tail found.
#[derive(Debug, Default)]
struct Tail {
    /// Behind the last record.
    end: Position,
    /// The newest record that waits.
    newest: Position,
    /// Ids of the mails in the tail whose bytes are in files.
    files: HashSet<MailId>,
    /// What is to be cut off at the end.
    cut: u64,
}

/// Opens the index, or rebuilds it, and brings it up to the end of the log.
fn indexed(
    dir: &Path,
    config: &Config,
    segments: &Segments,
    space: &Space,
    shared: &Shared,
    report: &mut OpenReport,
    now: Timestamp,
) -> Result<(Index, Tail), OpenError> {
    let path = dir.join("index");
    let building = dir.join("index.building");
    let opened = match open_index(&path, config) {
        // The engine cannot even open on a full disk.
        Err(Unopened::Full) if space.release_ballast() => open_index(&path, config),
        other => other,
    };
    let index = match opened {
        Ok(index) => index,
        Err(Unopened::Full) => return Err(OpenError::Full { dir: dir.to_owned() }),
        Err(Unopened::Damaged(said)) => return rebuild(dir, config, segments, shared, report, &said, now),
    };
    let mark = index.get(keys::APPLIED).map_err(fault(dir))?;
    let applied = Position(mark.as_deref().map_or(0, index::number));
    let snapshots = snapshot::list(dir).map_err(OpenError::io(dir))?;
    let because = if building.exists() {
        Some("an earlier rebuild was not completed")
    } else if ahead(segments, applied).map_err(OpenError::io(dir))? {
        Some("the index is ahead of the log")
    } else if snapshots.last().is_some_and(|(position, _)| *position > applied) {
        Some("the index is older than the newest snapshot")
    } else {
        None
    };
    if let Some(said) = because {
        drop(index);
        return rebuild(dir, config, segments, shared, report, said, now);
    }
    let tail = catch_up(&index, segments, shared, report).map_err(fault(dir))?;
    // One that lost everything looks like a new one, but for the mark that each has from its first day on.
    report.rebuilt = mark.is_none() && report.redone > 0;
    if mark.is_none() && report.redone == 0 {
        index.load(&Overlay::default(), applied).and_then(|()| index.sync()).map_err(fault(dir))?;
    }
    Ok((index, tail))
}

fn open_index(path: &Path, config: &Config) -> Result<Index, Unopened> {
    Index::open(path, config.cache_bytes, config.index_buffer_bytes)
}

/// Builds the index anew from the newest snapshot and the log behind it.
fn rebuild(
    dir: &Path,
    config: &Config,
    segments: &Segments,
    shared: &Shared,
    report: &mut OpenReport,
    because: &str,
    now: Timestamp,
) -> Result<(Index, Tail), OpenError> {
    let (path, building) = (dir.join("index"), dir.join("index.building"));
    // The mark stands until the rebuild is complete: a rebuild that was cut short begins again.
    std::fs::write(&building, b"").and_then(|()| sync_dir(dir)).map_err(OpenError::io(&building))?;
    let aside = dir.join(format!("index.damaged-{}", now.as_second()));
    tracing::error!(because, aside = %aside.display(), "the index cannot be used and is rebuilt from the log");
    if path.exists() && !aside.exists() {
        std::fs::rename(&path, &aside).map_err(OpenError::io(&path))?;
    } else if path.exists() {
        std::fs::remove_dir_all(&path).map_err(OpenError::io(&path))?;
    }
    report.rebuilt_because = Some(format!("{because}; the old index was moved to {}", aside.display()));
    let index = open_index(&path, config).map_err(|error| match error {
        Unopened::Full => OpenError::Full { dir: dir.to_owned() },
        Unopened::Damaged(said) => OpenError::Damaged(format!("a new index cannot be made: {said}")),
    })?;
    let mut base = None;
    for (_, snapshot) in snapshot::list(dir).map_err(OpenError::io(dir))?.into_iter().rev() {
        if snapshot::read(&snapshot, |_| Ok(())).is_err() {
            tracing::error!(snapshot = %snapshot.display(), "a snapshot cannot be read");
            continue;
        }
        let load = |overlay: &Overlay| index.load(overlay, Position(0));
        let position = snapshot::read(&snapshot, load).map_err(fault(dir))?;
        index.load(&Overlay::default(), position).map_err(fault(dir))?;
        base = Some(position);
        break;
    }
    let first = segments.list().map_err(OpenError::io(dir))?.first().copied().unwrap_or(1);
    if base.is_none() && first != 1 {
        let said = "the index is lost, the first log segment was reclaimed, and there is no snapshot that can be read";
        return Err(OpenError::Damaged(said.into()));
    }
    let tail = catch_up(&index, segments, shared, report).map_err(fault(dir))?;
    index.sync().map_err(fault(dir))?;
    std::fs::remove_file(&building).and_then(|()| sync_dir(dir)).map_err(OpenError::io(&building))?;
    report.rebuilt = true;
    Ok((index, tail))
}

/// Applies the commits that the index lacks, then gathers what waits for filing.
fn catch_up(index: &Index, segments: &Segments, shared: &Shared, report: &mut OpenReport) -> Result<Tail, StoreError> {
    let mut applied = Position(index.number(keys::APPLIED)?);
    let start = Position(index.number(keys::FILED)?).min(applied);
    let start = Position::new(start.segment(), aligned(segments, start)?);
    let list = segments.list()?;
    let last = list.last().copied().unwrap_or(1);
    let mut tail = Tail { end: Position::new(last, 0), ..Tail::default() };
    let mut waiting: Vec<Unfiled> = Vec::new();
    for number in list.into_iter().filter(|number| *number >= start.segment()) {
        let from = if number == start.segment() { start.offset() } else { 0 };
        tail.end = Position::new(number, from);
        segments.scan::<StoreError>(number, from, |found| {
            let record = match found {
                Found::Bad { bytes, tail: true, .. } if number == last => {
                    tail.cut = bytes;
                    return Ok(());
                }
                Found::Bad { position, bytes, .. } => {
                    report.damaged_spans.push(DamagedSpan { position, bytes });
                    return Ok(());
                }
                Found::Record(record) => record,
            };
            let position = record.header.position;
            tail.end = Position(position.0 + record.header.span());
            match record.header.kind {
                Kind::Commit if position > applied => {
                    redo(index, &record, &mut applied, report)?;
                    // What this commit has filed does not wait any more.
                    if report.redone.is_multiple_of(64) {
                        let filed = index.number(keys::FILED)?;
                        waiting.retain(|one| one.waiting.position.0 >= filed);
                    }
                }
                Kind::Mail | Kind::Refused => waiting.extend(waiting_from(&record)),
                _ => {}
            }
            Ok(())
        })?;
    }
    if report.redone > 0 {
        index.sync()?;
    }
    let filed = index.number(keys::FILED)?;
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
    for Unfiled { waiting, file, remote } in waiting {
        tail.files.extend(file);
        tail.newest = tail.newest.max(waiting.position);
        if waiting.position.0 >= filed {
            queue.push(waiting);
            pending.extend(remote);
        }
    }
    Ok(tail)
}

fn redo(index: &Index, record: &Record, applied: &mut Position, report: &mut OpenReport) -> Result<(), StoreError> {
    let position = record.header.position;
    let Some((previous, overlay)) = Overlay::decode(&record.body).filter(|_| record.body_intact) else {
        report.damaged_spans.push(DamagedSpan { position, bytes: record.header.span() });
        return Ok(());
    };
    if previous != *applied {
        tracing::error!(position = position.0, "a commit before this one is missing from the log; run fsck");
        report.missing_commits += 1;
    }
    index.load(&overlay, position)?;
    *applied = position;
    report.redone += 1;
    if report.redone.is_multiple_of(SYNC_EVERY) {
        index.sync()?;
        tracing::info!(commits = report.redone, "completing the index from the log");
    }
    Ok(())
}

/// A mail's record that may wait for filing.
struct Unfiled {
    waiting: Waiting,
    /// The mail whose bytes are in a file of their own.
    file: Option<MailId>,
    /// Its place in the ledger of its mailbox, where it was pulled.
    remote: Option<(LedgerKey, Pending)>,
}

fn waiting_from(record: &Record) -> Option<Unfiled> {
    let (mail, place) = meta::decode(&record.meta).ok()?;
    let size = if mail.refused.is_some() { record.body.len() as u64 } else { mail.size };
    let waiting = Waiting { position: record.header.position, size, received: mail.received_at.as_microsecond() };
    let pending = Pending { mail: mail.id, at: mail.received_at };
    let remote = mail.origin.remote.as_ref().map(|remote| (LedgerKey::of(remote), pending));
    Some(Unfiled { waiting, file: (place == Place::File).then_some(mail.id), remote })
}

/// The `filed` marker points one byte into the last record that is filed; a scan begins where that record begins.
fn aligned(segments: &Segments, start: Position) -> Result<u64, StoreError> {
    let offset = start.offset() / super::record::ALIGN as u64 * super::record::ALIGN as u64;
    let there = segments.list()?.contains(&start.segment());
    Ok(if there { offset } else { 0 })
}

/// Whether the index has a commit that the log does not.
fn ahead(segments: &Segments, applied: Position) -> std::io::Result<bool> {
    if applied.0 == 0 || !segments.list()?.contains(&applied.segment()) {
        let newest = segments.list()?.last().copied().unwrap_or(0);
        return Ok(applied.segment() > newest);
    }
    let len = std::fs::metadata(segments.path(applied.segment()))?.len();
    Ok(applied.offset() >= len)
}

/// Cuts off what a crash has left half-written, so that the next record stands behind the last good one.
fn cut_tail(segments: &Segments, tail: &Tail, report: &mut OpenReport) -> std::io::Result<Position> {
    let file = segments.open(tail.end.segment())?;
    if file.metadata()?.len() > tail.end.offset() {
        report.cut_bytes = file.metadata()?.len() - tail.end.offset();
        file.set_len(tail.end.offset())?;
    }
    // Also without a cut: what was read may only be in memory yet, after a process was killed before its sync.
    file.sync_all()?;
    Ok(tail.end)
}

fn clear_tmp(dir: &Path) -> std::io::Result<()> {
    let tmp = dir.join("tmp");
    if tmp.exists() {
        std::fs::remove_dir_all(&tmp)?;
    }
    std::fs::create_dir(&tmp)
}

/// Removes the files of mails that have neither a record that waits nor an entry: nobody was told of them.
fn remove_orphans(dir: &Path, index: &Index, waiting: &HashSet<MailId>) -> Result<u64, StoreError> {
    let mut orphans = 0;
    for (id, path) in body_files(dir)? {
        if !waiting.contains(&id) && index.get(&keys::id(&id.to_string()))?.is_none() {
            std::fs::remove_file(path)?;
            orphans += 1;
        }
    }
    Ok(orphans)
}

/// All files of mails, with their ids.
pub(super) fn body_files(dir: &Path) -> std::io::Result<Vec<(MailId, std::path::PathBuf)>> {
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

fn check_config(config: &Config) -> Result<(), OpenError> {
    if !(1 << 16..=1 << 31).contains(&config.segment_bytes) {
        return Err(OpenError::Config("segment_bytes must be between 64 KiB and 2 GiB".into()));
    }
    if config.inline_bytes > 16 << 20 {
        return Err(OpenError::Config("inline_bytes may be at most 16 MiB".into()));
    }
    Ok(())
}

fn fault(dir: &Path) -> impl Fn(StoreError) -> OpenError {
    let dir = dir.to_owned();
    move |error| match error {
        StoreError::Full => OpenError::Full { dir: dir.clone() },
        other => OpenError::Damaged(other.to_string()),
    }
}
