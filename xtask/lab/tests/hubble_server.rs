//! What the stock `hubble` client asks is answered from real agents: every flow that the generator's ledger has, once for
//! each side, and nothing else.

#[path = "hubble/ask.rs"]
mod ask;

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use ask::{ALL, Answers, Client, either, extension, kind, observe, only, ports, since};
use collector::hubble::proto::flow::{Flow, Verdict, layer7::Record};
use collector::hubble::proto::observer::{GetFlowsRequest, get_flows_response::ResponseTypes};
use lab::testing::lab_or_skip;
use lab::{
    AgentOptions, CollectorOptions, DroppingLink, Edge, IcmpSend, Lab, LabSpec, Offloads, Pod, Protocol, Reply,
    TcpSend, UdpSend, wait_for,
};

/// For flows to be in the agents' rings: a tick, and a busy machine.
const SETTLE: Duration = Duration::from_secs(30);
/// A follower hears of the first flow within two seconds; the rest is for a machine that builds meanwhile.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(8);
const DROPPED: u16 = 7100;
const QUERIES: u64 = 4;
const NAME: &str = "cart.shop.example";

/// Flows by the pods' names (client to server), the node that saw them, the connection's direction there, and kind.
type Counts = BTreeMap<(String, String, String, i32, &'static str, bool), u64>;

fn pod_of(flow: &Flow) -> (String, String) {
    let name = |end: &Option<collector::hubble::proto::flow::Endpoint>| end.as_ref().map(|end| end.pod_name.clone());
    let (source, destination) = (name(&flow.source).unwrap_or_default(), name(&flow.destination).unwrap_or_default());
    if flow.is_reply == Some(true) { (destination, source) } else { (source, destination) }
}

fn counts(answers: &Answers) -> Counts {
    let mut counts = Counts::new();
    for flow in &answers.flows {
        let (client, server) = pod_of(flow);
        let reply = flow.is_reply == Some(true);
        let key = (client, server, flow.node_name.clone(), flow.traffic_direction, kind(flow), reply);
        let dropped = flow.verdict() == Verdict::Dropped;
        *counts.entry(key).or_default() += if dropped { extension(flow, "packets").unwrap_or(0) } else { 1 };
    }
    counts
}

/// What the ledger says that must be told: from each side, but of what was dropped on the way only from the client's.
fn expected(lab: &Lab) -> Counts {
    let pods = lab.pods();
    let pod = |address: IpAddr| pods.iter().find(|pod| pod.v4() == address || pod.v6() == address).expect("a pod");
    let mut counts = Counts::new();
    let mut add = |client: &Pod, server: &Pod, sides: usize, kind: &'static str, reply: bool, count: u64| {
        for (node, direction) in [(client.node(), 2), (server.node(), 1)].into_iter().take(sides) {
            let key = (client.name().to_owned(), server.name().to_owned(), node.to_owned(), direction, kind, reply);
            *counts.entry(key).or_default() += count;
        }
    };
    for (edge, totals) in lab.ledger().expect("a ledger").iter() {
        let (client, server) = (pod(edge.client), pod(edge.server));
        match edge.protocol {
            Protocol::Tcp => {
                for (kind, reply) in [("syn", false), ("syn-ack", true), ("ack", false), ("fin", false), ("fin", true)]
                {
                    add(client, server, 2, kind, reply, totals.connections);
                }
            }
            Protocol::Udp if edge.port == DROPPED => {
                add(client, server, 1, "udp", false, totals.forward.packets);
                add(client, server, 1, "drop", false, totals.forward.packets);
            }
            // One datagram from each port.
            Protocol::Udp => {
                add(client, server, 2, "udp", false, totals.forward.packets);
                add(client, server, 2, "udp", true, totals.reverse.packets);
            }
            Protocol::Icmp | Protocol::Icmpv6 => {
                add(client, server, 2, "icmp", false, 1);
                add(client, server, 2, "icmp", true, 1);
            }
        }
    }
    // The resolver is the test's own: each query is a flow, too, since each has a port of its own.
    let (client, server) = (lab.pod("p1-1").expect("a pod"), lab.pod("p2-1").expect("a pod"));
    for (kind, reply) in [("udp", false), ("udp", true), ("query", false), ("answer", true)] {
        add(&client, &server, 2, kind, reply, QUERIES);
    }
    counts
}

