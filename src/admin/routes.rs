//! All routes of the admin socket in one table, who may use them, and their description.

use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};

use super::problem::{PROBLEM, Problem};
use super::{Admin, Peer, Role, act, channels, connections, events, outbox, read, relays, replies, secrets, status};
use crate::units::show_bytes;

/// The media type that bodies have unless they say otherwise.
const JSON: &str = "application/json";

/// The largest body of a request, but for an answer with its attachments, which has a limit of its own.
const MAX_BODY: usize = 64 << 10;

#[derive(OpenApi)]
#[openapi(
    info(title = "ticketgate admin socket", description = "Errors are RFC 9457 application/problem+json."),
    paths(
        status::status,
        status::channels,
        read::tickets,
        read::ticket,
        read::entries,
        read::entry,
        read::raw,
        read::attachment,
        read::rejects,
        read::explain,
        events::events,
        channels::show,
        channels::ledger,
        channels::parity,
        channels::make_default,
        connections::connect,
        connections::order,
        connections::authorisation,
        connections::cancel,
        connections::answer,
        secrets::secrets,
        secrets::rotate,
        act::note,
        replies::reply,
        replies::open,
        act::close,
        act::reopen,
        act::merge,
        act::retry,
        act::erase,
        outbox::list,
        outbox::show,
        outbox::order,
        outbox::order_all,
        outbox::loops,
        outbox::release,
        outbox::suppressions,
        outbox::clear,
        relays::list,
        relays::show,
        relays::probe,
        description
    )
)]
struct Api;

/// The OpenAPI description of all routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        operations.into_iter().flatten().for_each(tell_problems);
    }
    api
}

/// Says of a route what holds for all of them: errors have the media type of RFC 9457, what cannot be read is a 400, and
/// whatever else goes wrong (403, 500, 504 and so on) is a problem as well.
fn tell_problems(operation: &mut Operation) {
    let reads = operation.parameters.is_some() || operation.request_body.is_some();
    let responses = &mut operation.responses.responses;
    let body = || Content::new(Some(Ref::from_schema_name("Problem")));
    let problem = |said: &str| RefOr::T(ResponseBuilder::new().description(said).content(JSON, body()).build());
    if reads {
        responses.entry("400".into()).or_insert_with(|| problem("The request cannot be used"));
    }
    responses.insert("default".into(), problem("Not allowed (403), or trouble of the daemon's own (5xx)"));
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if !status.starts_with('2')
            && let Some(content) = response.content.swap_remove(JSON)
        {
            response.content.insert(PROBLEM.into(), content);
        }
    }
}

/// Every route; a test holds it against the description.
pub(super) fn table() -> Vec<(&'static str, MethodRouter<Admin>)> {
    vec![
        ("/v1/status", get(status::status)),
        ("/v1/channels", get(status::channels)),
        ("/v1/channels/{address}", get(channels::show)),
        ("/v1/channels/{address}/ledger", get(channels::ledger)),
        ("/v1/channels/{address}/parity", get(channels::parity)),
        ("/v1/channels/{address}/default", post(channels::make_default)),
        ("/v1/channels/{address}/connect", post(connections::connect)),
        ("/v1/channels/{address}/{order}", post(connections::order)),
        ("/v1/channels/{address}/authorisations/{id}", get(connections::authorisation).delete(connections::cancel)),
        ("/v1/channels/{address}/authorisations/{id}/answer", post(connections::answer)),
        ("/v1/secrets", get(secrets::secrets)),
        ("/v1/secrets/rotate", post(secrets::rotate)),
        ("/v1/tickets", get(read::tickets).post(replies::open)),
        ("/v1/tickets/{number}", get(read::ticket)),
        ("/v1/tickets/{number}/notes", post(act::note)),
        ("/v1/tickets/{number}/replies", post(replies::reply)),
        ("/v1/tickets/{number}/close", post(act::close)),
        ("/v1/tickets/{number}/reopen", post(act::reopen)),
        ("/v1/tickets/{number}/merge", post(act::merge)),
        ("/v1/entries", get(read::entries)),
        ("/v1/entries/{id}", get(read::entry)),
        ("/v1/entries/{id}/raw", get(read::raw)),
        ("/v1/entries/{id}/attachments/{n}", get(read::attachment)),
        ("/v1/entries/{id}/retry", post(act::retry)),
        ("/v1/entries/{id}/erase", post(act::erase)),
        ("/v1/outbox", get(outbox::list).post(outbox::order_all)),
        ("/v1/outbox/{id}", get(outbox::show)),
        ("/v1/outbox/{id}/{order}", post(outbox::order)),
        ("/v1/loops", get(outbox::loops)),
        ("/v1/loops/{id}/release", post(outbox::release)),
        ("/v1/suppressions", get(outbox::suppressions)),
        ("/v1/suppressions/{address}/clear", post(outbox::clear)),
        ("/v1/relays", get(relays::list)),
        ("/v1/relays/{name}", get(relays::show)),
        ("/v1/relays/{name}/probe", post(relays::probe)),
        ("/v1/rejects", get(read::rejects)),
        ("/v1/explain", get(read::explain)),
        ("/v1/events", get(events::events)),
        ("/v1/openapi.json", get(description)),
    ]
}

/// The routes with their limits.
pub(super) fn router(admin: Admin, timeout: Duration) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    routes
        .fallback(async |request: Request| Problem::no_such_route(format!("there is no {}", request.uri().path())))
        .method_not_allowed_fallback(async || Problem::no_such_method())
        .layer(middleware::from_fn(as_problems))
        .layer(middleware::from_fn_with_state(timeout, in_time))
        .layer(middleware::from_fn(allowed))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(Extension(replies::Memory::default()))
        .with_state(admin)
}

#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "This description")))]
async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}

/// Lets in whom the configuration lets in.
async fn allowed(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match peer.role {
        Role::Full => {}
        Role::ReadOnly if reads => {}
        Role::ReadOnly => return Problem::forbidden(format!("user id {} may only read", peer.uid)).into_response(),
        Role::Nothing => {
            tracing::warn!(uid = peer.uid, "a user who is not allowed asked the admin socket");
            return Problem::forbidden(format!("user id {} is not allowed here", peer.uid)).into_response();
        }
    }
    next.run(request).await
}

/// What is turned away before a route sees it, such as a body that is too large, is told as a problem as well.
async fn as_problems(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let told = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    if told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let said = format!("the request is larger than {}", show_bytes(MAX_BODY as u64));
            Problem::too_large(said, "send less at once")
        }
        _ => {
            let reason = status.canonical_reason().unwrap_or("Refused");
            Problem::new(status, "refused", reason, "the request was turned away", "see /v1/openapi.json")
        }
    }
    .into_response()
}

/// The answer has to begin in time; a live feed begins at once and may then last.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn description_and_routes_name_the_same_paths() {
        let described: BTreeSet<String> = super::openapi().paths.paths.keys().cloned().collect();
        let served: BTreeSet<String> = super::table().into_iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(described, served);
    }
}
