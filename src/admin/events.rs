//! The feed of changes as server-sent events: from any place, then live.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;

use super::problem::Problem;
use super::read::{Parameters, given};
use super::types::EventJson;
use super::{Admin, blocking};
use crate::store::Progress;

/// Events that are read from the store at once.
const PAGE: usize = 200;

/// A comment goes out this often while nothing happens, so that both ends see that the other is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    /// Only what comes after this place of the feed; a `Last-Event-ID` header goes before it.
    #[serde(default)]
    after: u64,
}

#[utoipa::path(get, path = "/v1/events", params(EventQuery),
    responses((status = 200, description = "Changes as server-sent events: id is the place in the feed, event the kind",
        content_type = "text/event-stream", body = EventJson), (status = 400, body = Problem)))]
pub(super) async fn events(
    State(admin): State<Admin>,
    headers: HeaderMap,
    query: Parameters<EventQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let asked = given(query)?.after;
    let after = match headers.get("last-event-id") {
        None => asked,
        Some(id) => {
            let number = id.to_str().ok().and_then(|id| id.trim().parse().ok());
            number.ok_or_else(|| Problem::unusable("Last-Event-ID is not a number"))?
        }
    };
    let follower = Follower { progress: admin.store.watch(), admin, after, waiting: VecDeque::new() };
    Ok(Sse::new(stream::unfold(follower, Follower::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One who follows the feed.
struct Follower {
    admin: Admin,
    progress: watch::Receiver<Progress>,
    after: u64,
    waiting: VecDeque<EventJson>,
}

impl Follower {
    /// The next event; `None` at the shutdown, or when the store can't be read any more.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.seq;
                let data = serde_json::to_string(&event).unwrap_or_default();
                let sent = Event::default().id(event.seq.to_string()).event(&event.kind).data(data);
                return Some((Ok(sent), self));
            }
            if self.admin.shutdown.is_thrown() {
                return None;
            }
            // Marked as seen before the reading, so that a change during it ends the wait at once.
            self.progress.mark_unchanged();
            let (desk, after) = (self.admin.desk.clone(), self.after);
            let rows = blocking(move || desk.events(after, PAGE)).await;
            self.waiting.extend(rows.ok()?.into_iter().map(EventJson::from));
            if self.waiting.is_empty() {
                let mut shutdown = self.admin.shutdown.clone();
                tokio::select! {
                    changed = self.progress.changed() => changed.ok()?,
                    () = shutdown.wait() => return None,
                }
            }
        }
    }
}
