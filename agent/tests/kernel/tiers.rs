//! The tier of each device: the next one where the best is refused, and what each then says of itself.

use std::time::Duration;

use lab::{
    AgentOptions, Edge, FullChain, IcmpSend, Lab, LabSpec, Offloads, Pod, Protocol, Reply, UdpSend, programs_on,
    testing::lab_or_skip, wait_for,
};
use wire::v1::{Device, Point, Side, Tier};

use crate::reports::Receiver;

fn start(lab: &Lab, arguments: &[&str]) -> lab::Agent {
    let cgroup = lab.node_cgroup("n1").expect("a v2 hierarchy").display().to_string();
    let scope = ["--scope-cgroup", &cgroup];
    let arguments = scope.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
    lab.start_agent("n1", &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent")
}

fn row(receiver: &Receiver, name: &str) -> Option<Device> {
    receiver.latest("n1")?.devices.into_iter().find(|device| device.name == name)
}

fn told(receiver: &Receiver, name: &str) -> Device {
    wait_for("the device to be told", Duration::from_secs(5), || row(receiver, name)).expect("the device is told")
}

fn edge(client: &Pod, server: &Pod, protocol: Protocol) -> Edge {
    let port = if protocol == Protocol::Icmp { 8 } else { 7000 };
    Edge { client: client.v4(), server: server.v4(), port, protocol }
}

#[test]
fn a_device_without_a_place_is_watched_through_its_pod_s_sockets() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let _full = FullChain::fill(lab.node("n1").expect("node n1"), client.device()).expect("a full chain");
    let agent = start(&lab, &[]);

    let device = told(&receiver, client.device());
    assert_eq!(device.tier, i32::from(Tier::CgroupSkb), "{device:?}");
    assert!(["tcx:", "no ICMP"].iter().all(|word| device.blind_spot.contains(word)), "{}", device.blind_spot);
    let cgroup = told(&receiver, "cgroup");
    assert_eq!((cgroup.tier, cgroup.point), (Tier::CgroupSkb.into(), Point::Cgroup.into()), "{cgroup:?}");
    assert!(cgroup.unsettled && !cgroup.blind_spot.is_empty(), "{cgroup:?}");

    server.serve_udp(7000, Reply::Echo).expect("udp");
    client
        .udp(UdpSend { replies: true, ..UdpSend::new((server.v4(), 7000).into(), 400, 100, 4_000.0) })
        .expect("datagrams");
    client.icmp(IcmpSend { to: server.v4(), count: 5, payload: 64, pps: 100.0 }).expect("pings");
    let seen = |protocol| receiver.edge(&edge(&client, &server, protocol), Side::Client, &client).skbs;
    wait_for("all datagrams", Duration::from_secs(5), || (seen(Protocol::Udp) == (400, 400)).then_some(()))
        .unwrap_or_else(|_| panic!("seen {:?}", seen(Protocol::Udp)));
    assert_eq!(seen(Protocol::Icmp), (0, 0), "what is not claimed is not half told");
    let metrics = agent.get("/metrics").expect("metrics").body;
    let metrics = String::from_utf8_lossy(&metrics);
    assert!(metrics.contains(r#"orrery_agent_tiers{kind="cgroup-skb"} 1"#), "{metrics}");
}

#[test]
fn forced_to_sockets_it_starts_and_leaves_the_devices_alone() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let client = lab.pod("p1-0").expect("a pod");
    let _agent = start(&lab, &["--tier", "sockets"]);
    let device = told(&receiver, client.device());
    assert_eq!(device.tier, i32::from(Tier::Sockets), "{device:?}");
    assert!(device.blind_spot.contains("no packets") && device.unsettled, "{device:?}");
    assert_eq!(programs_on(lab.node("n1").expect("node n1"), client.device()).expect("the chains"), 0);
    assert!(row(&receiver, "cgroup").is_none());
}

/// Nobody watches it, so all that it carried is unseen.
#[test]
fn what_an_unwatched_device_carries_is_told() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let _full = FullChain::fill(lab.node("n1").expect("node n1"), client.device()).expect("a full chain");
    let _agent = start(&lab, &["--tier", "tcx"]);
    client.udp(UdpSend::new((server.v4(), 7000).into(), 400, 100, 4_000.0)).expect("datagrams");
    let carried = lab.device_stats("n1").expect("statistics")[client.device()].rx_packets;
    wait_for("what it carried", Duration::from_secs(5), || {
        let way = row(&receiver, client.device())?.ingress?;
        (way.carried_skbs == carried && way.seen_skbs == 0).then_some(())
    })
    .unwrap_or_else(|_| panic!("carried {carried}, told {:?}", row(&receiver, client.device())));
}
