//! One connection to an IMAP server: commands with our own tags, and responses as the parser reads them.
//!
//! Must not know: what the commands are for. The crate is used for what it does well, parsing responses; its session
//! is not used, because it takes a tagged NO for an empty success, waits and buffers without limit, and logs passwords.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Outcome, Response, ResponseCode, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::ImapError;
use super::frame::Frames;
use crate::net::conceal::Hidden;
use crate::net::connect::Stream;

/// The most of a server's words that is kept.
const SAID: usize = 300;
/// The most responses that one command may bring: a listing of a large mailbox, and far less than forever.
const RESPONSES: usize = 2_000_000;
/// The most unreadable responses that one command may bring and go on.
const PASSED: usize = 10_000;
/// The most responses that are kept as they came.
const KEPT: usize = 16;
/// The most times the patience for one response that a whole command may take, however steadily responses come.
const PATIENCES: u32 = 30;

/// A connection; after an error other than `Refused` it is of no use any more.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    frames: Frames,
    tag: u32,
    /// The longest wait for one response.
    pub patience: Duration,
    /// What must not stand in an error, whatever the server says.
    pub hidden: Hidden,
    /// How many mails the open folder has, as far as the server has told.
    pub exists: Option<u32>,
    /// The server has told of more mail since the folder was listed last. It tells once, with whatever command is under
    /// way, and not again when it is asked to tell of news.
    pub news: bool,
    /// While it is `Some`, responses to FETCH that cannot be read are passed over; the uids that they seem to be about.
    pub passed: Option<Vec<Option<u32>>>,
    /// The untagged responses that are wanted as they come.
    kept: Option<Kept>,
}

/// Responses that the parser does not know, or knows in too narrow a form.
#[derive(Debug)]
struct Kept {
    /// The word that they begin with.
    word: &'static str,
    frames: Vec<Vec<u8>>,
}

/// How a command ended well.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// `READ-ONLY` stood in the tagged OK.
    pub read_only: bool,
}

impl Wire {
    pub fn new(stream: Stream, patience: Duration) -> Self {
        let (hidden, exists, passed, kept) = (Hidden::default(), None, None, None);
        Self { stream, frames: Frames::default(), tag: 0, patience, hidden, exists, news: false, passed, kept }
    }

    /// The connection itself, to begin TLS on it. What came behind the last response came in clear, from whoever sits
    /// in between: nothing of it may count once TLS stands (RFC 3501 section 6.2.1).
    pub fn into_stream(self) -> Result<Stream, ImapError> {
        if self.frames.is_empty() {
            return Ok(self.stream);
        }
        Err(ImapError::Protocol("bytes in clear came behind the answer to STARTTLS: somebody may be in between".into()))
    }

    /// The stream's TLS version and cipher.
    pub fn tls_info(&self) -> Option<String> {
        self.stream.tls_info()
    }

