//! `[loops]`: what is never sent to, the brakes, and when an address that fails is suppressed.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::store::Suppress;
use crate::ticket::loops::{Brakes, Limit, Pattern};

/// The section of the configuration. A limit is a pair: minutes, and the most mails within them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoopsConfig {
    /// Addresses that nothing is sent to, beside our own: `local@domain`, `*@domain`, `local@*`.
    pub never_send_to: Vec<String>,
    pub per_ticket_and_recipient: Vec<Limit>,
    pub per_recipient: Vec<Limit>,
    /// For automatic mail only.
    pub overall: Vec<Limit>,
    /// An address is suppressed after so many hard failures; 0 is never.
    pub suppress_after: u32,
    #[serde(with = "crate::units::duration")]
    pub suppress_within: Duration,
}

impl Default for LoopsConfig {
    fn default() -> Self {
        let Brakes { ticket_recipient, recipient, overall } = Brakes::default();
        Self {
            never_send_to: Vec::new(),
            per_ticket_and_recipient: ticket_recipient,
            per_recipient: recipient,
            overall,
            suppress_after: 3,
            suppress_within: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// The section in the shape that decisions need.
#[derive(Clone, Debug)]
pub struct Loops {
    pub patterns: Vec<Pattern>,
    pub brakes: Brakes,
    pub suppress: Suppress,
}

impl Default for Loops {
    fn default() -> Self {
        LoopsConfig::default().loops()
    }
}

impl LoopsConfig {
    /// Patterns that cannot be read are left out: the checks of the configuration have refused them.
    pub fn loops(&self) -> Loops {
        Loops {
            patterns: self.never_send_to.iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
            brakes: Brakes {
                ticket_recipient: self.per_ticket_and_recipient.clone(),
                recipient: self.per_recipient.clone(),
                overall: self.overall.clone(),
            },
            suppress: Suppress {
                after: self.suppress_after,
                within: SignedDuration::try_from(self.suppress_within).unwrap_or(SignedDuration::MAX),
            },
        }
    }
}
