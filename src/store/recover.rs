//! Opening a data directory: completing or rebuilding the index from the log, and finding what waits for filing.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use super::attempts::Attempts;
use super::dirs::{make_dir, sync_dir};
use super::engine::Unopened;
use super::error::{OpenError, StoreError};
use super::index::{Index, Order};
use super::ledger::{LedgerKey, Pending};
use super::log::Log;
use super::meta::{self, Place};
use super::overlay::Overlay;
use super::record::{ALIGN, Kind};
use super::rows::Position;
use super::segment::{Found, Record, Segments};
use super::shared::Shared;
use super::space::Space;
use super::spool::Waiting;
use super::step::Turn;
use super::strays::{clear_bodies, clear_tmp};
use super::values::{DamagedSpan, OpenReport};
use super::{Claim, Config, Inner, format, keys, parts, rebuild, snapshot};
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
    parts::check(dir)?;
    for path in [dir.join("log"), dir.join("bodies")] {
        make_dir(&path).map_err(OpenError::io(path))?;
    }
    let format = format::read_or_create(dir)?;
    clear_tmp(dir).map_err(OpenError::io(dir.join("tmp")))?;
    let segments = Arc::new(Segments::new(dir.join("log"), format.salt));
    parts::first_segment(dir, &segments)?;
    // A process that was killed may have made a directory there and not made its name durable.
    sync_dir(dir).and_then(|()| sync_dir(&dir.join("bodies"))).map_err(OpenError::io(dir))?;
    let space = Arc::new(Space::new(dir, config.low_water_bytes, config.ballast_bytes));
    let mut report = OpenReport::default();
    let shared = Arc::new(Shared::new());
    let (mut index, tail) = indexed(dir, config, &segments, &space, &shared, &mut report, clock.now())?;
    let end = go_on(dir, &segments, &index, &tail, &mut report)?;
    space.free();
    space.set_ballast();
    clear_bodies(dir, &index, &tail.files, &mut report).map_err(fault(dir))?;
    MailId::skip_to(newest_id(&index).map_err(fault(dir))?.max(tail.newest_id));
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
    newest_id: MailId,
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
    let opened = match Index::open(&path, config) {
        // The engine cannot even open on a full disk.
        Err(Unopened::Full) if space.release_ballast() => Index::open(&path, config),
        other => other,
    };
    let index = match opened {
        Ok(index) => index,
        Err(Unopened::Full) => return Err(OpenError::Full { dir: dir.to_owned() }),
        Err(Unopened::Trouble(error)) => return Err(OpenError::io(path)(error)),
        Err(Unopened::Damaged(said)) => return rebuild(dir, config, segments, shared, report, &said, now),
    };
    if let Some(said) = unusable(dir, segments, &index)? {
        drop(index);
        return rebuild(dir, config, segments, shared, report, &said, now);
    }
    // One that lost everything looks like a new one, but for the mark that each has from its first day on.
    let is_new = index.get(keys::APPLIED).map_err(fault(dir))?.is_none();
    let tail = catch_up(&index, segments, shared, report).map_err(fault(dir))?;
    report.rebuilt = is_new && report.redone > 0;
    Ok((index, tail))
}

/// Why an index that can be opened is not to be used.
fn unusable(dir: &Path, segments: &Segments, index: &Index) -> Result<Option<String>, OpenError> {
    let asked = rebuild::asked_for(dir).map_err(OpenError::io(dir))?;
    if asked.is_some() {
        return Ok(asked);
    }
    let mark = index.get(keys::LOG).map_err(fault(dir))?;
    if mark.is_some_and(|mark| mark != segments.mark()) {
        return Ok(Some("the index belongs to another log".into()));
    }
    let applied = Position(index.number(keys::APPLIED).map_err(fault(dir))?);
    if applied.0 == 0 && segments.list().map_err(OpenError::io(dir))?.first() != Some(&1) {
        return Ok(Some("the index is empty, and the log is not there from its beginning".into()));
    }
    let newer = rebuild::newest(dir, segments, Position(applied.0 + 1)).map_err(OpenError::io(dir))?;
    Ok(newer.map(|_| "the index is older than the newest snapshot".into()))
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
    let index = rebuild::begin(dir, config, segments, because, report, now)?;
    let tail = catch_up(&index, segments, shared, report).map_err(fault(dir))?;
    index.sync().map_err(fault(dir))?;
    rebuild::completed(dir)?;
    report.rebuilt = true;
    Ok((index, tail))
}

