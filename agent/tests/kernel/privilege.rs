//! Least privilege: the agent with exactly the capabilities that its unit grants, and what is lost without each.

use std::{process::Command, time::Duration};

use lab::{Edge, Lab, LabSpec, Offloads, Process, Protocol, Reply, UdpSend, testing::lab_or_skip, wait_for};
use wire::v1::{Side, Tier};

use crate::reports::Receiver;

const AGENT: &str = env!("CARGO_BIN_EXE_orrery-agent");
/// The one place that lists the capabilities.
const UNIT: &str = include_str!("../../../deploy/orrery-agent.service");

/// What the unit grants: `CAP_BPF` as `bpf`.
fn granted() -> Vec<String> {
    let list = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("the unit bounds them");
    list.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

/// The agent on node n1 with these capabilities and no other, a root it cannot write to, and no way to gain any.
fn start(lab: &Lab, name: &str, capabilities: &[String]) -> Process {
    let set: String =
        std::iter::once("-all".to_owned()).chain(capabilities.iter().map(|cap| format!(",+{cap}"))).collect();
    let dir = lab.dir().display();
    let script = format!(
        "mount --bind {dir} {dir} && mount -o remount,bind,ro / && \
         exec setpriv --no-new-privs --bounding-set={set} --inh-caps={set} \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", AGENT, "--node", "n1", "--pin-path", "off"]);
    command.arg("--admin-socket").arg(lab.dir().join(format!("{name}.admin")));
    command.args(["--collector", &format!("unix:{}", lab.reports_socket().display())]);
    lab.start(name, command, Some(lab.node("n1").expect("node n1"))).expect("it starts")
}

fn log(process: &Process) -> String {
    std::fs::read_to_string(process.log()).expect("its log")
}

#[test]
fn what_the_unit_grants_is_enough_for_real_traffic() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let receiver = Receiver::listen(&lab.reports_socket());
    let agent = start(&lab, "least", &granted());
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    let device = || {
        let report = receiver.latest("n1")?;
        report.devices.into_iter().find(|device| device.name == client.device() && device.blind_spot.is_empty())
    };
    let device =
        wait_for("a watched device", Duration::from_secs(20), device).unwrap_or_else(|_| panic!("{}", log(&agent)));
    assert!(device.tier == i32::from(Tier::Tcx) || device.tier == i32::from(Tier::Clsact), "{device:?}");

    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("its status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim().to_owned();
    let effective = u64::from_str_radix(&field("CapEff:"), 16).expect("a number");
    assert_eq!(effective.count_ones() as usize, granted().len(), "exactly those: {effective:x}");
    assert_eq!(field("NoNewPrivs:"), "1");
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", agent.pid())).expect("its mounts");
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
    assert!(root.split(' ').nth(5).is_some_and(|flags| flags.starts_with("ro")), "{root}");

    server.serve_udp(7000, Reply::Echo).expect("udp");
    client
        .udp(UdpSend { replies: true, ..UdpSend::new((server.v4(), 7000).into(), 500, 200, 2_000.0) })
        .expect("datagrams");
    let edge = Edge { client: client.v4(), server: server.v4(), port: 7000, protocol: Protocol::Udp };
    wait_for("every packet", Duration::from_secs(20), || {
        (receiver.edge(&edge, Side::Client, &client).skbs == (500, 500)).then_some(())
    })
    .unwrap_or_else(|_| panic!("{:?}", receiver.edge(&edge, Side::Client, &client)));
}

/// Each of them is needed: without it the agent cannot start, and says what was refused.
#[test]
fn without_any_one_of_them_the_start_says_what_is_refused() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    // Newer kernels ask for BPF before they make any map; older ones let root make plain ones, and refuse the programs.
    let refused =
        [("bpf", "load "), ("perfmon", "load program: tc_ingress"), ("net_admin", "load program: tc_ingress")];
    let all = granted();
    assert_eq!(all.len(), refused.len(), "a line for each: {all:?}");
    println!();
    for (missing, words) in refused {
        assert!(all.iter().any(|capability| capability == missing), "{missing} is not granted any more");
        let rest: Vec<String> = all.iter().filter(|capability| *capability != missing).cloned().collect();
        let agent = start(&lab, &format!("without-{missing}"), &rest);
        let ended = wait_for("its end", Duration::from_secs(20), || agent.ended());
        let said = log(&agent);
        let status = ended.unwrap_or_else(|_| panic!("without {missing} it runs all the same: {said}"));
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains("hint: the agent needs the capabilities"), "{missing}: {said}");
        let line = said.lines().find(|line| line.contains(words)).unwrap_or_default();
        println!("without {missing}: {}", line.chars().take(160).collect::<String>());
    }
}