fn differences(found: &Counts, wanted: &Counts) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let count = |counts: &Counts, key| counts.get(key).copied().unwrap_or(0);
    let differ = keys.into_iter().filter(|key| count(found, key) != count(wanted, key));
    differ.map(|key| format!("{key:?}: told {}, ledger {}", count(found, key), count(wanted, key))).collect()
}

/// A query for [`NAME`], or the answer to one.
fn message(id: u16, answers: bool) -> Vec<u8> {
    let flags: [u8; 2] = if answers { [0x81, 0x80] } else { [0x01, 0] };
    let mut bytes = [&id.to_be_bytes()[..], &flags, &[0, 1, 0, u8::from(answers), 0, 0, 0, 0]].concat();
    for label in NAME.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    if answers {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 203, 0, 113, 7]);
    }
    bytes
}

fn resolve(lab: &Lab) {
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (asks, answers) = (pod("p1-1"), pod("p2-1"));
    let socket = |pod: &Pod, port: u16| {
        let socket = pod.netns().run(|| UdpSocket::bind((pod.v4(), port))).expect("the namespace").expect("a socket");
        socket.set_read_timeout(Some(SETTLE)).expect("a timeout");
        socket
    };
    let server = socket(&answers, 53);
    for id in 1..=QUERIES as u16 {
        let client = socket(&asks, 0);
        client.send_to(&message(id, false), (answers.v4(), 53)).expect("a query");
        let mut bytes = [0; 512];
        let (_, from) = server.recv_from(&mut bytes).expect("the query arrives");
        server.send_to(&message(id, true), from).expect("an answer");
        client.recv(&mut bytes).expect("the answer arrives");
    }
}

/// Traffic of all kinds: between nodes by tunnel and by route, and on one node.
fn talk(lab: &Lab) -> DroppingLink {
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (client, tunnelled, routed, near) = (pod("p1-0"), pod("p2-0"), pod("p3-0"), pod("p1-1"));
    for (server, connections) in [(&tunnelled, 5), (&routed, 3), (&near, 4)] {
        server.serve_tcp(7001).expect("tcp");
        let to = (server.v4(), 7001).into();
        client.tcp(TcpSend { to, connections, send: 2_000, receive: 3_000 }).expect("transfers");
    }
    let far = pod("p3-1");
    far.serve_udp(7000, Reply::Echo).expect("udp");
    let send = UdpSend { per_port: 1, replies: true, ..UdpSend::new((far.v6(), 7000).into(), 6, 100, 50.0) };
    tunnelled.udp(send).expect("datagrams");
    routed.icmp(IcmpSend { to: near.v4(), count: 2, payload: 56, pps: 20.0 }).expect("pings");
    let edge = Edge { client: far.v4(), server: client.v4(), port: DROPPED, protocol: Protocol::Udp };
    let link = DroppingLink::install(lab, edge, 100).expect("a link that drops all");
    client.serve_udp(DROPPED, Reply::Sink).expect("udp");
    let send = UdpSend { per_port: 1, ..UdpSend::new((client.v4(), DROPPED).into(), 5, 64, 50.0) };
    far.udp(send).expect("datagrams");
    resolve(lab);
    link
}

fn sorted(answers: &Answers) -> bool {
    let time = |flow: &Flow| flow.time.map(|time| (time.seconds, time.nanos));
    answers.flows.is_sorted_by_key(time)
}

#[test]
fn the_stock_clients_requests_are_answered_from_real_agents() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else { return };
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").to_string();
    let arguments = vec!["--hubble-listen".to_owned(), free.clone()];
    let collector =
        lab.start_collector(&CollectorOptions { arguments, ..CollectorOptions::default() }).expect("a collector");
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let client = Client::new(&free);
    let all_nodes = || (client.nodes().len() == 3).then_some(());
    wait_for("all nodes report", SETTLE, all_nodes).expect("they do");

    let link = talk(&lab);
    let wanted = expected(&lab);
    let (mut wrong, mut told) = (Vec::new(), None);
    let equal = || {
        let answers = client.all(observe(ALL, Vec::new()));
        wrong = differences(&counts(&answers), &wanted);
        told = Some(answers);
        wrong.is_empty().then_some(())
    };
    let settled = wait_for("flows equal the ledger", SETTLE, equal);
    if let Err(error) = settled {
        let strange = told.iter().flat_map(|answers| &answers.flows).filter(|flow| pod_of(flow).0.is_empty());
        panic!("{error}: {wrong:#?}, of no pod: {:#?}", strange.collect::<Vec<_>>());
    }
    let all = told.expect("answers");
    println!("{} flows equal the ledger", all.flows.len());
    assert!(sorted(&all), "oldest first");
    assert_eq!(all.lost, 0);
    assert_eq!(all.states.get(&1).map(Vec::len), Some(3), "the nodes are told as connected: {:?}", all.states);

    narrower(&client, &lab, &all, &link);
    lists(&client, &all);
    refusals(&client);
    bounds(&client, &free);
    follow(&client, &lab);
    drop(collector);
}

