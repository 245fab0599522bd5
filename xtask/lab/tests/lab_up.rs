//! The lab proves itself, without Orrery: everybody reaches everybody, the ledger is what the kernel counted, and nothing is
//! left behind.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::testing::{lab_or_skip, may_run};
use lab::{
    DroppingLink, Edge, EdgeCounters, IcmpSend, Lab, LabSpec, Offloads, Owner, PodSpec, Protocol, Reply, TcpSend,
    UdpSend,
};

#[test]
fn every_pod_reaches_every_pod() {
    let start = Instant::now();
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else {
        return;
    };
    println!("lab of 6 pods up in {:?}", start.elapsed());
    let pods = lab.pods();
    assert_eq!(pods.len(), 6);
    let external = lab.external().expect("the external host");
    for client in pods.iter().chain([external]) {
        for server in pods.iter().chain([external]) {
            for ipv6 in [false, true] {
                if client.name() != server.name() {
                    client
                        .icmp(IcmpSend { to: server.address(ipv6), count: 1, payload: 1000, pps: 100.0 })
                        .expect("a ping");
                }
            }
        }
    }
    let ledger = lab.ledger().expect("a ledger");
    assert_eq!(ledger.len(), 7 * 6 * 2);
    for (edge, totals) in ledger.iter() {
        assert_eq!((totals.forward.packets, totals.reverse.packets), (1, 1), "{edge:?}");
    }
    // n1 and n2 are joined by VXLAN, the others are not.
    let stats = lab.device_stats("n1").expect("statistics");
    assert_eq!(stats["vxlan0"].rx_packets, 16, "2 pods, 2 peers, 2 families, a request or a reply each way");
    assert!(stats["eth0"].rx_packets >= 40);
}

#[test]
fn the_ledger_is_what_nft_counted() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::Off)).expect("the lab comes up") else {
        return;
    };
    let client = lab.pod("p1-0").expect("a client");
    for name in ["p1-1", "p2-0", "p3-0"] {
        let server = lab.pod(name).expect("a server");
        server.serve_udp(7000, Reply::Echo).expect("udp");
        server.serve_tcp(7001).expect("tcp");
        for ipv6 in [false, true] {
            let at = server.address(ipv6);
            let icmp = if ipv6 { (Protocol::Icmpv6, 128) } else { (Protocol::Icmp, 8) };
            let edges = [(Protocol::Udp, 7000), (Protocol::Tcp, 7001), icmp].map(|(protocol, port)| Edge {
                client: client.address(ipv6),
                server: at,
                port,
                protocol,
            });
            let at_client = EdgeCounters::install(&lab, client.address(ipv6), &edges).expect("counters");
            let at_server = EdgeCounters::install(&lab, at, &edges).expect("counters");
            client
                .udp(UdpSend { replies: true, ..UdpSend::new((at, 7000).into(), 500, 700, 5000.0) })
                .expect("datagrams");
            client
                .tcp(TcpSend { to: (at, 7001).into(), connections: 5, send: 100_000, receive: 50_000 })
                .expect("transfers");
            client.icmp(IcmpSend { to: at, count: 20, payload: 600, pps: 1000.0 }).expect("pings");
            let ledger = lab.ledger().expect("a ledger");
            let headers = if ipv6 { 48 } else { 28 };
            for counters in [at_client, at_server] {
                let counted = counters.read().expect("counters");
                for edge in edges.iter().filter(|edge| edge.protocol != Protocol::Tcp) {
                    let totals = ledger.get(edge).expect("in the ledger");
                    let (forward, reverse) = counted[edge];
                    for (sent, seen) in [(totals.forward, forward), (totals.reverse, reverse)] {
                        assert_eq!(
                            (seen.packets, seen.bytes),
                            (sent.packets, sent.payload_bytes + sent.packets * headers),
                            "{edge:?}"
                        );
                    }
                }
                let (forward, reverse) = counted[&edges[1]];
                let totals = ledger.get(&edges[1]).expect("in the ledger");
                assert_eq!(
                    (totals.connections, totals.forward.payload_bytes, totals.reverse.payload_bytes),
                    (5, 5 * 100_016, 5 * 50_000)
                );
                assert!(
                    forward.bytes > totals.forward.wire_payload_bytes()
                        && reverse.bytes > totals.reverse.wire_payload_bytes()
                );
            }
        }
    }
}

