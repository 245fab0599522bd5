//! Two pictures of one cluster: each difference gets its reason, and one that has none is said to have none.

use std::collections::BTreeMap;

use collector::{
    hubble::{
        compare::{Inputs, MAX_ROWS, OurVerdict, Reason, Report, Row, Seen, Window, compare},
        fold::{Bounds, Fold},
        json::Response,
    },
    time::SECOND,
    view::{EdgeRow, Shared, Snapshot},
};
use serde_json::{Value, json};

/// The window, in seconds.
const START: i64 = 1_000;
const END: i64 = 1_060;

fn node(name: &str, state: &str) -> Value {
    json!({
        "name": name, "state": state, "why": null, "last_report_ms": 1, "tick_ms": 200, "clock_offset_ms": 0.0,
        "clock_error_ms": 0.1, "agent_version": "0", "epoch_ms": 0, "tier": "tcx", "tiers": [], "devices": 1, "reattached": 0,
        "blind_spots": [], "refused_hooks": [], "hooks": [], "drops": [], "seen_skbs": 0, "unseen_skbs": 0,
        "unaccounted_skbs": 0, "other_skbs": 0, "losses": [],
    })
}

fn vertex(id: &str, node: Option<&str>, address: &str) -> Value {
    let (kind, name) = id.split_once(':').expect("an id");
    json!({
        "id": id, "kind": kind, "name": name, "namespace": null, "workload": null, "workload_kind": null, "node": node,
        "addresses": [address], "dns_names": [], "phase": "running", "ready": true, "host_network": false, "created_ms": null,
    })
}

fn side(node: &str, connections: u64) -> Value {
    let counters = json!({ "skbs": 9, "segments": 9, "l3_bytes": 900, "payload_bytes": 100 });
    json!({
        "nodes": [node], "stale": false, "points": [], "path_changed": false, "forward": counters, "reverse": counters,
        "opened": connections, "established": connections, "closed": 0, "resets": 0, "icmp_errors": 0, "sockets": null,
        "owners": [],
    })
}

/// An edge of ours: first and last seen in seconds.
fn edge(client: &str, server: &str, port: u16, connections: u64, seen: [i64; 2]) -> Value {
    let of_node = |id: &str| side(if id.ends_with('b') { "n2" } else { "n1" }, connections);
    json!({
        "id": format!("{client}>{server}:{port}/tcp"), "client": client, "server": server, "port": port, "protocol": "tcp",
        "tunnel": null, "guessed": false, "own": false, "via": [], "translated": false, "state": "live", "first_seen_ms": seen[0] * 1_000,
        "last_seen_ms": seen[1] * 1_000, "client_side": of_node(client), "server_side": of_node(server),
        "rate": { "forward_skbs": 0.0, "reverse_skbs": 0.0, "forward_bytes": 0.0, "reverse_bytes": 0.0, "connections": 0.0 },
        "loss": { "status": "measured", "why": null, "forward_lost": 0, "reverse_lost": 0, "forward_ratio": 0.0, "reverse_ratio": 0.0 },
        "drops": [], "dns": null,
    })
}

/// The pods `shop/a` (n1) and `shop/b` (n2), a service, a node and the world.
fn snapshot(edges: Vec<Value>) -> Value {
    json!({
        "run": "1", "revision": 1, "view": "pod", "time_ms": 0, "since_ms": 0, "cluster": "lab",
        "names": { "source": "file", "state": "fresh", "error": null, "read_ms": null, "ambiguous": 0 },
        "hidden": { "edges": 0, "vertices": 0, "noise": { "own": 0, "dns": 0, "scrapes": 0, "probes": 0, "kube_system": 0 } },
        "nodes": [node("n1", "live"), node("n2", "live")],
        "vertices": [
            vertex("pod:shop/a", Some("n1"), "10.0.1.1"), vertex("pod:shop/b", Some("n2"), "10.0.2.1"),
            vertex("service:shop/web", None, "10.96.0.1"), vertex("node:n1", Some("n1"), "172.30.0.1"),
        ],
        "edges": edges, "events": [],
    })
}

