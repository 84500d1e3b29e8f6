//! One connection to an IMAP server: commands with our own tags, and responses as the parser reads them.
//!
//! Must not know: what the commands are for. The crate is used for what it does well, reading responses; its commands
//! are not used, because they take a tagged NO for an empty success, wait without limit, and log passwords.

use std::time::Duration;

use async_imap::Client;
use async_imap::imap_proto::{Capability, Outcome, Response, ResponseCode, Status};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::timeout;

use super::ImapError;
use crate::net::connect::Stream;

/// The most of a server's words that is kept.
const SAID: usize = 300;
/// The most responses that one command may bring: a listing of a large mailbox, and far less than forever.
const RESPONSES: usize = 2_000_000;
/// Commands are gathered before they are sent; a larger one goes out at once.
const GATHER: usize = 1 << 10;

/// A connection; after an error other than `Refused` it is of no use any more.
#[derive(Debug)]
pub struct Wire {
    client: Client<BufWriter<Stream>>,
    tag: u32,
    /// The longest wait for one response.
    pub patience: Duration,
}

/// How a command ended well.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// `READ-ONLY` stood in the tagged OK.
    pub read_only: bool,
}

impl Wire {
    pub fn new(stream: Stream, patience: Duration) -> Self {
        Self { client: Client::new(BufWriter::with_capacity(GATHER, stream)), tag: 0, patience }
    }

    /// The connection itself, to begin TLS on it. Nothing may have been read beyond the last response: see `quiet`.
    pub fn into_stream(self) -> Stream {
        self.client.into_inner().into_inner()
    }

    /// The stream's TLS version and cipher.
    pub fn tls_info(&self) -> Option<String> {
        self.client.get_ref().get_ref().tls_info()
    }

    /// Sends a command and hands every untagged response to `on` until its own tagged one comes.
    pub async fn command(
        &mut self,
        name: &'static str,
        text: &str,
        mut on: impl FnMut(&Response<'_>),
    ) -> Result<Done, ImapError> {
        let tag = self.send(name, text).await?;
        for _ in 0..RESPONSES {
            if let Some(done) = self.step(name, &tag, &mut on).await? {
                return Ok(done);
            }
        }
        Err(ImapError::Protocol(format!("{name} brought more than {RESPONSES} responses")))
    }

    /// Reads one response; `Some` once it is the tagged one.
    pub async fn step(
        &mut self,
        name: &'static str,
        tag: &str,
        on: &mut impl FnMut(&Response<'_>),
    ) -> Result<Option<Done>, ImapError> {
        self.read(name, |response| match response {
            Response::Done { tag: theirs, status, outcome } if theirs.0 == tag => {
                let read_only = outcome.code == Some(ResponseCode::ReadOnly);
                match status {
                    Status::Ok => Ok(Some(Done { read_only })),
                    _ => Err(ImapError::Refused { command: name, said: told(outcome) }),
                }
            }
            Response::Data { status: Status::Bye, outcome } => Err(ImapError::Lost(told(outcome))),
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
        let stream = self.client.get_mut();
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
        match self.client.read_response().await {
            Ok(Some(response)) => Ok(look(response.parsed())),
            Ok(None) => Err(ImapError::Lost("the server closed the connection".into())),
            // The parser repeats what it could not read, which may be somebody's mail.
            Err(error) if error.to_string().contains("during parsing") => {
                Err(ImapError::Protocol("the server sent what cannot be read as IMAP".into()))
            }
            Err(error) => Err(ImapError::Lost(cut(&error.to_string()))),
        }
    }

    /// What the server can do, in upper case.
    pub async fn capabilities(&mut self) -> Result<Vec<String>, ImapError> {
        let mut found = Vec::new();
        self.command("CAPABILITY", "CAPABILITY", |response| {
            if let Response::Capabilities(list) = response {
                found = list.iter().map(word).collect();
            }
        })
        .await?;
        Ok(found)
    }
}

/// A server's words, with the response code in front where the parser knew it.
pub fn told(outcome: &Outcome<'_>) -> String {
    cut(outcome.information.as_deref().unwrap_or("it gave no reason"))
}

fn word(capability: &Capability<'_>) -> String {
    match capability {
        Capability::Imap4rev1 => "IMAP4REV1".into(),
        Capability::Auth(mechanism) => format!("AUTH={}", mechanism.to_uppercase()),
        Capability::Atom(atom) => atom.to_uppercase(),
    }
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
