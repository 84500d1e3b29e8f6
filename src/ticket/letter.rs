//! How a channel writes: its letterhead, the addresses under which answers come back, its signature and its
//! acknowledgement.
//!
//! Must not know: who writes, what is answered, files. All of it can be exchanged while the daemon runs.

use std::collections::HashMap;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::channel::Channel;
use super::template::{Template, Values};
use super::token::TokenKeys;
use crate::mail::compose::{self, Correspondent, Identity};
use crate::mail::{Address, Class, MailId};

/// The longest local part (RFC 5321 section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// Header fields that mail of ours carries, and its templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letters {
    /// On every mail: name, and value with `{{account.id}}` and `{{email.id}}`.
    pub fields: Vec<(String, String)>,
    /// On automatic mail as well.
    pub automatic_fields: Vec<(String, String)>,
    /// Names of fields that other programs' mail must not lose on its way either, where it brings them.
    pub must_survive: Vec<String>,
    pub default: Texts,
    /// By the key of the channel's address.
    pub by_channel: HashMap<String, Texts>,
}

/// The texts of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Without one there is no signature.
    pub signature: Option<Template>,
    /// `Subject: …`, an empty line, and the text; or the text alone.
    pub acknowledgement: Option<Template>,
}

/// An acknowledgement that is ready to be composed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Where the template has one.
    pub subject: Option<String>,
    pub text: String,
}

/// How one mail names its sender and the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letterhead {
    pub identity: Identity,
    /// Where reports come back to.
    pub return_path: Address,
}

/// How a probe of a relay names its sender, its way home and the way back of whoever answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeHead {
    pub head: Letterhead,
    pub to: Address,
    pub subject: String,
    /// What it claims to answer, the oldest first.
    pub references: Vec<String>,
}

/// What the subject of a probe says before its token.
pub const PROBE_SUBJECT: &str = "ticketgate probe ";

