//! The whole collector on real sockets, port 0.

mod client;
mod crowd;
mod past_hour;
mod state;
mod views;

use std::{sync::Arc, time::Duration};

use client::{Agent, Collector, report};
use collector::{
    auth::reports::{Gate, Rules},
    http::{Inlet, Ready, report_router},
    hub::{Hub, REPORT_QUEUE, Setup},
    ingest::{Admission, Ingest},
    merge::Bounds,
    metrics::Metrics,
    stream::MAX_CLIENTS,
};
use tokio::sync::Semaphore;
use wire::{
    codec,
    v1::{Edge, Report},
};

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_report_becomes_a_graph() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    let reply = agent.post(&codec::encode_report(&report("n1", 1, 0)).expect("encode")).await;
    assert_eq!(reply.status, 200);
    let ack = codec::decode_ack(&reply.body).expect("an ack");
    assert!(ack.resync && ack.seq == 1 && ack.server_unix_ns > 0);
    // A re-send in a live epoch is taken like the first.
    let mut again = report("n1", 1, 0);
    again.collector_run = ack.collector_run;
    let reply = agent.post(&codec::encode_report(&again).expect("encode")).await;
    assert!(!codec::decode_ack(&reply.body).expect("an ack").resync);
    let graph = collector.graph("pod").await;
    assert_eq!(graph["edges"][0]["client_side"]["forward"]["skbs"], 10);
    assert_eq!(graph["edges"][0]["loss"]["status"], "one-sided");
    assert_eq!(graph["edges"][0]["loss"]["why"], "no agent sees 10.0.1.1");
    assert!(graph["edges"][0]["loss"]["forward_lost"].is_null());
    collector.stop().await;
}

#[tokio::test]
async fn bad_bodies_are_refused_on_a_connection_that_stays() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    let good = codec::encode_report(&report("n1", 1, 0)).expect("encode");
    let mut version = report("n1", 1, 0);
    version.version = 9;
    let mut invalid = report("n1", 1, 0);
    invalid.edges[0].client = vec![1, 2, 3];
    for (body, status, reason) in [
        (good[..good.len() / 2].to_vec(), 400, "unpack report"),
        (b"not a report".to_vec(), 400, "unpack report"),
        (vec![], 400, ""),
        (codec::encode_report(&version).expect("encode"), 400, "hint"),
        (codec::encode_report(&invalid).expect("encode"), 400, "address is not 4 or 16 bytes"),
        (vec![7; codec::MAX_BODY_BYTES + 1], 413, "too large"),
        (good.clone(), 200, ""),
    ] {
        let reply = agent.post(&body).await;
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, status, "{text}");
        assert!(text.contains(reason) || status == 200, "{text}");
    }
    let metrics = collector.get("/metrics").await;
    for label in ["body_too_large", "zstd", "version", "invalid"] {
        assert!(
            metrics.contains(&format!("orrery_collector_ingest_refused_reports_total{{reason=\"{label}\"}}")),
            "{label}"
        );
    }
    collector.stop().await;
}

#[tokio::test]
async fn what_is_behind_the_mark_is_refused() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    for (seq, acked, status) in [(1, 0, 200), (2, 1, 200), (1, 0, 409), (2, 1, 200), (3, 2, 200), (2, 1, 409)] {
        let reply = agent.post(&codec::encode_report(&report("n1", seq, acked)).expect("encode")).await;
        assert_eq!(reply.status, status, "seq {seq}, mark {acked}");
    }
    assert!(collector.get("/metrics").await.contains("{reason=\"behind_mark\"} 2"));
    collector.stop().await;
}

