//! From uids to receipts: bodies are fetched and accepted side by side, so that many share one sync.

use std::collections::HashSet;

use tokio::task::JoinSet;

use crate::intake::{Arrival, Refusal, TurnedAway};
use crate::mail::auth::AuthResults;
use crate::mail::origin::{OriginKind, RemoteMessage};
use crate::mail::{Envelope, MailId, Origin, Reason};
use crate::pull::account::{Session, Task, Trouble};
use crate::pull::imap::{Listed, SLICE};
use crate::store::rows::{LedgerRow, LedgerState};

/// Mails up to this size are fetched whole, many in one command.
const SMALL: u64 = 1 << 20;
/// The bytes of one such command together, and how many mails.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH: usize = 256;
/// How many mails may be on their way into the log at once.
const ACCEPTING: usize = 64;
/// How much of the header section of a mail is fetched that is too large to be taken.
const HEAD: u32 = 16 << 10;

/// What became of one mail.
type Outcome = Result<(), Refusal>;

impl Task {
    /// Fetches and accepts these mails. Returns rows for those that were gone; those that were taken or refused have
    /// theirs by their record. When this returns, every one of them is accounted for.
    pub async fn import(
        &mut self,
        session: &mut Session,
        mails: &[Listed],
        imported: &mut usize,
    ) -> Result<Vec<LedgerRow>, Trouble> {
        // Before they come: a connection that breaks half-way has had its share of the minute.
        let now = self.pull.clock.now();
        mails.iter().for_each(|_| self.rate.take(now));
        let mut accepting: JoinSet<(u32, Outcome)> = JoinSet::new();
        let mut came: HashSet<u32> = HashSet::new();
        let mut rest = mails;
        while let Some(first) = rest.first() {
            let many = self.batch(rest);
            if many == 0 {
                if self.large(session, first, &mut accepting).await? {
                    came.insert(first.uid);
                }
                rest = &rest[1..];
            } else {
                let uids: Vec<u32> = rest[..many].iter().map(|mail| mail.uid).collect();
                let fetching = session.mailbox.fetch(uids).await?;
                while let Some((uid, bytes)) = session.mailbox.fetched(&fetching).await? {
                    came.insert(uid);
                    if accepting.len() >= ACCEPTING {
                        settled(accepting.join_next().await)?;
                    }
                    accepting.spawn(self.accept(uid, bytes, &session.row, session.tls.clone()));
                }
                rest = &rest[many..];
            }
        }
        while !accepting.is_empty() {
            settled(accepting.join_next().await)?;
        }
        *imported += came.len();
        let channel = self.source.channel.to_string();
        let gone: Vec<_> = mails.iter().filter(|mail| !came.contains(&mail.uid)).collect();
        self.pull.metrics.pulled(&channel, "imported", came.len() as u64);
        self.pull.metrics.pulled(&channel, "gone", gone.len() as u64);
        Ok(gone.into_iter().map(|mail| self.row(session, mail.uid, LedgerState::Gone)).collect())
    }

    /// How many of the next mails are small enough to be fetched in one command.
    fn batch(&self, mails: &[Listed]) -> usize {
        let mut bytes = 0;
        let fits = |mail: &&Listed| {
            bytes += mail.size;
            mail.size <= SMALL.min(self.source.max_mail_bytes) && bytes <= BATCH_BYTES
        };
        mails.iter().take(BATCH).take_while(fits).count()
    }

