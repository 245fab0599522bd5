//! An agent's life: how it starts or says why not, how it idles, and what it does at its bounds.

use std::{
    process::{Command, Output},
    time::Duration,
};

use agent::clock;
use lab::{
    AgentOptions, FullChain, IcmpSend, Lab, LabSpec, Offloads, Owner, PodSpec, Protocol, UdpSend, testing::lab_or_skip,
    wait_for,
};
use nix::sys::signal::Signal;
use wire::v1::{LossCause, Side, Tier};

use crate::reports::Receiver;

const AGENT: &str = env!("CARGO_BIN_EXE_orrery-agent");

fn in_node(lab: &Lab, program: &[&str], arguments: &[&str]) -> Output {
    let node = lab.node("n1").expect("node n1");
    Command::new("ip")
        .args(["netns", "exec", node.name()])
        .args(program)
        .args(arguments)
        .output()
        .expect("the agent runs")
}

fn fails(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(words.iter().all(|word| text.contains(word)) && !text.contains("panicked"), "{text}");
}

#[test]
fn a_start_that_cannot_be_says_why_and_what_to_do() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let socket = lab.dir().join("life.sock");
    let socket = socket.to_str().expect("a path in words");
    let common = ["--node", "n1", "--admin-socket", socket];
    let with = |more: &[&'static str]| [&common[..], more].concat();

    fails(&in_node(&lab, &[AGENT], &["--admin-socket", socket]), 64, &["hint: --node NAME"]);
    fails(
        &in_node(&lab, &[AGENT], &with(&["--collector", "ftp://x"])),
        64,
        &["hint: https://HOST:PORT, http://HOST:PORT or unix:PATH"],
    );
    fails(&in_node(&lab, &[AGENT], &with(&["--no-such-flag"])), 64, &["--no-such-flag"]);
    fails(&in_node(&lab, &[AGENT], &with(&["--devices", "eth77"])), 1, &["find device: eth77", "hint: `ip link`"]);
    fails(&in_node(&lab, &[AGENT], &with(&["--ebpf-object", "/no/such"])), 1, &["read eBPF object: /no/such"]);
    let no_bpf = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", AGENT];
    fails(&in_node(&lab, &no_bpf, &common), 1, &["hint: the agent needs the capabilities BPF, PERFMON and NET_ADMIN"]);

    let _first = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    let taken = lab.dir().join("agent-n1.sock");
    let taken = taken.to_str().expect("a path in words");
    fails(&in_node(&lab, &[AGENT], &["--node", "n1", "--admin-socket", taken]), 1, &["another agent answers there"]);
}

#[test]
fn an_idle_node_settles_to_the_slow_tick_and_a_new_pod_is_seen_at_once() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agent = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    let slow = || receiver.latest("n1").filter(|report| report.next_tick_ms == 2_000);
    wait_for("the slow tick", Duration::from_secs(15), slow).expect("the slow tick");
    let count = || receiver.with(|heard| heard.reports);
    let (before, window) = (count(), Duration::from_secs(6));
    std::thread::sleep(window);
    assert!(count() - before <= 5, "{} reports in {window:?}", count() - before);

    // When the device appears in the node, to ten milliseconds.
    let node = lab.node("n1").expect("node n1");
    let names = || nix::net::if_::if_nameindex().expect("the devices").iter().count();
    let (pods, there_ns) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            node.run(|| {
                let before = names();
                wait_for("a device more", Duration::from_secs(10), || {
                    (names() > before).then(|| clock::wall(0).unix_ns(clock::monotonic_ns()))
                })
            })
        });
        std::thread::sleep(Duration::from_millis(100));
        let owner = Owner::Deployment("late".to_owned());
        let pods = lab.add_pods(&[PodSpec::new("shop", owner, 0, "n1")]).expect("a pod");
        (pods, watcher.join().expect("the watcher").expect("in n1").expect("a device more"))
    });
    let device = wait_for("the pod's device", Duration::from_secs(5), || {
        let report = receiver.latest("n1")?;
        report.devices.into_iter().find(|device| device.name == pods[0].device())
    })
    .expect("the pod's device");
    let late_ns = device.covered_since_unix_ns.saturating_sub(there_ns);
    assert!(late_ns <= 100_000_000, "attached {late_ns} ns after the device was there");
    lab.remove_pod(pods[0].name()).expect("the pod goes");
    wait_for("the device to go", Duration::from_secs(5), || {
        let report = receiver.latest("n1")?;
        report.devices.into_iter().find(|device| device.name == pods[0].device() && device.gone)
    })
    .expect("a vanished device is told");
}

