//! The routers: one for browsers (page, API, admin), one for agents (reports).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, FromRef, FromRequest as _, Query, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;
use rust_embed::RustEmbed;
use tokio::sync::oneshot;

use crate::{
    auth::{self, browsers, reports},
    filter::Wish,
    hub::{Command, HubHandle},
    hubble::beside::{Beside, Part},
    ingest::{self, Ingest},
    metrics::Metrics,
    past::{self, AtQuery},
    status::{self, Status},
    stream::{self, Streams, ViewQuery},
    view::View,
};

/// Nothing but our own page, from our own origin.
const POLICY: &str = "default-src 'self'; connect-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data:; \
                      font-src 'self'; form-action 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// So much is read, and thrown away, of a report from somebody who is not let in.
const MAX_REFUSED_BYTES: usize = 256 << 10;
/// For so long.
const REFUSED: Duration = Duration::from_secs(2);
/// A login's form that takes longer is refused.
const FORM: Duration = Duration::from_secs(10);

/// The built page.
#[derive(RustEmbed)]
#[folder = "$ORRERY_PAGE"]
struct Page;

/// Whether names were read, if any are to be read.
#[derive(Debug, Clone, Default)]
pub struct Ready(pub Arc<AtomicBool>);

/// What browsers' endpoints need.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The way to the hub.
    pub hub: HubHandle,
    /// The streams' state.
    pub streams: Streams,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
    /// Names were read.
    pub ready: Ready,
    /// The Hubble server that is followed, if one is.
    pub hubble: Option<Arc<Beside>>,
}

/// What agents' endpoints need.
#[derive(Debug, Clone)]
pub struct Inlet {
    /// Takes reports.
    pub ingest: Ingest,
    /// Names were read.
    pub ready: Ready,
}

impl FromRef<Parts> for HubHandle {
    fn from_ref(parts: &Parts) -> Self {
        parts.hub.clone()
    }
}

impl FromRef<Parts> for Streams {
    fn from_ref(parts: &Parts) -> Self {
        parts.streams.clone()
    }
}

impl FromRef<Parts> for Ready {
    fn from_ref(parts: &Parts) -> Self {
        parts.ready.clone()
    }
}

impl FromRef<Inlet> for Ingest {
    fn from_ref(inlet: &Inlet) -> Self {
        inlet.ingest.clone()
    }
}

impl FromRef<Inlet> for Ready {
    fn from_ref(inlet: &Inlet) -> Self {
        inlet.ready.clone()
    }
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whom the gate lets in.
    Guarded,
    /// Everybody who reaches the port, for a reason.
    Open(&'static str),
}

/// One path of a router. What stands in no table is guarded.
#[derive(Debug)]
pub struct Endpoint<S> {
    /// Its path.
    pub path: &'static str,
    /// Its method; what answers GET answers HEAD.
    pub method: Method,
    /// Who may ask.
    pub access: Access,
    route: fn() -> MethodRouter<S>,
}

const PROBE: Access = Access::Open("a kubelet has no credentials; it learns whether the collector is up, and no more");

/// All that browsers can ask for, but the page's own files.
pub const BROWSER_ENDPOINTS: &[Endpoint<Parts>] = &[
    Endpoint { path: "/api/v1/graph", method: Method::GET, access: Access::Guarded, route: || get(graph) },
    Endpoint { path: "/api/v1/devices", method: Method::GET, access: Access::Guarded, route: || get(devices) },
    Endpoint { path: "/api/v1/filter", method: Method::GET, access: Access::Guarded, route: || get(filter) },
    Endpoint { path: "/api/v1/compare", method: Method::GET, access: Access::Guarded, route: || get(compare) },
    Endpoint { path: "/api/v1/stream", method: Method::GET, access: Access::Guarded, route: || get(stream::stream) },
    Endpoint { path: "/api/v1/history", method: Method::GET, access: Access::Guarded, route: || get(past::history) },
    Endpoint { path: "/api/v1/events", method: Method::GET, access: Access::Guarded, route: || get(past::events) },
    Endpoint { path: "/api/v1/status", method: Method::GET, access: Access::Guarded, route: || get(status_now) },
    Endpoint { path: "/status", method: Method::GET, access: Access::Guarded, route: || get(status_page) },
    Endpoint { path: "/metrics", method: Method::GET, access: Access::Guarded, route: || get(metrics) },
    Endpoint { path: "/logout", method: Method::POST, access: Access::Guarded, route: || post(log_out) },
    Endpoint {
        path: "/login",
        method: Method::POST,
        access: Access::Open("it takes the credentials"),
        route: log_in_route,
    },
    Endpoint { path: "/login", method: Method::GET, access: Access::Open("its form"), route: || get(form) },
    Endpoint { path: "/login.css", method: Method::GET, access: Access::Open("its style"), route: || get(style) },
    Endpoint { path: "/healthz", method: Method::GET, access: PROBE, route: || get(healthz) },
    Endpoint { path: "/readyz", method: Method::GET, access: PROBE, route: || get(readyz) },
];

/// All that agents can ask for.
pub const REPORT_ENDPOINTS: &[Endpoint<Inlet>] = &[
    Endpoint { path: wire::REPORT_PATH, method: Method::POST, access: Access::Guarded, route: report_route },
    Endpoint { path: "/healthz", method: Method::GET, access: PROBE, route: || get(healthz) },
    Endpoint { path: "/readyz", method: Method::GET, access: PROBE, route: || get(readyz) },
];

fn log_in_route() -> MethodRouter<Parts> {
    post(log_in).layer(DefaultBodyLimit::max(browsers::MAX_FORM_BYTES))
}

fn report_route() -> MethodRouter<Inlet> {
    // The handler has its own limit, which keeps the connection.
    post(ingest::report).layer(DefaultBodyLimit::disable())
}

fn routed<S: Clone + Send + Sync + 'static>(endpoints: &[Endpoint<S>]) -> Router<S> {
    endpoints.iter().fold(Router::new(), |router, endpoint| router.route(endpoint.path, (endpoint.route)()))
}

