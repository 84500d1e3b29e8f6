//! `ticketgate tickets`.

use std::io::Read;

use serde_json::json;

use super::CliError;
use super::args::TicketFilter;
use super::client::{Client, author, escape};
use super::output::{Output, harmless};
use super::table::{Table, wrap};
use crate::admin::entry::EntryJson;
use crate::admin::outbox::DeliveryJson;
use crate::admin::types::{Person, TicketDetail, TicketJson, TicketList};
use crate::units::count;

pub(super) fn list(client: &Client, out: &mut Output, filter: &TicketFilter) -> Result<(), CliError> {
    let mut path = format!("/v1/tickets?limit={}", filter.limit);
    for (name, value) in [("state", &filter.state), ("queue", &filter.queue), ("channel", &filter.channel)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    if let Some(before) = filter.before {
        path.push_str(&format!("&before={before}"));
    }
    let list: TicketList = client.get(&path)?;
    if out.wants_json() {
        return out.json(&list);
    }
    if list.tickets.is_empty() {
        return out.line("no tickets");
    }
    let mut table = Table::new(&["NUMBER", "STATE", "QUEUE", "REQUESTER", "UPDATED", "TITLE"]);
    for ticket in &list.tickets {
        let review = if ticket.needs_review { "?" } else { "" };
        table.row(vec![
            ticket.number.to_string(),
            format!("{}{review}", ticket.state),
            ticket.queue.clone(),
            ticket.requester.address.clone(),
            short_time(&ticket.updated_at),
            ticket.title.clone(),
        ]);
    }
    print(out, &table)?;
    match list.before {
        Some(before) => out.line(&format!("more: --before {before}")),
        None => Ok(()),
    }
}

pub(super) fn show(client: &Client, out: &mut Output, number: u64) -> Result<(), CliError> {
    let detail: TicketDetail = client.get(&format!("/v1/tickets/{number}"))?;
    if out.wants_json() {
        return out.json(&detail);
    }
    show_ticket(out, &detail)
}

/// A ticket with its entries, for people.
pub(super) fn show_ticket(out: &mut Output, detail: &TicketDetail) -> Result<(), CliError> {
    let ticket = &detail.ticket;
    out.line(&harmless(&format!("Ticket {}: {}", ticket.number, ticket.title), false))?;
    let mut state = ticket.state.clone();
    if let Some(into) = ticket.merged_into {
        state.push_str(&format!(" into {into}"));
    }
    out.line(&format!(
        "{state}, queue {}, channel {}, opened {}",
        ticket.queue,
        ticket.channel,
        short_time(&ticket.opened_at)
    ))?;
    out.line(&harmless(&format!("Requester: {}", person(&ticket.requester)), false))?;
    if ticket.needs_review {
        out.line("Needs review: see \"ticketgate explain\" for why")?;
    }
    for entry in &detail.entries {
        show_entry(out, entry)?;
    }
    Ok(())
}

pub(super) fn note(client: &Client, out: &mut Output, number: u64, text: &str) -> Result<(), CliError> {
    let text = if text == "-" { from_standard_input()? } else { text.to_owned() };
    let body = json!({ "text": text, "author": author() });
    let entry: EntryJson = client.post(&format!("/v1/tickets/{number}/notes"), &body)?;
    if out.wants_json() { out.json(&entry) } else { out.line(&format!("noted on ticket {number}")) }
}

/// Closes or opens a ticket.
pub(super) fn change(client: &Client, out: &mut Output, number: u64, verb: &str) -> Result<(), CliError> {
    let ticket: TicketJson = client.post(&format!("/v1/tickets/{number}/{verb}"), &json!({ "author": author() }))?;
    if out.wants_json() { out.json(&ticket) } else { out.line(&format!("ticket {number} is {} now", ticket.state)) }
}

pub(super) fn merge(client: &Client, out: &mut Output, number: u64, into: u64) -> Result<(), CliError> {
    let body = json!({ "into": into, "author": author() });
    let ticket: TicketJson = client.post(&format!("/v1/tickets/{number}/merge"), &body)?;
    if out.wants_json() {
        return out.json(&ticket);
    }
    let entries = count(ticket.entry_count, "entry", "entries");
    out.line(&format!("ticket {number} is merged into {}, which has {entries} now", ticket.number))
}

fn show_entry(out: &mut Output, entry: &EntryJson) -> Result<(), CliError> {
    let who = match (&entry.author, &entry.from) {
        (Some(author), _) => author.clone(),
        (None, Some(from)) => person(from),
        (None, None) => "unknown sender".into(),
    };
    let review = if entry.needs_review { ", needs review" } else { "" };
    out.line("")?;
    let head = format!("── {} {} ({}{review}, {})", short_time(&entry.received_at), who, entry.filing, entry.id);
    out.line(&harmless(&head, false))?;
    let shown = if entry.new_text.trim().is_empty() { &entry.text } else { &entry.new_text };
    for line in wrap(harmless(shown, true).trim_end(), out.width().saturating_sub(3)) {
        out.line(format!("   {line}").trim_end())?;
    }
    for attachment in &entry.attachments {
        let name = attachment.name.as_deref().unwrap_or("without a name");
        let size = count(attachment.size, "byte", "bytes");
        let line = format!("   [{}] {name}, {}, {size}", attachment.n, attachment.content_type);
        out.line(&harmless(&line, false))?;
    }
    show_delivery(out, &entry.delivery, &entry.id)
}

/// What became of a mail that left, for each recipient.
pub(super) fn show_delivery(out: &mut Output, all: &[DeliveryJson], mail: &str) -> Result<(), CliError> {
    for to in all.iter().take(SHOWN_RECIPIENTS) {
        for line in wrap(&harmless(&delivery(to), false), out.width().saturating_sub(3)) {
            out.line(&format!("   {line}"))?;
        }
    }
    match all.len().saturating_sub(SHOWN_RECIPIENTS) {
        0 => Ok(()),
        more => out.line(&format!("   and {more} more: ticketgate outbox show {mail}")),
    }
}

/// Recipients of one mail whose fate a ticket shows.
const SHOWN_RECIPIENTS: usize = 10;

/// What became of a mail for one recipient; what the server said only where something is wrong.
fn delivery(to: &DeliveryJson) -> String {
    let reported = to.reported.as_ref().map_or_else(String::new, |word| format!(", reported {word}"));
    let arrived = to.state == "relayed" && !matches!(to.reported.as_deref(), Some("failed" | "delayed" | "complaint"));
    let said = to.reply.as_ref().filter(|_| !arrived).map_or_else(String::new, |reply| format!(": {reply}"));
    format!("to {}: {}{reported}{said}", to.address, to.state)
}

fn from_standard_input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(1 << 20).read_to_string(&mut text);
    read.map_err(|error| CliError::new(format!("standard input cannot be read ({error})"), "give UTF-8 text"))?;
    Ok(text)
}

pub(super) fn person(person: &Person) -> String {
    if person.name.is_empty() { person.address.clone() } else { format!("{} <{}>", person.name, person.address) }
}

/// Date and time to the minute, which is enough for a list: `2026-11-22 10:00`.
pub(super) fn short_time(stamp: &str) -> String {
    stamp.get(..16).map_or_else(|| stamp.to_owned(), |minute| minute.replace('T', " "))
}

/// Prints a name and, beside it, what it is, wrapped; names take `names` columns.
pub(super) fn field(out: &mut Output, names: usize, name: &str, value: &str) -> Result<(), CliError> {
    let mut lines = wrap(&harmless(value, false), out.width().saturating_sub(names));
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines.iter().enumerate().try_for_each(|(index, line)| {
        let name = if index == 0 { name } else { "" };
        out.line(format!("{name:<width$} {line}", width = names.saturating_sub(1)).trim_end())
    })
}

/// Prints a table, in the width of the terminal where there is one.
pub(super) fn print(out: &mut Output, table: &Table) -> Result<(), CliError> {
    table.lines(out.table_width()).iter().try_for_each(|line| out.line(line))
}
