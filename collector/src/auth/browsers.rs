//! The gate of the page and its API: a session, a bearer token, or a proxy that has asked already. Without any of them only
//! the loopback is served, and only under a name that no page of somebody else's can take.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use axum::{
    extract::{Query, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;

use super::{Guesses, Refusal, bearer, ip, login, network::Network, peer, place, sessions, tokens::Tokens};
use crate::{files::FileError, metrics::Metrics, serve::Peer, time::Ns};

/// The style of the login's page.
pub const STYLE: &str = login::STYLE;
/// The cookie of a session.
const COOKIE: &str = "orrery_session";
/// The longest form of a login, in bytes.
pub const MAX_FORM_BYTES: usize = 16 << 10;
/// The longest name that is taken from a proxy, in bytes.
const MAX_USER_BYTES: usize = 256;
const HINT: &str = "log in at /login, or send Authorization: Bearer with a token of --ui-token-file";
const PROXY_HINT: &str = "come through the proxy that logs you in";

/// A proxy that says who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// In this header,
    pub header: HeaderName,
    /// and is believed from these addresses alone.
    pub networks: Vec<Network>,
}

/// Who is let in, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Bearers of these tokens.
    pub token_file: Option<PathBuf>,
    /// Whom a proxy names.
    pub proxy: Option<Proxy>,
    /// Everybody, on any address.
    pub anybody: bool,
}

impl Rules {
    /// Whether credentials are asked for.
    #[must_use]
    pub fn ask(&self) -> bool {
        self.token_file.is_some() || self.proxy.is_some()
    }
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    tokens: Option<Tokens>,
    proxy: Option<Proxy>,
    anybody: bool,
    sessions: sessions::Sessions,
    guesses: Guesses,
    metrics: Arc<Metrics>,
    clock: fn() -> Ns,
}

#[derive(Deserialize)]
struct Form {
    token: String,
    #[serde(default)]
    next: String,
}

impl Gate {
    /// A gate by these rules.
    ///
    /// # Errors
    /// When the file of tokens cannot be used.
    pub fn new(rules: Rules, metrics: Arc<Metrics>, clock: fn() -> Ns) -> Result<Self, FileError> {
        let tokens = rules.token_file.map(|path| Tokens::new(path, metrics.failed_files.clone())).transpose()?;
        let guesses = Guesses::new(clock);
        let sessions = sessions::Sessions::default();
        Ok(Self { tokens, proxy: rules.proxy, anybody: rules.anybody, sessions, guesses, metrics, clock })
    }

    /// Whether the request is let in.
    ///
    /// # Errors
    /// When it is not, and why.
    pub fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let (headers, peer) = (request.headers(), peer(request.extensions()));
        let outcome = self.judge(headers, request.uri(), peer);
        if let Err(refusal) = &outcome {
            self.metrics.refused_requests.get_or_create(&[("port", "ui"), ("reason", refusal.label())]).inc();
        }
        outcome
    }

    fn judge(&self, headers: &HeaderMap, uri: &Uri, peer: Peer) -> Result<(), Refusal> {
        if self.anybody {
            return Ok(());
        }
        if self.tokens.is_none() && self.proxy.is_none() {
            return if is_our_name(headers, uri) { Ok(()) } else { Err(Refusal::ForeignName) };
        }
        if self.proxied(headers, peer).is_some() {
            return Ok(());
        }
        let Some(tokens) = &self.tokens else { return Err(Refusal::Missing) };
        if let Some(token) = self.session(headers) {
            // Taken back meanwhile, it takes its sessions along.
            return if tokens.contain(&token) { Ok(()) } else { Err(Refusal::Missing) };
        }
        let Some(token) = bearer(headers) else { return Err(Refusal::Missing) };
        self.try_token(tokens, token, peer, "bearer")
    }

    fn try_token(&self, tokens: &Tokens, token: &str, peer: Peer, how: &str) -> Result<(), Refusal> {
        self.guesses.may_try(peer)?;
        if tokens.contain(token) {
            return Ok(());
        }
        if self.guesses.wrong(peer) {
            tracing::warn!(target: "audit", peer = place(peer), how, "credentials refused");
        }
        Err(Refusal::Wrong)
    }

    fn proxied(&self, headers: &HeaderMap, peer: Peer) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        let address = ip(peer)?;
        if !proxy.networks.iter().any(|network| network.contains(address)) {
            return None;
        }
        let mut values = headers.get_all(&proxy.header).iter();
        let user = values.next()?.to_str().ok()?.trim();
        // Two of them: one was not the proxy's.
        let is_one = values.next().is_none();
        (is_one && !user.is_empty() && user.len() <= MAX_USER_BYTES).then(|| user.to_owned())
    }

    fn session(&self, headers: &HeaderMap) -> Option<String> {
        self.sessions.token(cookie(headers)?, (self.clock)())
    }

    /// The answer to a request that was not let in: to a browser that wants a page, the login.
    pub fn refuse(&self, refusal: &Refusal, headers: &HeaderMap, uri: &Uri) -> Response {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let wants_page = accept.contains("text/html") && *refusal == Refusal::Missing;
        if wants_page && self.tokens.is_some() {
            let next = uri.path_and_query().map_or("/", |next| next.as_str());
            return (StatusCode::UNAUTHORIZED, Html(login::page(next, None))).into_response();
        }
        refusal.answer(if self.tokens.is_some() { HINT } else { PROXY_HINT })
    }

    /// The form, for who comes to log in.
    pub fn form(&self) -> Response {
        if self.tokens.is_none() {
            return (StatusCode::NOT_FOUND, "there is no login here\n").into_response();
        }
        Html(login::page("/", None)).into_response()
    }

    /// Takes a filled form: a session, or the form again.
    pub fn log_in(&self, body: &[u8], peer: Peer) -> Response {
        let Some(tokens) = &self.tokens else { return self.form() };
        let Some(form) = read_form(body) else {
            return (StatusCode::BAD_REQUEST, "not the form of this page\n").into_response();
        };
        let again = |status, why: &str| (status, Html(login::page(local(&form.next), Some(why)))).into_response();
        match self.try_token(tokens, form.token.trim(), peer, "form") {
            Ok(()) => {}
            Err(Refusal::TooMany { seconds }) => {
                let mut response = again(StatusCode::TOO_MANY_REQUESTS, &format!("Too many tries: wait {seconds} s."));
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                return response;
            }
            Err(_) => return again(StatusCode::UNAUTHORIZED, "This token is not valid."),
        }
        let Some(session) = self.sessions.open(form.token.trim(), (self.clock)()) else {
            return (StatusCode::SERVICE_UNAVAILABLE, "no random numbers to be had\n").into_response();
        };
        self.metrics.logins.inc();
        tracing::info!(target: "audit", peer = place(peer), how = "form", "logged in");
        let seconds = sessions::LIFE / crate::time::SECOND;
        moved(local(&form.next), &set_cookie(&session, seconds, peer))
    }

    /// Ends the session of a request.
    pub fn log_out(&self, headers: &HeaderMap, peer: Peer) -> Response {
        if cookie(headers).is_some_and(|cookie| self.sessions.close(cookie, (self.clock)())) {
            tracing::info!(target: "audit", peer = place(peer), "logged out");
        }
        moved("/", &set_cookie("", 0, peer))
    }
}

