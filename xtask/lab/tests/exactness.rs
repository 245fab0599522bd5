//! Orrery's totals against the lab's ledger, per edge and on both sides, to the packet and the byte. The expected side comes
//! from the ledger, nft's counters and `stats64`; nothing here is computed from what Orrery says.

mod equal;
mod names;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api_mock::FileApi;
use equal::assert_equal;
use lab::testing::lab_or_skip;
use lab::{
    Agent, AgentOptions, Collector, CollectorOptions, Edge, EdgeCounters, IcmpSend, Lab, LabSpec, Offloads, Pod,
    Protocol, Reply, TcpSend, UdpSend,
};
use names::from_an_api;

/// How long it may take until a device is watched, or until the numbers of one edge are nft's.
const SETTLE: Duration = Duration::from_secs(15);

/// Traffic of every kind from one pod to another over one family. Ports differ by family: the pod view joins addresses.
fn all_kinds(client: &Pod, server: &Pod, ipv6: bool) {
    let to = server.address(ipv6);
    let port = |port: u16| (to, port + u16::from(ipv6) * 100).into();
    let udp = |port, datagrams, payload, pps| UdpSend { replies: true, ..UdpSend::new(port, datagrams, payload, pps) };
    client.udp(udp(port(7000), 800, 300, 8_000.0)).expect("datagrams");
    client.udp(udp(port(7000), 5, 0, 1_000.0)).expect("empty datagrams");
    client.udp(UdpSend { per_port: 2, ..udp(port(7001), 120, 64, 1_000.0) }).expect("flows shorter than a tick");
    client.udp(udp(port(7002), 12, 5_000, 500.0)).expect("fragments");
    client.udp(UdpSend::new(port(7003), 200, 1_000, 5_000.0)).expect("one way");
    let tcp = |port, connections, send, receive| TcpSend { to: port, connections, send, receive };
    client.tcp(tcp(port(7010), 3, 1_500_000, 400_000)).expect("long transfers");
    client.tcp(tcp(port(7011), 60, 20, 700)).expect("connections shorter than a tick");
    client.icmp(IcmpSend { to, count: 30, payload: 500, pps: 1_000.0 }).expect("pings");
}

fn serve(pod: &Pod) {
    for family in [0, 100] {
        for port in [7000, 7001, 7002] {
            pod.serve_udp(port + family, Reply::Echo).expect("udp");
        }
        pod.serve_udp(7003 + family, Reply::Sink).expect("udp");
        pod.serve_tcp(7010 + family).expect("tcp");
        pod.serve_tcp(7011 + family).expect("tcp");
    }
}

/// Nothing was lost on the way, on any node, and no edge shows loss.
fn assert_nothing_lost(collector: &Collector) {
    let graph = collector.graph("pod").expect("the graph");
    for node in graph["nodes"].as_array().expect("nodes") {
        assert_eq!(node["unaccounted_skbs"], 0, "{node}");
        assert_eq!(node["losses"].as_array().map(Vec::len), Some(0), "{node}");
        assert_eq!(node["other_skbs"], 0, "{node}");
    }
    for edge in graph["edges"].as_array().expect("edges") {
        for way in ["forward_lost", "reverse_lost"] {
            assert!(edge["loss"][way].as_u64().unwrap_or(0) == 0, "loss on a link that loses nothing: {edge}");
        }
    }
}

/// Names from the pod list's file.
fn from_a_file(lab: &Lab) -> (Collector, Option<FileApi>) {
    (lab.start_collector(&CollectorOptions::default()).expect("a collector"), None)
}

fn exact(offloads: Offloads, start: impl FnOnce(&Lab) -> (Collector, Option<FileApi>)) {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, offloads)).expect("the lab comes up") else { return };
    let (collector, _api) = start(&lab);
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let external = Arc::clone(lab.external().expect("the external host"));
    lab.pods().iter().chain([&external]).for_each(|pod| serve(pod));
    // Same node, VXLAN both ways, routed both ways, and out of the cluster and in.
    let pairs = [("p1-0", "p1-1"), ("p1-0", "p2-0"), ("p2-1", "p1-1"), ("p1-1", "p3-0"), ("p3-1", "p2-0")];
    let pairs = pairs.map(|(client, server)| (pod(client), pod(server)));
    let outside = [(pod("p3-0"), Arc::clone(&external)), (external, pod("p1-0"))];
    for (client, server) in pairs.into_iter().chain(outside) {
        for ipv6 in [false, true] {
            all_kinds(&client, &server, ipv6);
        }
    }
    assert_equal(&lab, &collector);
    assert_nothing_lost(&collector);
}

#[test]
fn every_edge_is_exact_with_offloads() {
    exact(Offloads::On, from_a_file);
}

