//! Routes that change something. Each says who did it.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::response::Json;
use serde::de::DeserializeOwned;

use super::entry::EntryJson;
use super::problem::Problem;
use super::read::{Part, part};
use super::types::{Act, Done, Merge, NewNote, RowJson, TicketJson};
use super::{Admin, Peer, blocking, user};

#[utoipa::path(post, path = "/v1/tickets/{number}/notes", params(("number" = u64, Path)), request_body = NewNote,
    responses((status = 200, body = EntryJson), (status = 404, body = Problem)))]
pub(super) async fn note(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Part<u64>,
    body: Bytes,
) -> Result<Json<EntryJson>, Problem> {
    let (number, note) = (part(number)?, parse::<NewNote>(&body)?);
    let author = author(note.author, peer).await;
    Ok(Json(blocking(move || admin.desk.note(number, &author, &note.text)).await?.into()))
}

#[utoipa::path(post, path = "/v1/tickets/{number}/close", params(("number" = u64, Path)), request_body = Act,
    responses((status = 200, body = TicketJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn close(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Part<u64>,
    body: Bytes,
) -> Result<Json<TicketJson>, Problem> {
    let (number, author) = (part(number)?, author(parse_or_none::<Act>(&body)?.author, peer).await);
    Ok(Json(blocking(move || admin.desk.close(number, &author)).await?.into()))
}

#[utoipa::path(post, path = "/v1/tickets/{number}/reopen", params(("number" = u64, Path)), request_body = Act,
    responses((status = 200, body = TicketJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn reopen(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Part<u64>,
    body: Bytes,
) -> Result<Json<TicketJson>, Problem> {
    let (number, author) = (part(number)?, author(parse_or_none::<Act>(&body)?.author, peer).await);
    Ok(Json(blocking(move || admin.desk.reopen(number, &author)).await?.into()))
}

#[utoipa::path(post, path = "/v1/tickets/{number}/merge", params(("number" = u64, Path)), request_body = Merge,
    responses((status = 200, body = TicketJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn merge(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Part<u64>,
    body: Bytes,
) -> Result<Json<TicketJson>, Problem> {
    let (number, merge) = (part(number)?, parse::<Merge>(&body)?);
    let author = author(merge.author, peer).await;
    Ok(Json(blocking(move || admin.desk.merge(number, merge.into, &author)).await?.into()))
}

#[utoipa::path(post, path = "/v1/entries/{id}/retry", params(("id" = String, Path)), request_body = Act,
    responses((status = 200, body = RowJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn retry(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    id: Part<String>,
    body: Bytes,
) -> Result<Json<RowJson>, Problem> {
    let (id, author) = (part(id)?, author(parse_or_none::<Act>(&body)?.author, peer).await);
    Ok(Json(blocking(move || admin.desk.retry(&id, &author)).await?.into()))
}

#[utoipa::path(post, path = "/v1/entries/{id}/erase", params(("id" = String, Path)), request_body = Act,
    responses((status = 200, body = Done), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn erase(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    id: Part<String>,
    body: Bytes,
) -> Result<Json<Done>, Problem> {
    let (id, author) = (part(id)?, author(parse_or_none::<Act>(&body)?.author, peer).await);
    blocking(move || admin.desk.erase(&id, &author)).await?;
    Ok(Json(Done { done: true }))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::unusable(format!("the body is not what is expected: {error}")))
}

/// A body that may be left out.
pub(super) fn parse_or_none<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// Who does something: whom the request names, or the user at the other end of the socket.
pub(super) async fn author(given: Option<String>, peer: Peer) -> String {
    if let Some(name) = given.filter(|name| !name.trim().is_empty()) {
        return name;
    }
    // It is read from a file, which may lie on a slow disk.
    let shown = tokio::task::spawn_blocking(move || user::shown(peer.uid)).await;
    shown.unwrap_or_else(|_| format!("uid {}", peer.uid))
}
