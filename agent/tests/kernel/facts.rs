//! What sockets and the kernel tell, on the edges where it happened and nowhere else: each fault is made on purpose.
//! `ORRERY_TEST_HOOK_FORM` runs all of it with hooks of one form only.

use std::{process::Command, sync::Arc, time::Duration};

use lab::{
    Agent, AgentOptions, DroppingLink, Edge, Lab, LabSpec, Offloads, Owner, Pod, PodSpec, Protocol, Reply, TcpSend,
    UdpSend,
    testing::{kernel_since, lab_or_skip},
    wait_for,
};
use wire::v1::{Edge as Row, Point, Side, Sockets};

use crate::reports::Receiver;

const SETTLE: Duration = Duration::from_secs(20);
/// Behind the router, in no node: it answers nothing, and with an ICMP error.
const SILENT: &str = "198.51.100.1";
const UNREACHABLE: &str = "198.51.100.2";

fn start(lab: &Lab) -> Vec<Agent> {
    let form = std::env::var("ORRERY_TEST_HOOK_FORM").ok();
    let arguments = form.map(|form| vec!["--hook-form".to_owned(), form]).unwrap_or_default();
    lab.start_agents(&AgentOptions { arguments, ..AgentOptions::default() }).expect("agents")
}

/// A cell of the table of kernels, where a form was asked for.
fn held(what: &str) {
    if let Ok(form) = std::env::var("ORRERY_TEST_HOOK_FORM") {
        println!("held\t{what} by {form}\tpassed");
    }
}

/// Every fact comes by some hook, and by the one that was asked for.
fn assert_hooks(receiver: &Receiver) {
    let report = wait_for("a report", SETTLE, || receiver.latest("n1")).expect("there is one");
    let facts: Vec<_> = report.hooks.iter().map(|hook| hook.fact.as_str()).collect();
    assert_eq!(facts, ["connect", "retransmit", "rtt", "drop", "owner"]);
    let form = std::env::var("ORRERY_TEST_HOOK_FORM").ok().map(|form| form.replace('-', "_"));
    for hook in &report.hooks {
        assert!(form.as_ref().map_or(hook.form != "none", |form| hook.form == *form), "{hook:?}");
    }
}

fn address(text: &str) -> Vec<u8> {
    text.split('.').map(|part| part.parse().expect("a number")).collect()
}

fn octets(pod: &Pod) -> Vec<u8> {
    address(&pod.v4().to_string())
}

/// The sockets' facts of an edge on one side, from whoever told.
fn sockets(receiver: &Receiver, client: &[u8], server: &[u8], port: u16, side: Side) -> Vec<(String, Sockets)> {
    let is = |row: &Row| {
        row.client == client
            && row.server == server
            && row.server_port == u32::from(port)
            && row.side == i32::from(side)
    };
    let rows = receiver.rows().into_iter().filter(|(_, row)| is(row));
    rows.filter_map(|(node, row)| Some((node, row.sockets?))).collect()
}

fn ip(lab: &Lab, arguments: &[&str]) {
    let status = Command::new("ip").args(["-n", lab.fabric().name()]).args(arguments).status().expect("ip runs");
    assert!(status.success(), "ip {arguments:?}");
}

fn connect(client: &Pod, to: &str, port: u16, expect: bool) {
    let to = format!("{to}:{port}").parse().expect("an address");
    let outcome = client.tcp(TcpSend { to, connections: 1, send: 200, receive: 200 });
    assert_eq!(outcome.is_ok(), expect, "{to}: {outcome:?}");
}

