//! Labelling and moving. No mail is ever deleted.

use super::names::{Deed, argument};
use super::{ImapError, LABEL, Labels, Mailbox, Marks, REJECTED, sequence_set};

impl Mailbox {
    /// Sets labels on mails. Setting them again changes nothing, and a mail that is gone is no error.
    pub async fn mark(&mut self, uids: &[u32], marks: Marks) -> Result<(), ImapError> {
        let set = sequence_set(uids);
        let words: Vec<&str> = [(marks.imported, LABEL), (marks.rejected, REJECTED)]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, w)| *w)
            .collect();
        let mut flags: Vec<&str> = Vec::new();
        if marks.seen {
            flags.push("\\Seen");
        }
        match self.labels {
            Labels::Gmail if !words.is_empty() => {
                let text = format!("UID STORE {set} +X-GM-LABELS ({})", words.join(" "));
                self.wire.command("STORE", &text, |_| {}).await?;
            }
            Labels::Keywords => flags.extend(&words),
            Labels::Gmail | Labels::None => {}
        }
        if marks.cleared {
            let text = match self.labels {
                Labels::Gmail => Some(format!("UID STORE {set} -X-GM-LABELS ({REJECTED})")),
                Labels::Keywords => Some(format!("UID STORE {set} -FLAGS.SILENT ({REJECTED})")),
                Labels::None => None,
            };
            if let Some(text) = text {
                self.wire.command("STORE", &text, |_| {}).await?;
            }
        }
        if !flags.is_empty() {
            let text = format!("UID STORE {set} +FLAGS.SILENT ({})", flags.join(" "));
            self.wire.command("STORE", &text, |_| {}).await?;
        }
        Ok(())
    }

    /// Moves mails to another folder (RFC 6851). A server that cannot is left as it is: copying and deleting would
    /// delete.
    pub async fn move_to(&mut self, uids: &[u32], folder: &str) -> Result<(), ImapError> {
        if !self.offers("MOVE") {
            let said = "the server cannot move mail (it does not offer MOVE)".into();
            return Err(ImapError::Refused { command: "MOVE", said });
        }
        self.at_its_name(folder, Deed::MoveTo(uids)).await.map(drop)
    }

    /// Moves mails to the folder of this very name.
    pub(super) async fn move_into(&mut self, uids: &[u32], name: &str) -> Result<(), ImapError> {
        let text = format!("UID MOVE {} {}", sequence_set(uids), argument(name)?);
        match self.wire.command("MOVE", &text, |_| {}).await {
            Err(refused @ ImapError::Refused { .. }) => Err(self.absent(name, refused).await),
            other => other.map(drop),
        }
    }
}