fn is_open<S>(endpoints: &[Endpoint<S>], request: &Request) -> bool {
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let mut open = endpoints.iter().filter(|endpoint| endpoint.access != Access::Guarded);
    open.any(|endpoint| endpoint.path == request.uri().path() && endpoint.method == *method)
}

/// For browsers.
pub fn browser_router(parts: Parts, gate: Arc<browsers::Gate>) -> Router {
    routed(BROWSER_ENDPOINTS)
        .fallback(page)
        .with_state(parts)
        .layer(Extension(Arc::clone(&gate)))
        .layer(middleware::from_fn_with_state(gate, guard_browsers))
}

/// For agents: reports, and nothing else.
pub fn report_router(inlet: Inlet, gate: Arc<reports::Gate>) -> Router {
    routed(REPORT_ENDPOINTS).with_state(inlet).layer(middleware::from_fn_with_state(gate, guard_reports))
}

async fn guard_browsers(State(gate): State<Arc<browsers::Gate>>, request: Request, next: Next) -> Response {
    let refused = if is_open(BROWSER_ENDPOINTS, &request) { None } else { gate.admit(&request).err() };
    let mut response = match refused {
        Some(refusal) => gate.refuse(&refusal, request.headers(), request.uri()),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn guard_reports(State(gate): State<Arc<reports::Gate>>, mut request: Request, next: Next) -> Response {
    if !is_open(REPORT_ENDPOINTS, &request) {
        let (headers, peer) = (request.headers().clone(), auth::peer(request.extensions()));
        match gate.admit(&headers, peer).await {
            Ok(reporter) => request.extensions_mut().insert(reporter),
            Err(refusal) => {
                // Read to its end, so that the answer is not lost with the connection; not further, nor for longer.
                let body = axum::body::to_bytes(request.into_body(), MAX_REFUSED_BYTES);
                drop(tokio::time::timeout(REFUSED, body).await);
                return refusal.answer(reports::HINT);
            }
        };
    }
    next.run(request).await
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

/// What is wrong, in words, for programs.
async fn status_now(State(parts): State<Parts>) -> Response {
    judged(&parts).await.map_or_else(|response| response, |status| axum::Json(status).into_response())
}

/// The same for people, as `orrery-collector status` prints it.
async fn status_page(State(parts): State<Parts>) -> Response {
    judged(&parts).await.map_or_else(|response| response, |status| status.to_string().into_response())
}

async fn judged(parts: &Parts) -> Result<Status, Response> {
    let wish = Wish::whole(View::Node);
    let body = match ask(&parts.hub, |reply| Command::Snapshot { wish, reply }).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Err(stream::come_again("10", format!("{error}\n"))),
        Err(closing) => return Err(closing),
    };
    let Ok(snapshot) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return Err((StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n").into_response());
    };
    let now_ms = snapshot["time_ms"].as_i64().unwrap_or(0);
    Ok(status::judge(&snapshot, parts.metrics.counted(), now_ms))
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
    let failed =
        |error: serde_json::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("compare: {error}\n")).into_response();
    match hubble.answer(graph).await {
        Ok(answer) => answer.json(&part).map_or_else(failed, json),
        Err(Ok(error)) => failed(error),
        Err(Err(response)) => response,
    }
}

async fn devices(State(parts): State<Parts>) -> Response {
    ask(&parts.hub, |reply| Command::Devices { reply }).await.map_or_else(|closing| closing, json)
}

async fn form(Extension(gate): Extension<Arc<browsers::Gate>>) -> Response {
    gate.form()
}

async fn log_in(Extension(gate): Extension<Arc<browsers::Gate>>, request: Request) -> Response {
    let peer = auth::peer(request.extensions());
    match tokio::time::timeout(FORM, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => gate.log_in(&body, peer),
        Ok(Err(rejection)) => rejection.into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the form took too long\n").into_response(),
    }
}

async fn log_out(Extension(gate): Extension<Arc<browsers::Gate>>, request: Request) -> Response {
    gate.log_out(request.headers(), auth::peer(request.extensions()))
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"))], browsers::STYLE).into_response()
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(Ready(ready)): State<Ready>) -> Response {
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