/// What fails is counted under its cause, on its edge, by the client's node alone.
#[test]
fn failures_are_on_their_edges() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agents = start(&lab);
    assert_hooks(&receiver);
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (client, server, other) = (pod("p1-0"), pod("p2-0"), pod("p3-0"));
    server.serve_tcp(7001).expect("tcp");
    ip(&lab, &["route", "add", "blackhole", SILENT]);
    ip(&lab, &["route", "add", "blackhole", UNREACHABLE]);
    let from = octets(&client);
    let of = |to: &[u8], port, side| sockets(&receiver, &from, to, port, side);
    let tries = |most: u32| {
        let setting = format!("net.ipv4.tcp_syn_retries={most}");
        let arguments = ["netns", "exec", client.netns().name(), "sysctl", "-qw", &setting];
        assert!(Command::new("ip").args(arguments).status().expect("sysctl runs").success());
    };
    tries(2);
    let rows = || {
        let rows = receiver.rows().into_iter().filter(|(_, row)| row.sockets.is_some());
        rows.map(|(node, row)| format!("{node} {:?}:{} {:?}", row.server, row.server_port, row.sockets))
            .collect::<Vec<_>>()
    };
    for _ in 0..3 {
        connect(&client, &server.v4().to_string(), 7001, true);
        connect(&client, &other.v4().to_string(), 7999, false);
    }
    connect(&client, SILENT, 80, false);
    // Enough that one of them comes after the route says no, however late this machine is.
    tries(5);
    // Silence first: an ICMP error that comes while connect(2) still runs, as it does without any latency, is read by the
    // caller and gone from the socket when that is closed.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| connect(&client, UNREACHABLE, 80, false));
        let tried = || (!of(&address(UNREACHABLE), 80, Side::Client).is_empty()).then_some(());
        wait_for("the first try", SETTLE, tried).unwrap_or_else(|error| panic!("{error}: {:#?}", rows()));
        ip(&lab, &["route", "replace", "unreachable", UNREACHABLE]);
        waits.join().expect("it fails");
    });

    let is = |found: &[(String, Sockets)], node: &str, wanted: [u64; 6]| {
        let [(told, sockets)] = found else { return false };
        let counted = [
            sockets.attempts,
            sockets.established,
            sockets.refused,
            sockets.timed_out,
            sockets.unreachable,
            sockets.failed_otherwise,
        ];
        told == node && counted == wanted
    };
    let wanted = || {
        let all = is(&of(&octets(&server), 7001, Side::Client), "n1", [3, 3, 0, 0, 0, 0])
            && is(&of(&octets(&server), 7001, Side::Server), "n2", [3, 3, 0, 0, 0, 0])
            && is(&of(&octets(&other), 7999, Side::Client), "n1", [3, 0, 3, 0, 0, 0])
            && is(&of(&address(UNREACHABLE), 80, Side::Client), "n1", [1, 0, 0, 0, 1, 0])
            && is(&of(&address(SILENT), 80, Side::Client), "n1", [1, 0, 0, 1, 0, 0]);
        all.then_some(())
    };
    wait_for("every failure under its cause", SETTLE, wanted).unwrap_or_else(|error| panic!("{error}: {:#?}", rows()));
    assert_eq!(rows().len(), 5, "and nowhere else: {:#?}", rows());
    let (_, silent) = &of(&address(SILENT), 80, Side::Client)[0];
    assert!(silent.retransmitted >= 1, "the SYN was sent again: {silent:?}");
    for side in [Side::Client, Side::Server] {
        let (_, open) = &of(&octets(&server), 7001, side)[0];
        let samples: u64 = open.rtt.as_ref().map_or(0, |rtt| rtt.buckets.iter().sum());
        assert!(samples >= 3, "round trips at opening and end: {open:?}");
        assert_eq!((open.aborted, open.retransmitted), (0, 0), "{open:?}");
    }
    held("connects and their failures");
}

/// A packet that nft drops is a drop on its edge with the kernel's reason, told by one node; a TCP connection over a link
/// that drops sends again, and no other does.
#[test]
fn drops_and_retransmits_are_on_their_edges() {
    const DATAGRAMS: u64 = 2_000;
    // The lab's MTU of 1,450 without the headers of IPv4 and TCP and the time stamps.
    const SEGMENT_BYTES: u64 = 1_398;
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::Off)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agents = start(&lab);
    let pod = |name: &str| lab.pod(name).expect("a pod");
    let (client, lossy, sound) = (pod("p1-0"), pod("p2-0"), pod("p2-1"));
    for server in [&lossy, &sound] {
        server.serve_udp(7000, Reply::Sink).expect("udp");
        server.serve_tcp(7001).expect("tcp");
    }
    let edge = |protocol, port| Edge { client: client.v4(), server: lossy.v4(), port, protocol };
    let udp = DroppingLink::install(&lab, edge(Protocol::Udp, 7000), 12).expect("a dropping link");
    let tcp = DroppingLink::install(&lab, edge(Protocol::Tcp, 7001), 5).expect("a dropping link");
    for server in [&lossy, &sound] {
        client.udp(UdpSend::new((server.v4(), 7000).into(), DATAGRAMS, 100, 4_000.0)).expect("datagrams");
        client
            .tcp(TcpSend { to: (server.v4(), 7001).into(), connections: 4, send: 150_000, receive: 0 })
            .expect("transfers");
    }
    let dropped = [udp.dropped().expect("a counter").packets, tcp.dropped().expect("a counter").packets];
    assert!(dropped.iter().all(|packets| *packets > 3), "{dropped:?}");

    let lost = |row: &Row| {
        let of_nft = |drop: &&wire::v1::Drop| matches!(drop.reason.as_str(), "netfilter_drop" | "unknown");
        row.drops.iter().filter(of_nft).map(|drop| drop.segments).sum::<u64>()
    };
    let told = |port: u32| {
        let rows = receiver.rows().into_iter();
        let rows = rows.filter(|(_, row)| row.server == octets(&lossy) && row.server_port == port && lost(row) > 0);
        rows.map(|(node, row)| (node, row.side, lost(&row), row.drops)).collect::<Vec<_>>()
    };
    let mut ledger = lab.ledger().expect("a ledger");
    let mut sent_again = |server: &Pod| {
        let edge = Edge { client: client.v4(), server: server.v4(), port: 7001, protocol: Protocol::Tcp };
        ledger.edge(edge).forward.retransmitted_bytes.div_ceil(SEGMENT_BYTES)
    };
    let again = [sent_again(&lossy), sent_again(&sound)];
    // Before 5.17 there are no reasons: what was sent again for nothing, and dropped for that by the other end, looks the same.
    let twice = if kernel_since(5, 17) { [0; 2] } else { again };
    let equal = || {
        let [udp, tcp] = [7000, 7001].map(|port| told(port).iter().map(|row| row.2).sum::<u64>());
        (udp == dropped[0] && (dropped[1]..=dropped[1] + twice[0]).contains(&tcp)).then_some(())
    };
    wait_for("all drops on their edges", SETTLE, equal)
        .unwrap_or_else(|error| panic!("{error}: nft {dropped:?}: {:?} {:?}", told(7000), told(7001)));
    for port in [7000, 7001] {
        let rows = told(port);
        assert_eq!(rows.len(), 1, "one node tells: {rows:?}");
        // A segment that was sent again and comes too late is dropped by the other end's own rules (PAWS): not ours to rule out.
        let ours = |drop: &&wire::v1::Drop| matches!(drop.reason.as_str(), "netfilter_drop" | "unknown");
        assert!(rows[0].3.iter().filter(ours).all(|drop| drop.forward && drop.by == "stack"), "{rows:?}");
    }
    let elsewhere: Vec<_> =
        receiver.rows().into_iter().filter(|(_, row)| row.server != octets(&lossy) && lost(row) > 0).collect();
    assert!(elsewhere.iter().map(|(_, row)| lost(row)).sum::<u64>() <= twice[1], "{elsewhere:?}");

    let told_again = |server: &Pod| {
        let found = sockets(&receiver, &octets(&client), &octets(server), 7001, Side::Client);
        found.first().map(|(_, sockets)| sockets.retransmitted).unwrap_or_default()
    };
    // Not as many as were dropped: an acknowledgement alone is not sent again. The client's own sockets counted the bytes.
    let least = again[0].max(1);
    wait_for("segments sent again", SETTLE, || (told_again(&lossy) >= least).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {} of {least}", told_again(&lossy)));
    // A machine that is late sends again what was never lost: then its own socket says so.
    assert_eq!(told_again(&sound) > 0, again[1] > 0, "what was sent again on the sound link");
    held("drops and what is sent again");
}