/// A first packet by Hubble, as `node` saw it, at a second.
fn syn(client: (&str, &str), server: (&str, &str), ports: [u16; 2], node: &str, second: i64) -> Value {
    let end = |pod: &str| match pod {
        "" => json!({ "identity": 2 }),
        pod => json!({ "identity": 1_000, "namespace": "shop", "pod_name": pod }),
    };
    let time = prost_types::Timestamp { seconds: second, nanos: 0 }.to_string();
    json!({ "node_name": node, "flow": {
        "time": time, "verdict": "FORWARDED", "node_name": node,
        "IP": { "source": client.1, "destination": server.1, "ipVersion": "IPv4" },
        "l4": { "TCP": { "source_port": ports[0], "destination_port": ports[1], "flags": { "SYN": true } } },
        "source": end(client.0), "destination": end(server.0), "Type": "L3_L4", "is_reply": false,
        "event_type": { "type": 4 }, "trace_observation_point": "TO_ENDPOINT",
    } })
}

const A: (&str, &str) = ("a", "10.0.1.1");
const B: (&str, &str) = ("b", "10.0.2.1");

/// Flows that both nodes send so that neither is silent.
fn chatter() -> Vec<Value> {
    vec![syn(A, B, [40_000, 80], "n1", 1_020), syn(A, B, [40_000, 80], "n2", 1_020)]
}

fn both() -> Value {
    edge("pod:shop/a", "pod:shop/b", 80, 1, [1_020, 1_020])
}

struct Case {
    flows: Vec<Value>,
    /// How far the clocks of Hubble's nodes are behind, in seconds.
    behind: BTreeMap<&'static str, i64>,
    edges: Vec<Value>,
    before: Vec<Value>,
    nodes: Vec<Value>,
}

impl Case {
    fn new(flows: Vec<Value>, edges: Vec<Value>) -> Self {
        let flows = chatter().into_iter().chain(flows).collect();
        let edges = std::iter::once(both()).chain(edges).collect();
        Self { flows, behind: BTreeMap::new(), edges, before: Vec::new(), nodes: Vec::new() }
    }

    fn run(&self) -> Report {
        let mut fold = Fold::default();
        for flow in &self.flows {
            let response = Response::from_json(&flow.to_string()).expect("a response").message;
            let node = flow["node_name"].as_str().unwrap_or_default();
            let arrived = flow["flow"]["time"].as_str().map(|time| {
                let time: prost_types::Timestamp = time.parse().expect("a time");
                (time.seconds + self.behind.get(node).copied().unwrap_or(0)) * SECOND
            });
            fold.add(&response, arrived);
        }
        fold.settle();
        self.of(&fold)
    }

    fn of(&self, fold: &Fold) -> Report {
        let read = |edges: &Vec<Value>| {
            let mut snapshot = snapshot(edges.clone());
            if !self.nodes.is_empty() {
                snapshot["nodes"] = self.nodes.clone().into();
            }
            serde_json::from_value::<Snapshot>(snapshot).expect("a snapshot")
        };
        let (before, after) = (read(&self.before), read(&self.edges));
        let window = Window { start: START * SECOND, end: END * SECOND };
        compare(Inputs { hubble: fold, before: Some(&before), after: &after, window })
    }
}

fn differing(report: &Report) -> Vec<(Seen, &str, Reason)> {
    let of = |row: &Row| row.differences.iter().map(|of| (row.seen, of.what.clone(), of.reason)).collect::<Vec<_>>();
    let all = report.rows.iter().flat_map(of);
    all.map(|(seen, what, reason)| (seen, &*what.leak(), reason)).collect()
}

fn check(case: &Case, expected: &[(Seen, &str, Reason)]) {
    let report = case.run();
    assert_eq!(differing(&report), expected, "{}", report.text());
    let unexplained = expected.iter().any(|(_, _, reason)| *reason == Reason::Unexplained);
    assert_eq!(report.agrees(0.99), !unexplained, "{}", report.text());
}

/// An edge that Hubble does not show.
fn ours_only(seen: [i64; 2]) -> Value {
    edge("pod:shop/b", "pod:shop/a", 443, 3, seen)
}

