//! Routes that change a channel's connection to its mailbox.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Json;

use super::act::{author, parse_or_none};
use super::channels::{channel_json, may_disconnect};
use super::problem::Problem;
use super::read::{Part, part};
use super::types::{Act, ChannelJson, Connect};
use super::{Admin, Peer};
use crate::accounts::AccountError;
use crate::mail::Address;
use crate::store::rows::Wanted;

#[utoipa::path(post, path = "/v1/channels/{address}/connect", params(("address" = String, Path)), request_body = Connect,
    responses((status = 200, body = ChannelJson), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn connect(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    address: Part<String>,
    body: Bytes,
) -> Result<Json<ChannelJson>, Problem> {
    let channel = channel(&admin, part(address)?)?;
    let asked: Connect = parse_or_none(&body)?;
    let author = author(asked.author, peer);
    admin.accounts.connect(&channel, asked.password.map(Into::into), &author).await.map_err(refused)?;
    show(&admin, &channel)
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
    let author = author(parse_or_none::<Act>(&body)?.author, peer);
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
    let configured = admin.accounts.configured();
    let found = configured.iter().find(|account| Some(&account.channel) == wanted.as_ref());
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
            conflict(format!("{channel} could not be connected: {}", problem.said), problem.cause.action())
        }
        AccountError::Store(error) => crate::desk::DeskError::from(error).into(),
        AccountError::Vault(error) => Problem::trouble(error.to_string()),
        other => conflict(other.to_string(), "look at the channel in the configuration"),
    }
}