impl Letters {
    /// The names of all fields that a mail which has them must not lose on its way (R22).
    pub fn required(&self) -> Vec<String> {
        let named = self.automatic_fields.iter().chain(&self.fields).map(|(name, _)| name);
        let mut names: Vec<String> = Vec::new();
        for name in named.chain(&self.must_survive) {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The letterhead of a probe that a channel sends to itself; `None` without a key to sign with. It has every field
    /// that mail must keep.
    pub fn probe(&self, channel: &Channel, keys: &TokenKeys, id: MailId, now: Timestamp) -> Option<ProbeHead> {
        let (token, back) = (keys.sign_probe(id)?, keys.sign_probe_answer(id)?);
        let Letterhead { mut identity, .. } = self.letterhead(channel, 0, keys, id, Class::Automatic, now);
        let detailed = |token: &str| detailed(channel, token).unwrap_or_else(|| channel.address.clone());
        let domain = compose::ascii(&channel.address).domain().to_owned();
        identity.message_id = format!("{token}.{id}@{domain}");
        identity.reply_to = Some(detailed(&back));
        for name in &self.must_survive {
            if !identity.fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                identity.fields.push((name.clone(), format!("probe-{id}")));
            }
        }
        let references = (1..=3).map(|n| format!("probe-{n}.{id}@{domain}")).collect();
        let (to, return_path) = (detailed(&token), detailed(&back));
        let subject = format!("{PROBE_SUBJECT}{token}");
        Some(ProbeHead { head: Letterhead { identity, return_path }, to, subject, references })
    }

    /// The letterhead of one mail about a ticket.
    pub fn letterhead(
        &self,
        channel: &Channel,
        ticket: u64,
        keys: &TokenKeys,
        id: MailId,
        class: Class,
        now: Timestamp,
    ) -> Letterhead {
        let back = reply_address(channel, ticket, keys);
        let unique = id.to_string();
        let token = keys.sign(ticket);
        // The domain as DNS has it: a Message-ID is ASCII.
        let address = compose::ascii(&channel.address);
        let domain = address.domain();
        let message_id = match &token {
            Some(token) => format!("{token}.{unique}@{domain}"),
            None => format!("{unique}@{domain}"),
        };
        let identity = Identity {
            from: Correspondent { name: channel.name.clone(), address: channel.address.clone() },
            reply_to: back.clone(),
            message_id,
            date: now,
            boundary: unique.clone(),
            fields: self.fields_of(&channel.address, id, class),
        };
        Letterhead { identity, return_path: back.unwrap_or_else(|| channel.address.clone()) }
    }

    /// The header fields that one mail of a channel carries.
    pub fn fields_of(&self, channel: &Address, id: MailId, class: Class) -> Vec<(String, String)> {
        let automatic = self.automatic_fields.iter().filter(|_| class == Class::Automatic);
        let (account, unique) = (account_id(channel), id.to_string());
        let filled = |(name, value): &(String, String)| {
            (name.clone(), value.replace("{{account.id}}", &account).replace("{{email.id}}", &unique))
        };
        automatic.chain(&self.fields).map(filled).collect()
    }

    /// The signature of a channel, if it has one.
    pub fn signature(&self, channel: &Address, values: &Values) -> Option<String> {
        let own = self.by_channel.get(&channel.key()).and_then(|texts| texts.signature.as_ref());
        Some(own.or(self.default.signature.as_ref())?.render(values))
    }

    /// The acknowledgement of a channel; `None` where there is no template at all.
    pub fn acknowledgement(&self, channel: &Address, values: &Values) -> Option<Acknowledgement> {
        let own = self.by_channel.get(&channel.key()).and_then(|texts| texts.acknowledgement.as_ref());
        let template = own.or(self.default.acknowledgement.as_ref())?;
        Some(Acknowledgement::of(template, values))
    }
}

impl Acknowledgement {
    /// What a template says: `Subject: …`, an empty line, and the text; or the text alone.
    pub fn of(template: &Template, values: &Values) -> Self {
        let text = template.render(values).replace("\r\n", "\n");
        match text.strip_prefix("Subject:").map(|rest| rest.split_once('\n').unwrap_or((rest, ""))) {
            Some((subject, text)) => Self {
                subject: Some(subject.trim().to_owned()).filter(|subject| !subject.is_empty()),
                text: text.trim_start_matches('\n').to_owned(),
            },
            None => Self { subject: None, text },
        }
    }
}

/// The signed address of a ticket, where the channel takes plus-addresses and the local part has room for one.
pub fn reply_address(channel: &Channel, ticket: u64, keys: &TokenKeys) -> Option<Address> {
    detailed(channel, &keys.sign(ticket)?)
}

/// A channel's address with a token as its detail, where the channel takes those and the local part has room for it.
fn detailed(channel: &Channel, token: &str) -> Option<Address> {
    let (local, domain) = (channel.address.split_detail().0, channel.address.domain());
    let address = channel.plus_addresses.then(|| format!("{local}+{token}@{domain}"))?;
    Address::parse(&address).ok().filter(|address| address.local().len() <= MAX_LOCAL)
}

/// The id of a channel's account that mail carries: stays the same as long as the address does, and does not tell it.
pub fn account_id(channel: &Address) -> String {
    let digest = Sha256::digest(format!("ticketgate account 1\0{}", channel.key()));
    let number = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    MailId(number >> 4).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::channel::tests::channel;
    use super::*;

    fn letters() -> Letters {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Letters {
            fields: vec![field("X-Account", "{{account.id}}"), field("X-Email", "<{{email.id}}>")],
            automatic_fields: vec![field("Auto-Submitted", "auto-generated")],
            ..Letters::default()
        }
    }

    #[test]
    fn the_letterhead_leads_back_to_the_ticket() {
        let keys = TokenKeys::new(vec![[7; 32]]);
        let id = MailId(1234);
        let mut support = channel("support@example.com");
        let head =
            |channel: &Channel, class| letters().letterhead(channel, 12, &keys, id, class, Timestamp::UNIX_EPOCH);
        let got = head(&support, Class::Person);
        assert_eq!(keys.verify(&got.identity.message_id), Some(12));
        assert_eq!(keys.verify_address(got.identity.reply_to.as_ref().unwrap()), Some(12));
        assert_eq!(keys.verify_address(&got.return_path), Some(12));
        let account = account_id(&support.address);
        assert_eq!(got.identity.fields, [("X-Account".into(), account), ("X-Email".into(), format!("<{id}>"))]);
        assert_eq!(head(&support, Class::Automatic).identity.fields[0].1, "auto-generated");

        support.plus_addresses = false;
        let got = head(&support, Class::Person);
        assert_eq!((got.identity.reply_to, got.return_path), (None, support.address.clone()));
        let long = channel(&format!("{}@example.com", "s".repeat(60)));
        assert_eq!(head(&long, Class::Person).return_path, long.address);
    }

    #[test]
    fn a_probe_carries_all_that_mail_must_keep_and_finds_its_way_home() {
        let keys = TokenKeys::new(vec![[7; 32]]);
        let letters = Letters { must_survive: vec!["X-Zendesk-Email-Id".into(), "x-email".into()], ..letters() };
        assert_eq!(letters.required(), ["Auto-Submitted", "X-Account", "X-Email", "X-Zendesk-Email-Id"]);
        let mut support = channel("support@example.com");
        let id = MailId(1234);
        let probe = letters.probe(&support, &keys, id, Timestamp::UNIX_EPOCH).unwrap();
        let names: Vec<&str> = probe.head.identity.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, letters.required());
        let detail = |address: &Address| address.split_detail().1.unwrap_or_default().to_owned();
        assert_eq!(keys.verify_probe(&detail(&probe.to)), Some(id));
        assert_eq!(keys.verify_probe(&probe.head.identity.message_id), Some(id));
        assert_eq!(keys.verify_probe(probe.subject.strip_prefix(PROBE_SUBJECT).unwrap()), Some(id));
        for back in [probe.head.identity.reply_to.as_ref().unwrap(), &probe.head.return_path] {
            assert_eq!(keys.verify_probe_answer(&detail(back)), Some(id));
        }
        assert!(probe.references.iter().all(|reference| keys.verify_probe(reference).is_none()));
        support.plus_addresses = false;
        let probe = letters.probe(&support, &keys, id, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((&probe.to, &probe.head.return_path), (&support.address, &support.address));
        assert_eq!(letters.probe(&support, &TokenKeys::new(vec![]), id, Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn accounts_have_ids_that_last_and_differ() {
        let id = |text: &str| account_id(&Address::parse(text).unwrap());
        assert_eq!(id("support@example.com"), id("Support@EXAMPLE.com"));
        assert_ne!(id("support@example.com"), id("sales@example.com"));
    }

    #[test]
    fn a_channels_own_texts_go_before_the_default_ones() {
        let template = |text: &str| Template::parse(text).ok();
        let mut letters = letters();
        let (own, other) = (channel("a@x.example").address, channel("b@x.example").address);
        letters.default.signature = template("default");
        letters.default.acknowledgement = template("Subject: [{{ticket.number}}] got it\n\nThanks\n");
        let texts = Texts { signature: template("{{author.name}}"), acknowledgement: template("Merci") };
        letters.by_channel.insert(own.key(), texts);
        let values = Values { ticket_number: 3, author_name: "Eve".into(), ..Values::default() };
        assert_eq!(letters.signature(&own, &values).as_deref(), Some("Eve"));
        assert_eq!(letters.signature(&other, &values).as_deref(), Some("default"));
        let ack = |channel| letters.acknowledgement(channel, &values).unwrap();
        assert_eq!(ack(&own), Acknowledgement { subject: None, text: "Merci".into() });
        assert_eq!(ack(&other), Acknowledgement { subject: Some("[3] got it".into()), text: "Thanks\n".into() });
    }
}
