//! Services without socket load balancing: pods send to a virtual address, their node translates. Each edge leads to who
//! answered, is exact on both sides, and says by way of which address.

mod equal;
mod names;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use equal::assert_equal;
use lab::testing::lab_or_skip;
use lab::{AgentOptions, ClusterIp, Collector, LabSpec, Offloads, Protocol, Reply, ServiceSpec, TcpSend, UdpSend};
use names::from_an_api;
use serde_json::Value;

const SETTLE: Duration = Duration::from_secs(15);

/// Virtual address, by what name, and who answers: on the client's node, over VXLAN, by plain routing.
const SERVICES: [(Ipv4Addr, &str, &str); 3] = [
    (Ipv4Addr::new(10, 96, 0, 1), "here", "p1-1"),
    (Ipv4Addr::new(10, 96, 0, 2), "tunnel", "p2-0"),
    (Ipv4Addr::new(10, 96, 0, 3), "routed", "p3-0"),
];
/// Two pods answer.
const SPREAD: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 9);
const SIX: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 1));

fn spec() -> LabSpec {
    let service = |address: Ipv4Addr, name: &str| ServiceSpec {
        name: name.to_owned(),
        namespace: "lab".to_owned(),
        workload: "p1".to_owned(),
        port: 80,
        cluster_ip: Some(address),
    };
    let services = SERVICES.iter().map(|(address, name, _)| service(*address, name)).chain([service(SPREAD, "spread")]);
    LabSpec { services: services.collect(), ..LabSpec::plain(2, Offloads::On) }
}

fn edges(collector: &Collector, client: &str) -> Vec<Value> {
    let graph = collector.graph("pod").expect("a graph");
    let all = graph["edges"].as_array().expect("edges").clone();
    all.into_iter().filter(|edge| edge["client"] == format!("pod:lab/{client}")).collect()
}

#[test]
fn what_is_sent_to_a_service_is_an_edge_to_who_answered() {
    let Some(lab) = lab_or_skip(spec()).expect("the lab comes up") else { return };
    let (collector, _api) = from_an_api(&lab);
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let add = |at: SocketAddr, protocol, backends: Vec<SocketAddr>| {
        lab.add_cluster_ip(ClusterIp { at, protocol, backends }).expect("a virtual address");
    };
    for server in lab.pods() {
        server.serve_tcp(7010).expect("tcp");
        server.serve_udp(7000, Reply::Echo).expect("udp");
    }
    for (address, _, server) in SERVICES {
        let server = pod(server);
        add((address, 80).into(), Protocol::Tcp, vec![(server.v4(), 7010).into()]);
        add((address, 53).into(), Protocol::Udp, vec![(server.v4(), 7000).into()]);
    }
    add((SIX, 80).into(), Protocol::Tcp, vec![(pod("p3-1").v6(), 7010).into()]);
    let client = pod("p1-0");
    let tcp = |to: SocketAddr, connections| TcpSend { to, connections, send: 40_000, receive: 9_000 };
    for (address, ..) in SERVICES {
        client.tcp(tcp((address, 80).into(), 40)).expect("connections");
        let udp = UdpSend { replies: true, ..UdpSend::new((address, 53).into(), 400, 300, 4_000.0) };
        client.udp(udp.clone()).expect("datagrams");
        client.udp(UdpSend { per_port: 2, ..udp }).expect("flows shorter than a tick");
    }
    client.tcp(tcp((SIX, 80).into(), 5)).expect("connections");
    // The same pods, named themselves, by somebody else: no way of a service.
    let other = pod("p2-1");
    other.tcp(tcp((pod("p3-0").v4(), 7010).into(), 5)).expect("connections");
    assert_equal(&lab, &collector);

    for edge in edges(&collector, "p1-0") {
        assert_eq!(edge["translated"], false, "{edge}");
        assert_eq!(edge["client_side"]["points"], serde_json::json!(["pod"]), "its own device counts: {edge}");
        let [via] = &edge["via"].as_array().expect("a list")[..] else { panic!("by one way: {edge}") };
        let server = edge["server"].as_str().unwrap_or_default();
        if server.ends_with("p3-1") {
            assert_eq!(via["address"], SIX.to_string());
            continue;
        }
        let (address, name, _) = SERVICES.into_iter().find(|(.., pod)| server.ends_with(pod)).expect("a backend");
        let port = if edge["protocol"] == "tcp" { 80 } else { 53 };
        let service = format!("lab/{name}");
        assert_eq!(*via, serde_json::json!({ "address": address.to_string(), "port": port, "service": service }));
        if edge["protocol"] == "tcp" && !edge["client_side"]["sockets"].is_null() {
            assert_eq!(edge["client_side"]["sockets"]["established"], 40, "what sockets told is on this edge: {edge}");
        }
    }
    assert!(edges(&collector, "p2-1").iter().all(|edge| edge["via"] == serde_json::json!([])));

    // Two who answer: each edge has its own connections, and together they are all.
    let backends = [pod("p2-1"), pod("p3-1")];
    add((SPREAD, 80).into(), Protocol::Tcp, backends.iter().map(|pod| (pod.v4(), 7010).into()).collect());
    pod("p1-1").tcp(tcp((SPREAD, 80).into(), 30)).expect("connections");
    let shared = || {
        let counted = edges(&collector, "p1-1").into_iter().filter(|edge| edge["port"] == 7010);
        let counts = counted.map(|edge| {
            let established = |side: &str| edge[side]["established"].as_u64();
            (established("client_side"), established("server_side"), edge["via"][0]["service"].clone())
        });
        let spread = Value::from("lab/spread");
        (counts.collect::<Vec<_>>() == vec![(Some(15), Some(15), spread.clone()), (Some(15), Some(15), spread)])
            .then_some(())
    };
    lab::wait_for("each has half of the connections", SETTLE, shared)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", edges(&collector, "p1-1")));
}
