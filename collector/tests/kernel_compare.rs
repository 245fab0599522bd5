//! Real agents on the lab beside a Hubble server that tells what the traffic's own ledger says: where both saw all they
//! agree, and each thing that is made to differ gets its reason.

mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use collector::{
    clock,
    hubble::{
        client::{Event, QUEUE, Server, follow},
        compare::{Inputs, Reason, Report, Seen, Window, compare},
        fold::Fold,
        json::Response,
        proto::observer::{GetFlowsRequest, GetFlowsResponse},
    },
    time::{Ns, SECOND},
    view::Snapshot,
};
use lab::{
    AgentOptions, Collector, CollectorOptions, Edge, IcmpSend, Lab, LabSpec, Offloads, Owner, PodSpec, Protocol, Reply,
    ServiceSpec, TcpSend, UdpSend, testing::lab_or_skip, wait_for,
};
use replay::Replay;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

const SETTLE: Duration = Duration::from_secs(30);
/// A service in front of the pod `p2-0`.
const CLUSTER_IP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 77);

/// Who has an address: the pod's name and node.
type Pods = BTreeMap<IpAddr, (String, String)>;

/// What Hubble would tell of one edge of the ledger: each node sees each packet once.
struct Telling<'a> {
    pods: &'a Pods,
    time: Ns,
    /// The destination's address as the wire shows it, where that is not the server's.
    shown: Option<IpAddr>,
}

impl Telling<'_> {
    fn end(&self, address: IpAddr) -> Value {
        match self.pods.get(&address) {
            Some((pod, _)) => json!({ "identity": 4_000, "namespace": "lab", "pod_name": pod }),
            None => json!({ "identity": 2, "labels": ["reserved:world"] }),
        }
    }

    fn node(&self, address: IpAddr) -> &str {
        self.pods.get(&address).map_or("n1", |(_, node)| node)
    }

    /// One observation. `reply`: from the server to the client.
    fn flow(&self, edge: &Edge, node: &str, l4: &Value, reply: bool, point: &str) -> GetFlowsResponse {
        let server = self.shown.unwrap_or(edge.server);
        let (from, to) = if reply { (server, edge.client) } else { (edge.client, server) };
        let time = prost_types::Timestamp {
            seconds: self.time.div_euclid(SECOND),
            nanos: self.time.rem_euclid(SECOND) as i32,
        };
        let mut value = json!({ "node_name": node, "flow": {
            "time": time.to_string(), "verdict": "FORWARDED", "node_name": node, "Type": "L3_L4", "is_reply": reply,
            "IP": { "source": from, "destination": to, "ipVersion": if from.is_ipv4() { "IPv4" } else { "IPv6" } },
            "l4": l4, "source": self.end(from), "destination": self.end(to),
            "event_type": { "type": 4 }, "trace_observation_point": point,
        } });
        if self.shown.is_some() {
            let end = if reply { "source_service" } else { "destination_service" };
            value["flow"][end] = json!({ "name": "web", "namespace": "lab" });
        }
        Response::from_json(&value.to_string()).expect("a response").message
    }

    /// All observations of an edge with so many connections.
    fn edge(&self, edge: &Edge, connections: u64) -> Vec<GetFlowsResponse> {
        let nodes = BTreeSet::from([self.node(edge.client), self.node(edge.server)]);
        let mut flows = Vec::new();
        for at in 0..connections.max(1) {
            let port = 20_000 + at;
            let ports = |reply: bool| if reply { (edge.port.into(), port) } else { (port, edge.port.into()) };
            let packets: Vec<(Value, bool)> = match edge.protocol {
                Protocol::Tcp => {
                    let packet = |reply: bool, flags: Value| {
                        let (source, destination) = ports(reply);
                        let tcp = json!({ "source_port": source, "destination_port": destination, "flags": flags });
                        (json!({ "TCP": tcp }), reply)
                    };
                    vec![
                        packet(false, json!({ "SYN": true })),
                        packet(true, json!({ "SYN": true, "ACK": true })),
                        packet(false, json!({ "ACK": true })),
                        packet(false, json!({ "FIN": true, "ACK": true })),
                    ]
                }
                Protocol::Udp => {
                    let udp = json!({ "source_port": port, "destination_port": edge.port });
                    vec![(json!({ "UDP": udp }), false)]
                }
                Protocol::Icmp => vec![(json!({ "ICMPv4": { "type": 8 } }), false), (json!({ "ICMPv4": {} }), true)],
                Protocol::Icmpv6 => {
                    vec![(json!({ "ICMPv6": { "type": 128 } }), false), (json!({ "ICMPv6": { "type": 129 } }), true)]
                }
            };
            for node in &nodes {
                for (packet, reply) in &packets {
                    let arrives = (*node == self.node(edge.server)) != *reply;
                    let point = if arrives { "TO_ENDPOINT" } else { "TO_OVERLAY" };
                    flows.push(self.flow(edge, node, packet, *reply, point));
                }
            }
        }
        flows
    }
}

