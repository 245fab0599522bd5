//! Somebody takes our programs off: it is noticed, they are put back where that may be, and the gap is in the account.

use std::{process::Command, time::Duration};

use lab::{
    AgentOptions, Guest, Lab, LabSpec, Offloads, Reply, UdpSend, Verdict, detach_all, testing::lab_or_skip, wait_for,
};
use wire::v1::{Device, Tier};

use crate::reports::Receiver;

/// Noticed and put back within this, as promised.
const NOTICED: Duration = Duration::from_secs(5);

fn tc(lab: &Lab, arguments: &str) {
    let node = lab.node("n1").expect("node n1");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", node.name(), "tc"]).args(arguments.split(' '));
    assert!(command.status().expect("tc runs").success(), "tc {arguments}");
}

/// A device's newest row.
fn row(receiver: &Receiver, name: &str) -> Option<Device> {
    let report = receiver.latest("n1")?;
    report
        .devices
        .into_iter()
        .filter(|device| device.name == name && !device.gone)
        .max_by_key(|device| device.incarnation)
}

/// What left the pod: all runs of a device seen, what the newest says was not, and what the kernel counted.
fn account(receiver: &Receiver, name: &str) -> Option<(u64, u64, u64)> {
    let report = receiver.latest("n1")?;
    let mut runs: Vec<_> = report.devices.into_iter().filter(|device| device.name == name).collect();
    runs.sort_by_key(|device| device.incarnation);
    let (mut seen, mut unseen, mut carried) = (0, 0, 0);
    // As the collector does: what passed between two runs is what the kernel had counted when the later began.
    for run in runs.iter().filter(|run| !run.unsettled && run.tier != i32::from(Tier::Unwatched)) {
        let way = run.ingress.unwrap_or_default();
        seen += way.seen_skbs;
        unseen += way.attach_gap_skbs.saturating_sub(carried);
        carried = way.carried_skbs;
    }
    Some((seen, unseen, carried))
}

fn taken_and_put_back(tier: &str, take: impl Fn(&Lab, &str)) {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    let device = client.device();
    server.serve_udp(7000, Reply::Sink).expect("udp");
    let arguments = ["--tier", tier].map(str::to_owned).to_vec();
    let _agent = lab.start_agent("n1", &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent");
    let to = (server.v4(), 7000).into();
    client.udp(UdpSend::new(to, 500, 64, 5_000.0)).expect("datagrams");
    let settled =
        || row(&receiver, device).filter(|row| !row.unsettled && row.ingress.unwrap_or_default().seen_skbs > 0);
    wait_for("a settled account", Duration::from_secs(10), settled).expect("a settled account");

    // Traffic goes on while they are off.
    let flow = client.start_udp(to, 64, 500.0).expect("a flow");
    take(&lab, device);
    wait_for("our programs to be back", NOTICED, || row(&receiver, device).filter(|row| row.reattached == 1))
        .expect("noticed and put back within 5 s");
    flow.stop().expect("the flow stops");
    let stats = lab.device_stats("n1").expect("the devices' statistics")[device];
    wait_for("seen and unseen to be what was carried", Duration::from_secs(10), || {
        let (seen, unseen, carried) = account(&receiver, device)?;
        (carried == stats.rx_packets && seen + unseen == carried).then_some(())
    })
    .unwrap_or_else(|_| panic!("account {:?}, the kernel counted {}", account(&receiver, device), stats.rx_packets));
    let (_, unseen, _) = account(&receiver, device).expect("an account");
    assert!(unseen < 500 * 5, "{unseen} packets unseen: more than 5 s of them");
}

#[test]
fn detached_links_are_noticed_and_put_back() {
    taken_and_put_back("tcx", |lab, device| {
        let taken = detach_all(lab.node("n1").expect("node n1"), device).expect("root may");
        assert_eq!(taken, 2, "ours, both ways");
    });
}

#[test]
fn deleted_filters_are_noticed_and_put_back() {
    // Every filter of one way, whoever owns it: what Cilium does.
    taken_and_put_back("clsact", |lab, device| tc(lab, &format!("filter del dev {device} ingress")));
}

#[test]
fn a_deleted_qdisc_is_noticed_and_made_again() {
    taken_and_put_back("clsact", |lab, device| tc(lab, &format!("qdisc del dev {device} clsact")));
}

/// A filter behind ours sends packets elsewhere: it does, and we see them all.
#[test]
fn a_filter_that_redirects_behind_ours_keeps_working() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (client, neighbour) = (lab.pod("p1-0").expect("a client"), lab.pod("p1-1").expect("its neighbour"));
    let server = lab.pod("p2-0").expect("a server");
    let (device, target) = (client.device(), neighbour.device());
    tc(&lab, &format!("qdisc add dev {device} clsact"));
    tc(
        &lab,
        &format!(
            "filter add dev {device} ingress prio 9 protocol ip u32 match ip dport 7002 0xffff \
             action mirred egress redirect dev {target}"
        ),
    );
    let carried = || lab.device_stats("n1").expect("statistics")[target].tx_packets;
    let send = |count| {
        let before = carried();
        client.udp(UdpSend::new((server.v4(), 7002).into(), count, 64, 3_000.0)).expect("datagrams");
        assert_eq!(carried() - before, count, "what is redirected goes where it was sent");
    };
    send(100);
    let arguments = ["--tier", "clsact"].map(str::to_owned).to_vec();
    let agent = lab.start_agent("n1", &AgentOptions { arguments, ..AgentOptions::default() }).expect("an agent");
    send(300);
    let edge = lab::Edge { client: client.v4(), server: server.v4(), port: 7002, protocol: lab::Protocol::Udp };
    let seen = || receiver.edge(&edge, wire::v1::Side::Client, &client).skbs.0;
    wait_for("all that was redirected behind us", Duration::from_secs(5), || (seen() == 300).then_some(()))
        .unwrap_or_else(|_| panic!("seen {}", seen()));
    assert!(agent.terminate().expect("the agent ends").success());
    send(100);
}

