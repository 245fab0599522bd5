//! Lists with pages, streamed lists, watches with bookmarks; errors in the API's own form.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, State as Part},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::{sleep, sleep_until, timeout};

use crate::{Faults, Shared, tokens};

/// A quiet watch gets a bookmark this often.
const BOOKMARK: Duration = Duration::from_secs(1);

pub(crate) fn router(shared: Shared) -> Router {
    Router::new().route(tokens::PATH, post(tokens::review)).fallback(answer).with_state(shared)
}

impl Faults {
    /// What every request of this kind is refused with.
    pub(crate) fn code(&self, headers: &HeaderMap) -> Option<u16> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let expired = self.bearer.as_deref().is_some_and(|bearer| shown != Some(bearer));
        self.status.or(expired.then_some(401))
    }
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        410 => "Expired",
        422 => "Invalid",
        _ => "InternalError",
    };
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code })
}

pub(crate) fn refuse(code: u16, message: &str) -> Response {
    let http = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (http, [(header::CONTENT_TYPE, "application/json")], status(code, message).to_string()).into_response()
}

async fn answer(
    Part(shared): Part<Shared>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (group, resource) = match parts[..] {
        ["api", "v1", resource] => (String::new(), resource.to_owned()),
        ["apis", group, "v1", resource] => (group.to_owned(), resource.to_owned()),
        _ => return refuse(404, "not served here"),
    };
    let flag = |name: &str| query.get(name).is_some_and(|value| value == "true");
    let watch = flag("watch");
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let metadata_only = accept.contains("PartialObjectMetadata");
    let faults = {
        let mut state = shared.state();
        let verb = if watch { "watch" } else { "list" };
        *state.calls.entry((verb, group, resource.clone())).or_default() += 1;
        if metadata_only {
            state.metadata_only.insert(resource.clone());
        }
        state.faults.clone()
    };
    if let Some(code) = faults.code(&headers) {
        return refuse(code, "as the test asks");
    }
    if faults.forbidden.contains(&*resource) {
        return refuse(403, &format!("{resource} is forbidden: User \"mock\" cannot list resource \"{resource}\""));
    }
    if watch {
        let streamed = flag("sendInitialEvents");
        if streamed && faults.no_streamed_lists {
            return refuse(
                422,
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            );
        }
        let version = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        return follow(shared, resource, version, streamed, metadata_only);
    }
    sleep(faults.slow_lists).await;
    list(&shared, &resource, &query, metadata_only)
}

fn slim(mut object: Value, metadata_only: bool) -> Value {
    if metadata_only {
        object =
            json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] });
    }
    object
}

fn list(shared: &Shared, resource: &str, query: &HashMap<String, String>, metadata_only: bool) -> Response {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (version, mut objects, half) = {
        let mut state = shared.state();
        let half = state.faults.half_pages > 0;
        state.faults.half_pages = state.faults.half_pages.saturating_sub(1);
        (state.objects.version(), state.objects.of(resource), half)
    };
    let from = number("continue").unwrap_or(0).min(objects.len());
    let to = number("limit").map_or(objects.len(), |limit| (from + limit).min(objects.len()));
    let rest = objects.len() - to;
    let items: Vec<Value> = objects.drain(from..to).map(|object| slim(object, metadata_only)).collect();
    let token = if rest > 0 { to.to_string() } else { String::new() };
    let metadata = json!({ "resourceVersion": version.to_string(), "continue": token });
    let body = json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }).to_string();
    if half {
        let half = Bytes::from(body.as_bytes()[..body.len() / 2].to_vec());
        let broken = stream::iter([Ok(half), Err(std::io::Error::other("as the test asks"))]);
        return Response::new(Body::from_stream(broken));
    }
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// One watch: what it has told, and what it ends with.
struct Follower {
    shared: Shared,
    resource: String,
    version: u64,
    metadata_only: bool,
    cut: u64,
    first: std::vec::IntoIter<Value>,
    over: bool,
}

fn follow(shared: Shared, resource: String, version: u64, streamed: bool, metadata_only: bool) -> Response {
    let (mut first, mut over, mut version) = (Vec::new(), false, version);
    let cut = {
        let state = shared.state();
        if streamed {
            version = state.objects.version();
            let added = |object| json!({ "type": "ADDED", "object": slim(object, metadata_only) });
            first = state.objects.of(&resource).into_iter().map(added).collect();
            first.push(bookmark(version, true));
        } else if version < state.objects.forgotten() {
            first.push(json!({ "type": "ERROR", "object": status(410, "too old resource version") }));
            over = true;
        }
        state.cut
    };
    let follower = Follower { shared, resource, version, metadata_only, cut, first: first.into_iter(), over };
    let lines = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        let line = format!("{event}\n");
        Some((Ok::<_, Infallible>(Bytes::from(line)), follower))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

fn bookmark(version: u64, end: bool) -> Value {
    let annotations = if end { json!({ "k8s.io/initial-events-end": "true" }) } else { json!({}) };
    let metadata = json!({ "resourceVersion": version.to_string(), "annotations": annotations });
    json!({ "type": "BOOKMARK", "object": { "kind": "Any", "apiVersion": "v1", "metadata": metadata } })
}

impl Follower {
    async fn next(&mut self) -> Option<Value> {
        if let Some(event) = self.first.next() {
            return Some(event);
        }
        let mut news = self.shared.subscribe();
        loop {
            let (change, version) = {
                let state = self.shared.state();
                if self.over || state.cut != self.cut {
                    return None;
                }
                let change = state.objects.after(&self.resource, self.version).cloned();
                (change.map(|change| (change, state.faults.lag)), state.objects.version())
            };
            if let Some((change, lag)) = change {
                sleep_until((change.at + lag).into()).await;
                self.version = change.version;
                return Some(json!({ "type": change.what, "object": slim(change.object, self.metadata_only) }));
            }
            if timeout(BOOKMARK, news.changed()).await.is_err() {
                self.version = version;
                return Some(bookmark(version, false));
            }
        }
    }
}