/// Applies the commits that the index lacks, then gathers what waits for filing.
fn catch_up(index: &Index, segments: &Segments, shared: &Shared, report: &mut OpenReport) -> Result<Tail, StoreError> {
    if index.get(keys::LOG)?.is_none() {
        let mark = Overlay { changes: [(keys::LOG.to_vec(), Some(segments.mark()))].into() };
        index.load(&mark, Position(index.number(keys::APPLIED)?))?;
        index.sync()?;
    }
    let mut applied = Position(index.number(keys::APPLIED)?);
    let list = segments.list()?;
    let start = aligned(&list, Position(index.number(keys::FILED)?).min(applied));
    let last = list.last().copied().unwrap_or(1);
    let mut tail = Tail { end: Position::new(last, 0), ..Tail::default() };
    let mut waiting: Vec<Unfiled> = Vec::new();
    for number in list.iter().copied().filter(|number| *number >= start.segment()) {
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
    // What is behind the marker is never reclaimed.
    let gone = |number: &u32| list.binary_search(number).is_err();
    report.missing_segments = (Position(filed).segment().max(1)..last).filter(gone).collect();
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
    for Unfiled { waiting, mail, file } in waiting {
        tail.files.extend(file);
        tail.newest_id = tail.newest_id.max(mail.mail);
        tail.newest = tail.newest.max(waiting.position);
        if waiting.position.0 >= filed {
            queue.push(waiting);
            pending.extend(waiting.pulled.map(|key| (key, mail)));
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

/// The highest id of a mail that is filed.
fn newest_id(index: &Index) -> Result<MailId, StoreError> {
    let mut newest = MailId::default();
    index.walk(&[keys::IDS], &[keys::IDS + 1], Order::Down, |key, _| {
        let text = String::from_utf8_lossy(&key[1..]).into_owned();
        newest = text.split('.').next().and_then(MailId::parse).unwrap_or_default();
        Ok(false)
    })?;
    Ok(newest)
}

/// A mail's record that may wait for filing.
struct Unfiled {
    waiting: Waiting,
    mail: Pending,
    /// The mail whose bytes are in a file of their own.
    file: Option<MailId>,
}

fn waiting_from(record: &Record) -> Option<Unfiled> {
    let (mail, place) = meta::decode(&record.meta).ok()?;
    let size = if mail.refused.is_some() { record.body.len() as u64 } else { mail.size };
    let (pulled, received) = (mail.origin.remote.as_ref().map(LedgerKey::of), mail.received_at.as_microsecond());
    let waiting = Waiting { position: record.header.position, size, pulled, received };
    let file = (place == Place::File).then_some(mail.id);
    Some(Unfiled { waiting, mail: Pending { mail: mail.id, at: mail.received_at }, file })
}

/// The `filed` marker points one byte into the last record that is filed; a scan begins where that record begins.
fn aligned(list: &[u32], start: Position) -> Position {
    let offset = start.offset() / ALIGN as u64 * ALIGN as u64;
    Position::new(start.segment(), if list.contains(&start.segment()) { offset } else { 0 })
}

/// Where the log goes on. What a crash has left half-written is cut off, so that the next record stands behind the last
/// good one. But what has changed or is lost stays as it is, and a new segment is begun: no position is given twice, or
/// what comes later would pass for what was lost.
fn go_on(
    dir: &Path,
    segments: &Segments,
    index: &Index,
    tail: &Tail,
    report: &mut OpenReport,
) -> Result<Position, OpenError> {
    let applied = Position(index.number(keys::APPLIED).map_err(fault(dir))?);
    let number = tail.end.segment();
    let io = OpenError::io(segments.path(number));
    report.log_behind = applied.0 > 0 && tail.end <= applied;
    if !report.log_behind && !segments.is_changed_header(tail.end).map_err(OpenError::io(segments.path(number)))? {
        return cut_tail(segments, tail, report).map_err(io);
    }
    if tail.cut > 0 {
        report.damaged_spans.push(DamagedSpan { position: tail.end, bytes: tail.cut });
    }
    if report.log_behind && rebuild::newest(dir, segments, applied).map_err(OpenError::io(dir))?.is_none() {
        // From the log alone the index could not be rebuilt any more.
        snapshot::write(dir, index, applied).map_err(fault(dir))?;
    }
    let next = number.max(applied.segment()) + 1;
    segments.create(next).map_err(OpenError::io(segments.path(next)))?;
    Ok(Position::new(next, 0))
}

/// Cuts off what a crash has left half-written.
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

fn check_config(config: &Config) -> Result<(), OpenError> {
    if !(1 << 16..=1 << 31).contains(&config.segment_bytes) {
        return Err(OpenError::Config("segment_bytes must be between 64 KiB and 2 GiB".into()));
    }
    if config.inline_bytes > 16 << 20 {
        return Err(OpenError::Config("inline_bytes may be at most 16 MiB".into()));
    }
    Ok(())
}

/// What an error of the store says about opening it.
pub(super) fn fault(dir: &Path) -> impl Fn(StoreError) -> OpenError {
    let dir = dir.to_owned();
    move |error| match error {
        StoreError::Full => OpenError::Full { dir: dir.clone() },
        StoreError::Io(said) => OpenError::Trouble(said),
        other => OpenError::Damaged(other.to_string()),
    }
}
