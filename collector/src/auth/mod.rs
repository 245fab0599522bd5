//! Who may ask: agents for the report port, people and scrapers for the page and its API. A gate says yes, or why not;
//! nothing here prints a credential.

pub mod browsers;
pub mod failures;
pub mod login;
pub mod network;
pub mod reports;
pub mod review;
pub mod sessions;
pub mod tokens;

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use self::failures::Failures;
use crate::{serve::Peer, time::Ns};

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It shows no credential.
    Missing,
    /// It shows one that is not valid.
    Wrong,
    /// Its address showed too many wrong ones.
    TooMany {
        /// Seconds to wait.
        seconds: u64,
    },
    /// Who could tell is away.
    Unknown,
    /// It came under a name that is not ours: a page of somebody else's sent it.
    ForeignName,
}

impl Refusal {
    /// For metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::TooMany { .. } => "too_many",
            Self::Unknown => "unknown",
            Self::ForeignName => "foreign_name",
        }
    }

    /// The answer, `hint` saying which credentials there are.
    #[must_use]
    pub fn answer(&self, hint: &str) -> Response {
        let (status, words) = match self {
            Self::Missing => (StatusCode::UNAUTHORIZED, format!("no credentials; hint: {hint}\n")),
            Self::Wrong => (StatusCode::UNAUTHORIZED, format!("credentials are not valid; hint: {hint}\n")),
            Self::TooMany { seconds } => {
                (StatusCode::TOO_MANY_REQUESTS, format!("too many wrong credentials; hint: wait {seconds} s\n"))
            }
            Self::Unknown => {
                (StatusCode::SERVICE_UNAVAILABLE, "credentials cannot be checked now; hint: try again\n".to_owned())
            }
            Self::ForeignName => {
                let hint = "open the page by its address or as localhost, or set up a login";
                (StatusCode::MISDIRECTED_REQUEST, format!("not asked by a name of ours; hint: {hint}\n"))
            }
        };
        let mut response = (status, words).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Missing | Self::Wrong => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"orrery\""));
            }
            Self::TooMany { seconds } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
            }
            Self::Unknown => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::ForeignName => {}
        }
        response
    }
}

/// The other end of a request's connection.
#[must_use]
pub fn peer(extensions: &Extensions) -> Peer {
    extensions.get::<ConnectInfo<Peer>>().map_or(Peer::default(), |info| info.0)
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Wrong credentials by address, shared by all requests of a port.
#[derive(Debug)]
struct Guesses {
    failures: Mutex<Failures>,
    clock: fn() -> Ns,
}

impl Guesses {
    fn new(clock: fn() -> Ns) -> Self {
        Self { failures: Mutex::default(), clock }
    }

    /// Whether this address may try. Who reaches a Unix socket may.
    fn may_try(&self, peer: Peer) -> Result<(), Refusal> {
        let Some(address) = ip(peer) else { return Ok(()) };
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.wait(address, (self.clock)()).map_or(Ok(()), |seconds| Err(Refusal::TooMany { seconds }))
    }

    /// Notes a wrong credential; says whether that is worth a line in the log.
    fn wrong(&self, peer: Peer) -> bool {
        let Some(address) = ip(peer) else { return true };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).note(address, (self.clock)())
    }
}

fn ip(peer: Peer) -> Option<IpAddr> {
    peer.address.map(|address| address.ip())
}

/// An address for the log.
fn place(peer: Peer) -> String {
    ip(peer).map_or_else(|| "unix".to_owned(), |address| address.to_canonical().to_string())
}
