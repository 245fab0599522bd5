//! Kinds of devices and packets beside plain ones: tunnels and their own layer, tags, a device without link headers, SCTP,
//! and what the node itself sends. Kinds that a kernel lacks are named; where it is known to have them that is a failure.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
    time::Duration,
};

use lab::{
    AgentOptions, LabSpec, Netns, Offloads, Owner, Pod, PodSpec, Protocol, Reply, UdpSend,
    raw::{Frames, Packets, Tun, ipv4, udp},
    testing::lab_or_skip,
    wait_for,
};
use wire::v1::{Device, Edge, Point, Side};

use crate::reports::Receiver;

const SETTLE: Duration = Duration::from_secs(10);

fn run(netns: &Netns, line: &str) -> Result<String, String> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns.name()]).args(line.split(' '));
    let output = command.output().expect("ip runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn v4(pod: &Pod) -> Ipv4Addr {
    if let IpAddr::V4(v4) = pod.v4() { v4 } else { Ipv4Addr::UNSPECIFIED }
}

/// Buffers and bytes of the rows that `which` names, client to server and back.
fn sum(receiver: &Receiver, which: impl Fn(&str, &Edge) -> bool) -> [(u64, u64); 2] {
    let rows = receiver.rows().into_iter().filter(|(node, row)| which(node, row));
    rows.fold([(0, 0); 2], |[forward, reverse], (_, row)| {
        let add = |sum: (u64, u64), way: Option<wire::v1::Counters>| {
            let way = way.unwrap_or_default();
            (sum.0 + way.skbs, sum.1 + way.l3_bytes)
        };
        [add(forward, row.forward), add(reverse, row.reverse)]
    })
}

/// The node's own counter for a table of [`count_outer`].
fn counter(netns: &Netns, name: &str) -> (u64, u64) {
    let text = run(netns, &format!("nft list counter inet outer {name}")).expect("nft's counter");
    let number = |word: &str| {
        let behind = text.split_whitespace().skip_while(|found| *found != word).nth(1).expect("a number");
        behind.parse().expect("a number")
    };
    (number("packets"), number("bytes"))
}

fn send(client: &Pod, server: &Pod, datagrams: u64, payload: u32) {
    let to = (server.v4(), 7000).into();
    client.udp(UdpSend { replies: true, ..UdpSend::new(to, datagrams, payload, 2_000.0) }).expect("datagrams");
}

/// The tunnel's packets as nft counts them on the node itself, both ways, against the layer of their own.
#[test]
fn a_tunnel_s_own_packets_are_what_nft_counted() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::Off)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let node = lab.node("n1").expect("node n1");
    let rules = "add table inet outer; add counter inet outer sent; add counter inet outer got; \
        add chain inet outer out { type filter hook output priority 0 ; }; \
        add chain inet outer in { type filter hook input priority 0 ; }; \
        add rule inet outer out udp dport 8472 counter name sent; add rule inet outer in udp dport 8472 counter name got";
    let nft = Command::new("ip").args(["netns", "exec", node.name(), "nft", rules]).status().expect("nft runs");
    assert!(nft.success());
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    server.serve_udp(7000, Reply::Echo).expect("udp");
    send(&client, &server, 300, 200);
    send(&client, &server, 20, 4_000);
    let (sent, got) = (counter(node, "sent"), counter(node, "got"));
    assert!(sent.0 >= 320 && got.0 >= 320, "{sent:?} {got:?}");
    // The lower address stands as the client: that is n1.
    let outer = |node: &'static str| sum(&receiver, move |at, row| at == node && row.tunnel == "vxlan");
    for node in ["n1", "n2"] {
        wait_for("the tunnel's packets", SETTLE, || (outer(node) == [sent, got]).then_some(()))
            .unwrap_or_else(|_| panic!("{node}: nft counted {sent:?} {got:?}, told {:?}", outer(node)));
    }
    let edge = lab::Edge { client: client.v4(), server: server.v4(), port: 7000, protocol: Protocol::Udp };
    let inner = sum(&receiver, |_, row| row.tunnel.is_empty() && row.server_port == 7000);
    let packets = lab.ledger().expect("a ledger").get(&edge).expect("it was sent").forward.packets;
    assert_eq!(inner.map(|way| way.0), [2 * packets; 2], "and nothing of them is added to what they carry");
}

