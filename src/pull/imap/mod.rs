//! A mailbox over IMAP (RFC 3501): opening it, listing, fetching without marking, labelling, waiting for news.
//!
//! The only place that knows the protocol and its crate. Must not know: channels, the ledger, what becomes of a mail.
//! Every command has a deadline and its tagged answer is looked at. After any error but `Refused`, `NoFolder` and
//! `LoginRefused` the mailbox is of no use and is opened anew.

mod fetch;
mod frame;
mod login;
mod markers;
mod marks;
mod names;
mod wait;
mod wire;

use std::collections::HashMap;
use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Response, ResponseCode};
use jiff::Timestamp;

use crate::accounts::{Login, holds_for_all};
use crate::net::connect::{ConnectError, Connector};
pub use fetch::SLICE;
pub use markers::Note;
pub use names::same_folder;
use names::{Deed, Namespaces, argument};
pub use wait::{Idle, Woken};
use wire::Wire;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    Tls,
    Starttls,
    None,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// The best that the server offers.
    Auto,
    Xoauth2,
    Oauthbearer,
    Plain,
    Login,
}

/// What the configuration says about one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub mechanism: Mechanism,
    pub folder: String,
    /// The longest wait for one response.
    pub command_timeout: Duration,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImapError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("the server refused the login: {0}")]
    LoginRefused(String),
    #[error("the server refused {command}: {said}")]
    Refused { command: &'static str, said: String },
    #[error("the server has no folder \"{folder}\", and refused {command}: {said}")]
    NoFolder { folder: String, command: &'static str, said: String },
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("no answer to {0} in time")]
    Timeout(&'static str),
    #[error("{0}")]
    Protocol(String),
}

/// What kind of labels the folder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Gmail's X-GM-LABELS.
    Gmail,
    /// Keywords: PERMANENTFLAGS has `\*`, or ours by name.
    Keywords,
    /// None: the ledger alone remembers.
    None,
}

/// The folder as it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder {
    /// UIDVALIDITY.
    pub validity: u32,
    /// UIDNEXT: the lowest uid that the next mail may get.
    pub next: u32,
    pub exists: u32,
    pub labels: Labels,
}

/// One mail as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub uid: u32,
    /// RFC822.SIZE: what the server believes; `None` where it does not tell, or not readably.
    pub size: Option<u64>,
    pub seen: bool,
    /// It carries our label.
    pub labelled: bool,
    /// INTERNALDATE; `None` where it is not told, or is no date.
    pub arrived: Option<Timestamp>,
}

/// The labels to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub seen: bool,
    pub imported: bool,
    pub rejected: bool,
    /// The label of a rejection goes.
    pub cleared: bool,
}

/// The label of a mail that was taken.
pub const LABEL: &str = "Ticketgate";
/// The further label of one that could not be imported.
pub const REJECTED: &str = "RejectedByTicketgate";

/// An open mailbox.
#[derive(Debug)]
pub struct Mailbox {
    wire: Wire,
    capabilities: Vec<String>,
    labels: Labels,
    /// Lines of listings that could not be read, and were not told yet.
    unreadable: u64,
    /// The names under which folders were found.
    known_names: HashMap<String, String>,
    /// What NAMESPACE tells, once it was asked for.
    namespaces: Option<Option<Namespaces>>,
}

impl Mailbox {
    /// Connects and logs in.
    pub async fn open(connector: &Connector, settings: &Settings, login: &Login) -> Result<Self, ImapError> {
        let (wire, capabilities) = login::open(connector, settings, login).await?;
        let (known_names, namespaces) = (HashMap::new(), None);
        Ok(Self { wire, capabilities, labels: Labels::None, unreadable: 0, known_names, namespaces })
    }

    /// TLS version and cipher of the connection.
    pub fn tls_info(&self) -> Option<String> {
        self.wire.tls_info()
    }

    /// Whether a capability is offered, in upper case.
    pub fn offers(&self, capability: &str) -> bool {
        login::has(&self.capabilities, capability)
    }

    /// Opens a folder for reading and labelling, wherever it lies.
    pub async fn select(&mut self, folder: &str) -> Result<Folder, ImapError> {
        self.opened(folder, Deed::Open).await
    }

