//! Routes of the relays: what each is, what its probes have shown, and the order to probe one (B7).

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::act::{author, parse_or_none};
use super::problem::Problem;
use super::read::{Part, part};
use super::types::ProblemJson;
use super::{Admin, Peer, blocking};
use crate::desk::{DeskError, ProbeOrder, ProbeView};
use crate::mail::survival::SIGNATURE;
use crate::relay::RelayConfig;
use crate::store::rows::{FieldRow, ProbeHome};
use crate::units::{show_duration, whole_seconds};

/// A way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RelayJson {
    pub name: String,
    /// `smtp`, `direct` or `maildir`.
    pub kind: String,
    /// `avoid` or `count`: what becomes of mail with a header field that this relay loses.
    pub lost_headers: String,
    /// How often it is probed; `null` where only by order.
    pub probe_every: Option<String>,
    /// The latest probe; `null` before the first.
    pub probe: Option<ProbeJson>,
    /// The latest probe that came home; it may be an earlier one.
    pub home: Option<HomeJson>,
    /// The fields that mail must carry and this relay loses; empty also where that is not known.
    pub loses: Vec<String>,
}

/// A probe that was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbeJson {
    /// The id of its entry, for `outbox show` and `explain`.
    pub entry: String,
    pub channel: String,
    pub sent_at: String,
    /// `under_way`, `home`, `late` (it may still come) or `failed`.
    pub state: String,
    /// Why it is not home.
    pub said: Option<String>,
}

/// A probe that came home.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HomeJson {
    pub entry: String,
    pub sent_at: String,
    pub came_at: String,
    /// The door that it came by: `smtp`, `imap` or `graph`.
    pub door: String,
    pub fields: Vec<FieldJson>,
}

/// What became of one header field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldJson {
    pub name: String,
    /// `kept` byte for byte, `folded` in other places, `changed` or `dropped`.
    pub fate: String,
    /// Mail that has it must keep it.
    pub required: bool,
    /// What stands there instead.
    pub got: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RelayList {
    pub relays: Vec<RelayJson>,
}

/// An order to probe a relay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeAct {
    /// The channel that the probe leaves from and comes home to, instead of the configured one.
    pub channel: Option<String>,
    pub author: Option<String>,
}

impl RelayJson {
    /// The latest probe if it has not come home and should have, and why.
    pub fn lost_probe(&self) -> Option<(&ProbeJson, &str)> {
        let probe = self.probe.as_ref().filter(|probe| matches!(probe.state.as_str(), "late" | "failed"))?;
        Some((probe, probe.said.as_deref().unwrap_or("without a reason")))
    }

    fn of(relay: &RelayConfig, view: Option<ProbeView>, required: &[String]) -> Self {
        let home = view.as_ref().and_then(|view| view.row.home.as_ref());
        let every = (!relay.probe_every.is_zero()).then(|| show_duration(relay.probe_every));
        Self {
            name: relay.name.clone(),
            kind: relay.kind.as_str().into(),
            lost_headers: relay.lost_headers.as_str().into(),
            probe_every: every,
            loses: home.map_or_else(Vec::new, |home| home.lost(required)),
            home: home.map(|home| home_json(relay, home, required)),
            probe: view.map(|ProbeView { row, state, said }| ProbeJson {
                entry: row.sent.entry,
                channel: row.sent.channel,
                sent_at: row.sent.at.to_string(),
                state: state.as_str().into(),
                said,
            }),
        }
    }
}

fn home_json(relay: &RelayConfig, home: &ProbeHome, required: &[String]) -> HomeJson {
    let field = |field: &FieldRow| FieldJson {
        required: required.iter().any(|name| name.eq_ignore_ascii_case(&field.name)),
        name: field.name.clone(),
        fate: field.fate.clone(),
        got: field.got.clone(),
    };
    let mut fields: Vec<FieldJson> = home.fields.iter().map(field).collect();
    // The signature is put in front when the probe leaves, so that one that is missing was never written down.
    if relay.signs() && !fields.iter().any(|field| field.name == SIGNATURE) {
        let (name, fate) = (SIGNATURE.to_owned(), "dropped".to_owned());
        let got = Some("no signature for the domain of the From field is there".into());
        fields.push(FieldJson { name, fate, required: false, got });
    }
    HomeJson {
        entry: home.entry.clone(),
        sent_at: home.sent_at.to_string(),
        came_at: home.came_at.to_string(),
        door: home.door.clone(),
        fields,
    }
}

/// Every relay with what is known of it. Blocks on the disk.
pub(super) fn all(admin: &Admin) -> Result<Vec<RelayJson>, DeskError> {
    let required = admin.replies.required_fields();
    let relays = admin.relays.all().into_iter();
    relays.map(|relay| Ok(RelayJson::of(relay.config(), admin.desk.probe(relay.config())?, &required))).collect()
}

/// What is wrong with what relays do to header fields, each with what to do.
pub(super) fn problems(relays: &[RelayJson]) -> Vec<ProblemJson> {
    let mut problems = Vec::new();
    let mut add = |code: &str, said: String, action: String| {
        problems.push(ProblemJson { code: code.into(), said, action });
    };
    for relay in relays {
        let name = &relay.name;
        if let Some(home) = relay.home.as_ref().filter(|_| !relay.loses.is_empty()) {
            let said = format!(
                "relay \"{name}\" loses {}, as the probe of {} has shown",
                relay.loses.join(", "),
                whole_seconds(&home.sent_at)
            );
            let action =
                "let that mail leave by a relay that keeps it, see \"Probes\" in docs/relays.md; then probe it again";
            add("relay_loses_headers", said, action.into());
        }
        if let Some((probe, why)) = relay.lost_probe() {
            let said = format!("the probe of relay \"{name}\" of {} is not home: {why}", whole_seconds(&probe.sent_at));
            let action = format!(
                "see \"ticketgate explain {}\", and whether mail for {} comes here; then probe it again",
                probe.entry, probe.channel
            );
            add("relay_probe_lost", said, action);
        }
    }
    problems
}