/// Frames with one tag and with two, as a pod that knows its VLAN sends them: there is no device for them, and the pod's own
/// sees them all. SCTP beside them, which the lab's kernel need not speak.
#[test]
fn tagged_frames_and_sctp_are_on_their_edges() {
    const FRAMES: u64 = 120;
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let frames = Frames::open(client.netns(), "eth0").expect("a packet socket");
    let frame = |tags: &[[u8; 4]], port| {
        // To everybody, from nobody in particular: a pod's device hands over all of them.
        let head = [&[0xff; 6][..], &[2, 0, 0, 9, 9, 9], &tags.concat(), &[8, 0]].concat();
        [head, ipv4(v4(&client), v4(&server), 17, &udp(50_000, port, 100))].concat()
    };
    let packets = Packets::open(client.netns()).expect("a raw socket");
    // SCTP's header, then a chunk that nobody expects.
    let chunk = [&38_412_u16.to_be_bytes()[..], &2_905_u16.to_be_bytes(), &[0; 8], &[0, 0, 0, 16], &[1; 12]].concat();
    let sctp = ipv4(v4(&client), v4(&server), 132, &chunk);
    for _ in 0..FRAMES {
        frames.send(&frame(&[[0x81, 0, 0, 5]], 7_001)).expect("one tag");
        frames.send(&frame(&[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]], 7_002)).expect("two tags");
        packets.send(v4(&server), &sctp).expect("SCTP");
    }
    let seen = |port: u32, protocol: u32, side: Side| {
        sum(&receiver, |_, row| row.server_port == port && row.protocol == protocol && row.side == i32::from(side))[0]
    };
    let wanted = [
        ((7_001, 17, Side::Client), (FRAMES, FRAMES * 128)),
        ((7_002, 17, Side::Client), (FRAMES, FRAMES * 128)),
        ((2_905, 132, Side::Client), (FRAMES, FRAMES * 48)),
        ((2_905, 132, Side::Server), (FRAMES, FRAMES * 48)),
    ];
    for ((port, protocol, side), frames) in wanted {
        wait_for("every frame", SETTLE, || (seen(port, protocol, side) == frames).then_some(()))
            .unwrap_or_else(|_| panic!("port {port} {side:?}: {:?} of {frames:?}", seen(port, protocol, side)));
    }
}

/// A tun device: packets without a link header, both ways.
#[test]
fn a_device_without_link_headers_is_counted_to_the_byte() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let node = lab.node("n1").expect("node n1");
    let mut tun = Tun::make(node, "tun0").expect("a tun device");
    for line in ["ip link set tun0 up", "ip route add 10.99.0.0/24 dev tun0"] {
        run(node, line).expect(line);
    }
    let arguments = ["--devices", "tun*"].map(str::to_owned).to_vec();
    let _agent = lab.start_agent("n1", &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent");
    let server = lab.pod("p1-0").expect("a pod");
    server.serve_udp(7000, Reply::Echo).expect("udp");
    let packet = ipv4(Ipv4Addr::new(10, 99, 0, 2), v4(&server), 17, &udp(50_000, 7_000, 333));
    for _ in 0..100 {
        tun.write(&packet).expect("in");
        // The kernel may say something of its own (IPv6) in between.
        while tun.read().expect("out").get(9) != Some(&17) {}
    }
    let wanted = [(100, 100 * 361); 2];
    let seen = || sum(&receiver, |_, row| row.client == [10, 99, 0, 2] && row.server_port == 7_000);
    wait_for("every packet", SETTLE, || (seen() == wanted).then_some(()))
        .unwrap_or_else(|_| panic!("{:?} of {wanted:?}", seen()));
}

/// A client under the node's own address: its packets pass uplink or tunnel, and perhaps the sockets' cgroup, and count once.
#[test]
fn a_host_network_client_is_counted_once() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let spec = PodSpec::new("lab", Owner::DaemonSet("host".to_owned()), 0, "n1");
    let host = lab.add_host_pod(&spec).expect("a pod of the node's own network");
    for (name, sent) in [("p2-0", 300), ("p3-0", 200)] {
        let server = lab.pod(name).expect("a pod");
        server.serve_udp(7000, Reply::Echo).expect("udp");
        send(&host, &server, sent, 150);
        for (node, side) in [("n1", Side::Client), (server.node(), Side::Server)] {
            let to = octets(server.v4());
            let seen = || {
                sum(&receiver, |at, row| at == node && row.server == to && row.side == i32::from(side)).map(|way| way.0)
            };
            wait_for("every datagram, once", SETTLE, || (seen() == [sent; 2]).then_some(()))
                .unwrap_or_else(|_| panic!("{name} {side:?}: {:?} of {sent}", seen()));
        }
    }
}

/// What a node says of its tunnel, for a failure.
fn told_of(node: &Netns, pod: IpAddr) -> String {
    let lines =
        ["ip -s -d link show kind0".to_owned(), format!("ip route get {pod}"), "ip -s link show eth0".to_owned()];
    let told =
        lines.map(|line| format!("{} $ {line}\n{}\n", node.name(), run(node, &line).unwrap_or_else(|error| error)));
    told.concat()
}

