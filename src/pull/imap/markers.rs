//! Small messages of our own in a folder of their own: written, read, and taken away again.
//!
//! The one place that deletes. Whoever calls `remove` names messages that this gateway has written itself.

use async_imap::imap_proto::{AttributeValue, Response};
use jiff::Timestamp;

use super::fetch::{body_of, internal_date};
use super::names::{Deed, argument, encoded};
use super::{Folder, ImapError, Mailbox, sequence_set};

/// The header section of a message in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub uid: u32,
    /// INTERNALDATE: the server's own clock.
    pub arrived: Timestamp,
    pub head: Vec<u8>,
    pub deleted: bool,
}

impl Mailbox {
    /// Opens the folder, and makes it if it is not there; where the person's own folders lie.
    pub async fn open_notes(&mut self, folder: &str) -> Result<Folder, ImapError> {
        self.opened(folder, Deed::OpenOrMake).await
    }

    /// The notes in the folder that is open.
    pub async fn notes(&mut self) -> Result<Vec<Note>, ImapError> {
        let text = "UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[HEADER]<0.4096>)";
        let mut found = Vec::new();
        let look = |response: &Response<'_>| {
            if let Response::Fetch(_, attributes) = response {
                found.extend(note(attributes));
            }
        };
        let done = self.wire.command("FETCH", text, look).await;
        done.map(drop).or_else(|error| self.none_there(error))?;
        found.sort_unstable_by_key(|note| note.uid);
        Ok(found)
    }

    /// Adds a note to a folder, which is the one of `open_notes` if that was called. The server may say other things
    /// before it asks for the bytes.
    pub async fn append(&mut self, folder: &str, bytes: &[u8]) -> Result<(), ImapError> {
        let name = match self.known_names.get(folder) {
            Some(known) => argument(known)?,
            None => argument(&encoded(folder)?)?,
        };
        let text = format!("APPEND {name} (\\Seen) {{{}}}", bytes.len());
        let tag = self.wire.send("APPEND", &text).await?;
        self.wire.go_ahead("APPEND", &tag).await?;
        self.wire.bytes("APPEND", bytes).await?;
        self.wire.line("APPEND", "").await?;
        self.wire.finish("APPEND", &tag, &mut |_| {}).await?;
        // The server need not tell an open folder of its own additions before it is asked.
        self.noop().await.map(drop)
    }

    /// Takes notes away. `others_deleted` says that messages of somebody else are marked as deleted in the folder: a
    /// plain EXPUNGE would take those too, so ours stay marked then.
    pub async fn remove(&mut self, uids: &[u32], others_deleted: bool) -> Result<(), ImapError> {
        if uids.is_empty() {
            return Ok(());
        }
        let set = sequence_set(uids);
        if self.offers("X-GM-EXT-1") {
            // Gmail keeps what is expunged from a label; only its trash is emptied (after 30 days).
            let text = format!("UID STORE {set} +X-GM-LABELS (\\Trash)");
            return self.wire.command("STORE", &text, |_| {}).await.map(drop);
        }
        let text = format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)");
        self.wire.command("STORE", &text, |_| {}).await?;
        if self.offers("UIDPLUS") {
            self.wire.command("EXPUNGE", &format!("UID EXPUNGE {set}"), |_| {}).await?;
        } else if !others_deleted {
            self.wire.command("EXPUNGE", "EXPUNGE", |_| {}).await?;
        }
        Ok(())
    }
}

fn note(attributes: &[AttributeValue<'_>]) -> Option<Note> {
    let (uid, head) = body_of(attributes)?;
    let (mut arrived, mut deleted) = (None, false);
    for attribute in attributes {
        match attribute {
            AttributeValue::InternalDate(text) => arrived = internal_date(text),
            AttributeValue::Flags(flags) => {
                deleted = flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Deleted"));
            }
            _ => {}
        }
    }
    Some(Note { uid, arrived: arrived?, head, deleted })
}