    /// Sends a command and hands every untagged response to `on` until its own tagged one comes.
    pub async fn command(
        &mut self,
        name: &'static str,
        text: &str,
        mut on: impl FnMut(&Response<'_>),
    ) -> Result<Done, ImapError> {
        let tag = self.send(name, text).await?;
        self.finish(name, &tag, &mut on).await
    }

    /// Reads on until the tagged response comes, however much else a server has to say: not without end.
    pub async fn finish(
        &mut self,
        name: &'static str,
        tag: &str,
        on: &mut impl FnMut(&Response<'_>),
    ) -> Result<Done, ImapError> {
        let longest = self.patience * PATIENCES;
        let whole = async {
            for _ in 0..RESPONSES {
                if let Some(done) = self.step(name, tag, on).await? {
                    return Ok(done);
                }
            }
            Err(ImapError::Protocol(format!("{name} brought more than {RESPONSES} responses")))
        };
        timeout(longest, whole).await.map_err(|_| ImapError::Timeout(name))?
    }

    /// Reads one response; `Some` once it is the tagged one.
    pub async fn step(
        &mut self,
        name: &'static str,
        tag: &str,
        on: &mut impl FnMut(&Response<'_>),
    ) -> Result<Option<Done>, ImapError> {
        let hidden = self.hidden.clone();
        self.read(name, |response| match response {
            Response::Done { tag: theirs, status, outcome } if theirs.0 == tag => {
                let read_only = outcome.code == Some(ResponseCode::ReadOnly);
                match status {
                    Status::Ok => Ok(Some(Done { read_only })),
                    _ => Err(ImapError::Refused { command: name, said: told(outcome, &hidden) }),
                }
            }
            Response::Data { status: Status::Bye, outcome } => Err(ImapError::Lost(told(outcome, &hidden))),
            other => {
                on(other);
                Ok(None)
            }
        })
        .await?
    }

    /// Sends a command without waiting for its answer; returns its tag.
    pub async fn send(&mut self, name: &'static str, text: &str) -> Result<String, ImapError> {
        // A line end inside would be a command of its own, whoever wrote it.
        if text.contains(['\r', '\n', '\0']) {
            return Err(ImapError::Protocol(format!("{name} has a line end in its arguments")));
        }
        self.tag = self.tag.wrapping_add(1);
        let tag = format!("T{}", self.tag);
        self.line(name, &format!("{tag} {text}")).await?;
        Ok(tag)
    }

    /// Sends a line, such as the answer to a challenge.
    pub async fn line(&mut self, name: &'static str, text: &str) -> Result<(), ImapError> {
        self.bytes(name, format!("{text}\r\n").as_bytes()).await
    }

    /// Sends bytes, such as a literal.
    pub async fn bytes(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), ImapError> {
        let stream = &mut self.stream;
        let sent = timeout(self.patience, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        sent.await.map_err(|_| ImapError::Timeout(name))?.map_err(|error| ImapError::Lost(error.to_string()))
    }

    /// Waits for `+`, which asks for the rest of a command; `Err(Refused)` if the command is answered instead. Returns
    /// the text behind it.
    pub async fn go_ahead(&mut self, name: &'static str, tag: &str) -> Result<String, ImapError> {
        for _ in 0..1000 {
            let mut asked = None;
            let mut look = |response: &Response<'_>| {
                if let Response::Continue(outcome) = response {
                    asked = Some(outcome.information.as_deref().unwrap_or_default().to_owned());
                }
            };
            if self.step(name, tag, &mut look).await?.is_some() {
                return Err(ImapError::Protocol(format!("{name} was answered before it was complete")));
            }
            if let Some(text) = asked {
                return Ok(text);
            }
        }
        Err(ImapError::Protocol(format!("{name} was never asked to go on")))
    }

    /// One response within the patience.
    pub async fn read<T>(&mut self, name: &'static str, look: impl FnOnce(&Response<'_>) -> T) -> Result<T, ImapError> {
        timeout(self.patience, self.read_any(look)).await.map_err(|_| ImapError::Timeout(name))?
    }

    /// One response, however long it takes. Dropping the future loses nothing.
    pub async fn read_any<T>(&mut self, look: impl FnOnce(&Response<'_>) -> T) -> Result<T, ImapError> {
        let mut look = Some(look);
        loop {
            while let Some(len) = self.frames.first().map_err(|error| ImapError::Protocol(error.to_string()))? {
                let frame = self.frames.get(len);
                if let Some(kept) = self.kept.as_mut().filter(|kept| kept.wants(frame)) {
                    kept.frames.push(frame.to_vec());
                    self.frames.done(len);
                    continue;
                }
                let response = match (parse(frame), &mut self.passed) {
                    (Err(_), Some(passed)) if is_fetch(frame) && passed.len() < PASSED => {
                        passed.push(uid_in(frame));
                        None
                    }
                    // Of flags that somebody has changed servers tell unasked, and not always readably.
                    (Err(_), None) if is_fetch(frame) && is_line(frame) => None,
                    (response, _) => response?,
                };
                match &response {
                    Some(Response::MailboxData(MailboxDatum::Exists(count))) => {
                        self.news |= self.exists.is_some_and(|known| *count > known);
                        self.exists = Some(*count);
                    }
                    Some(Response::Expunge(_)) => self.exists = self.exists.map(|count| count.saturating_sub(1)),
                    _ => {}
                }
                let told = response.and_then(|response| look.take().map(|look| look(&response)));
                self.frames.done(len);
                if let Some(told) = told {
                    return Ok(told);
                }
            }
            match self.stream.read_buf(self.frames.buffer()).await {
                Ok(0) => return Err(ImapError::Lost("the server closed the connection".into())),
                Ok(_) => {}
                Err(error) => return Err(ImapError::Lost(cut(&error.to_string()))),
            }
        }
    }

    /// Sends a command that is a single word, and brings the untagged responses that begin with that word, each as it
    /// came.
    pub async fn ask(&mut self, word: &'static str) -> Result<Vec<Vec<u8>>, ImapError> {
        self.kept = Some(Kept { word, frames: Vec::new() });
        let done = self.command(word, word, |_| {}).await;
        let frames = self.kept.take().map(|kept| kept.frames).unwrap_or_default();
        done.map(|_| frames)
    }

    /// What the server can do, in upper case. Read here, because servers separate words by more than one space, and one
    /// of RFC 9051 need not name RFC 3501.
    pub async fn capabilities(&mut self) -> Result<Vec<String>, ImapError> {
        let frames = self.ask("CAPABILITY").await?;
        let words = frames.iter().flat_map(|frame| frame.split(u8::is_ascii_whitespace).skip(2));
        let words = words.filter(|word| !word.is_empty() && word.iter().all(u8::is_ascii_graphic));
        Ok(words.map(|word| String::from_utf8_lossy(word).to_uppercase()).collect())
    }
}

impl Kept {
    fn wants(&self, frame: &[u8]) -> bool {
        let word = frame.strip_prefix(b"* ").and_then(|rest| rest.split(u8::is_ascii_whitespace).next());
        self.frames.len() < KEPT && word.is_some_and(|word| word.eq_ignore_ascii_case(self.word.as_bytes()))
    }
}

/// A whole response as the parser reads it; `None` for an untagged one that it does not know, which is nothing that we
/// asked for: servers tell of extensions unasked, and a client passes over them.
fn parse(frame: &[u8]) -> Result<Option<Response<'_>>, ImapError> {
    // The parser repeats what it could not read, which may be somebody's mail; so none of its words are used.
    let strange = |said: &str| Err(ImapError::Protocol(format!("the server sent what {said}")));
    let Ok(response) = catch_unwind(AssertUnwindSafe(|| whole(frame))) else {
        return strange("the parser of IMAP cannot bear");
    };
    if response.is_some() {
        return Ok(response);
    }
    let fetch = frame.split(|byte| *byte == b' ').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"FETCH"));
    if frame.starts_with(b"* ") && !fetch { Ok(None) } else { strange("cannot be read as IMAP") }
}

