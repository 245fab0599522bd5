//! Recorded flows fold to the edges of what truly happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use collector::hubble::{
    fold::{Bounds, Edge, End, Fold, Verdict},
    json::Response,
    proto::observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
};
use serde_json::{Value, json};

fn recorded() -> Vec<GetFlowsResponse> {
    let lines = include_str!("hubble/observe-2node.jsonpb").lines();
    lines.map(|line| Response::from_json(line).expect("a response").message).collect()
}

fn fold(responses: &[GetFlowsResponse]) -> Fold {
    let mut fold = Fold::default();
    for response in responses {
        fold.add(response, None);
    }
    fold.settle();
    fold
}

fn name(fold: &Fold, end: &End) -> String {
    match end {
        End::Pod(pod) => pod.to_string(),
        End::Address(address) => match fold.host(address) {
            Some(node) => format!("node:{node}"),
            None => format!("world:{address}"),
        },
    }
}

/// An edge in the form of the expectation.
fn row(fold: &Fold, edge: &Edge) -> Value {
    let protocol = BTreeMap::from([(1, "ICMPv4"), (6, "TCP"), (17, "UDP"), (58, "ICMPv6")])[&edge.key.protocol];
    let verdict = match edge.verdict().expect("a verdict") {
        Verdict::Forwarded => "FORWARDED",
        Verdict::Dropped => "DROPPED",
        Verdict::Both => "BOTH",
    };
    let mut row = json!({
        "client": name(fold, &edge.key.client), "server": name(fold, &edge.key.server),
        "server_port": if edge.key.port == 0 { Value::Null } else { edge.key.port.into() },
        "protocol": protocol, "verdict": verdict, "seen_by": edge.nodes,
    });
    let reasons: Vec<&str> = edge.reasons().map(|(reason, _)| reason).collect();
    if !reasons.is_empty() {
        row["reason"] = reasons.join(",").into();
    }
    if !edge.via.is_empty() {
        row["via"] = edge.via.iter().cloned().collect::<Vec<_>>().join(",").into();
    }
    row
}

fn rows(fold: &Fold) -> BTreeSet<String> {
    fold.edges().map(|edge| row(fold, edge).to_string()).collect()
}

fn expected() -> BTreeSet<String> {
    let file: Value = serde_json::from_str(include_str!("hubble/expected-edges.json")).expect("JSON");
    let edges = file["edges"].as_array().expect("edges").iter().cloned();
    let plain = edges.map(|mut edge| {
        edge.as_object_mut().expect("an edge").remove("class");
        edge.to_string()
    });
    plain.collect()
}

#[test]
fn recorded_flows_fold_to_what_truly_happened() {
    let fold = fold(&recorded());
    assert_eq!(rows(&fold), expected());
    let hidden = fold.hidden();
    assert_eq!((hidden.flows, hidden.unreadable, hidden.stray_errors, hidden.refused_flows), (94, 0, 0, 0));
    assert_eq!((hidden.neighbour_discovery, hidden.masqueraded, hidden.untranslated), (11, 5, 0));
    // Connections and drops are those of the traffic, not of the observations.
    let edge = |client: &str, port: u16, protocol: u8| {
        let found = fold.edges().find(|edge| {
            name(&fold, &edge.key.client) == client && edge.key.port == port && edge.key.protocol == protocol
        });
        found.unwrap_or_else(|| panic!("{client} {port}"))
    };
    assert_eq!(edge("shop/client", 8080, 6).connections, 2);
    assert_eq!(edge("shop/remote", 8080, 6).connections, 2);
    assert_eq!(edge("other/intruder", 8080, 6).connections, 1);
    let denied = |edge: &Edge| edge.reasons().map(|(reason, times)| (reason.to_owned(), times)).collect::<Vec<_>>();
    assert_eq!(denied(edge("other/intruder", 8080, 6)), [("POLICY_DENIED".to_owned(), 3)]);
    assert_eq!(denied(edge("shop/client", 0, 1)), [("POLICY_DENIED".to_owned(), 1)]);
    assert_eq!(edge("shop/client", 9999, 17).icmp_errors, 1);
    // The API server's connection was open before.
    assert_eq!(edge("node:node2", 16443, 6).connections, 0);
    assert_eq!(edge("node:node1", 4244, 6).connections, 1);
}

