//! A Hubble server that the collector follows, to be compared with at any time.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, interval},
};

use super::{
    client::{self, ClientError, Event, QUEUE, Server, Tls},
    compare::{Inputs, Report, Row, Window, compare},
    fold::Fold,
    proto::observer::GetFlowsRequest,
};
use crate::{
    clock,
    time::{MINUTE, Ns},
    view::Snapshot,
};

/// Edges that Hubble has not spoken of for so long are forgotten, and ours from before are not compared.
pub const KEPT: Ns = 10 * MINUTE;
/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// A comparison is made anew no sooner than this: it looks at all edges.
const FRESH: Duration = Duration::from_secs(2);

/// Which Hubble is followed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hubble beside Orrery")]
pub struct BesideArgs {
    /// Follow this Hubble server, for GET /api/v1/compare and the page: HOST:PORT, tls://HOST:PORT or unix:PATH.
    #[arg(long, env = "ORRERY_HUBBLE_SERVER", value_name = "SERVER")]
    pub hubble_server: Option<String>,
    /// Authorities that sign its certificate, in PEM; makes the connection TLS.
    #[arg(long, env = "ORRERY_HUBBLE_CA", value_name = "FILE", value_delimiter = ',', requires = "hubble_server")]
    pub hubble_ca: Vec<PathBuf>,
    /// Our certificate, where it asks for one.
    #[arg(long, env = "ORRERY_HUBBLE_CERT", value_name = "FILE", requires = "hubble_key")]
    pub hubble_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ORRERY_HUBBLE_KEY", value_name = "FILE", requires = "hubble_cert")]
    pub hubble_key: Option<PathBuf>,
    /// The name in its certificate, where it is not the address.
    #[arg(long, env = "ORRERY_HUBBLE_SERVER_NAME", value_name = "NAME", requires = "hubble_server")]
    pub hubble_server_name: Option<String>,
    /// Show Hubble's verdicts, policies and drop reasons on our edges, marked as Hubble's.
    #[arg(long, env = "ORRERY_OVERLAY_HUBBLE", requires = "hubble_server")]
    pub overlay_hubble: bool,
}

impl BesideArgs {
    /// The server, and whether its words are laid over our edges.
    ///
    /// # Errors
    /// When its address is none.
    pub fn server(self) -> Result<Option<(Server, bool)>, ClientError> {
        let Some(address) = self.hubble_server else { return Ok(None) };
        let tls = Tls {
            authorities: self.hubble_ca,
            identity: self.hubble_cert.zip(self.hubble_key),
            server_name: self.hubble_server_name,
        };
        let asked = tls != Tls::default() || address.starts_with("tls://") || address.starts_with("https://");
        Ok(Some((Server::parse(&address, asked.then_some(tls))?, self.overlay_hubble)))
    }
}

/// What is known of the server.
#[derive(Debug)]
struct State {
    fold: Fold,
    since: Ns,
    connected: bool,
    error: Option<String>,
}

/// The answer of `GET /api/v1/compare`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    server: String,
    connected: bool,
    error: Option<String>,
    overlay: bool,
    report: Report,
}

/// How much of an answer is wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// So many rows, what differs first; all of them when not given.
    rows: Option<usize>,
    /// Only rows that this edge of ours is in.
    edge: Option<String>,
}

impl Answer {
    /// A part of it, as JSON.
    ///
    /// # Errors
    /// Never, unless a number is none.
    pub fn json(&self, part: &Part) -> Result<Bytes, serde_json::Error> {
        let is_wanted = |row: &&Row| match (&part.edge, &row.orrery) {
            (Some(id), Some(side)) => side.edges.iter().any(|edge| **edge == **id),
            (wanted, _) => wanted.is_none(),
        };
        let rows = self.report.rows.iter().filter(is_wanted).take(part.rows.unwrap_or(usize::MAX)).cloned().collect();
        let report =
            Report { rows, nodes: self.report.nodes.clone(), summary: self.report.summary.clone(), ..self.report };
        let error = self.error.clone();
        serde_json::to_vec(&Self { report, error, server: self.server.clone(), ..*self }).map(Bytes::from)
    }
}

/// A followed server.
#[derive(Debug)]
pub struct Beside {
    server: Server,
    overlay: bool,
    state: Mutex<State>,
    /// The last answer; who asks while one is made waits for it.
    latest: tokio::sync::Mutex<Option<(Instant, Arc<Answer>)>>,
}

