//! Beside a synthetic Cilium on every device, in both its forms: what a hook can see is counted to the packet and the byte,
//! what none can see is said to be unobserved and is no loss, and nothing of Cilium's is disturbed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::testing::lab_or_skip;
use lab::{
    AgentOptions, Cilium, Cni, Collector, CollectorOptions, Edge, Form, Handled, IcmpSend, Lab, LabSpec, Ledger,
    Offloads, Pod, Protocol, Reply, Sent, TcpSend, Totals, UdpSend, wait_for,
};
use serde_json::Value;

/// What the policy denies.
const DENIED: u16 = 7777;
/// How long totals may take: a lesser hook waits for the better one, and a slow tick is 2 s.
const SETTLE: Duration = Duration::from_secs(20);

/// How a packet that arrives is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// At the tunnel or the uplink: each packet.
    Device,
    /// Delivered on its own node, past every device: what a socket takes.
    Socket,
}

fn all_kinds(client: &Pod, server: &Pod, ipv6: bool) {
    let to = server.address(ipv6);
    let port = |port: u16| (to, port + u16::from(ipv6) * 100).into();
    let udp = |port, datagrams, payload, pps| UdpSend { replies: true, ..UdpSend::new(port, datagrams, payload, pps) };
    client.udp(udp(port(7000), 400, 300, 4_000.0)).expect("datagrams");
    client.udp(UdpSend { per_port: 2, ..udp(port(7001), 60, 64, 1_000.0) }).expect("flows shorter than a tick");
    client.udp(udp(port(7002), 12, 5_000, 500.0)).expect("fragments");
    client.udp(UdpSend::new(port(7003), 100, 1_000, 5_000.0)).expect("one way");
    let tcp = |port, connections, send, receive| TcpSend { to: port, connections, send, receive };
    client.tcp(tcp(port(7010), 2, 800_000, 200_000)).expect("long transfers");
    client.tcp(tcp(port(7011), 20, 20, 700)).expect("connections shorter than a tick");
    client.icmp(IcmpSend { to, count: 20, payload: 500, pps: 1_000.0 }).expect("pings");
}

fn serve(pod: &Pod) {
    for family in [0, 100] {
        for port in [6000, 7000, 7001, 7002] {
            pod.serve_udp(port + family, Reply::Echo).expect("udp");
        }
        pod.serve_udp(7003 + family, Reply::Sink).expect("udp");
        pod.serve_tcp(7010 + family).expect("tcp");
        pod.serve_tcp(7011 + family).expect("tcp");
    }
}

/// The same few datagrams on the node, to another node, and against the policy: what became of them on the first node.
fn batch(lab: &Lab, cilium: &Cilium) -> Handled {
    let before = cilium.handled().expect("counts");
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let client = pod("p1-0");
    for server in [pod("p1-1"), pod("p2-0")] {
        let to = (server.v4(), 6000).into();
        let sent = client.udp(UdpSend { replies: true, ..UdpSend::new(to, 100, 200, 4_000.0) });
        sent.expect("every datagram is answered");
    }
    client.udp(UdpSend::new((pod("p2-0").v4(), DENIED).into(), 20, 50, 1_000.0)).expect("datagrams");
    let after = cilium.handled().expect("counts");
    assert!(cilium.in_place().expect("a look"), "its programs are where it put them");
    Handled {
        delivered: after.delivered - before.delivered,
        forwarded: after.forwarded - before.forwarded,
        denied: after.denied - before.denied,
        passed: after.passed - before.passed,
    }
}

/// Requests and replies on the node, replies from the other one, and the tunnel's own packets, which are the stack's.
const HANDLED: Handled = Handled { delivered: 300, forwarded: 100, denied: 20, passed: 100 };

/// What is wrong with one way of one side.
fn way(what: &str, seen: &Value, sent: &Sent, protocol: Protocol, arrival: Arrival) -> Vec<String> {
    let icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
    let unseen = arrival == Arrival::Socket && icmp;
    let bytes = if unseen { 0 } else { sent.wire_payload_bytes() };
    let mut wrong = Vec::new();
    if seen["payload_bytes"] != bytes {
        wrong.push(format!("{what} payload bytes {}, ledger {bytes}", seen["payload_bytes"]));
    }
    if protocol != Protocol::Tcp && arrival == Arrival::Device && seen["skbs"] != sent.packets {
        wrong.push(format!("{what} skbs {}, ledger {}", seen["skbs"], sent.packets));
    }
    wrong
}

