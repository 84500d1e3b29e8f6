//! Routes that read tickets and entries.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{Json, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::channels::ledger_json;
use super::entry::EntryJson;
use super::outbox::DeliveryJson;
use super::problem::Problem;
use super::types::{
    EntryPage, Explanation, RejectPage, RowJson, TicketDetail, TicketJson, TicketList, state_from_word,
};
use super::{Admin, blocking};
use crate::desk::DeskError;
use crate::mail::Address;
use crate::store::TicketFilter;
use crate::store::rows::TicketRow;
use crate::ticket::letter::reply_address;

/// A page of entries ends once the original mails in it are larger than this.
const MAX_PAGE_BYTES: u64 = 1 << 20;

/// Who asks about a mail that is not known has most likely lost one.
const NEVER_CAME: &str = "it never came, or was turned away before it was read: look for its sender in the log";

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct TicketQuery {
    /// `open`, `closed` or `merged`.
    state: Option<String>,
    queue: Option<String>,
    channel: Option<String>,
    /// Only tickets with a lower number.
    before: Option<u64>,
    /// At most 1,000; 100 unless it is given.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Only what comes after this place of the feed.
    #[serde(default)]
    after: u64,
    /// At most 1,000; 100 unless it is given.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// With or without angle brackets; the id of an entry will do as well.
    message_id: String,
}

/// Query parameters, or what is wrong with them.
pub(super) type Parameters<T> = Result<Query<T>, QueryRejection>;
/// A part of the path, or what is wrong with it.
pub(super) type Part<T> = Result<Path<T>, PathRejection>;

#[utoipa::path(get, path = "/v1/tickets", params(TicketQuery),
    responses((status = 200, body = TicketList), (status = 400, body = Problem)))]
pub(super) async fn tickets(
    State(admin): State<Admin>,
    query: Parameters<TicketQuery>,
) -> Result<Json<TicketList>, Problem> {
    let query = given(query)?;
    let unknown = |word: &String| Problem::unusable(format!("\"{word}\" is no state; write open, closed or merged"));
    let state = query.state.as_ref().map(|word| state_from_word(word).ok_or_else(|| unknown(word))).transpose()?;
    let limit = limit(query.limit)?;
    let filter = TicketFilter { state, queue: query.queue, channel: query.channel, before: query.before, limit };
    let rows = blocking(move || admin.desk.tickets(&filter)).await?;
    let before = if rows.len() == limit { rows.last().map(|row| row.number) } else { None };
    Ok(Json(TicketList { tickets: rows.into_iter().map(TicketJson::from).collect(), before }))
}

#[utoipa::path(get, path = "/v1/tickets/{number}", params(("number" = u64, Path)),
    responses((status = 200, body = TicketDetail), (status = 404, body = Problem)))]
pub(super) async fn ticket(State(admin): State<Admin>, number: Part<u64>) -> Result<Json<TicketDetail>, Problem> {
    let number = part(number)?;
    let desk = admin.desk.clone();
    let (row, entries) = blocking(move || desk.ticket(number)).await?;
    let reply_address = signed_address(&admin, &row);
    let entries = entries.into_iter().map(EntryJson::from).collect();
    Ok(Json(TicketDetail { ticket: row.into(), reply_address, entries }))
}

/// The signed address of a ticket, as its mail carries it. A merged ticket has none.
fn signed_address(admin: &Admin, row: &TicketRow) -> Option<String> {
    let directory = admin.directory.load();
    let channel = directory.by_address(&row.channel).filter(|_| row.merged_into.is_none())?;
    reply_address(channel, row.number, &admin.keys).map(|address| address.to_string())
}

#[utoipa::path(get, path = "/v1/entries", params(PageQuery),
    responses((status = 200, body = EntryPage), (status = 400, body = Problem)))]
pub(super) async fn entries(
    State(admin): State<Admin>,
    query: Parameters<PageQuery>,
) -> Result<Json<EntryPage>, Problem> {
    let query = given(query)?;
    let limit = limit(query.limit)?;
    let page = blocking(move || admin.desk.entries(query.after, limit, MAX_PAGE_BYTES)).await?;
    Ok(Json(EntryPage { entries: page.items.into_iter().map(EntryJson::from).collect(), next: page.next }))
}

#[utoipa::path(get, path = "/v1/entries/{id}", params(("id" = String, Path)),
    responses((status = 200, body = EntryJson), (status = 404, body = Problem)))]
