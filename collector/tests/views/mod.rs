//! Filtered views on real sockets: what a browser is sent, the bound on different views, and words for what is wrong.

use std::time::Duration;

use crate::client::{Collector, report};
use collector::hub::MAX_VIEWS;
use wire::{
    codec,
    v1::{Edge, Report},
};

const WAIT: Duration = Duration::from_secs(20);

/// Two edges, to ports 80 and 443, with as many packets as the report's number.
fn two(seq: u64) -> Report {
    let mut report = report("n1", seq, seq.saturating_sub(1));
    let edge = report.edges[0].clone();
    let forward = wire::v1::Counters { skbs: seq, segments: seq, l3_bytes: seq, payload_bytes: 0 };
    report.edges = [80, 443]
        .map(|port| Edge {
            server_port: port,
            forward: Some(forward),
            reverse: Some(forward),
            first_seen_unix_ns: 1,
            ..edge.clone()
        })
        .to_vec();
    report
}

fn ports(data: &serde_json::Value) -> Vec<u64> {
    data["edges"].as_array().into_iter().flatten().filter_map(|edge| edge["port"].as_u64()).collect()
}

#[tokio::test]
async fn a_filtered_stream_carries_what_it_shows_and_no_more() {
    let collector = Collector::start(&[]).await;
    let mut agent = collector.agent().await;
    agent.post(&codec::encode_report(&two(1)).expect("encode")).await;
    let mut stream = collector.stream("pod&filter=port:443", None).await;
    let first = stream.event().await;
    assert_eq!((first.name.as_str(), ports(&first.data)), ("snapshot", vec![443]));
    assert_eq!(first.data["hidden"]["edges"], 1);
    let mut revision = first.data["revision"].as_u64().expect("revision");
    for seq in 2..6 {
        agent.post(&codec::encode_report(&two(seq)).expect("encode")).await;
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    let last = loop {
        let delta = stream.event().await;
        assert_eq!((delta.name.as_str(), delta.data["base"].as_u64()), ("delta", Some(revision)));
        revision = delta.data["revision"].as_u64().expect("revision");
        let rows = delta.data["edges"]["upsert"].to_string();
        assert!(!rows.contains("\"port\":80,"), "{rows}");
        if rows.contains("\"skbs\":5}") {
            break delta.id;
        }
    };
    // Who was away goes on in the same view.
    drop(stream);
    let mut stream = collector.stream("pod&filter=port:443", Some(&last)).await;
    agent.post(&codec::encode_report(&two(6)).expect("encode")).await;
    let next = stream.event().await;
    assert_eq!((next.name.as_str(), next.data["base"].as_u64()), ("delta", Some(revision)));
    // Noise is left out and counted; the words of a filter may come in any order.
    let whole = collector.graph("pod&noise=hide").await;
    assert_eq!((ports(&whole), &whole["hidden"]["noise"]["dns"]), (vec![443, 80], &serde_json::json!(0)));
    assert_eq!(ports(&collector.graph("pod&filter=proto:tcp%20-port:443").await), [80]);
    collector.stop().await;
}

#[tokio::test]
async fn what_is_no_filter_is_a_400_that_says_where() {
    let collector = Collector::start(&[]).await;
    for path in [
        "/api/v1/graph?filter=ns:a%20foo:b",
        "/api/v1/stream?filter=ns:a%20foo:b",
        "/api/v1/filter?filter=ns:a%20foo:b",
    ] {
        let text = collector.get(path).await;
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
        assert!(
            text.contains("\"column\":6") && text.contains("unknown key foo") && text.contains("\"hint\":"),
            "{text}"
        );
    }
    let text = collector.get("/api/v1/graph?view=namespace&filter=pod:a").await;
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("ask for view=pod"), "{text}");
    let text = collector.get("/api/v1/filter?filter=port:443%20ns:A").await;
    assert!(text.contains("200 OK") && text.contains("{\"filter\":\"ns:a port:443\"}"), "{text}");
    assert!(collector.get("/api/v1/graph?noise=loud").await.contains("400"));
    collector.stop().await;
}

#[tokio::test]
async fn the_view_bound_holds() {
    let collector = Collector::start(&[]).await;
    let mut streams = Vec::new();
    for port in 0..MAX_VIEWS {
        streams.push(collector.stream(&format!("pod&filter=port:{port}"), None).await);
    }
    for path in ["/api/v1/stream?filter=port:9999", "/api/v1/graph?filter=port:9999", "/api/v1/graph"] {
        let text = collector.get(path).await;
        assert!(text.starts_with("HTTP/1.1 503") && text.to_lowercase().contains("retry-after: 10"), "{text}");
        assert!(text.contains("64 different views are open") && text.contains("hint: "), "{text}");
    }
    // One that is open is open to all, however it is written.
    let mut same = collector.stream("pod&filter=port:1%20PORT:1", None).await;
    assert_eq!(same.event().await.name, "snapshot");
    assert!(collector.get("/metrics").await.contains("stream_refused_views_total 3"));
    // The place of one that nobody looks at is taken at once.
    streams.remove(5);
    let text = collector.until("/api/v1/graph?filter=port:9999", "200 OK", WAIT).await;
    assert!(text.contains("\"edges\":[]"), "{text}");
    // Those that look on were not disturbed.
    let mut agent = collector.agent().await;
    let mut report = two(1);
    report.edges[0].server_port = 60;
    agent.post(&codec::encode_report(&report).expect("encode")).await;
    let last = streams.get_mut(59).expect("the stream of port 60");
    assert_eq!(last.event().await.name, "snapshot");
    last.until(|event| event.data["edges"]["upsert"].to_string().contains("\"port\":60,")).await;
    collector.stop().await;
}
