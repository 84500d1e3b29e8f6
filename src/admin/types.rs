//! What goes over the admin socket, as JSON. Programs of other people rely on these names.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::channels::LedgerJson;
use super::credential::CredentialJson;
use super::entry::EntryJson;
pub use super::mailbox_status::MailboxStatus;
use super::outbox::DeliveryJson;
pub use super::outbox_status::OutboxStatus;
use crate::accounts::{Accounts, Connection, State};
use crate::store::rows::{EventRow, TicketRow, TicketState};
use crate::ticket::channel::AuthPolicy;
use crate::ticket::{Channel, Directory};

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Person {
    pub name: String,
    pub address: String,
}

/// A ticket as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TicketJson {
    pub number: u64,
    pub title: String,
    /// `open`, `closed` or `merged`.
    pub state: String,
    pub channel: String,
    pub queue: String,
    pub requester: Person,
    pub participants: Vec<String>,
    pub opened_at: String,
    pub updated_at: String,
    pub entry_count: u64,
    pub needs_review: bool,
    pub merged_into: Option<u64>,
    /// The feed place of its last change.
    pub changed: u64,
}

/// A ticket with its entries, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TicketDetail {
    #[serde(flatten)]
    pub ticket: TicketJson,
    /// The signed address under which mail from anybody joins this ticket, while its channel has plus-addresses.
    pub reply_address: Option<String>,
    pub entries: Vec<EntryJson>,
}

/// Tickets, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TicketList {
    pub tickets: Vec<TicketJson>,
    /// Give this as `before` for the next page; `null` when this is the last.
    pub before: Option<u64>,
}

/// Entries in the order of `seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryPage {
    pub entries: Vec<EntryJson>,
    /// Give this as `after` for the next page.
    pub next: u64,
}

/// Mails that were rejected, quarantined or dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RejectPage {
    pub rejects: Vec<RowJson>,
    pub next: u64,
}

/// Every entry of a Message-ID, with the trace of the decisions about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub entries: Vec<RowJson>,
}

/// An entry without what its original bytes say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowJson {
    pub seq: u64,
    pub id: String,
    pub filing: String,
    pub reason: Option<String>,
    pub ticket: Option<u64>,
    pub channel: String,
    pub received_at: String,
    pub filed_at: String,
    pub rcpt_to: Vec<String>,
    pub message_id: Option<String>,
    pub matched_by: Option<String>,
    pub needs_review: bool,
    pub related: Option<u64>,
    pub duplicate_of: Option<u64>,
    pub from: String,
    pub subject: String,
    pub size: u64,
    /// The word of the door that it came by: `smtp`, `imap` …
    #[serde(default)]
    pub door: String,
    /// Of a mail that was pulled, where `explain` tells of it: its row in the ledger of its mailbox.
    #[serde(default)]
    pub mailbox: Option<LedgerJson>,
    /// Of a mail that leaves and is not gone, where `explain` tells of it: what it waits for beside its time.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// Of a mail that left or leaves, where `explain` tells of it: what became of it for each recipient.
    #[serde(default)]
    pub delivery: Vec<DeliveryJson>,
    pub trace: Vec<TraceJson>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceJson {
    pub step: String,
    pub said: String,
}

/// One change in the feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventJson {
    pub seq: u64,
    pub at: String,
    pub kind: String,
    pub ticket: Option<u64>,
    pub entry: Option<String>,
    pub author: Option<String>,
    pub other: Option<u64>,
    pub filing: Option<String>,
    /// Of a connection or a quota: the channel that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What happened, in words: which brake has tripped, what a server or a report said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// A support address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelJson {
    pub address: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub plus_addresses: bool,
    pub queue: String,
    pub colour: Option<String>,
    /// `record`, `review` or `refuse`.
    pub auth_policy: String,
    pub max_mail_bytes: u64,
    /// Whether mail for the postmaster goes here.
    pub default: bool,
    /// The mailbox that its mail is pulled from.
    pub connection: Option<ConnectionJson>,
}

/// The connection to a mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionJson {
    /// `user@host` of the mailbox.
    pub account: String,
    /// `connecting`, `connected`, `paused`, `disconnected` or `problem`.
    pub state: String,
    pub since: String,
    pub problem: Option<ProblemJson>,
    pub next_try: Option<String>,
    pub last_look: Option<String>,
    /// When the next look begins at the latest; news may come sooner.
    pub next_look: Option<String>,
    /// Mails that wait for the rate to let them through.
    pub waiting: u64,
    pub warnings: Vec<String>,
    pub credential: Option<CredentialJson>,
}

/// What `connect` is given. It has no `Debug`, because it may hold a password.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Connect {
    /// Without one, the password that is configured or kept is tried.
    pub password: Option<String>,
    /// `code`, `device` or `app`, instead of the flow that is configured; for mailboxes with OAuth.
    pub flow: Option<String>,
    pub author: Option<String>,
}

