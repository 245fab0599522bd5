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

/// Of a recording: what it begins with, and the kind of frame that a report is (`collector/src/record.rs`).
const MAGIC_BYTES: usize = 8;
const REPORT: u8 = 1;

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
    let small = figure("P6", "bytes of a summary for each flow in it", "B", flow, [0.6, 0.6], true) & small;
    recorded();
    small
}

/// Agents' own reports, with sockets, owners and DNS, and devices beside the edges: no goal is set for them.
fn recorded() {
    let recording = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/sample/shop.orrery"));
    let (mut reports, mut records, mut before, mut bytes) = (0, 0, 0, 0);
    let mut rest = &recording[MAGIC_BYTES..];
    while let Some((head, more)) = rest.split_first_chunk::<13>() {
        let [kind, .., a, b, c, d] = *head;
        let Some((body, more)) = more.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize) else { break };
        rest = more;
        let report = if kind == REPORT { steps::decode(body) } else { continue };
        (reports, before) = (reports + 1, before + body.len());
        records += report.edges.len();
        bytes += steps::encode(&report).len();
    }
    let each = |bytes: usize| bytes as f64 / records as f64;
    println!(
        "the recorded shop: {reports} reports, {records} records with all that agents know: {:.1} B each, {:.1} B as recorded",
        each(bytes),
        each(before)
    );
}

fn cluster_head() -> Report {
    Report {
        version: wire::VERSION,
        node: "n-000".to_owned(),
        epoch: START,
        seq: 1,
        complete: true,
        ..Report::default()
    }
}
