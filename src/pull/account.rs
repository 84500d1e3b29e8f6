//! The task of one account: connect, look, label, wait, and again; after trouble, later.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cadence::Cadence;
use super::config::SourceConfig;
use super::imap::{Idle, ImapError, Labels, Mailbox};
use super::lease::Lease;
use super::rate::Rate;
use super::{Pull, Source, problem, refusal};
use crate::accounts::{Cause, Orders, Problem, Remedy, State, wait_asked};
use crate::intake::Refusal;
use crate::net::backoff::{Backoff, chance};
use crate::shutdown::Shutdown;
use crate::store::rows::{SourceRow, Wanted};
use crate::store::{Store, StoreError};

/// IDLE is begun anew before servers and address translators forget it.
const IDLE_LONGEST: Duration = Duration::from_secs(9 * 60);

/// A connection that lasted so long has worked; one that ends sooner again and again would be opened without end.
const WORKED: Duration = Duration::from_secs(30);

/// Why a session ended.
#[derive(Debug)]
pub enum Trouble {
    Imap(ImapError),
    Store(StoreError),
    Refused(Refusal),
    Problem(Problem),
}

impl From<ImapError> for Trouble {
    fn from(error: ImapError) -> Self {
        Self::Imap(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Trouble {
    /// What it means for the connection.
    pub fn problem(self) -> Problem {
        match self {
            Self::Imap(error) => problem(error),
            Self::Problem(problem) => problem,
            Self::Store(StoreError::Full) | Self::Refused(Refusal::Full) => {
                Problem::new(Cause::DiskLow, "there is no room for mail on the disk")
            }
            Self::Store(error) => Problem::new(Cause::DiskLow, error.to_string()),
            Self::Refused(Refusal::Trouble(said)) => Problem::new(Cause::DiskLow, said),
            Self::Refused(Refusal::Permanent(reason)) => Problem::new(Cause::Protocol, reason.code()),
        }
    }
}

/// One account's task.
pub struct Task {
    pub pull: Pull,
    pub source: Source,
    pub rate: Rate,
    /// The last order of a sweep that was carried out.
    pub swept: u64,
    /// Mails that did not come together with others, by uid, and how often they were asked for by themselves.
    pub tries: HashMap<u32, u32>,
    /// How often the server has refused to label a mail by itself.
    pub label_tries: HashMap<u32, u32>,
    /// The last unfetchable mail that a sweep has asked for again.
    pub tried_again: u32,
    pub warnings: Warnings,
    pub lease: Lease,
    /// When the session was opened, by a clock that does not step; None once it is known how it ended.
    opened: Option<Instant>,
    cadence: Cadence,
    backoff: Backoff,
}

/// What is told beside the state, and does not follow from the session itself.
#[derive(Clone, Debug, Default)]
pub struct Warnings {
    pub labels: Option<String>,
    pub lease: Option<String>,
    /// Lines of listings that could not be read since the last sweep began.
    pub unreadable: u64,
    /// The channel has another mailbox than before.
    pub mailbox: Option<String>,
}

/// What a session works with.
pub struct Session {
    pub mailbox: Mailbox,
    pub labels: Labels,
    pub row: SourceRow,
    /// UIDNEXT, as the server has told it when the folder was opened last.
    pub next: u32,
    pub tls: Option<String>,
}

impl Task {
    pub fn new(pull: Pull, source: Source) -> Self {
        let config = &source.config;
        let cadence = Cadence::new(config.poll, config.poll_least, config.poll_most);
        let backoff = Backoff::new(config.retry_first, config.retry_most);
        Self {
            rate: Rate::new(config.mails_per_minute, []),
            swept: 0,
            tries: HashMap::new(),
            label_tries: HashMap::new(),
            tried_again: 0,
            warnings: Warnings::default(),
            lease: Lease::default(),
            opened: None,
            pull,
            source,
            cadence,
            backoff,
        }
    }

    /// Runs until the shutdown.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut orders = self.pull.accounts.orders(&self.source.channel);
        // Mail that an earlier run has imported within the last minute counts.
        let taken = self.imports_of_the_last_minute().await;
        self.rate = Rate::new(self.source.config.mails_per_minute, taken);
        loop {
            let told = *orders.borrow_and_update();
            let wait = match self.wanted().await {
                Ok(Wanted::Connected) => {
                    let mut changes = orders.clone();
                    tokio::select! {
                        trouble = Box::pin(self.session(orders.clone())) => self.after(trouble),
                        () = changed(&mut changes, told) => Duration::ZERO,
                        () = shutdown.wait() => return self.release_lease().await,
                    }
                }
                Ok(wanted) => {
                    self.release_lease().await;
                    let state = if wanted == Wanted::Paused { State::Paused } else { State::Disconnected };
                    self.show(state, None);
                    Duration::MAX
                }
                Err(trouble) => self.after(Trouble::Store(trouble)),
            };
            if wait.is_zero() {
                continue;
            }
            let wait = wait.min(Duration::from_secs(86_400));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                result = orders.changed() => if result.is_err() { return },
                () = shutdown.wait() => return self.release_lease().await,
            }
        }
    }

    /// A connection from its beginning to its end, which is always some trouble.
    async fn session(&mut self, mut orders: watch::Receiver<Orders>) -> Trouble {
        match self.open().await {
            Ok(mut session) => loop {
                if let Err(trouble) = self.round(&mut session, &mut orders).await {
                    return trouble;
                }
            },
            Err(trouble) => trouble,
        }
    }

    async fn open(&mut self) -> Result<Session, Trouble> {
        self.pull.accounts.show(&self.source.channel, |connection| {
            if !matches!(connection.state, State::Problem(_) | State::Connected) {
                connection.state = State::Connecting;
            }
        });
        self.pull.accounts.may_open(&self.source.channel).map_err(Trouble::Problem)?;
        let mut mailbox = self.log_in().await?;
        if let Err(trouble) = self.hold_lease(&mut mailbox).await {
            if matches!(&trouble, Trouble::Problem(problem) if problem.cause == Cause::OtherConsumer) {
                Box::pin(self.stand_by(&mut mailbox)).await?;
            }
            return Err(trouble);
        }
        let folder = mailbox.select(&self.source.config.folder).await?;
        let row = Box::pin(self.settle(&mut mailbox, folder)).await?;
        let session = Session { tls: mailbox.tls_info(), labels: folder.labels, next: folder.next, mailbox, row };
        self.opened = Some(Instant::now());
        self.show(State::Connected, None);
        self.show_warnings(&session);
        Ok(session)
    }

    /// Logs in. A token that the server refuses before its time is exchanged for another one, once.
    pub async fn log_in(&self) -> Result<Mailbox, Trouble> {
        let (accounts, channel) = (&self.pull.accounts, &self.source.channel);
        let connector = self.pull.connectors.get(&self.source.config.connect()).map_err(ImapError::Connect)?;
        let settings = self.source.config.settings();
        let login = accounts.login(channel).await.map_err(Trouble::Problem)?;
        let refused = match Mailbox::open(&connector, &settings, &login).await {
            Ok(mailbox) => return Ok(mailbox),
            Err(error) => refusal(error, &login),
        };
        if refused.cause != Cause::TokenRefused {
            return Err(Trouble::Problem(refused));
        }
        let other = accounts.login_instead(channel, &login).await.map_err(Trouble::Problem)?;
        let Some(login) = other else { return Err(Trouble::Problem(refused)) };
        let opened = Mailbox::open(&connector, &settings, &login).await;
        opened.map_err(|error| Trouble::Problem(refusal(error, &login)))
    }

    /// One look with everything that belongs to it, then the wait for the next.
    async fn round(&mut self, session: &mut Session, orders: &mut watch::Receiver<Orders>) -> Result<(), Trouble> {
        let told = *orders.borrow_and_update();
        self.pull.accounts.renew(&self.source.channel).await.map_err(Trouble::Problem)?;
        self.renew_lease(session).await?;
        self.settle_labels(session).await?;
        let found = self.look(session).await?;
        self.settle_labels(session).await?;
        self.sweep(session, told).await?;
        let now = self.pull.clock.now();
        let waiting = found.waiting;
        self.pull.metrics.looked(&self.source.channel.to_string(), now);
        self.pull.metrics.mails_waiting(&self.source.channel.to_string(), waiting as u64);
        self.pull.accounts.show(&self.source.channel, |connection| {
            (connection.last_look, connection.waiting) = (Some(now), waiting as u64);
        });
        self.show_warnings(session);
        let mut wait = self.cadence.after(found.imported);
        if self.source.config.lease {
            wait = wait.min(self.source.config.lease_for / 3);
        }
        if found.again > 0 {
            wait = wait.min(self.source.config.retry_first);
        }
        if waiting > 0 {
            wait = wait.min(self.rate.wait(now)).max(Duration::from_millis(100));
        }
        // Numbers that were given out since the listing, which a renewal of the lease has shown.
        if session.next.saturating_sub(1) > session.row.counted_to {
            return Ok(());
        }
        let next = now + wait.min(IDLE_LONGEST);
        self.pull.accounts.show(&self.source.channel, |connection| connection.next_look = Some(next));
        let idle = if self.source.config.idle && waiting == 0 { Idle::IfOffered } else { Idle::Never };
        let asked = async {
            let _ = orders.wait_for(|orders| *orders != told).await;
        };
        session.mailbox.wait(wait.min(IDLE_LONGEST), idle, asked).await?;
        Ok(())
    }

    /// What follows trouble: the state on the board, and how long to wait.
    fn after(&mut self, trouble: Trouble) -> Duration {
        let channel = self.source.channel.clone();
        let lasted = self.opened.take().map_or(Duration::ZERO, |opened| opened.elapsed());
        if lasted >= WORKED {
            self.backoff.reset();
        }
        // A connection that worked is opened again at once, and only if that fails is something wrong. Until then nothing
        // has failed, and nothing has changed that anybody has to be told of.
        if is_ordinary(lasted, &trouble) {
            tracing::debug!(channel = %channel, ?trouble, "the connection ended and is opened again");
            return Duration::from_millis(200);
        }
        let problem = trouble.problem();
        self.pull.metrics.look_failed(&channel.to_string());
        let now = self.pull.clock.now();
        let mut wait = self.backoff.next(chance());
        if problem.cause == Cause::OtherConsumer {
            // A gateway that stops gives its lease back: whoever stands by takes over at its next look.
            let SourceConfig { lease_for, poll, retry_first, .. } = self.source.config;
            wait = (lease_for / 3).min(poll.max(retry_first));
        }
        if problem.cause.remedy() == Remedy::Person {
            wait = self.source.config.retry_most;
        }
        if let Some(asked) = wait_asked(&problem.said) {
            // Whoever asks sooner is throttled for longer; nobody keeps us away for longer than the configuration says.
            wait = wait.max(asked.min(self.source.config.retry_most));
        }
        let next = now + wait;
        self.show(State::Problem(problem), Some(next));
        wait
    }

    fn show(&self, state: State, next_try: Option<jiff::Timestamp>) {
        self.pull.accounts.show(&self.source.channel, |connection| {
            connection.state = state;
            connection.next_try = next_try;
        });
    }

    async fn wanted(&self) -> Result<Wanted, StoreError> {
        let channel = self.source.channel.clone();
        // A mailbox that was never touched by a person is wanted as soon as it stands in the configuration.
        self.blocking(move |store| Ok(store.source(&channel)?.map_or(Wanted::Connected, |row| row.wanted))).await
    }

    async fn imports_of_the_last_minute(&self) -> Vec<jiff::Timestamp> {
        let channel = self.source.channel.clone();
        let row = self.blocking(move |store| store.source(&channel)).await.ok().flatten();
        Rate::times(&row.unwrap_or_default().recent).collect()
    }

    /// Writes down what the rate has let through, before it is asked for.
    pub async fn keep_rate(&mut self, session: &mut Session, now: jiff::Timestamp) -> Result<(), Trouble> {
        if self.source.config.mails_per_minute > 0 {
            let row = SourceRow { recent: self.rate.recent(now), ..session.row.clone() };
            session.row = self.keep(row, Vec::new()).await?;
        }
        Ok(())
    }

    /// Runs what blocks on the disk away from the async threads.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.pull.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|error| Err(StoreError::Broken(error.to_string())))
    }
}