#[test]
fn where_both_saw_all_they_agree() {
    let report = Case::new(Vec::new(), Vec::new()).run();
    assert!(differing(&report).is_empty());
    assert_eq!(report.summary.edges.agreement, Some(1.0));
    assert_eq!(report.summary.connections.expect("counted").agreement, Some(1.0));
    assert_eq!((report.summary.verdicts_compared, report.summary.verdicts_agree), (1, 1));
    assert!(report.agrees(1.0));
    assert!(report.text().contains("edges: 100.00 % agree; 1 both"), "{}", report.text());
}

#[test]
fn nothing_at_all_is_no_agreement() {
    let case = Case { flows: Vec::new(), edges: Vec::new(), ..Case::new(Vec::new(), Vec::new()) };
    assert!(!case.run().agrees(0.0));
}

#[test]
fn an_edge_that_one_did_not_show_is_unexplained() {
    let missed = [(Seen::OnlyOrrery, "edge", Reason::Unexplained)];
    check(&Case::new(Vec::new(), vec![ours_only([1_020, 1_030])]), &missed);
    let missed = [(Seen::OnlyHubble, "edge", Reason::Unexplained)];
    check(&Case::new(vec![syn(B, A, [41_000, 443], "n1", 1_030)], Vec::new()), &missed);
}

#[test]
fn what_hubble_says_of_itself_explains() {
    let lost = json!({ "lost_events": { "num_events_lost": "5" }, "node_name": "n2" });
    let case = |flows| Case::new(flows, vec![ours_only([1_020, 1_030])]);
    check(&case(vec![lost]), &[(Seen::OnlyOrrery, "edge", Reason::HubbleLostEvents)]);
    let away = json!({ "node_status": { "state_change": "NODE_UNAVAILABLE", "node_names": ["n2"] } });
    check(&case(vec![away]), &[(Seen::OnlyOrrery, "edge", Reason::HubbleNodeAway)]);
    // One node says nothing at all: what only it could tell is explained, and nothing else.
    let mut silent = case(Vec::new());
    silent.flows.retain(|flow| flow["node_name"] == "n1");
    silent.edges[1]["client_side"] = side("n2", 3);
    silent.edges[1]["server_side"] = Value::Null;
    check(&silent, &[(Seen::OnlyOrrery, "edge", Reason::HubbleNodeAway)]);
    silent.edges[1]["server_side"] = side("n1", 3);
    check(&silent, &[(Seen::OnlyOrrery, "edge", Reason::Unexplained)]);
}

#[test]
fn a_connection_from_before_is_aggregated() {
    let old = ours_only([500, 1_030]);
    let case = Case { before: vec![old.clone()], ..Case::new(Vec::new(), vec![old.clone()]) };
    check(&case, &[(Seen::OnlyOrrery, "edge", Reason::HubbleAggregated)]);
    // It opened connections in the window: those Hubble would have told of.
    let mut earlier = old;
    earlier["client_side"] = side("n2", 1);
    earlier["server_side"] = side("n1", 1);
    let case = Case { before: vec![earlier], ..case };
    check(&case, &[(Seen::OnlyOrrery, "edge", Reason::Unexplained)]);
}

#[test]
fn what_orrery_says_of_itself_explains() {
    let flows = || vec![syn(B, A, [41_000, 443], "n1", 1_030)];
    let with = |n1: Value, n2: Value| Case { nodes: vec![n1, n2], ..Case::new(flows(), Vec::new()) };
    let expect = |reason| [(Seen::OnlyHubble, "edge", reason)];
    check(&with(node("n1", "lost"), node("n2", "lost")), &expect(Reason::OrreryNodeAway));
    let mut blind = node("n1", "live");
    blind["tier"] = "partial".into();
    check(&with(blind.clone(), node("n2", "lost")), &expect(Reason::OrreryBlindSpot));
    // The other end's agent sees all.
    check(&with(blind, node("n2", "live")), &expect(Reason::Unexplained));
    check(&with(node("n1", "lossy"), node("n2", "live")), &expect(Reason::OrreryLostEvents));
}

