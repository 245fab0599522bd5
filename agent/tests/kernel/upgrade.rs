//! From one run of the agent to the next: no packet passes unseen, each run removes what is its own, and after a crash
//! `cleanup` removes what is ours and nothing else.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use lab::{
    Agent, AgentOptions, Lab, LabSpec, Offloads, Pod, Protocol, Reply, UdpSend, programs_on, testing::lab_or_skip,
    wait_for,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use wire::v1::{Device, Side};

use crate::reports::Receiver;

/// A BPF file system of this test's own.
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount(lab: &Lab) -> Self {
        let at = lab.dir().join("bpf");
        std::fs::create_dir(&at).expect("a folder");
        mount(Some("bpf"), &at, Some("bpf"), MsFlags::empty(), None::<&str>).expect("a BPF file system");
        Self(at)
    }

    fn pins(&self) -> PathBuf {
        self.0.join("orrery")
    }

    /// Everything pinned below.
    fn count(&self) -> usize {
        fn files(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
        }
        files(&self.pins())
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn start(lab: &Lab, name: &str, more: &[&str]) -> Agent {
    let arguments = more.iter().map(|argument| (*argument).to_owned()).collect();
    lab.start_agent("n1", &AgentOptions { arguments, name: Some(name.to_owned()), ..AgentOptions::default() })
        .expect("an agent")
}

fn cleanup(lab: &Lab, pins: &str) -> Output {
    let node = lab.node("n1").expect("node n1");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", node.name(), env!("CARGO_BIN_EXE_orrery-agent"), "cleanup", "--pin-path", pins]);
    command.output().expect("the agent runs")
}

/// The rows of a pod's device, one for each run of the agent, oldest first.
fn runs(receiver: &Receiver, pod: &Pod) -> Vec<Device> {
    receiver.with(|heard| {
        let of = heard.runs.values().filter_map(|report| report.devices.iter().find(|row| row.name == pod.device()));
        of.cloned().collect()
    })
}

/// Programs on both chains of a pod's device.
fn on(lab: &Lab, pod: &Pod) -> usize {
    programs_on(lab.node("n1").expect("node n1"), pod.device()).expect("the chains")
}

#[test]
fn an_upgrade_leaves_no_packet_unseen() {
    upgrade("tcx");
}

#[test]
fn an_upgrade_by_filters_leaves_no_packet_unseen() {
    upgrade("clsact");
}

#[test]
fn an_upgrade_on_the_cgroup_leaves_no_packet_unseen() {
    upgrade("cgroup-skb");
}

fn upgrade(tier: &str) {
    let (tcx, sockets) = (tier == "tcx", tier == "cgroup-skb");
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let (receiver, bpf) = (Receiver::listen(&lab.reports_socket()), BpfFs::mount(&lab));
    let pins = bpf.pins();
    let pins = pins.to_str().expect("a path in words");
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    server.serve_udp(7000, Reply::Echo).expect("udp");
    let edge = lab::Edge { client: client.v4(), server: server.v4(), port: 7000, protocol: Protocol::Udp };
    let sent =
        || lab.ledger().expect("a ledger").get(&edge).map_or((0, 0), |all| (all.forward.packets, all.reverse.packets));
    let more = |packets: u64| {
        let before = sent().0;
        wait_for("traffic", Duration::from_secs(20), || (sent().0 > before + packets).then_some(())).expect("traffic");
    };

    let cgroup = lab.node_cgroup("n1").expect("a v2 hierarchy").display().to_string();
    let arguments = ["--tier", tier, "--pin-path", pins, "--scope-cgroup", &cgroup];
    let old = start(&lab, "old", &arguments);
    let flow = client.start_udp((server.v4(), 7000).into(), 200, 1_000.0).expect("a flow");
    more(500);
    let new = start(&lab, "new", &arguments);
    // A cgroup has no account that would have to end.
    let handed = || runs(&receiver, &client).first().filter(|row| row.gone || sockets).map(|_| ());
    wait_for("the first run to see that it was replaced", Duration::from_secs(10), handed).expect("handed over");
    more(500);
    let both = if tcx { 2 } else { 0 };
    assert_eq!(on(&lab, &client), both, "the second run's, and nobody else's");
    assert!(old.terminate().expect("the first run ends").success());
    assert_eq!(on(&lab, &client), both, "the first run removes only what it owns");
    more(500);
    flow.stop().expect("the flow stops");

    // To the packet, over both runs; and what the second calls unseen is what the first had seen.
    let seen = || receiver.edge(&edge, Side::Client, &client).skbs;
    wait_for("both runs together to have seen all", Duration::from_secs(10), || (seen() == sent()).then_some(()))
        .unwrap_or_else(|_| panic!("sent {:?}, seen {:?}", sent(), seen()));
    if !sockets {
        let carried = lab.device_stats("n1").expect("statistics")[client.device()];
        let whole = || {
            let [old, new] = <[Device; 2]>::try_from(runs(&receiver, &client)).ok()?;
            let [old, new] = [old, new].map(|row| row.ingress.unwrap_or_default());
            (new.carried_skbs == carried.rx_packets).then_some((old, new))
        };
        let (old, new_row) = wait_for("a last account", Duration::from_secs(10), whole).expect("two runs' accounts");
        assert_eq!(old.attach_gap_skbs + old.seen_skbs, new_row.attach_gap_skbs, "{old:?} {new_row:?}");
        assert_eq!(new_row.attach_gap_skbs + new_row.seen_skbs, new_row.carried_skbs, "{new_row:?}");
    }

    assert!(new.terminate().expect("the second run ends").success());
    assert_eq!((on(&lab, &client), bpf.count()), (0, 0), "a clean end leaves nothing");
}

#[test]
fn after_a_crash_the_next_run_or_cleanup_takes_what_was_left() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let (receiver, bpf) = (Receiver::listen(&lab.reports_socket()), BpfFs::mount(&lab));
    let pins = bpf.pins();
    let pins = pins.to_str().expect("a path in words");
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    server.serve_udp(7000, Reply::Sink).expect("udp");
    let send = || client.udp(UdpSend::new((server.v4(), 7000).into(), 400, 64, 4_000.0)).expect("datagrams");
    let carried = || lab.device_stats("n1").expect("statistics")[client.device()].rx_packets;

    // Pods say a little by themselves when they come up.
    let chatter = carried();
    start(&lab, "first", &["--pin-path", pins]).kill();
    assert_eq!(on(&lab, &client), 2, "pinned: still there, and only watching");
    send();
    let second = start(&lab, "second", &["--pin-path", pins]);
    assert_eq!(on(&lab, &client), 2, "taken over, not doubled");
    send();
    let account = || {
        let row = runs(&receiver, &client).pop()?.ingress?;
        let whole = row.carried_skbs == carried() && row.attach_gap_skbs + row.seen_skbs == row.carried_skbs;
        (whole && row.seen_skbs >= 400).then_some(row.attach_gap_skbs)
    };
    let unseen = wait_for("the second run's account", Duration::from_secs(10), account)
        .unwrap_or_else(|_| panic!("{:?}", runs(&receiver, &client)));
    let unread = unseen - chatter;
    assert!((400..410).contains(&unread), "{unread}: what the dead run counted nobody has read");
    second.kill();

    let said = cleanup(&lab, pins);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    // Both ways of the pod's device, the tunnel and the uplink.
    assert!(said.status.success() && text.matches("removed pin").count() == 6, "{said:?}");
    assert_eq!((on(&lab, &client), bpf.count()), (0, 0));
    let again = cleanup(&lab, pins);
    assert!(again.status.success() && again.stdout == b"nothing was left\n", "{again:?}");
    send();
}