/// Whether a session ended as sessions do: servers close idle connections as they like.
fn is_ordinary(lasted: Duration, trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Imap(ImapError::Lost(said)) => {
            lasted >= WORKED && Cause::from_imap(said, Cause::Unreachable) == Cause::Unreachable
        }
        _ => false,
    }
}

/// Returns once somebody has changed what is wanted of the connection, or its credential.
async fn changed(orders: &mut watch::Receiver<Orders>, told: Orders) {
    if orders.wait_for(|orders| orders.changed != told.changed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_closes_an_idle_connection_is_no_trouble() {
        let (short, long) = (WORKED - Duration::from_secs(1), WORKED);
        let lost = |said: &str| Trouble::Imap(ImapError::Lost(said.into()));
        let table = [
            (long, lost("the server closed the connection"), true),
            (long, lost("Autologout; idle for too long"), true),
            (short, lost("the server closed the connection"), false),
            (Duration::ZERO, lost("the server closed the connection"), false),
            (long, lost("Account exceeded command or bandwidth limits"), false),
            (long, Trouble::Imap(ImapError::Timeout("FETCH")), false),
            (long, Trouble::Problem(Problem::new(Cause::OtherConsumer, "x")), false),
        ];
        for (lasted, trouble, want) in table {
            assert_eq!(is_ordinary(lasted, &trouble), want, "{lasted:?} {trouble:?}");
        }
    }
}
