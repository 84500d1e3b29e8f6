//! Who reads a mailbox: a lease, kept as small messages of our own in a folder of their own on the server.
//!
//! A claim is a message that says whose it is and how long it holds. Whoever wants the mailbox reads the claims, adds
//! one, reads again: of those that still hold the lowest uid wins, and the loser takes its own away. A claim is renewed
//! by a new one, after which the older ones go. Only messages with our own instance's name are ever removed. How old a
//! claim is, the server's clock tells: the arrival of our own newest one is its present. Clocks of gateways do not count.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use crate::accounts::{Cause, Problem, holds_for_all};
use crate::mail::date;
use crate::mail::headers::HeaderSection;
use crate::pull::account::{Session, Task, Trouble};
use crate::pull::imap::{Folder, ImapError, Mailbox, Note};
use crate::units::count;

/// More messages than this do not belong to leases: somebody else uses the folder.
const MOST: u32 = 1000;
/// On Gmail each claim stays in the trash for 30 days, so there are fewer.
const ON_GMAIL: Duration = Duration::from_secs(3600);
/// How long giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(3);

/// Whether a refusal is about now and not about leases: whoever went on without one then would read beside another
/// gateway. A full mailbox takes none for as long as it is full, and is still to be read.
fn passes(said: &str) -> bool {
    holds_for_all(said) && Cause::from_imap(said, Cause::Protocol) != Cause::MailboxFull
}

/// What a task knows of its lease.
#[derive(Debug, Default)]
pub struct Lease {
    /// Since when the mailbox is ours, and when that was last made sure of.
    held: Option<(Timestamp, Instant)>,
    /// The newest claim of another that was seen, and when for the first time.
    seen: Option<(u32, Instant)>,
    /// The last attempt, whatever came of it.
    tried: Option<Instant>,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    uid: u32,
    instance: String,
    host: String,
    since: String,
    lasts: Duration,
    arrived: Timestamp,
}

impl Claim {
    /// Reads a claim; anything else in the folder is `None`, and nothing to us.
    fn read(note: &Note) -> Option<Self> {
        let section = HeaderSection::read(&note.head, 8 << 10).ok().filter(|_| !note.deleted)?;
        let value = |name: &str| section.values(name).next().map(|value| value.trim().chars().take(100).collect());
        let lasts: String = value("X-Ticketgate-For")?;
        Some(Self {
            uid: note.uid,
            instance: value("X-Ticketgate-Instance")?,
            host: value("X-Ticketgate-Host").unwrap_or_default(),
            since: value("X-Ticketgate-Since").unwrap_or_default(),
            lasts: Duration::from_millis(lasts.parse().ok()?).min(Duration::from_secs(86_400)),
            arrived: note.arrived,
        })
    }

    /// Whether it still holds; a tenth is added, because servers count in whole seconds and networks are slow.
    fn holds(&self, now: Timestamp) -> bool {
        now <= self.arrived + (self.lasts + self.lasts / 10)
    }

    fn told(&self) -> Problem {
        let Self { host, instance, since, .. } = self;
        let said = format!(
            "{host} (instance {instance}) reads this mailbox since {since}; this gateway stands by and takes over if that one stops"
        );
        Problem::new(Cause::OtherConsumer, said)
    }
}

/// Whose the mailbox is: of the claims that hold, the lowest.
fn holder(claims: &[Claim], now: Timestamp) -> Option<&Claim> {
    claims.iter().filter(|claim| claim.holds(now)).min_by_key(|claim| claim.uid)
}

/// Our own claims that may go now that the newest stands. The lowest stays while a claim of another lies between: it is
/// what ours is older by.
fn outlived(claims: &[Claim], own: &str, newest: u32) -> Vec<u32> {
    let mine = || claims.iter().filter(|claim| claim.instance == own && claim.uid < newest).map(|claim| claim.uid);
    let contended = claims.iter().any(|claim| claim.instance != own && claim.uid < newest);
    let lowest = mine().min().filter(|_| contended);
    mine().filter(|uid| Some(*uid) != lowest).collect()
}

impl Task {
    /// Makes sure that the mailbox is ours, if it is time to; the folder is opened again afterwards. Whatever takes long
    /// calls it between its commands: a lease that runs out meanwhile would let another gateway import the same mails.
    pub async fn renew_lease(&mut self, session: &mut Session) -> Result<(), Trouble> {
        if let Some(folder) = self.renew_lease_in(&mut session.mailbox, session.row.validity).await? {
            session.next = folder.next;
            self.show_warnings(session);
        }
        Ok(())
    }

