//! Routes of mail that leaves: the outbox, loop brakes, suppressed addresses.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::response::Json;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::act::{author, parse_or_none};
use super::problem::Problem;
use super::read::{Parameters, Part, given, limit, part};
use super::types::{Act, Done};
use super::{Admin, Peer, blocking};
use crate::desk::{OrderAll, OutboxView};
use crate::mail::Class;
use crate::outbox::Snapshot;
use crate::store::rows::{BrakeRow, OutboxState, RecipientRow, SuppressionRow};
use crate::store::{Every, OutboxFilter, OutboxOrder};

/// What became of a mail for one recipient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryJson {
    pub address: String,
    /// `queued`, `delayed`, `relayed`, `failed`, `held`, `cancelled`, `suppressed` or `filtered`.
    pub state: String,
    pub attempts: u32,
    /// What the peer said last, or why nothing is sent.
    pub reply: Option<String>,
    /// When its state changed last.
    pub at: String,
    /// When it is tried again.
    pub next_try: Option<String>,
    pub relay: Option<String>,
    /// What reports that came home say, the worst of them: `failed`, `delayed` or `complaint`; or that it arrived:
    /// `delivered`, `relayed` (to a server that reports nothing) or `expanded` (to the members of a list).
    pub reported: Option<String>,
    /// The loop brake that holds it.
    pub brake: Option<String>,
    /// The relay that may have taken it in an attempt: it had the whole mail, and did not answer.
    pub unanswered: Option<String>,
}

impl DeliveryJson {
    /// Every recipient of a mail.
    pub fn all(recipients: Vec<RecipientRow>, due: Timestamp) -> Vec<Self> {
        recipients.into_iter().map(|to| Self::of(to, due)).collect()
    }

    pub fn of(row: RecipientRow, due: Timestamp) -> Self {
        Self {
            next_try: row.state.waits().then(|| due.to_string()),
            address: row.address,
            state: row.state.as_str().into(),
            attempts: row.attempts,
            reply: row.reply,
            at: row.at.to_string(),
            relay: row.relay,
            reported: row.reported,
            brake: row.brake,
            unanswered: row.unanswered,
        }
    }
}

/// A mail that leaves or has left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutboxJson {
    pub id: String,
    pub seq: u64,
    /// `waiting`, `held`, `done` or `cancelled`.
    pub state: String,
    pub channel: String,
    pub ticket: Option<u64>,
    /// `person` or `automatic`.
    pub class: String,
    /// The return path; empty for the null sender.
    pub sender: String,
    /// The relay that was asked for by name.
    pub relay: Option<String>,
    pub size: u64,
    pub created_at: String,
    /// When the next attempt is due, while it waits.
    pub due: Option<String>,
    pub attempts: u32,
    pub why: Option<String>,
    /// What it waits for beside its time: an account, a quota, a relay.
    pub waits_for: Option<String>,
    pub recipient_count: u32,
    pub delivery: Vec<DeliveryJson>,
}

impl OutboxJson {
    fn of(view: OutboxView, board: &Snapshot, now: Timestamp) -> Self {
        let OutboxView { row, recipients } = view;
        let waits_for = board.waits_for(&row, now);
        Self {
            due: (row.state == OutboxState::Waiting).then(|| row.due.to_string()),
            delivery: DeliveryJson::all(recipients, row.due),
            id: row.id,
            seq: row.seq,
            state: row.state.as_str().into(),
            channel: row.channel,
            ticket: row.ticket,
            class: row.class.as_str().into(),
            sender: row.sender.unwrap_or_default(),
            relay: row.relay,
            size: row.size,
            created_at: row.created_at.to_string(),
            attempts: row.attempts,
            why: row.why,
            waits_for,
            recipient_count: row.recipients,
        }
    }
}

/// Mails of the outbox, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutboxPage {
    pub mails: Vec<OutboxJson>,
    /// Give this as `before` for the next page; `null` when this is the last.
    pub before: Option<u64>,
}

/// A loop brake that has tripped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BrakeJson {
    pub id: String,
    /// `ticket_recipient`, `recipient` or `overall`.
    pub scope: String,
    pub ticket: Option<u64>,
    pub recipient: Option<String>,
    /// The limit: so many mails within so many minutes.
    pub mails: u64,
    pub minutes: u32,
    pub tripped_at: String,
    /// How many mails it holds.
    pub held: u64,
}

