//! Channels: the support addresses that we take mail for, and the look-up of an address among them.

use std::collections::HashMap;

use crate::mail::Address;

/// What a channel does with mail that fails SPF, DKIM or DMARC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AuthPolicy {
    /// The verdicts are recorded with the entry, and nothing else happens.
    #[default]
    Record,
    /// The entry is marked for review.
    Review,
    /// The mail is refused with 550 5.7.1.
    Refuse,
}

/// A queue: a named, coloured pile of tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    /// A CSS colour, such as `#2f80ed`.
    pub colour: String,
}

/// One support address: how its mail comes in and the queue it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The support address; the name of the channel everywhere.
    pub address: Address,
    /// The display name that replies carry.
    pub name: String,
    /// Other addresses that mean this channel.
    pub aliases: Vec<Address>,
    /// Whether `local+detail@domain` means this channel too.
    pub plus_addresses: bool,
    /// The name of the queue that its tickets go to.
    pub queue: String,
    pub auth_policy: AuthPolicy,
    /// The largest mail it takes, in bytes; the door's own limit holds as well.
    pub max_mail_bytes: u64,
    /// The relay that its replies leave by, and the one for mail with attachments; the default one without (R24, R25).
    pub relay: Option<String>,
    pub attachments_relay: Option<String>,
    /// Whether a new ticket is acknowledged to its requester.
    pub acknowledge: bool,
}

/// All channels, queues and intake addresses, with the look-ups that doors and filing need. Built anew at a reload.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    channels: Vec<Channel>,
    queues: Vec<Queue>,
    /// Addresses that other servers forward everything to; the real recipient stands in the header fields.
    intake: Vec<Address>,
    by_key: HashMap<String, usize>,
    default: usize,
}

/// What an address means to us.
#[derive(Clone, Copy, Debug)]
pub enum Match<'a> {
    /// It is a channel's address, alias or plus-address.
    Channel(&'a Channel),
    /// It is an intake address: the channel is found from the header fields.
    Intake,
}

impl Directory {
    /// Builds the look-ups. The first channel is the default one unless `default` names another; configuration has
    /// checked that no two channels claim one address.
    pub fn new(channels: Vec<Channel>, queues: Vec<Queue>, intake: Vec<Address>, default: Option<&Address>) -> Self {
        let mut by_key = HashMap::new();
        for (index, channel) in channels.iter().enumerate() {
            for address in std::iter::once(&channel.address).chain(&channel.aliases) {
                by_key.insert(address.lookup(), index);
            }
        }
        let default = default.and_then(|address| channels.iter().position(|c| &c.address == address)).unwrap_or(0);
        Self { channels, queues, intake, by_key, default }
    }

    /// The same with another default channel; one that is not among the channels changes nothing.
    #[must_use]
    pub fn with_default(&self, address: &Address) -> Self {
        let default = self.channels.iter().position(|channel| channel.address == *address).unwrap_or(self.default);
        Self { default, ..self.clone() }
    }

    /// What an envelope recipient means to us; `None` is an address that is not ours.
    pub fn find(&self, address: &Address) -> Option<Match<'_>> {
        if let Some(channel) = self.channel_for(address) {
            return Some(Match::Channel(channel));
        }
        let plain = without_detail(address);
        self.intake.iter().any(|intake| intake == address || intake.lookup() == plain).then_some(Match::Intake)
    }

    /// The channel that an address belongs to: its own address, an alias, or a plus-address of either.
    pub fn channel_for(&self, address: &Address) -> Option<&Channel> {
        if let Some(index) = self.by_key.get(&address.lookup()) {
            return self.channels.get(*index);
        }
        address.split_detail().1?;
        let channel = self.by_key.get(&without_detail(address)).and_then(|index| self.channels.get(*index))?;
        channel.plus_addresses.then_some(channel)
    }

    /// Whether some address that we take mail for has the domain of this one.
    pub fn serves(&self, address: &Address) -> bool {
        let channels = self.channels.iter().flat_map(|c| std::iter::once(&c.address).chain(&c.aliases));
        let domain = address.ascii_domain();
        channels.chain(&self.intake).any(|ours| ours.ascii_domain() == domain)
    }

    /// The channel with exactly this support address.
    pub fn by_address(&self, address: &str) -> Option<&Channel> {
        let wanted = Address::parse(address).ok()?;
        self.channels.iter().find(|channel| channel.address == wanted)
    }

    /// Where mail for the postmaster goes (RFC 5321 section 4.5.1).
    pub fn default_channel(&self) -> Option<&Channel> {
        self.channels.get(self.default)
    }

    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }
}

/// The look-up key of an address without its plus detail.
fn without_detail(address: &Address) -> String {
    format!("{}@{}", address.split_detail().0.to_lowercase(), address.ascii_domain())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn channel(address: &str) -> Channel {
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

    #[test]
    fn addresses_aliases_details_and_intake_are_told_apart() {
        let mut sales = channel("sales@example.com");
        sales.aliases.push(Address::parse("verkauf@example.com").unwrap());
        sales.aliases.push(Address::parse("verkauf@müller.example").unwrap());
        sales.plus_addresses = false;
        let intake = Address::parse("intake@gw.example.com").unwrap();
        let directory = Directory::new(vec![channel("support@example.com"), sales], vec![], vec![intake], None);
        let table = [
            ("support@example.com", "support@example.com"),
            ("SUPPORT+t9@Example.com", "support@example.com"),
            ("verkauf@example.com", "sales@example.com"),
            ("Verkauf@xn--mller-kva.example", "sales@example.com"),
            ("\"support\"@example.com", "support@example.com"),
            ("sales+x@example.com", "none"),
            ("other@example.com", "none"),
            ("intake@gw.example.com", "intake"),
            ("intake+customer=x@gw.example.com", "intake"),
        ];
        for (address, want) in table {
            let got = match directory.find(&Address::parse(address).unwrap()) {
                Some(Match::Channel(channel)) => channel.address.to_string(),
                Some(Match::Intake) => "intake".into(),
                None => "none".into(),
            };
            assert_eq!(got, want, "{address}");
        }
    }
}
