//! What a tracing program misses while it runs already: a drop in a softirq that interrupts the program at a drop in a
//! sender's own context, on one CPU. The kernel passes the second one over, and counts it.

use std::{
    net::UdpSocket,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lab::{AgentOptions, LabSpec, Netns, Offloads, testing::lab_or_skip, wait_for};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use wire::v1::{LossCause, Report};

use crate::reports::Receiver;

/// How long both may take to meet: they do so within a second, many times.
const LIMIT: Duration = Duration::from_secs(30);
/// What a sender's own rules drop, and what the receiver's do.
const OUT: u16 = 7_998;
const IN: u16 = 7_999;

fn nft(netns: &Netns, rules: &str) {
    let status = Command::new("ip").args(["netns", "exec", netns.name(), "nft", rules]).status().expect("nft runs");
    assert!(status.success(), "{rules}");
}

/// Sends datagrams from `netns` on one CPU until `over`; gives how many.
fn flood(netns: &Netns, cpu: usize, to: (std::net::IpAddr, u16), over: &AtomicBool) -> u64 {
    let send = || {
        let mut cpus = CpuSet::new();
        cpus.set(cpu).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("a CPU of its own");
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) {
            // What a rule at the output drops is an error here.
            let _ = socket.send_to(&[0; 64], to);
            sent += 1;
        }
        sent
    };
    netns.run(send).expect("in the pod")
}

#[test]
fn a_drop_within_a_drop_is_counted_as_missed() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        println!("skipped: one CPU, and it takes two to send and to be interrupted");
        return;
    }
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::Off)).expect("the lab comes up") else { return };
    let (victim, other) = (lab.pod("p1-0").expect("a pod"), lab.pod("p1-1").expect("a pod"));
    for (hook, port) in [("output", OUT), ("prerouting", IN)] {
        let chain = format!("add chain inet missed {hook} {{ type filter hook {hook} priority 0; }}");
        let rule = format!("add rule inet missed {hook} udp dport {port} counter drop");
        nft(victim.netns(), &format!("add table inet missed; {chain}; {rule}"));
    }
    // What arrives is worked on by the second CPU, whoever sent it.
    let steer =
        ["netns", "exec", victim.netns().name(), "sh", "-c", "echo 2 > /sys/class/net/eth0/queues/rx-0/rps_cpus"];
    let steered = Command::new("ip").args(steer).output().expect("ip runs");
    if !steered.status.success() {
        println!("skipped: this kernel steers no packets: {}", String::from_utf8_lossy(&steered.stderr).trim());
        return;
    }
    let receiver = Receiver::listen(&lab.reports_socket());
    let _agent = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    let missed = |report: &Report| {
        let cause = i32::from(LossCause::HookMissed);
        report.losses.iter().find(|loss| loss.cause == cause).map(|loss| loss.count)
    };
    let over = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let out = scope.spawn(|| flood(victim.netns(), 1, (other.v4(), OUT), &over));
        let into = scope.spawn(|| flood(other.netns(), 0, (victim.v4(), IN), &over));
        let told = wait_for("a missed hook", LIMIT, || missed(&receiver.latest("n1")?));
        over.store(true, Ordering::Relaxed);
        let sent = [out, into].map(|thread| thread.join().expect("it sends"));
        println!("{sent:?} datagrams sent");
        told
    });
    told.expect("a drop met another");
    let count = |text: &str| {
        let packets = text.split_whitespace().skip_while(|word| *word != "packets").nth(1)?;
        packets.parse::<u64>().ok()
    };
    let list = ["netns", "exec", victim.netns().name(), "nft", "list table inet missed"];
    let rules = String::from_utf8(Command::new("ip").args(list).output().expect("ip runs").stdout).expect("text");
    let dropped: u64 = rules.lines().filter(|line| line.contains("drop")).filter_map(count).sum();
    let seen = || {
        let of_nft = |drop: &wire::v1::Drop| matches!(drop.reason.as_str(), "netfilter_drop" | "unknown");
        let edges = receiver.rows().into_iter().flat_map(|(_, row)| row.drops);
        let others = receiver.latest("n1").into_iter().flat_map(|report| report.drops);
        edges.chain(others).filter(of_nft).map(|drop| drop.segments).sum::<u64>()
    };
    let unseen = || receiver.latest("n1").and_then(|report| missed(&report)).unwrap_or(0);
    // Of what was missed some may be others' drops: these hooks see the whole machine.
    wait_for("all that was dropped", LIMIT, || (seen() + unseen() >= dropped).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {dropped} dropped, {} seen, {} missed", seen(), unseen()));
    assert!(seen() <= dropped, "{dropped} dropped, {} seen", seen());
    println!("{dropped} dropped: {} seen, {} missed and counted", seen(), unseen());
}
