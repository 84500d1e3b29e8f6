//! `ticketgate channels show`, `ledger`, `parity` and `default`.

use serde_json::json;

use super::CliError;
use super::args::LedgerFilter;
use super::client::{Client, author, escape};
use super::output::Output;
use super::table::{Table, wrap};
use super::tickets::{self, print, short_time};
use crate::admin::channels::{ChannelDetail, LedgerPage, LoneJson, MailboxJson, ParityJson};
use crate::admin::credential::CredentialJson;
use crate::admin::types::{ChannelJson, ConnectionJson};
use crate::units::show_bytes;

/// Names stand in a column of this width.
const NAMES: usize = 15;

pub(super) fn show(client: &Client, out: &mut Output, address: &str) -> Result<(), CliError> {
    let detail: ChannelDetail = client.get(&format!("/v1/channels/{}", escape(address)))?;
    if out.wants_json() {
        return out.json(&detail);
    }
    let channel = &detail.channel;
    let default = if channel.default { "yes: it takes mail for the postmaster" } else { "no" };
    field(out, "Address", &channel.address)?;
    field(out, "Name", &channel.name)?;
    field(
        out,
        "Aliases",
        if channel.aliases.is_empty() { "none".into() } else { channel.aliases.join(", ") }.as_str(),
    )?;
    field(out, "Plus-addresses", if channel.plus_addresses { "yes" } else { "no" })?;
    field(out, "Queue", &channel.queue)?;
    field(out, "Policy", &channel.auth_policy)?;
    field(out, "Largest mail", &show_bytes(channel.max_mail_bytes))?;
    field(out, "Default", default)?;
    match &channel.connection {
        Some(connection) => show_connection(out, connection)?,
        None => field(out, "Mailbox", "none that is looked into")?,
    }
    detail.mailbox.as_ref().map_or(Ok(()), |mailbox| show_mailbox(out, mailbox))
}

fn show_connection(out: &mut Output, connection: &ConnectionJson) -> Result<(), CliError> {
    field(out, "Mailbox", &connection.account)?;
    field(out, "State", &format!("{}, since {}", connection.state, short_time(&connection.since)))?;
    if let Some(problem) = &connection.problem {
        field(out, "Problem", &format!("{}: {}; {}", problem.code, problem.said, problem.action))?;
    }
    let times = [
        ("Next try", &connection.next_try),
        ("Last look", &connection.last_look),
        ("Next look", &connection.next_look),
    ];
    for (name, at) in times.into_iter().filter_map(|(name, at)| at.as_ref().map(|at| (name, at))) {
        field(out, name, &at.get(..19).unwrap_or(at).replace('T', " "))?;
    }
    field(out, "Waiting", &connection.waiting.to_string())?;
    connection.warnings.iter().try_for_each(|warning| field(out, "Warning", warning))?;
    connection.credential.as_ref().map_or(Ok(()), |credential| show_credential(out, credential))
}

fn show_credential(out: &mut Output, credential: &CredentialJson) -> Result<(), CliError> {
    let by = [Some(&credential.kind), credential.provider.as_ref(), credential.flow.as_ref()];
    let by: Vec<&str> = by.into_iter().flatten().map(String::as_str).collect();
    field(out, "Credential", &by.join(", "))?;
    let scopes = Some(credential.scopes.join(" ")).filter(|scopes| !scopes.is_empty());
    let time = |at: &Option<String>| at.as_ref().map(|at| short_time(at));
    let optional = [
        ("Granted by", credential.account.clone()),
        ("Scopes", scopes),
        ("Token until", time(&credential.access_expires_at)),
        ("Renewed at", time(&credential.next_refresh_at)),
        ("Lasts until", time(&credential.refresh_expires_at)),
    ];
    for (name, value) in optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))) {
        field(out, name, &value)?;
    }
    let mut warnings = credential.warnings.iter();
    warnings.try_for_each(|warning| field(out, "Warning", &format!("{}; {}", warning.said, warning.action)))
}

