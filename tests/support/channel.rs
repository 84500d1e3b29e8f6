//! A channel as most tests want it.

use ticketgate::mail::Address;
use ticketgate::ticket::Channel;
use ticketgate::ticket::channel::AuthPolicy;

/// A channel with this address, and the defaults of a configuration.
pub fn channel(address: &str) -> Channel {
    Channel {
        address: Address::parse(address).unwrap(),
        name: "Support".into(),
        aliases: Vec::new(),
        plus_addresses: true,
        queue: "Support".into(),
        auth_policy: AuthPolicy::Record,
        max_mail_bytes: 50 << 20,
        relay: None,
        attachments_relay: None,
        acknowledge: false,
    }
}
