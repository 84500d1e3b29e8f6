//! Answers to tickets and the first mails of new ones: the routes with a large body, since attachments come with it.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body as HttpBody, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::act::{author, parse};
use super::entry::EntryJson;
use super::problem::Problem;
use super::read::{Part, part};
use super::{Admin, Peer};
use crate::desk::reply::{About, Order, Replied};
use crate::mail::compose::{Body, Enclosure, Words};
use crate::units::show_bytes;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Memory that answers under way may take together, in MiB; an answer takes some four times its body: as JSON, decoded,
/// composed, and on its way to the log.
const MEMORY: u32 = 512;
const TIMES: usize = 4;

/// The most of a request that is too large which is read only to answer it.
const MOST_DISCARDED: usize = 1 << 30;

/// Lends out that memory.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Semaphore>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY as usize)))
    }
}

/// The body of an answer: `text` or `markdown`, or `html` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewReply {
    pub text: Option<String>,
    /// CommonMark, sent as text and as HTML. Raw HTML in it is shown as it was typed.
    pub markdown: Option<String>,
    /// HTML of your own, beside `text` or `markdown` or alone.
    pub html: Option<String>,
    /// `local@domain` or `Name <local@domain>`; the requester where there is none.
    pub to: Vec<String>,
    pub cc: Vec<String>,
    /// Everybody who takes part in the ticket gets a copy.
    pub everybody: bool,
    /// `Re: ` and the ticket's title unless it is given.
    pub subject: Option<String>,
    pub attachments: Vec<NewAttachment>,
    /// Whether the customer's last mail is quoted below.
    pub quote: bool,
    /// Whether the ticket is closed with it.
    pub close: bool,
    /// Who answers, for the trace; the user of the caller unless it is given.
    pub author: Option<String>,
    /// The sender's name as recipients see it; that of the channel unless it is given.
    pub from_name: Option<String>,
    /// The same order with the same key is carried out once; `Idempotency-Key` as a header field does the same.
    pub idempotency_key: Option<String>,
}

/// A mail that opens a ticket from our side. Who answers it finds the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTicket {
    /// The support address that it is sent from; the ticket belongs to it and its queue.
    pub channel: String,
    /// `local@domain` or `Name <local@domain>`; the first is the requester.
    pub to: Vec<String>,
    #[serde(default)]
    pub cc: Vec<String>,
    /// Becomes the ticket's title.
    pub subject: String,
    #[serde(default)]
    pub text: Option<String>,
    /// CommonMark, sent as text and as HTML.
    #[serde(default)]
    pub markdown: Option<String>,
    /// HTML of your own, beside `text` or `markdown` or alone.
    #[serde(default)]
    pub html: Option<String>,
    #[serde(default)]
    pub attachments: Vec<NewAttachment>,
    /// Who writes, for the trace; the user of the caller unless it is given.
    #[serde(default)]
    pub author: Option<String>,
    /// The sender's name as recipients see it; that of the channel unless it is given.
    #[serde(default)]
    pub from_name: Option<String>,
    /// The same order with the same key is carried out once; `Idempotency-Key` as a header field does the same.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

impl NewTicket {
    /// The mail alone, and what it is about.
    fn split(self) -> (About, NewReply) {
        let mail = NewReply {
            text: self.text,
            markdown: self.markdown,
            html: self.html,
            to: self.to,
            cc: self.cc,
            subject: Some(self.subject),
            attachments: self.attachments,
            author: self.author,
            from_name: self.from_name,
            idempotency_key: self.idempotency_key,
            ..NewReply::default()
        };
        (About::New(self.channel), mail)
    }
}

/// A file that goes with an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAttachment {
    pub name: String,
    /// `application/octet-stream` unless it is given.
    #[serde(default)]
    pub content_type: Option<String>,
    pub content_base64: String,
    /// The name by which the HTML shows it (`cid:…`); such a file is part of the text and no attachment.
    #[serde(default)]
    pub content_id: Option<String>,
}

/// The answer is accepted and stands on disk, but is not filed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedReply {
    /// The entry will have this id.
    pub id: String,
    pub said: String,
}

#[utoipa::path(post, path = "/v1/tickets/{number}/replies", params(("number" = u64, Path),
    ("Idempotency-Key" = Option<String>, Header)), request_body = NewReply,
    responses((status = 201, body = EntryJson), (status = 202, body = AcceptedReply), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 413, body = Problem)))]
pub(super) async fn reply(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(memory): Extension<Memory>,
    number: Part<u64>,
    request: Request,
) -> Result<Response, Problem> {
    let about = About::Ticket(part(number)?);
    carry_out(&admin, peer, &memory, request, |body| Ok((about, parse(body)?))).await
}

