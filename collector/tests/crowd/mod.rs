//! More than it can take: reports by bytes, by node and by time; streams that are not read, one of them and a thousand.

#![expect(clippy::disallowed_methods, reason = "what takes how long is measured here")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use collector::ingest::Admission;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use wire::{
    codec,
    v1::{Counters, Edge, Report},
};

use crate::{
    client::{Agent, Collector, Stream, report},
    unrun_hub,
};

const WAIT: Duration = Duration::from_secs(40);
/// Streams that are opened and never read.
const STALLED: usize = 1_000;

/// Edges of one node, with as many packets as the report's number.
fn many(node: &str, seq: u64, edges: u16) -> Report {
    let mut report = report(node, seq, seq - 1);
    let edge = Edge { first_seen_unix_ns: 1, ..report.edges[0].clone() };
    let forward = Some(Counters { skbs: seq, segments: seq, l3_bytes: seq, payload_bytes: 0 });
    let edges = (0..edges).map(|port| Edge { server_port: u32::from(port) + 1, forward, ..edge.clone() });
    report.edges = edges.collect();
    report
}

#[tokio::test]
async fn what_finds_no_bytes_is_told_to_come_again() {
    let body = codec::encode_report(&report("n1", 1, 0)).expect("encode");
    let none = || Arc::new(Semaphore::new(0));
    let exact = || Arc::new(Semaphore::new(body.len()));
    for (admission, refused) in [
        (Admission { reading: none(), ..Admission::default() }, true),
        (Admission { queued: none(), ..Admission::default() }, true),
        // At the bound it is let in: it waits for a hub that does not run.
        (Admission { reading: exact(), ..Admission::default() }, false),
    ] {
        let (_hub, metrics, address, serve) = unrun_hub(admission).await;
        let mut agent = Agent::connect(&address).await;
        let reply = timeout(Duration::from_secs(1), agent.post(&body)).await;
        assert_eq!(reply.as_ref().is_ok_and(|reply| reply.status == 503), refused);
        if let Ok(reply) = reply {
            assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
            assert!(metrics.text().contains("{reason=\"bytes\"} 1"));
        }
        serve.abort();
    }
}

#[tokio::test]
async fn a_node_has_one_place_in_the_queue() {
    let (hub, metrics, address, serve) = unrun_hub(Admission::default()).await;
    let body = codec::encode_report(&report("n1", 1, 0)).expect("encode");
    let mut first = Agent::connect(&address).await;
    first.send(&body).await;
    let mut second = Agent::connect(&address).await;
    // The first may still be on its way: then this one takes the place, and hangs.
    let reply = timeout(Duration::from_secs(5), second.post(&body)).await;
    let reply = match reply {
        Ok(reply) => reply,
        Err(_) => first.reply().await,
    };
    assert_eq!(reply.status, 503);
    assert!(metrics.text().contains("{reason=\"node_waits\"} 1"));
    // Another node's is let in beside it, and once the hub gets to them the place is free again.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let hub = tokio::spawn(hub.run(stopped));
    let mut third = Agent::connect(&address).await;
    for node in ["n2", "n1"] {
        let body = codec::encode_report(&report(node, 2, 0)).expect("encode");
        assert_eq!(third.post(&body).await.status, 200, "{node}");
    }
    stop.send_replace(true);
    hub.await.expect("no panic");
    serve.abort();
}

#[tokio::test]
async fn a_body_that_trickles_is_cut() {
    let admission = Admission { patience: Duration::from_millis(300), ..Admission::default() };
    let (_hub, metrics, address, serve) = unrun_hub(admission).await;
    let mut stream = TcpStream::connect(&address).await.expect("connect");
    stream.write_all(b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab").await.expect("write");
    let mut answer = Vec::new();
    timeout(WAIT, stream.read_to_end(&mut answer)).await.expect("cut in time").expect("read");
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    assert!(metrics.text().contains("{reason=\"slow\"} 1"));
    serve.abort();
}

/// A stream that is asked for and never read; its side of the kernel holds next to nothing.
async fn unread(collector: &Collector) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(collector.browser.parse().expect("address")).await.expect("connect");
    stream.write_all(b"GET /api/v1/stream?view=pod HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
    stream
}

/// Reports at 10 Hz, for ever.
async fn drive(mut agent: Agent, edges: u16) {
    for seq in 1.. {
        agent.post(&codec::encode_report(&many("n1", seq, edges)).expect("encode")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let collector = Collector::start(&["--stalled-ms", "1000"]).await;
    let driver = tokio::spawn(drive(collector.agent().await, 300));
    let stalled = unread(&collector).await;
    let mut healthy = collector.stream("pod", None).await;
    let cut = async {
        loop {
            healthy.event().await;
            if collector.get("/metrics").await.contains("stream_cut_clients_total 1") {
                return;
            }
        }
    };
    timeout(WAIT, cut).await.expect("cut in time");
    collector.until("/metrics", "stream_clients{view=\"pod\"} 1", WAIT).await;
    driver.abort();
    drop(stalled);
    collector.stop().await;
}

/// How many deltas come in three seconds, and how late the middle one is by its own time.
async fn pace(stream: &mut Stream) -> (usize, i64) {
    let (start, mut late) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(3) {
        let event = stream.event().await;
        let told = event.data["time_ms"].as_i64().expect("a time");
        late.push(collector::view::ms(collector::clock::now()) - told);
    }
    late.sort_unstable();
    (late.len(), late[late.len() / 2])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_stalled_clients_do_not_slow_a_healthy_one() {
    let collector = Collector::start(&[]).await;
    let driver = tokio::spawn(drive(collector.agent().await, 60));
    let mut healthy = collector.stream("pod", None).await;
    assert_eq!(healthy.event().await.name, "snapshot");
    let (alone, late_alone) = pace(&mut healthy).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(unread(&collector).await);
    }
    // Until their buffers are full they are read for by the kernel.
    collector.until("/metrics", &format!("stream_clients{{view=\"pod\"}} {}", STALLED + 1), WAIT).await;
    pace(&mut healthy).await;
    let (beside, late_beside) = pace(&mut healthy).await;
    println!("deltas in 3 s: {alone} alone, {beside} beside {STALLED}; late by {late_alone} and {late_beside} ms");
    assert!(beside * 5 >= alone * 4, "{beside} deltas in 3 s instead of {alone}");
    assert!(late_beside <= late_alone * 5 / 4 + 25, "late by {late_beside} ms instead of {late_alone}");
    driver.abort();
    drop(stalled);
    collector.stop().await;
}
