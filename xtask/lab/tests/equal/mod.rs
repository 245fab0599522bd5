//! Graph against ledger: every edge, both sides, to the packet and the byte, within two ticks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::{Collector, Edge, Lab, Ledger, Protocol, Totals};
use serde_json::Value;

/// Beside the two ticks: for a round in which a collector asks for everything again, and for a machine that builds meanwhile.
const ALLOWANCE: Duration = Duration::from_secs(2);

/// An edge of the pod view: client pod, server pod, port, protocol.
type Named = (String, String, u16, Protocol);

/// Two ticks, as the agents announced them last, and the allowance.
fn two_ticks(collector: &Collector) -> Duration {
    let graph = collector.graph("pod").expect("the graph");
    let nodes = graph["nodes"].as_array().expect("nodes");
    let slowest = nodes.iter().filter_map(|node| node["tick_ms"].as_u64()).max().expect("an announced tick");
    Duration::from_millis(2 * slowest) + ALLOWANCE
}

/// The ledger by pod names; addresses outside the cluster keep themselves.
fn expected(lab: &Lab) -> BTreeMap<Named, Totals> {
    let pods = lab.pods();
    let name = |address: IpAddr| {
        let pod = pods.iter().find(|pod| pod.v4() == address || pod.v6() == address);
        pod.map_or_else(|| format!("external:{address}"), |pod| format!("pod:{}/{}", pod.namespace(), pod.name()))
    };
    let ledger = lab.ledger().expect("a ledger");
    // What was sent to a virtual address is an edge to the one who answered.
    let mut answered = Ledger::default();
    for (edge, totals) in ledger.iter() {
        let backend = lab.backend(edge.server, edge.port, edge.protocol);
        let edge = backend.map_or(*edge, |backend| Edge { server: backend.ip(), port: backend.port(), ..*edge });
        let sum = answered.edge(edge);
        *sum = sum.plus(totals);
    }
    let rows = answered
        .iter()
        .map(|(edge, totals)| ((name(edge.client), name(edge.server), edge.port, edge.protocol), *totals));
    let named: BTreeMap<Named, Totals> = rows.collect();
    assert_eq!(named.len(), answered.len(), "no two rows of the ledger are one edge of the pod view");
    named
}

/// What is wrong with one side of an edge, as the API tells it.
fn differences(side: &Value, name: &Named, totals: &Totals) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut hold = |what: &str, seen: &Value, wanted: u64| {
        if seen.as_u64() != Some(wanted) {
            wrong.push(format!("{what} {seen}, ledger {wanted}"));
        }
    };
    for (way, sent) in [("forward", &totals.forward), ("reverse", &totals.reverse)] {
        let seen = &side[way];
        hold(&format!("{way} payload bytes"), &seen["payload_bytes"], sent.wire_payload_bytes());
        if name.3 != Protocol::Tcp {
            hold(&format!("{way} skbs"), &seen["skbs"], sent.packets);
            hold(&format!("{way} segments"), &seen["segments"], sent.packets);
        }
    }
    if name.3 == Protocol::Tcp {
        hold("established", &side["established"], totals.connections);
        hold("opened", &side["opened"], totals.connections);
        hold("closed", &side["closed"], totals.connections);
    }
    wrong
}

/// Every difference between graph and ledger, in words.
fn compare(graph: &Value, expected: &BTreeMap<Named, Totals>) -> Vec<String> {
    let mut wrong = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen: BTreeMap<(String, String, u64, String), &Value> = BTreeMap::new();
    let edges = graph["edges"].as_array().into_iter().flatten();
    // What nodes send each other to carry the rest is a layer of its own, and in no ledger.
    for edge in edges.filter(|edge| edge["tunnel"].is_null()) {
        let key =
            (text(&edge["client"]), text(&edge["server"]), edge["port"].as_u64().unwrap_or(0), text(&edge["protocol"]));
        if seen.insert(key.clone(), edge).is_some() {
            wrong.push(format!("{key:?} is there twice"));
        }
    }
    for (name, totals) in expected {
        let key = (name.0.clone(), name.1.clone(), u64::from(name.2), name.3.name().to_owned());
        let Some(edge) = seen.remove(&key) else {
            wrong.push(format!("{key:?} is missing"));
            continue;
        };
        for (side, end) in [("client_side", &name.0), ("server_side", &name.1)] {
            // No agent is at an address outside the cluster: that side must not be there.
            if end.starts_with("external:") {
                if !edge[side].is_null() {
                    wrong.push(format!("{key:?} {side}: there, but nobody can have seen it"));
                }
            } else if edge[side].is_null() {
                wrong.push(format!("{key:?} {side}: missing"));
            } else {
                let found = differences(&edge[side], name, totals);
                wrong.extend(found.iter().map(|text| format!("{key:?} {side}: {text}")));
            }
        }
    }
    wrong.extend(seen.keys().map(|key| format!("{key:?} was seen, but never sent")));
    wrong
}

/// Waits until graph and ledger are equal, for two ticks from now; fails with what is not.
pub(crate) fn assert_equal(lab: &Lab, collector: &Collector) {
    let start = Instant::now();
    let within = two_ticks(collector);
    let expected = expected(lab);
    loop {
        let asked = start.elapsed();
        let graph = collector.graph("pod").expect("the graph");
        let wrong = compare(&graph, &expected);
        if wrong.is_empty() {
            println!("{} edges equal the ledger after {asked:?} of {within:?}", expected.len());
            return;
        }
        if asked > within {
            let shown: Vec<&String> = wrong.iter().take(60).collect();
            panic!("{} differences after {within:?}:\n{shown:#?}", wrong.len());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
