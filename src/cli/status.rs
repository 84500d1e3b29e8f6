//! `ticketgate status` and `ticketgate channels`.

use super::CliError;
use super::client::Client;
use super::output::{Output, harmless};
use super::table::{Table, wrap};
use super::tickets::{print, short_time};
use crate::admin::types::{ChannelList, OutboxStatus, Status};
use crate::units::show_bytes;

pub(super) fn status(client: &Client, out: &mut Output) -> Result<(), CliError> {
    let status: Status = client.get("/v1/status")?;
    if out.wants_json() {
        return out.json(&status);
    }
    let ready = if status.ready { "accepts mail" } else { "does not accept mail" };
    let started = short_time(&status.started_at);
    out.line(&format!("ticketgate {} on {}: {ready}", status.version, status.hostname))?;
    let listening: Vec<String> = status.listeners.iter().map(|l| format!("{} {}", l.name, l.address)).collect();
    let store = &status.store;
    let waiting = match &status.spool.oldest_received_at {
        Some(oldest) => format!("{} mails, {}, the oldest of {oldest}", status.spool.mails, size(status.spool.bytes)),
        None => "empty".into(),
    };
    let lines = [
        ("Process", format!("{}, since {started}", status.pid)),
        ("Listens", if listening.is_empty() { "nowhere".into() } else { listening.join(", ") }),
        ("Channels", status.channels.to_string()),
        ("Spool", waiting),
        ("Outbox", outbox(&status.outbox)),
        ("Tickets", format!("{}, feed at {}", store.tickets, store.seq)),
        (
            "Store",
            format!("log {} in {} segments, index {}", size(store.log_bytes), store.segments, size(store.index_bytes)),
        ),
        ("Disk", format!("{} free", size(store.free_bytes))),
        ("Last flush", store.last_flush.clone().unwrap_or_else(|| "none yet".into())),
    ];
    for (name, value) in lines {
        out.line(&format!("{name:<11} {value}"))?;
    }
    for problem in &status.problems {
        for line in wrap(&format!("Problem: {}; {}", problem.said, problem.action), out.width()) {
            out.line(&line)?;
        }
    }
    Ok(())
}

pub(super) fn channels(client: &Client, out: &mut Output) -> Result<(), CliError> {
    let list: ChannelList = client.get("/v1/channels")?;
    if out.wants_json() {
        return out.json(&list);
    }
    let mut table = Table::new(&["ADDRESS", "NAME", "QUEUE", "POLICY", "LIMIT", "MAILBOX", "ALIASES"]);
    for channel in list.channels {
        let default = if channel.default { " *" } else { "" };
        table.row(vec![
            format!("{}{default}", channel.address),
            channel.name,
            channel.queue,
            channel.auth_policy,
            show_bytes(channel.max_mail_bytes),
            channel.connection.map_or_else(|| "-".into(), |c| c.problem.map_or(c.state, |problem| problem.code)),
            channel.aliases.join(", "),
        ]);
    }
    print(out, &table)?;
    out.line("* takes mail for the postmaster as well")
}

fn outbox(outbox: &OutboxStatus) -> String {
    match &outbox.oldest_created_at {
        Some(oldest) => format!("{} mails, {} due, the oldest of {}", outbox.mails, outbox.due, short_time(oldest)),
        None => "empty".into(),
    }
}

/// One channel, with what its mailbox is logged in to with.
pub(super) fn channel(client: &Client, out: &mut Output, address: &str) -> Result<(), CliError> {
    let list: ChannelList = client.get("/v1/channels")?;
    let found = list.channels.into_iter().find(|channel| channel.address.eq_ignore_ascii_case(address));
    let Some(channel) = found else {
        return Err(CliError::new(format!("there is no channel {address}"), "see `ticketgate channels list`"));
    };
    if out.wants_json() {
        return out.json(&channel);
    }
    let mut lines = vec![("Address", channel.address), ("Queue", channel.queue)];
    let Some(connection) = channel.connection else {
        lines.push(("Mailbox", "none: its mail is forwarded".into()));
        return details(out, lines);
    };
    lines.push(("Mailbox", connection.account));
    lines.push(("State", format!("{}, since {}", connection.state, short_time(&connection.since))));
    if let Some(at) = &connection.last_look {
        lines.push(("Last look", short_time(at)));
    }
    if let Some(problem) = connection.problem {
        lines.push(("Problem", format!("{}: {}; {}", problem.code, problem.said, problem.action)));
    }
    lines.extend(connection.warnings.into_iter().map(|warning| ("Warning", warning)));
    if let Some(credential) = connection.credential {
        let by = [Some(credential.kind), credential.provider, credential.flow];
        lines.push(("Credential", by.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        let optional = [
            ("Granted by", credential.account),
            ("Scopes", Some(credential.scopes.join(" ")).filter(|scopes| !scopes.is_empty())),
            ("Token until", credential.access_expires_at.map(|at| short_time(&at))),
            ("Renewed at", credential.next_refresh_at.map(|at| short_time(&at))),
            ("Lasts until", credential.refresh_expires_at.map(|at| short_time(&at))),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let warnings = credential.warnings.into_iter();
        lines.extend(warnings.map(|warning| ("Warning", format!("{}; {}", warning.said, warning.action))));
    }
    details(out, lines)
}

fn details(out: &mut Output, lines: Vec<(&str, String)>) -> Result<(), CliError> {
    lines.into_iter().try_for_each(|(name, value)| out.line(&format!("{name:<11} {}", harmless(&value, false))))
}

/// A size for people, with three digits.
fn size(bytes: u64) -> String {
    let mut number = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{number:.1} {unit}") };
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}
