//! Accepting mail, and handing what was accepted to whoever files it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::body::Bytes;
use super::error::{SpoolError, StoreError};
use super::ledger::{LedgerKey, Pending};
use super::log::{AppendError, Reply, Request};
use super::meta::{self, Place};
use super::record::{Draft, Kind};
use super::rows::Position;
use super::segment::Record;
use super::space::Space;
use super::spool::Waiting;
use super::values::{Incoming, MailBytes, MailMeta, Receipt, Refused, Spooled, Stored};
use super::{Inner, body, keys};
use crate::mail::{Address, MailId};

/// How much of a refused mail is kept.
const REFUSED_HEAD: usize = 16 << 10;
/// How many records of refused mails may wait for the log before further ones are dropped.
const REFUSED_WAITING: u64 = 1024;

type Answer = oneshot::Receiver<Result<Position, AppendError>>;

/// A mail whose record is on its way into the log. Dropping it changes nothing but that nobody hears of the end.
#[derive(Debug)]
pub struct Appending {
    id: MailId,
    answer: Answer,
    file: Option<PathBuf>,
}

impl Appending {
    /// Waits until the record stands synced.
    pub async fn done(self) -> Result<Receipt, SpoolError> {
        let closed = || Err(AppendError::Broken("the store is closed".into()));
        match self.answer.await.unwrap_or_else(|_| closed()) {
            Ok(position) => Ok(Receipt { id: self.id, position }),
            Err(error) => {
                // Where the record may stand in the log after all, its file stays until the next start finds out.
                if let (AppendError::Full, Some(file)) = (&error, self.file) {
                    let _ = std::fs::remove_file(file);
                }
                Err(spool_error(error))
            }
        }
    }
}

fn spool_error(error: AppendError) -> SpoolError {
    match error {
        AppendError::Full => SpoolError::Full,
        AppendError::Broken(said) => SpoolError::Trouble(said),
    }
}

