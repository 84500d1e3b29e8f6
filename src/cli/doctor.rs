//! `ticketgate doctor`: what is wrong with the configuration, the data directory, the daemon, and the domains of the
//! support addresses. It changes nothing.

mod files;
mod judge;
mod relays;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::CliError;
use super::args::Reach;
use super::client::Client;
use super::output::{Output, harmless};
use super::table::wrap;
use crate::admin::types::Status;
use crate::clock::Clock;
use crate::config::{Config, DEFAULT_FILE};
use crate::mail::Address;
use crate::net::names::Mx;
use crate::relay::permit::{Looker, OwnKey};
use crate::relay::{GiveWay, Kind, RelayConfig};
use crate::units::{self, rough_bytes, show_bytes};
use judge::{Finding, Home, Level, judge, takeover};

pub(super) fn doctor(reach: &Reach, out: &mut Output) -> Result<(), CliError> {
    let file =
        reach.config.clone().or_else(|| Some(DEFAULT_FILE.into()).filter(|file: &std::path::PathBuf| file.exists()));
    let mut findings = Vec::new();
    match Config::load(file.as_deref()) {
        Ok(config) => {
            findings.push(good("configuration", "configuration", "the configuration has no fault".into()));
            findings.extend(data(&config));
            findings.extend(files::secrets(&config));
            findings.extend(files::certificate(&config, Clock::system().now()));
            findings.extend(daemon(reach));
            findings.extend(domains(&config)?);
        }
        Err(faults) => {
            let fault = |fault: &crate::config::Fault| {
                let line = fault.line.map_or(String::new(), |line| format!("line {line}, "));
                let (said, advice) = fault.said.split_once("; ").unwrap_or((&fault.said, "correct it"));
                wrong("configuration", "configuration", format!("{line}{}: {said}", fault.field), advice)
            };
            findings.extend(faults.all().iter().map(fault));
        }
    }
    let trouble = findings.iter().any(|finding| finding.level == Level::Wrong);
    print(&findings, out)?;
    if trouble { Err(CliError::Told) } else { Ok(()) }
}

fn print(findings: &[Finding], out: &mut Output) -> Result<(), CliError> {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (wrong, warnings) = (count(Level::Wrong), count(Level::Warning));
    if out.wants_json() {
        return out.json(&json!({ "findings": findings, "wrong": wrong, "warnings": warnings }));
    }
    for Finding { level, about, check, said, action } in findings {
        let word = match level {
            Level::Good => "good",
            Level::NotKnown => "not known",
            Level::Warning => "warning",
            Level::Wrong => "WRONG",
        };
        let action = action.as_ref().map_or(String::new(), |action| format!("; {action}"));
        let place = if about == check { about.clone() } else { format!("{about} {check}") };
        for line in wrap(&harmless(&format!("{word}: {place}: {said}{action}"), false), out.width()) {
            out.line(&line)?;
        }
    }
    let warnings = units::count(warnings, "warning", "warnings");
    out.line(&format!("{wrong} wrong, {warnings}, {} not known", count(Level::NotKnown)))
}

fn good(about: &str, check: &'static str, said: String) -> Finding {
    Finding { level: Level::Good, about: about.into(), check, said, action: None }
}

fn wrong(about: &str, check: &'static str, said: String, action: &str) -> Finding {
    Finding { level: Level::Wrong, about: about.into(), check, said, action: Some(action.into()) }
}

/// The data directory: whose it is, who may look into it, how much room there is.
fn data(config: &Config) -> Vec<Finding> {
    let dir: &Path = &config.server.data_dir;
    let name = dir.display();
    let facts = match std::fs::metadata(dir) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let said = format!("{name} does not exist; the daemon makes it when it starts");
            let action = Some("start the daemon, or correct server.data_dir".into());
            return vec![Finding { level: Level::Warning, about: "data".into(), check: "directory", said, action }];
        }
        Err(error) => {
            return vec![wrong("data", "directory", format!("{name}: {error}"), "run this as the daemon's user")];
        }
    };
    let mut findings = Vec::new();
    let me = rustix::process::geteuid();
    if !facts.is_dir() {
        findings.push(wrong("data", "directory", format!("{name} is no directory"), "correct server.data_dir"));
    } else if !me.is_root() && facts.uid() != me.as_raw() {
        let said = format!("{name} belongs to user {}, and you are {}", facts.uid(), me.as_raw());
        findings.push(wrong("data", "owner", said, "run this as the daemon's user, or give it the directory"));
    } else {
        findings.push(good("data", "owner", format!("{name} belongs to user {}", facts.uid())));
    }
    let mode = facts.mode() & 0o777;
    if mode & 0o027 == 0 {
        findings.push(good("data", "mode", format!("{name} has mode {mode:04o}")));
    } else {
        // Whoever may write there can change mail, and not only read it.
        let level = if mode & 0o022 == 0 { Level::Warning } else { Level::Wrong };
        let said = format!("{name} has mode {mode:04o}: others than the daemon can get at the mail");
        let action = Some(format!("chmod 0750 {name}"));
        findings.push(Finding { level, about: "data".into(), check: "mode", said, action });
    }
    if let Ok(stat) = rustix::fs::statvfs(dir) {
        let (free, least) = (stat.f_bavail.saturating_mul(stat.f_frsize), config.store.low_water_bytes);
        let said = format!("{name} has {} free", rough_bytes(free));
        findings.push(if free < least {
            let said = format!("{said}; under {} no mail is accepted", show_bytes(least));
            wrong("data", "space", said, "make room on that file system")
        } else {
            good("data", "space", said)
        });
    }
    findings
}

