//! `GET /api/v1/graph?at=`, `/api/v1/history` and `/api/v1/events`: the last hour. What is dear is done beside the hub.

use axum::{
    extract::{Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    filter::Wish,
    history::{Remembered, Whose},
    hub::{Command, HubHandle},
    time::{Ns, SECOND},
    view::{EventRow, View, ms},
};

/// `?at=`, in seconds since the Unix epoch.
#[derive(Debug, Deserialize)]
pub struct AtQuery {
    /// The instant; now when not given.
    pub at: Option<i64>,
}

/// `?edge=&vertex=&view=`.
#[derive(Debug, Deserialize)]
pub struct HistoryQuery {
    edge: Option<String>,
    vertex: Option<String>,
    #[serde(default)]
    view: View,
}

/// `?since=&until=&kind=`.
#[derive(Debug, Deserialize)]
pub struct EventsQuery {
    /// Seconds since the Unix epoch.
    since: Option<i64>,
    until: Option<i64>,
    kind: Option<String>,
}

#[derive(Debug, Serialize)]
struct EventsRow {
    events: Vec<EventRow>,
}

/// The graph as it was at `at`.
pub async fn graph(hub: &HubHandle, wish: Wish, at: i64) -> Response {
    let at = at.saturating_mul(SECOND);
    let (still, now) = match ask(hub, |reply| Command::Still { at, reply }).await {
        Ok(Ok(known)) => known,
        Ok(Err(span)) => return unknown(at, span),
        Err(closing) => return closing,
    };
    beside(move || serde_json::to_vec(&still.snapshot(&wish, &now.names, &now.identity))).await
}

/// What the last hour was, in figures.
pub async fn history(State(hub): State<HubHandle>, Query(query): Query<HistoryQuery>) -> Response {
    let whose = match (query.edge, query.vertex) {
        (None, None) => Whose::All,
        (Some(edge), None) => Whose::Edge(query.view, edge),
        (None, Some(vertex)) => Whose::Vertex(query.view, vertex),
        (Some(_), Some(_)) => {
            let text = "edge and vertex do not go together; hint: ask for one of them\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    match ask(&hub, |reply| Command::Tracks { reply }).await {
        Ok(tracks) => beside(move || serde_json::to_vec(&tracks.row(&whose))).await,
        Err(closing) => closing,
    }
}

/// What happened in it.
pub async fn events(State(hub): State<HubHandle>, Query(query): Query<EventsQuery>) -> Response {
    let mut events = match ask(&hub, |reply| Command::Events { reply }).await {
        Ok(events) => events,
        Err(closing) => return closing,
    };
    let in_ms = |seconds: i64| seconds.saturating_mul(1_000);
    events.retain(|event| {
        query.since.is_none_or(|since| event.time_ms >= in_ms(since))
            && query.until.is_none_or(|until| event.time_ms < in_ms(until))
            && query.kind.as_ref().is_none_or(|kind| event.kind == *kind)
    });
    beside(move || serde_json::to_vec(&EventsRow { events })).await
}

fn unknown(at: Ns, span: Remembered) -> Response {
    let text = match span {
        Some((from, until)) => format!(
            "nothing is remembered of {}; hint: the history is of {} to {}, in seconds since the Unix epoch\n",
            at / SECOND,
            from / SECOND,
            until / SECOND
        ),
        None => "nothing is remembered yet; hint: the first bucket is sealed within 15 s of the start\n".to_owned(),
    };
    let from_ms = span.map(|(from, _)| ms(from));
    let until_ms = span.map(|(_, until)| ms(until));
    let json = serde_json::json!({ "message": text.trim(), "from_ms": from_ms, "until_ms": until_ms });
    (StatusCode::NOT_FOUND, axum::Json(json)).into_response()
}

async fn ask<A>(hub: &HubHandle, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Result<A, Response> {
    let closing = || (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    hub.ask(command).await.ok_or_else(closing)
}

/// Answers with JSON that takes a while to make.
async fn beside(make: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response(),
        Ok(Err(_)) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n").into_response(),
    }
}
