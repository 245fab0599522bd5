//! The agent at its bounds: many devices, many changes of devices, many new flows, many connections. At each of them what was
//! seen and what is counted as unseen is what was sent. Rates that this machine did not reach are told.

#![expect(clippy::disallowed_methods, reason = "what takes how long is measured here")]

#[path = "kernel/reports.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests, which ask it more")]
mod reports;

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use lab::{
    Agent, AgentOptions, Edge, EdgeCounters, Lab, LabSpec, Offloads, Owner, PodSpec, Protocol, Reply, TcpSend, UdpSend,
    testing::lab_or_skip, wait_for,
};
use reports::Receiver;
use wire::v1::{LossCause, Side, Tier};

const SETTLE: Duration = Duration::from_secs(20);
/// Devices made by a test are of one group, which the kernel removes in one go.
const GROUP: u32 = 77;

fn run(netns: &str, arguments: &[&str]) -> bool {
    Command::new("ip").args(["-n", netns]).args(arguments).output().expect("ip runs").status.success()
}

/// Many `ip` commands in a namespace.
fn batch(lab: &Lab, name: &str, lines: &str) {
    let file = lab.dir().join(name);
    std::fs::write(&file, lines).expect("written");
    let node = lab.node("n1").expect("node n1").name();
    assert!(run(node, &["-batch", file.to_str().expect("a path in words")]), "{name}");
}

/// A pod-facing device; its other end goes to the namespace `to`.
fn device(name: &str, group: u32, to: &str) -> String {
    format!(
        "link add {name} group {group} type veth peer name p{name} netns {to}\n\
         link set {name} addrgenmode none up\n"
    )
}

fn metric(agent: &Agent, name: &str) -> u64 {
    let text = String::from_utf8(agent.get("/metrics").expect("metrics").body).expect("text");
    let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn lost(receiver: &Receiver, cause: LossCause) -> u64 {
    let report = receiver.latest("n1").unwrap_or_default();
    report.losses.into_iter().filter(|loss| loss.cause == i32::from(cause)).map(|loss| loss.count).sum()
}

/// A lab with one agent, on n1.
fn start() -> Option<(Lab, Receiver, Agent)> {
    let lab = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up")?;
    let receiver = Receiver::listen(&lab.reports_socket());
    let agent = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    Some((lab, receiver, agent))
}

/// Sends datagrams while `work` runs, and holds what was seen against what was sent. Gives the longest time for which nothing
/// new was told.
fn while_sending(lab: &Lab, receiver: &Receiver, work: impl FnOnce()) -> Duration {
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    server.serve_udp(7000, Reply::Sink).expect("udp");
    let edge = Edge { client: client.v4(), server: server.v4(), port: 7000, protocol: Protocol::Udp };
    let seen = || receiver.edge(&edge, Side::Client, &client).skbs.0;
    let flow = client.start_udp((server.v4(), 7000).into(), 100, 500.0).expect("a flow");
    wait_for("the flow is seen", SETTLE, || (seen() > 100).then_some(())).expect("it is");
    let over = AtomicBool::new(false);
    let silence = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut since, mut last) = (Duration::ZERO, Instant::now(), 0);
            while !over.load(Ordering::Relaxed) {
                let now = seen();
                if now > last {
                    (last, since) = (now, Instant::now());
                }
                longest = longest.max(since.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            longest
        });
        work();
        over.store(true, Ordering::Relaxed);
        watch.join().expect("it watched")
    });
    flow.stop().expect("it stops");
    let sent = lab.ledger().expect("a ledger").get(&edge).expect("in it").forward.packets;
    wait_for("all that was sent is seen", SETTLE, || (seen() == sent).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: sent {sent}, seen {}", seen()));
    silence
}

/// The kernel waits for a grace period with each program it attaches, some 10 ms here: a thousand devices take half a minute.
/// What is watched already goes on being told meanwhile.
#[test]
fn a_thousand_devices_are_watched_and_nobody_waits_for_them() {
    const DEVICES: u64 = 1_000;
    const QUIET: Duration = Duration::from_secs(4);
    let Some((lab, receiver, agent)) = start() else { return };
    let before = metric(&agent, "orrery_agent_devices");
    let to = lab.pod("p3-0").expect("a pod").netns().name().to_owned();
    let node = lab.node("n1").expect("node n1").name();
    let silence = while_sending(&lab, &receiver, || {
        let lines: String = (0..DEVICES).map(|index| device(&format!("b{index}"), GROUP, &to)).collect();
        batch(&lab, "many.ip", &lines);
        let start = Instant::now();
        let all = || (metric(&agent, "orrery_agent_devices") == before + DEVICES).then_some(());
        wait_for("all are watched", Duration::from_secs(60), all)
            .unwrap_or_else(|error| panic!("{error}: {}", metric(&agent, "orrery_agent_devices")));
        println!("{DEVICES} devices watched after {:?}", start.elapsed());
    });
    println!("nothing new was told for {silence:?} at the most");
    assert!(silence < QUIET, "{silence:?}");
    assert_eq!(metric(&agent, "orrery_agent_blind_spots"), 0);
    // The kernel waits as long to remove them, and holds everybody's devices meanwhile.
    let _quick = Expedited::set();
    assert!(run(node, &["link", "del", "group", &GROUP.to_string()]));
    let gone = || (metric(&agent, "orrery_agent_devices") == before).then_some(());
    wait_for("all are gone", SETTLE, gone).expect("they are");
}