/// A hub that nobody runs yet, and the way for reports to it.
async fn unrun_hub(admission: Admission) -> (Hub, Arc<Metrics>, String, tokio::task::JoinHandle<std::io::Result<()>>) {
    let metrics = Arc::new(Metrics::default());
    let (directive, heard) = tokio::sync::watch::channel(None);
    let (hub, handle) = Hub::new(Setup {
        run: 1,
        cluster: "test".to_owned(),
        bounds: Bounds::default(),
        history: collector::history::Span::default(),
        restored: None,
        writer: None,
        names_source: "none",
        directive,
        clock: collector::clock::now,
        metrics: Arc::clone(&metrics),
    });
    let ingest = Ingest {
        hub: handle,
        metrics: Arc::clone(&metrics),
        admission: Arc::new(admission),
        recorder: None,
        directive: heard,
        run: 1,
        clock: collector::clock::now,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let inlet = Inlet { ingest, ready: Ready::default() };
    let gate = Arc::new(Gate::new(Rules::default(), Arc::clone(&metrics), collector::clock::now).expect("no files"));
    let serve = tokio::spawn(async move { axum::serve(listener, report_router(inlet, gate)).await });
    (hub, metrics, address, serve)
}

#[tokio::test]
async fn a_body_that_gets_no_turn_is_told_to_come_again() {
    let (_hub, metrics, address, serve) =
        unrun_hub(Admission { turns: Arc::new(Semaphore::new(0)), ..Admission::default() }).await;
    let mut agent = Agent::connect(&address).await;
    let reply = agent.post(&codec::encode_report(&report("n1", 1, 0)).expect("encode")).await;
    assert_eq!(reply.status, 503);
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
    assert!(metrics.text().contains("{reason=\"busy\"} 1"));
    serve.abort();
}

/// A hub that does not get to its queue: the sixty-fifth report is told to come again, and the connection stays.
#[tokio::test]
async fn a_full_queue_is_a_503() {
    let (hub, metrics, address, serve) = unrun_hub(Admission::default()).await;
    let body = |node: usize| codec::encode_report(&report(&format!("n{node}"), 1, 0)).expect("encode");
    let mut waiting = Vec::new();
    for node in 0..REPORT_QUEUE {
        let mut agent = Agent::connect(&address).await;
        agent.send(&body(node)).await;
        waiting.push(agent);
    }
    let mut further = REPORT_QUEUE..;
    let mut agent = Agent::connect(&address).await;
    let reply = loop {
        // The sixty-four may still be on their way: until they are queued, this one takes a place and waits with them.
        match tokio::time::timeout(Duration::from_secs(4), agent.post(&body(further.next().unwrap_or(0)))).await {
            Ok(reply) => break reply,
            Err(_) => agent = Agent::connect(&address).await,
        }
    };
    assert_eq!(reply.status, 503);
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
    assert!(metrics.text().contains("{reason=\"queue_full\"} 1"));
    // Once the hub gets to it, all are answered, and the same connection is taken.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let hub = tokio::spawn(hub.run(stopped));
    for agent in &mut waiting {
        assert_eq!(agent.reply().await.status, 200);
    }
    assert_eq!(agent.post(&body(0)).await.status, 200);
    stop.send_replace(true);
    hub.await.expect("no panic");
    serve.abort();
}

/// A run that was followed by sixty-four others is folded, however young; only this and the mark are answered with 409.
#[tokio::test]
async fn a_folded_epoch_is_a_409() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    let run = |epoch| Report { epoch, ..report("n1", 1, 0) };
    for epoch in 1..=65 {
        assert_eq!(agent.post(&codec::encode_report(&run(epoch)).expect("encode")).await.status, 200);
    }
    let reply = agent.post(&codec::encode_report(&run(1)).expect("encode")).await;
    let text = String::from_utf8_lossy(&reply.body);
    assert!(reply.status == 409 && text.contains("folded; hint"), "{text}");
    assert!(collector.get("/metrics").await.contains("{reason=\"folded_epoch\"} 1"));
    // The runs after it are still open.
    let next = Report { seq: 2, ..run(2) };
    assert_eq!(agent.post(&codec::encode_report(&next).expect("encode")).await.status, 200);
    collector.stop().await;
}

#[test]
fn a_port_in_use_ends_the_collector_with_a_hint() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = held.local_addr().expect("address").to_string();
    for (listen, reports, hint) in
        [(address.as_str(), "127.0.0.1:0", "--listen"), ("127.0.0.1:0", address.as_str(), "--report-listen")]
    {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_orrery-collector"))
            .args(["--listen", listen, "--report-listen", reports])
            .output()
            .expect("run");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(&format!("hint: choose another port with {hint}")), "{words}");
    }
}

