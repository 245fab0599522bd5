//! A good neighbour: whatever else is on the devices keeps working, while we live, when we are killed, and after.

use std::{process::Command, time::Duration};

use agent::source::kernel::{facts::Types, load::Kernel};
use agent_ebpf::abi::DeviceTotals;
use lab::{AgentOptions, Lab, LabSpec, Offloads, Protocol, Reply, UdpSend, testing::lab_or_skip, wait_for};

use crate::reports::Receiver;

/// What `tc` shows of a device's qdiscs and filters, without the counters.
fn tc(lab: &Lab, device: &str) -> String {
    let node = lab.node("n1").expect("node n1");
    ["qdisc show dev", "filter show ingress dev", "filter show egress dev"]
        .map(|what| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", node.name(), "tc"]).args(what.split(' ')).arg(device);
            String::from_utf8(command.output().expect("tc runs").stdout).expect("tc prints text")
        })
        .concat()
}

fn run_tc(lab: &Lab, arguments: &str) {
    let node = lab.node("n1").expect("node n1");
    let status = Command::new("ip")
        .args(["netns", "exec", node.name(), "tc"])
        .args(arguments.split(' '))
        .status()
        .expect("tc runs");
    assert!(status.success(), "tc {arguments}");
}

#[test]
fn killed_and_started_again_it_touches_nothing_of_others() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    let (device, ifindex) = {
        let name = client.device().to_owned();
        let node = lab.node("n1").expect("node n1");
        let of = name.clone();
        let ifindex = node.run(move || nix::net::if_::if_nametoindex(of.as_str()).expect("the device")).expect("in n1");
        (name, ifindex)
    };
    // The others: a TCX program that counts, and legacy filters on a clsact qdisc.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut other = Kernel::load(1_024, None, &Types::read(0, false), None).expect("the other program loads");
    let node = lab.node("n1").expect("node n1");
    std::thread::scope(|_| {
        node.run(|| other.attach(ifindex, DeviceTotals::default())).expect("in n1").expect("the other attaches");
    });
    run_tc(&lab, &format!("qdisc add dev {device} clsact"));
    for way in ["ingress", "egress"] {
        run_tc(&lab, &format!("filter add dev {device} {way} prio 1 protocol ip u32 match u32 0 0 classid 1:1"));
    }
    let before = tc(&lab, &device);
    assert!(before.contains("clsact") && before.contains("u32"), "{before}");

    server.serve_udp(7000, Reply::Echo).expect("udp");
    let to = (server.v4(), 7000).into();
    let edge = lab::Edge { client: client.v4(), server: server.v4(), port: 7000, protocol: Protocol::Udp };
    let packets = |_: &str| {
        client.udp(UdpSend { replies: true, ..UdpSend::new(to, 2_000, 200, 4_000.0) }).expect("datagrams");
        assert_eq!(tc(&lab, &device), before);
    };

    packets("before our life");
    let agent = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    packets("during our life");
    // In the midst of traffic, as the kernel's memory killer would.
    let flow = client.start_udp(to, 200, 2_000.0).expect("a flow");
    let sent = || lab.ledger().expect("a ledger").get(&edge).map_or(0, |totals| totals.forward.packets);
    let started = sent();
    wait_for("traffic", Duration::from_secs(5), || (sent() > started + 500).then_some(())).expect("traffic");
    agent.kill();
    let killed = sent();
    wait_for("traffic after the kill", Duration::from_secs(5), || (sent() > killed + 500).then_some(()))
        .expect("traffic goes on");
    flow.stop().expect("the flow stops");
    assert_eq!(tc(&lab, &device), before);
    packets("after our death");
    let again = lab.start_agent("n1", &AgentOptions::default()).expect("an agent again");
    packets("in our second life");
    let status = again.terminate().expect("the agent ends");
    assert!(status.success(), "SIGTERM is a clean end: {status}");
    packets("after our clean end");

    // The other program saw every packet of both ways, all along.
    let ledger = lab.ledger().expect("a ledger");
    let totals = ledger.get(&edge).expect("in the ledger");
    let mut seen = (0, 0);
    wait_for("the other's counts", Duration::from_secs(5), || {
        seen = (0, 0);
        for (key, flow) in other.flows() {
            let way = if key.destination_port == 7000 { &mut seen.0 } else { &mut seen.1 };
            *way += if key.source_port == 7000 || key.destination_port == 7000 { flow.skbs } else { 0 };
        }
        (seen == (totals.forward.packets, totals.reverse.packets)).then_some(())
    })
    .unwrap_or_else(|_| panic!("the other program saw {seen:?} of {totals:?}"));
    // And ours left nothing of theirs out.
    assert!(receiver.latest("n1").is_some_and(|report| report.devices.iter().any(|found| found.name == device)));
}
