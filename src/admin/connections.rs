//! Routes that change a channel's connection to its mailbox.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Json;

use super::act::{author, parse_or_none};
use super::channels::{channel_json, may_disconnect};
use super::credential::{Answer, AuthorisationJson, ConnectAnswer};
use super::problem::Problem;
use super::read::{Part, part};
use super::types::{Act, ChannelJson, Connect};
use super::{Admin, Peer};
use crate::accounts::{AccountError, Authorisation, Flow};
use crate::mail::Address;
use crate::store::rows::Wanted;

/// How long the answer to an answer waits for the outcome, which is less than a request may take.
const OUTCOME: Duration = Duration::from_secs(20);

#[utoipa::path(post, path = "/v1/channels/{address}/connect", params(("address" = String, Path)), request_body = Connect,
    responses((status = 200, body = ConnectAnswer), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn connect(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    address: Part<String>,
    body: Bytes,
) -> Result<Json<ConnectAnswer>, Problem> {
    let channel = channel(&admin, part(address)?)?;
    let asked: Connect = parse_or_none(&body)?;
    let author = author(asked.author, peer).await;
    let unknown = |word: &String| Problem::unusable(format!("\"{word}\" is no flow; write code, device or app"));
    let flow = asked.flow.as_ref().map(|word| Flow::from_word(word).ok_or_else(|| unknown(word))).transpose()?;
    let by_oauth = admin.accounts.credential(&channel).is_some_and(|credential| credential.kind == "oauth");
    if flow.is_some() || (by_oauth && asked.password.is_none()) {
        let begun = admin.accounts.authorise(&channel, flow, &author).await.map_err(refused)?;
        return Ok(Json(ConnectAnswer::Begun { authorisation: Box::new(begun.into()) }));
    }
    admin.accounts.connect(&channel, asked.password.map(Into::into), &author).await.map_err(refused)?;
    let Json(shown) = show(&admin, &channel)?;
    Ok(Json(ConnectAnswer::Connected(Box::new(shown))))
}

/// How far an authorisation is.
#[utoipa::path(get, path = "/v1/channels/{address}/authorisations/{id}",
    params(("address" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = AuthorisationJson), (status = 404, body = Problem)))]
pub(super) async fn authorisation(
    State(admin): State<Admin>,
    path: Part<(String, String)>,
) -> Result<Json<AuthorisationJson>, Problem> {
    let (_, shown) = named(&admin, path)?;
    Ok(Json(shown.into()))
}

/// Ends an authorisation that still waits for somebody.
#[utoipa::path(delete, path = "/v1/channels/{address}/authorisations/{id}",
    params(("address" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = AuthorisationJson), (status = 404, body = Problem)))]
pub(super) async fn cancel(
    State(admin): State<Admin>,
    path: Part<(String, String)>,
) -> Result<Json<AuthorisationJson>, Problem> {
    let (channel, shown) = named(&admin, path)?;
    admin.accounts.cancel_authorisation(&channel, &shown.id);
    let now = admin.accounts.authorisation(&channel, &shown.id).unwrap_or(shown);
    Ok(Json(now.into()))
}

/// Takes the address that a browser was sent to, from a machine that the browser does not reach.
#[utoipa::path(post, path = "/v1/channels/{address}/authorisations/{id}/answer", request_body = Answer,
    params(("address" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = AuthorisationJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn answer(
    State(admin): State<Admin>,
    path: Part<(String, String)>,
    body: Bytes,
) -> Result<Json<AuthorisationJson>, Problem> {
    let (channel, shown) = named(&admin, path)?;
    // The text of this error would repeat what was sent, and that is a code.
    let given: Answer = serde_json::from_slice(&body)
        .map_err(|_| Problem::unusable("the body is not what is expected: {\"redirected_to\": \"http…\"}"))?;
    let ended = admin.accounts.answer_authorisation(&channel, &shown.id, given.redirected_to.trim(), OUTCOME).await;
    Ok(Json(ended.map_err(refused)?.into()))
}

/// The authorisation that a path names, with its channel.
fn named(admin: &Admin, path: Part<(String, String)>) -> Result<(Address, Authorisation), Problem> {
    let (address, id) = part(path)?;
    let channel = channel(admin, address)?;
    let found = admin.accounts.authorisation(&channel, &id);
    let found = found.ok_or_else(|| {
        let action = "begin one with `ticketgate connect`";
        let detail = format!("{channel} has no authorisation \"{id}\"");
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail, action)
    })?;
    Ok((channel, found))
}

/// Pause, resume, disconnect: what is wanted of a connection from now on. Look, sweep: what is to be done at once.
#[utoipa::path(post, path = "/v1/channels/{address}/{order}", request_body = Act,
    params(("address" = String, Path), ("order" = String, Path, description = "pause, resume, disconnect, look or sweep")),
    responses((status = 200, body = ChannelJson), (status = 404, body = Problem)))]
pub(super) async fn order(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((address, order)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<ChannelJson>, Problem> {
    let channel = channel(&admin, address)?;
    let author = author(parse_or_none::<Act>(&body)?.author, peer).await;
    let wanted = match order.as_str() {
        "pause" => Wanted::Paused,
        "resume" => Wanted::Connected,
        "disconnect" => {
            may_disconnect(&admin, &channel)?;
            Wanted::Disconnected
        }
        "look" | "sweep" => {
            admin.accounts.order(&channel, |orders| match order.as_str() {
                "look" => orders.look += 1,
                _ => orders.sweep += 1,
            });
            return show(&admin, &channel);
        }
        _ => return Err(Problem::no_such_route(format!("\"{order}\" is no order for a connection"))),
    };
    let (accounts, address) = (admin.accounts.clone(), channel.clone());
    let done = tokio::task::spawn_blocking(move || accounts.want(&address, wanted, &author)).await;
    done.map_err(|_| Problem::trouble("the request was broken off"))?.map_err(refused)?;
    show(&admin, &channel)
}

/// The channel with a mailbox that a path names.
fn channel(admin: &Admin, text: String) -> Result<Address, Problem> {
    let wanted = Address::parse(&text).ok();
    let setup = admin.accounts.setup();
    let found = setup.accounts.iter().find(|account| Some(&account.channel) == wanted.as_ref());
    found.map(|account| account.channel.clone()).ok_or_else(|| {
        let action = "see `ticketgate channels list`, and give the channel a [channel.source]";
        let detail = format!("there is no channel \"{text}\" with a mailbox");
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail, action)
    })
}

fn show(admin: &Admin, address: &Address) -> Result<Json<ChannelJson>, Problem> {
    channel_json(admin, address).map(Json)
}

pub(super) fn refused(error: AccountError) -> Problem {
    let conflict = |detail: String, action: &str| {
        Problem::new(StatusCode::CONFLICT, "not-connected", "Not possible now", detail, action)
    };
    match error {
        AccountError::Refused { channel, problem } => {
            let action = problem.action_for(&channel);
            conflict(format!("{channel} could not be connected: {}", problem.said), &action)
        }
        AccountError::Store(error) => crate::desk::DeskError::from(error).into(),
        AccountError::ForeignAnswer => {
            conflict(error.to_string(), "copy the whole address that the browser was sent to, of this authorisation")
        }
        AccountError::TooManyAuthorisations(_) => {
            conflict(error.to_string(), "let them end, or raise accounts.max_authorisations")
        }
        other => conflict(other.to_string(), "look at the channel in the configuration"),
    }
}
