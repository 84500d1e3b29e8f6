//! `ticketgate status` and `ticketgate channels`.

use super::CliError;
use super::client::Client;
use super::output::Output;
use super::table::{Table, wrap};
use super::tickets::{print, short_time};
use crate::admin::types::{ChannelList, OutboxStatus, Status};
use crate::units::{count, rough_bytes, show_bytes, whole_seconds};

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
            let mails = count(status.spool.mails, "mail", "mails");
            format!("{mails}, {}, the oldest of {}", rough_bytes(status.spool.bytes), whole_seconds(oldest))
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
                "log {} in {}, index {}",
                rough_bytes(store.log_bytes),
                count(store.segments, "segment", "segments"),
                rough_bytes(store.index_bytes)
            ),
        ),
        ("Disk", format!("{} free", rough_bytes(store.free_bytes))),
        ("Last flush", store.last_flush.as_deref().map_or_else(|| "none yet".into(), whole_seconds)),
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
    if outbox.mails == 0 {
        return "empty".into();
    }
    let mut said = format!("{}, {} due", count(outbox.mails, "mail", "mails"), outbox.due);
    if outbox.running > 0 {
        said.push_str(&format!(", {} under way", outbox.running));
    }
    // Mail that is on its way is none of those that wait.
    if let Some(oldest) = &outbox.oldest_created_at {
        said.push_str(&format!(", the oldest of {}", short_time(oldest)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_is_empty_only_without_mail() {
        let stamp = || Some("2026-11-22T10:00:00Z".to_owned());
        let table = [
            (0, 0, 0, None, "empty"),
            (1, 0, 1, None, "1 mail, 0 due, 1 under way"),
            (3, 2, 0, stamp(), "3 mails, 2 due, the oldest of 2026-11-22 10:00"),
        ];
        for (mails, due, running, oldest_created_at, want) in table {
            let status = OutboxStatus { mails, due, running, oldest_created_at, ..OutboxStatus::default() };
            assert_eq!(outbox(&status), want);
        }
    }
}