/// Every difference between graph and ledger, and every loss that is none.
fn differences(lab: &Lab, collector: &Collector, ledger: &Ledger) -> Vec<String> {
    let graph = collector.graph("pod").expect("the graph");
    let pods = lab.pods();
    let pod = |address: IpAddr| pods.iter().find(|pod| pod.v4() == address || pod.v6() == address);
    let id =
        |address| pod(address).map_or_else(|| format!("external:{address}"), |pod| format!("pod:lab/{}", pod.name()));
    let mut wrong = Vec::new();
    for (edge, totals) in ledger.iter().filter(|(edge, _)| edge.port != DENIED && edge.port != 6000) {
        let Some(row) = find(&graph, edge, id) else {
            wrong.push(format!("{edge:?} is missing"));
            continue;
        };
        let node = |address| pod(address).map(|pod| pod.node().to_owned());
        let (client, server) = (node(edge.client), node(edge.server));
        let arrival = if client == server { Arrival::Socket } else { Arrival::Device };
        let found = sides(row, edge, totals, arrival, [client.is_some(), server.is_some()]);
        wrong.extend(found.iter().map(|text| format!("{} {} {:?}: {text}", row["id"], edge.port, edge.protocol)));
        let loss = &row["loss"];
        if arrival == Arrival::Socket && (loss["status"] == "measured" || !loss.to_string().contains("not observed")) {
            wrong.push(format!("{edge:?} is not said to be unobserved: {loss}"));
        }
        if ["forward_lost", "reverse_lost"].iter().any(|way| loss[way].as_u64().unwrap_or(0) > 0) {
            wrong.push(format!("{edge:?} shows loss: {loss}"));
        }
    }
    for node in graph["nodes"].as_array().expect("nodes") {
        if node["unaccounted_skbs"] != 0 || node["losses"].as_array().is_none_or(|losses| !losses.is_empty()) {
            wrong.push(format!("{node}"));
        }
    }
    wrong
}

fn find<'a>(graph: &'a Value, edge: &Edge, id: impl Fn(IpAddr) -> String) -> Option<&'a Value> {
    graph["edges"].as_array()?.iter().find(|row| {
        row["client"] == id(edge.client)
            && row["server"] == id(edge.server)
            && row["port"] == edge.port
            && row["protocol"] == edge.protocol.name()
    })
}

