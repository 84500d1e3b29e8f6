//! Reading mails within limits: a thread that parses, watched by the one that files.
//!
//! A parser cannot be interrupted, so it runs on a thread of its own: when a mail takes too long that thread is left
//! behind and a new one goes on with the next mail. A panic is caught; an abort takes the process down, and the note
//! that the store keeps of each attempt lets the next process step over the mail that did it.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::answered::answers_machine;
use crate::mail::headers::HeaderSection;
use crate::mail::message::{Limits, Mailbox, Parsed, Summary, parse};
use crate::mail::{Outline, Reason};
use crate::store::{Spooled, Store};

/// A mail that has been read, or the reason why it could not be.
pub struct Read {
    pub spooled: Arc<Spooled>,
    /// What it says; of a mail that could not be read only what its header section tells at a glance.
    pub summary: Summary,
    /// What only mail that leaves is asked for.
    pub look: Look,
    /// What it is recognised through on other ways; `None` of a mail that could not be read, or that leaves.
    pub outline: Option<Outline>,
    /// Why it could not be read.
    pub fault: Option<Reason>,
}

impl Read {
    /// Whether its bytes are not those that were accepted.
    pub fn is_damaged(&self) -> bool {
        self.spooled.damaged || self.fault == Some(Reason::Damaged)
    }
}

/// What is read of a mail that leaves beside its summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// It has attachments beside its text.
    pub attachments: bool,
    /// The field by which a program names the ticket.
    pub ticket_field: Option<String>,
    /// The entry that it answers, where a machine wrote both.
    pub answers_machine: Option<String>,
}

/// The field by which a program that hands in mail names the ticket that it belongs to.
const TICKET_FIELD: &str = "X-Ticketgate-Ticket";

/// How many process starts may fail on one mail before it is stepped over.
const ATTEMPTS: u32 = 3;

/// How long the end waits for the mail that the parsing thread is at.
const LAST_MAIL: Duration = Duration::from_secs(2);

/// The hand that gives mails to the parsing thread.
pub struct Reader {
    store: Store,
    limits: Limits,
    timeout: Duration,
    line: Line,
    /// The mails that the thread has been given, and whose results have not been taken.
    begun: Vec<Arc<Spooled>>,
}

/// What a mail tells.
type Told = (Summary, Option<Outline>, Look);

/// The parsing thread with the way to it and back.
struct Line {
    /// `None` once no more mails will come.
    jobs: Option<Sender<Arc<Spooled>>>,
    results: Receiver<Result<Told, Reason>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the parsing thread.
    pub fn start(store: Store, limits: Limits, timeout: Duration) -> std::io::Result<Self> {
        let line = start_thread(&store, &limits)?;
        Ok(Self { store, limits, timeout, line, begun: Vec::new() })
    }

    /// Has mails read, in order, and returns at once.
    pub fn begin(&mut self, mails: Vec<Spooled>) {
        let mails: Vec<Arc<Spooled>> = mails.into_iter().map(Arc::new).collect();
        self.send(&mails);
        self.begun.extend(mails);
    }

    /// Whether mails were begun and not finished.
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// The mails that were begun. One that takes longer than the limit is given up, and those behind it go on.
    pub fn finish(&mut self) -> Vec<Read> {
        let mails = std::mem::take(&mut self.begun);
        let mut read = Vec::with_capacity(mails.len());
        for (index, spooled) in mails.iter().enumerate() {
            let summary = match self.line.results.recv_timeout(self.timeout) {
                Ok(summary) => summary,
                Err(trouble) => {
                    tracing::error!(mail = %spooled.id, "parsing did not end within its limit; the mail goes to quarantine");
                    self.start_anew(&mails[index + 1..]);
                    Err(match trouble {
                        RecvTimeoutError::Timeout => Reason::ParseTimeout,
                        RecvTimeoutError::Disconnected => Reason::ParserCrashed,
                    })
                }
            };
            let (summary, outline, look, fault) = match summary {
                Ok((summary, outline, look)) => (summary, outline, look, None),
                Err(reason) => (at_a_glance(&self.limits, spooled), None, Look::default(), Some(reason)),
            };
            read.push(Read { spooled: Arc::clone(spooled), summary, outline, look, fault });
        }
        read
    }

    fn send(&self, mails: &[Arc<Spooled>]) {
        let Some(jobs) = &self.line.jobs else { return };
        for mail in mails {
            // A thread that is gone shows as a disconnected result, which `finish` handles.
            let _ = jobs.send(Arc::clone(mail));
        }
    }

    fn start_anew(&mut self, rest: &[Arc<Spooled>]) {
        match start_thread(&self.store, &self.limits) {
            Ok(line) => {
                // The old thread may never end; nobody waits for it.
                self.line.thread = None;
                self.line = line;
                self.send(rest);
            }
            Err(trouble) => tracing::error!(%trouble, "cannot start another parsing thread"),
        }
    }
}

impl Drop for Line {
    /// Waits for the thread, so that nothing holds the store open behind our back, but not for long: it ends after the
    /// mail at hand, whatever was read ahead, and a parser that hangs is left behind.
    fn drop(&mut self) {
        self.jobs = None;
        // Without anybody who takes results the thread goes on with no other mail.
        self.results = channel().1;
        let Some(thread) = self.thread.take() else { return };
        let (ended, end) = channel();
        let joins = std::thread::Builder::new().name("parser's end".into()).spawn(move || {
            let _ = ended.send(thread.join().is_ok());
        });
        if joins.is_ok() {
            let _ = end.recv_timeout(LAST_MAIL);
        }
    }
}

