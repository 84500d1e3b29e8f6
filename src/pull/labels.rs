//! Labels that are owed on the server, from the intents that filing has left behind.

use crate::pull::account::{Session, Task, Trouble};
use crate::pull::imap::{ImapError, Marks};
use crate::store::rows::Intent;

/// How many intents are read at once.
const MOST: usize = 1000;
/// How many mails are labelled in one command; a longer list of uids is more than some servers read.
const COMMAND: usize = 250;
/// How long to wait for filing before the labels of a look are left to the next one.
const FILING_PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

impl Task {
    /// Sets all labels that are owed, those of mail that is just being filed too.
    pub async fn settle_labels(&self, session: &mut Session) -> Result<(), Trouble> {
        let mut progress = self.pull.store.watch();
        let deadline = tokio::time::Instant::now() + FILING_PATIENCE;
        loop {
            progress.mark_unchanged();
            let unfiled = self.pull.store.unfiled(&self.source.channel);
            let channel = self.source.channel.clone();
            let intents = self.blocking(move |store| store.intents(&channel, MOST)).await?;
            self.pull.metrics.labels_owed(&self.source.channel.to_string(), intents.len() as u64);
            if !intents.is_empty() {
                let (more, done) = (intents.len() == MOST, self.label(session, intents).await?);
                if done && more {
                    continue;
                }
                if !done {
                    return Ok(());
                }
            }
            if unfiled == 0 {
                return Ok(());
            }
            match tokio::time::timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => {}
                _ => return Ok(()),
            }
        }
    }

    /// Sets the labels of these intents; `false` if the server refused and they stay owed.
    async fn label(&self, session: &mut Session, intents: Vec<Intent>) -> Result<bool, Trouble> {
        let config = &self.source.config;
        // Numbers of an older UIDVALIDITY name other mails now.
        let (current, old): (Vec<_>, Vec<_>) =
            intents.into_iter().partition(|one| one.validity == session.row.validity);
        let mut done: Vec<(u32, u32)> = old.iter().map(|one| (one.validity, one.uid)).collect();
        let mut refused = None;
        for rejected in [false, true] {
            let uids: Vec<u32> = current.iter().filter(|one| one.rejected == rejected).map(|one| one.uid).collect();
            let marks = Marks { seen: config.mark_read, imported: config.label, rejected: config.label && rejected };
            for chunk in uids.chunks(COMMAND) {
                match self.set(session, chunk, marks).await {
                    Ok(()) => done.extend(chunk.iter().map(|uid| (session.row.validity, *uid))),
                    Err(ImapError::Refused { command, said }) => refused = Some(format!("{command}: {said}")),
                    Err(other) => return Err(other.into()),
                }
            }
        }
        let channel = self.source.channel.clone();
        self.blocking(move |store| store.step(|step| step.labelled(&channel, &done))).await?;
        let whole = refused.is_none();
        if let Some(said) = refused {
            tracing::warn!(channel = %self.source.channel, said, "the server refuses labels; they stay owed");
            let warning = format!("labels are refused by the server ({said}) and stay owed");
            self.pull.accounts.show(&self.source.channel, |connection| {
                (connection.warnings, connection.labels_refused) = (vec![warning], true);
            });
        }
        Ok(whole)
    }

    async fn set(&self, session: &mut Session, uids: &[u32], marks: Marks) -> Result<(), ImapError> {
        session.mailbox.mark(uids, marks).await?;
        match &self.source.config.move_to {
            Some(folder) if !marks.rejected => session.mailbox.move_to(uids, folder).await,
            _ => Ok(()),
        }
    }
}
