//! Routes about one channel: its mailbox, the ledger of it, its two ways, and making it the default one.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::act::{author, parse_or_none};
use super::problem::Problem;
use super::read::{Parameters, Part, given, limit, part};
use super::types::{Act, ChannelJson};
use super::{Admin, Peer, blocking};
use crate::accounts::Connection;
use crate::desk::parity::{Lone, Parity, Span};
use crate::mail::Address;
use crate::store::rows::{LedgerRow, LedgerState, SourceRow};
use crate::store::{Store, StoreError};

/// Labels that are owed are counted up to here.
const MOST_OWED: usize = 10_000;
/// Rows of the ledger that one request looks at.
const MOST_LOOKED: usize = 10_000;
/// The period of a parity report unless another is given, and the longest.
const PERIOD: Duration = Duration::from_secs(7 * 86_400);
const LONGEST_PERIOD: Duration = Duration::from_secs(92 * 86_400);

/// A channel with everything that is known of its mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelDetail {
    #[serde(flatten)]
    pub channel: ChannelJson,
    /// `null` for a channel whose mailbox was never opened.
    pub mailbox: Option<MailboxJson>,
}

/// What is kept of a mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MailboxJson {
    /// `connected`, `paused` or `disconnected`: what is wanted of it, and since when.
    pub wanted: String,
    pub wanted_since: String,
    /// When it was connected for the first time; nothing that arrived before is imported.
    pub connected_at: Option<String>,
    /// UIDVALIDITY of the folder.
    pub validity: u32,
    /// The highest UID from before the connection.
    pub baseline: u32,
    /// Every UID up to this one has its row in the ledger.
    pub cursor: u32,
    /// Mails from before the connection that are still to be imported.
    pub backfill: u64,
    pub swept_at: Option<String>,
    /// What the last comparison found in the mailbox without a row in the ledger.
    pub unaccounted: u64,
    pub read_elsewhere: u64,
    pub gone: u64,
    /// At most so many mails came and went between two looks: UIDs that the server gave out, and under which no mail was
    /// ever seen. Servers may leave UIDs out.
    pub vanished: u64,
    /// How many mails are in each state of the ledger.
    pub ledger: BTreeMap<String, u64>,
    /// Mails that are fetched and not filed yet.
    pub unfiled: u64,
    /// Labels that are still to be set on the server; counted up to 10,000.
    pub labels_owed: u64,
}

/// Rows of a ledger in the order of their UIDs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LedgerPage {
    pub rows: Vec<LedgerJson>,
    /// Give this as `after` for the next page; `null` when this is the last.
    pub next: Option<u32>,
}

/// What became of one mail of a mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LedgerJson {
    /// UIDVALIDITY and UID.
    pub validity: u32,
    pub uid: u32,
    /// `waiting`, `imported`, `rejected`, `read_elsewhere`, `gone`, `known` or `unfetchable`.
    pub state: String,
    pub reason: Option<String>,
    /// The id of its entry.
    pub entry: Option<String>,
    pub at: String,
    /// `set`, `owed`, `refused` by the server, or `none` for mail that gets none.
    pub label: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct LedgerQuery {
    /// Only rows in this state.
    state: Option<String>,
    /// Only higher UIDs.
    #[serde(default)]
    after: u32,
    /// At most 1,000; 100 unless it is given.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ParityQuery {
    /// The period up to now, such as `7d`, which it is unless it is given, or `12h`; at most `92d`.
    since: Option<String>,
}

/// What came by forwarding, and what by the mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ParityJson {
    /// From when on mail was counted.
    pub from: String,
    pub both: u64,
    pub only_forwarded: u64,
    pub only_connector: u64,
    /// Forwarded within the last 15 minutes: the mailbox may still bring it.
    pub pending: u64,
    /// How much later the mailbox was, in seconds; negative where it was first.
    pub lag_seconds_median: Option<i64>,
    pub lag_seconds_most: Option<i64>,
    /// There were too many entries: the oldest of the period are missing.
    pub cut: bool,
    pub can_switch_off: bool,
    pub verdict: String,
    /// The newest of them; at most 100.
    pub only_forwarded_mails: Vec<LoneJson>,
    pub only_connector_mails: Vec<LoneJson>,
}

/// A mail that came one way only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoneJson {
    pub entry: String,
    pub message_id: Option<String>,
    pub received_at: String,
    pub subject: String,
}