pub(super) async fn entry(State(admin): State<Admin>, id: Part<String>) -> Result<Json<EntryJson>, Problem> {
    let id = part(id)?;
    Ok(Json(blocking(move || admin.desk.entry(&id)).await?.into()))
}

#[utoipa::path(get, path = "/v1/entries/{id}/raw", params(("id" = String, Path)),
    responses((status = 200, description = "The original bytes", content_type = "message/rfc822"),
        (status = 404, body = Problem), (status = 410, body = Problem)))]
pub(super) async fn raw(State(admin): State<Admin>, id: Part<String>) -> Result<Response, Problem> {
    let id = part(id)?;
    let work = move || Ok(admin.desk.raw(&id)?.read()?.into_owned());
    download(blocking(work).await?, "message/rfc822")
}

#[utoipa::path(get, path = "/v1/entries/{id}/attachments/{n}", params(("id" = String, Path), ("n" = usize, Path)),
    responses((status = 200, description = "The decoded bytes"), (status = 404, body = Problem)))]
pub(super) async fn attachment(State(admin): State<Admin>, place: Part<(String, usize)>) -> Result<Response, Problem> {
    let (id, n) = part(place)?;
    let (attachment, bytes) = blocking(move || admin.desk.attachment(&id, n)).await?;
    download(bytes, &attachment.content_type)
}

#[utoipa::path(get, path = "/v1/rejects", params(PageQuery),
    responses((status = 200, body = RejectPage), (status = 400, body = Problem)))]
pub(super) async fn rejects(
    State(admin): State<Admin>,
    query: Parameters<PageQuery>,
) -> Result<Json<RejectPage>, Problem> {
    let query = given(query)?;
    let limit = limit(query.limit)?;
    let page = blocking(move || admin.desk.rejects(query.after, limit)).await?;
    Ok(Json(RejectPage { rejects: page.items.into_iter().map(Into::into).collect(), next: page.next }))
}

#[utoipa::path(get, path = "/v1/explain", params(ExplainQuery),
    responses((status = 200, body = Explanation), (status = 404, body = Problem)))]
pub(super) async fn explain(
    State(admin): State<Admin>,
    query: Parameters<ExplainQuery>,
) -> Result<Json<Explanation>, Problem> {
    let query = given(query)?;
    let (desk, accounts) = (admin.desk.clone(), admin.accounts.clone());
    let (board, now) = (admin.board.now(), admin.clock.now());
    let rows = blocking(move || {
        let rows = desk.explain(&query.message_id)?.into_iter();
        let more = |row| Ok::<_, DeskError>((desk.ledger_row(&row)?, desk.sent(&row)?, row));
        rows.map(more).collect::<Result<Vec<_>, _>>()
    });
    let rows = rows.await.map_err(|problem| match problem.status {
        404 => Problem { action: NEVER_CAME.into(), ..problem },
        _ => problem,
    });
    let told = rows?.into_iter().map(|(ledger, sent, row)| {
        let connection = Address::parse(&row.channel).ok().and_then(|channel| accounts.connection(&channel));
        let mailbox = ledger.map(|ledger| ledger_json(ledger, connection.as_ref()));
        let waits_for = sent.as_ref().and_then(|sent| board.waits_for(&sent.row, now));
        let delivery = sent.map_or_else(Vec::new, |sent| DeliveryJson::all(sent.recipients, sent.row.due));
        RowJson { mailbox, waits_for, delivery, ..row.into() }
    });
    Ok(Json(Explanation { entries: told.collect() }))
}

/// The parameters of a query, or what is wrong with them.
pub(super) fn given<T>(query: Parameters<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::unusable(error.body_text()))
}

/// A part of the path, or what is wrong with it.
pub(super) fn part<T>(path: Part<T>) -> Result<T, Problem> {
    path.map(|Path(part)| part).map_err(|error| Problem::unusable(error.body_text()))
}

pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(limit) => Err(Problem::unusable(format!("limit {limit} is out of range; write 1 to {MAX_LIMIT}"))),
    }
}

/// Bytes that came from outside: never to be shown in place by a browser, nor guessed at.
fn download(bytes: Vec<u8>, content_type: &str) -> Result<Response, Problem> {
    let fallback = HeaderValue::from_static("application/octet-stream");
    let content_type = HeaderValue::from_str(content_type).unwrap_or(fallback);
    Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_DISPOSITION, "attachment")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Body::from(bytes))
        .map_err(|error| DeskError::Trouble(error.to_string()).into())
}
