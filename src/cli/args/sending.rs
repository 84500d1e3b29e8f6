//! The command line of what leaves: answers and new tickets, outbox, loop brakes, suppressed addresses.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What a mail of ours says, whatever it is about.
#[derive(Debug, Args)]
pub struct Writing {
    /// The text
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// A file that holds the text; "-" is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub file: Option<PathBuf>,
    /// The text is Markdown, and is sent as HTML as well
    #[arg(long)]
    pub markdown: bool,
    /// A file to attach; may be given several times
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Send a copy to this address; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub cc: Vec<String>,
    /// The sender's name as recipients see it, if not that of the support address
    #[arg(long, value_name = "NAME")]
    pub from_name: Option<String>,
    /// An idempotency key: the same mail under the same key is sent once
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

#[derive(Debug, Args)]
pub struct Reply {
    pub number: u64,
    #[command(flatten)]
    pub writing: Writing,
    /// Send it to this address instead of the requester; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// Send a copy to everybody who takes part in the ticket
    #[arg(long)]
    pub everybody: bool,
    /// The subject, if not "Re:" and the ticket's title
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// Quote the customer's last mail below
    #[arg(long)]
    pub quote: bool,
    /// Close the ticket with it
    #[arg(long)]
    pub close: bool,
}

#[derive(Debug, Args)]
pub struct NewTicket {
    /// The support address that it is sent from
    #[arg(long, value_name = "ADDRESS")]
    pub channel: String,
    /// Whom it is for; may be given several times, the first is the requester
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub to: Vec<String>,
    /// The subject, which becomes the ticket's title
    #[arg(long, value_name = "TEXT")]
    pub subject: String,
    #[command(flatten)]
    pub writing: Writing,
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Mails, the newest first
    List(OutboxFilter),
    /// One mail with its recipients
    Show {
        /// The id of the mail's entry
        mail: String,
    },
    /// Try a mail now; recipients that have failed are tried again
    Retry(Which),
    /// Hold a mail back until it is released
    Hold(Which),
    /// Let a mail go that was held
    Release(Which),
    /// Take a mail back, for all recipients that it has not reached
    Cancel { mail: String },
    /// Send a mail by another relay
    Reroute {
        mail: String,
        /// The name of a [[relay]]
        relay: String,
        /// Also if the relay before may have it, as it did not answer: the mail may then come twice
        #[arg(long)]
        force: bool,
    },
}

/// One mail or all.
#[derive(Debug, Args)]
pub struct Which {
    /// The id of the mail's entry
    #[arg(required_unless_present_any = ["all", "channel"], conflicts_with = "all")]
    pub mail: Option<String>,
    /// Every mail that waits or, to release it, is held
    #[arg(long)]
    pub all: bool,
    /// Of all only mail of this support address
    #[arg(long, value_name = "ADDRESS", requires = "all")]
    pub channel: Option<String>,
}

#[derive(Debug, Args)]
pub struct OutboxFilter {
    /// Only these: waiting, held, done or cancelled
    #[arg(long, value_parser = ["waiting", "held", "done", "cancelled"])]
    pub state: Option<String>,
    /// Only mail of this support address
    #[arg(long, value_name = "ADDRESS")]
    pub channel: Option<String>,
    /// Only mail of this ticket
    #[arg(long, value_name = "NUMBER")]
    pub ticket: Option<u64>,
    /// Only mail of people, or only automatic mail
    #[arg(long, value_parser = ["person", "automatic"])]
    pub class: Option<String>,
    /// Only mails with a lower seq
    #[arg(long, value_name = "SEQ")]
    pub before: Option<u64>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
}

#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// All relays, with what their latest probe has shown
    List,
    /// One of them, with what became of each header field
    Show {
        /// The name of a [[relay]]
        relay: String,
    },
    /// Send a mail by it to a support address, to find out which header fields survive
    ///
    /// The probe leaves by the outbox, and carries every header field that mail must keep. When it comes home, by
    /// forwarding or in a mailbox, it is compared with what was sent and becomes no ticket. `relays show` tells the result.
    Probe {
        /// The name of a [[relay]]
        relay: String,
        /// The support address that it leaves from and comes home to
        #[arg(long, value_name = "ADDRESS")]
        channel: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum LoopCommand {
    /// Those that have tripped, and what they hold
    List,
    /// Let the mail go that a brake holds; it counts anew
    Release {
        /// The brake's id
        brake: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum SuppressionCommand {
    /// Addresses that nothing is sent to
    List {
        /// Also addresses that have failed less often
        #[arg(long)]
        all: bool,
    },
    /// Send to an address again
    Clear { address: String },
}