/// Relay, field and whether it survived, of every relay that was probed.
pub(super) fn survivals(relays: &[RelayJson]) -> Vec<(String, String, bool)> {
    let of = |relay: &RelayJson| {
        let fields = relay.home.iter().flat_map(|home| &home.fields);
        let kept = |fate: &str| matches!(fate, "kept" | "folded");
        fields.map(|field| (relay.name.clone(), field.name.clone(), kept(&field.fate))).collect::<Vec<_>>()
    };
    relays.iter().flat_map(of).collect()
}

#[utoipa::path(get, path = "/v1/relays", responses((status = 200, body = RelayList)))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<RelayList>, Problem> {
    let relays = blocking(move || all(&admin)).await?;
    Ok(Json(RelayList { relays }))
}

#[utoipa::path(get, path = "/v1/relays/{name}", params(("name" = String, Path)),
    responses((status = 200, body = RelayJson), (status = 404, body = Problem)))]
pub(super) async fn show(State(admin): State<Admin>, name: Part<String>) -> Result<Json<RelayJson>, Problem> {
    let name = part(name)?;
    Ok(Json(blocking(move || one(&admin, &name)).await?))
}

fn one(admin: &Admin, name: &str) -> Result<RelayJson, DeskError> {
    let relay = admin.relays.get(name).ok_or_else(|| unknown(admin, name))?;
    Ok(RelayJson::of(relay.config(), admin.desk.probe(relay.config())?, &admin.replies.required_fields()))
}

fn unknown(admin: &Admin, name: &str) -> DeskError {
    DeskError::NotFound(format!("relay \"{name}\"; there are {}", admin.relays.names().join(", ")))
}

/// Sends a probe by a relay: a mail to one of our own channels that finds out which header fields survive. Answers once it
/// is on disk; what came home is in `GET /v1/relays/{name}` later.
#[utoipa::path(post, path = "/v1/relays/{name}/probe", params(("name" = String, Path)), request_body = ProbeAct,
    responses((status = 202, body = RelayJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn probe(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Part<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<RelayJson>), Problem> {
    let (name, act) = (part(name)?, parse_or_none::<ProbeAct>(&body)?);
    let relay = admin.relays.get(&name).ok_or_else(|| unknown(&admin, &name))?;
    let order =
        ProbeOrder { channel: act.channel, author: author(act.author, peer).await, peer: format!("uid {}", peer.uid) };
    admin.replies.probe(relay.config(), order).await?;
    let shown = blocking(move || one(&admin, &name)).await?;
    Ok((StatusCode::ACCEPTED, Json(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(loses: &[&str], state: &str) -> RelayJson {
        let sent_at = "2026-11-25T10:00:00Z".to_owned();
        let probe = ProbeJson {
            entry: "e".into(),
            channel: "s@a.example".into(),
            sent_at: sent_at.clone(),
            state: state.into(),
            said: Some("it has not come home after 1h".into()),
        };
        let fates = [("X-Mailer", "folded"), ("Auto-Submitted", "dropped"), ("References", "changed")];
        let fields = fates.map(|(name, fate)| FieldJson {
            name: name.into(),
            fate: fate.into(),
            required: name != "References",
            got: None,
        });
        let home = HomeJson {
            entry: "e".into(),
            sent_at: sent_at.clone(),
            came_at: sent_at,
            door: "smtp".into(),
            fields: fields.into(),
        };
        RelayJson {
            name: "smart".into(),
            kind: "smtp".into(),
            lost_headers: "avoid".into(),
            probe_every: None,
            probe: Some(probe),
            home: Some(home),
            loses: loses.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_relays_lose_is_a_problem_and_a_metric() {
        let table: [(RelayJson, &[&str]); 5] = [
            (relay(&[], "home"), &[]),
            (relay(&[], "under_way"), &[]),
            (relay(&["Auto-Submitted"], "home"), &["relay_loses_headers"]),
            (relay(&["Auto-Submitted"], "late"), &["relay_loses_headers", "relay_probe_lost"]),
            (relay(&[], "failed"), &["relay_probe_lost"]),
        ];
        for (relay, want) in table {
            let got = problems(std::slice::from_ref(&relay));
            assert_eq!(got.iter().map(|problem| problem.code.as_str()).collect::<Vec<_>>(), want, "{relay:?}");
            assert!(got.iter().all(|problem| problem.said.contains("\"smart\"") && !problem.action.is_empty()));
        }
        let want = [("X-Mailer", true), ("Auto-Submitted", false), ("References", false)];
        let want = want.map(|(name, kept)| ("smart".to_owned(), name.to_owned(), kept));
        assert_eq!(survivals(&[relay(&[], "home")]), want);
    }

    #[test]
    fn a_signature_that_should_be_there_and_is_not_is_told() {
        let home = ProbeHome::default();
        for (dkim, want) in [(Some(true), 1), (Some(false), 0), (None, 0)] {
            let relay = RelayConfig { dkim, ..RelayConfig::default() };
            assert_eq!(home_json(&relay, &home, &[]).fields.len(), want);
        }
    }
}