impl Inner {
    /// The space, told first what filing and the index still need of it.
    pub(super) fn space_left(&self) -> &Space {
        let depth = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).state().depth;
        self.space.owe(depth, self.index.unsettled());
        &self.space
    }

    /// Hands a mail's record to the log, after its file where it has one. Records of one kind, pulled mails or others, are
    /// written in the order in which they were handed over, so whoever wants several in order need not wait for each.
    pub async fn hand_over(self: &std::sync::Arc<Self>, mail: Incoming) -> Result<Appending, SpoolError> {
        if let Some(said) = self.shared.broken.get() {
            return Err(SpoolError::Trouble(said.clone()));
        }
        if self.space_left().is_low() {
            self.shared.counters.full.fetch_add(1, Ordering::Relaxed);
            return Err(SpoolError::Full);
        }
        let Incoming { id, received_at, envelope, origin, deliveries, review, outgoing, body } = mail;
        let (size, sha256) = (body.size, body.sha256);
        let refused = None;
        let meta = MailMeta { id, received_at, envelope, origin, deliveries, review, size, sha256, refused, outgoing };
        let (place, bytes, file) = match body.bytes {
            Bytes::Memory(bytes) => (Place::Inline, bytes, None),
            Bytes::File { file, .. } => (Place::File, Vec::new(), Some(file)),
        };
        let encoded = meta::encode(&meta, place).map_err(SpoolError::Trouble)?;
        let remote = meta.origin.remote.as_ref().map(LedgerKey::of);
        let mut kept = None;
        if let Some(mut file) = file {
            let dir = self.dir.clone();
            let task = tokio::task::spawn_blocking(move || file.keep(&dir, id).map(|_| file));
            let result = task.await.map_err(|error| SpoolError::Trouble(error.to_string()))?;
            kept = Some(result.map_err(|error| match StoreError::from(error) {
                StoreError::Full => SpoolError::Full,
                other => SpoolError::Trouble(other.to_string()),
            })?);
        }
        let waiting = Waiting { position: Position(0), size, pulled: remote, received: received_at.as_microsecond() };
        let draft = Draft::new(Kind::Mail, encoded, bytes);
        let answer = self.append_answered(draft, waiting, Pending { mail: id, at: received_at })?;
        // From here on the record may be written even if the caller goes away, so the file must not go with the caller;
        // it is only removed when the log says that there is no record.
        let file = kept.as_mut().map(|kept| {
            kept.release();
            body::path(&self.dir, id)
        });
        Ok(Appending { id, answer, file })
    }

    /// Hands a record to the log. A pulled mail is in its mailbox's ledger before its record can be filed, and stays
    /// there unless the log cannot write it.
    pub(super) fn append_answered(
        &self,
        draft: Draft,
        waiting: Waiting,
        pending: Pending,
    ) -> Result<Answer, SpoolError> {
        let (sender, receiver) = oneshot::channel();
        if let Some(key) = waiting.pulled {
            self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(key, pending);
        }
        let sent = self.log.append(Request { draft, reply: Reply::Async(sender), waiting: Some(waiting) });
        if let (Err(_), Some(key)) = (&sent, waiting.pulled) {
            self.shared.not_pulled(key);
        }
        sent.map(|()| receiver).map_err(spool_error)
    }

    /// Hands the record of a mail over that was pulled and refused.
    pub fn hand_over_refused(&self, refused: Refused) -> Result<Appending, SpoolError> {
        if let Some(said) = self.shared.broken.get() {
            return Err(SpoolError::Trouble(said.clone()));
        }
        if self.space_left().is_low() {
            return Err(SpoolError::Full);
        }
        let (id, received_at) = (refused.id, refused.received_at);
        let (draft, waiting) = refused_record(refused).map_err(SpoolError::Trouble)?;
        let answer = self.append_answered(draft, waiting, Pending { mail: id, at: received_at })?;
        Ok(Appending { id, answer, file: None })
    }

    /// Queues the record of a refused mail.
    pub fn refused(&self, refused: Refused) {
        let counters = &self.shared.counters;
        if counters.refused_waiting.fetch_add(1, Ordering::Relaxed) >= REFUSED_WAITING || self.space_left().is_low() {
            counters.refused_waiting.fetch_sub(1, Ordering::Relaxed);
            counters.refused_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let sent = refused_record(refused).is_ok_and(|(draft, waiting)| {
            self.log.append(Request { draft, reply: Reply::Nobody, waiting: Some(waiting) }).is_ok()
        });
        if !sent {
            counters.refused_waiting.fetch_sub(1, Ordering::Relaxed);
            counters.refused_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next mails to file: those that are to be filed again first, then those that were never filed.
    pub fn spooled(&self, max: usize, max_bytes: u64) -> Result<Vec<Spooled>, StoreError> {
        self.check()?;
        let mut mails = self.retries(max, max_bytes)?;
        let used: u64 = mails.iter().map(|mail| mail.size).sum();
        if mails.len() >= max || (used > 0 && used >= max_bytes) {
            return Ok(mails);
        }
        let waiting = {
            let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.front(max - mails.len(), max_bytes - used)
        };
        self.read_waiting(waiting, &mut mails)?;
        Ok(mails)
    }

    /// The mails that wait behind a position, as `spooled` gives them.
    pub fn spooled_behind(&self, position: Position, max: usize, max_bytes: u64) -> Result<Vec<Spooled>, StoreError> {
        self.check()?;
        let waiting = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).behind(position, max, max_bytes);
        let mut mails = Vec::with_capacity(waiting.len());
        self.read_waiting(waiting, &mut mails)?;
        Ok(mails)
    }

    fn read_waiting(&self, waiting: Vec<Waiting>, mails: &mut Vec<Spooled>) -> Result<(), StoreError> {
        for Waiting { position, .. } in waiting {
            match self.record_at(position).and_then(|record| self.spooled_from(record)) {
                Ok(mail) => mails.push(mail),
                Err(StoreError::Damaged { said, .. }) => {
                    // One record that the disk has lost must not hold up all that came after it.
                    tracing::error!(position = position.0, said, "a mail's record cannot be read; it is left out");
                    self.shared.counters.damaged.fetch_add(1, Ordering::Relaxed);
                    let key = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).drop_one(position);
                    // The next sweep of its mailbox finds a mail without a row, and has it fetched again.
                    key.into_iter().for_each(|key| self.shared.not_pulled(key));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The record at a position.
    fn record_at(&self, position: Position) -> Result<Record, StoreError> {
        let damaged = |said: &str| StoreError::Damaged { position: position.0, said: said.into() };
        let read = self.segments.read(position).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged("its segment does not exist"),
            _ => error.into(),
        })?;
        read.ok_or_else(|| damaged("its checksum is wrong"))
    }

    /// The mail at a position, with its bytes.
    pub fn mail(&self, position: Position) -> Result<Stored, StoreError> {
        self.stored_from(self.record_at(position)?)
    }

    /// A mail's record with its bytes.
    fn stored_from(&self, record: Record) -> Result<Stored, StoreError> {
        let position = record.header.position.0;
        let damaged = |said: String| StoreError::Damaged { position, said };
        if record.header.kind == Kind::Erased {
            return Err(StoreError::NotPossible("the mail was erased".into()));
        }
        if !matches!(record.header.kind, Kind::Mail | Kind::Refused) {
            return Err(damaged("it is no mail".into()));
        }
        let (meta, place) = meta::decode(&record.meta).map_err(damaged)?;
        let body = match place {
            Place::Inline => MailBytes::Inline(record.body),
            Place::File => MailBytes::File { path: body::path(&self.dir, meta.id), len: meta.size },
        };
        let headers_only = record.header.kind == Kind::Refused;
        Ok(Stored { meta, body, headers_only, damaged: !record.body_intact })
    }

    fn spooled_from(&self, record: Record) -> Result<Spooled, StoreError> {
        let (position, damaged) = (record.header.position, !record.body_intact);
        if damaged {
            tracing::error!(position = position.0, "the bytes of a mail have changed on the disk");
            self.shared.counters.damaged.fetch_add(1, Ordering::Relaxed);
        }
        let Stored { meta, body, .. } = self.stored_from(record)?;
        let MailMeta { id, received_at, envelope, origin, deliveries, review, size, sha256, refused, outgoing } = meta;
        let retried = false;
        Ok(Spooled {
            position,
            id,
            received_at,
            envelope,
            origin,
            deliveries,
            review,
            size,
            sha256,
            refused,
            body,
            damaged,
            retried,
            outgoing,
        })
    }

    fn retries(&self, max: usize, max_bytes: u64) -> Result<Vec<Spooled>, StoreError> {
        let mut wanted: BTreeMap<Position, Vec<String>> = BTreeMap::new();
        self.index.walk_prefix(&[keys::RETRIES], |key, channel| {
            let position = Position(keys::number_in(key, 0));
            if wanted.len() >= max && !wanted.contains_key(&position) {
                return Ok(false);
            }
            wanted.entry(position).or_default().push(String::from_utf8_lossy(channel).into_owned());
            Ok(true)
        })?;
        let (mut mails, mut bytes, mut unreadable) = (Vec::new(), 0, Vec::new());
        for (position, channels) in wanted {
            let mail = match self.record_at(position).and_then(|record| self.spooled_from(record)) {
                Ok(mail) => mail,
                Err(error @ (StoreError::Damaged { .. } | StoreError::NotPossible(_))) => {
                    tracing::error!(position = position.0, %error, "a mail cannot be filed again");
                    unreadable.push((position, error.to_string()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            bytes += mail.size;
            if !mails.is_empty() && bytes > max_bytes {
                break;
            }
            let chosen = |channel: &Address| channels.iter().any(|text| *text == channel.key());
            let deliveries = mail.deliveries.into_iter().filter(|delivery| chosen(&delivery.channel)).collect();
            mails.push(Spooled { deliveries, retried: true, ..mail });
        }
        for (position, said) in unreadable {
            self.step(|step| step.give_up_retry(position, &said))?;
        }
        Ok(mails)
    }
}

/// The record of a refused mail, with its header section for a body.
fn refused_record(refused: Refused) -> Result<(Draft, Waiting), String> {
    let Refused { id, received_at, envelope, origin, deliveries, reason, size, head } = refused;
    let head = header_section(&head).to_vec();
    let (pulled, received) = (origin.remote.as_ref().map(LedgerKey::of), received_at.as_microsecond());
    let waiting = Waiting { position: Position(0), size: head.len() as u64, pulled, received };
    let (review, sha256, refused, outgoing) = (false, String::new(), Some(reason), None);
    let meta = MailMeta { id, received_at, envelope, origin, deliveries, review, size, sha256, refused, outgoing };
    let meta = meta::encode(&meta, Place::Inline)?;
    Ok((Draft::new(Kind::Refused, meta, head), waiting))
}

/// The header section (RFC 5322 section 2.1), or as much of it as is kept.
fn header_section(head: &[u8]) -> &[u8] {
    let head = &head[..head.len().min(REFUSED_HEAD)];
    let end = memchr::memmem::find(head, b"\r\n\r\n").map(|at| at + 4);
    let bare = memchr::memmem::find(head, b"\n\n").map(|at| at + 2);
    &head[..end.into_iter().chain(bare).min().unwrap_or(head.len())]
}
