//! `ticketgate relays`: the ways out, and what probes have shown of them.

use serde_json::json;

use super::CliError;
use super::args::RelayCommand;
use super::client::{Client, author, escape};
use super::output::Output;
use super::table::Table;
use super::tickets::{field, print, short_time};
use crate::admin::relays::{RelayJson, RelayList};
use crate::units::whole_seconds;

pub(super) fn relays(command: RelayCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        RelayCommand::List => list(client, out),
        RelayCommand::Show { relay } => {
            let relay: RelayJson = client.get(&format!("/v1/relays/{}", escape(&relay)))?;
            if out.wants_json() { out.json(&relay) } else { tell(out, &relay) }
        }
        RelayCommand::Probe { relay, channel } => {
            let path = format!("/v1/relays/{}/probe", escape(&relay));
            let relay: RelayJson = client.post(&path, &json!({ "channel": channel, "author": author() }))?;
            if out.wants_json() {
                return out.json(&relay);
            }
            let Some(probe) = &relay.probe else { return out.line("the probe is accepted, and is sent in a moment") };
            let name = &relay.name;
            out.line(&format!("probe {} is on its way to {} by relay {name}", probe.entry, probe.channel))?;
            out.line(&format!("\"ticketgate relays show {name}\" tells what became of its header fields"))
        }
    }
}

fn list(client: &Client, out: &mut Output) -> Result<(), CliError> {
    let list: RelayList = client.get("/v1/relays")?;
    if out.wants_json() {
        return out.json(&list);
    }
    let mut table = Table::new(&["RELAY", "KIND", "PROBED", "PROBE", "LOSES"]);
    for relay in list.relays {
        let probe = relay.probe.as_ref();
        table.row(vec![
            relay.name.clone(),
            relay.kind.clone(),
            probe.map_or_else(|| "-".into(), |probe| short_time(&probe.sent_at)),
            probe.map_or_else(|| "never".into(), |probe| probe.state.replace('_', " ")),
            loses(&relay),
        ]);
    }
    print(out, &table)
}

/// What it loses of the fields that mail must carry.
fn loses(relay: &RelayJson) -> String {
    match (&relay.home, relay.loses.as_slice()) {
        (None, _) => "not known".into(),
        (Some(_), []) => "nothing".into(),
        (Some(_), lost) => lost.join(", "),
    }
}

fn tell(out: &mut Output, relay: &RelayJson) -> Result<(), CliError> {
    let probe = relay.probe.as_ref();
    let state = probe.map(|probe| {
        let said = probe.said.as_ref().map_or_else(String::new, |said| format!(": {said}"));
        let (sent, state) = (whole_seconds(&probe.sent_at), probe.state.replace('_', " "));
        format!("{} of {sent} to {}, {state}{said}", probe.entry, probe.channel)
    });
    let home =
        relay.home.as_ref().map(|home| format!("{} at {} by {}", home.entry, whole_seconds(&home.came_at), home.door));
    let head = [
        ("Relay", relay.name.clone()),
        ("Kind", relay.kind.clone()),
        ("Probed", relay.probe_every.as_ref().map_or_else(|| "by order only".into(), |every| format!("every {every}"))),
        ("Lost fields", relay.lost_headers.clone()),
        ("Probe", state.unwrap_or_else(|| format!("none yet; \"ticketgate relays probe {}\" sends one", relay.name))),
        ("Came home", home.unwrap_or_else(|| "none yet".into())),
        ("Loses", loses(relay)),
    ];
    for (name, value) in head {
        field(out, 12, name, &value)?;
    }
    let Some(home) = &relay.home else { return Ok(()) };
    out.line("")?;
    let mut table = Table::new(&["FIELD", "REQUIRED", "BECAME", "CAME INSTEAD"]);
    for field in &home.fields {
        let required = if field.required { "yes" } else { "no" };
        table.row(vec![field.name.clone(), required.into(), field.fate.clone(), field.got.clone().unwrap_or_default()]);
    }
    print(out, &table)
}
