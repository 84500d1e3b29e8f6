//! The doors that fetch: one task an account looks into its mailbox and takes what is new.
//!
//! Exactly once: the record of a pulled mail names its remote message, so whatever stands in the log is never fetched
//! again, and the cursor moves only past mails that have their row in the ledger. Labels on the server come last, from
//! intents that the filing commit leaves behind. Must not know: tickets, how the admin socket speaks, what lies on disk.

mod account;
mod cadence;
mod classify;
pub mod config;
mod folder;
mod handover;
mod identity;
pub mod imap;
mod ingest;
mod labels;
mod lease;
mod look;
mod rate;
mod recognise;
mod vanished;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::accounts::{Accounts, Cause, Login, Problem, State};
use crate::clock::Clock;
use crate::intake::Intake;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::net::backoff::Backoff;
use crate::net::connect::{Connector, Connectors};
use crate::shutdown::Shutdown;
use crate::store::Store;
use config::SourceConfig;
use imap::{ImapError, Mailbox};

/// A channel's mailbox, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub channel: Address,
    pub config: SourceConfig,
    /// The largest mail that the channel takes.
    pub max_mail_bytes: u64,
}

impl Source {
    /// The name that the mailbox is logged in to with.
    pub fn user(&self) -> String {
        self.config.user.clone().unwrap_or_else(|| self.channel.to_string())
    }
}

/// Everything that pulling uses.
#[derive(Clone)]
pub struct Pull {
    pub store: Store,
    pub intake: Intake,
    pub accounts: Accounts,
    pub clock: Clock,
    pub metrics: Metrics,
    pub connectors: Connectors,
    /// The name of this machine, for other gateways that look at the same mailbox.
    pub host: String,
}

impl Pull {
    /// Keeps a task running for each source until the shutdown; a source that changes gets a new one.
    pub async fn run(self, mut sources: watch::Receiver<Vec<Source>>, mut shutdown: Shutdown) {
        let mut tasks: HashMap<String, (Source, JoinHandle<()>)> = HashMap::new();
        loop {
            let wanted = sources.borrow_and_update().clone();
            // A reload is when files of authorities are read again.
            self.connectors.forget();
            let gone = |key: &String, source: &Source| !wanted.iter().any(|w| w.channel.key() == *key && w == source);
            for (_, (_, task)) in tasks.extract_if(|key, (source, _)| gone(key, source)) {
                // Nothing is lost by breaking off: what stands in the log is known, and the rest is fetched again.
                task.abort();
                let _ = task.await;
            }
            for source in wanted {
                tasks.entry(source.channel.key()).or_insert_with(|| {
                    let run = watched(self.clone(), source.clone(), shutdown.clone());
                    (source, tokio::spawn(Box::pin(run)))
                });
            }
            tokio::select! {
                changed = sources.changed() => if changed.is_err() { break },
                () = shutdown.wait() => break,
            }
        }
        shutdown.wait().await;
        for (_, task) in tasks.into_values() {
            let _ = task.await;
        }
    }
}

/// Runs an account's task, and runs it again should it panic: that is our fault, and no reason to leave the mailbox
/// alone without a word.
async fn watched(pull: Pull, source: Source, shutdown: Shutdown) {
    let mut backoff = Backoff::new(source.config.retry_first, source.config.retry_most);
    loop {
        let mut run = Box::pin(account::Task::new(pull.clone(), source.clone()).run(shutdown.clone()));
        let ended =
            std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
                Ok(poll) => poll.map(|()| true),
                Err(_) => Poll::Ready(false),
            });
        if ended.await {
            return;
        }
        // What the panic left behind is not looked at again: the task begins anew from what stands on disk.
        drop(run);
        let wait = backoff.next(0.5);
        let problem = Problem::new(Cause::Protocol, "a fault of our own: the log has the panic and where it was");
        tracing::error!(channel = %source.channel, ?wait, "the task of a mailbox panicked and is started again");
        pull.metrics.look_failed(&source.channel.to_string());
        let next = pull.clock.now() + wait;
        pull.accounts.show(&source.channel, |connection| {
            (connection.state, connection.next_try) = (State::Problem(problem), Some(next));
        });
        let mut shutdown = shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.wait() => return,
        }
    }
}

/// Logs in and opens the folder, without looking into it.
pub async fn probe(source: &Source, login: &Login) -> Result<(), Problem> {
    let connector = connector(source)?;
    let settings = source.config.settings();
    let opened = Mailbox::open(&connector, &settings, login).await;
    let mut mailbox = opened.map_err(|error| refusal(error, login))?;
    let opened = mailbox.select(&settings.folder).await.map_err(problem);
    mailbox.close().await;
    opened.map(drop)
}

fn connector(source: &Source) -> Result<Connector, Problem> {
    Connector::new(&source.config.connect()).map_err(|error| problem(ImapError::Connect(error)))
}

/// What it means that a login failed: a token is no password that somebody could correct.
fn refusal(error: ImapError, login: &Login) -> Problem {
    let problem = problem(error);
    match login {
        Login::Bearer { .. } if problem.cause == Cause::WrongPassword => {
            Problem::new(Cause::TokenRefused, problem.said)
        }
        _ => problem,
    }
}

/// What an error means for the connection.
fn problem(error: ImapError) -> Problem {
    let cause = match &error {
        ImapError::Connect(error) => Cause::from_connect(error),
        ImapError::LoginRefused(said) => Cause::from_login(said),
        ImapError::NoFolder { .. } => Cause::FolderMissing,
        ImapError::Refused { said, .. } => Cause::from_imap(said, Cause::ProviderTrouble),
        ImapError::Lost(said) => Cause::from_imap(said, Cause::Unreachable),
        ImapError::Timeout(_) => Cause::Timeout,
        ImapError::Protocol(_) => Cause::Protocol,
    };
    Problem::new(cause, error.to_string())
}