/// Tunnels of every kind that this kernel has, between two nodes: the outer packets in a layer of their own, the inner ones
/// on the pods' edge. `ORRERY_TEST_KINDS` names those that must be there.
#[test]
fn every_kind_of_tunnel_is_known_and_counted_apart() {
    const SENT: u64 = 150;
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::Off)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p3-0").expect("a pod"));
    server.serve_udp(7000, Reply::Echo).expect("udp");
    let must = std::env::var("ORRERY_TEST_KINDS").unwrap_or_default();
    let ends = [("n1", "172.30.1.2", "172.30.3.2", server.v4()), ("n3", "172.30.3.2", "172.30.1.2", client.v4())];
    let hardware = |address: &str| format!("02:00:00:00:99:0{}", address.split('.').nth(2).unwrap_or_default());
    let mut sent = 0;
    for (kind, options) in [
        ("vxlan", "id 9 dstport 4789 nolearning local LOCAL remote REMOTE"),
        ("geneve", "id 9 remote REMOTE"),
        ("ipip", "local LOCAL remote REMOTE"),
        ("gre", "local LOCAL remote REMOTE"),
    ] {
        let make = |(node, local, remote, pod): &(&str, &str, &str, IpAddr)| -> Result<(), String> {
            let node = lab.node(node).expect("a node");
            let options = options.replace("LOCAL", local).replace("REMOTE", remote);
            run(node, &format!("ip link add kind0 type {kind} {options}"))?;
            // It says nothing of its own.
            run(node, "sysctl -qw net.ipv6.conf.kind0.disable_ipv6=1")?;
            let ethernet = matches!(kind, "vxlan" | "geneve");
            if ethernet {
                run(node, &format!("ip link set kind0 address {}", hardware(local)))?;
            }
            run(node, "ip link set kind0 mtu 1400 up")?;
            if ethernet {
                run(node, &format!("ip neigh replace {pod} lladdr {} dev kind0 nud permanent", hardware(remote)))?;
            }
            run(node, &format!("ip route replace {pod} dev kind0")).map(drop)
        };
        if let Err(why) = ends.iter().try_for_each(make) {
            assert!(!must.split(',').any(|name| name == kind), "{kind}: {why}");
            println!("skipped {kind}: {why}");
            println!("held\ttunnel {kind}\tnot in this kernel");
            for (node, ..) in &ends {
                let _ = run(lab.node(node).expect("a node"), "ip link del kind0");
            }
            continue;
        }
        let watched = |node: &str| {
            let devices = receiver.latest(node)?.devices;
            devices.into_iter().find(|device| device.name == "kind0" && !device.gone && device.tunnel == kind)
        };
        for (node, ..) in &ends {
            wait_for("the tunnel's device", SETTLE, || watched(node)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
        send(&client, &server, SENT, 200);
        sent += SENT;
        for (node, ..) in &ends {
            let outer = || sum(&receiver, |at, row| at == *node && row.tunnel == kind).map(|way| way.0);
            wait_for("the outer packets", SETTLE, || (outer() == [SENT; 2]).then_some(())).unwrap_or_else(|_| {
                let state = || ends.iter().map(|(node, _, _, pod)| told_of(lab.node(node).expect("a node"), *pod));
                panic!("{kind} on {node}: {:?} of {SENT}\n{}", outer(), state().collect::<String>())
            });
            let inner = || sum(&receiver, |at, row| at == *node && row.server_port == 7_000).map(|way| way.0);
            wait_for("the inner packets", SETTLE, || (inner() == [sent; 2]).then_some(()))
                .unwrap_or_else(|_| panic!("in {kind} on {node}: {:?} of {sent}", inner()));
            run(lab.node(node).expect("a node"), "ip link del kind0").expect("it goes");
        }
        println!("held\ttunnel {kind}\tpassed");
        for (node, pod) in [("n1", server.v4()), ("n3", client.v4())] {
            let gateway = if node == "n1" { "172.30.1.1" } else { "172.30.3.1" };
            run(lab.node(node).expect("a node"), &format!("ip route replace {pod} via {gateway}")).expect("a way back");
        }
    } // Kinds that carry nothing here are known for what they are, and watched.
    let node = lab.node("n1").expect("node n1");
    let (tunnel, uplink) = (i32::from(Point::Tunnel), i32::from(Point::Uplink));
    for (kind, name, options, point) in [("wireguard", "kind1", "", tunnel), ("vlan", "kind2", "link eth0", uplink)] {
        let id = if kind == "vlan" { " id 9" } else { "" };
        let line = format!("ip link add {options} name {name} type {kind}{id}").replace("  ", " ");
        if let Err(why) = run(node, &line) {
            assert!(!must.split(',').any(|name| name == kind), "{kind}: {why}");
            println!("skipped {kind}: {why}");
            println!("held\tdevice {kind}\tnot in this kernel");
            continue;
        }
        run(node, &format!("ip addr add 198.51.100.{point}/24 dev {name}")).expect("an address");
        run(node, &format!("ip link set {name} up")).expect("it comes up");
        let is = |device: &Device| device.name == name && device.point == point && device.blind_spot.is_empty();
        wait_for("the device", SETTLE, || receiver.latest("n1")?.devices.into_iter().find(is)).unwrap_or_else(
            |error| panic!("{kind}: {error}: {:?}", receiver.latest("n1").map(|report| report.devices)),
        );
        println!("held\tdevice {kind}\tpassed");
    }
}