fn read_form(body: &[u8]) -> Option<Form> {
    let text = std::str::from_utf8(body).ok()?;
    // A form's fields are written as a query's are.
    let uri: Uri = format!("/?{text}").parse().ok()?;
    Query::<Form>::try_from_uri(&uri).ok().map(|Query(form)| form)
}

/// Where a login leads: to a path of ours, nowhere else.
fn local(next: &str) -> &str {
    let is_ours = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours { next } else { "/" }
}

fn moved(to: &str, cookie: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    for (name, value) in [(header::LOCATION, to), (header::SET_COOKIE, cookie)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn set_cookie(value: &str, seconds: i64, peer: Peer) -> String {
    let secure = if peer.encrypted { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Whether the request names an address, or a host without a domain such as `localhost`: none of those can somebody else own
/// in DNS and turn to this port, to read it with a page of theirs.
fn is_our_name(headers: &HeaderMap, uri: &Uri) -> bool {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let Some(authority) = uri.authority().cloned().or(named) else {
        // No browser leaves the name out.
        return !headers.contains_key(header::HOST);
    };
    let host = authority.host().trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok() || !(host.is_empty() || host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::{HeaderMap, HeaderValue, Uri, header, is_our_name, local, read_form};

    #[test]
    fn names_that_dns_could_turn_are_not_ours() {
        let check = |host: &str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).expect("a header"));
            assert_eq!(is_our_name(&headers, &Uri::from_static("/")), expect, "{host}");
        };
        for host in ["localhost", "LOCALHOST:7380", "orrery", "127.0.0.1:1", "[::1]:7380", "10.0.0.1"] {
            check(host, true);
        }
        for host in ["evil.example", "evil.example:7380", "127.0.0.1.evil.example", "localhost.evil.example", "a b", ""]
        {
            check(host, false);
        }
        assert!(is_our_name(&HeaderMap::new(), &Uri::from_static("/")));
        assert!(!is_our_name(&HeaderMap::new(), &Uri::from_static("http://evil.example/")));
    }

    #[test]
    fn a_login_leads_nowhere_else() {
        for ours in ["/", "/?view=pod", "/pod/shop?filter=ns%3Ashop"] {
            assert_eq!(local(ours), ours);
        }
        for theirs in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "javascript:1"] {
            assert_eq!(local(theirs), "/", "{theirs}");
        }
    }

    #[test]
    fn forms() {
        let form = read_form(b"token=a%2Bb+c&next=%2Fx%3Fy").expect("a form");
        assert_eq!((form.token.as_str(), form.next.as_str()), ("a+b c", "/x?y"));
        assert!(read_form(b"next=/").is_none() && read_form(b"\xff").is_none() && read_form(b"a b").is_none());
    }
}
