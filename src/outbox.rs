//! The outbox worker: due mail → quota → relay → settle.
//!
//! It knows all mail that waits, gives what is due to the relays, people's mail first and channels in turn, and writes
//! down what became of it: many ends share a commit, and nothing waits for company while the line is idle. Must not
//! know: what header fields mean (`mail` says whether one is there that a relay loses), how a relay speaks, what lies on
//! disk. A crash between a peer's answer and our commit sends
//! that mail twice, with the same Message-ID; everything else happens once. A lane's place is free again only after that
//! commit, so that as many mails as it sends at the same time are in that danger, and no more.

pub mod accounts;
mod blocked;
pub mod board;
mod choose;
mod clocks;
pub mod config;
mod fields;
mod flight;
mod health;
pub mod judge;
pub mod lanes;
mod late;
mod pace;
pub mod quota;
mod room;
pub mod route;
pub mod schedule;
mod shown;
mod state;
mod takeover;
mod told;
mod unreadable;
mod work;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;

pub use board::{Board, Snapshot};
pub use config::Config;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::relay::Relays;
use crate::shutdown::Shutdown;
use crate::store::{Store, StoreError, Suppress};
use crate::ticket::Directory;
use crate::ticket::letter::Letters;
use crate::ticket::loops::Pattern;
use clocks::{Asked, Given};
use state::State;
use work::{Ended, Loaded, Look, Picked, Written};