/// The lab, its traffic and what both sides would be compared on.
struct Scene {
    pods: Pods,
    edges: Vec<(Edge, u64)>,
    window: Window,
    before: Snapshot,
    after: Snapshot,
}

impl Scene {
    fn telling(&self) -> Telling<'_> {
        Telling { pods: &self.pods, time: self.window.start + (self.window.end - self.window.start) / 2, shown: None }
    }

    fn edge(&self, client: &str, server: &str, port: u16) -> Edge {
        let name = |address: &IpAddr| self.pods.get(address).map_or("", |(pod, _)| pod.as_str());
        let is_it = |edge: &Edge| name(&edge.client) == client && name(&edge.server) == server && edge.port == port;
        let found = self.edges.iter().map(|(edge, _)| *edge).find(is_it);
        found.unwrap_or_else(|| panic!("no edge {client} to {server}:{port}"))
    }

    /// What Hubble tells of all edges but these.
    fn all_but(&self, left_out: &[Edge]) -> Vec<GetFlowsResponse> {
        let kept = self.edges.iter().filter(|(edge, _)| !left_out.contains(edge));
        kept.flat_map(|(edge, connections)| self.telling().edge(edge, *connections)).collect()
    }

    /// By way of a server, a client and a fold; flows come when they happened, by our clock.
    async fn compare(&self, told: Vec<GetFlowsResponse>) -> Report {
        self.compare_with(told, &self.after).await
    }

    async fn compare_with(&self, told: Vec<GetFlowsResponse>, after: &Snapshot) -> Report {
        let count = told.len();
        let address = Replay::new(told).tcp(None).await;
        let (sender, mut events) = mpsc::channel(QUEUE);
        let (_keep, stopped) = watch::channel(false);
        let request = GetFlowsRequest { follow: true, ..GetFlowsRequest::default() };
        tokio::spawn(follow(Server::parse(&address, None).expect("an address"), request, sender, stopped));
        let mut fold = Fold::default();
        let mut responses = 0;
        while responses < count {
            let event = tokio::time::timeout(SETTLE, events.recv()).await.expect("in time").expect("an event");
            if let Event::Response(response, _) = event {
                fold.add(&response, Some(self.telling().time + SECOND / 10));
                responses += 1;
            }
        }
        fold.settle();
        compare(Inputs { hubble: &fold, before: Some(&self.before), after, window: self.window })
    }
}

/// All that differs but neighbour discovery, which the lab's IPv6 does.
fn differing(report: &Report) -> BTreeSet<(Seen, String, Reason)> {
    let rows = report.rows.iter().flat_map(|row| row.differences.iter().map(move |of| (row, of)));
    let rows = rows.filter(|(_, of)| of.reason != Reason::NeighbourDiscovery);
    rows.map(|(row, of)| (row.seen, format!("{} {}>{}:{}", of.what, row.client, row.server, row.port), of.reason))
        .collect()
}