fn start_thread(store: &Store, limits: &Limits) -> std::io::Result<Line> {
    let (jobs, todo) = channel::<Arc<Spooled>>();
    let (done, results) = channel();
    let (store, limits) = (store.clone(), *limits);
    let thread = std::thread::Builder::new().name("parser".into()).spawn(move || {
        super::step_back();
        for spooled in todo {
            if done.send(read_one(&store, &limits, &spooled)).is_err() {
                return;
            }
        }
    })?;
    Ok(Line { jobs: Some(jobs), results, thread: Some(thread) })
}

fn read_one(store: &Store, limits: &Limits, spooled: &Spooled) -> Result<Told, Reason> {
    if store.attempt(spooled.position) >= ATTEMPTS {
        tracing::error!(mail = %spooled.id, "parsing this mail took the process down before; it goes to quarantine");
        return Err(Reason::ParserCrashed);
    }
    let read = read_bytes(store, limits, spooled);
    store.attempt_ended(spooled.position);
    read
}

fn read_bytes(store: &Store, limits: &Limits, spooled: &Spooled) -> Result<Told, Reason> {
    let bytes = spooled.body.verified(&spooled.sha256).map_err(|trouble| {
        tracing::error!(mail = %spooled.id, %trouble, "the bytes of a mail cannot be read");
        // Other trouble, such as too many open files, may be over when a mail that leaves is sent.
        match trouble.kind() {
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData => Reason::Damaged,
            _ => Reason::Malformed,
        }
    })?;
    // Of a refused mail only the header section was kept, which reads like a mail without a body.
    let read = || {
        let null = spooled.envelope.has_null_sender(spooled.origin.kind, &bytes, limits.max_header_bytes);
        parse(&bytes, limits).map(|parsed| {
            let summary = summary(&parsed, null);
            let outline = if spooled.outgoing.is_none() { Outline::of(&summary) } else { None };
            let mut look = look(&parsed, spooled);
            look.answers_machine = answers_machine(store, limits, spooled, &summary);
            (summary, outline, look)
        })
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        tracing::error!(mail = %spooled.id, "the parser panicked; the mail goes to quarantine");
        Err(Reason::ParserCrashed)
    })
}

/// The summary, with what only the envelope tells: nobody may answer mail that has a null sender (RFC 3834 section 2).
fn summary(parsed: &Parsed<'_>, null_sender: bool) -> Summary {
    let mut summary = parsed.summary();
    if null_sender {
        summary.automatic = summary.automatic.with_null_sender();
    }
    summary
}

fn look(parsed: &Parsed<'_>, spooled: &Spooled) -> Look {
    if spooled.outgoing.is_none() {
        return Look::default();
    }
    let ticket_field = parsed.headers().text(TICKET_FIELD);
    Look { attachments: parsed.has_attachments(), ticket_field, answers_machine: None }
}

/// What finds a mail again that could not be read: Message-ID, subject and author, by a plain look at its header lines.
fn at_a_glance(limits: &Limits, spooled: &Spooled) -> Summary {
    let Ok(bytes) = spooled.body.read() else { return Summary::default() };
    let Ok(section) = HeaderSection::read(&bytes, limits.max_header_bytes) else { return Summary::default() };
    let id = section.values("Message-ID").next();
    let from = section.addresses("From").into_iter().next();
    Summary {
        message_id: id.map(|id| id.trim().trim_matches(['<', '>']).to_owned()).filter(|id| !id.is_empty()),
        subject: section.text("Subject").unwrap_or_default(),
        from: from.map(|address| Mailbox { name: String::new(), address: address.to_string() }),
        ..Summary::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A line whose thread has mails to read, and does that by waiting for a word.
    fn line(mails: u32, read: &Arc<AtomicU32>) -> (Line, Sender<()>) {
        let (done, results) = channel();
        let (word, words) = channel::<()>();
        let read = Arc::clone(read);
        let thread = std::thread::spawn(move || {
            for _ in 0..mails {
                let _ = words.recv();
                read.fetch_add(1, Ordering::SeqCst);
                if done.send(Err(Reason::Malformed)).is_err() {
                    return;
                }
            }
        });
        (Line { jobs: None, results, thread: Some(thread) }, word)
    }

    #[test]
    fn the_end_waits_for_the_mail_at_hand_and_no_other() {
        let read = Arc::new(AtomicU32::new(0));
        let (hangs, word) = line(1000, &read);
        drop(hangs);
        assert_eq!(read.load(Ordering::SeqCst), 0, "it was left behind");
        drop(word);
        let (idle, word) = line(0, &read);
        drop(idle);
        drop(word);
        let read = Arc::new(AtomicU32::new(0));
        let (busy, word) = line(1000, &read);
        word.send(()).unwrap();
        let result = busy.results.recv();
        assert!(matches!(result, Ok(Err(Reason::Malformed))));
        word.send(()).unwrap();
        drop(busy);
        assert!(read.load(Ordering::SeqCst) <= 2, "what was read ahead is left");
    }
}
