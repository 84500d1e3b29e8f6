//! What can be wrong with mailboxes and people across sections.

use std::collections::HashMap;

use super::Config;
use super::check::Checker;
use crate::mail::Address;

impl Checker<'_> {
    /// An address that is a person's is no support address (R3).
    pub(super) fn people(&mut self, config: &Config) {
        let lists =
            [("agents", "an agent", &config.people.agents), ("end_users", "an end user", &config.people.end_users)];
        let mut people: HashMap<String, &str> = HashMap::new();
        for (key, who, list) in lists {
            for text in list {
                match Address::parse(text) {
                    Ok(address) => drop(people.insert(address.key(), who)),
                    Err(error) => {
                        let wrong = format!("\"{text}\" is not an address: {error}");
                        self.wrong(&["people", key], &wrong, "write it as local@domain");
                    }
                }
            }
        }
        for (index, channel) in config.channels.iter().enumerate() {
            let at = index.to_string();
            for (key, text) in std::iter::once(("address", &channel.address))
                .chain(channel.aliases.iter().map(|alias| ("aliases", alias)))
            {
                let used = Address::parse(text).ok().and_then(|address| people.get(&address.key()).copied());
                if let Some(who) = used {
                    let wrong = format!("\"{text}\" is listed as {who} in [people]");
                    self.wrong(&["channel", &at, key], &wrong, "an address has one use only: take out one of the two");
                }
            }
        }
    }

    /// Each source by itself, and that no mailbox is pulled by two channels.
    pub(super) fn sources(&mut self, config: &Config) {
        let mut owners: HashMap<String, String> = HashMap::new();
        for (index, channel) in config.channels.iter().enumerate() {
            let Some(source) = &channel.source else { continue };
            let at = index.to_string();
            for (key, wrong, advice) in source.faults() {
                self.wrong(&["channel", &at, "source", key], &wrong, &advice);
            }
            let user = source.user.as_deref().unwrap_or(&channel.address).to_lowercase();
            let mailbox = format!("{user} at {}, folder {}", source.host().unwrap_or_default(), source.folder);
            if let Some(other) = owners.insert(mailbox.clone(), channel.address.clone()) {
                let wrong = format!("the mailbox of {mailbox} is pulled by {other} already");
                self.wrong(&["channel", &at, "source"], &wrong, "a mailbox belongs to one channel");
            }
        }
    }
}