/// All support addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelList {
    pub channels: Vec<ChannelJson>,
}

/// How the daemon does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    pub hostname: String,
    pub pid: u32,
    pub started_at: String,
    pub ready: bool,
    pub channels: u64,
    /// The channel that takes mail for the postmaster.
    pub default_channel: Option<String>,
    /// Where the daemon listens, by name.
    pub listeners: Vec<ListenerJson>,
    pub spool: SpoolJson,
    #[serde(default)]
    pub outbox: OutboxStatus,
    pub store: StoreJson,
    /// The mailboxes that mail is pulled from.
    #[serde(default)]
    pub mailboxes: Vec<MailboxStatus>,
    /// What is wrong, and what to do.
    pub problems: Vec<ProblemJson>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListenerJson {
    pub name: String,
    pub address: String,
}

/// Mail that was accepted and is not filed yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpoolJson {
    pub mails: u64,
    pub bytes: u64,
    pub oldest_received_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoreJson {
    pub tickets: u64,
    /// The highest `seq` of the feed.
    pub seq: u64,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub free_bytes: u64,
    pub segments: u64,
    pub last_flush: Option<String>,
    pub damaged_records: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemJson {
    /// A word for programs.
    pub code: String,
    pub said: String,
    pub action: String,
}

/// The body of a request that changes something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Act {
    /// Who does it; the user of the caller unless it is given.
    pub author: Option<String>,
}

/// The body of a new note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNote {
    pub text: String,
    #[serde(default)]
    pub author: Option<String>,
}

/// The body of a merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The ticket that goes on.
    pub into: u64,
    #[serde(default)]
    pub author: Option<String>,
}

/// Something was done, and there is nothing more to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    pub done: bool,
}

/// The word for a state.
pub fn state_word(state: TicketState) -> &'static str {
    match state {
        TicketState::Open => "open",
        TicketState::Closed => "closed",
        TicketState::Merged => "merged",
    }
}

/// The state that a word names.
pub fn state_from_word(word: &str) -> Option<TicketState> {
    [TicketState::Open, TicketState::Closed, TicketState::Merged].into_iter().find(|state| state_word(*state) == word)
}

impl From<TicketRow> for TicketJson {
    fn from(row: TicketRow) -> Self {
        Self {
            number: row.number,
            title: row.title,
            state: state_word(row.state).into(),
            channel: row.channel,
            queue: row.queue,
            requester: Person { name: row.requester.name, address: row.requester.address },
            participants: row.participants,
            opened_at: row.opened_at.to_string(),
            updated_at: row.updated_at.to_string(),
            entry_count: row.entries,
            needs_review: row.needs_review,
            merged_into: row.merged_into,
            changed: row.changed,
        }
    }
}

impl From<EventRow> for EventJson {
    fn from(row: EventRow) -> Self {
        Self {
            seq: row.seq,
            at: row.at.to_string(),
            kind: row.kind,
            ticket: row.ticket,
            entry: row.entry,
            author: row.author,
            other: row.other,
            filing: row.filing,
            channel: row.channel,
            said: row.said,
        }
    }
}

impl ChannelJson {
    /// A channel as the directory has it.
    pub fn of(channel: &Channel, directory: &Directory, accounts: &Accounts) -> Self {
        let connection = accounts.connection(&channel.address).map(|connection| {
            let credential = accounts.credential(&channel.address);
            let credential = credential.map(|shown| CredentialJson::of(shown, &channel.address));
            ConnectionJson { credential, ..connection.into() }
        });
        let queue = directory.queues().iter().find(|queue| queue.name == channel.queue);
        let policy = match channel.auth_policy {
            AuthPolicy::Record => "record",
            AuthPolicy::Review => "review",
            AuthPolicy::Refuse => "refuse",
        };
        Self {
            address: channel.address.to_string(),
            name: channel.name.clone(),
            aliases: channel.aliases.iter().map(ToString::to_string).collect(),
            plus_addresses: channel.plus_addresses,
            queue: channel.queue.clone(),
            colour: queue.map(|queue| queue.colour.clone()),
            auth_policy: policy.into(),
            max_mail_bytes: channel.max_mail_bytes,
            default: directory.default_channel() == Some(channel),
            connection,
        }
    }
}

impl From<Connection> for ConnectionJson {
    fn from(connection: Connection) -> Self {
        let problem = match &connection.state {
            State::Problem(problem) => Some(ProblemJson {
                code: problem.cause.code().into(),
                said: problem.said.clone(),
                action: problem.action_for(&connection.channel),
            }),
            _ => None,
        };
        Self {
            account: connection.account,
            state: connection.state.as_str().into(),
            since: connection.since.to_string(),
            problem,
            next_try: connection.next_try.map(|at| at.to_string()),
            last_look: connection.last_look.map(|at| at.to_string()),
            next_look: connection.next_look.map(|at| at.to_string()),
            waiting: connection.waiting,
            warnings: connection.warnings,
            credential: None,
        }
    }
}
