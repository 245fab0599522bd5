//! Three agents on one kernel: hooks on sockets and drops see the whole machine, and each thing is told by one of them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lab::{
    AgentOptions, DroppingLink, Edge, LabSpec, Offloads, Pod, Protocol, Reply, TcpSend, UdpSend, testing::lab_or_skip,
    wait_for,
};
use wire::v1::{Edge as Row, Side};

use crate::reports::Receiver;

const SETTLE: Duration = Duration::from_secs(20);
const CONNECTIONS: u64 = 5;
const REFUSALS: u64 = 3;
const DATAGRAMS: u64 = 400;
const MESSAGES: u64 = 40;

/// What all nodes together tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    attempts: [u64; 2],
    established: [u64; 2],
    refused: u64,
    /// Messages on port 53, by side.
    messages: [u64; 2],
    dropped: u64,
}

impl Sum {
    fn of(receiver: &Receiver) -> Self {
        let mut sum = Self::default();
        for (_, row) in receiver.rows() {
            let side = usize::from(row.side == i32::from(Side::Server));
            let sockets = row.sockets.clone().unwrap_or_default();
            sum.attempts[side] += sockets.attempts;
            sum.established[side] += sockets.established;
            sum.refused += sockets.refused;
            sum.messages[side] += row.dns.as_ref().map_or(0, |dns| dns.unparsed + dns.queries + dns.answers);
            sum.dropped += of_nft(&row.drops);
        }
        for node in ["n1", "n2", "n3"] {
            sum.dropped += of_nft(&receiver.latest(node).unwrap_or_default().drops);
        }
        sum
    }
}

fn of_nft(drops: &[wire::v1::Drop]) -> u64 {
    let named = |drop: &&wire::v1::Drop| matches!(drop.reason.as_str(), "netfilter_drop" | "unknown");
    drops.iter().filter(named).map(|drop| drop.segments).sum()
}

/// Client, server, port and side.
type SideOfEdge = (Vec<u8>, Vec<u8>, u32, i32);

/// Which nodes tell each side of each edge anything beside packets.
fn tellers(receiver: &Receiver) -> BTreeMap<SideOfEdge, Vec<String>> {
    let facts = |row: &Row| row.sockets.is_some() || row.dns.is_some() || !row.drops.is_empty();
    let mut tellers: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (node, row) in receiver.rows().into_iter().filter(|(_, row)| facts(row)) {
        tellers.entry((row.client, row.server, row.server_port, row.side)).or_default().push(node);
    }
    tellers
}

#[test]
fn of_three_agents_on_one_kernel_one_tells_each_socket_drop_and_message() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::Off)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let pod = |name: &str| lab.pod(name).expect("a pod");
    // Round the nodes, and within one: both ends are one agent's there.
    let pairs = [("p1-0", "p2-0"), ("p2-0", "p3-0"), ("p3-0", "p1-0"), ("p1-0", "p1-1")];
    for name in ["p1-0", "p2-0", "p3-0", "p1-1"] {
        let server = pod(name);
        server.serve_tcp(7001).expect("tcp");
        server.serve_udp(7000, Reply::Sink).expect("udp");
        server.serve_udp(53, Reply::Sink).expect("udp");
    }
    let mut links = Vec::new();
    for (client, server) in pairs.map(|(client, server)| (pod(client), pod(server))) {
        let edge = Edge { client: client.v4(), server: server.v4(), port: 7000, protocol: Protocol::Udp };
        links.push(DroppingLink::install(&lab, edge, 25).expect("a dropping link"));
        let to = |port| SocketAddr::new(server.v4(), port);
        client.udp(UdpSend::new(to(7000), DATAGRAMS, 100, 4_000.0)).expect("datagrams");
        // No DNS at all: each counts as a message that cannot be read.
        client.udp(UdpSend::new(to(53), MESSAGES, 30, 1_000.0)).expect("messages");
        client.tcp(TcpSend { to: to(7001), connections: CONNECTIONS, send: 500, receive: 500 }).expect("transfers");
    }
    let (caller, nobody): (_, &Pod) = (pod("p2-1"), &pod("p3-1"));
    for _ in 0..REFUSALS {
        let to = SocketAddr::new(nobody.v4(), 7999);
        caller.tcp(TcpSend { to, connections: 1, send: 1, receive: 1 }).expect_err("nobody listens");
    }
    let all = pairs.len() as u64;
    let wanted = Sum {
        attempts: [all * CONNECTIONS + REFUSALS, all * CONNECTIONS],
        established: [all * CONNECTIONS; 2],
        refused: REFUSALS,
        messages: [all * MESSAGES; 2],
        dropped: links.iter().map(|link| link.dropped().expect("a counter").packets).sum(),
    };
    assert!(wanted.dropped > all * DATAGRAMS / 10, "{wanted:?}");
    wait_for("the ledger's sums", SETTLE, || (Sum::of(&receiver) == wanted).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {wanted:?}, told {:?}", Sum::of(&receiver)));
    // Nothing comes late, and nobody tells another's.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(Sum::of(&receiver), wanted);
    let tellers = tellers(&receiver);
    assert!(tellers.len() > 20, "{tellers:#?}");
    for (edge, nodes) in &tellers {
        assert_eq!(nodes.len(), 1, "{edge:?} is told by {nodes:?}");
    }
}