fn one(seen: Seen, what: &str, reason: Reason) -> BTreeSet<(Seen, String, Reason)> {
    BTreeSet::from([(seen, what.to_owned(), reason)])
}

fn graph(collector: &Collector) -> Snapshot {
    serde_json::from_value(collector.graph("pod").expect("the graph")).expect("a snapshot")
}

/// Pods on three nodes; two of n3's are on devices that its agent is told to leave alone.
fn spec() -> LabSpec {
    let mut spec = LabSpec::plain(2, Offloads::On);
    for index in [2, 3] {
        spec.pods.push(PodSpec {
            name: format!("p3-{index}"),
            namespace: "lab".to_owned(),
            owner: Owner::StatefulSet("p3".to_owned()),
            node: "n3".to_owned(),
        });
    }
    spec.services.push(ServiceSpec {
        name: "web".to_owned(),
        namespace: "lab".to_owned(),
        workload: "p2".to_owned(),
        port: 80,
        cluster_ip: Some(CLUSTER_IP),
    });
    spec
}

fn serve(lab: &Lab) {
    for pod in lab.pods() {
        pod.serve_udp(7000, Reply::Echo).expect("udp");
        pod.serve_udp(7001, Reply::Echo).expect("udp");
        pod.serve_tcp(7010).expect("tcp");
    }
}

/// Traffic of several kinds between all nodes and inside one.
fn talk(lab: &Lab) {
    let pod = |name: &str| lab.pod(name).expect("a pod");
    for (client, server) in
        [("p1-0", "p1-1"), ("p1-0", "p2-0"), ("p2-1", "p1-1"), ("p1-1", "p3-0"), ("p3-1", "p2-0"), ("p3-1", "p3-0")]
    {
        let (client, server) = (pod(client), pod(server));
        let to = |port| (server.v4(), port).into();
        client.tcp(TcpSend { to: to(7010), connections: 7, send: 300, receive: 2_000 }).expect("transfers");
        client.udp(UdpSend { replies: true, ..UdpSend::new(to(7000), 20, 100, 500.0) }).expect("datagrams");
    }
    pod("p1-0").icmp(IcmpSend { to: pod("p2-0").v4(), count: 3, payload: 56, pps: 100.0 }).expect("pings");
}

/// The ledger's edges, and how many connections each had since an earlier ledger.
fn since(lab: &Lab, earlier: &lab::Ledger) -> Vec<(Edge, u64)> {
    let now = lab.ledger().expect("a ledger");
    let grown = |(edge, totals): (&Edge, &lab::Totals)| {
        let before = earlier.get(edge).map_or(0, |before| before.connections);
        (*edge, totals.connections - before)
    };
    now.iter().map(grown).collect()
}

