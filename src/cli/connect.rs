//! `ticketgate connect`, `disconnect` and the orders of `channels`.

use std::io::{IsTerminal, Read, Write};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::CliError;
use super::authorise::{self, Until};
use super::client::{Client, author, escape};
use super::output::Output;
use crate::admin::credential::{ConnectAnswer, CredentialJson};
use crate::admin::types::{ChannelJson, ChannelList};

/// The longest password that is read.
const LONGEST: u64 = 4096;

/// Where the password comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordFrom {
    Terminal,
    Stdin,
    /// The daemon knows one.
    Known,
}

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub address: &'a str,
    pub from: PasswordFrom,
    pub flow: Option<&'a str>,
    pub until: Until,
}

pub(super) fn connect(client: &Client, out: &mut Output, asked: &Asked<'_>) -> Result<(), CliError> {
    let address = asked.address;
    let path = format!("/v1/channels/{}/connect", escape(address));
    let known = if asked.from == PasswordFrom::Terminal { credential(client, address)? } else { None };
    if asked.flow.is_some() || known.as_ref().is_some_and(|known| known.kind == "oauth") {
        let begun = client.post(&path, &json!({"flow": asked.flow, "author": author()}))?;
        let ConnectAnswer::Begun { authorisation } = begun else {
            return Err(CliError::new("the daemon began no authorisation", "use the command of the daemon's version"));
        };
        return authorise::lead(client, out, &authorisation, asked.until);
    }
    let from_file = known.is_some_and(|known| known.from_file);
    let password = match asked.from {
        PasswordFrom::Known => None,
        // One that was typed would be refused: it belongs into the file.
        PasswordFrom::Terminal if from_file => None,
        PasswordFrom::Stdin => Some(read_line()?),
        PasswordFrom::Terminal => Some(ask(address)?),
    };
    let body = match &password {
        Some(password) => json!({"password": password.expose_secret(), "author": author()}),
        None => json!({"author": author()}),
    };
    let channel: ChannelJson = client.post(&path, &body)?;
    if out.wants_json() {
        return out.json(&channel);
    }
    let account = channel.connection.map(|connection| connection.account).unwrap_or_default();
    out.line(&format!("{address} is connected to the mailbox {account}; new unread mail becomes tickets from now on"))
}

/// What a mailbox is logged in to with, so that nobody is asked for a password which the daemon would have no use for.
fn credential(client: &Client, address: &str) -> Result<Option<CredentialJson>, CliError> {
    let list: ChannelList = client.get("/v1/channels")?;
    let channel = list.channels.into_iter().find(|channel| channel.address.eq_ignore_ascii_case(address));
    let unknown = || CliError::new(format!("there is no channel \"{address}\""), "see `ticketgate channels list`");
    let connection = channel.ok_or_else(unknown)?.connection.ok_or_else(|| {
        let action = "add its [channel.source] to the configuration and reload";
        CliError::new(format!("the channel {address} has no mailbox that is looked into"), action)
    })?;
    Ok(connection.credential)
}

/// Gives an order to a connection.
pub(super) fn order(client: &Client, out: &mut Output, address: &str, order: &str) -> Result<(), CliError> {
    let channel: ChannelJson =
        client.post(&format!("/v1/channels/{}/{order}", escape(address)), &json!({"author": author()}))?;
    if out.wants_json() {
        return out.json(&channel);
    }
    out.line(&match order {
        "pause" => format!("{address}: nothing is fetched until `ticketgate channels resume {address}`"),
        "resume" => format!("{address}: fetching goes on where it stopped"),
        "disconnect" => format!("{address}: disconnected; `ticketgate reconnect {address}` goes on where it stopped"),
        "look" => format!("{address}: looking into the mailbox now"),
        _ => format!("{address}: comparing the mailbox with the ledger now; `ticketgate status` shows the outcome"),
    })
}

fn read_line() -> Result<SecretString, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| {
        CliError::new(format!("the password cannot be read: {error}"), "write it as one line of text")
    })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(CliError::new("there is no password on standard input", "write it as one line of text"));
    }
    Ok(line.to_owned().into())
}

/// Asks on the terminal, without showing what is typed.
fn ask(address: &str) -> Result<SecretString, CliError> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(CliError::new("there is no terminal to ask for the password on", "use --password-stdin"));
    }
    eprint!("Password for the mailbox of {address}: ");
    let _ = std::io::stderr().flush();
    let failed =
        |error: rustix::io::Errno| CliError::new(format!("the terminal refuses: {error}"), "use --password-stdin");
    let usual = tcgetattr(&stdin).map_err(failed)?;
    let mut hidden = usual.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &hidden).map_err(failed)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &usual).map_err(failed)?;
    eprintln!();
    read.map_err(|error| CliError::new(format!("the password cannot be read: {error}"), "use --password-stdin"))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(CliError::new("no password was typed", "nothing was changed"));
    }
    Ok(line.to_owned().into())
}