/// Grace periods without waiting, where the kernel has the switch; as before once dropped.
struct Expedited;

impl Expedited {
    const SWITCH: &str = "/sys/kernel/rcu_expedited";

    fn set() -> Self {
        let _ = std::fs::write(Self::SWITCH, "1");
        Self
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::SWITCH, "0");
    }
}

/// Devices that come and go faster than they can be attached to cost the others nothing.
#[test]
fn a_hundred_device_changes_a_second_harm_nobody() {
    const ROUNDS: u64 = 50;
    const AT_ONCE: u64 = 5;
    let Some((lab, receiver, agent)) = start() else { return };
    let before = metric(&agent, "orrery_agent_devices");
    let to = lab.pod("p3-0").expect("a pod").netns().name().to_owned();
    let node = lab.node("n1").expect("node n1").name();
    let silence = while_sending(&lab, &receiver, || {
        let start = Instant::now();
        for round in 0..ROUNDS {
            // Every other group stays for one round: some are attached to before they go.
            let group = GROUP + u32::try_from(round % 2).expect("small");
            let lines: String = (0..AT_ONCE).map(|index| device(&format!("c{round}x{index}"), group, &to)).collect();
            batch(&lab, "changes.ip", &lines);
            run(node, &["link", "del", "group", &(GROUP + u32::from(group == GROUP)).to_string()]);
            let next = Duration::from_millis(100) * u32::try_from(round + 1).expect("small");
            std::thread::sleep(next.saturating_sub(start.elapsed()));
        }
        let changes = (ROUNDS * AT_ONCE * 2) as f64;
        println!("{:.0} device changes a second, of 100", changes / start.elapsed().as_secs_f64());
        for group in [GROUP, GROUP + 1] {
            run(node, &["link", "del", "group", &group.to_string()]);
        }
        let gone = || (metric(&agent, "orrery_agent_devices") == before).then_some(());
        wait_for("the agent knows what is there", SETTLE, gone)
            .unwrap_or_else(|error| panic!("{error}: {}", metric(&agent, "orrery_agent_devices")));
    });
    println!("nothing new was told for {silence:?} at the most");
    let told = || {
        let report = receiver.latest("n1").unwrap_or_default();
        let there = report.devices.into_iter().filter(|device| !device.gone);
        let mut names: Vec<_> = there.map(|device| (device.name, device.tier)).collect();
        names.sort_unstable();
        names
    };
    let pod = lab.pod("p1-0").expect("a pod").device().to_owned();
    let tcx = i32::from(Tier::Tcx);
    // One that went while it was attached to is no reason to look for a lesser tier.
    let wanted = [("eth0".to_owned(), tcx), (pod, tcx), ("vxlan0".to_owned(), tcx)];
    wait_for("what is there is told", SETTLE, || (told() == wanted).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", told()));
}

/// What several senders have sent, by the client's own ledger, once all are done.
fn together(senders: u16, send: impl Fn(u16) + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let send = &send;
            scope.spawn(move || send(sender));
        }
    });
    start.elapsed()
}