/// Whether the daemon answers, and what it finds wrong itself.
fn daemon(reach: &Reach) -> Vec<Finding> {
    let asked = Client::reach(reach).and_then(|client| Ok((client.get::<Status>("/v1/status")?, client)));
    let (status, client) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            let said = error.to_string();
            let (said, action) = said.rsplit_once("; ").unwrap_or((&said, "look into its log"));
            return vec![wrong("daemon", "socket", said.to_owned(), action)];
        }
    };
    let mut findings = vec![good("daemon", "socket", format!("ticketgate {} answers", status.version))];
    let problem = |problem: crate::admin::types::ProblemJson| {
        wrong("daemon", "problem", format!("{}: {}", problem.code, problem.said), &problem.action)
    };
    let told_here = [relays::TOLD_HERE, files::TOLD_HERE].concat();
    let problems = status.problems.into_iter().filter(|problem| !told_here.contains(&problem.code.as_str()));
    findings.extend(problems.map(problem));
    findings.extend(relays::relays(&client));
    findings
}

/// Whether each channel's domain authorises the relays that its mail leaves by.
fn domains(config: &Config) -> Result<Vec<Finding>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(error, "try again with fewer programs running"))?;
    runtime.block_on(async {
        let looker = match looker(config) {
            Ok(looker) => looker,
            Err(said) => return Ok(vec![wrong("dns", "dns", said, "name servers in [verify.dns]")]),
        };
        let mut findings = Vec::new();
        for channel in &config.channels {
            let Ok(address) = Address::parse(&channel.address) else { continue };
            let mut relays: Vec<&RelayConfig> = Vec::new();
            for name in [&channel.relay, &channel.attachments_relay] {
                let own = name.as_ref().and_then(|name| config.relays.iter().find(|relay| relay.name == *name));
                // Without a relay of its own for attachments a channel has one.
                let relay = own.or_else(|| relays.is_empty().then(|| config.default_relay()).flatten());
                if let Some(relay) = relay.filter(|relay| !relays.iter().any(|known| known.name == relay.name)) {
                    relays.push(relay);
                }
            }
            for relay in &relays {
                findings.extend(by_relay(&looker, &address, relay).await);
            }
            findings.extend(when_it_gives_way(&looker, config, &address, &relays).await);
        }
        Ok(findings)
    })
}

fn looker(config: &Config) -> Result<Looker, String> {
    let keys = config.dkim.iter().map(OwnKey::of).collect();
    Looker::new(&config.verify, &config.server.hostname, keys)
}

/// What is found about a channel and a relay of its own.
async fn by_relay(looker: &Looker, channel: &Address, relay: &RelayConfig) -> Vec<Finding> {
    if relay.kind == Kind::Maildir {
        let said = format!("relay \"{}\" is a Maildir: nothing of this channel leaves", relay.name);
        let (about, action) = (channel.to_string(), Some("name another [[relay]] once mail is to reach people".into()));
        return vec![Finding { level: Level::Warning, about, check: "relay", said, action }];
    }
    let looked = looker.look(channel.domain(), Some(channel), relay).await;
    let home = match looker.names().mx(&looked.domain).await {
        Ok(Mx::Null) => Home::TakesNone,
        Ok(Mx::NoDomain) => Home::NoDomain,
        Ok(Mx::Hosts { .. } | Mx::Implicit { .. }) => Home::Takes,
        Err(error) => Home::NotKnown(error.to_string()),
    };
    judge(&channel.to_string(), &looked, &home)
}

/// Whether the default relay may take over near the end of a quota, where a relay of the channel gives way to it.
async fn when_it_gives_way(
    looker: &Looker,
    config: &Config,
    channel: &Address,
    relays: &[&RelayConfig],
) -> Option<Finding> {
    // As the outbox does it, only one that is named takes over.
    let other = config.outbox.default_relay.as_ref().and(config.default_relay())?;
    let gives_way = |relay: &&&RelayConfig| relay.name != other.name && relay.quota().is_some_and(|it| it.gives_way());
    let rules = relays.iter().find(gives_way)?.quota()?;
    let always = rules.give_way == GiveWay::Always;
    if other.kind == Kind::Maildir {
        let about = channel.to_string();
        let said = format!("the default relay \"{}\" is a Maildir: near the end of a quota mail waits", other.name);
        return (!always).then(|| Finding {
            level: Level::Warning,
            about,
            check: "takeover",
            said,
            action: Some("name another outbox.default_relay, or write give_way = \"never\"".into()),
        });
    }
    Some(takeover(&channel.to_string(), &looker.look(channel.domain(), Some(channel), other).await, always))
}

#[cfg(test)]
use crate::net::stub;
#[cfg(test)]
mod tests;