impl From<BrakeRow> for BrakeJson {
    fn from(row: BrakeRow) -> Self {
        let BrakeRow { id, scope, ticket, recipient, minutes, mails, at, held } = row;
        Self { id, scope, ticket, recipient, mails, minutes, tripped_at: at.to_string(), held }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BrakeList {
    pub brakes: Vec<BrakeJson>,
}

/// An address that has failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuppressionJson {
    pub address: String,
    /// Whether nothing is sent to it.
    pub suppressed: bool,
    pub failures: u32,
    pub first_at: String,
    pub last_at: String,
    pub why: String,
}

impl From<SuppressionRow> for SuppressionJson {
    fn from(row: SuppressionRow) -> Self {
        let (first_at, last_at) = (row.first_at.to_string(), row.last_at.to_string());
        let SuppressionRow { address, suppressed, failures, why, .. } = row;
        Self { address, suppressed, failures, first_at, last_at, why }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuppressionList {
    pub suppressions: Vec<SuppressionJson>,
}

/// An order about a mail of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxAct {
    pub author: Option<String>,
    /// For `reroute`: the relay that it is to leave by.
    pub relay: Option<String>,
    /// For `reroute`: also where another relay may have the mail, so that it may come twice.
    pub force: bool,
}

/// An order about every mail of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxActAll {
    /// `retry`, `hold` or `release`.
    pub order: String,
    /// Only mail of this support address.
    pub channel: Option<String>,
    /// Only mail with a higher `seq`: what the page before gave.
    pub after: u64,
    pub author: Option<String>,
}

/// What one page of it has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutboxDone {
    /// Mails that were changed.
    pub changed: u64,
    /// Give this as `after` for the next page; `null` when this is the last.
    pub after: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct OutboxQuery {
    /// `waiting`, `held`, `done` or `cancelled`.
    state: Option<String>,
    channel: Option<String>,
    ticket: Option<u64>,
    /// `person` or `automatic`.
    class: Option<String>,
    /// Only mails with a lower `seq`.
    before: Option<u64>,
    /// At most 1,000; 100 unless it is given.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct SuppressionQuery {
    /// Also addresses that have failed less often than it takes.
    #[serde(default)]
    all: bool,
}

#[utoipa::path(get, path = "/v1/outbox", params(OutboxQuery),
    responses((status = 200, body = OutboxPage), (status = 400, body = Problem)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    query: Parameters<OutboxQuery>,
) -> Result<Json<OutboxPage>, Problem> {
    let query = given(query)?;
    let unknown = |word: &str, words: &str| Problem::unusable(format!("\"{word}\" is not known; write {words}"));
    let state = query
        .state
        .as_deref()
        .map(|word| OutboxState::from_word(word).ok_or_else(|| unknown(word, "waiting, held, done or cancelled")));
    let class = query.class.as_deref();
    let class = class.map(|word| Class::from_word(word).ok_or_else(|| unknown(word, "person or automatic")));
    let limit = limit(query.limit)?;
    let filter = OutboxFilter {
        state: state.transpose()?,
        channel: query.channel,
        ticket: query.ticket,
        class: class.transpose()?,
        before: query.before,
        limit,
    };
    let desk = admin.desk.clone();
    let views = blocking(move || desk.outbox(&filter)).await?;
    let before = if views.len() == limit { views.last().map(|view| view.row.seq) } else { None };
    let (board, now) = (admin.board.now(), admin.clock.now());
    Ok(Json(OutboxPage { mails: views.into_iter().map(|view| OutboxJson::of(view, &board, now)).collect(), before }))
}

#[utoipa::path(get, path = "/v1/outbox/{id}", params(("id" = String, Path)),
    responses((status = 200, body = OutboxJson), (status = 404, body = Problem)))]
pub(super) async fn show(State(admin): State<Admin>, id: Part<String>) -> Result<Json<OutboxJson>, Problem> {
    let (id, desk) = (part(id)?, admin.desk.clone());
    let view = blocking(move || desk.outbox_mail(&id)).await?;
    Ok(Json(OutboxJson::of(view, &admin.board.now(), admin.clock.now())))
}