#[tokio::test]
async fn the_client_bound_holds() {
    let collector = Collector::start(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..MAX_CLIENTS {
        streams.push(collector.stream("pod", None).await);
    }
    let refused = collector.get("/api/v1/stream").await;
    assert!(refused.contains("503") && refused.to_lowercase().contains("retry-after: 5"), "{refused}");
    streams.pop();
    collector.until("/metrics", "stream_refused_clients_total 1", WAIT).await;
    let mut again = collector.stream("pod", None).await;
    assert_eq!(again.event().await.name, "snapshot");
    collector.stop().await;
}

#[tokio::test]
async fn the_node_bound_holds() {
    let collector = Collector::start(&["--bound-nodes", "2"]).await;
    let mut agent = collector.agent().await;
    for (node, status) in [("n1", 200), ("n2", 200), ("n3", 507), ("n1", 200)] {
        let reply = agent.post(&codec::encode_report(&report(node, 1, 0)).expect("encode")).await;
        assert_eq!(reply.status, status, "{node}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn a_stream_is_a_snapshot_and_then_deltas() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    let mut stream = collector.stream("pod", None).await;
    let first = stream.event().await;
    assert_eq!(first.name, "snapshot");
    assert_eq!(first.data["edges"].as_array().map(Vec::len), Some(0));
    agent.post(&codec::encode_report(&report("n1", 1, 0)).expect("encode")).await;
    let delta =
        stream.until(|event| event.data["edges"]["upsert"].as_array().is_some_and(|edges| !edges.is_empty())).await;
    assert_eq!(delta.name, "delta");
    assert_eq!(delta.id, format!("{}-{}", delta.data["run"].as_str().expect("run"), delta.data["revision"]));
    // The client that was away gets what it missed, and nothing else.
    drop(stream);
    agent.post(&codec::encode_report(&edge_report(2, 2)).expect("encode")).await;
    let mut stream = collector.stream("pod", Some(&delta.id)).await;
    let mut revision = delta.data["revision"].as_u64().expect("revision");
    loop {
        let event = stream.event().await;
        assert_eq!((event.name.as_str(), event.data["base"].as_u64()), ("delta", Some(revision)));
        revision = event.data["revision"].as_u64().expect("revision");
        if event.data["edges"]["upsert"].to_string().contains("10.0.1.2") {
            break;
        }
    }
    // Another run's id, or another view's future, is answered with a snapshot.
    for id in [
        "0000000000000000-3".to_owned(),
        format!("{}-999999", delta.data["run"].as_str().expect("run")),
        "x".to_owned(),
    ] {
        assert_eq!(collector.stream("pod", Some(&id)).await.event().await.name, "snapshot");
    }
    collector.stop().await;
}

/// Asking for the graph again and again makes no deltas: between any two, new edges aside, are 100 ms.
#[tokio::test]
async fn polling_leaves_the_deltas_spaced() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    agent.post(&codec::encode_report(&report("n1", 1, 0)).expect("encode")).await;
    let first = report("n1", 1, 0).edges[0].first_seen_unix_ns;
    let mut stream = collector.stream("pod", None).await;
    for seq in 2..=60 {
        let mut report = report("n1", seq, seq - 1);
        report.edges[0].first_seen_unix_ns = first;
        report.edges[0].forward =
            Some(wire::v1::Counters { skbs: seq, segments: seq, l3_bytes: seq, payload_bytes: 0 });
        agent.post(&codec::encode_report(&report).expect("encode")).await;
        collector.graph("pod").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut times = Vec::new();
    while times.len() < 6 {
        let event = stream.event().await;
        if event.name == "delta" {
            times.push(event.data["time_ms"].as_i64().expect("time"));
        }
    }
    // The first may have been the new edge's.
    let gaps: Vec<i64> = times[1..].windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 95), "{gaps:?}");
    collector.stop().await;
}

fn edge_report(seq: u64, last: u8) -> Report {
    let mut report = report("n1", seq, seq - 1);
    report.edges = vec![Edge { server: vec![10, 0, 1, last], incarnation: seq, ..report.edges[0].clone() }];
    report
}

#[tokio::test]
async fn a_client_that_lags_gets_a_fresh_snapshot() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    let mut stream = collector.stream("pod", None).await;
    assert_eq!(stream.event().await.name, "snapshot");
    // Not read from until the socket's buffers and the lag bound are both full: every other delta is of many rows, though of
    // fewer than a crowd, which would wait.
    for seq in 1.. {
        if seq % 10 == 0 && deltas(&collector).await >= 80 {
            break;
        }
        assert!(seq < 4_000, "the stream stands still");
        let mut report = report("n1", seq, seq - 1);
        let edge = report.edges[0].clone();
        report.edges = (0..1_000u32)
            .map(|index| Edge {
                server: vec![10, 1, (index >> 8) as u8, index as u8],
                forward: Some(wire::v1::Counters { skbs: seq, segments: seq, l3_bytes: seq, payload_bytes: 0 }),
                incarnation: 1,
                ..edge.clone()
            })
            .collect();
        agent.post(&codec::encode_report(&report).expect("encode")).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
        // Every other tick is flushed at once by a new edge.
        agent.post(&codec::encode_report(&report_of_other(seq)).expect("encode")).await;
    }
    let event = stream.until(|event| event.name == "snapshot").await;
    assert!(event.data["edges"].as_array().is_some_and(|edges| edges.len() >= 1_000));
    assert!(collector.get("/metrics").await.contains("stream_lagged_clients_total 1"));
    collector.stop().await;
}

