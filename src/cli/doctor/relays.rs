//! What the daemon knows of its relays: whether probes came home, and what they lost on the way.

use super::judge::{Finding, Level};
use crate::admin::relays::{RelayJson, RelayList};
use crate::cli::client::Client;
use crate::units::{count, whole_seconds};

/// The codes of problems that are told here in more detail.
pub(super) const TOLD_HERE: [&str; 2] = ["relay_loses_headers", "relay_probe_lost"];

/// A finding for each relay that mail comes home from.
pub(super) fn relays(client: &Client) -> Vec<Finding> {
    let list = client.get::<RelayList>("/v1/relays");
    // A daemon that cannot say has told of its trouble already.
    let relays = list.map(|list| list.relays).unwrap_or_default();
    relays.iter().filter(|relay| relay.kind != "maildir").map(finding).collect()
}

fn finding(relay: &RelayJson) -> Finding {
    let name = &relay.name;
    let probe_again = Some(format!("ticketgate relays probe {name}"));
    let (level, said, action) = match (&relay.home, relay.lost_probe()) {
        (Some(home), _) if !relay.loses.is_empty() => {
            let said = format!("it loses {} (probe of {})", relay.loses.join(", "), whole_seconds(&home.sent_at));
            (Level::Warning, said, Some("let that mail leave by a relay that keeps it; see docs/relays.md".into()))
        }
        (_, Some((probe, why))) => {
            let action = format!("see \"ticketgate explain {}\", then probe it again", probe.entry);
            (Level::Warning, format!("the probe of {} is not home: {why}", whole_seconds(&probe.sent_at)), Some(action))
        }
        (Some(home), None) => {
            let kept = home.fields.iter().filter(|field| field.required).count() as u64;
            let kept = count(kept, "field", "fields");
            (
                Level::Good,
                format!("it keeps {kept} that mail must carry (probe of {})", whole_seconds(&home.sent_at)),
                None,
            )
        }
        (None, None) if relay.probe.is_some() => (Level::NotKnown, "its probe is under way".into(), None),
        (None, None) => (Level::NotKnown, "it was never probed for what it does to header fields".into(), probe_again),
    };
    Finding { level, about: format!("relay {name}"), check: "headers", said, action }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::relays::{FieldJson, HomeJson, ProbeJson};

    #[test]
    fn each_relay_has_a_line() {
        let at = || "2026-11-25T10:00:00Z".to_owned();
        let field = FieldJson { name: "X-Mailer".into(), fate: "kept".into(), required: true, got: None };
        let home =
            HomeJson { entry: "e".into(), sent_at: at(), came_at: at(), door: "smtp".into(), fields: vec![field] };
        let probe = |state: &str| ProbeJson {
            entry: "e".into(),
            channel: "s@a.example".into(),
            sent_at: at(),
            state: state.into(),
            said: Some("550 no".into()),
        };
        let relay = RelayJson {
            name: "smart".into(),
            kind: "smtp".into(),
            lost_headers: "avoid".into(),
            probe_every: None,
            probe: None,
            home: None,
            loses: Vec::new(),
        };
        let with = |state: &str| RelayJson { probe: Some(probe(state)), ..relay.clone() };
        let came = |state: &str, loses: Vec<String>| RelayJson { home: Some(home.clone()), loses, ..with(state) };
        let table = [
            (relay.clone(), Level::NotKnown, "it was never probed", true),
            (with("under_way"), Level::NotKnown, "its probe is under way", false),
            (with("failed"), Level::Warning, "the probe of 2026-11-25T10:00:00Z is not home: 550 no", true),
            (came("home", vec![]), Level::Good, "it keeps 1 field that", false),
            (came("late", vec![]), Level::Warning, "the probe of", true),
            (came("home", vec!["X-Mailer".into()]), Level::Warning, "it loses X-Mailer (probe of", true),
        ];
        for (relay, level, said, acts) in table {
            let found = finding(&relay);
            assert_eq!((found.level, found.action.is_some()), (level, acts), "{found:?}");
            assert!(found.said.starts_with(said), "{found:?}");
        }
    }
}
