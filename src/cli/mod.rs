//! The client commands: they speak to the admin socket and print tables for people or JSON for programs.
//!
//! Must not know: the rooms behind the socket. Only `check` and `fsck` work on files, without a daemon; `doctor` looks at
//! everything that it can reach.

pub mod args;
mod authorise;
mod channels;
mod client;
mod connect;
pub mod demo;
mod doctor;
mod export;
mod feed;
mod offline;
mod outbox;
mod output;
mod paper;
mod rejects;
mod relays;
mod reply;
mod secrets;
mod status;
mod table;
mod tickets;

use std::path::PathBuf;

use args::{ChannelCommand, Reach, RejectCommand, TicketCommand};
pub use args::{Cli, Command};
use authorise::Until;
use client::Client;
use connect::{Asked, PasswordFrom};
use output::Output;

/// Why a command failed: one line that says what and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Failed(String),
    /// Faults that were printed already, each with its line.
    #[error("")]
    Told,
    /// Whoever read our output has gone; there is nobody to tell.
    #[error("")]
    NobodyReads,
}

impl CliError {
    /// A failure, from what happened and what to do.
    pub(crate) fn new(what: impl std::fmt::Display, action: &str) -> Self {
        Self::Failed(format!("{what}; {action}"))
    }
}

/// Runs a client command to its end.
pub fn execute(command: Command, reach: &Reach) -> Result<(), CliError> {
    let mut out = Output::new(reach.json);
    match command {
        Command::Run { .. } | Command::Demo { .. } => Ok(()),
        Command::Check { file } => offline::check(file.as_deref().or(reach.config.as_deref()), &mut out),
        Command::Doctor => doctor::doctor(reach, &mut out),
        Command::Fsck(fsck) => offline::fsck(&fsck, &mut out),
        Command::Completions { shell } => paper::completions(shell, &mut out),
        Command::Man { to } => paper::man(to.as_deref(), &mut out),
        Command::Status => status::status(&Client::reach(reach)?, &mut out),
        Command::Channels(command) => execute_channels(command, &Client::reach(reach)?, &mut out),
        Command::Connect { address, password_stdin, known_password, flow, no_wait } => {
            let from = match (password_stdin, known_password) {
                (true, _) => PasswordFrom::Stdin,
                (_, true) => PasswordFrom::Known,
                _ => PasswordFrom::Terminal,
            };
            let until = if no_wait { Until::Begun } else { Until::Ended };
            let asked = Asked { address: &address, from, flow: flow.as_deref(), until };
            connect::connect(&Client::reach(reach)?, &mut out, &asked)
        }
        Command::Disconnect { address } => connect::order(&Client::reach(reach)?, &mut out, &address, "disconnect"),
        Command::Tickets(command) => execute_tickets(command, &Client::reach(reach)?, &mut out),
        Command::Rejects(command) => execute_rejects(command, &Client::reach(reach)?, &mut out),
        Command::Outbox(command) => outbox::outbox(command, &Client::reach(reach)?, &mut out),
        Command::Relays(command) => relays::relays(command, &Client::reach(reach)?, &mut out),
        Command::Loops(command) => outbox::loops(command, &Client::reach(reach)?, &mut out),
        Command::Suppressions(command) => outbox::suppressions(command, &Client::reach(reach)?, &mut out),
        Command::Secrets(command) => secrets::execute(command, &Client::reach(reach)?, &mut out),
        Command::Explain { message_id } => rejects::explain(&Client::reach(reach)?, &mut out, &message_id),
        Command::Export { after, follow } => export::export(&Client::reach(reach)?, &mut out, after, follow),
        Command::Raw { entry } => rejects::raw(&Client::reach(reach)?, &mut out, &entry),
        Command::Erase { entry, yes } => rejects::erase(&Client::reach(reach)?, &mut out, &entry, yes),
    }
}

fn execute_channels(command: ChannelCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        ChannelCommand::List => status::channels(client, out),
        ChannelCommand::Show { address } => channels::show(client, out, &address),
        ChannelCommand::Ledger { address, filter } => channels::ledger(client, out, &address, &filter),
        ChannelCommand::Parity { address, since } => channels::parity(client, out, &address, &since),
        ChannelCommand::Default { address } => channels::make_default(client, out, &address),
        ChannelCommand::Pause { address } => connect::order(client, out, &address, "pause"),
        ChannelCommand::Resume { address } => connect::order(client, out, &address, "resume"),
        ChannelCommand::Look { address } => connect::order(client, out, &address, "look"),
        ChannelCommand::Sweep { address } => connect::order(client, out, &address, "sweep"),
    }
}

fn execute_tickets(command: TicketCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        TicketCommand::List(filter) => tickets::list(client, out, &filter),
        TicketCommand::Show { number } => tickets::show(client, out, number),
        TicketCommand::New(order) => reply::open(client, out, order),
        TicketCommand::Reply(order) => reply::reply(client, out, order),
        TicketCommand::Note { number, text } => tickets::note(client, out, number, &text),
        TicketCommand::Close { number } => tickets::change(client, out, number, "close"),
        TicketCommand::Reopen { number } => tickets::change(client, out, number, "reopen"),
        TicketCommand::Merge { number, into } => tickets::merge(client, out, number, into),
    }
}

fn execute_rejects(command: RejectCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        RejectCommand::List { limit } => rejects::list(client, out, limit),
        RejectCommand::Show { entry } => rejects::show(client, out, &entry),
        RejectCommand::Retry { entry } => rejects::retry(client, out, &entry),
    }
}

/// Where the socket lies, by what was said: `--socket`, `$TICKETGATE_SOCKET`, the configuration, the usual places.
fn socket_path(reach: &Reach) -> Result<PathBuf, CliError> {
    // A variable that is set to nothing names no socket.
    if let Some(socket) = reach.socket.as_ref().filter(|socket| !socket.as_os_str().is_empty()) {
        return Ok(socket.clone());
    }
    let usual = PathBuf::from(crate::config::DEFAULT_FILE);
    let file = reach.config.clone().or_else(|| usual.exists().then_some(usual));
    if let Some(file) = file {
        let config = crate::config::Config::load(Some(&file)).map_err(|faults| {
            CliError::new(
                faults.all().first().map(|fault| format!("{}: {}", file.display(), fault.said)).unwrap_or_default(),
                "or name the socket with --socket",
            )
        })?;
        return Ok(config.socket_path());
    }
    let here = crate::config::Config::default().socket_path();
    let packaged = PathBuf::from("/run/ticketgate/admin.sock");
    Ok(if !here.exists() && packaged.exists() { packaged } else { here })
}