    /// The same for a folder that is no session yet; the folder as it was opened again, if it was time to.
    pub async fn renew_lease_in(&mut self, mailbox: &mut Mailbox, validity: u32) -> Result<Option<Folder>, Trouble> {
        let lasts = self.lease_lasts(mailbox);
        if !self.source.config.lease || self.lease.tried.is_some_and(|tried| tried.elapsed() < lasts / 3) {
            return Ok(None);
        }
        // On the heap, because it is rare and would make every import that waits larger.
        Box::pin(self.hold_lease(mailbox)).await?;
        let folder = mailbox.select(&self.source.config.folder).await?;
        if folder.validity != validity {
            return Err(ImapError::Lost("UIDVALIDITY has changed".into()).into());
        }
        Ok(Some(folder))
    }

    /// Takes or renews the lease; an error with the cause `OtherConsumer` if the mailbox is another's.
    pub async fn hold_lease(&mut self, mailbox: &mut Mailbox) -> Result<(), Trouble> {
        if !self.source.config.lease {
            return Ok(());
        }
        self.lease.tried = Some(Instant::now());
        match self.claim(mailbox).await {
            Ok(None) => {
                let since = self.lease.held.map_or_else(|| self.pull.clock.now(), |(since, _)| since);
                self.lease.held = Some((since, Instant::now()));
                (self.lease.seen, self.warnings.lease) = (None, None);
                Ok(())
            }
            Ok(Some(other)) => {
                self.lease.held = None;
                Err(Trouble::Problem(other.told()))
            }
            Err(ImapError::Refused { command, said } | ImapError::NoFolder { command, said, .. }) if !passes(&said) => {
                let folder = &self.source.config.lease_folder;
                self.warnings.lease = Some(format!(
                    "the server takes no lease in the folder {folder} ({command}: {said}): make sure that no other gateway reads this mailbox"
                ));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the mailbox to whoever waits for it. Nothing depends on it: a lease that is not given back runs out.
    pub async fn release_lease(&mut self) {
        if self.lease.held.take().is_none() {
            return;
        }
        let releasing = async {
            let mut mailbox = self.log_in().await?;
            mailbox.open_notes(&self.source.config.lease_folder).await?;
            let (claims, deleted) = self.claims(&mut mailbox).await?;
            let own = self.pull.store.instance_id();
            let mine: Vec<u32> = claims.iter().filter(|claim| claim.instance == own).map(|claim| claim.uid).collect();
            mailbox.remove(&mine, deleted).await?;
            mailbox.close().await;
            Ok::<_, Trouble>(())
        };
        match timeout(RELEASE, Box::pin(releasing)).await {
            Ok(Ok(())) => tracing::debug!(channel = %self.source.channel, "the lease of the mailbox was given back"),
            failed => {
                tracing::debug!(channel = %self.source.channel, ?failed, "the lease of the mailbox runs out by itself")
            }
        }
    }

    /// How long a claim holds.
    fn lease_lasts(&self, mailbox: &Mailbox) -> Duration {
        let lasts = self.source.config.lease_for;
        if mailbox.offers("X-GM-EXT-1") { lasts.max(ON_GMAIL) } else { lasts }
    }

    /// Reads, claims, reads again; `Some` is the claim of another that wins.
    async fn claim(&mut self, mailbox: &mut Mailbox) -> Result<Option<Claim>, ImapError> {
        let (begun, lasts) = (Instant::now(), self.lease_lasts(mailbox));
        let (own, folder) = (self.pull.store.instance_id(), self.source.config.lease_folder.clone());
        let opened = mailbox.open_notes(&folder).await?;
        if opened.exists > MOST {
            let said = format!(
                "it holds {}; name a folder of its own as lease_folder",
                count(opened.exists, "message", "messages")
            );
            return Err(ImapError::Refused { command: "SELECT", said });
        }
        let (before, _) = self.claims(mailbox).await?;
        let held = self.lease.held.is_some_and(|(_, renewed)| renewed.elapsed() < lasts);
        if !held && let Some(other) = self.living(&before, &own) {
            return Ok(Some(other));
        }
        mailbox.append(&folder, &self.text(&own, lasts)).await?;
        let (after, deleted) = self.claims(mailbox).await?;
        let mine = after.iter().filter(|claim| claim.instance == own);
        let Some(newest) = mine.clone().max_by_key(|claim| claim.uid) else {
            return Err(ImapError::Refused { command: "APPEND", said: "the message was not kept".into() });
        };
        let all: Vec<u32> = mine.map(|claim| claim.uid).collect();
        // Whoever took so long between reading and reading again may have missed that another came, won and renewed.
        if begun.elapsed() > lasts / 6 {
            mailbox.remove(&all, deleted).await?;
            self.lease.held = None;
            return Err(ImapError::Timeout("a lease"));
        }
        match holder(&after, newest.arrived) {
            Some(winner) if winner.instance != own => {
                mailbox.remove(&all, deleted).await?;
                self.lease.seen = None;
                Ok(Some(winner.clone()))
            }
            _ => {
                mailbox.remove(&outlived(&after, &own, newest.uid), deleted).await?;
                Ok(None)
            }
        }
    }

    /// A claim of another that holds as far as can be known without one of our own: by this machine's clock, unless it
    /// has stood there unrenewed for so long that it cannot.
    fn living(&mut self, claims: &[Claim], own: &str) -> Option<Claim> {
        let others = || claims.iter().filter(|claim| claim.instance != own);
        let newest = others().max_by_key(|claim| claim.uid)?;
        let first = match self.lease.seen {
            Some((uid, first)) if uid == newest.uid => first,
            _ => Instant::now(),
        };
        self.lease.seen = Some((newest.uid, first));
        if first.elapsed() > newest.lasts + newest.lasts / 10 {
            return None;
        }
        let now = self.pull.clock.now();
        others().filter(|claim| claim.holds(now)).min_by_key(|claim| claim.uid).cloned()
    }

    /// The claims in the open folder, and whether messages of others are marked as deleted there.
    async fn claims(&self, mailbox: &mut Mailbox) -> Result<(Vec<Claim>, bool), ImapError> {
        let notes = mailbox.notes().await?;
        let own = self.pull.store.instance_id();
        let is_own = |note: &Note| {
            Claim::read(&Note { deleted: false, ..note.clone() }).is_some_and(|claim| claim.instance == own)
        };
        let deleted = notes.iter().any(|note| note.deleted && !is_own(note));
        Ok((notes.iter().filter_map(Claim::read).collect(), deleted))
    }

    fn text(&self, own: &str, lasts: Duration) -> Vec<u8> {
        let now = self.pull.clock.now();
        let since = self.lease.held.map_or(now, |(since, _)| since);
        let date = date::written(now);
        let (host, until) = (&self.pull.host, now + lasts);
        format!(
            "From: ticketgate <{channel}>\r\nTo: <{channel}>\r\nSubject: Ticketgate on {host} reads this mailbox\r\n\
             Date: {date}\r\nMessage-ID: <lease.{own}.{stamp}@{host}>\r\nAuto-Submitted: auto-generated\r\n\
             X-Ticketgate-Instance: {own}\r\nX-Ticketgate-Host: {host}\r\nX-Ticketgate-Since: {since}\r\n\
             X-Ticketgate-Until: {until}\r\nX-Ticketgate-For: {lasts}\r\n\r\n\
             This message tells other gateways that this mailbox is taken care of.\r\n\
             It is renewed and removed by itself; this folder holds nothing else.\r\n",
            channel = self.source.channel,
            stamp = now.as_millisecond(),
            lasts = lasts.as_millis(),
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn claim(uid: u32, instance: &str, second: i64) -> Claim {
        let lasts = Duration::from_secs(300);
        Claim { uid, instance: instance.into(), host: "h".into(), since: "s".into(), lasts, arrived: at(second) }
    }

    #[test]
    fn the_lowest_claim_that_holds_wins() {
        let table = [
            (vec![claim(1, "a", 0), claim(2, "b", 1)], 10, Some("a")),
            // A tenth more than it says, and not longer.
            (vec![claim(1, "a", 0), claim(2, "b", 329)], 330, Some("a")),
            (vec![claim(1, "a", 0), claim(2, "b", 330)], 331, Some("b")),
            // A renewal beside the claim of somebody who came later.
            (vec![claim(1, "a", 0), claim(2, "b", 90), claim(3, "a", 100)], 100, Some("a")),
            (vec![claim(1, "a", 0)], 1000, None),
        ];
        for (claims, now, want) in table {
            assert_eq!(holder(&claims, at(now)).map(|claim| claim.instance.as_str()), want, "{claims:?}");
        }
    }

    #[test]
    fn only_our_own_older_claims_go() {
        let claims = [claim(1, "a", 0), claim(2, "a", 1), claim(3, "b", 2), claim(4, "a", 3)];
        assert_eq!(outlived(&claims, "a", 4), [2]);
        assert_eq!(outlived(&claims[..2], "a", 2), [1]);
        assert_eq!(outlived(&claims, "b", 3), Vec::<u32>::new());
    }

    #[test]
    fn what_is_no_claim_is_nothing_to_us() {
        let head = b"X-Ticketgate-Instance: a\r\nX-Ticketgate-For: 300000\r\nX-Ticketgate-Host: h\r\n\r\n".to_vec();
        let note = Note { uid: 1, arrived: at(0), head, deleted: false };
        assert_eq!(Claim::read(&note).unwrap().lasts, Duration::from_secs(300));
        assert_eq!(Claim::read(&Note { deleted: true, ..note.clone() }), None);
        assert_eq!(Claim::read(&Note { head: b"Subject: a person's\r\n\r\n".to_vec(), ..note }), None);
    }
}