/// Sockets tell their pod, and two pods in the node's own namespace are told apart.
#[test]
fn owners_are_the_pods() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let agents = start(&lab);
    let (client, server) = (lab.pod("p1-0").expect("a pod"), lab.pod("p3-0").expect("a pod"));
    server.serve_tcp(7001).expect("tcp");
    let spec = |index| PodSpec::new("lab", Owner::DaemonSet("host".to_owned()), index, "n1");
    let hosts: Vec<Arc<Pod>> = (0..2).map(|index| lab.add_host_pod(&spec(index)).expect("a host pod")).collect();
    if client.cgroup().is_none() {
        println!("skipped: this machine has no cgroup v2 hierarchy");
        return;
    }
    for pod in hosts.iter().chain([&client]) {
        connect(pod, &server.v4().to_string(), 7001, true);
    }
    let uid = |pod: &Pod| {
        let path = pod.cgroup().expect("a cgroup").to_string_lossy().into_owned();
        let uid = path.split("-pod").nth(1).and_then(|rest| rest.split('.').next()).expect("a UID").replace('_', "-");
        (uid.clone(), uid.replace('-', "").repeat(2))
    };
    let owned = |pod: &Pod, side: Side, client: &Pod, node: &str| {
        let (uid, container) = uid(pod);
        let rows = receiver.rows().into_iter();
        let mut rows = rows.filter(|(_, row)| row.client == octets(client) && row.side == i32::from(side));
        // Packets tell it as well: where a pod shares its node's address, those that leave by the uplink.
        let point = if client.device().is_empty() { Point::Uplink } else { Point::Pod };
        rows.any(|(told, row)| {
            let both_ways = [row.forward, row.reverse].iter().all(|way| way.unwrap_or_default().skbs > 0);
            let is = |owner: &wire::v1::Owner| {
                owner.pod_uid == uid
                    && owner.container == container
                    && owner.process == "orrery-lab"
                    && owner.cgroup != 0
            };
            // Whoever is alone at an address or in a cgroup is alone on the edge.
            told == node && row.point() == point && both_ways && row.owners.len() == 1 && row.owners.iter().any(is)
        })
    };
    let all = || {
        let here = owned(&client, Side::Client, &client, "n1") && owned(&server, Side::Server, &client, "n3");
        (here && hosts.iter().all(|host| owned(host, Side::Client, host, "n1"))).then_some(())
    };
    wait_for("every owner", SETTLE, all).unwrap_or_else(|error| {
        let rows: Vec<_> =
            receiver.rows().into_iter().map(|(node, row)| (node, row.client, row.side, row.owners)).collect();
        let log = std::fs::read_to_string(agents[0].log()).unwrap_or_default();
        panic!("{error}: {rows:#?}\n{log}")
    });
}
