//! From uids to receipts: bodies are fetched and accepted side by side, so that many share one sync.
//!
//! A mail that does not come together with others is asked for by itself, in slices; one that does not come by itself
//! either, again and again, gets the state `unfetchable`, and the rest goes on.

use crate::accounts::holds_for_all;
use crate::intake::TurnedAway;
use crate::mail::auth::AuthResults;
use crate::mail::origin::{OriginKind, RemoteMessage};
use crate::mail::{MailId, Origin, Reason};
use crate::pull::account::{Session, Task, Trouble};
use crate::pull::handover::{Handover, Parcel, envelope, full};
use crate::pull::imap::{ImapError, Listed, SLICE};
use crate::store::rows::{LedgerRow, LedgerState};

/// Mails up to this size are fetched whole, many in one command.
const SMALL: u64 = 1 << 20;
/// The bytes of one such command together, and how many mails.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH: usize = 256;
/// How much of the header section of a mail is fetched that is too large to be taken.
const HEAD: u32 = 16 << 10;
/// How often a mail is asked for by itself before it counts as unfetchable.
pub const TRIES: u32 = 3;

/// What an import leaves to be written down.
#[derive(Debug, Default)]
pub struct Import {
    /// Rows for mails that were gone or cannot be fetched; what was taken or refused has its own by its record.
    pub rows: Vec<LedgerRow>,
    /// Mails that did not come and are to be asked for again.
    pub again: Vec<u32>,
}

/// Mails that did not come, so far.
#[derive(Debug, Default)]
struct Missing {
    /// The server brought nothing for them: they may be gone.
    silent: Vec<u32>,
    /// The server refused them.
    refused: Vec<u32>,
    /// They were asked for often enough.
    unfetchable: Vec<u32>,
}

impl Task {
    /// Fetches and accepts these mails, in their order. When this returns, every one of them is accounted for.
    pub async fn import(
        &mut self,
        session: &mut Session,
        mails: &[Listed],
        imported: &mut usize,
    ) -> Result<Import, Trouble> {
        if mails.is_empty() {
            return Ok(Import::default());
        }
        // Before they come: a connection that breaks half-way, or a crash, has had its share of the minute.
        let now = self.pull.clock.now();
        mails.iter().for_each(|_| self.rate.take(now));
        self.keep_rate(session, now).await?;
        let (mut handover, mut missing) = (Handover::new(self.pull.intake.clone()), Missing::default());
        let fetched = self.fetch_all(session, mails, &mut handover, &mut missing).await;
        // Whatever came is brought to its end, also if the rest did not come.
        let finished = handover.finish().await;
        let channel = self.source.channel.to_string();
        *imported += handover.came.len();
        self.pull.metrics.pulled(&channel, "rejected", handover.refused);
        self.pull.metrics.pulled(&channel, "imported", (handover.came.len() as u64).saturating_sub(handover.refused));
        self.tries.retain(|uid, _| !handover.came.contains(uid));
        fetched.and(finished)?;
        self.account_for(session, missing).await
    }