#[test]
fn doubled_observations_change_no_edge() {
    let recorded = recorded();
    let doubled: Vec<_> = recorded.iter().flat_map(|response| [response.clone(), response.clone()]).collect();
    let (once, twice) = (fold(&recorded), fold(&doubled));
    assert_eq!(rows(&once), rows(&twice));
    let connections = |fold: &Fold| fold.edges().map(|edge| edge.connections).sum::<u64>();
    assert_eq!(connections(&once), connections(&twice));
}

#[test]
fn at_each_bound_the_rest_is_counted() {
    let mut fold = Fold::new(Bounds { edges: 3, connections: 2, nodes: 1, waiting: 1 });
    for response in &recorded() {
        fold.add(response, None);
    }
    fold.settle();
    let hidden = fold.hidden();
    assert_eq!((fold.edges().count(), fold.nodes().len()), (3, 1));
    assert!(hidden.refused_flows > 10 && hidden.refused_nodes > 10 && hidden.forgotten_connections > 0, "{hidden:?}");
    // What is hidden, refused and folded is all that came.
    let folded: u64 = fold.edges().map(|edge| edge.forwarded + edge.dropped).sum();
    assert!(folded + hidden.refused_flows + hidden.neighbour_discovery <= hidden.flows);
}

#[test]
fn nodes_and_losses_are_told_of() {
    let mut fold = Fold::default();
    let line = |text: &str| Response::from_json(text).expect("a response").message;
    fold.add(&line(r#"{"node_status":{"state_change":"NODE_CONNECTED","node_names":["n1","n2"]}}"#), None);
    fold.add(&line(r#"{"node_status":{"state_change":"NODE_UNAVAILABLE","node_names":["n2"]}}"#), None);
    fold.add(&line(r#"{"lost_events":{"num_events_lost":"7"},"node_name":"n1"}"#), None);
    let nodes = fold.nodes();
    assert_eq!((nodes["n1"].lost_events, nodes["n1"].away, nodes["n2"].away), (7, None, Some("unavailable")));
    assert_eq!(fold.hidden().lost_events, 7);
}

#[test]
fn flows_without_pods_or_addresses_are_no_trouble() {
    let mut fold = Fold::default();
    for text in [
        r#"{"flow":{}}"#,
        r#"{"flow":{"IP":{"source":"x","destination":"10.0.0.1"},"l4":{"TCP":{}}}}"#,
        r#"{"flow":{"IP":{"source":"10.0.0.2","destination":"10.0.0.1"},"l4":{"TCP":{"source_port":70000}}}}"#,
        r#"{"flow":{"IP":{"source":"10.0.0.2","destination":"10.0.0.1"}}}"#,
    ] {
        fold.add(&Response::from_json(text).expect("a response").message, Some(5));
    }
    assert_eq!((fold.hidden().unreadable, fold.edges().count()), (4, 0));
    let only_addresses = r#"{"flow":{"verdict":"FORWARDED","IP":{"source":"10.0.0.2","destination":"10.0.0.1"},"l4":{"UDP":{"source_port":4000,"destination_port":53}}}}"#;
    fold.add(&Response::from_json(only_addresses).expect("a response").message, None);
    assert_eq!(rows(&fold).len(), 1);
}

#[test]
fn a_node_whose_clock_is_an_hour_off_is_known() {
    let mut fold = Fold::default();
    let hour = 3_600_000_000_000;
    for mut response in recorded() {
        let Some(ResponseTypes::Flow(flow)) = &mut response.response_types else { panic!("a flow") };
        let time = flow.time.unwrap_or_default();
        let told = time.seconds * 1_000_000_000 + i64::from(time.nanos);
        let ahead = if flow.node_name == "node2" { hour } else { 0 };
        fold.add(&response, Some(told + 40_000_000 - ahead));
    }
    let behind = |node: &str| fold.nodes()[&Arc::from(node)].behind.expect("known");
    assert_eq!((behind("node1"), behind("node2")), (40_000_000, 40_000_000 - hour));
}