/// `orrery-collector compare` beside a server.
fn compare_program(hubble: &str, orrery: &Collector, span: &str) -> Child {
    let orrery = format!("http://{}", orrery.address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_orrery-collector"));
    command.args([
        "compare",
        "--hubble",
        hubble,
        "--orrery",
        &orrery,
        "--for",
        span,
        "--min-agreement",
        "0.99",
        "-o",
        "json",
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_hubble_everything_agrees_or_has_its_reason() {
    let Some(lab) = lab_or_skip(spec()).expect("the lab comes up") else { return };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let watched = ["p3-0", "p3-1"].map(|name| lab.pod(name).expect("a pod").device().to_owned());
    let some = AgentOptions { arguments: vec!["--devices".to_owned(), watched.join(",")], ..AgentOptions::default() };
    let _agents = ["n1", "n2", "n3"].map(|node| {
        let options = if node == "n3" { some.clone() } else { AgentOptions::default() };
        lab.start_agent(node, &options).expect("an agent")
    });
    serve(&lab);
    let home = |pod: &std::sync::Arc<lab::Pod>| (pod.v4(), (pod.name().to_owned(), pod.node().to_owned()));
    let pods: Pods = lab.pods().iter().map(home).collect();

    // One flow is there before the window, and goes on.
    let (client, server) = (lab.pod("p1-1").expect("a pod"), lab.pod("p2-1").expect("a pod"));
    let old = client.start_udp((server.v4(), 7001).into(), 100, 50.0).expect("a flow");
    let shows = |client: &str, server: &str| {
        let (client, server) = (format!("pod:lab/{client}"), format!("pod:lab/{server}"));
        graph(&collector).edges.iter().any(|edge| *edge.client == *client && *edge.server == *server)
    };
    wait_for("the old flow is there", SETTLE, || shows("p1-1", "p2-1").then_some(())).expect("it is");
    // The window's beginning is as wide as the margin within which either may be late.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let earlier = lab.ledger().expect("a ledger");
    let before = graph(&collector);
    let start = clock::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    talk(&lab);
    let edges = since(&lab, &earlier);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let window = Window { start, end: clock::now() };
    wait_for("every edge is there", SETTLE, || {
        let after = graph(&collector);
        // Neighbour discovery comes and goes; the ledger's edges stay.
        let ours = after.edges.iter().filter(|edge| edge.client.starts_with("pod:") && edge.server.starts_with("pod:"));
        (ours.count() >= edges.len()).then_some(())
    })
    .expect("they are");
    let after = graph(&collector);
    let scene = Scene { pods, edges, window, before, after };
    assert_eq!(scene.edges.len(), 14, "6 pairs in two protocols, pings, and the old flow");

    // Both saw all.
    let report = scene.compare(scene.all_but(&[])).await;
    assert_eq!(differing(&report), BTreeSet::new(), "{}", report.text());
    let connections = report.summary.connections.expect("counted");
    assert_eq!((connections.both, connections.agreement), (6 * 7, Some(1.0)), "{}", report.text());
    assert_eq!((report.summary.edges.both, report.summary.edges.beside_explained), (14, Some(1.0)));
    assert_eq!(report.summary.verdicts_agree, report.summary.verdicts_compared);
    assert!(report.agrees(1.0));
    println!("{}", report.text());

    let tcp = scene.edge("p1-0", "p2-0", 7010);
    let missing = "edge pod:lab/p1-0>pod:lab/p2-0:7010";
    // Left out without a word.
    let report = scene.compare(scene.all_but(&[tcp])).await;
    assert_eq!(differing(&report), one(Seen::OnlyOrrery, missing, Reason::Unexplained));
    assert!(!report.agrees(0.99));
    // Lost, and said so.
    let mut told = scene.all_but(&[tcp]);
    let lost = r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"56"},"node_name":"n2"}"#;
    told.push(Response::from_json(lost).expect("a response").message);
    let report = scene.compare(told).await;
    assert_eq!(differing(&report), one(Seen::OnlyOrrery, missing, Reason::HubbleLostEvents), "{}", report.text());
    assert!(report.agrees(0.99));
    // A node without Hubble: what it alone could tell is missing, and what others tell is not.
    let told = scene.all_but(&[]).into_iter().filter(|response| response.node_name != "n3").collect();
    let report = scene.compare(told).await;
    let inside =
        |port: u16| (Seen::OnlyOrrery, format!("edge pod:lab/p3-1>pod:lab/p3-0:{port}"), Reason::HubbleNodeAway);
    assert_eq!(differing(&report), BTreeSet::from([inside(7000), inside(7010)]), "{}", report.text());
    // A node whose clock is an hour behind.
    let mut told = scene.all_but(&[tcp]);
    let slow = Telling { time: scene.telling().time - 3_600 * SECOND, ..scene.telling() };
    told.extend(slow.edge(&tcp, 7).into_iter().map(|mut response| {
        response.node_name = "slow".to_owned();
        if let Some(collector::hubble::proto::observer::get_flows_response::ResponseTypes::Flow(flow)) =
            &mut response.response_types
        {
            flow.node_name = "slow".to_owned();
        }
        response
    }));
    let report = scene.compare(told).await;
    let skewed = one(Seen::Both, "first_seen pod:lab/p1-0>pod:lab/p2-0:7010", Reason::ClockSkew);
    assert_eq!(differing(&report), skewed, "{}", report.text());
    // Open since before the window: Hubble tells of such flows now and then.
    let old_edge = scene.edge("p1-1", "p2-1", 7001);
    let report = scene.compare(scene.all_but(&[old_edge])).await;
    let aggregated = one(Seen::OnlyOrrery, "edge pod:lab/p1-1>pod:lab/p2-1:7001", Reason::HubbleAggregated);
    assert_eq!(differing(&report), aggregated, "{}", report.text());
    // Hubble has the ClusterIP where Orrery has the pod behind it.
    let mut told = scene.all_but(&[tcp]);
    told.extend(Telling { shown: Some(CLUSTER_IP.into()), ..scene.telling() }.edge(&tcp, 7));
    let report = scene.compare(told).await;
    let by_service = (Seen::OnlyHubble, "edge pod:lab/p1-0>service:lab/web:7010".to_owned(), Reason::ClusterIp);
    assert_eq!(
        differing(&report),
        BTreeSet::from([by_service, (Seen::OnlyOrrery, missing.to_owned(), Reason::ClusterIp)])
    );
    // Orrery is made to forget one.
    let mut poorer = scene.after.clone();
    poorer.edges.retain(|edge| (&*edge.client, &*edge.server, edge.port) != ("pod:lab/p1-0", "pod:lab/p2-0", 7010));
    let report = scene.compare_with(scene.all_but(&[]), &poorer).await;
    assert_eq!(differing(&report), one(Seen::OnlyHubble, missing, Reason::Unexplained), "{}", report.text());
    assert!(!report.agrees(0.99));
    old.stop().expect("it stops");

    programs(&lab, &collector, &scene).await;
}

/// The program itself, live: it passes where all was seen, and fails for traffic on devices that no agent looks at.
async fn programs(lab: &Lab, collector: &Collector, scene: &Scene) {
    let servers = [Replay::new(Vec::new()), Replay::new(Vec::new())];
    let addresses = [servers[0].tcp(None).await, servers[1].unix(&lab.dir().join("hubble.sock"))];
    let running = addresses.map(|address| compare_program(&address, collector, "9s"));
    let earlier = lab.ledger().expect("a ledger");
    let following = || servers.iter().all(|server| server.followers() > 0).then_some(());
    wait_for("both follow", SETTLE, following).expect("they do");
    tokio::time::sleep(Duration::from_secs(4)).await;
    talk(lab);
    let (client, server) = (lab.pod("p3-2").expect("a pod"), lab.pod("p3-3").expect("a pod"));
    client
        .udp(UdpSend { replies: true, ..UdpSend::new((server.v4(), 7000).into(), 20, 100, 500.0) })
        .expect("datagrams");
    let telling = Telling { pods: &scene.pods, time: clock::now(), shown: None };
    for (edge, connections) in since(lab, &earlier) {
        let unwatched = edge.client == client.v4();
        // The old flow is over.
        if edge.port == 7001 {
            continue;
        }
        for response in telling.edge(&edge, connections) {
            servers[1].tell(response.clone());
            if !unwatched {
                servers[0].tell(response);
            }
        }
    }
    let outputs: Vec<_> = running.into_iter().map(|program| program.wait_with_output().expect("it ends")).collect();
    let expected =
        [(0, BTreeSet::new()), (2, one(Seen::OnlyHubble, "edge pod:lab/p3-2>pod:lab/p3-3:7000", Reason::Unexplained))];
    for (output, (code, expected)) in outputs.iter().zip(expected) {
        let errors = String::from_utf8_lossy(&output.stderr);
        let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
        assert_eq!((differing(&report), output.status.code()), (expected, Some(code)), "{errors}{}", report.text());
    }
}