/// Whether a response tells of a mail.
fn is_fetch(frame: &[u8]) -> bool {
    frame.starts_with(b"* ") && frame.split(|byte| *byte == b' ').nth(2).is_some_and(|word| word == b"FETCH")
}

/// Whether a response is a single line, without a literal.
fn is_line(frame: &[u8]) -> bool {
    memchr::memchr(b'\n', frame) == Some(frame.len() - 1)
}

/// The uid in a response that the parser cannot read.
fn uid_in(frame: &[u8]) -> Option<u32> {
    let (text, mut quoted) = (String::from_utf8_lossy(frame), false);
    let outside = text.chars().map(|c| {
        quoted ^= c == '"';
        if quoted { '"' } else { c }
    });
    let outside: String = outside.collect();
    let mut words = outside.split([' ', '(', ')', '\r', '\n']).filter(|word| !word.is_empty());
    words.find(|word| word.eq_ignore_ascii_case("UID"))?;
    words.next()?.parse().ok().filter(|uid| *uid > 0)
}

/// A response that takes up all of these bytes.
fn whole(bytes: &[u8]) -> Option<Response<'_>> {
    Response::parse(bytes).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, response)| response)
}

/// A server's words without what is hidden, which goes first: of what is cut off in its middle a part would be left.
pub fn told(outcome: &Outcome<'_>, hidden: &Hidden) -> String {
    cut(&hidden.conceal(outcome.information.as_deref().unwrap_or("it gave no reason")))
}

/// The beginning of a server's words, without what would break a log line.
pub fn cut(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect()
}

/// A string as a quoted one (RFC 3501 section 4.3); `None` where only a literal could say it.
pub fn quoted(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    plain.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_of_an_unreadable_response_is_found() {
        let table = [
            ("* 3 FETCH (UID 7 FLAGS () INTERNALDATE NIL)\r\n", Some(7)),
            ("* 3 FETCH (FLAGS () INTERNALDATE NIL uid 4294967295)\r\n", Some(u32::MAX)),
            ("* 3 FETCH (X-GM-LABELS (\"UID 5\" x) UID 8 RFC822.SIZE -1)\r\n", Some(8)),
            ("* 3 FETCH (FLAGS () UID NIL)\r\n", None),
            ("* 3 FETCH (FLAGS ())\r\n", None),
            ("* 3 FETCH (UID 0)\r\n", None),
        ];
        for (frame, want) in table {
            assert_eq!(uid_in(frame.as_bytes()), want, "{frame}");
            assert!(is_fetch(frame.as_bytes()));
        }
        assert!(!is_fetch(b"* OK FETCH\r\n") && !is_fetch(b"T1 OK FETCH\r\n"));
    }
}