    /// Accepts one mail whose bytes are here.
    fn accept(
        &self,
        uid: u32,
        bytes: Vec<u8>,
        row: &crate::store::rows::SourceRow,
        tls: Option<String>,
    ) -> impl Future<Output = (u32, Outcome)> + Send + 'static {
        let (intake, received_at) = (self.pull.intake.clone(), self.pull.clock.now());
        let (origin, envelope) = (self.origin(uid, row, tls), self.envelope());
        async move {
            let id = MailId::fresh(received_at);
            let mut body = intake.body(id);
            let filled = async {
                body.push(&bytes).await?;
                drop(bytes);
                body.finish().await
            };
            let outcome = match filled.await {
                Ok(body) => intake.accept(Arrival { id, received_at, envelope, origin, body }).await.map(drop),
                Err(crate::store::BodyError::Full) => Err(Refusal::Full),
                Err(other) => Err(Refusal::Trouble(other.to_string())),
            };
            (uid, outcome)
        }
    }

    /// Fetches a large mail in slices, or only the header section of one that is too large. `false` if it is gone.
    async fn large(
        &self,
        session: &mut Session,
        mail: &Listed,
        accepting: &mut JoinSet<(u32, Outcome)>,
    ) -> Result<bool, Trouble> {
        let most = self.source.max_mail_bytes;
        if mail.size > most {
            return self.refuse(session, mail.uid, mail.size).await;
        }
        let received_at = self.pull.clock.now();
        let id = MailId::fresh(received_at);
        let mut body = self.pull.intake.body(id);
        let mut size = 0u64;
        loop {
            let offset = u32::try_from(size).unwrap_or(u32::MAX);
            let Some(part) = session.mailbox.fetch_part(mail.uid, offset, SLICE).await? else {
                // Nothing where the mail has its end is the end; anywhere else somebody has taken the mail away.
                if size > 0 && size >= mail.size {
                    break;
                }
                return Ok(false);
            };
            size += part.len() as u64;
            // The server's count is a promise that some servers do not keep.
            if size > most {
                return self.refuse(session, mail.uid, size).await;
            }
            body.push(&part).await.map_err(full)?;
            if part.len() < SLICE as usize {
                break;
            }
        }
        let body = body.finish().await.map_err(full)?;
        let (origin, envelope) = (self.origin(mail.uid, &session.row, session.tls.clone()), self.envelope());
        let (intake, uid) = (self.pull.intake.clone(), mail.uid);
        accepting.spawn(async move {
            (uid, intake.accept(Arrival { id, received_at, envelope, origin, body }).await.map(drop))
        });
        Ok(true)
    }

    async fn refuse(&self, session: &mut Session, uid: u32, size: u64) -> Result<bool, Trouble> {
        let Some(head) = session.mailbox.fetch_head(uid, HEAD).await? else { return Ok(false) };
        let received_at = self.pull.clock.now();
        let (origin, envelope) = (self.origin(uid, &session.row, session.tls.clone()), self.envelope());
        let (id, reason) = (MailId::fresh(received_at), Reason::TooLarge);
        let away = TurnedAway { id, received_at, envelope, origin, reason, size, head };
        self.pull.intake.turned_away_for_good(away).await.map_err(Trouble::Refused)?;
        Ok(true)
    }

    fn origin(&self, uid: u32, row: &crate::store::rows::SourceRow, tls: Option<String>) -> Origin {
        let channel = self.source.channel.clone();
        let backfill = row.backfill.contains(&uid);
        Origin {
            kind: OriginKind::Imap,
            peer: format!("{}@{}", self.source.user(), self.source.config.host().unwrap_or_default()),
            helo: None,
            tls,
            client_certificate: None,
            auth: AuthResults::default(),
            remote: Some(RemoteMessage { channel, validity: row.validity, uid, backfill }),
        }
    }

    /// A mailbox has no envelope: the mail is for the channel whose mailbox it is.
    fn envelope(&self) -> Envelope {
        Envelope { mail_from: None, rcpt_to: vec![self.source.channel.clone()] }
    }
}

fn full(error: crate::store::BodyError) -> Trouble {
    Trouble::Refused(match error {
        crate::store::BodyError::Full => Refusal::Full,
        other => Refusal::Trouble(other.to_string()),
    })
}

/// A refusal for good has its record; anything else is our own trouble and stops the look.
fn settled(done: Option<Result<(u32, Outcome), tokio::task::JoinError>>) -> Result<(), Trouble> {
    match done {
        None | Some(Ok((_, Ok(()) | Err(Refusal::Permanent(_))))) => Ok(()),
        Some(Ok((_, Err(refusal)))) => Err(Trouble::Refused(refusal)),
        Some(Err(error)) => Err(Trouble::Refused(Refusal::Trouble(error.to_string()))),
    }
}
