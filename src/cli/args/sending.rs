//! The command line of what leaves: outbox, loop brakes, suppressed addresses.

use clap::{Args, Subcommand};

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
    },
}

/// One mail or all.
#[derive(Debug, Args)]
pub struct Which {
    /// The id of the mail's entry
    #[arg(required_unless_present = "all", conflicts_with = "all")]
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