#[utoipa::path(get, path = "/v1/channels/{address}", params(("address" = String, Path)),
    responses((status = 200, body = ChannelDetail), (status = 404, body = Problem)))]
pub(super) async fn show(State(admin): State<Admin>, address: Part<String>) -> Result<Json<ChannelDetail>, Problem> {
    let channel = channel(&admin, &part(address)?)?;
    let (store, address) = (admin.store.clone(), channel.clone());
    let mailbox = blocking(move || Ok(mailbox(&store, &address)?)).await?;
    Ok(Json(ChannelDetail { channel: channel_json(&admin, &channel)?, mailbox }))
}

#[utoipa::path(get, path = "/v1/channels/{address}/ledger", params(("address" = String, Path), LedgerQuery),
    responses((status = 200, body = LedgerPage), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn ledger(
    State(admin): State<Admin>,
    address: Part<String>,
    query: Parameters<LedgerQuery>,
) -> Result<Json<LedgerPage>, Problem> {
    let (channel, query) = (channel(&admin, &part(address)?)?, given(query)?);
    let limit = limit(query.limit)?;
    let states = LedgerState::ALL.map(LedgerState::as_str);
    if let Some(state) = query.state.as_deref().filter(|state| !states.contains(state)) {
        return Err(Problem::unusable(format!("\"{state}\" is no state; write one of {}", states.join(", "))));
    }
    let (store, connection) = (admin.store.clone(), admin.accounts.connection(&channel));
    let page = blocking(move || {
        let Some(source) = store.source(&channel)? else { return Ok(LedgerPage { rows: Vec::new(), next: None }) };
        // A state that few rows are in asks for a look at many.
        let looked = if query.state.is_some() { MOST_LOOKED } else { limit };
        let first = query.after.saturating_add(1);
        let found = store.ledger(&channel, source.ledger_validity(), first..=u32::MAX, looked)?;
        let (whole, last) = (found.len() < looked, found.last().map(|row| row.uid));
        let fits = |row: &LedgerRow| query.state.as_deref().is_none_or(|state| state == row.state.as_str());
        let mut rows: Vec<LedgerRow> = found.into_iter().filter(fits).take(limit + 1).collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|row| row.uid) } else { last.filter(|_| !whole) };
        let rows = rows.into_iter().map(|row| ledger_json(row, connection.as_ref())).collect();
        Ok(LedgerPage { rows, next })
    });
    Ok(Json(page.await?))
}

#[utoipa::path(get, path = "/v1/channels/{address}/parity", params(("address" = String, Path), ParityQuery),
    responses((status = 200, body = ParityJson), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn parity(
    State(admin): State<Admin>,
    address: Part<String>,
    query: Parameters<ParityQuery>,
) -> Result<Json<ParityJson>, Problem> {
    let (channel, query) = (channel(&admin, &part(address)?)?, given(query)?);
    let since = query.since.as_deref().map_or(Ok(PERIOD), crate::units::parse_duration);
    let since = since.ok().filter(|since| !since.is_zero() && *since <= LONGEST_PERIOD);
    let wrong = || Problem::unusable("since is a period of at most 92d, such as 7d or 12h");
    let (since, now) = (since.ok_or_else(wrong)?, admin.clock.now());
    let parity = blocking(move || {
        let connected_at = admin.store.source(&channel)?.and_then(|source| source.connected_at);
        admin.desk.parity(&channel, &Span { since: now - since, now, connected_at })
    });
    Ok(Json(parity.await?.into()))
}

/// Makes a channel the one that takes mail for the postmaster, whatever the configuration says.
#[utoipa::path(post, path = "/v1/channels/{address}/default", params(("address" = String, Path)), request_body = Act,
    responses((status = 200, body = ChannelJson), (status = 404, body = Problem)))]
pub(super) async fn make_default(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    address: Part<String>,
    body: Bytes,
) -> Result<Json<ChannelJson>, Problem> {
    let channel = channel(&admin, &part(address)?)?;
    let author = author(parse_or_none::<Act>(&body)?.author, peer).await;
    let (store, chosen, now) = (admin.store.clone(), channel.clone(), admin.clock.now());
    blocking(move || {
        if store.default_channel()?.as_deref() != Some(chosen.to_string().as_str()) {
            store.step(|step| step.set_default_channel(&chosen, &author, now))?;
            tracing::info!(channel = %chosen, author, "this is the default channel now");
        }
        Ok(())
    })
    .await?;
    admin.directory.rcu(|directory| directory.with_default(&channel));
    Ok(Json(channel_json(&admin, &channel)?))
}