#[utoipa::path(post, path = "/v1/tickets", params(("Idempotency-Key" = Option<String>, Header)),
    request_body = NewTicket,
    responses((status = 201, body = EntryJson), (status = 202, body = AcceptedReply), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem)))]
pub(super) async fn open(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(memory): Extension<Memory>,
    request: Request,
) -> Result<Response, Problem> {
    carry_out(&admin, peer, &memory, request, |body| Ok(parse::<NewTicket>(body)?.split())).await
}

/// Reads an order within its limits, carries it out, and tells what became of it.
async fn carry_out(
    admin: &Admin,
    peer: Peer,
    memory: &Memory,
    request: Request,
    read: impl FnOnce(&Bytes) -> Result<(About, NewReply), Problem>,
) -> Result<Response, Problem> {
    let limit = admin.replies.max_request_bytes();
    let announced = content_length(request.headers()).unwrap_or(limit);
    if announced > limit {
        // Whoever is not heard out sees a broken connection, and not why.
        discard(request.into_body()).await;
        return Err(too_large(limit));
    }
    let weight = u32::try_from((announced * TIMES) >> 20).unwrap_or(MEMORY).clamp(1, MEMORY);
    let _lent = memory.0.acquire_many(weight).await.map_err(|_| Problem::trouble("the daemon is ending"))?;
    let named = request.headers().get(IDEMPOTENCY_KEY).map(|key| key.to_str().map(str::to_owned)).transpose();
    let named = named.map_err(|_| Problem::unusable("Idempotency-Key is not printable ASCII"))?;
    let body = to_bytes(request.into_body(), limit).await.map_err(|_| too_large(limit))?;
    let (about, new) = read(&body)?;
    drop(body);
    let opens = matches!(about, About::New(_));
    Ok(match admin.replies.reply(order(about, new, named, peer).await?).await? {
        Replied::Filed(view) => {
            let entry = EntryJson::from(*view);
            let made = match entry.ticket.filter(|_| opens) {
                Some(ticket) => format!("/v1/tickets/{ticket}"),
                None => format!("/v1/entries/{}", entry.id),
            };
            let location = [(header::LOCATION, made)];
            (StatusCode::CREATED, location, Json(entry)).into_response()
        }
        Replied::Accepted(id) => {
            let said = "it stands on disk and will be filed in a moment".to_owned();
            (StatusCode::ACCEPTED, Json(AcceptedReply { id, said })).into_response()
        }
    })
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads the rest of a body and keeps none of it, up to a bound; the time that a request has holds as well.
async fn discard(body: HttpBody) {
    let (mut parts, mut read) = (body.into_data_stream(), 0);
    while let Some(Ok(part)) = parts.next().await {
        read += part.len();
        if read > MOST_DISCARDED {
            return;
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let said = format!("the request is larger than replies.max_request_bytes, {}", show_bytes(limit as u64));
    let action = "send a link to what is larger, or raise the limit";
    Problem::too_large(said, action)
}

async fn order(about: About, new: NewReply, named: Option<String>, peer: Peer) -> Result<Order, Problem> {
    let words = match (new.text, new.markdown) {
        (Some(_), Some(_)) => return Err(Problem::unusable("text and markdown exclude each other: give one of them")),
        (None, Some(markdown)) => Words { body: Body::Markdown(markdown), html: new.html },
        (text, None) => Words { body: Body::Text(text.unwrap_or_default()), html: new.html },
    };
    let key = match (new.idempotency_key, named) {
        (Some(one), Some(other)) if one != other => {
            return Err(Problem::unusable("idempotency_key and the field Idempotency-Key differ: give one of them"));
        }
        (one, other) => one.or(other),
    };
    let attachments = new.attachments.into_iter().map(enclosure).collect::<Result<_, _>>()?;
    Ok(Order {
        about,
        author: author(new.author, peer).await,
        from_name: new.from_name.filter(|name| !name.trim().is_empty()),
        peer: format!("uid {}", peer.uid),
        words,
        to: new.to,
        cc: new.cc,
        everybody: new.everybody,
        subject: new.subject,
        attachments,
        quote: new.quote,
        close: new.close,
        key,
    })
}

fn enclosure(new: NewAttachment) -> Result<Enclosure, Problem> {
    let bytes = STANDARD.decode(new.content_base64.as_bytes()).map_err(|error| {
        Problem::unusable(format!("content_base64 of the attachment \"{}\" is not base64: {error}", new.name))
    })?;
    let content_type = new.content_type.unwrap_or_else(|| "application/octet-stream".into());
    Ok(Enclosure { name: new.name, content_type, bytes, content_id: new.content_id })
}
