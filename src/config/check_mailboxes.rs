//! What can be wrong with mailboxes and people across sections.

use std::collections::HashMap;

use super::Config;
use super::check::Checker;
use super::read::meant;
use crate::accounts::{self, Flow, Setup};
use crate::mail::Address;
use crate::pull::config::SourceConfig;

impl Checker<'_> {
    /// An address that is a person's is no support address (R3).
    pub(super) fn people(&mut self, config: &Config) {
        let lists =
            [("agents", "an agent", &config.people.agents), ("end_users", "an end user", &config.people.end_users)];
        let mut people: HashMap<String, &str> = HashMap::new();
        for (key, who, list) in lists {
            for text in list {
                match Address::parse(text) {
                    Ok(address) => drop(people.insert(address.lookup(), who)),
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
                let used = Address::parse(text).ok().and_then(|address| people.get(&address.lookup()).copied());
                if let Some(who) = used {
                    let wrong = format!("\"{text}\" is listed as {who} in [people]");
                    self.wrong(&["channel", &at, key], &wrong, "an address has one use only: take out one of the two");
                }
            }
        }
    }

    /// The section of accounts, and each provider by itself.
    pub(super) fn providers(&mut self, config: &Config) {
        for (key, wrong, advice) in config.accounts.faults() {
            self.wrong(&["accounts", key], &wrong, &advice);
        }
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, provider) in config.providers.iter().enumerate() {
            let at = index.to_string();
            for (key, wrong, advice) in provider.faults() {
                self.wrong(&["oauth", &at, key], &wrong, &advice);
            }
            if names.insert(&provider.name, index).is_some() {
                let wrong = format!("\"{}\" is there twice", provider.name);
                self.wrong(&["oauth", &at, "name"], &wrong, "rename one of them");
            }
            let public = provider.redirect_url.as_deref().and_then(|text| url::Url::parse(text).ok());
            if public.is_some_and(|url| !accounts::is_loopback(&url)) && config.accounts.redirect_listen.is_none() {
                let advice =
                    "add redirect_listen = \"127.0.0.1:9726\" to [accounts] and lead it there, or leave it out";
                self.wrong(&["oauth", &at, "redirect_url"], "it is public, and nobody listens for it", advice);
            }
        }
    }

    /// Whether a source's provider is there, and can do what the source asks.
    fn source_provider(&mut self, config: &Config, at: &str, source: &SourceConfig) {
        let Some(name) = &source.oauth else { return };
        let Some(provider) = config.providers.iter().find(|provider| &provider.name == name) else {
            let known = config.providers.iter().map(|provider| provider.name.as_str());
            let advice = meant(name, known, "add an [[oauth]] with this name");
            self.wrong(&["channel", at, "source", "oauth"], &format!("there is no [[oauth]] \"{name}\""), &advice);
            return;
        };
        let proves = provider.client_secret_file.is_some()
            || provider.certificate_file.is_some()
            || provider.service_account_file.is_some();
        if source.flow == Some(Flow::App) && !proves {
            let wrong = format!("\"app\" needs an application that can prove who it is, and \"{name}\" cannot");
            let advice = "give it a client_secret_file, a certificate_file or a service_account_file";
            self.wrong(&["channel", at, "source", "flow"], &wrong, advice);
        }
        if provider.service_account_file.is_some() && !matches!(source.flow, None | Some(Flow::App)) {
            let wrong = format!("\"{name}\" is a service account, which nobody consents to");
            self.wrong(&["channel", at, "source", "flow"], &wrong, "write \"app\", or leave it out");
        }
    }

    /// That a mailbox is not a person's or another channel's (R3). The channel's own address is looked at elsewhere.
    fn source_use(&mut self, setup: &Setup, at: &str, address: &str) {
        let Some(own) = Address::parse(address).ok() else { return };
        let account = setup.accounts.iter().find(|account| account.channel == own);
        if let Some((taken, by)) = account.and_then(|account| setup.taken(account)).filter(|(taken, _)| *taken != own) {
            let advice = "an address has one use only: take out one of the two";
            self.wrong(&["channel", at, "source", "user"], &format!("\"{taken}\" is {by}"), advice);
        }
    }

    /// Each source by itself, and that no mailbox is pulled by two channels.
    pub(super) fn sources(&mut self, config: &Config) {
        let mut owners: HashMap<String, String> = HashMap::new();
        let setup = config.setup();
        for (index, channel) in config.channels.iter().enumerate() {
            let Some(source) = &channel.source else { continue };
            let at = index.to_string();
            for (key, wrong, advice) in source.faults() {
                self.wrong(&["channel", &at, "source", key], &wrong, &advice);
            }
            self.source_provider(config, &at, source);
            self.source_use(&setup, &at, &channel.address);
            let user = source.user.as_deref().unwrap_or(&channel.address);
            let mailbox = source.mailbox(user);
            if let Some(other) = owners.insert(mailbox.clone(), channel.address.clone()) {
                let wrong = format!("the mailbox {mailbox} is pulled by {other} already");
                self.wrong(&["channel", &at, "source"], &wrong, "a mailbox belongs to one channel");
            }
        }
    }
}