    async fn fetch_all(
        &mut self,
        session: &mut Session,
        mails: &[Listed],
        handover: &mut Handover,
        missing: &mut Missing,
    ) -> Result<(), Trouble> {
        let mut rest = mails;
        while let Some(first) = rest.first() {
            let many = self.batch(rest);
            let (now, later) = rest.split_at(many.max(1));
            rest = later;
            self.renew_lease(session).await?;
            if many == 0 {
                self.alone(session, first, handover, missing).await?;
                continue;
            }
            let fetched = self.together(session, now, handover).await;
            let left: Vec<&Listed> = now.iter().filter(|mail| !handover.came.contains(&mail.uid)).collect();
            match fetched {
                Ok(()) => missing.silent.extend(left.iter().map(|mail| mail.uid)),
                Err(trouble) if is_about_mail(&trouble) => {
                    for mail in &left {
                        self.tries.entry(mail.uid).or_insert(0);
                    }
                    let Trouble::Imap(ImapError::Refused { said, .. }) = &trouble else { return Err(trouble) };
                    tracing::debug!(channel = %self.source.channel, said, "a fetch was refused; mails are asked for one by one");
                    for mail in left {
                        self.alone(session, mail, handover, missing).await?;
                    }
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// How many of the next mails are fetched in one command: they are small, and none of them made trouble before.
    fn batch(&self, mails: &[Listed]) -> usize {
        let mut bytes = 0;
        let fits = |mail: &&Listed| {
            // One of unknown size comes in slices.
            let Some(size) = mail.size else { return false };
            bytes += size;
            let small = size <= SMALL.min(self.source.max_mail_bytes) && bytes <= BATCH_BYTES;
            small && !self.tries.contains_key(&mail.uid)
        };
        mails.iter().take(BATCH).take_while(fits).count()
    }

    /// Fetches mails in one command.
    async fn together(&self, session: &mut Session, mails: &[Listed], handover: &mut Handover) -> Result<(), Trouble> {
        let fetching = session.mailbox.fetch(mails.iter().map(|mail| mail.uid).collect()).await?;
        while let Some((uid, bytes)) = session.mailbox.fetched(&fetching).await? {
            let claims = mails.binary_search_by_key(&uid, |mail| mail.uid).map_or(0, |at| mails[at].size.unwrap_or(0));
            // A mail that was expunged meanwhile comes empty from some servers, and some bring a mail twice.
            if (bytes.is_empty() && claims > 0) || handover.came.contains(&uid) {
                continue;
            }
            handover.take(self.parcel(session, uid), bytes).await?;
        }
        Ok(())
    }

    /// Fetches one mail by itself, and counts how often that failed.
    async fn alone(
        &mut self,
        session: &mut Session,
        mail: &Listed,
        handover: &mut Handover,
        missing: &mut Missing,
    ) -> Result<(), Trouble> {
        if self.tries.get(&mail.uid).is_some_and(|tries| *tries >= TRIES) {
            missing.unfetchable.push(mail.uid);
            return Ok(());
        }
        match self.large(session, mail, handover).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                missing.silent.push(mail.uid);
                Ok(())
            }
            Err(trouble) if is_about_mail(&trouble) => {
                let tries = self.tries.entry(mail.uid).or_insert(0);
                *tries += 1;
                tracing::warn!(channel = %self.source.channel, uid = mail.uid, tries, ?trouble, "a mail does not come");
                let Trouble::Imap(ImapError::Refused { .. }) = trouble else { return Err(trouble) };
                missing.refused.push(mail.uid);
                Ok(())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Fetches a mail in slices, or only the header section of one that is too large. `false` if nothing came.
    async fn large(&mut self, session: &mut Session, mail: &Listed, handover: &mut Handover) -> Result<bool, Trouble> {
        let most = self.source.max_mail_bytes;
        if let Some(size) = mail.size.filter(|size| *size > most) {
            return self.refuse(session, mail.uid, size, handover).await;
        }
        let parcel = self.parcel(session, mail.uid);
        let mut body = self.pull.intake.body(parcel.id);
        let mut size = 0u64;
        loop {
            let offset = u32::try_from(size).unwrap_or(u32::MAX);
            let Some(part) = session.mailbox.fetch_part(mail.uid, offset, SLICE).await? else { return Ok(false) };
            if part.is_empty()
                && mail.size.is_none_or(|claims| size < claims)
                && (size == 0 || !self.is_there(session, mail.uid).await?)
            {
                return Ok(false);
            }
            size += part.len() as u64;
            // The server's count is a promise that some servers do not keep.
            if size > most {
                return self.refuse(session, mail.uid, size, handover).await;
            }
            body.push(&part).await.map_err(full)?;
            if part.len() < SLICE as usize {
                break;
            }
            // Trouble with the lease is not about this mail.
            self.renew_lease(session).await.map_err(|trouble| Trouble::Problem(trouble.problem()))?;
        }
        let body = body.finish().await.map_err(full)?;
        handover.take_body(parcel, body).await?;
        Ok(true)
    }

    async fn refuse(
        &self,
        session: &mut Session,
        uid: u32,
        size: u64,
        handover: &mut Handover,
    ) -> Result<bool, Trouble> {
        let Some(head) = session.mailbox.fetch_head(uid, HEAD).await? else { return Ok(false) };
        let Parcel { id, received_at, origin, channel, .. } = self.parcel(session, uid);
        let (envelope, reason) = (envelope(&head, channel), Reason::TooLarge);
        let away = TurnedAway { id, received_at, envelope, origin, reason, size, head };
        handover.take_refused(uid, |intake| intake.turn_away_for_good(away)).await?;
        Ok(true)
    }

    /// Whether a mail is still in the folder.
    async fn is_there(&self, session: &mut Session, uid: u32) -> Result<bool, Trouble> {
        // Only here may a server tell that something was expunged (RFC 3501 section 7.4.1).
        session.mailbox.noop().await?;
        Ok(!session.mailbox.list(uid, Some(uid)).await?.is_empty())
    }

    /// What became of the mails that did not come.
    async fn account_for(&mut self, session: &mut Session, missing: Missing) -> Result<Import, Trouble> {
        let Missing { silent, refused, unfetchable } = missing;
        let mut import = Import::default();
        let mut asked: Vec<u32> = silent.iter().chain(&refused).copied().collect();
        asked.sort_unstable();
        if let (Some(first), Some(last)) = (asked.first(), asked.last()) {
            session.mailbox.noop().await?;
            let there = session.mailbox.list(*first, Some(*last)).await?;
            for uid in asked {
                if there.binary_search_by_key(&uid, |mail| mail.uid).is_err() {
                    self.tries.remove(&uid);
                    import.rows.push(self.row(session, uid, LedgerState::Gone));
                    continue;
                }
                let tries = self.tries.entry(uid).or_insert(0);
                // A refusal was counted when it came.
                *tries += u32::from(silent.contains(&uid));
                import.again.push(uid);
            }
        }
        let (mut enough, again) = import.again.into_iter().partition(|uid| self.tries.get(uid) >= Some(&TRIES));
        import.again = again;
        enough.extend(unfetchable);
        import.rows.extend(enough.iter().map(|uid| self.row(session, *uid, LedgerState::Unfetchable)));
        self.tries.retain(|uid, _| !enough.contains(uid));
        let channel = self.source.channel.to_string();
        let count = |state| import.rows.iter().filter(|row| row.state == state).count() as u64;
        self.pull.metrics.pulled(&channel, "gone", count(LedgerState::Gone));
        self.pull.metrics.pulled(&channel, "unfetchable", count(LedgerState::Unfetchable));
        if !enough.is_empty() {
            tracing::warn!(channel, uids = ?enough, "the server does not hand out these mails; each sweep tries them again");
        }
        Ok(import)
    }

    fn parcel(&self, session: &Session, uid: u32) -> Parcel {
        let received_at = self.pull.clock.now();
        let (channel, row) = (self.source.channel.clone(), &session.row);
        let remote = RemoteMessage {
            channel: channel.clone(),
            validity: row.ledger_validity(),
            uid,
            backfill: uid <= row.baseline,
        };
        let origin = Origin {
            kind: OriginKind::Imap,
            peer: format!("{}@{}", self.source.user(), self.source.config.host().unwrap_or_default()),
            helo: None,
            tls: session.tls.clone(),
            client_certificate: None,
            auth: AuthResults::default(),
            remote: Some(remote),
        };
        Parcel { uid, id: MailId::fresh(received_at), received_at, origin, channel }
    }
}

/// Whether an error may be about the mail that was asked for. A server that wants us to slow down, or whose mailbox is
/// full, would say the same of any other; so would our own disk.
fn is_about_mail(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Imap(ImapError::Refused { said, .. } | ImapError::Lost(said)) => !holds_for_all(said),
        Trouble::Imap(ImapError::Timeout(_) | ImapError::Protocol(_)) => true,
        _ => false,
    }
}