#[test]
fn filters_of_a_dead_run_are_taken_over_or_cleaned_and_others_stay() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let client = lab.pod("p1-0").expect("a client");
    let device = client.device();
    let node = lab.node("n1").expect("node n1");
    let tc = |arguments: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", node.name(), "tc"]).args(arguments.split(' '));
        let output = command.output().expect("tc runs");
        assert!(output.status.success(), "tc {arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("tc prints text")
    };
    let show = || tc(&format!("filter show dev {device} ingress"));
    tc(&format!("qdisc add dev {device} clsact"));
    tc(&format!("filter add dev {device} ingress prio 9 protocol ip u32 match u32 0 0 classid 1:1"));
    let before = show();

    start(&lab, "first", &["--tier", "clsact"]).kill();
    assert_eq!(show().matches("orrery_ingress").count(), 1, "filters outlive their maker: {}", show());
    let second = start(&lab, "second", &["--tier", "clsact"]);
    assert_eq!(show().matches("orrery_ingress").count(), 1, "taken over, not doubled: {}", show());
    assert!(second.terminate().expect("the second run ends").success());
    assert_eq!(show(), before, "a clean end leaves the others'");

    start(&lab, "third", &["--tier", "clsact"]).kill();
    let said = cleanup(&lab, "off");
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("removed filter"), "{said:?}");
    assert_eq!(show(), before, "nothing of another's");
    // Nor is a tier above left with them.
    start(&lab, "fourth", &["--tier", "clsact"]).kill();
    let _fifth = start(&lab, "fifth", &[]);
    assert_eq!(show(), before, "an agent that needs no filter removes ours");

    // Where somebody is first, there is no place for us.
    drop(_fifth);
    tc(&format!("filter add dev {device} ingress prio 1 protocol ip u32 match u32 0 0 classid 1:1"));
    let _sixth = start(&lab, "sixth", &["--tier", "clsact"]);
    let refused = wait_for("a blind spot", Duration::from_secs(5), || {
        let row = runs(&receiver, &client).pop()?;
        (!row.blind_spot.is_empty()).then_some(row)
    })
    .expect("the device says why");
    assert!(refused.blind_spot.contains("u32") && refused.tier == i32::from(wire::v1::Tier::Unwatched), "{refused:?}");
}
