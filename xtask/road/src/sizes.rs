//! P6: bytes of a record on the wire, and of the summary of many flows for each of them.

use wire::v1::Report;

use crate::{
    LARGE, SECOND,
    cluster::{Cluster, START},
    figure,
    steps::{self, Agent},
};

/// Connections of one node in a window, and the servers they go to: what folding left 474 edges of.
const FLOWS: (u64, u64) = (5_000, 474);

pub(crate) fn run() -> bool {
    let (nodes, pods, edges) = LARGE;
    let cluster = Cluster::new(nodes, pods, edges);
    let (mut bytes, mut records) = (0, 0);
    for node in 0..cluster.nodes() {
        let report = cluster.report(node, 2, START + 2 * SECOND);
        records += report.edges.len();
        bytes += steps::encode(&report).len();
    }
    let record = bytes as f64 / records as f64;
    println!("{nodes} reports of {edges} edges: {records} records in {bytes} bytes");
    let mut agent = Agent::new(FLOWS.0, FLOWS.1);
    agent.fold(1);
    let edges = agent.edges(1);
    let folded = edges.len();
    let body = steps::encode(&Report { edges, ..cluster_head() });
    let flow = body.len() as f64 / agent.flows() as f64;
    println!("{} flows in {folded} edges: {} bytes", agent.flows(), body.len());
    let small = figure("P6", "bytes of a record", "B", record, [18.0, 12.0], true);
    // The summary has a lead figure only.
    figure("P6", "bytes of a summary for each flow in it", "B", flow, [0.6, 0.6], true) & small
}

fn cluster_head() -> Report {
    Report { version: 1, node: "n-000".to_owned(), epoch: START, seq: 1, complete: true, ..Report::default() }
}