fn show_mailbox(out: &mut Output, mailbox: &MailboxJson) -> Result<(), CliError> {
    field(out, "Wanted", &format!("{}, since {}", mailbox.wanted, short_time(&mailbox.wanted_since)))?;
    if let Some(at) = &mailbox.connected_at {
        field(out, "Connected", &format!("first at {}", short_time(at)))?;
    }
    let (cursor, baseline, validity) = (mailbox.cursor, mailbox.baseline, mailbox.validity);
    field(
        out,
        "Cursor",
        &format!("uid {cursor} of UIDVALIDITY {validity}; from before the connection up to {baseline}"),
    )?;
    let counts: Vec<String> = mailbox.ledger.iter().map(|(state, count)| format!("{count} {state}")).collect();
    field(out, "Ledger", if counts.is_empty() { "empty".into() } else { counts.join(", ") }.as_str())?;
    let numbers = [
        ("Not filed yet", mailbox.unfiled),
        ("Labels owed", mailbox.labels_owed),
        ("From before", mailbox.backfill),
        ("Read elsewhere", mailbox.read_elsewhere),
        ("Gone", mailbox.gone),
    ];
    for (name, number) in numbers {
        field(out, name, &number.to_string())?;
    }
    let vanished = match mailbox.vanished {
        0 => "none".to_owned(),
        most => format!("at most {most}, between two looks"),
    };
    field(out, "Came and went", &vanished)?;
    let swept =
        mailbox.swept_at.as_ref().map_or("not compared yet".into(), |at| format!("compared {}", short_time(at)));
    field(out, "Unaccounted", &format!("{}, {swept}", mailbox.unaccounted))
}

pub(super) fn ledger(client: &Client, out: &mut Output, address: &str, filter: &LedgerFilter) -> Result<(), CliError> {
    let mut path = format!("/v1/channels/{}/ledger?limit={}&after={}", escape(address), filter.limit, filter.after);
    if let Some(state) = &filter.state {
        path.push_str(&format!("&state={}", escape(state)));
    }
    let page: LedgerPage = client.get(&path)?;
    if out.wants_json() {
        return out.json(&page);
    }
    if page.rows.is_empty() {
        return out.line("the ledger has no such mail");
    }
    let mut table = Table::new(&["UID", "STATE", "REASON", "LABEL", "AT", "ENTRY"]);
    for row in page.rows {
        let entry = row.entry.unwrap_or_default();
        let reason = row.reason.unwrap_or_default();
        table.row(vec![row.uid.to_string(), row.state, reason, row.label, short_time(&row.at), entry]);
    }
    print(out, &table)?;
    page.next.map_or(Ok(()), |next| out.line(&format!("more: --after {next}")))
}

pub(super) fn parity(client: &Client, out: &mut Output, address: &str, since: &str) -> Result<(), CliError> {
    let path = format!("/v1/channels/{}/parity?since={}", escape(address), escape(since));
    let parity: ParityJson = client.get(&path)?;
    if out.wants_json() {
        return out.json(&parity);
    }
    out.line(&format!("{address}: mail since {}", short_time(&parity.from)))?;
    let counts = [
        ("Both ways", parity.both),
        ("Forwarded only", parity.only_forwarded),
        ("Mailbox only", parity.only_connector),
        ("Not due yet", parity.pending),
    ];
    for (name, count) in counts {
        field(out, name, &count.to_string())?;
    }
    if let (Some(median), Some(most)) = (parity.lag_seconds_median, parity.lag_seconds_most) {
        field(out, "Mailbox later", &format!("{median} s as a rule, {most} s at most"))?;
    }
    if parity.cut {
        out.line("There were too many entries: the oldest of the period are missing")?;
    }
    list(out, "By forwarding only", &parity.only_forwarded_mails, parity.only_forwarded)?;
    list(out, "By the mailbox only", &parity.only_connector_mails, parity.only_connector)?;
    wrap(&parity.verdict, out.width()).iter().try_for_each(|line| out.line(line))
}

fn list(out: &mut Output, title: &str, mails: &[LoneJson], count: u64) -> Result<(), CliError> {
    if mails.is_empty() {
        return Ok(());
    }
    out.line(&format!("{title}, the newest {} of {count}:", mails.len()))?;
    let mut table = Table::new(&["RECEIVED", "MESSAGE-ID", "SUBJECT"]);
    for mail in mails {
        let id = mail.message_id.clone().unwrap_or_else(|| mail.entry.clone());
        table.row(vec![short_time(&mail.received_at), id, mail.subject.clone()]);
    }
    print(out, &table)
}

pub(super) fn make_default(client: &Client, out: &mut Output, address: &str) -> Result<(), CliError> {
    let path = format!("/v1/channels/{}/default", escape(address));
    let channel: ChannelJson = client.post(&path, &json!({ "author": author() }))?;
    if out.wants_json() {
        return out.json(&channel);
    }
    out.line(&format!("{} is the default channel now and takes mail for the postmaster", channel.address))
}

fn field(out: &mut Output, name: &str, value: &str) -> Result<(), CliError> {
    tickets::field(out, NAMES, name, value)
}