#[test]
fn a_skewed_clock_is_seen_by_when_flows_come() {
    let skewed = || vec![syn(B, A, [41_000, 443], "n2", 1_030 - 3_600)];
    let case = Case {
        behind: BTreeMap::from([("n2", 3_600)]),
        ..Case::new(skewed(), vec![edge("pod:shop/b", "pod:shop/a", 443, 1, [1_030, 1_030])])
    };
    let mut case = case;
    case.flows[1]["flow"]["time"] = "1970-01-01T00:00:00Z".into();
    case.flows[1]["node_name"] = "n2".into();
    let report = case.run();
    let reasons: Vec<_> = differing(&report);
    assert!(reasons.iter().all(|of| *of == (Seen::Both, "first_seen", Reason::ClockSkew)), "{}", report.text());
    assert!(!reasons.is_empty());
    let one = report.rows.iter().find(|row| row.port == 443).expect("the edge");
    assert_eq!(one.first_seen_difference_ms, Some(-3_600_000));
    assert!(report.agrees(1.0));
    // Alone with Hubble, it is explained as well.
    let case = Case { edges: vec![both()], ..case };
    let report = case.run();
    assert!(differing(&report).contains(&(Seen::OnlyHubble, "edge", Reason::ClockSkew)), "{}", report.text());
}

#[test]
fn what_lies_outside_the_window_is_no_fault() {
    check(&Case::new(Vec::new(), vec![ours_only([900, 1_001])]), &[(Seen::OnlyOrrery, "edge", Reason::OutsideWindow)]);
    // Quiet all the time: no row at all.
    check(&Case::new(Vec::new(), vec![ours_only([900, 950])]), &[]);
    let late = vec![syn(B, A, [41_000, 443], "n1", 1_059)];
    check(&Case::new(late, Vec::new()), &[(Seen::OnlyHubble, "edge", Reason::OutsideWindow)]);
}

#[test]
fn a_cluster_ip_is_one_thing_for_each() {
    let through = edge("pod:shop/b", "service:shop/web", 80, 1, [1_020, 1_030]);
    let case = Case::new(vec![syn(B, A, [41_000, 8080], "n1", 1_030)], vec![through]);
    check(&case, &[(Seen::OnlyHubble, "edge", Reason::ClusterIp), (Seen::OnlyOrrery, "edge", Reason::ClusterIp)]);
}

#[test]
fn nodes_and_strangers_are_named_as_such() {
    let host = edge("node:n1", "pod:shop/b", 10_250, 1, [1_020, 1_030]);
    let strangers = edge("external:1.1.1.1", "external:2.2.2.2", 53, 1, [1_020, 1_030]);
    let mut neighbours = edge("pod:shop/a", "external:ff02::2", 133, 0, [1_020, 1_030]);
    neighbours["protocol"] = "icmpv6".into();
    let expected = [Reason::HostTraffic, Reason::NotAPod, Reason::NeighbourDiscovery];
    check(
        &Case::new(Vec::new(), vec![host, strangers, neighbours]),
        &expected.map(|reason| (Seen::OnlyOrrery, "edge", reason)),
    );
}

#[test]
fn missing_connections_need_a_reason_too() {
    let many = |count: u16| (0..count).map(|at| syn(B, A, [41_000 + at, 443], "n1", 1_030)).collect::<Vec<_>>();
    let case =
        |flows, connections| Case::new(flows, vec![edge("pod:shop/b", "pod:shop/a", 443, connections, [1_030, 1_040])]);
    check(&case(many(20), 20), &[]);
    check(&case(many(10), 20), &[(Seen::Both, "connections", Reason::Unexplained)]);
    let mut aggregated = many(10);
    aggregated[0]["flow"]["aggregate"] = json!({ "egress_flow_count": 11 });
    check(&case(aggregated, 20), &[(Seen::Both, "connections", Reason::HubbleAggregated)]);
    let lost = json!({ "lost_events": { "num_events_lost": "9" }, "node_name": "n1" });
    let flows = many(10).into_iter().chain([lost]).collect();
    let report = case(flows, 20).run();
    let (connections, edges) = (report.summary.connections.expect("counted"), report.summary.edges);
    assert_eq!((connections.both, connections.only_orrery, connections.unexplained), (11, 10, 0));
    assert_eq!(edges.agreement, Some(1.0));
    assert_eq!(differing(&report), [(Seen::Both, "connections", Reason::HubbleLostEvents)]);
}