/// Mails that one look, one loading and one commit take at most.
const BATCH: usize = 256;
/// How many jobs a lane may have in memory for each that runs, so that no connection waits for the disk.
const AHEAD: usize = 2;
/// How often what is late is looked for, brakes are tidied, and lanes without a relay are tried again.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// In which of its sweeps it tidies: the first, and every ten minutes.
const TIDY_EVERY: u32 = 20;
/// How often accounts are asked whether they are connected, while mail waits.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The waits after trouble of the store: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Everything that the worker uses; cheap to clone.
#[derive(Clone)]
pub struct Worker {
    pub store: Store,
    pub relays: Relays,
    pub accounts: Accounts,
    pub directory: Arc<ArcSwap<Directory>>,
    pub config: Arc<ArcSwap<Config>>,
    pub suppress: Arc<ArcSwap<Suppress>>,
    /// Names the fields that mail must not lose.
    pub letters: Arc<ArcSwap<Letters>>,
    /// Addresses that nothing is sent to, beside our own.
    pub never: Arc<ArcSwap<Vec<Pattern>>>,
    pub board: Board,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// Work that runs away from the loop, one piece at a time.
type Away<T> = Option<tokio::task::JoinHandle<T>>;

/// What looking at mails found.
type Looks = Result<Vec<(u64, Option<Look>)>, StoreError>;

/// What was picked with what came of loading it, and ends with what stands after writing them down.
type Loading = (Vec<Picked>, Result<Vec<Loaded>, StoreError>);
type Writing = (Vec<Ended>, Result<Written, StoreError>);

/// What the loop waits for.
#[derive(Default)]
struct Pieces {
    looking: Away<Looks>,
    loading: Away<Loading>,
    writing: Away<Writing>,
    asking: Away<Result<Asked, StoreError>>,
    sweeping: Away<Looks>,
    giving: Away<Given>,
    /// The configuration that the last round went by.
    config: Option<Arc<Config>>,
}

impl Worker {
    /// Sends until it is told to stop, or until the store cannot go on. Attempts that are under way may then end.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<(), StoreError> {
        let mut progress = self.store.watch();
        let mut state = State::new(Arc::new(Mutex::new(accounts::Quotas::default())));
        self.begin(&mut state).await?;
        let mut pieces = Pieces::default();
        loop {
            progress.mark_unchanged();
            if progress.borrow().broken {
                return Err(StoreError::Broken(self.store.stats().broken.unwrap_or_default()));
            }
            let now = self.clock.now();
            state.fresh.extend(self.store.outbox_news());
            state.lanes.wake(now);
            if self.board.hurried() {
                state.lanes.hurry(now);
            }
            state.begin(now);
            self.start(&mut state, &mut pieces, now);
            let pause = match self.show(&mut state, now) {
                Shown::Now => state.pause(now),
                // What has changed since is shown soon, although nothing else may happen for long.
                Shown::Before => state.pause(now).min(ASK_EVERY),
            };
            let step = tokio::select! {
                biased;
                () = shutdown.wait() => break,
                ended = state.running.join_next_with_id(), if !state.running.is_empty() => {
                    state.end(ended, &self.config.load(), now);
                    while let Some(more) = state.running.try_join_next_with_id() {
                        state.end(Some(more), &self.config.load(), now);
                    }
                    Ok(())
                }
                written = end_of(&mut pieces.writing) => state.written(written, now),
                loaded = end_of(&mut pieces.loading) => state.loaded(loaded, now),
                looks = end_of(&mut pieces.looking) => state.looked_fresh(looks, now),
                swept = end_of(&mut pieces.sweeping) => state.looked(swept, now),
                asked = end_of(&mut pieces.asking) => state.asked(asked, now),
                given = end_of(&mut pieces.giving) => state.given(given),
                changed = progress.changed() => { let _ = changed; Ok(()) }
                () = tokio::time::sleep(pause) => Ok(()),
            };
            match step {
                Ok(()) => state.wait = FIRST_WAIT,
                Err(trouble @ StoreError::Broken(_)) => return Err(trouble),
                Err(trouble) => {
                    let wait_ms = state.wait.as_millis() as u64;
                    tracing::warn!(%trouble, wait_ms, "the outbox waits: its mail is safe in the log");
                    tokio::select! {
                        () = tokio::time::sleep(state.wait) => {}
                        () = shutdown.wait() => break,
                    }
                    state.wait = (state.wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        let drained = self.drain(state, pieces).await;
        self.relays.close().await;
        drained
    }

    /// Takes up everything that waits on disk.
    async fn begin(&self, state: &mut State) -> Result<(), StoreError> {
        drop(self.store.outbox_news());
        let this = self.clone();
        let clocks = joined(tokio::task::spawn_blocking(move || this.store.clocks()).await)??;
        state.restore(clocks);
        let mut after = 0;
        loop {
            let this = self.clone();
            let page = tokio::task::spawn_blocking(move || {
                let rows = this.store.undone(after, BATCH)?;
                let last = rows.last().map(|row| row.seq);
                let looks = rows.into_iter().map(|row| Ok((row.seq, this.look(row)?)));
                Ok::<_, StoreError>((last, looks.collect::<Result<Vec<_>, StoreError>>()?))
            });
            let (last, looks) = joined(page.await)??;
            state.looked(Ok(Ok(looks)), self.clock.now())?;
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Starts whatever has something to do and does not run.
    fn start(&self, state: &mut State, pieces: &mut Pieces, now: Timestamp) {
        if pieces.writing.is_none() && state.may_write() {
            pieces.writing = Some(self.write_away(state));
        }
        if pieces.looking.is_none() && !state.fresh.is_empty() {
            let seqs: Vec<u64> = std::iter::from_fn(|| state.fresh.pop_first()).take(BATCH).collect();
            state.looking.extend(&seqs);
            let this = self.clone();
            pieces.looking = Some(tokio::task::spawn_blocking(move || {
                let look = |seq| Ok((seq, this.look_at(this.store.outbox_row(seq)?)?));
                seqs.into_iter().map(look).collect()
            }));
        }
        let strangers = state.strangers();
        if pieces.asking.is_none() && (strangers || state.asked_at.is_none_or(|at| later_than(now, at, ASK_EVERY))) {
            state.asked_at = Some(now);
            let (this, questions) = (self.clone(), state.questions(now));
            pieces.asking = Some(tokio::task::spawn_blocking(move || this.ask(&questions, now)));
        }
        if pieces.giving.is_none()
            && let Some(owed) = state.owed()
        {
            let this = self.clone();
            pieces.giving = Some(tokio::task::spawn_blocking(move || (owed.channel, this.give(&owed))));
        }
        // A reload may have brought the relay that mail waits for.
        let config = self.config.load_full();
        if pieces.config.as_ref().is_some_and(|known| !Arc::ptr_eq(known, &config)) {
            state.swept_at = None;
        }
        pieces.config = Some(config);
        // An answer under way may say that the clock of some mail stands still, which must not be given up then.
        let sweeps = pieces.sweeping.is_none() && pieces.asking.is_none();
        if sweeps && state.swept_at.is_none_or(|at| later_than(now, at, SWEEP_EVERY)) {
            state.swept_at = Some(now);
            state.prune();
            self.sweep(state, pieces, now);
        }
        if pieces.loading.is_none() {
            let config = self.config.load();
            let picked = state.pick(&config, now);
            if !picked.is_empty() {
                let (this, quotas, room) = (self.clone(), Arc::clone(&state.quotas), state.room.clone());
                pieces.loading = Some(tokio::task::spawn_blocking(move || {
                    let loaded = this.load(picked.clone(), room, &quotas);
                    (picked, loaded)
                }));
            }
        }
    }

    /// Writes a batch of what has ended, away from the threads of the runtime.
    fn write_away(&self, state: &mut State) -> tokio::task::JoinHandle<Writing> {
        let ends = state.ended.len().min(BATCH);
        state.pace.begin(ends, std::time::Instant::now());
        let ended: Vec<Ended> = state.ended.drain(..ends).collect();
        let (this, quotas) = (self.clone(), Arc::clone(&state.quotas));
        tokio::task::spawn_blocking(move || {
            let written = this.write(&ended, &quotas);
            (ended, written)
        })
    }

    /// What is late or over, what waits for a relay that may be there by now, and what brakes need not know any more.
    fn sweep(&self, state: &mut State, pieces: &mut Pieces, now: Timestamp) {
        let tidies = state.sweeps.is_multiple_of(TIDY_EVERY);
        state.sweeps = state.sweeps.wrapping_add(1);
        let overdue = state.overdue(&self.config.load().schedule(), now);
        let keep = self.config.load().keep_keys;
        let this = self.clone();
        pieces.sweeping = Some(tokio::task::spawn_blocking(move || {
            let before = jiff::SignedDuration::try_from(keep).ok().and_then(|keep| now.checked_sub(keep).ok());
            if tidies {
                this.store.step(|step| step.tidy_outbox(now, before.unwrap_or(Timestamp::MIN)))?;
            }
            this.overdue(&overdue)
        }));
    }

    /// Shows how things are, at most once a second.
    fn show(&self, state: &mut State, now: Timestamp) -> Shown {
        if state.shown_at.is_some_and(|at| !later_than(now, at, ASK_EVERY)) {
            return Shown::Before;
        }
        state.shown_at = Some(now);
        let snapshot = state.snapshot(&self.config.load(), now);
        self.metrics.outbox_is(snapshot.mails, snapshot.due, snapshot.running);
        for quota in &snapshot.quotas {
            let left = &quota.remaining;
            let windows = [
                ("messages_minute", left.messages_per_minute),
                ("bytes_5_minutes", left.bytes_per_five_minutes),
                ("recipients_day", left.recipients_per_day),
                ("messages_day", left.messages_per_day),
            ];
            for (window, left) in windows.into_iter().filter_map(|(window, left)| Some((window, left?))) {
                self.metrics.quota_left(&quota.relay, &quota.channel, window, left);
            }
        }
        self.board.show(snapshot);
        Shown::Now
    }

    /// Lets attempts that are under way end, and writes their ends down; the rest stays in the outbox.
    async fn drain(&self, mut state: State, mut pieces: Pieces) -> Result<(), StoreError> {
        let deadline = tokio::time::Instant::now() + self.config.load().drain_timeout;
        self.set_down(&mut state, &mut pieces, deadline).await;
        loop {
            let now = self.clock.now();
            if pieces.writing.is_none() && !state.ended.is_empty() {
                pieces.writing = Some(self.write_away(&mut state));
            }
            if pieces.writing.is_none() && state.running.is_empty() {
                return Ok(());
            }
            tokio::select! {
                ended = state.running.join_next_with_id(), if !state.running.is_empty() => {
                    state.end(ended, &self.config.load(), now);
                }
                written = end_of(&mut pieces.writing) => state.written(written, now)?,
                () = tokio::time::sleep_until(deadline) => {
                    let left = state.running.len() + state.ended.len();
                    tracing::warn!(left, "attempts did not end in time: their mail stays in the outbox");
                    return Ok(());
                }
            }
        }
    }
}

impl Worker {
    /// What was loaded ahead is not begun any more, as it could be cut off after its end has left and be sent twice; its
    /// quotas have it back.
    async fn set_down(&self, state: &mut State, pieces: &mut Pieces, deadline: tokio::time::Instant) {
        let now = self.clock.now();
        if pieces.loading.is_some()
            && let Ok(loaded) = tokio::time::timeout_at(deadline, end_of(&mut pieces.loading)).await
            && let Err(trouble) = state.loaded(loaded, now)
        {
            tracing::warn!(%trouble, "mail was being loaded when the outbox stopped");
        }
        state.unload(|_| true, now);
        let (this, quotas) = (self.clone(), Arc::clone(&state.quotas));
        let kept = joined(tokio::task::spawn_blocking(move || this.keep(&quotas, now)).await);
        if let Err(trouble) = kept.and_then(|kept| kept) {
            tracing::warn!(%trouble, "quotas count mail that has not been sent");
        }
    }
}

/// Whether the board is of this moment, or was left as it was.
enum Shown {
    Now,
    Before,
}

/// Waits for a piece of work; for ever where there is none.
async fn end_of<T>(away: &mut Away<T>) -> Result<T, StoreError> {
    match away {
        Some(task) => {
            let ended = joined(task.await);
            *away = None;
            ended
        }
        None => std::future::pending().await,
    }
}

fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> Result<T, StoreError> {
    ended.map_err(|error| StoreError::Broken(format!("the outbox was broken off: {error}")))
}

fn later_than(now: Timestamp, at: Timestamp, by: Duration) -> bool {
    now < at || now >= schedule::later(at, by)
}