async fn deltas(collector: &Collector) -> u64 {
    let text = collector.get("/metrics").await;
    let name = "orrery_collector_stream_deltas_total{view=\"pod\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

fn report_of_other(seq: u64) -> Report {
    let mut report = report("n2", seq, seq - 1);
    report.edges[0].server = vec![10, 2, (seq >> 8) as u8, seq as u8];
    report.edges[0].incarnation = seq;
    report
}

#[tokio::test]
async fn shutdown_ends_streams() {
    let collector = Collector::start(&[]).await;
    let mut stream = collector.stream("node", None).await;
    assert_eq!(stream.event().await.name, "snapshot");
    let started = collector::clock::now();
    collector.stop().await;
    stream.end().await;
    assert!(collector::clock::now() - started < 3_000_000_000);
}

#[tokio::test]
async fn a_broken_pod_file_leaves_the_last_good_one() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("pods.json");
    let pods = |name: &str| {
        format!(
            r#"{{"kind":"List","items":[{{"kind":"Pod","metadata":{{"name":"{name}","namespace":"shop","uid":"{name}"}},
            "status":{{"phase":"Running","podIPs":[{{"ip":"10.0.0.1"}}]}}}}]}}"#
        )
    };
    let collector = Collector::start(&["--pods", path.to_str().expect("utf-8")]).await;
    assert!(collector.get("/readyz").await.contains("503"));
    std::fs::write(&path, pods("cart-1")).expect("write");
    collector.until("/readyz", "200 OK", WAIT).await;
    collector.until("/api/v1/graph", "pod:shop/cart-1", WAIT).await;
    std::fs::write(&path, "{ half").expect("write");
    let text = collector.until("/api/v1/graph", "\"state\":\"stale\"", WAIT).await;
    assert!(text.contains("pod:shop/cart-1") && text.contains("pods.json: parse pod list"), "{text}");
    std::fs::write(&path, pods("cart-2")).expect("write");
    let text = collector.until("/api/v1/graph", "pod:shop/cart-2", WAIT).await;
    assert!(text.contains("\"state\":\"fresh\""));
    collector.stop().await;
}

#[tokio::test]
async fn a_recording_plays_back_with_its_names() {
    let folder = tempfile::tempdir().expect("folder");
    let (pods, recording) = (folder.path().join("pods.json"), folder.path().join("tape"));
    let list =
        r#"{"items":[{"kind":"Pod","metadata":{"name":"cart-1","namespace":"shop"},"status":{"podIP":"10.0.0.1"}}]}"#;
    std::fs::write(&pods, list).expect("write");
    let (pods, recording) = (pods.to_str().expect("utf-8"), recording.to_str().expect("utf-8"));
    let collector = Collector::start(&["--pods", pods, "--record", recording]).await;
    collector.until("/readyz", "200 OK", WAIT).await;
    let mut agent = collector.agent().await;
    agent.post(&codec::encode_report(&report("n1", 1, 0)).expect("encode")).await;
    collector.stop().await;
    let replay = Collector::start(&["--replay", recording]).await;
    let text = replay.until("/api/v1/graph", "pod:shop/cart-1>external:10.0.1.1:80/tcp", WAIT).await;
    assert!(text.contains("\"source\":\"recording\""));
    replay.stop().await;
}

#[tokio::test]
async fn the_page_is_served_with_its_policy() {
    let collector = Collector::start(&[]).await;
    for path in ["/", "/pod/shop"] {
        let text = collector.get(path).await;
        assert!(text.contains("200 OK") && text.contains("text/html") && text.contains("default-src 'self'"), "{text}");
    }
    assert!(collector.get("/missing.js").await.contains("404"));
    assert!(collector.get("/api/v1/none").await.contains("404"));
    assert!(collector.get("/api/v1/graph?view=galaxy").await.contains("400"));
    assert!(collector.get("/healthz").await.contains("200 OK"));
    collector.stop().await;
}
