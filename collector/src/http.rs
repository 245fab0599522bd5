//! The routers: one for browsers (page, API, admin), one for agents (reports).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Query, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use rust_embed::RustEmbed;
use tokio::sync::oneshot;

use crate::{
    filter::Wish,
    hub::{Command, HubHandle},
    hubble::beside::{Beside, Part},
    ingest::{self, Ingest},
    metrics::Metrics,
    past::{self, AtQuery},
    stream::{self, Streams, ViewQuery},
    view::View,
};

/// Nothing but our own page, from our own origin.
const POLICY: &str = "default-src 'self'; connect-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data:; \
                      font-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The built page.
#[derive(RustEmbed)]
#[folder = "$ORRERY_PAGE"]
struct Page;

/// What the routers need.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The way to the hub.
    pub hub: HubHandle,
    /// The streams' state.
    pub streams: Streams,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
    /// Names were read, if any are to be read.
    pub ready: Arc<AtomicBool>,
    /// The Hubble server that is followed, if one is.
    pub hubble: Option<Arc<Beside>>,
}

/// For browsers.
pub fn browser_router(parts: Parts) -> Router {
    let api = Router::new()
        .route("/api/v1/graph", get(graph))
        .route("/api/v1/devices", get(devices))
        .route("/api/v1/filter", get(filter))
        .route("/api/v1/compare", get(compare))
        .route("/metrics", get(metrics))
        .with_state(parts.clone());
    let parts_hub = parts.hub.clone();
    let probes = Router::new().route("/readyz", get(readyz)).with_state(parts.ready);
    Router::new()
        .route("/api/v1/stream", get(stream::stream))
        .with_state(parts.streams)
        .merge(api)
        .merge(past::router(parts_hub))
        .merge(probes)
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(page)
        .layer(middleware::from_fn(guard))
}

/// For agents: reports, and nothing else.
pub fn report_router(ingest: Ingest, ready: Arc<AtomicBool>) -> Router {
    // A kubelet asks from outside the pod, where the page's loopback is out of reach.
    let probes = Router::new().route("/readyz", get(readyz)).with_state(ready);
    Router::new()
        .route(wire::REPORT_PATH, post(ingest::report))
        .route("/healthz", get(|| async { "ok\n" }))
        // The handler has its own limit, which keeps the connection.
        .layer(DefaultBodyLimit::disable())
        .with_state(ingest)
        .merge(probes)
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn ask<A>(hub: &HubHandle, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Result<A, Response> {
    let closing = || (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    hub.ask(command).await.ok_or_else(closing)
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

async fn graph(
    State(parts): State<Parts>,
    Query(query): Query<ViewQuery>,
    Query(AtQuery { at }): Query<AtQuery>,
) -> Response {
    let wish = match query.wish() {
        Ok(wish) => wish,
        Err(error) => return stream::bad_filter(&error),
    };
    if let Some(at) = at {
        return past::graph(&parts.hub, wish, at).await;
    }
    match ask(&parts.hub, |reply| Command::Snapshot { wish, reply }).await {
        Ok(Ok(body)) => json(body),
        Ok(Err(error)) => stream::come_again("10", format!("{error}\n")),
        Err(closing) => closing,
    }
}

/// Whether a filter is one, without opening a view.
async fn filter(Query(query): Query<ViewQuery>) -> Response {
    match query.wish() {
        Ok(wish) => axum::Json(serde_json::json!({ "filter": wish.filter.to_string() })).into_response(),
        Err(error) => stream::bad_filter(&error),
    }
}

/// Hubble's edges held against ours.
async fn compare(State(parts): State<Parts>, Query(part): Query<Part>) -> Response {
    // The page asks without knowing whether one is followed.
    let Some(hubble) = &parts.hubble else {
        let hint = "start the collector with --hubble-server HOST:PORT";
        return axum::Json(serde_json::json!({ "server": null, "hint": hint })).into_response();
    };
    let graph = async {
        match ask(&parts.hub, |reply| Command::Snapshot { wish: Wish::whole(View::Pod), reply }).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => Err(stream::come_again("10", format!("{error}\n"))),
            Err(closing) => Err(closing),
        }
    };
    let answer = hubble.answer(graph).await;
    match answer.and_then(|answer| answer.json(&part).map_err(Ok)) {
        Ok(body) => json(body),
        Err(Err(response)) => response,
        Err(Ok(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("compare: {error}\n")).into_response(),
    }
}

async fn devices(State(parts): State<Parts>) -> Response {
    ask(&parts.hub, |reply| Command::Devices { reply }).await.map_or_else(|closing| closing, json)
}

async fn readyz(State(ready): State<Arc<AtomicBool>>) -> Response {
    if ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the pod list was not read yet\n").into_response()
    }
}

async fn metrics(State(parts): State<Parts>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], parts.metrics.text()).into_response()
}

/// The page's files; any other path that asks for no file is the page itself.
async fn page(method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "method not allowed\n")
            .into_response();
    }
    let path = uri.path().trim_start_matches('/');
    let is_route = !path.starts_with("api/") && !path.rsplit('/').next().unwrap_or("").contains('.');
    let (name, file) = match Page::get(path) {
        Some(file) if !path.is_empty() => (path, file),
        _ => match Page::get("index.html") {
            Some(file) if is_route => ("index.html", file),
            _ => return (StatusCode::NOT_FOUND, "not found\n").into_response(),
        },
    };
    let kind =
        HeaderValue::from_str(file.metadata.mimetype()).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    // Vite puts a hash of the content into the names under assets/.
    let cache = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))];
    (headers, file.data.into_owned()).into_response()
}
