//! What the agents report is what the generator sent, on both sides, to the packet and the byte.

use std::time::Duration;

use lab::{
    AgentOptions, Edge, IcmpSend, Lab, LabSpec, Ledger, Offloads, Protocol, Reply, TcpSend, UdpSend,
    testing::{kernel_since, lab_or_skip},
    wait_for,
};
use wire::v1::{Side, Tier};

use crate::reports::Receiver;

/// What a tier claims to count exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Packets and payload bytes of everything, TCP connections.
    Devices,
    /// Payload bytes of UDP and TCP, TCP connections.
    Sockets,
}

/// What differs between the ledger and what was reported, in words.
fn differences(lab: &Lab, ledger: &Ledger, receiver: &Receiver, claim: Claim) -> Vec<String> {
    let mut found = Vec::new();
    let pods = lab.pods();
    let pod_of = |address| pods.iter().find(|pod| pod.v4() == address || pod.v6() == address).expect("a pod's address");
    for (edge, sent) in ledger.iter() {
        for side in [Side::Client, Side::Server] {
            let seen = receiver.edge(edge, side, pod_of(if side == Side::Client { edge.client } else { edge.server }));
            let tcp = edge.protocol == Protocol::Tcp;
            if claim == Claim::Sockets && matches!(edge.protocol, Protocol::Icmp | Protocol::Icmpv6) {
                continue;
            }
            let bytes = (sent.forward.wire_payload_bytes(), sent.reverse.wire_payload_bytes());
            let packets = (sent.forward.packets, sent.reverse.packets);
            if seen.payload_bytes != bytes
                || (tcp && seen.established != sent.connections)
                || (!tcp && claim == Claim::Devices && seen.skbs != packets)
            {
                found.push(format!("{edge:?} {side:?}: sent {sent:?}, seen {seen:?}"));
            }
        }
    }
    found
}

/// By how much less is sent: `ORRERY_TEST_SHARE`, for machines that emulate their processor. What is sent has to be equal all the same.
fn share() -> u64 {
    std::env::var("ORRERY_TEST_SHARE").map_or(1, |share| share.parse().expect("a number"))
}

/// Traffic of every kind to the ports `base` and the next, and pings.
fn traffic(lab: &Lab, base: u16) {
    let share = share();
    let client = lab.pod("p1-0").expect("a client");
    for name in ["p1-1", "p2-0", "p3-0"] {
        let server = lab.pod(name).expect("a server");
        server.serve_udp(base, Reply::Echo).expect("udp");
        server.serve_tcp(base + 1).expect("tcp");
        for ipv6 in [false, true] {
            let at = server.address(ipv6);
            let udp = |datagrams, payload, pps, per_port| UdpSend {
                replies: true,
                per_port,
                ..UdpSend::new((at, base).into(), datagrams / share, payload, pps)
            };
            client.udp(udp(500, 700, 5_000.0, 0)).expect("datagrams");
            client.udp(udp(200, 64, 2_000.0, 2)).expect("flows shorter than a tick");
            client.udp(udp(20, 4_000, 200.0, 0)).expect("fragments");
            client
                .tcp(TcpSend { to: (at, base + 1).into(), connections: 20 / share, send: 300_000, receive: 200_000 })
                .expect("transfers");
            client.icmp(IcmpSend { to: at, count: 50 / share, payload: 600, pps: 1_000.0 }).expect("pings");
        }
    }
}