    /// Opens the folder of this very name.
    async fn open_folder(&mut self, name: &str) -> Result<Folder, ImapError> {
        match self.open_named(name).await {
            Err(refused @ ImapError::Refused { .. }) => Err(self.absent(name, refused).await),
            other => other,
        }
    }

    async fn open_named(&mut self, name: &str) -> Result<Folder, ImapError> {
        let name = argument(name)?;
        let (mut validity, mut next) = (0, 0);
        let (mut flags, mut permanent) = (Vec::new(), None);
        // What comes from here on is about this folder; UIDNEXT tells what has come to it meanwhile.
        (self.wire.exists, self.wire.news) = (None, false);
        let words =
            |list: &[std::borrow::Cow<'_, str>]| list.iter().map(|flag| flag.to_lowercase()).collect::<Vec<_>>();
        let done = self
            .wire
            .command("SELECT", &format!("SELECT {name}"), |response| match response {
                Response::MailboxData(MailboxDatum::Flags(list)) => flags = words(list),
                Response::Data { outcome, .. } => match &outcome.code {
                    Some(ResponseCode::UidValidity(number)) => validity = *number,
                    Some(ResponseCode::UidNext(number)) => next = *number,
                    Some(ResponseCode::PermanentFlags(list)) => permanent = Some(words(list)),
                    _ => {}
                },
                _ => {}
            })
            .await?;
        if validity == 0 {
            return Err(ImapError::Protocol(
                "the server does not tell UIDVALIDITY, so mail cannot be told apart".into(),
            ));
        }
        if done.read_only {
            return Err(ImapError::Refused { command: "SELECT", said: "the folder can only be read".into() });
        }
        let exists = self.wire.exists.unwrap_or(0);
        // Without PERMANENTFLAGS all flags are permanent (RFC 3501 section 7.1).
        let permanent = permanent.unwrap_or(flags);
        let has = |flag: &str| permanent.iter().any(|one| one == flag);
        self.labels = if self.offers("X-GM-EXT-1") {
            Labels::Gmail
        } else if has("\\*") || (has(&LABEL.to_lowercase()) && has(&REJECTED.to_lowercase())) {
            Labels::Keywords
        } else {
            Labels::None
        };
        if next == 0 {
            next = self.highest_uid().await?.saturating_add(1);
        }
        Ok(Folder { validity, next, exists, labels: self.labels })
    }

    /// For servers that do not tell UIDNEXT.
    async fn highest_uid(&mut self) -> Result<u32, ImapError> {
        let mut highest = 0;
        let look = |response: &Response<'_>| {
            if let Some(uid) = fetch::uid_of(response) {
                highest = highest.max(uid);
            }
        };
        let done = self.wire.command("FETCH", "UID FETCH * (UID)", look).await;
        done.map(drop).or_else(|error| self.none_there(error))?;
        Ok(highest)
    }

    /// Some servers refuse a FETCH in an empty folder. In any other one a refusal does not mean that there is no mail.
    fn none_there(&self, error: ImapError) -> Result<(), ImapError> {
        match &error {
            ImapError::Refused { said, .. } if self.wire.exists == Some(0) && !holds_for_all(said) => Ok(()),
            _ => Err(error),
        }
    }

    /// Says goodbye; what the server answers does not matter.
    pub async fn close(mut self) {
        let _ = self.wire.command("LOGOUT", "LOGOUT", |_| {}).await;
    }
}

/// Uids as a sequence set, with ranges for neighbours; the caller gives them in order.
fn sequence_set(uids: &[u32]) -> String {
    let mut set = String::new();
    let mut rest = uids;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(0u32..).take_while(|(uid, n)| first.checked_add(*n) == Some(**uid)).count();
        let last = rest[run - 1];
        if !set.is_empty() {
            set.push(',');
        }
        set.push_str(&if run > 1 { format!("{first}:{last}") } else { first.to_string() });
        rest = &rest[run..];
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_the_protocol_wants() {
        for (uids, want) in
            [(&[][..], ""), (&[7], "7"), (&[1, 2, 3, 5, 7, 8], "1:3,5,7:8"), (&[u32::MAX], "4294967295")]
        {
            assert_eq!(sequence_set(uids), want);
        }
    }
}
