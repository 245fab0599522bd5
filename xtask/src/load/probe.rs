//! One edge that is reported by itself and followed by itself: how long a report takes to the stream beside all the others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lab::http1::Client;
use wire::codec;
use wire::v1::{ClockOffset, Counters, Edge, Report};

use super::world;

/// Its port, which no other edge has.
pub(super) const PORT: u16 = 7;
/// A probe is sent this often, out of step with the stream's ten steps a second.
const EVERY: Duration = Duration::from_millis(137);
/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(30);

/// What it found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// From sending to reading, sorted.
    pub(super) latencies: Vec<Duration>,
    /// Packets it told of.
    pub(super) told: u64,
}

/// Sends and reads until told to stop.
pub(super) fn run(browser: SocketAddr, reports: SocketAddr, stop: &Arc<AtomicBool>) -> anyhow::Result<Found> {
    let sent: Arc<Mutex<HashMap<u64, Instant>>> = Arc::default();
    let target = format!("/api/v1/stream?view=pod&filter=port:{PORT}");
    let mut events = Client::tcp(browser, WAIT)
        .and_then(|client| client.events("orrery", &target, ""))
        .context("follow the probe's view")?;
    let (over, waiting) = (Arc::clone(stop), Arc::clone(&sent));
    let reader = std::thread::spawn(move || {
        let mut latencies = Vec::new();
        while !over.load(Ordering::Relaxed) {
            // The heartbeat, or another node's row, comes in between; a stream that ends has nothing more to tell.
            let Ok(Some(event)) = events.next(WAIT) else { break };
            let now = Instant::now();
            let Ok(data) = serde_json::from_str::<serde_json::Value>(&event.data) else { continue };
            let rows = data["edges"]["upsert"].as_array().into_iter().flatten();
            for number in rows.filter_map(|row| row["client_side"]["forward"]["skbs"].as_u64()) {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                latencies.extend(waiting.remove(&number).map(|sent| now.duration_since(sent)));
                // What came before it was overtaken: its reading was joined with this one.
                waiting.retain(|earlier, _| *earlier > number);
            }
        }
        latencies
    });
    let told = tell(reports, &sent, stop)?;
    let mut latencies = reader.join().map_err(|_| anyhow::anyhow!("the probe's reader panicked"))?;
    latencies.sort_unstable();
    Ok(Found { latencies, told })
}

fn tell(reports: SocketAddr, sent: &Mutex<HashMap<u64, Instant>>, stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut client = Client::tcp(reports, WAIT).context("connect the probe's agent")?;
    let (epoch, mut told) = (world::now(), 0);
    for seq in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = codec::encode_report(&report(epoch, seq)).context("encode the probe's report")?;
        sent.lock().unwrap_or_else(PoisonError::into_inner).insert(seq, Instant::now());
        let answer = client.request("collector", wire::REPORT_PATH, &body).context("send the probe's report")?;
        if answer.status == 200 {
            told = seq;
        }
        std::thread::sleep(EVERY);
    }
    Ok(told)
}

fn report(epoch: u64, seq: u64) -> Report {
    let now = world::now();
    Report {
        version: wire::VERSION,
        node: "n-probe".to_owned(),
        epoch,
        seq,
        sent_unix_ns: now,
        sampled_unix_ns: now,
        complete: true,
        next_tick_ms: 1_000,
        clock: Some(ClockOffset { offset_ns: 0, error_ns: 100_000 }),
        edges: vec![Edge {
            client: vec![192, 0, 2, 1],
            server: vec![192, 0, 2, 2],
            server_port: u32::from(PORT),
            protocol: 17,
            side: 1,
            device: 1,
            incarnation: 1,
            forward: Some(Counters { skbs: seq, segments: seq, l3_bytes: seq * 100, payload_bytes: seq * 72 }),
            first_seen_unix_ns: epoch,
            forward_last_unix_ns: now,
            ..Edge::default()
        }],
        ..Report::default()
    }
}
