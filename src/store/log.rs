//! Handing records to the accept log, and hearing what became of them.

use std::io;
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::ledger::LedgerKey;
use super::record::Draft;
use super::rows::Position;
use super::segment::Segments;
use super::shared::Shared;
use super::space::Space;
use super::spool::Waiting;
use super::writer::Writer;

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    Full,
    Broken(String),
}

/// Who hears what became of a record.
#[derive(Debug)]
pub enum Reply {
    Async(oneshot::Sender<Result<Position, AppendError>>),
    Blocking(SyncSender<Result<Position, AppendError>>),
    /// Nobody: the record needs no sync of its own.
    Nobody,
}

/// A record on its way into the log.
#[derive(Debug)]
pub struct Request {
    pub draft: Draft,
    pub reply: Reply,
    /// Set for what waits for filing from then on; the log fills in the position.
    pub waiting: Option<Waiting>,
}

impl Request {
    /// The place of a pulled mail in the ledger. The log takes it out again if the record is not written, whether or not
    /// somebody still waits for the answer.
    pub fn pulled(&self) -> Option<LedgerKey> {
        self.waiting.and_then(|waiting| waiting.pulled)
    }
}

/// What the thread is told.
pub(super) enum Message {
    Append(Request),
    /// There are pulled mails that wait for others.
    Lingering,
    /// Somebody waits for them now.
    Hurry,
    Stop,
}

/// Pulled mails that wait until there are many of them; `None` once the thread takes no more. Each by itself would wake
/// the thread.
pub(super) type Lingering = Arc<Mutex<Option<Vec<Request>>>>;

/// The handle of the thread.
#[derive(Debug)]
pub struct Log {
    sender: Sender<Message>,
    lingering: Lingering,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Starts the thread; the log continues at `end`.
    pub fn start(
        segments: Arc<Segments>,
        shared: Arc<Shared>,
        space: Arc<Space>,
        limits: (u64, usize),
        end: Position,
    ) -> io::Result<Self> {
        let file = segments.open(end.segment())?;
        let (sender, receiver) = mpsc::channel();
        let (segment_bytes, group_max) = limits;
        let number = end.segment();
        let lingering = Lingering::new(Mutex::new(Some(Vec::new())));
        let (end, theirs) = (end.offset(), Arc::clone(&lingering));
        let writer = Writer { segments, shared, space, segment_bytes, group_max, number, end, file, lingering: theirs };
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { sender, lingering, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a record over; the answer comes by its `Reply`. Pulled mails keep their order among themselves, and so do all
    /// other records; a pulled mail stands before whatever is handed over after it.
    pub fn append(&self, request: Request) -> Result<(), AppendError> {
        let closed = || AppendError::Broken("the store is closed".into());
        if request.pulled().is_none() {
            return self.sender.send(Message::Append(request)).map_err(|_| closed());
        }
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        let lingering = lingering.as_mut().ok_or_else(closed)?;
        lingering.push(request);
        // The first one calls, and the thread takes all that are there when it comes to them.
        if lingering.len() == 1 { self.sender.send(Message::Lingering).map_err(|_| closed()) } else { Ok(()) }
    }

    /// Has what was handed over written now, with nobody waiting for more.
    pub fn hurry(&self) {
        // Where nobody takes it, whoever handed it over hears of that.
        let _ = self.sender.send(Message::Hurry);
    }

    /// Appends one record and waits until it stands synced.
    pub fn append_blocking(&self, draft: Draft) -> Result<Position, AppendError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.append(Request { draft, reply: Reply::Blocking(sender), waiting: None })?;
        receiver.recv().unwrap_or_else(|_| Err(AppendError::Broken("the store is closed".into())))
    }

    /// Writes what was handed over before, then ends the thread.
    pub fn stop(&self) {
        let _ = self.sender.send(Message::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
    }
}
