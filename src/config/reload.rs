//! What a reload changes while the daemon runs, and what only a restart changes.

use super::{Config, Server};
use crate::smtp::submission;
use crate::{accounts, smtp};

/// The parts of the configuration that differ between two files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Take effect now.
    pub live: Vec<&'static str>,
    /// Take effect at the next start; until then the old values hold.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// Whether the files say the same.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

/// The SMTP section without what only a restart changes: open sockets stay as they are.
fn without_listeners(config: &smtp::Config) -> smtp::Config {
    smtp::Config { listeners: Vec::new(), ..config.clone() }
}

/// The same of the submission door.
fn without_doors(config: &submission::Config) -> submission::Config {
    submission::Config { listeners: Vec::new(), ..config.clone() }
}

/// The section of accounts without what only a restart changes.
fn without_place(config: &accounts::Config) -> accounts::Config {
    accounts::Config { redirect_listen: None, ..config.clone() }
}

/// Compares the configuration in use with one that was just read. Certificates are read anew at every reload, since
/// their files change and their paths do not.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    let names = |server: &Server| (server.intake_addresses.clone(), server.default_channel.clone());
    let place = |server: &Server| (server.hostname.clone(), server.data_dir.clone());
    let live = [
        ("channel", old.channels != new.channels),
        ("oauth", old.providers != new.providers),
        ("accounts", without_place(&old.accounts) != without_place(&new.accounts)),
        ("people", old.people != new.people),
        ("relay", old.relays != new.relays),
        ("dkim", old.dkim != new.dkim),
        ("replies", old.replies != new.replies),
        ("reports", old.reports != new.reports),
        ("brand", old.brand != new.brand),
        ("templates", old.templates != new.templates),
        ("queue", old.queues != new.queues),
        ("server.intake_addresses, server.default_channel", names(&old.server) != names(&new.server)),
        ("smtp", without_listeners(&old.smtp) != without_listeners(&new.smtp)),
        ("submission", without_doors(&old.submission) != without_doors(&new.submission)),
        ("tls", old.tls != new.tls),
        ("intake", old.intake != new.intake),
        ("outbox", old.outbox != new.outbox),
        ("loops", old.loops != new.loops),
        ("log.level", old.log.level != new.log.level),
    ];
    let restart = [
        ("server.hostname, server.data_dir", place(&old.server) != place(&new.server)),
        ("log.format", old.log.format != new.log.format),
        ("store", old.store != new.store),
        ("smtp.listeners", old.smtp.listeners != new.smtp.listeners),
        ("submission.listeners", old.submission.listeners != new.submission.listeners),
        ("filing", old.filing != new.filing),
        ("accounts.redirect_listen", old.accounts.redirect_listen != new.accounts.redirect_listen),
        ("secrets", old.secrets != new.secrets),
        ("verify", old.verify != new.verify),
        ("admin", old.admin != new.admin),
        ("metrics", old.metrics != new.metrics),
    ];
    changes.live.extend(live.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name));
    changes.restart.extend(restart.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name));
    changes
}
