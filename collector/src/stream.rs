//! `GET /api/v1/stream`: server-sent events. A snapshot, then deltas; who falls behind gets a fresh snapshot; a comment every
//! few seconds keeps the connection; all streams end on shutdown.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    clock,
    filter::{Filter, FilterError, Wish},
    hub::{Command, Follower, HubHandle, Next, Subscription, TooManyViews},
    metrics::Metrics,
    view::View,
};

/// Streams at once.
pub const MAX_CLIENTS: usize = 2_048;
/// A comment is sent this often.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// The first bytes of every stream: come back after a second.
const OPENING: &[u8] = b"retry: 1000\n\n";

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The way to the hub.
    pub hub: HubHandle,
    /// Places for clients.
    pub places: Arc<Semaphore>,
    /// A client that takes nothing for this long is cut.
    pub stalled: Duration,
    /// Turns true when the collector stops.
    pub shutdown: watch::Receiver<bool>,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
}

/// `?view=&filter=&noise=`.
#[derive(Debug, Deserialize)]
pub struct ViewQuery {
    /// Which view; `pod` when not given.
    #[serde(default)]
    view: View,
    /// What of it passes; everything when not given.
    #[serde(default)]
    filter: String,
    /// Whether noise is shown; it is when not given.
    #[serde(default)]
    noise: NoiseQuery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NoiseQuery {
    #[default]
    Show,
    Hide,
}

impl ViewQuery {
    /// What is asked for, or the answer that says what is wrong with it.
    ///
    /// # Errors
    /// When the filter is none, or does not fit the view.
    pub fn wish(&self) -> Result<Wish, FilterError> {
        let filter: Filter = self.filter.parse()?;
        filter.fits(self.view)?;
        Ok(Wish { view: self.view, filter, hide_noise: self.noise == NoiseQuery::Hide })
    }
}

/// A filter that is none: where, what, and what would be right.
pub fn bad_filter(error: &FilterError) -> Response {
    let FilterError { column, message, hint } = error;
    let json = serde_json::json!({ "column": column, "message": message, "hint": hint });
    (StatusCode::BAD_REQUEST, Json(json)).into_response()
}

/// Everything is in use; `after` seconds may be enough.
pub fn come_again(after: &'static str, why: String) -> Response {
    let retry = [(header::RETRY_AFTER, HeaderValue::from_static(after))];
    (StatusCode::SERVICE_UNAVAILABLE, retry, why).into_response()
}

struct Client {
    wish: Wish,
    first: std::vec::IntoIter<Bytes>,
    live: Follower,
    heartbeat: tokio::time::Interval,
    streams: Streams,
    /// When it was last ready for more: at least with every heartbeat.
    ready: Instant,
    _place: OwnedSemaphorePermit,
}

impl Drop for Client {
    fn drop(&mut self) {
        if clock::instant().duration_since(self.ready) > self.streams.stalled / 2 {
            self.streams.metrics.cut_clients.inc();
        }
    }
}

/// Opens a stream.
pub async fn stream(State(streams): State<Streams>, Query(query): Query<ViewQuery>, headers: HeaderMap) -> Response {
    let wish = match query.wish() {
        Ok(wish) => wish,
        Err(error) => return bad_filter(&error),
    };
    let Ok(place) = Arc::clone(&streams.places).try_acquire_owned() else {
        streams.metrics.refused_clients.inc();
        return come_again("5", format!("too many streams: {MAX_CLIENTS}\n"));
    };
    let last = headers.get("last-event-id").and_then(|id| event_id(id.to_str().ok()?));
    let subscription = match subscribe(&streams.hub, &wish, last).await {
        Some(Ok(subscription)) => subscription,
        Some(Err(error)) => return come_again("10", format!("{error}\n")),
        None => return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
    };
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let mut first = vec![Bytes::from_static(OPENING)];
    first.extend(subscription.first);
    let (live, ready) = (subscription.live, clock::instant());
    let client = Client { wish, first: first.into_iter(), live, heartbeat, streams, ready, _place: place };
    let events = stream::unfold(client, |mut client| async move {
        let event = client.next().await?;
        Some((Ok::<_, std::convert::Infallible>(event), client))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(events)).into_response()
}

impl Client {
    async fn next(&mut self) -> Option<Bytes> {
        self.ready = clock::instant();
        loop {
            if *self.streams.shutdown.borrow() {
                return None;
            }
            if let Some(event) = self.first.next() {
                return Some(event);
            }
            let next = tokio::select! {
                _ = self.streams.shutdown.wait_for(|over| *over) => return None,
                _ = self.heartbeat.tick() => return Some(Bytes::from_static(b": still here\n\n")),
                next = self.live.next() => next,
            };
            match next {
                Next::Delta(event) => return Some(event),
                Next::Behind => {
                    self.streams.metrics.lagged_clients.inc();
                    self.restart().await?;
                }
                // The view was put away while this client was between two events: begin again.
                Next::Over => self.restart().await?,
            }
        }
    }

    async fn restart(&mut self) -> Option<()> {
        // A view that makes room for others while its client is between two events ends the stream: the client comes again.
        let subscription = subscribe(&self.streams.hub, &self.wish, None).await?.ok()?;
        self.first = subscription.first.into_iter();
        self.live = subscription.live;
        Some(())
    }
}

async fn subscribe(
    hub: &HubHandle,
    wish: &Wish,
    last: Option<(String, u64)>,
) -> Option<Result<Subscription, TooManyViews>> {
    let (reply, answer) = oneshot::channel();
    hub.commands.send(Command::Subscribe { wish: wish.clone(), last, reply }).await.ok()?;
    answer.await.ok()
}

/// `run-revision`.
fn event_id(id: &str) -> Option<(String, u64)> {
    let (run, revision) = id.rsplit_once('-')?;
    Some((run.to_owned(), revision.parse().ok()?))
}