#[test]
fn a_rate_holds_and_changes_and_a_link_drops() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else {
        return;
    };
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p3-0").expect("a server"));
    server.serve_udp(8443, Reply::Sink).expect("udp");
    let edge = Edge { client: client.v4(), server: server.v4(), port: 8443, protocol: Protocol::Udp };
    let link = DroppingLink::install(&lab, edge, 12).expect("a dropping link");
    let flow = client.start_udp((server.v4(), 8443).into(), 100, 10_000.0).expect("a flow");
    let sent = || lab.ledger().expect("a ledger").get(&edge).map_or(0, |totals| totals.forward.packets);
    // Over a second, and on a machine that is busy with other things over one of the next few.
    let holds = |wanted: f64| {
        let mut rates = Vec::new();
        let held = (0..8).any(|_| {
            let (before, start) = (sent(), Instant::now());
            std::thread::sleep(Duration::from_secs(1));
            let rate = (sent() - before) as f64 / start.elapsed().as_secs_f64();
            rates.push(rate);
            (rate - wanted).abs() <= wanted * 0.05
        });
        assert!(held, "{wanted} packets a second wanted: {rates:?}");
    };
    holds(10_000.0);
    flow.set_rate(100.0).expect("a new rate");
    holds(100.0);
    flow.stop().expect("it stops");
    let (dropped, passed) = (link.dropped().expect("a counter").packets, link.passed().expect("a counter").packets);
    assert_eq!(dropped + passed, sent());
    let share = dropped as f64 / sent() as f64;
    assert!((0.10..0.14).contains(&share), "{share} dropped, 0.12 wanted");
    link.heal().expect("it heals");
}

#[test]
fn fragments_are_counted_as_packets() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::Off)).expect("the lab comes up") else {
        return;
    };
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    server.serve_udp(7000, Reply::Echo).expect("udp");
    for ipv6 in [false, true] {
        let device = |lab: &Lab| lab.device_stats("n1").expect("statistics")[client.device()];
        let before = device(&lab);
        client
            .udp(UdpSend { replies: true, ..UdpSend::new((server.address(ipv6), 7000).into(), 10, 5000, 1000.0) })
            .expect("datagrams");
        let after = device(&lab);
        let edge =
            Edge { client: client.address(ipv6), server: server.address(ipv6), port: 7000, protocol: Protocol::Udp };
        let totals = *lab.ledger().expect("a ledger").get(&edge).expect("in it");
        assert_eq!((totals.forward.packets, totals.reverse.packets), (40, 40));
        assert_eq!(
            (after.rx_packets - before.rx_packets, after.tx_packets - before.tx_packets),
            (40, 40),
            "ipv6 {ipv6}"
        );
    }
}

#[test]
fn pods_come_and_go() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else {
        return;
    };
    let list = || std::fs::read_to_string(lab.pod_list()).expect("the pod list");
    let cart: Vec<PodSpec> = (0..6)
        .map(|index| PodSpec::new("shop", Owner::Deployment("cart".into()), index, ["n1", "n2", "n3"][index % 3]))
        .collect();
    let start = Instant::now();
    let pods = lab.add_pods(&cart).expect("they start");
    println!("6 pods more in {:?}", start.elapsed());
    let addresses: Vec<IpAddr> = pods.iter().map(|pod| pod.v4()).collect();
    assert!(addresses.iter().all(|address| list().contains(&format!("\"{address}\""))));
    drop(pods);
    let sent = lab.pod(&cart[0].name).expect("a pod");
    sent.icmp(IcmpSend { to: lab.pod("p3-0").expect("a pod").v4(), count: 3, payload: 10, pps: 100.0 }).expect("pings");
    let (device, netns) = (sent.device().to_owned(), sent.netns().name().to_owned());
    lab.remove_pod(&cart[0].name).expect("it goes");
    assert!(!list().contains(&cart[0].name));
    assert!(!lab.device_stats("n1").expect("statistics").contains_key(&device));
    assert!(!Path::new("/run/netns").join(netns).exists());
    assert_eq!(lab.ledger().expect("a ledger").len(), 1, "what it sent stays written");
}

