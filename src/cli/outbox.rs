//! `ticketgate outbox`, `loops` and `suppressions`.

use serde_json::{Value, json};

use super::CliError;
use super::args::{LoopCommand, OutboxCommand, OutboxFilter, SuppressionCommand, Which};
use super::client::{Client, author, escape};
use super::output::{Output, harmless};
use super::table::{Table, wrap};
use super::tickets::{field, print, short_time};
use crate::admin::outbox::{BrakeJson, BrakeList, OutboxDone, OutboxJson, OutboxPage, SuppressionList};
use crate::admin::types::Done;
use crate::units::{count, show_bytes, whole_seconds};

pub(super) fn outbox(command: OutboxCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        OutboxCommand::List(filter) => list(client, out, &filter),
        OutboxCommand::Show { mail } => {
            let mail: OutboxJson = client.get(&format!("/v1/outbox/{}", escape(&mail)))?;
            if out.wants_json() { out.json(&mail) } else { tell(out, &mail) }
        }
        OutboxCommand::Retry(which) => order_which(client, out, &which, "retry"),
        OutboxCommand::Hold(which) => order_which(client, out, &which, "hold"),
        OutboxCommand::Release(which) => order_which(client, out, &which, "release"),
        OutboxCommand::Cancel { mail } => order(client, out, &mail, "cancel", json!({})),
        OutboxCommand::Reroute { mail, relay, force } => {
            order(client, out, &mail, "reroute", json!({ "relay": relay, "force": force }))
        }
    }
}

fn list(client: &Client, out: &mut Output, filter: &OutboxFilter) -> Result<(), CliError> {
    let mut path = format!("/v1/outbox?limit={}", filter.limit);
    for (name, value) in [("state", &filter.state), ("channel", &filter.channel), ("class", &filter.class)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    for (name, value) in [("ticket", filter.ticket), ("before", filter.before)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={value}"));
        }
    }
    let page: OutboxPage = client.get(&path)?;
    if out.wants_json() {
        return out.json(&page);
    }
    if page.mails.is_empty() {
        return out.line("the outbox holds no such mail");
    }
    let mut table = Table::new(&["MAIL", "STATE", "TICKET", "CREATED", "NEXT", "TRIES", "TO", "WAITS FOR"]);
    for mail in &page.mails {
        let first = mail.delivery.first().map_or_else(String::new, |to| to.address.clone());
        let more = mail.recipient_count.saturating_sub(1);
        table.row(vec![
            mail.id.clone(),
            mail.state.clone(),
            mail.ticket.map_or_else(|| "-".into(), |ticket| ticket.to_string()),
            day_time(&mail.created_at),
            mail.due.as_deref().map_or_else(|| "-".into(), day_time),
            mail.attempts.to_string(),
            if more > 0 { format!("{first} +{more}") } else { first },
            waits_for(mail).to_owned(),
        ]);
    }
    print(out, &table)?;
    match page.before {
        Some(before) => out.line(&format!("there is more: add --before {before}")),
        None => Ok(()),
    }
}

/// A time without its year, so that a line has room for the reason; `show` tells it whole.
fn day_time(stamp: &str) -> String {
    let time = short_time(stamp);
    time.get(5..).map(str::to_owned).unwrap_or(time)
}

/// What keeps a mail: where the daemon has no reason of its own, what the first recipient's server said.
fn waits_for(mail: &OutboxJson) -> &str {
    if mail.state == "done" {
        return "";
    }
    let ours = mail.waits_for.as_deref().or(mail.why.as_deref());
    let said = || mail.delivery.iter().find(|to| to.next_try.is_some()).and_then(|to| to.reply.as_deref());
    ours.or_else(said).unwrap_or_default()
}

fn order_which(client: &Client, out: &mut Output, which: &Which, order_word: &str) -> Result<(), CliError> {
    if let Some(mail) = &which.mail {
        return order(client, out, mail, order_word, json!({}));
    }
    let mut done = OutboxDone { changed: 0, after: Some(0) };
    while let Some(after) = done.after {
        let body = json!({ "order": order_word, "channel": which.channel, "after": after, "author": author() });
        let page: OutboxDone = client.post("/v1/outbox", &body)?;
        done = OutboxDone { changed: done.changed + page.changed, after: page.after };
    }
    if out.wants_json() {
        return out.json(&done);
    }
    let what = match order_word {
        "hold" => "held",
        "release" => "released",
        _ => "tried now",
    };
    out.line(&format!("{} {what}", count(done.changed, "mail is", "mails are")))
}