#[test]
fn every_edge_is_exact_without_offloads_and_with_names_from_an_api() {
    exact(Offloads::Off, from_an_api);
}

#[test]
fn tcp_segments_are_what_nft_counted() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::Off)).expect("the lab comes up") else { return };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let client = lab.pod("p1-0").expect("a client");
    let mut counters = Vec::new();
    for (name, ipv6) in [("p2-0", false), ("p3-0", true)] {
        let server = lab.pod(name).expect("a server");
        server.serve_tcp(7010).expect("tcp");
        let edge =
            Edge { client: client.address(ipv6), server: server.address(ipv6), port: 7010, protocol: Protocol::Tcp };
        // What leaves a stack is cut into segments below nft; what arrives is counted as it came.
        let at_server = EdgeCounters::install(&lab, edge.server, &[edge]).expect("counters");
        let at_client = EdgeCounters::install(&lab, edge.client, &[edge]).expect("counters");
        counters.push((name, edge, at_server, at_client));
        client
            .tcp(TcpSend { to: (edge.server, 7010).into(), connections: 8, send: 300_000, receive: 300_000 })
            .expect("transfers");
    }
    assert_equal(&lab, &collector);
    for (name, edge, at_server, at_client) in counters {
        let forward = at_server.read().expect("counters")[&edge].0;
        let reverse = at_client.read().expect("counters")[&edge].1;
        let what = format!("segments to {name}");
        let equal = || {
            let graph = collector.graph("pod").ok()?;
            let rows = graph["edges"].as_array()?;
            let row = rows.iter().find(|row| row["server"].as_str().is_some_and(|id| id.ends_with(name)))?;
            let side = &row["server_side"];
            let is = |way: &str, wanted: lab::Matched| {
                side[way]["segments"] == wanted.packets && side[way]["l3_bytes"] == wanted.bytes
            };
            (is("forward", forward) && is("reverse", reverse)).then_some(())
        };
        lab::wait_for(&what, SETTLE, equal).unwrap_or_else(|error| {
            panic!("{error}: nft has {forward:?} {reverse:?}: {}", collector.graph("pod").expect("a graph"))
        });
    }
}

/// How often an agent has read its flow map.
fn reads(agent: &Agent) -> u64 {
    let metrics = agent.get("/metrics").expect("metrics").body;
    let text = String::from_utf8(metrics).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("orrery_agent_drains_total "));
    line.and_then(|number| number.parse().ok()).expect("the number of readings")
}

#[test]
fn a_hot_flow_is_exact_through_a_thousand_reads() {
    // Twenty a second are what an agent allows itself.
    const READS: u64 = 1_000;
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else {
        return;
    };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    server.serve_udp(7000, Reply::Sink).expect("udp");
    let flow = client.start_udp((server.v4(), 7000).into(), 200, 10_000.0).expect("a hot flow");
    // New edges make both agents read at once, as often as they allow themselves, while the hot flow goes on. Nobody listens
    // on these ports: the ICMP errors that come back belong to their edges and are no traffic of their own.
    let start = Instant::now();
    let mut port = 8_000;
    while agents.iter().take(2).any(|agent| reads(agent) < READS) {
        for _ in 0..20 {
            port += 1;
            client.udp(UdpSend::new((server.v4(), port).into(), 1, 32, 1_000.0)).expect("a datagram");
            std::thread::sleep(Duration::from_millis(35));
        }
        assert!(start.elapsed() < Duration::from_secs(240), "{READS} readings take too long");
    }
    flow.stop().expect("it stops");
    println!("{} and {} readings in {:?}", reads(&agents[0]), reads(&agents[1]), start.elapsed());
    assert_equal(&lab, &collector);
    assert_nothing_lost(&collector);
}

#[test]
fn pods_that_come_late_are_exact_once_watched() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    // Here a watch has to bring the names.
    let (collector, _api) = from_an_api(&lab);
    let agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let late = lab::PodSpec::new("lab", lab::Owner::Deployment("late".to_owned()), 0, "n1");
    let late = Arc::clone(&lab.add_pods(&[late]).expect("a late pod")[0]);
    let server = lab.pod("p3-0").expect("a server");
    serve(&server);
    let watched = || {
        let devices = collector.get("/api/v1/devices").ok()?.json().ok()?;
        devices.to_string().contains(late.device()).then_some(())
    };
    lab::wait_for("the late pod's device is watched", SETTLE, watched).expect("it is");
    all_kinds(&late, &server, false);
    assert_equal(&lab, &collector);
    assert_nothing_lost(&collector);
    for agent in &agents {
        assert!(agent.terminate().expect("it ends").success());
    }
}
