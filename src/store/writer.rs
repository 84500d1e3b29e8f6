//! The thread that writes the accept log: it takes whatever waits, writes it with one call, syncs once, answers all.
//!
//! Must not know: what the records mean, apart from which of them wait for filing.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::error::is_full;
use super::log::{AppendError, Lingering, Message, Reply, Request};
use super::record::{ALIGN, Kind};
use super::rows::Position;
use super::segment::Segments;
use super::shared::Shared;
use super::space::Space;
use super::spool::Waiting;

/// A group is closed at this size, so that nobody waits long for the write of others.
const GROUP_BYTES: u64 = 8 << 20;
/// How long a group of pulled mails waits for more of them. Their server has them until we say otherwise, so that one
/// sync may serve many; whatever else comes ends the wait, and so does whoever has handed over all that there are.
const LINGER: Duration = Duration::from_millis(8);
/// The most buffers that one write call takes.
const MAX_SLICES: usize = 1000;
static PADDING: [u8; ALIGN] = [0; ALIGN];

/// Everything that the thread has.
pub(super) struct Writer {
    pub(super) segments: Arc<Segments>,
    pub(super) shared: Arc<Shared>,
    pub(super) space: Arc<Space>,
    pub(super) segment_bytes: u64,
    pub(super) group_max: usize,
    pub(super) number: u32,
    pub(super) end: u64,
    pub(super) file: Arc<File>,
    pub(super) lingering: Lingering,
}

impl Drop for Writer {
    /// However the thread ends, whoever has handed over a pulled mail hears that nobody takes it.
    fn drop(&mut self) {
        let left = self.take_lingering(false);
        if std::thread::panicking() {
            let said = self.shared.break_off("the thread that writes the log has ended");
            self.answer_error(left, &AppendError::Broken(said));
        }
    }
}

impl Writer {
    /// Writes what comes until there is an end.
    pub(super) fn run(mut self, requests: &Receiver<Message>) {
        let mut open = true;
        while open {
            let mut urgent = Vec::new();
            open = self.gather(requests, &mut urgent);
            // Pulled mails come first: a commit stands behind all that were handed over before it.
            let (mut group, mut bytes) = (Vec::new(), 0);
            for request in self.take_lingering(open).into_iter().chain(urgent) {
                if group.len() >= self.group_max || bytes >= GROUP_BYTES {
                    self.write(std::mem::take(&mut group));
                    bytes = 0;
                }
                bytes += request.draft.span();
                group.push(request);
            }
            self.write(group);
        }
        // Records of refused mails may stand unsynced; whoever waits on the channel still hears that it is closed.
        let _ = self.file.sync_data();
    }

    /// Waits for records and takes those that are urgent, up to a group; `false` when nothing comes any more.
    fn gather(&self, requests: &Receiver<Message>, urgent: &mut Vec<Request>) -> bool {
        let Ok(mut message) = requests.recv() else { return false };
        let (mut linger_until, mut bytes) = (Instant::now() + LINGER, 0);
        loop {
            match message {
                Message::Append(request) => {
                    bytes += request.draft.span();
                    urgent.push(request);
                }
                Message::Lingering => {}
                Message::Hurry => linger_until = Instant::now(),
                Message::Stop => return false,
            }
            if urgent.len() >= self.group_max || bytes >= GROUP_BYTES {
                return true;
            }
            let rest = linger_until.saturating_duration_since(Instant::now());
            match requests.recv_timeout(if urgent.is_empty() { rest } else { Duration::ZERO }) {
                Ok(next) => message = next,
                // Nobody else for now; that nobody is left shows at the next call.
                Err(_) => return true,
            }
        }
    }

    /// The pulled mails that wait; once no more are to come, the last ones.
    fn take_lingering(&self, open: bool) -> Vec<Request> {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        if open { lingering.as_mut().map(std::mem::take) } else { lingering.take() }.unwrap_or_default()
    }

    /// Writes a group, in as many parts as it takes segments.
    fn write(&mut self, mut group: Vec<Request>) {
        while !group.is_empty() {
            if let Some(said) = self.shared.broken.get() {
                return self.answer_error(group, &AppendError::Broken(said.clone()));
            }
            let mut room = self.segment_bytes.saturating_sub(self.end);
            let mut fit = 0;
            for request in &group {
                let span = request.draft.span();
                if span > room && (self.end > 0 || fit > 0) {
                    break;
                }
                room = room.saturating_sub(span);
                fit += 1;
            }
            if fit == 0 {
                if let Err(error) = self.roll() {
                    return self.answer_error(group, &error);
                }
                continue;
            }
            let rest = group.split_off(fit);
            self.write_part(group);
            group = rest;
        }
    }

    fn write_part(&mut self, part: Vec<Request>) {
        let error = match self.put(&part) {
            Ok(positions) => return self.answer(part, &positions),
            Err(error) => error,
        };
        let commits = |request: &Request| request.draft.kind == Kind::Commit;
        if error != AppendError::Full || !part.iter().any(commits) || !self.space.release_ballast() {
            return self.answer_error(part, &error);
        }
        // What was begun is finished with the space held back; new mail has to wait for the operator.
        let (commits, others): (Vec<_>, Vec<_>) = part.into_iter().partition(commits);
        self.answer_error(others, &error);
        match self.put(&commits) {
            Ok(positions) => self.answer(commits, &positions),
            Err(error) => self.answer_error(commits, &error),
        }
    }

