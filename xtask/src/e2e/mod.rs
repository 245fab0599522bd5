//! The end-to-end tier: the shop in the lab with real agents and a collector, and Debian's Chromium looking at its page.
//!
//! The page's tests (`npm run e2e`) get four variables:
//! - `ORRERY_URL`: the page;
//! - `ORRERY_SPACING`: a JSON list of flows at known rates, each `{ "edge", "rate" }`: the edge's id in the pod view, and packets a
//!   second;
//! - `ORRERY_LAB`: where they change the lab while they look at it; `control` says how;
//! - `ORRERY_E2E_REQUIRE`: 1, so that a test without its variable fails; by hand, against any collector, it is skipped.

mod control;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::shop::Shop;
use lab::{AgentOptions, Collector, CollectorOptions, Flow, Lab, Offloads, Owner, Pod, PodSpec, Reply};
use serde_json::json;

use crate::setup;
use crate::test::{Counts, watch};

/// Datagrams a second on each of the flows that the particles are measured on.
const RATES: [f64; 3] = [1.0, 100.0, 10_000.0];
/// Their first server port.
const FIRST_PORT: u16 = 7000;
/// Bytes in each datagram.
const PAYLOAD: u32 = 64;
/// The Kubernetes namespace of their pods.
const NAMESPACE: &str = "rates";
/// How long the flows may take to be on the graph.
const VISIBLE_WITHIN: Duration = Duration::from_secs(30);

/// Brings everything up, runs the page's tests, and takes it down.
pub(crate) fn run() -> anyhow::Result<Counts> {
    let shop = Shop::open(Offloads::On, 0).context("open the shop")?;
    let lab = shop.lab();
    let collector = lab.start_collector(&CollectorOptions::default()).context("start the collector")?;
    let agents = lab.start_agents(&AgentOptions::default()).context("start the agents")?;
    let rated = start_flows(lab)?;
    visible(&collector, &rated)?;

    let url = format!("http://{}", collector.address());
    let spacing: Vec<_> = rated.iter().map(Rated::describe).collect();
    println!("e2e: the page is at {url}");
    let counts = control::serve(&shop, &rated, agents, |control| {
        let mut command = setup::npm();
        command
            .args(["run", "e2e"])
            .env("ORRERY_URL", &url)
            .env("ORRERY_SPACING", json!(spacing).to_string())
            .env("ORRERY_LAB", control)
            .env("ORRERY_E2E_REQUIRE", "1");
        watch("e2e", &mut command)
    })?;
    if counts.total() == 0 {
        bail!("no test ran");
    }
    Ok(counts)
}

/// A flow at a known rate.
struct Rated {
    client: Arc<Pod>,
    server: Arc<Pod>,
    port: u16,
    pps: f64,
    flow: Flow,
}

impl Rated {
    /// The edge's id in the pod view.
    fn id(&self) -> String {
        let name = |pod: &Pod| format!("pod:{}/{}", pod.namespace(), pod.name());
        format!("{}>{}:{}/udp", name(&self.client), name(&self.server), self.port)
    }

    fn describe(&self) -> serde_json::Value {
        json!({ "edge": self.id(), "rate": self.pps })
    }

    /// Datagrams that the generator sent so far, by its own ledger.
    fn sent(&self) -> lab::Result<u64> {
        let ledger = self.client.ledger()?;
        let sent = |edge: &lab::Edge| edge.server == self.server.v4() && edge.port == self.port;
        Ok(ledger.iter().filter(|(edge, _)| sent(edge)).map(|(_, totals)| totals.forward.packets).sum())
    }
}

/// Makes two pods for each rate, on different nodes, and starts the datagrams between them.
fn start_flows(lab: &Lab) -> anyhow::Result<Vec<Rated>> {
    let pod = |number: usize, node: &str| PodSpec::new(NAMESPACE, Owner::StatefulSet("rate".to_owned()), number, node);
    let specs: Vec<PodSpec> =
        (0..RATES.len()).flat_map(|pair| [pod(2 * pair, "n1"), pod(2 * pair + 1, "n2")]).collect();
    let pods = lab.add_pods(&specs).context("make the pods for known rates")?;
    let mut rated = Vec::new();
    for ((pair, pps), port) in pods.chunks_exact(2).zip(RATES).zip(FIRST_PORT..) {
        let (client, server) = (Arc::clone(&pair[0]), Arc::clone(&pair[1]));
        server.serve_udp(port, Reply::Sink)?;
        let flow = client.start_udp(SocketAddr::new(server.v4(), port), PAYLOAD, pps)?;
        rated.push(Rated { client, server, port, pps, flow });
    }
    Ok(rated)
}

/// Waits until the graph has all flows under the names that the page's tests look for.
fn visible(collector: &Collector, rated: &[Rated]) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let graph = collector.graph("pod")?;
        let has = |id: &str| graph["edges"].as_array().is_some_and(|edges| edges.iter().any(|edge| edge["id"] == id));
        let missing: Vec<String> = rated.iter().map(Rated::id).filter(|id| !has(id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if start.elapsed() > VISIBLE_WITHIN {
            bail!("not on the graph after {} s: {}", VISIBLE_WITHIN.as_secs(), missing.join(" "));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