impl Beside {
    /// Follows nobody yet.
    #[must_use]
    pub fn new(server: Server, overlay: bool) -> Arc<Self> {
        let state = State { fold: Fold::default(), since: clock::now(), connected: false, error: None };
        Arc::new(Self { server, overlay, state: Mutex::new(state), latest: tokio::sync::Mutex::default() })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // What was being counted when somebody panicked is off by one flow.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows until `stopped`.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let (sender, mut events) = mpsc::channel(QUEUE);
        let request = GetFlowsRequest { follow: true, ..GetFlowsRequest::default() };
        let follower = tokio::spawn(client::follow(self.server.clone(), request, sender, stopped.clone()));
        let mut forget = interval(FORGET);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|over| *over) => break,
                _ = forget.tick() => self.with(|state| {
                    state.since = state.since.max(clock::now() - KEPT);
                    state.fold.settle();
                    state.fold.forget(state.since);
                }),
                event = events.recv() => match event {
                    Some(Event::Response(response, arrived)) => self.with(|state| state.fold.add(&response, Some(arrived))),
                    Some(Event::Connected) => self.with(|state| {
                        tracing::info!(server = %self.server.address, "following Hubble");
                        (state.connected, state.error) = (true, None);
                    }),
                    Some(Event::Broken(error)) => self.with(|state| {
                        // Said once, until it is well again.
                        if state.connected || state.error.is_none() {
                            tracing::warn!(%error, "Hubble is not followed");
                        }
                        state.fold.gap();
                        (state.connected, state.error) = (false, Some(error));
                    }),
                    None => break,
                },
            }
        }
        follower.abort();
    }

    /// The comparison, with a graph by pod from `graph` where a new one is made.
    ///
    /// # Errors
    /// What `graph` says, or that its graph cannot be read.
    pub async fn answer<E>(
        self: &Arc<Self>,
        graph: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Arc<Answer>, Result<serde_json::Error, E>> {
        let mut latest = self.latest.lock().await;
        if let Some((_, answer)) = latest.as_ref().filter(|(made, _)| clock::instant() - *made < FRESH) {
            return Ok(Arc::clone(answer));
        }
        let graph = graph.await.map_err(Err)?;
        let this = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || this.compare(&graph)).await;
        let answer = match made {
            Ok(answer) => Arc::new(answer.map_err(Ok)?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        *latest = Some((clock::instant(), Arc::clone(&answer)));
        Ok(answer)
    }

    fn compare(&self, graph: &[u8]) -> Result<Answer, serde_json::Error> {
        let after: Snapshot = serde_json::from_slice(graph)?;
        Ok(self.with(|state| {
            state.fold.settle();
            let window = Window { start: state.since, end: clock::now() };
            let report = compare(Inputs { hubble: &state.fold, before: None, after: &after, window });
            let server = self.server.address.clone();
            Answer { server, connected: state.connected, error: state.error.clone(), overlay: self.overlay, report }
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Answer, Part};

    const FIXTURE: &str = include_str!("../../../ui/fixtures/compare.json");

    fn check(part: Part, ports: &[u64]) -> Value {
        let answer: Answer = serde_json::from_str(FIXTURE).expect("the contract");
        let written: Value = serde_json::from_slice(&answer.json(&part).expect("JSON")).expect("JSON");
        let rows = written["report"]["rows"].as_array().expect("rows");
        assert_eq!(rows.iter().filter_map(|row| row["port"].as_u64()).collect::<Vec<_>>(), ports);
        written
    }

    #[test]
    fn the_page_reads_what_is_written() {
        let whole = check(Part::default(), &[443, 80]);
        assert_eq!(whole, serde_json::from_str::<Value>(FIXTURE).expect("JSON"));
    }

    #[test]
    fn a_part_of_the_rows_is_enough() {
        check(Part { rows: Some(1), edge: None }, &[443]);
        check(Part { rows: Some(0), edge: None }, &[]);
        check(Part { rows: None, edge: Some("pod:shop/a>pod:shop/b:80/tcp".to_owned()) }, &[80]);
        check(Part { rows: None, edge: Some("another".to_owned()) }, &[]);
    }
}
