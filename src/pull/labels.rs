//! Labels that are owed on the server, from the intents that filing has left behind.

use crate::accounts::holds_for_all;
use crate::pull::account::{Session, Task, Trouble};
use crate::pull::imap::{ImapError, Marks};
use crate::pull::ingest::TRIES;
use crate::store::rows::{FormerRow, Intent};

/// How many intents are read at once.
const MOST: usize = 1000;
/// How many mails are labelled in one command; a longer list of uids is more than some servers read.
const COMMAND: usize = 250;
/// How long to wait for filing before the labels of a look are left to the next one.
const FILING_PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// How many refusals of one pass are enough where nothing was labelled, and where something was.
const HOPELESS: u32 = 16;
const REFUSALS: u32 = 500;

/// One pass over the intents.
#[derive(Debug, Default)]
struct Pass {
    done: Vec<u32>,
    /// Mails that were refused by themselves.
    refused: Vec<u32>,
    refusals: u32,
    /// The server's last words.
    said: Option<String>,
    /// It said what it would say of any mail.
    general: bool,
}

impl Pass {
    /// Whether going on only costs time.
    fn is_hopeless(&self) -> bool {
        self.general || self.refusals >= if self.done.is_empty() { HOPELESS } else { REFUSALS }
    }
}

impl Task {
    /// Sets all labels that are owed, those of mail that is just being filed too.
    pub async fn settle_labels(&mut self, session: &mut Session) -> Result<(), Trouble> {
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

    /// Sets the labels of these intents; `false` if some were refused and stay owed.
    async fn label(&mut self, session: &mut Session, intents: Vec<Intent>) -> Result<bool, Trouble> {
        let config = &self.source.config;
        // Numbers of an older UIDVALIDITY name other mails now.
        let validity = session.row.ledger_validity();
        let (current, old): (Vec<_>, Vec<_>) = intents.into_iter().partition(|one| one.validity == validity);
        let (seen, label) = (config.mark_read, config.label);
        let mut pass = Pass::default();
        for (rejected, cleared) in [(false, false), (false, true), (true, false)] {
            let wanted = current.iter().filter(|one| (one.rejected, one.cleared) == (rejected, cleared));
            let uids: Vec<u32> = wanted.map(|one| one.uid).collect();
            let marks = Marks { seen, imported: label, rejected: label && rejected, cleared: label && cleared };
            for chunk in uids.chunks(COMMAND) {
                self.renew_lease(session).await?;
                self.label_chunk(session, chunk, marks, &mut pass).await?;
            }
        }
        let channel = self.source.channel.clone();
        let whole = pass.said.is_none();
        // A mailbox that the channel had before cannot be labelled any more, and its ledger says so.
        let former: Vec<u32> = session.row.former.iter().map(FormerRow::ledger_validity).collect();
        let old = old.iter().map(|one| (one.validity, one.uid));
        let (mut refused, mut done): (Vec<_>, Vec<_>) = old.partition(|(validity, _)| former.contains(validity));
        refused.extend(self.give_up(&pass).into_iter().map(|uid| (validity, uid)));
        done.extend(pass.done.iter().map(|uid| (validity, *uid)));
        self.blocking(move |store| {
            store.step(|step| {
                step.labelled(&channel, &done)?;
                refused.iter().try_for_each(|(validity, uid)| step.label_refused(&channel, *validity, *uid))
            })
        })
        .await?;
        self.warnings.labels = pass.said.map(|said| {
            tracing::warn!(channel = %self.source.channel, said, mails = pass.refused.len(), "the server refuses labels");
            format!("labels are refused by the server ({said}) and stay owed")
        });
        self.show_warnings(session);
        Ok(whole)
    }

    /// Labels mails in one command, and looks for the one that is refused by halves, so that it does not hold up the
    /// others.
    async fn label_chunk(
        &self,
        session: &mut Session,
        chunk: &[u32],
        marks: Marks,
        pass: &mut Pass,
    ) -> Result<(), Trouble> {
        let mut parts = vec![chunk];
        while let Some(part) = parts.pop() {
            if pass.is_hopeless() {
                return Ok(());
            }
            match self.set(session, part, marks).await {
                Ok(()) => pass.done.extend(part),
                // A folder to move to that is not there is there for no mail.
                Err(ImapError::NoFolder { command, said, .. }) => {
                    pass.general = true;
                    pass.said = Some(format!("{command}: {said}"));
                }
                Err(ImapError::Refused { command, said }) => {
                    pass.general |= holds_for_all(&said);
                    pass.refusals += 1;
                    pass.said = Some(format!("{command}: {said}"));
                    if let [uid] = part {
                        pass.refused.push(*uid);
                    } else {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([right, left]);
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    /// The mails that the server has refused to label often enough while it labelled others.
    fn give_up(&mut self, pass: &Pass) -> Vec<u32> {
        // Where everything is refused, it is about the folder or the account, and passes.
        if pass.general || pass.done.is_empty() {
            return Vec::new();
        }
        self.label_tries.retain(|uid, _| !pass.done.contains(uid));
        let mut given_up = Vec::new();
        for uid in &pass.refused {
            let tries = self.label_tries.entry(*uid).or_insert(0);
            *tries += 1;
            if *tries >= TRIES {
                given_up.push(*uid);
            }
        }
        self.label_tries.retain(|uid, _| !given_up.contains(uid));
        if !given_up.is_empty() {
            tracing::warn!(channel = %self.source.channel, uids = ?given_up, "these mails cannot be labelled; the ledger says so");
        }
        given_up
    }

    async fn set(&self, session: &mut Session, uids: &[u32], marks: Marks) -> Result<(), ImapError> {
        session.mailbox.mark(uids, marks).await?;
        match &self.source.config.move_to {
            Some(folder) if !marks.rejected => session.mailbox.move_to(uids, folder).await,
            _ => Ok(()),
        }
    }
}
