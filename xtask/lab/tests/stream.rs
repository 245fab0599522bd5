//! What a browser hears: a snapshot, then deltas; a new edge soon after its first packet; pods as they come and go.

use std::time::{Duration, Instant};

use lab::http1::{Event, Events};
use lab::testing::lab_or_skip;
use lab::{AgentOptions, CollectorOptions, LabSpec, Offloads, Owner, PodSpec, Reply, UdpSend};
use serde_json::Value;

/// Within which an edge has to be on the stream, on a machine that is busy with other tests.
const EDGE_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the pause between two heartbeats.
const SILENCE: Duration = Duration::from_secs(20);

/// Reads events until one fits; fails when none did in time.
fn next(events: &mut Events, within: Duration, what: &str, mut fits: impl FnMut(&Event) -> bool) -> Event {
    let start = Instant::now();
    loop {
        let event = events.next(SILENCE).expect("the stream is alive").expect("the stream goes on");
        if fits(&event) {
            return event;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
    }
}

/// Whether a delta brings a row with this text in its id.
fn brings(event: &Event, rows: &str, id: &str) -> bool {
    let delta: Value = serde_json::from_str(&event.data).expect("JSON");
    let upserts = delta[rows]["upsert"].as_array().cloned().unwrap_or_default();
    event.name == "delta" && upserts.iter().any(|row| row["id"].as_str().is_some_and(|found| found.contains(id)))
}

#[test]
fn a_browser_hears_of_new_edges_and_new_pods() {
    let Some(lab) = lab_or_skip(LabSpec::plain(1, Offloads::On)).expect("the lab comes up") else {
        return;
    };
    let collector = lab.start_collector(&CollectorOptions::default()).expect("a collector");
    let _agents = lab.start_agents(&AgentOptions::default()).expect("agents");
    let (client, server) = (lab.pod("p1-0").expect("a client"), lab.pod("p2-0").expect("a server"));
    let mut events = collector.events("pod", None).expect("a stream");
    let first = next(&mut events, SILENCE, "the first event", |_| true);
    assert_eq!(first.name, "snapshot");
    let mut took = Vec::new();
    for port in 7000..7020 {
        server.serve_udp(port, Reply::Sink).expect("udp");
        let start = Instant::now();
        client.udp(UdpSend::new((server.v4(), port).into(), 1, 10, 100.0)).expect("a datagram");
        next(&mut events, EDGE_WITHIN, "the new edge", |event| brings(event, "edges", &format!(":{port}/udp")));
        took.push(start.elapsed());
    }
    took.sort();
    println!(
        "a new edge is on the stream after {:?} (median), {:?} (worst of {})",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
    let late = PodSpec::new("lab", Owner::Deployment("late".to_owned()), 0, "n3");
    lab.add_pods(std::slice::from_ref(&late)).expect("a late pod");
    let heard = next(&mut events, EDGE_WITHIN, "the new pod", |event| brings(event, "vertices", &late.name));
    drop(events);
    // A browser that comes back goes on where it was.
    server.serve_udp(7020, Reply::Sink).expect("udp");
    let mut again = collector.events("pod", Some(&heard.id)).expect("a stream again");
    client.udp(UdpSend::new((server.v4(), 7020).into(), 1, 10, 100.0)).expect("a datagram");
    next(&mut again, EDGE_WITHIN, "the new edge, without a new snapshot", |event| {
        assert_eq!(event.name, "delta");
        brings(event, "edges", ":7020/udp")
    });
}
