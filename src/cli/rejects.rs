//! `ticketgate rejects`, `explain`, `raw` and `erase`: single mails, and what was decided about them.

use serde_json::json;

use super::CliError;
use super::client::{Client, More, author, escape};
use super::output::Output;
use super::table::Table;
use super::tickets::{field, print, short_time, show_delivery};
use crate::admin::types::{Done, Explanation, RejectPage, RowJson};
use crate::units::whole_seconds;

/// Rejects that are fetched at once.
const PAGE: usize = 1_000;

pub(super) fn list(client: &Client, out: &mut Output, limit: u64) -> Result<(), CliError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut latest: Vec<RowJson> = Vec::new();
    let mut after = 0;
    loop {
        let page: RejectPage = client.get(&format!("/v1/rejects?after={after}&limit={PAGE}"))?;
        latest.extend(page.rejects);
        latest.drain(..latest.len().saturating_sub(limit));
        if page.next == after {
            break;
        }
        after = page.next;
    }
    latest.reverse();
    if out.wants_json() {
        return out.json(&RejectPage { rejects: latest, next: after });
    }
    if latest.is_empty() {
        return out.line("nothing was rejected");
    }
    let mut table = Table::new(&["ENTRY", "RECEIVED", "FILING", "REASON", "FROM", "SUBJECT"]);
    for row in latest {
        let reason = row.reason.unwrap_or_default();
        table.row(vec![row.id, short_time(&row.received_at), row.filing, reason, row.from, row.subject]);
    }
    print(out, &table)
}

pub(super) fn show(client: &Client, out: &mut Output, entry: &str) -> Result<(), CliError> {
    explain(client, out, entry)
}

pub(super) fn retry(client: &Client, out: &mut Output, entry: &str) -> Result<(), CliError> {
    let path = format!("/v1/entries/{}/retry", escape(entry));
    let row: RowJson = client.post(&path, &json!({ "author": author() }))?;
    if out.wants_json() {
        return out.json(&row);
    }
    out.line(&format!(
        "entry {} will be filed again; \"ticketgate explain {}\" tells what became of it",
        row.id, row.id
    ))
}

pub(super) fn explain(client: &Client, out: &mut Output, message_id: &str) -> Result<(), CliError> {
    let explanation: Explanation = client.get(&format!("/v1/explain?message_id={}", escape(message_id)))?;
    if out.wants_json() {
        return out.json(&explanation);
    }
    for (index, row) in explanation.entries.iter().enumerate() {
        if index > 0 {
            out.line("")?;
        }
        tell(out, row)?;
    }
    Ok(())
}

pub(super) fn raw(client: &Client, out: &mut Output, entry: &str) -> Result<(), CliError> {
    client.stream(&format!("/v1/entries/{}/raw", escape(entry)), |bytes| out.bytes(bytes).map(|()| More::Yes))?;
    out.flush()
}

pub(super) fn erase(client: &Client, out: &mut Output, entry: &str, yes: bool) -> Result<(), CliError> {
    if !yes {
        let what = format!("the original bytes of entry {entry} would be gone for good");
        return Err(CliError::new(what, "add --yes to do it"));
    }
    let path = format!("/v1/entries/{}/erase", escape(entry));
    let done: Done = client.post(&path, &json!({ "author": author() }))?;
    if out.wants_json() {
        out.json(&done)
    } else {
        out.line(&format!("the original bytes of entry {entry} are erased"))
    }
}

fn tell(out: &mut Output, row: &RowJson) -> Result<(), CliError> {
    // The word of the feed for mail of no ticket that was handed in; a server may have refused it all the same.
    let filing = if row.filing == "relayed" { "mail to be sent, of no ticket" } else { &row.filing };
    let became = match (&row.reason, row.ticket) {
        (Some(reason), Some(ticket)) => format!("{filing} ({reason}), ticket {ticket}"),
        (Some(reason), None) => format!("{filing} ({reason})"),
        (None, Some(ticket)) => format!("{filing}, ticket {ticket}"),
        (None, None) => filing.to_owned(),
    };
    let message_id = row.message_id.as_ref().map_or_else(|| "none".to_owned(), |id| format!("<{id}>"));
    let head = [
        ("Entry", format!("{} (seq {})", row.id, row.seq)),
        ("Message-ID", message_id),
        ("From", row.from.clone()),
        ("Subject", row.subject.clone()),
        ("Channel", row.channel.clone()),
        ("Recipients", row.rcpt_to.join(", ")),
        ("Received", whole_seconds(&row.received_at)),
        ("Became", became),
    ];
    let mailbox = row.mailbox.as_ref().map(|mailbox| {
        let label = if mailbox.label == "none" { "no label" } else { &format!("label {}", mailbox.label) };
        format!("uid {} of UIDVALIDITY {}: {}, {label}", mailbox.uid, mailbox.validity, mailbox.state)
    });
    for (name, value) in head.into_iter().chain(mailbox.map(|told| ("Mailbox", told))) {
        field(out, 12, name, &value)?;
    }
    if let Some(told) = &row.waits_for {
        field(out, 12, "Waits for", told)?;
    }
    out.line("Decisions")?;
    for step in &row.trace {
        field(out, 14, &format!("  {}", step.step), &step.said)?;
    }
    if !row.delivery.is_empty() {
        out.line("Delivery")?;
    }
    show_delivery(out, &row.delivery, &row.id)
}
