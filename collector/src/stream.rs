//! `GET /api/v1/stream`: server-sent events. A snapshot, then deltas; who falls behind gets a fresh snapshot; a comment every
//! few seconds keeps the connection; all streams end on shutdown.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    hub::{Command, HubHandle, Subscription},
    metrics::Metrics,
    view::View,
};

/// Streams at once.
pub const MAX_CLIENTS: usize = 256;
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
    /// Turns true when the collector stops.
    pub shutdown: watch::Receiver<bool>,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
}

/// `?view=`.
#[derive(Debug, Deserialize)]
pub struct ViewQuery {
    /// Which view; `pod` when not given.
    #[serde(default)]
    pub view: View,
}

struct Client {
    view: View,
    first: std::vec::IntoIter<Bytes>,
    live: broadcast::Receiver<Bytes>,
    heartbeat: tokio::time::Interval,
    streams: Streams,
    _place: OwnedSemaphorePermit,
}

/// Opens a stream.
pub async fn stream(State(streams): State<Streams>, Query(query): Query<ViewQuery>, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&streams.places).try_acquire_owned() else {
        streams.metrics.refused_clients.inc();
        let retry = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "too many streams: 256\n").into_response();
    };
    let last = headers.get("last-event-id").and_then(|id| event_id(id.to_str().ok()?));
    let Some(subscription) = subscribe(&streams.hub, query.view, last).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    };
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let mut first = vec![Bytes::from_static(OPENING)];
    first.extend(subscription.first);
    let client = Client {
        view: query.view,
        first: first.into_iter(),
        live: subscription.live,
        heartbeat,
        streams,
        _place: place,
    };
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
        loop {
            if *self.streams.shutdown.borrow() {
                return None;
            }
            if let Some(event) = self.first.next() {
                return Some(event);
            }
            let received = tokio::select! {
                _ = self.streams.shutdown.wait_for(|over| *over) => return None,
                _ = self.heartbeat.tick() => return Some(Bytes::from_static(b": still here\n\n")),
                received = self.live.recv() => received,
            };
            match received {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.streams.metrics.lagged_clients.inc();
                    self.restart().await?;
                }
                // The view was put away while this client was between two events: begin again.
                Err(broadcast::error::RecvError::Closed) => self.restart().await?,
            }
        }
    }

    async fn restart(&mut self) -> Option<()> {
        let subscription = subscribe(&self.streams.hub, self.view, None).await?;
        self.first = subscription.first.into_iter();
        self.live = subscription.live;
        Some(())
    }
}

async fn subscribe(hub: &HubHandle, view: View, last: Option<(String, u64)>) -> Option<Subscription> {
    let (reply, answer) = oneshot::channel();
    hub.commands.send(Command::Subscribe { view, last, reply }).await.ok()?;
    answer.await.ok()
}

/// `run-revision`.
fn event_id(id: &str) -> Option<(String, u64)> {
    let (run, revision) = id.rsplit_once('-')?;
    Some((run.to_owned(), revision.parse().ok()?))
}