fn left_of(id: &str) -> Vec<String> {
    let output = Command::new("ip").args(["netns", "list"]).output().expect("ip netns list");
    let mut left: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with(&format!("orrery-{id}-")))
        .map(str::to_owned)
        .collect();
    let dir = Path::new("/run/orrery-lab").join(id);
    left.extend(dir.exists().then(|| dir.display().to_string()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    for mount in mounts.lines().filter(|line| line.contains(" - cgroup2 ")) {
        let cgroup = Path::new(mount.split(' ').nth(4).expect("a mount point")).join(format!("orrery-lab-{id}"));
        left.extend(cgroup.exists().then(|| cgroup.display().to_string()));
    }
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        left.extend(command.contains(&format!("/run/orrery-lab/{id}/")).then_some(command));
    }
    left
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else {
        return;
    };
    let id = lab.id().to_owned();
    assert!(left_of(&id).len() > 6);
    drop(lab);
    assert_eq!(left_of(&id), Vec::<String>::new());
}

/// The body of the process that is killed below.
#[test]
#[ignore = "run by the next test in a process of its own"]
fn up_until_killed() {
    let lab = Lab::up(LabSpec::plain(1, Offloads::On)).expect("a lab");
    std::fs::write(std::env::var_os("ORRERY_LAB_ID_FILE").expect("where to write the id"), lab.id()).expect("the id");
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts a lab in a process of its own, and kills that process once the lab is up. Gives the lab's id.
fn kill_an_owner(before: impl FnOnce(&str)) -> String {
    let file =
        std::env::temp_dir().join(format!("orrery-lab-id-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut owner = Command::new(std::env::current_exe().expect("this test"))
        .args(["up_until_killed", "--exact", "--ignored"])
        .env("ORRERY_LAB_ID_FILE", &file)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let written = || std::fs::read_to_string(&file).ok().filter(|id| !id.is_empty());
    let id = lab::wait_for("the lab's id", Duration::from_secs(30), written).expect("an id");
    assert!(left_of(&id).len() > 6);
    before(&id);
    owner.kill().expect("killed");
    owner.wait().expect("reaped");
    std::fs::remove_file(&file).expect("removed");
    id
}

#[test]
fn a_killed_lab_leaves_nothing() {
    if !may_run() {
        return;
    }
    let id = kill_an_owner(|_| ());
    lab::wait_for("everything to be gone", Duration::from_secs(20), || left_of(&id).is_empty().then_some(()))
        .expect("nothing is left");
}

#[test]
fn the_next_start_reaps_what_nobody_watches() {
    if !may_run() {
        return;
    }
    let id = kill_an_owner(|id| {
        let janitors = std::fs::read_dir("/proc").expect("/proc").flatten().filter(|entry| {
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            command.ends_with(&format!("\0janitor\0{id}\0"))
        });
        for janitor in janitors {
            let pid = janitor.file_name().to_string_lossy().into_owned();
            assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
        }
    });
    assert!(!left_of(&id).is_empty(), "nobody watched");
    let lab = Lab::up(LabSpec::plain(1, Offloads::On)).expect("the next lab");
    assert_eq!(left_of(&id), Vec::<String>::new());
    drop(lab);
}
