//! The command line: help, man page and completions come from these lines.

mod sending;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::store::rows::LedgerState;
use crate::units::parse_duration;
pub use sending::{
    LoopCommand, NewTicket, OutboxCommand, OutboxFilter, RelayCommand, Reply, SuppressionCommand, Which, Writing,
};

/// The e-mail half of a help desk: mail for support addresses becomes tickets, exactly once.
#[derive(Debug, Parser)]
#[command(name = "ticketgate", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 refused or failed, 2 wrong usage.")]
pub struct Cli {
    #[command(flatten)]
    pub reach: Reach,
    #[command(subcommand)]
    pub command: Command,
}

/// How a client command finds the daemon, and how it answers.
#[derive(Clone, Debug, Args)]
pub struct Reach {
    /// The admin socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "TICKETGATE_SOCKET", help_heading = "Global options")]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub socket: Option<PathBuf>,
    /// The configuration, which names the socket
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// How long the daemon may be silent, such as 30s or 5m
    #[arg(long, global = true, value_name = "TIME", default_value = "1m", value_parser = parse_duration, help_heading = "Global options")]
    pub timeout: Duration,
}

impl Reach {
    /// As if nothing but the socket had been said.
    pub fn socket(path: &Path) -> Self {
        Self { socket: Some(path.to_owned()), config: None, json: false, timeout: Duration::from_secs(60) }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon; without --config on built-in defaults, with its data in ./ticketgate-data
    Run {},
    /// Start a daemon in a temporary directory, send it real mail and show the tickets
    Demo {
        /// Leave it running until Ctrl-C
        #[arg(long)]
        stay: bool,
    },
    /// Check the configuration and tell every fault with its line
    Check {
        /// The file, if not by --config
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// How the daemon does, and what to do where it does not do well
    Status,
    /// Support addresses
    #[command(subcommand)]
    Channels(ChannelCommand),
    /// Connect the mailbox of a support address, or connect it again
    ///
    /// Where the mailbox has a password it is asked for. Where it is authorised by OAuth, this says what to open in a
    /// browser and waits until somebody has consented there; if the browser cannot reach this machine, paste the address
    /// that it was sent to. Exit status 1 when it was refused, with the reason.
    #[command(visible_alias = "reconnect")]
    Connect {
        /// The support address
        address: String,
        /// Read the password from standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
        /// Use the password that is configured or was kept before
        #[arg(long, conflicts_with = "password_stdin")]
        known_password: bool,
        /// OAuth: how to consent, instead of the configured way
        #[arg(long, value_parser = ["code", "device", "app"], conflicts_with_all = ["password_stdin", "known_password"])]
        flow: Option<String>,
        /// OAuth: print what to open, and do not wait for the consent
        #[arg(long)]
        no_wait: bool,
    },
    /// Stop fetching from a mailbox until it is connected again
    Disconnect {
        /// The support address
        address: String,
    },
    /// Tickets: list, show, new, reply, note, close, reopen, merge
    #[command(subcommand)]
    Tickets(TicketCommand),
    /// Mail that was rejected, quarantined or dropped, and why
    #[command(subcommand)]
    Rejects(RejectCommand),
    /// Mail that waits to leave, and what became of mail that left
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// The ways out, and what each does to header fields
    #[command(subcommand)]
    Relays(RelayCommand),
    /// Loop brakes that have tripped
    #[command(subcommand)]
    Loops(LoopCommand),
    /// Addresses that nothing is sent to, because they failed or complained
    #[command(subcommand)]
    Suppressions(SuppressionCommand),
    /// The keys that passwords and tokens are encrypted with
    #[command(subcommand)]
    Secrets(SecretCommand),
    /// Every decision about one mail
    Explain {
        /// The Message-ID, with or without angle brackets, or an entry's id or seq
        message_id: String,
    },
    /// All entries as JSON lines, in the order of their seq
    Export {
        /// Only entries after this seq
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// Go on with new entries as they come
        #[arg(long)]
        follow: bool,
    },
    /// The original bytes of an entry, as they were received
    Raw {
        /// The entry's id
        entry: String,
    },
    /// Erase the original bytes of an entry for good
    Erase {
        /// The entry's id
        entry: String,
        /// Really do it
        #[arg(long)]
        yes: bool,
    },
    /// Look for what is wrong: configuration, data directory, daemon, and the SPF, DKIM and DMARC of your domains
    ///
    /// For each support address it asks DNS whether its domain authorises the relay that its mail leaves by, and says
    /// what to publish where it does not. It changes nothing. Exit status 1 when something is wrong; warnings, and what
    /// DNS did not answer, leave it at 0.
    Doctor,
    /// Check that log, index and files of a data directory tell the same story; the daemon must not run
    Fsck(Fsck),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the man page
    Man {
        /// Write the pages of all commands into this directory instead
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// All support addresses, with the state of their mailboxes
    List,
    /// One of them with everything that is known of its mailbox
    Show { address: String },
    /// What became of every mail that was seen in a mailbox
    Ledger {
        address: String,
        #[command(flatten)]
        filter: LedgerFilter,
    },
    /// What came by forwarding and what by the mailbox, and whether forwarding can be switched off
    Parity {
        address: String,
        /// The period up to now, such as 12h or 7d, at most 92d
        #[arg(long, value_name = "PERIOD", default_value = "7d")]
        since: String,
    },
    /// Make it the one that takes mail for the postmaster, whatever the configuration says
    Default { address: String },
    /// Stop fetching for a while
    Pause { address: String },
    /// Go on fetching where it stopped
    Resume { address: String },
    /// Look into the mailbox now
    Look { address: String },
    /// Compare the mailbox with the ledger now
    Sweep { address: String },
}

#[derive(Debug, Args)]
pub struct LedgerFilter {
    /// Only these
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(LedgerState::ALL.map(LedgerState::as_str)))]
    pub state: Option<String>,
    /// Only mails with a higher UID
    #[arg(long, value_name = "UID", default_value_t = 0)]
    pub after: u32,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
}

#[derive(Debug, Subcommand)]
pub enum TicketCommand {
    /// Tickets, the newest first
    List(TicketFilter),
    /// One ticket with its entries
    Show { number: u64 },
    /// Open a ticket by writing to somebody, from a support address
    #[command(after_help = "Without --text and --file the text is read from standard input. Whoever answers the mail \
        finds the ticket.")]
    New(NewTicket),
    /// Answer by mail, from the ticket's support address
    #[command(after_help = "Without --text and --file the text is read from standard input. The answer goes to the \
        requester unless --to says otherwise.")]
    Reply(Reply),
    /// Add a note, which only your team sees
    Note {
        number: u64,
        /// The text; "-" reads it from standard input
        text: String,
    },
    /// Close a ticket
    Close { number: u64 },
    /// Open a closed ticket again
    Reopen { number: u64 },
    /// Move the entries of a ticket into another one
    Merge {
        number: u64,
        /// The ticket that goes on
        into: u64,
    },
}

#[derive(Debug, Args)]
pub struct TicketFilter {
    /// Only these: open, closed or merged
    #[arg(long, value_parser = ["open", "closed", "merged"])]
    pub state: Option<String>,
    /// Only tickets of this queue
    #[arg(long)]
    pub queue: Option<String>,
    /// Only tickets of this support address
    #[arg(long, value_name = "ADDRESS")]
    pub channel: Option<String>,
    /// Only tickets with a lower number
    #[arg(long, value_name = "NUMBER")]
    pub before: Option<u64>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
}

#[derive(Debug, Subcommand)]
pub enum RejectCommand {
    /// The latest of them
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// One of them with every decision about it
    Show {
        /// The entry's id
        entry: String,
    },
    /// File one of them again, such as after an upgrade
    Retry {
        /// The entry's id
        entry: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Where the keys are, and how many secrets each of them holds; never a secret or a key
    Show,
    /// Make a fresh key where the daemon may write the key file, and encrypt everything with it
    Rotate {
        /// Take keys that no secret needs any more out of the key file
        #[arg(long)]
        prune: bool,
    },
}

#[derive(Debug, Args)]
pub struct Fsck {
    /// The data directory; otherwise that of the configuration
    #[arg(value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The configuration that names the data directory
    #[arg(skip)]
    pub config: Option<PathBuf>,
    /// Check the sha256 of every mail as well
    #[arg(long)]
    pub deep: bool,
}