/// One in front that takes packets is told; one behind that drops or redirects does what it does, and we see it all.
#[test]
fn others_in_front_are_told_and_others_behind_keep_working() {
    let Some(lab) = lab_or_skip(LabSpec::plain(2, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let (client, neighbour) = (lab.pod("p1-0").expect("a client"), lab.pod("p1-1").expect("its neighbour"));
    let server = lab.pod("p2-0").expect("a server");
    let node = lab.node("n1").expect("node n1");
    let to_neighbour = neighbour.device().to_owned();
    let ifindex =
        node.run(move || nix::net::if_::if_nametoindex(to_neighbour.as_str()).expect("the device")).expect("in n1");
    let attach = |head, port, verdict| Guest::attach(node, client.device(), head, port, verdict).expect("a guest");
    // Before our life, and one at the tail in our life.
    let _drops = attach(true, 7001, Verdict::Drop);
    let _agent = lab.start_agent("n1", &AgentOptions::default()).expect("an agent");
    let _redirects = attach(false, 7002, Verdict::Redirect(ifindex));
    let carried = || lab.device_stats("n1").expect("statistics")[neighbour.device()].tx_packets;
    let before = carried();
    for port in [7001, 7002] {
        client.udp(UdpSend::new((server.v4(), port).into(), 300, 64, 3_000.0)).expect("datagrams");
    }
    assert_eq!(carried() - before, 300, "what is redirected goes where it was sent");
    let seen = |port| {
        let edge = lab::Edge { client: client.v4(), server: server.v4(), port, protocol: lab::Protocol::Udp };
        receiver.edge(&edge, wire::v1::Side::Client, &client).skbs.0
    };
    wait_for("all that was dropped or redirected behind us", Duration::from_secs(5), || {
        ((seen(7001), seen(7002)) == (300, 300)).then_some(())
    })
    .unwrap_or_else(|_| panic!("seen {} and {}", seen(7001), seen(7002)));

    // Now one goes in front of us.
    let in_front = attach(true, 7003, Verdict::Drop);
    let told = |row: &Device| row.blind_spot.contains("behind 1") && row.tier == i32::from(Tier::Tcx);
    let flow = client.start_udp((server.v4(), 7009).into(), 64, 100.0).expect("something to look at");
    wait_for("a word about it", Duration::from_secs(15), || row(&receiver, client.device()).filter(told))
        .expect("the device says that somebody is in front");
    client.udp(UdpSend::new((server.v4(), 7003).into(), 100, 64, 3_000.0)).expect("datagrams");
    drop(in_front);
    wait_for("silence about it", Duration::from_secs(15), || {
        row(&receiver, client.device()).filter(|row| row.blind_spot.is_empty())
    })
    .expect("the device is wholly seen again");
    assert_eq!(seen(7003), 0, "what the other took before us");
    flow.stop().expect("the flow stops");
}