/// Every filter of the client's, against what passes it of everything.
fn narrower(client: &Client, lab: &Lab, all: &Answers, link: &DroppingLink) {
    let times = |flows: &[Flow]| flows.iter().map(|flow| flow.time).collect::<Vec<_>>();
    let total = all.flows.len();
    for number in [20, 7] {
        let last = client.all(observe(number, Vec::new()));
        assert_eq!(times(&last.flows), times(&all.flows[total - number as usize..]), "--last {number}");
    }
    let first = client.all(GetFlowsRequest { first: true, ..observe(9, Vec::new()) });
    assert_eq!(times(&first.flows), times(&all.flows[..9]), "--first 9");
    assert_eq!(client.all(since(Duration::from_secs(300))).flows.len(), total, "--since 5m");
    assert!(client.all(since(Duration::ZERO)).flows.is_empty(), "--since 0s");

    let holds = |what: &str, request: GetFlowsRequest, fits: &dyn Fn(&Flow) -> bool| {
        let found = client.all(request).flows;
        let wanted: Vec<_> = all.flows.iter().filter(|flow| fits(flow)).collect();
        assert!(!wanted.is_empty(), "{what}: the test sends none");
        assert_eq!(found.len(), wanted.len(), "{what}");
        assert!(found.iter().all(fits), "{what}");
    };
    let texts = |text: &str| vec![text.to_owned()];
    let namespace = either(|f| f.source_pod = texts("lab/"), |f| f.destination_pod = texts("lab/"));
    holds("--namespace", observe(ALL, namespace), &|_| true);
    let other = either(|f| f.source_pod = texts("shop/"), |f| f.destination_pod = texts("shop/"));
    assert!(client.all(observe(20, other)).flows.is_empty(), "--namespace shop");
    let pod = either(|f| f.source_pod = texts("lab/p3-0"), |f| f.destination_pod = texts("lab/p3-0"));
    holds("--pod", observe(ALL, pod), &|flow| {
        let (client, server) = pod_of(flow);
        client == "p3-0" || server == "p3-0"
    });
    let dropped = only(|f| f.verdict = vec![Verdict::Dropped.into()]);
    holds("--verdict DROPPED", observe(ALL, dropped.clone()), &|flow| flow.verdict() == Verdict::Dropped);
    let packets: u64 =
        client.all(observe(20, dropped)).flows.iter().filter_map(|flow| extension(flow, "packets")).sum();
    assert_eq!(packets, link.dropped().expect("a counter").packets, "as nft counted");
    holds("--protocol dns", observe(ALL, only(|f| f.protocol = texts("dns"))), &|flow| {
        matches!(kind(flow), "query" | "answer")
    });
    holds("--protocol tcp", observe(ALL, only(|f| f.protocol = texts("tcp"))), &|flow| {
        matches!(kind(flow), "syn" | "syn-ack" | "ack" | "fin" | "rst")
    });
    let port = either(|f| f.source_port = texts("7001"), |f| f.destination_port = texts("7001"));
    holds("--port", observe(ALL, port), &|flow| ports(flow).0 == 7001 || ports(flow).1 == 7001);
    let server = lab.pod("p2-0").expect("a pod");
    let address = texts(&server.v4().to_string());
    holds("--to-ip", observe(ALL, only(|f| f.destination_ip.clone_from(&address))), &|flow| {
        flow.ip.as_ref().is_some_and(|ip| ip.destination == address[0])
    });

    for flow in all.flows.iter().filter(|flow| kind(flow) == "answer") {
        let l7 = flow.l7.as_ref().expect("layer 7");
        let Some(Record::Dns(dns)) = &l7.record else { panic!("{l7:?}") };
        assert_eq!((dns.query.as_str(), dns.rcode, dns.ttl), ("cart.shop.example.", 0, 30));
        assert_eq!(
            (dns.ips.as_slice(), dns.qtypes.as_slice()),
            (&["203.0.113.7".to_owned()][..], &["A".to_owned()][..])
        );
        assert!(l7.latency_ns > 0 && l7.latency_ns < 5_000_000_000, "{l7:?}");
    }
    // What was sent until a FIN is on it.
    let closed = |flow: &&Flow| kind(flow) == "fin" && flow.is_reply == Some(true) && ports(flow).0 == 7001;
    for flow in all.flows.iter().filter(closed) {
        assert!(extension(flow, "previously_observed_bytes") > Some(3_000), "{flow:?}");
    }
    let mask = prost_types::FieldMask { paths: vec!["source.pod_name".to_owned(), "verdict".to_owned()] };
    let masked = client.all(GetFlowsRequest { field_mask: Some(mask), ..observe(1, Vec::new()) }).flows.remove(0);
    assert!(masked.source.is_some_and(|end| !end.pod_name.is_empty() && end.namespace.is_empty()));
    assert!(masked.ip.is_none() && masked.verdict != 0);
}

