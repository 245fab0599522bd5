//! An agent that watches its own reports pass: they are on the map as what they are, and do not keep the agent awake.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::http1::Client;
use lab::testing::lab_or_skip;
use lab::{Agent, AgentOptions, LabSpec, Netns, Offloads, Reply, wait_for};
use serde_json::Value;

const REPORTS: u16 = 7381;
/// Inside the pod's namespace, where it is nobody else's.
const PAGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7380);
/// The agent's ticks, in milliseconds.
const FAST: u64 = 200;
const SLOW: u64 = 2_000;
/// Two seconds of quiet, after what a new lab still says by itself.
const SETTLE: Duration = Duration::from_secs(20);
/// Three slow reports: each of them passes the watched device, too.
const STAYS: Duration = Duration::from_secs(7);

/// What the agent's tick is now.
fn tick(agent: &Agent) -> u64 {
    let metrics = agent.get("/metrics").expect("metrics").body;
    let text = String::from_utf8(metrics).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("orrery_agent_tick_seconds "));
    let seconds: f64 = line.and_then(|number| number.parse().ok()).expect("the tick");
    (seconds * 1_000.0).round() as u64
}

/// The graph of a collector inside a namespace.
fn graph(netns: &Netns) -> Option<Value> {
    let ask = || Client::tcp(PAGE, SETTLE)?.request("orrery", "/api/v1/graph?view=pod", &[]);
    netns.run(ask).expect("the namespace").ok().and_then(|answer| answer.json().ok())
}

#[test]
fn own_reports_through_a_watched_device_do_not_keep_the_tick_fast() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else { return };
    let (home, other) = (lab.pod("p1-0").expect("a pod"), lab.pod("p2-0").expect("a pod"));
    let reports = SocketAddr::new(home.v4(), REPORTS).to_string();
    let mut command = Command::new(lab::binary("orrery-collector").expect("the collector"));
    command.args(["--listen", &PAGE.to_string(), "--report-listen", &reports, "--report-no-auth"]);
    command.args(["--cluster", "lab"]);
    let collector = lab.start("collector", command, Some(home.netns())).expect("a collector in a pod");
    wait_for("the collector answers", SETTLE, || graph(home.netns())).unwrap_or_else(|error| {
        panic!("{error}: {}", std::fs::read_to_string(collector.log()).unwrap_or_default());
    });
    let options = AgentOptions { collector: Some(format!("http://{reports}")), ..AgentOptions::default() };
    let agent = lab.start_agent("n1", &options).expect("an agent on the pod's node");

    let slow = || (tick(&agent) == SLOW).then_some(());
    wait_for("the agent's tick slows down", SETTLE, slow).expect("it does");
    let start = Instant::now();
    while start.elapsed() < STAYS {
        assert_eq!(tick(&agent), SLOW, "after {:?} of quiet", start.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    let graph = graph(home.netns()).expect("the graph");
    let edges = graph["edges"].as_array().expect("edges");
    let own: Vec<&Value> = edges.iter().filter(|edge| edge["port"] == REPORTS).collect();
    assert_eq!(own.len(), 1, "{edges:#?}");
    assert_eq!(own[0]["own"], true, "{}", own[0]);
    assert!(edges.iter().all(|edge| edge["port"] == REPORTS || edge["own"] == false), "{edges:#?}");
    assert_eq!(graph["nodes"][0]["tick_ms"], SLOW, "{}", graph["nodes"]);
    let carried = own[0]["server_side"]["forward"]["skbs"].as_u64().expect("a count");
    assert!(carried > 10, "the reports did pass the device: {}", own[0]);

    // What is not its own does wake it, and it goes back to sleep.
    other.serve_udp(7000, Reply::Sink).expect("udp");
    let flow = home.start_udp((other.v4(), 7000).into(), 100, 50.0).expect("a flow");
    wait_for("traffic wakes the agent", SETTLE, || (tick(&agent) == FAST).then_some(())).expect("it does");
    flow.stop().expect("it stops");
    wait_for("the agent's tick slows down again", SETTLE, slow).expect("it does");
}