fn sides(row: &Value, edge: &Edge, totals: &Totals, arrival: Arrival, pods: [bool; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    let ends = [("client_side", Arrival::Device, arrival), ("server_side", arrival, Arrival::Device)];
    for ((side, forward, reverse), _) in ends.into_iter().zip(pods).filter(|(_, pod)| *pod) {
        let seen = &row[side];
        wrong.extend(way(&format!("{side} forward"), &seen["forward"], &totals.forward, edge.protocol, forward));
        wrong.extend(way(&format!("{side} reverse"), &seen["reverse"], &totals.reverse, edge.protocol, reverse));
        if edge.protocol == Protocol::Tcp {
            for what in ["opened", "established", "closed"] {
                if seen[what] != totals.connections {
                    wrong.push(format!("{side} {what} {}, ledger {}", seen[what], totals.connections));
                }
            }
        }
    }
    wrong
}

fn assert_counted(lab: &Lab, collector: &Collector) {
    let ledger = lab.ledger().expect("a ledger");
    let started = Instant::now();
    let mut left = Vec::new();
    let equal = wait_for("totals that equal the ledger", SETTLE, || {
        left = differences(lab, collector, &ledger);
        left.is_empty().then_some(())
    });
    assert!(equal.is_ok(), "{} differences:\n{}", left.len(), left.join("\n"));
    println!("{} edges equal the ledger after {:?}", ledger.len(), started.elapsed());
}

/// What the policy dropped is on its edge, for the reason that tc programs have, and is no loss between sides.
fn assert_denied(lab: &Lab, collector: &Collector, segments: u64) {
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let edge = Edge { client: client.v4(), server: server.v4(), port: DENIED, protocol: Protocol::Udp };
    let id = |address| format!("pod:lab/{}", if address == edge.client { client.name() } else { server.name() });
    let mut row = Value::Null;
    wait_for("what was denied", SETTLE, || {
        row = find(&collector.graph("pod").ok()?, &edge, id)?.clone();
        let sent = row["client_side"]["forward"]["skbs"] == segments && row["server_side"].is_null();
        let mut drops = row["drops"].as_array()?.iter();
        (sent && drops.any(|drop| drop["by"] == "tc" && drop["segments"] == segments)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {segments} were denied: {row}"));
    assert_ne!(row["loss"]["status"], "measured", "{row}");
}

/// The same comparison must be able to fail: with agents that leave out one packet in 10,000 it does, and nearly all the rest
/// is there, so that it is not an agent that is late.
#[test]
fn beside_cilium_a_sabotaged_object_turns_it_red() {
    const SENT: u64 = 50_000;
    let spec = LabSpec { cni: Cni::Cilium, ..LabSpec::plain(1, Offloads::On) };
    let Some(lab) = lab_or_skip(spec).expect("the lab comes up") else { return };
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (client, server) = (pod("p1-0"), pod("p2-0"));
    server.serve_udp(7000, Reply::Echo).expect("udp");
    let _cilium: Vec<Cilium> =
        lab.nodes().iter().map(|node| Cilium::install(&lab, node, Form::Tcx, DENIED).expect("a datapath")).collect();
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let object = lab::ebpf_object("sabotage-skip").expect("a development build").display().to_string();
    let options = AgentOptions { arguments: vec!["--ebpf-object".to_owned(), object], ..AgentOptions::default() };
    let _agents = lab.start_agents(&options).expect("agents");
    let to = (server.v4(), 7000).into();
    // 200,000 packets past hooks that count: that none is left out has a probability of e^-20.
    client.udp(UdpSend { replies: true, ..UdpSend::new(to, SENT, 64, 25_000.0) }).expect("datagrams");
    let ledger = lab.ledger().expect("a ledger");
    let near = || {
        let graph = collector.graph("pod").ok()?;
        let row = graph["edges"].as_array()?.iter().find(|row| row["port"] == 7000)?.clone();
        let ways = ["client_side", "server_side"].into_iter().flat_map(|side| {
            let side = row[side].clone();
            ["forward", "reverse"].map(|way| side[way]["skbs"].as_u64().unwrap_or(0))
        });
        ways.into_iter().all(|seen| seen.abs_diff(SENT) < SENT / 100).then_some(())
    };
    wait_for("nearly all packets", SETTLE, near).expect("they are");
    let equal = wait_for("totals that equal the ledger", Duration::from_secs(3), || {
        differences(&lab, &collector, &ledger).is_empty().then_some(())
    });
    assert!(equal.is_err(), "nothing was noticed");
}

#[test]
fn beside_cilium_all_that_passes_a_hook_is_counted_and_nothing_is_disturbed() {
    let spec = LabSpec { cni: Cni::Cilium, ..LabSpec::plain(2, Offloads::On) };
    let Some(lab) = lab_or_skip(spec).expect("the lab comes up") else { return };
    let install = |form| -> Vec<Cilium> {
        let one = |node: &String| Cilium::install(&lab, node, form, DENIED).expect("a datapath");
        lab.nodes().iter().map(one).collect()
    };
    let external = std::sync::Arc::clone(lab.external().expect("the external host"));
    lab.pods().iter().chain([&external]).for_each(|pod| serve(pod));
    let mut cilium = install(Form::Tcx);
    assert_eq!(batch(&lab, &cilium[0]), HANDLED, "before our life");

    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let pod = |name: &str| lab.pod(name).expect("a pod");
    // On one node, through the tunnel both ways, by the uplink both ways, out of the cluster and in.
    let pairs =
        [("p1-0", "p1-1"), ("p1-0", "p2-0"), ("p2-1", "p1-1"), ("p1-1", "p3-0"), ("p3-1", "p2-0"), ("p3-0", "p3-1")];
    let pairs = pairs.map(|(client, server)| (pod(client), pod(server)));
    let outside = [(pod("p3-0"), std::sync::Arc::clone(&external)), (external, pod("p1-0"))];
    let mut denied = 0;
    for form in [Form::Tcx, Form::Filter] {
        if form == Form::Filter {
            // It is upgraded to its other form, while we watch.
            for old in std::mem::take(&mut cilium) {
                old.leave().expect("it leaves");
            }
            cilium = install(form);
        }
        for ipv6 in [false, true] {
            for (client, server) in pairs.iter().chain(&outside) {
                all_kinds(client, server, ipv6);
            }
            // New programs in the old ones' place, and others' filters deleted.
            cilium.iter_mut().for_each(|cilium| cilium.regenerate().expect("it regenerates"));
        }
        assert_eq!(batch(&lab, &cilium[0]), HANDLED, "during our life, {form:?}");
        denied += HANDLED.denied;
        assert_counted(&lab, &collector);
        assert_denied(&lab, &collector, denied);
    }
    agents[0].kill();
    assert_eq!(batch(&lab, &cilium[0]), HANDLED, "after a kill");
    let again = lab.start_agent("n1", &AgentOptions { name: Some("again".to_owned()), ..AgentOptions::default() });
    let again = again.expect("an agent again");
    assert_eq!(batch(&lab, &cilium[0]), HANDLED, "in our second life");
    assert!(again.terminate().expect("it ends").success());
    assert_eq!(batch(&lab, &cilium[0]), HANDLED, "after a clean end");
}
