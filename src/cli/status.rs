//! `ticketgate status` and `ticketgate channels`.

use super::CliError;
use super::client::Client;
use super::output::Output;
use super::table::{Table, wrap};
use super::tickets::{print, short_time};
use crate::admin::types::{ChannelList, OutboxStatus, Status};
use crate::units::{rough_bytes, show_bytes};

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
        Some(oldest) => {
            format!("{} mails, {}, the oldest of {oldest}", status.spool.mails, rough_bytes(status.spool.bytes))
        }
        None => "empty".into(),
    };
    let channels = match &status.default_channel {
        Some(default) => format!("{}, the default is {default}", status.channels),
        None => status.channels.to_string(),
    };
    let lines = [
        ("Process", format!("{}, since {started}", status.pid)),
        ("Listens", if listening.is_empty() { "nowhere".into() } else { listening.join(", ") }),
        ("Channels", channels),
        ("Spool", waiting),
        ("Outbox", outbox(&status.outbox)),
        ("Tickets", format!("{}, feed at {}", store.tickets, store.seq)),
        (
            "Store",
            format!(
                "log {} in {} segments, index {}",
                rough_bytes(store.log_bytes),
                store.segments,
                rough_bytes(store.index_bytes)
            ),
        ),
        ("Disk", format!("{} free", rough_bytes(store.free_bytes))),
        ("Last flush", store.last_flush.clone().unwrap_or_else(|| "none yet".into())),
    ];
    for (name, value) in lines {
        out.line(&format!("{name:<11} {value}"))?;
    }
    for (mailbox, told) in status.mailboxes.iter().filter_map(|mailbox| Some((mailbox, mailbox.told()?))) {
        let more = format!("`ticketgate channels show {}` has more", mailbox.channel);
        for line in wrap(&format!("Mailbox {}: {told}; {more}", mailbox.channel), out.width()) {
            out.line(&line)?;
        }
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