/// Tries a mail now, holds it, releases it, cancels it, or has it leave by another relay.
#[utoipa::path(post, path = "/v1/outbox/{id}/{order}", request_body = OutboxAct,
    params(("id" = String, Path), ("order" = String, Path, description = "retry, hold, release, cancel or reroute")),
    responses((status = 200, body = OutboxJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn order(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((id, order)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<OutboxJson>, Problem> {
    let act: OutboxAct = parse_or_none(&body)?;
    if act.force && order != "reroute" {
        return Err(Problem::unusable("\"force\" is for \"reroute\" only"));
    }
    let order = match (order.as_str(), act.relay) {
        ("retry", None) => OutboxOrder::Retry,
        ("hold", None) => OutboxOrder::Hold,
        ("release", None) => OutboxOrder::Release,
        ("cancel", None) => OutboxOrder::Cancel,
        ("reroute", Some(relay)) if admin.relays.get(&relay).is_some() => match act.force {
            true => OutboxOrder::RerouteAnyway(relay),
            false => OutboxOrder::Reroute(relay),
        },
        ("reroute", given) => {
            let names = admin.relays.names().join(", ");
            let given =
                given.map_or_else(|| "no relay is named".into(), |relay| format!("there is no relay \"{relay}\""));
            return Err(Problem::unusable(format!("{given}; write one of: {names}")));
        }
        ("retry" | "hold" | "release" | "cancel", Some(_)) => {
            return Err(Problem::unusable("a relay is named for \"reroute\" only"));
        }
        (word, _) => return Err(Problem::no_such_route(format!("\"{word}\" is no order for a mail of the outbox"))),
    };
    hurry(&admin, &order);
    let (author, desk) = (author(act.author, peer).await, admin.desk.clone());
    let view = blocking(move || desk.order_outbox(&id, &order, &author)).await?;
    Ok(Json(OutboxJson::of(view, &admin.board.now(), admin.clock.now())))
}

/// Does the same to every mail: `retry` and `hold` to those that wait, `release` to those that are held. One request
/// does a page; give its `after` until there is none.
#[utoipa::path(post, path = "/v1/outbox", request_body = OutboxActAll,
    responses((status = 200, body = OutboxDone), (status = 400, body = Problem)))]
pub(super) async fn order_all(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<OutboxDone>, Problem> {
    let act: OutboxActAll = parse_or_none(&body)?;
    let order = match act.order.as_str() {
        "retry" => OutboxOrder::Retry,
        "hold" => OutboxOrder::Hold,
        "release" => OutboxOrder::Release,
        word => {
            let said = format!("\"{word}\" is no order for all mail of the outbox; write retry, hold or release");
            return Err(Problem::unusable(said));
        }
    };
    hurry(&admin, &order);
    let all = OrderAll { order, channel: act.channel, after: act.after };
    let (author, desk) = (author(act.author, peer).await, admin.desk.clone());
    let page = blocking(move || desk.order_all(&all, &author)).await?;
    Ok(Json(OutboxDone { changed: page.changed, after: page.after }))
}

/// Who has mail tried now does not want it to wait until a server has rested.
fn hurry(admin: &Admin, order: &OutboxOrder) {
    if matches!(order, OutboxOrder::Retry | OutboxOrder::Release) {
        admin.board.hurry();
    }
}

#[utoipa::path(get, path = "/v1/loops", responses((status = 200, body = BrakeList)))]
pub(super) async fn loops(State(admin): State<Admin>) -> Result<Json<BrakeList>, Problem> {
    let rows = blocking(move || admin.desk.brakes()).await?;
    Ok(Json(BrakeList { brakes: rows.into_iter().map(BrakeJson::from).collect() }))
}

#[utoipa::path(post, path = "/v1/loops/{id}/release", params(("id" = String, Path)), request_body = Act,
    responses((status = 200, body = BrakeJson), (status = 409, body = Problem)))]
pub(super) async fn release(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    id: Part<String>,
    body: Bytes,
) -> Result<Json<BrakeJson>, Problem> {
    let (id, author) = (part(id)?, author(parse_or_none::<Act>(&body)?.author, peer).await);
    Ok(Json(blocking(move || admin.desk.release_brake(&id, &author)).await?.into()))
}

#[utoipa::path(get, path = "/v1/suppressions", params(SuppressionQuery),
    responses((status = 200, body = SuppressionList)))]
pub(super) async fn suppressions(
    State(admin): State<Admin>,
    query: Parameters<SuppressionQuery>,
) -> Result<Json<SuppressionList>, Problem> {
    let every = if given(query)?.all { Every::Failure } else { Every::Suppressed };
    let rows = blocking(move || admin.desk.suppressions(every)).await?;
    Ok(Json(SuppressionList { suppressions: rows.into_iter().map(SuppressionJson::from).collect() }))
}

#[utoipa::path(post, path = "/v1/suppressions/{address}/clear", params(("address" = String, Path)), request_body = Act,
    responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn clear(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    address: Part<String>,
    body: Bytes,
) -> Result<Json<Done>, Problem> {
    let (address, author) = (part(address)?, author(parse_or_none::<Act>(&body)?.author, peer).await);
    let cleared = address.clone();
    blocking(move || admin.desk.clear_suppression(&address)).await?;
    tracing::info!(address = %cleared, author, "a suppressed address was cleared");
    Ok(Json(Done { done: true }))
}