    /// Writes and syncs; the end of the log moves only when both have succeeded.
    fn put(&mut self, part: &[Request]) -> Result<Vec<Position>, AppendError> {
        let mut end = self.end;
        let mut positions = Vec::with_capacity(part.len());
        let mut headers = Vec::with_capacity(part.len());
        for request in part {
            let position = Position::new(self.number, end);
            positions.push(position);
            headers.push(request.draft.header(position).to_bytes(self.segments.salt));
            end += request.draft.span();
        }
        let mut slices = Vec::with_capacity(part.len() * 4);
        for (request, header) in part.iter().zip(&headers) {
            let draft = &request.draft;
            let pad = draft.span() as usize - ALIGN - draft.meta.len() - draft.body.len();
            let pieces = [&header[..], &draft.meta, &draft.body, &PADDING[..pad]];
            slices.extend(pieces.into_iter().filter(|piece| !piece.is_empty()).map(IoSlice::new));
        }
        if let Err(error) = write_all(&self.file, &mut slices, self.end) {
            return Err(self.take_back(&error));
        }
        if part.iter().any(|request| !matches!(request.reply, Reply::Nobody)) {
            self.sync()?;
        }
        let counters = &self.shared.counters;
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters.records.fetch_add(part.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(end - self.end, Ordering::Relaxed);
        self.space.took(end - self.end);
        self.end = end;
        Ok(positions)
    }

    fn sync(&self) -> Result<(), AppendError> {
        let begun = Instant::now();
        // After a failed sync the kernel may have thrown the pages away, and a second sync would lie.
        self.file.sync_data().map_err(|error| {
            AppendError::Broken(self.shared.break_off(format!("the log could not be synced: {error}")))
        })?;
        let nanos = begun.elapsed().as_nanos() as u64;
        let counters = &self.shared.counters;
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        counters.sync_nanos_max.fetch_max(nanos, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a failed write back. Its bytes must be gone before anything else is written: records of which somebody
    /// was told that they failed must not come to life behind a shorter one.
    fn take_back(&self, error: &io::Error) -> AppendError {
        if let Err(second) = self.file.set_len(self.end).and_then(|()| self.file.sync_data()) {
            let said = format!("the log could not be written ({error}) and not be cut back ({second})");
            return AppendError::Broken(self.shared.break_off(said));
        }
        if is_full(error) {
            self.space.ran_out();
            return AppendError::Full;
        }
        AppendError::Broken(self.shared.break_off(format!("the log could not be written: {error}")))
    }

    fn roll(&mut self) -> Result<(), AppendError> {
        self.sync()?;
        let number = self.number + 1;
        let created = self.segments.create(number).or_else(|error| {
            if is_full(&error) && self.space.release_ballast() { self.segments.create(number) } else { Err(error) }
        });
        match created {
            Ok(file) => {
                (self.number, self.end, self.file) = (number, 0, file);
                Ok(())
            }
            Err(error) if is_full(&error) => Err(AppendError::Full),
            Err(error) => {
                Err(AppendError::Broken(self.shared.break_off(format!("no new log segment could be made: {error}"))))
            }
        }
    }

    fn answer(&self, part: Vec<Request>, positions: &[Position]) {
        let mut newest = None;
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            for (request, position) in part.iter().zip(positions) {
                if let Some(waiting) = request.waiting {
                    queue.push(Waiting { position: *position, ..waiting });
                    newest = Some(*position);
                }
            }
        }
        for (request, position) in part.into_iter().zip(positions) {
            match request.reply {
                Reply::Async(sender) => drop(sender.send(Ok(*position))),
                Reply::Blocking(sender) => drop(sender.send(Ok(*position))),
                Reply::Nobody => drop(self.shared.counters.refused_waiting.fetch_sub(1, Ordering::Relaxed)),
            }
        }
        if let Some(position) = newest {
            self.shared.arrivals.send_replace(position);
        }
    }

    fn answer_error(&self, part: Vec<Request>, error: &AppendError) {
        let counters = &self.shared.counters;
        for request in part {
            if let Some(key) = request.pulled() {
                self.shared.not_pulled(key);
            }
            match request.reply {
                Reply::Async(sender) => {
                    if *error == AppendError::Full {
                        counters.full.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = sender.send(Err(error.clone()));
                }
                Reply::Blocking(sender) => drop(sender.send(Err(error.clone()))),
                Reply::Nobody => {
                    counters.refused_waiting.fetch_sub(1, Ordering::Relaxed);
                    counters.refused_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Writes all slices at an offset with as few calls as possible.
fn write_all(file: &File, slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    let mut rest = slices;
    while !rest.is_empty() {
        let count = rest.len().min(MAX_SLICES);
        match rustix::io::pwritev(file, &rest[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