fn order(client: &Client, out: &mut Output, mail: &str, order: &str, mut body: Value) -> Result<(), CliError> {
    let path = format!("/v1/outbox/{}/{order}", escape(mail));
    body["author"] = author().into();
    let mail: OutboxJson = client.post(&path, &body)?;
    if out.wants_json() {
        return out.json(&mail);
    }
    match body["relay"].as_str() {
        Some(relay) => out.line(&format!("mail {} is {} and leaves by {relay}", mail.id, mail.state)),
        None => out.line(&format!("mail {} is {}", mail.id, mail.state)),
    }
}

fn tell(out: &mut Output, mail: &OutboxJson) -> Result<(), CliError> {
    let ticket = mail.ticket.map_or_else(|| "none".into(), |ticket| ticket.to_string());
    let sender = if mail.sender.is_empty() { "<> (null sender)".into() } else { mail.sender.clone() };
    let mut head = vec![
        ("Mail", format!("{} (seq {}), {}", mail.id, mail.seq, show_bytes(mail.size))),
        ("State", mail.state.clone()),
        ("Ticket", ticket),
        ("Channel", mail.channel.clone()),
        ("Class", mail.class.clone()),
        ("Return path", sender),
        ("Created", whole_seconds(&mail.created_at)),
        ("Attempts", mail.attempts.to_string()),
    ];
    let next = mail.due.as_deref().map(whole_seconds);
    let optional = [("Relay", &mail.relay), ("Next try", &next), ("Why", &mail.why), ("Waits for", &mail.waits_for)];
    head.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    for (name, value) in head {
        field(out, 12, name, &value)?;
    }
    out.line("Recipients")?;
    for to in &mail.delivery {
        let by = to.relay.as_ref().map_or_else(String::new, |relay| format!(" by {relay}"));
        let reported = to.reported.as_ref().map_or_else(String::new, |word| format!(", reported {word}"));
        let there = to.unanswered.as_ref().map_or_else(String::new, |relay| format!(", {relay} may have it"));
        let line = format!("  {}: {}{by}{reported}{there}, {}", to.address, to.state, short_time(&to.at));
        out.line(&harmless(&line, false))?;
        if let Some(reply) = &to.reply {
            for line in wrap(&harmless(reply, false), out.width().saturating_sub(4)) {
                out.line(&format!("    {line}"))?;
            }
        }
    }
    Ok(())
}

pub(super) fn loops(command: LoopCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        LoopCommand::List => {
            let list: BrakeList = client.get("/v1/loops")?;
            if out.wants_json() {
                return out.json(&list);
            }
            if list.brakes.is_empty() {
                return out.line("no loop brake has tripped");
            }
            let mut table = Table::new(&["BRAKE", "TRIPPED", "OVER", "TICKET", "RECIPIENT", "HELD"]);
            for brake in list.brakes {
                table.row(vec![
                    brake.id,
                    short_time(&brake.tripped_at),
                    format!("{} in {} min", brake.mails, brake.minutes),
                    brake.ticket.map_or_else(|| "-".into(), |ticket| ticket.to_string()),
                    brake.recipient.unwrap_or_else(|| "all automatic mail".into()),
                    brake.held.to_string(),
                ]);
            }
            print(out, &table)
        }
        LoopCommand::Release { brake } => {
            let path = format!("/v1/loops/{}/release", escape(&brake));
            let brake: BrakeJson = client.post(&path, &json!({ "author": author() }))?;
            if out.wants_json() {
                return out.json(&brake);
            }
            let freed = match brake.held {
                0 => "it held no mail any more".into(),
                held => format!("{} out", count(held, "mail goes", "mails go")),
            };
            out.line(&format!("brake {} is released; {freed}", brake.id))
        }
    }
}

pub(super) fn suppressions(command: SuppressionCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        SuppressionCommand::List { all } => {
            let list: SuppressionList = client.get(&format!("/v1/suppressions?all={all}"))?;
            if out.wants_json() {
                return out.json(&list);
            }
            if list.suppressions.is_empty() {
                return out.line("no address is suppressed");
            }
            let mut table = Table::new(&["ADDRESS", "SUPPRESSED", "FAILURES", "LAST", "WHY"]);
            for row in list.suppressions {
                let suppressed = if row.suppressed { "yes" } else { "no" };
                let (failures, last) = (row.failures.to_string(), short_time(&row.last_at));
                table.row(vec![row.address, suppressed.into(), failures, last, row.why]);
            }
            print(out, &table)
        }
        SuppressionCommand::Clear { address } => {
            let path = format!("/v1/suppressions/{}/clear", escape(&address));
            let done: Done = client.post(&path, &json!({ "author": author() }))?;
            if out.wants_json() { out.json(&done) } else { out.line(&format!("mail is sent to {address} again")) }
        }
    }
}
