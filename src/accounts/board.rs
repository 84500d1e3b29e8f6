//! The board: what each connection is doing, written by the doors and read by the admin socket; and the orders that go
//! the other way.

use std::sync::PoisonError;

use jiff::Timestamp;
use tokio::sync::watch as wake;

use super::{Accounts, Cause, Connection, Orders, State};
use crate::mail::Address;

impl Accounts {
    /// Gives an order to an account's task.
    pub fn order(&self, channel: &Address, change: impl FnOnce(&mut Orders)) {
        self.sender(channel).send_modify(change);
    }

    /// What an account's task waits on.
    pub fn orders(&self, channel: &Address) -> wake::Receiver<Orders> {
        self.sender(channel).subscribe()
    }

    fn sender(&self, channel: &Address) -> wake::Sender<Orders> {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.entry(channel.key()).or_default().clone()
    }

    /// All connections that were made or tried, in the order of their addresses.
    pub fn connections(&self) -> Vec<Connection> {
        self.0.board.borrow().values().cloned().collect()
    }

    /// The connection of a channel; one that its task has not taken up yet is connecting.
    pub fn connection(&self, channel: &Address) -> Option<Connection> {
        let known = self.0.board.borrow().get(&channel.key()).cloned();
        known.or_else(|| self.account(channel).is_ok().then(|| self.fresh(channel, self.0.clock.now())))
    }

    /// Changes what the board shows of a connection; a new state is told to log, metrics and feed. The feed is behind
    /// a sync, so it is written away from the caller.
    pub fn show(&self, channel: &Address, change: impl FnOnce(&mut Connection)) {
        let now = self.0.clock.now();
        let mut told = None;
        self.0.board.send_modify(|board| {
            let connection = board.entry(channel.key()).or_insert_with(|| self.fresh(channel, now));
            let before = connection.state.clone();
            change(connection);
            if connection.state.as_str() != before.as_str() || cause(&connection.state) != cause(&before) {
                connection.since = now;
                told = Some(connection.clone());
            }
        });
        if let Some(connection) = told {
            self.tell(&connection);
        }
    }

    fn fresh(&self, channel: &Address, now: Timestamp) -> Connection {
        let account = self.account(channel).map(|account| format!("{}@{}", account.user, account.host));
        Connection {
            channel: channel.clone(),
            account: account.unwrap_or_default(),
            state: State::Connecting,
            since: now,
            next_try: None,
            last_look: None,
            next_look: None,
            labels_refused: false,
            waiting: 0,
            warnings: Vec::new(),
        }
    }

    fn tell(&self, connection: &Connection) {
        let (channel, state) = (connection.channel.clone(), connection.state.as_str());
        self.0.metrics.connection_state(&channel.to_string(), state, cause(&connection.state).map(Cause::code));
        let said = match &connection.state {
            State::Problem(problem) => {
                let action = problem.action_for(&connection.channel);
                tracing::warn!(channel = %channel, cause = problem.cause.code(), said = %problem.said, action, "connection problem");
                format!("problem {problem}; {action}")
            }
            other => {
                tracing::info!(channel = %channel, state, "connection");
                other.as_str().to_owned()
            }
        };
        let (store, now) = (self.0.store.clone(), connection.since);
        tokio::task::spawn_blocking(move || {
            let write = store.step(|step| step.connection_event(&channel, "connection_changed", &said, None, now));
            if let Err(trouble) = write {
                tracing::warn!(%trouble, "a change of a connection could not be written to the feed");
            }
        });
    }
}

fn cause(state: &State) -> Option<Cause> {
    match state {
        State::Problem(problem) => Some(problem.cause),
        _ => None,
    }
}