fn lists(client: &Client, all: &Answers) {
    let status = client.status();
    assert_eq!((status.num_connected_nodes, status.num_unavailable_nodes), (Some(3), Some(0)));
    assert_eq!((status.max_flows, status.num_flows), (3 * 4_095, all.flows.len() as u64));
    assert_eq!(status.seen_flows, status.num_flows);
    let nodes = client.nodes();
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    assert!(nodes.iter().all(|node| node.state == 1 && node.uptime_ns > 0 && node.num_flows > 0), "{nodes:?}");
    let namespaces = client.namespaces();
    assert!(namespaces.contains(&("lab".to_owned(), "lab".to_owned())), "{namespaces:?}");
}

fn refusals(client: &Client) {
    let http = observe(20, only(|f| f.http_method = vec!["GET".to_owned()]));
    let error = client.open(http).expect_err("refused");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("http_method"), "{error}");
    let both = GetFlowsRequest { first: true, follow: true, ..GetFlowsRequest::default() };
    assert_eq!(client.open(both).expect_err("refused").code(), tonic::Code::InvalidArgument);
}

/// Sixteen may listen, and sixteen relays may follow the peers; who leaves makes room.
fn bounds(client: &Client, address: &str) {
    let follow = || client.open(GetFlowsRequest { follow: true, ..GetFlowsRequest::default() });
    let streams: Vec<_> = (0..16).map(|_| follow().expect("room")).collect();
    assert_eq!(follow().expect_err("one too many").code(), tonic::Code::ResourceExhausted);
    drop(streams);
    wait_for("room is made", SETTLE, || follow().ok().map(drop)).expect("it is");
    let peers: Vec<_> = (0..16).map(|_| client.peers().expect("room")).collect();
    assert!(peers.iter().all(|(_, peer)| peer == address), "one peer, which tells all flows");
    assert_eq!(client.peers().map(|_| ()).expect_err("one too many").code(), tonic::Code::ResourceExhausted);
}

/// `-f`: nothing of the past, and what comes soon after it is asked for.
fn follow(client: &Client, lab: &Lab) {
    let mut stream = client.open(GetFlowsRequest { follow: true, ..GetFlowsRequest::default() }).expect("a stream");
    let (from, to) = (lab.pod("p2-1").expect("a pod"), lab.pod("p3-0").expect("a pod"));
    to.serve_tcp(7009).expect("tcp");
    let start = Instant::now();
    from.tcp(TcpSend { to: (to.v4(), 7009).into(), connections: 1, send: 10, receive: 10 }).expect("a transfer");
    let mut kinds = BTreeMap::new();
    while kinds.values().sum::<u64>() < 10 {
        let left = FOLLOWED_WITHIN.saturating_sub(start.elapsed());
        let answer =
            client.next(&mut stream, left).unwrap_or_else(|| panic!("not within {FOLLOWED_WITHIN:?}: {kinds:?}"));
        if let Some(ResponseTypes::Flow(flow)) = answer.response_types {
            assert!(ports(&flow).0 == 7009 || ports(&flow).1 == 7009, "nothing of the past: {flow:?}");
            if kinds.is_empty() {
                println!("-f began after {:?}", start.elapsed());
            }
            *kinds.entry((flow.node_name.clone(), kind(&flow))).or_default() += 1;
        }
    }
    for node in ["n2", "n3"] {
        let of = |kind: &'static str| kinds.get(&(node.to_owned(), kind)).copied();
        assert_eq!([of("syn"), of("syn-ack"), of("ack"), of("fin")], [Some(1), Some(1), Some(1), Some(2)], "{kinds:?}");
    }
    println!("all of a connection from both sides after {:?}", start.elapsed());
}