/// Flow map and ring fill; what finds no room in either is counted.
#[test]
fn a_million_new_flows_a_minute_are_seen_or_counted() {
    // Many with few ports each: a port that is drawn again is no new flow.
    const SENDERS: u16 = 16;
    const EACH: u64 = 8_000;
    const A_SECOND: f64 = 1_000_000.0 / 60.0;
    let Some((lab, receiver, agent)) = start() else { return };
    let client = lab.pod("p1-0").expect("a client");
    // To the node itself, which drops it in silence: past one hook, so that every packet is lost once at the most.
    let node: std::net::IpAddr = [172, 30, 1, 2].into();
    let table = "add table ip flood; add chain ip flood in { type filter hook prerouting priority 0; }; \
                 add rule ip flood in udp dport 7000-7099 drop";
    let nft = Command::new("ip").args(["netns", "exec", lab.node("n1").expect("n1").name(), "nft", table]).status();
    assert!(nft.expect("nft runs").success());
    let begun = || metric(&agent, "orrery_agent_events_total");
    let before = begun();
    let took = together(SENDERS, |sender| {
        let to = (node, 7000 + sender).into();
        let pps = A_SECOND * 1.2 / f64::from(SENDERS);
        client.udp(UdpSend { per_port: 1, ..UdpSend::new(to, EACH, 50, pps) }).expect("flows");
    });
    let sent = u64::from(SENDERS) * EACH;
    let seen = || {
        let edge = |port| Edge { client: client.v4(), server: node, port, protocol: Protocol::Udp };
        (0..SENDERS).map(|sender| receiver.edge(&edge(7000 + sender), Side::Client, &client).skbs.0).sum::<u64>()
    };
    let all = || (seen() + lost(&receiver, LossCause::MapFull) == sent).then_some(());
    wait_for("seen and lost to be what was sent", SETTLE, all).unwrap_or_else(|error| {
        panic!("{error}: sent {sent}, seen {}, lost {}", seen(), lost(&receiver, LossCause::MapFull))
    });
    // A packet is lost only where it finds no entry, and no room for one: the first of a flow.
    let new = begun() - before + lost(&receiver, LossCause::MapFull);
    println!(
        "{:.0} new flows a second, of {A_SECOND:.0}, in {sent} packets; {} packets lost and counted",
        new as f64 / took.as_secs_f64(),
        lost(&receiver, LossCause::MapFull)
    );
    assert!(new > sent / 2, "most of them were new flows: {new} of {sent}");
}

/// Every connection is in the sockets' facts, every packet in an edge or counted as lost.
#[test]
fn ten_thousand_connections_a_second_are_seen_or_counted() {
    const SENDERS: u16 = 4;
    const EACH: u64 = 10_000;
    let Some((lab, receiver, _agent)) = start() else { return };
    let client = lab.pod("p1-0").expect("a client");
    // In the node's own namespace: past one hook, so that every packet is lost once at the most.
    let server = PodSpec::new("lab", Owner::DaemonSet("host".to_owned()), 0, "n1");
    let server = lab.add_host_pod(&server).expect("a host pod");
    for sender in 0..SENDERS {
        server.serve_tcp(7000 + sender).expect("tcp");
    }
    let edge = |port| Edge { client: client.v4(), server: server.v4(), port, protocol: Protocol::Tcp };
    let edges: Vec<Edge> = (0..SENDERS).map(|sender| edge(7000 + sender)).collect();
    // Nothing is longer than a segment, so what nft counts in the pod is what passes its device.
    let counters = EdgeCounters::install(&lab, client.v4(), &edges).expect("counters");
    let took = together(SENDERS, |sender| {
        let to = (server.v4(), 7000 + sender).into();
        client.tcp(TcpSend { to, connections: EACH, send: 0, receive: 0 }).expect("connections");
    });
    let connections = u64::from(SENDERS) * EACH;
    println!("{:.0} connections a second, of 10,000", connections as f64 / took.as_secs_f64());
    let seen = || {
        let each = edges.iter().map(|edge| receiver.edge(edge, Side::Client, &client).skbs);
        each.map(|(forward, reverse)| forward + reverse).sum::<u64>()
    };
    let carried = || {
        let counted = counters.read().expect("counters");
        counted.values().map(|(forward, reverse)| forward.packets + reverse.packets).sum::<u64>()
    };
    let sockets = || {
        let rows = receiver.rows().into_iter().filter(|(_, row)| row.side == i32::from(Side::Client));
        let told = rows.filter_map(|(_, row)| row.sockets);
        told.fold((0, 0), |sum, sockets| (sum.0 + sockets.attempts, sum.1 + sockets.established))
    };
    let losses = || [LossCause::MapFull, LossCause::HookMissed].map(|cause| lost(&receiver, cause));
    let all = || {
        let ([packets, facts], (attempts, established)) = (losses(), sockets());
        let told = attempts.max(established) <= connections && attempts.min(established) + facts >= connections;
        (told && seen() + packets == carried()).then_some(())
    };
    wait_for("all connections and packets", SETTLE, all).unwrap_or_else(|error| {
        panic!("{error}: {:?} of {connections}, seen {}, carried {}, lost {:?}", sockets(), seen(), carried(), losses())
    });
    assert_eq!(lost(&receiver, LossCause::SocketsFull), 0);
    println!("packets and facts lost and counted: {:?}", losses());
}