/// Every tier in turn on one lab, with offloads and without: agents that are forced to it, traffic, and totals that equal the
/// ledger.
#[test]
fn every_edge_by_every_tier() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let tiers = [
        ("tcx", Tier::Tcx, Claim::Devices),
        ("clsact", Tier::Clsact, Claim::Devices),
        ("cgroup-skb", Tier::CgroupSkb, Claim::Sockets),
    ];
    for ((name, tier, claim), base) in tiers.into_iter().zip([7000, 7100, 7200]) {
        // Wherever TCX ought to be, the agent ends when it is not, and the test fails.
        if tier == Tier::Tcx && !kernel_since(6, 6) {
            println!("skipped {name}: TCX came with Linux 6.6");
            for offloads in [Offloads::On, Offloads::Off] {
                println!("held\texact by {name}, offloads {offloads:?}\tnone before 6.6");
            }
            continue;
        }
        let start = |node: &String| {
            let mut arguments = ["--tier", name].map(str::to_owned).to_vec();
            if claim == Claim::Sockets {
                // A lab's nodes are one machine to its sockets: each agent has a subtree of the cgroups.
                let cgroup = lab.node_cgroup(node).expect("a v2 hierarchy");
                arguments.extend(["--scope-cgroup".to_owned(), cgroup.display().to_string()]);
            }
            lab.start_agent(node, &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent")
        };
        let agents: Vec<_> = lab.nodes().iter().map(start).collect();
        for (offloads, base) in [(Offloads::On, base), (Offloads::Off, base + 50)] {
            lab.set_offloads(offloads).expect("the devices take it");
            traffic(&lab, base);
            assert_equal(&lab, &receiver, base, claim);
            println!("held\texact by {name}, offloads {offloads:?}\tpassed");
        }
        let tiers =
            |node: &String| receiver.latest(node).expect("a report").devices.into_iter().map(|device| device.tier);
        assert!(lab.nodes().iter().flat_map(tiers).all(|found| found == i32::from(tier)), "{name}: every device is");
        agents.iter().for_each(|agent| assert!(agent.terminate().expect("it ends").success()));
    }
}

/// The edges of the traffic at `base`, on both sides, within 10 s.
fn assert_equal(lab: &Lab, receiver: &Receiver, base: u16, claim: Claim) {
    // Pings have no port: their totals are those of all traffic until now.
    let this = |edge: &Edge| {
        [base, base + 1].contains(&edge.port) || matches!(edge.protocol, Protocol::Icmp | Protocol::Icmpv6)
    };
    let mut ledger = Ledger::default();
    for (edge, totals) in lab.ledger().expect("a ledger").iter().filter(|(edge, _)| this(edge)) {
        *ledger.edge(*edge) = *totals;
    }
    assert_eq!(ledger.len(), 3 * 2 * 3, "every kind of edge is in the ledger");
    let mut left = Vec::new();
    let equal = wait_for("totals that equal the ledger", Duration::from_secs(10), || {
        left = differences(lab, &ledger, receiver, claim);
        left.is_empty().then_some(())
    });
    assert!(equal.is_ok(), "port {base}: {} differences:\n{}", left.len(), left.join("\n"));
}

/// The same comparison must be able to fail: objects that are wrong in one packet of 10,000, or in the side.
#[test]
fn sabotaged_objects_turn_it_red() {
    for object in ["sabotage-skip", "sabotage-double", "sabotage-sides"] {
        let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
        let receiver = Receiver::listen(&lab.reports_socket());
        let path = format!("{}/{object}", env!("OUT_DIR"));
        let options = AgentOptions { arguments: vec!["--ebpf-object".to_owned(), path], ..AgentOptions::default() };
        let _agents = lab.start_agents(&options).expect("agents");
        let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
        server.serve_udp(7000, Reply::Echo).expect("udp");
        let to = (server.v4(), 7000).into();
        // 200,000 packets past a hook: that all are counted right by chance has a probability of e^-20.
        client.udp(UdpSend { replies: true, ..UdpSend::new(to, 50_000, 64, 25_000.0) }).expect("datagrams");
        let ledger = lab.ledger().expect("a ledger");
        // All but the sabotaged few are there: what differs then is the sabotage, not an agent that is late.
        let all = 4 * 50_000;
        let near = |seen: u64| seen.abs_diff(all) < all / 100;
        wait_for("nearly all packets", Duration::from_secs(10), || near(receiver.skbs()).then_some(()))
            .unwrap_or_else(|_| panic!("{object}: {} of {all} packets were reported", receiver.skbs()));
        let equal = wait_for("totals that equal the ledger", Duration::from_secs(3), || {
            differences(&lab, &ledger, &receiver, Claim::Devices).is_empty().then_some(())
        });
        assert!(equal.is_err(), "{object}: nothing was noticed");
    }
}