/// The channel that a path names.
fn channel(admin: &Admin, text: &str) -> Result<Address, Problem> {
    let directory = admin.directory.load();
    directory.by_address(text).map(|channel| channel.address.clone()).ok_or_else(|| {
        let detail = format!("there is no channel \"{text}\"");
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail, "see `ticketgate channels list`")
    })
}

/// A channel as lists show it.
pub(super) fn channel_json(admin: &Admin, address: &Address) -> Result<ChannelJson, Problem> {
    let directory = admin.directory.load();
    let channel = directory.by_address(&address.to_string());
    let channel = channel.ok_or_else(|| Problem::trouble(format!("{address} is no channel any more")))?;
    Ok(ChannelJson::of(channel, &directory, &admin.accounts))
}

/// Refuses to disconnect the default channel: mail for the postmaster has to come in somewhere.
pub(super) fn may_disconnect(admin: &Admin, address: &Address) -> Result<(), Problem> {
    let directory = admin.directory.load();
    if directory.default_channel().is_none_or(|default| default.address != *address) {
        return Ok(());
    }
    let (detail, action) = if directory.channels().len() > 1 {
        let detail = format!("{address} is the default channel, which takes mail for the postmaster");
        (detail, "make another one the default first: `ticketgate channels default ADDRESS`")
    } else {
        let action = "stop fetching with `ticketgate channels pause ADDRESS`, or take its [channel.source] out of the configuration";
        (format!("{address} is the only channel, and so the default one"), action)
    };
    Err(Problem::new(StatusCode::CONFLICT, "default-channel", "Not possible now", detail, action))
}

fn mailbox(store: &Store, channel: &Address) -> Result<Option<MailboxJson>, StoreError> {
    let Some(row) = store.source(channel)? else { return Ok(None) };
    let counts = store.ledger_counts(channel)?;
    let owed = store.intents(channel, MOST_OWED)?.len() as u64;
    let SourceRow { wanted, since, connected_at, swept_at, .. } = row;
    Ok(Some(MailboxJson {
        wanted: wanted.as_str().into(),
        wanted_since: since.to_string(),
        connected_at: connected_at.map(|at| at.to_string()),
        validity: row.validity,
        baseline: row.baseline,
        cursor: row.cursor,
        backfill: row.backfill.len() as u64,
        swept_at: swept_at.map(|at| at.to_string()),
        unaccounted: row.unaccounted,
        read_elsewhere: row.read_elsewhere,
        gone: row.gone,
        vanished: row.vanished,
        ledger: counts.into_iter().map(|(state, count)| (state.to_owned(), count)).collect(),
        unfiled: store.unfiled(channel) as u64,
        labels_owed: owed,
    }))
}

/// A row as programs see it; `connection` tells whether the server refuses labels.
pub(super) fn ledger_json(row: LedgerRow, connection: Option<&Connection>) -> LedgerJson {
    let label = match row.state {
        LedgerState::Imported | LedgerState::Rejected if row.label_refused => "refused",
        LedgerState::Imported | LedgerState::Rejected if row.labelled => "set",
        LedgerState::Imported | LedgerState::Rejected if connection.is_some_and(|c| c.labels_refused) => "refused",
        LedgerState::Imported | LedgerState::Rejected => "owed",
        _ => "none",
    };
    LedgerJson {
        validity: row.validity,
        uid: row.uid,
        state: row.state.as_str().into(),
        reason: row.reason,
        entry: row.mail,
        at: row.at.to_string(),
        label: label.into(),
    }
}

impl From<Parity> for ParityJson {
    fn from(parity: Parity) -> Self {
        let mails = |list: Vec<Lone>| list.into_iter().map(LoneJson::from).collect();
        Self {
            from: parity.from.to_string(),
            both: parity.both,
            only_forwarded: parity.only_forwarded_count,
            only_connector: parity.only_connector_count,
            pending: parity.pending,
            lag_seconds_median: parity.lag_median,
            lag_seconds_most: parity.lag_most,
            cut: parity.cut,
            can_switch_off: parity.can_switch_off,
            verdict: parity.verdict,
            only_forwarded_mails: mails(parity.only_forwarded),
            only_connector_mails: mails(parity.only_connector),
        }
    }
}

impl From<Lone> for LoneJson {
    fn from(lone: Lone) -> Self {
        let Lone { entry, message_id, at, subject } = lone;
        Self { entry, message_id, received_at: at.to_string(), subject }
    }
}
