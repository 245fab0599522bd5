//! `cargo xtask bench latency`: from the first packet of a new edge to the first bytes on the stream that name it.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::http1::Events;
use lab::{AgentOptions, Call, Collector, CollectorOptions, Family, Lab, LabSpec, Load, Offloads};

/// The promise: half of all new edges are on the stream within this time.
const MOST_MEDIAN: Duration = Duration::from_millis(150);
/// First of the ports that are used, one an edge: below the ephemeral ones, so that each stays an edge of its own.
const FIRST_PORT: u16 = 10_000;
/// Ports up to where ephemeral ones begin.
pub(super) const MOST_EDGES: u16 = 20_000;
/// An edge that takes longer counts as missed.
const MISSED_AFTER: Duration = Duration::from_secs(10);
/// The stream's heartbeats come more often than this.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Receivers kept open behind the newest one, so that no packet meets a closed port.
const OPEN_RECEIVERS: usize = 8;

/// Who calls whom meanwhile: clients and servers on both nodes that are measured, none of them a pod that is.
const BACKGROUND: [(&str, &str); 3] = [("p1-1", "p2-1"), ("p2-1", "p3-0"), ("p3-1", "p1-1")];
/// Where.
const BACKGROUND_PORT: u16 = 9_000;
/// Connections a second on each of these edges.
const BACKGROUND_PER_SECOND: f64 = 4.0;

/// Measures so many new edges.
pub(super) fn run(edges: u16) -> anyhow::Result<()> {
    let lab = Lab::up(LabSpec::plain(2, Offloads::On))?;
    let collector = lab.start_collector(&CollectorOptions::default())?;
    let agents = lab.start_agents(&AgentOptions::default())?;
    background(&lab, &collector)?;
    let (client, server) = (lab.pod("p1-0")?, lab.pod("p2-0")?);
    let sender = client.netns().run(|| UdpSocket::bind((client.v4(), 0)))?.context("bind the sender")?;

    let (found, events) = sync_channel(1024);
    let stream = collector.events("pod", None)?;
    std::thread::spawn(move || follow(stream, &found));
    first_event(&events)?;

    println!("latency: {edges} new edges, from {} to {}", client.v4(), server.v4());
    println!(
        "meanwhile: {BACKGROUND_PER_SECOND} TCP connections a second on each of {} edges between others",
        BACKGROUND.len()
    );
    let mut receivers = VecDeque::with_capacity(OPEN_RECEIVERS);
    let mut times = Vec::with_capacity(usize::from(edges));
    let mut missed = 0_u32;
    for number in 0..edges {
        let to = SocketAddr::new(server.v4(), FIRST_PORT + number);
        if receivers.len() == OPEN_RECEIVERS {
            receivers.pop_front();
        }
        receivers.push_back(server.netns().run(|| UdpSocket::bind(to))?.context("bind a receiver")?);
        let sent = Instant::now();
        sender.send_to(b"first", to).context("send the first packet")?;
        match wait_for(&events, to.port(), sent)? {
            Some(time) => times.push(time),
            None => missed += 1,
        }
        std::thread::sleep(pause(number));
    }
    drop(agents);
    times.sort_unstable();
    verdict(&times, missed)
}

/// Short connections between other pods of the same nodes, on edges that are known before anything is measured: a cluster
/// is never silent, and each connection makes events of its own.
fn background(lab: &Lab, collector: &Collector) -> anyhow::Result<()> {
    for (client, server) in BACKGROUND {
        let (client, server) = (lab.pod(client)?, lab.pod(server)?);
        server.serve_tcp(BACKGROUND_PORT)?;
        client.load(Load {
            to: server.v4().to_string(),
            port: BACKGROUND_PORT,
            call: Call::Tcp { send: 200, receive: 2_000 },
            per_second: BACKGROUND_PER_SECOND,
            swing: 0.3,
            family: Family::V4,
        })?;
    }
    lab::wait_for("the background is on the graph", MISSED_AFTER, || {
        let graph = collector.graph("pod").ok()?;
        let known = graph["edges"].as_array()?.iter().filter(|edge| edge["port"] == BACKGROUND_PORT);
        (known.count() == BACKGROUND.len()).then_some(())
    })?;
    Ok(())
}

/// Hands on each event of the stream with the time at which it was read.
fn follow(mut stream: Events, found: &SyncSender<(Instant, String)>) {
    while let Ok(Some(event)) = stream.next(SILENT_FOR) {
        if found.send((Instant::now(), event.data)).is_err() {
            return;
        }
    }
}

/// The snapshot comes first: from then on the stream is open.
fn first_event(events: &Receiver<(Instant, String)>) -> anyhow::Result<()> {
    events.recv_timeout(MISSED_AFTER).map(drop).context("the stream sent no snapshot")
}

/// How long it took until an event named the edge to `port`; `None` when none did in time.
fn wait_for(events: &Receiver<(Instant, String)>, port: u16, sent: Instant) -> anyhow::Result<Option<Duration>> {
    let named = format!(":{port}/udp\"");
    loop {
        let left = MISSED_AFTER.saturating_sub(sent.elapsed());
        match events.recv_timeout(left) {
            Ok((read, data)) if data.contains(&named) => {
                return Ok(Some(read.duration_since(sent)));
            }
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the stream ended"),
        }
    }
}

/// Between two edges: uneven, so that the packets do not fall into step with a tick, and long enough to stay below the
/// agent's bound on immediate reports.
fn pause(number: u16) -> Duration {
    let spread = u64::from(number.wrapping_mul(40_503)) % 90;
    Duration::from_millis(60 + spread)
}

fn verdict(sorted: &[Duration], missed: u32) -> anyhow::Result<()> {
    println!("{}  dev profile", super::machine());
    if sorted.is_empty() {
        bail!("none of {missed} edges came");
    }
    let [p50, p90, p99] = [50, 90, 99].map(|percent| percentile(sorted, percent));
    println!(
        "p50 {:.1} ms  p90 {:.1} ms  p99 {:.1} ms  of {} edges, {missed} missed",
        p50.as_secs_f64() * 1e3,
        p90.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
        sorted.len()
    );
    if missed > 0 {
        bail!("{missed} edges were not on the stream within {} s", MISSED_AFTER.as_secs());
    }
    if p50 > MOST_MEDIAN {
        bail!("p50 is above {} ms", MOST_MEDIAN.as_millis());
    }
    Ok(())
}

/// The smallest value that is not below `percent` of all (nearest rank).
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::{pause, percentile, verdict};
    use std::time::Duration;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 50), Duration::from_millis(1));
    }

    #[test]
    fn a_slow_median_and_a_missed_edge_fail() {
        assert!(verdict(&[Duration::from_millis(150)], 0).is_ok());
        assert!(verdict(&[Duration::from_millis(151)], 0).is_err());
        assert!(verdict(&[Duration::from_millis(1)], 1).is_err());
        assert!(verdict(&[], 0).is_err());
    }

    #[test]
    fn pauses_stay_below_the_bound_on_immediate_reports_and_differ() {
        let pauses: Vec<_> = (0..500).map(pause).collect();
        assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(50)));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