#[test]
fn a_run_that_the_collector_has_closed_ends_so_that_a_new_one_begins() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let agent = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    wait_for("a report", Duration::from_secs(5), || receiver.latest("n1")).expect("a report");
    receiver.close();
    wait_for("the agent to end", Duration::from_secs(10), || agent.get("/healthz").is_err().then_some(()))
        .expect("the agent ends");
}

#[test]
fn a_refused_hook_is_a_blind_spot_and_the_rest_is_watched() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (blind, seen) = (lab.pod("p1-0").expect("a pod"), lab.pod("p1-1").expect("a pod"));
    let _full = FullChain::fill(lab.node("n1").expect("node n1"), blind.device()).expect("a full chain");
    let arguments = ["--tier", "tcx"].map(str::to_owned).to_vec();
    let _agent = lab.start_agent("n1", &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent");
    let report = wait_for("a report", Duration::from_secs(5), || receiver.latest("n1")).expect("a report");
    let device = |name: &str| report.devices.iter().find(|device| device.name == name).expect("both are told");
    assert_eq!(device(blind.device()).tier, i32::from(Tier::Unwatched));
    assert!(device(blind.device()).blind_spot.contains("tc_ingress"), "{}", device(blind.device()).blind_spot);
    assert_eq!(device(seen.device()).tier, i32::from(Tier::Tcx));
    assert!(report.refused_hooks[0].contains(blind.device()), "{:?}", report.refused_hooks);
    let edge = lab::Edge { client: seen.v4(), server: blind.v4(), port: 8, protocol: Protocol::Icmp };
    seen.icmp(IcmpSend { to: blind.v4(), count: 5, payload: 64, pps: 100.0 }).expect("pings pass all the same");
    wait_for("what the other device saw", Duration::from_secs(5), || {
        (receiver.edge(&edge, Side::Client, &seen).skbs == (5, 5)).then_some(())
    })
    .expect("the rest is watched");
}

/// A map of 64 flows, and far more than that: the rest goes through the ring, and where that is full as well, what is
/// in no edge is counted.
#[test]
fn a_full_map_and_a_full_ring_lose_nothing_uncounted() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let arguments = ["--max-flows", "64"].map(str::to_owned).to_vec();
    let agent = lab.start_agent("n1", &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent");
    let client = lab.pod("p1-0").expect("a client");
    // To the node itself, which drops it in silence: past one hook, so that every packet is lost once at the most.
    let node: std::net::IpAddr = [172, 30, 1, 2].into();
    let table = "add table ip full; add chain ip full in { type filter hook prerouting priority 0; }; \
                 add rule ip full in udp dport 7000 drop";
    assert!(in_node(&lab, &["nft"], &[table]).status.success());
    let to = (node, 7000).into();
    let edge = lab::Edge { client: client.v4(), server: node, port: 7000, protocol: Protocol::Udp };
    let flows = |number| {
        client.udp(UdpSend { per_port: 1, ..UdpSend::new(to, number, 50, 5_000.0) }).expect("flows");
        lab.ledger().expect("a ledger").get(&edge).expect("in the ledger").forward
    };
    let seen = || receiver.edge(&edge, Side::Client, &client);
    let lost = || {
        let report = receiver.latest("n1").unwrap_or_default();
        let map_full = i32::from(LossCause::MapFull);
        report.losses.into_iter().find(|loss| loss.cause == map_full).map_or(0, |loss| loss.count)
    };

    let sent = flows(2_000);
    wait_for("what was sent", Duration::from_secs(10), || {
        (seen().skbs.0 == sent.packets && seen().payload_bytes.0 == sent.payload_bytes).then_some(())
    })
    .unwrap_or_else(|_| panic!("sent {sent:?}, seen {:?}", seen()));
    assert_eq!(lost(), 0);

    // The ring holds some 14,000 events; nobody reads it now.
    agent.signal(Signal::SIGSTOP);
    let sent = flows(24_000);
    agent.signal(Signal::SIGCONT);
    wait_for("seen and lost to be what was sent", Duration::from_secs(10), || {
        (lost() > 0 && seen().skbs.0 + lost() == sent.packets).then_some(())
    })
    .unwrap_or_else(|_| panic!("sent {sent:?}, seen {:?}, lost {}", seen(), lost()));
}