#[test]
fn verdicts_are_held_against_each_other() {
    let mut denied = edge("pod:shop/b", "pod:shop/a", 443, 1, [1_030, 1_030]);
    for of in ["client_side", "server_side"] {
        denied[of]["established"] = 0.into();
    }
    let mut drop = syn(B, A, [41_000, 443], "n1", 1_030);
    drop["flow"]["verdict"] = "DROPPED".into();
    drop["flow"]["drop_reason_desc"] = "POLICY_DENIED".into();
    drop["flow"].as_object_mut().expect("a flow").remove("is_reply");
    let case = Case::new(vec![drop.clone()], vec![denied.clone()]);
    check(&case, &[]);
    let report = case.run();
    let row = report.rows.iter().find(|row| row.port == 443).expect("the edge");
    assert_eq!(
        (row.verdict_agrees, row.orrery.as_ref().map(|side| side.verdict)),
        (Some(true), Some(OurVerdict::Unanswered))
    );
    // We say that it was answered.
    denied["client_side"]["established"] = 1.into();
    let report = Case::new(vec![drop], vec![denied]).run();
    assert_eq!(differing(&report), [(Seen::Both, "verdict", Reason::Unexplained)]);
    assert_eq!((report.summary.verdicts_compared, report.summary.verdicts_agree), (2, 1));
}

#[test]
fn a_guess_of_ours_is_turned_where_hubble_knows() {
    let mut guessed = edge("pod:shop/a", "pod:shop/b", 9_000, 0, [1_020, 1_030]);
    guessed["guessed"] = true.into();
    let mut reply = syn(B, A, [41_000, 443], "n1", 1_030);
    reply["flow"]["l4"]["TCP"]["flags"] = json!({ "ACK": true });
    let report = Case::new(vec![reply], vec![guessed]).run();
    assert_eq!((report.summary.edges.both, report.summary.edges.only_orrery), (2, 0), "{}", report.text());
}

#[test]
fn full_tables_are_told_of() {
    let mut fold = Fold::new(Bounds { edges: 1, ..Bounds::default() });
    for flow in chatter().into_iter().chain([syn(B, A, [41_000, 443], "n1", 1_030)]) {
        fold.add(&Response::from_json(&flow.to_string()).expect("a response").message, None);
    }
    let report = Case::new(Vec::new(), vec![ours_only([1_020, 1_030])]).of(&fold);
    assert_eq!(differing(&report), [(Seen::OnlyOrrery, "edge", Reason::TableFull)]);
    assert_eq!(report.summary.hidden.refused_flows, 1);
}

#[test]
fn rows_have_a_bound_and_what_differs_comes_first() {
    let mut after: Snapshot = serde_json::from_value(snapshot(vec![ours_only([1_020, 1_030])])).expect("a snapshot");
    let one = after.edges.pop().expect("an edge");
    let another = |at: u16| EdgeRow { id: at.to_string().into(), port: at, ..(*one).clone() };
    after.edges.extend((0..MAX_ROWS as u16 + 5).map(|at| Shared::new(another(at), usize::from(at))));
    let window = Window { start: START * SECOND, end: END * SECOND };
    let mut fold = Fold::default();
    for flow in chatter() {
        fold.add(&Response::from_json(&flow.to_string()).expect("a response").message, None);
    }
    let report = compare(Inputs { hubble: &fold, before: None, after: &after, window });
    assert_eq!((report.rows.len(), report.summary.refused_rows), (MAX_ROWS, 6));
    assert!(report.rows.iter().all(|row| row.seen != Seen::Both && row.differences[0].reason == Reason::Unexplained));
    assert_eq!(report.rows[0].seen, Seen::OnlyHubble);
    assert!(report.summary.connections.is_none());
}
