//! The last hour on real sockets: buckets of a second, asked for like a browser does.

use std::time::Duration;

use crate::client::{Collector, report};
use serde_json::Value;
use wire::{codec, v1::Counters};

const WAIT: Duration = Duration::from_secs(20);

async fn json(collector: &Collector, path: &str) -> (String, Value) {
    let text = collector.get(path).await;
    let (head, body) = text.split_once("\r\n\r\n").expect("a body");
    (head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_graph_of_then_its_course_and_what_is_not_remembered() {
    let collector = Collector::start(&["--history-bucket", "1"]).await;
    let (head, body) = json(&collector, "/api/v1/graph?at=1").await;
    assert!(
        head.contains("404") && body["message"].as_str().is_some_and(|text| text.contains("hint")),
        "{head} {body}"
    );
    let mut agent = collector.agent().await;
    for seq in 1..=4_u64 {
        let mut report = report("n1", seq, seq - 1);
        let more = Counters { skbs: 10 * seq, segments: 10 * seq, l3_bytes: 600 * seq, payload_bytes: 200 * seq };
        report.edges[0].forward = Some(more);
        agent.post(&codec::encode_report(&report).expect("encode")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    collector.until("/api/v1/history", "\"edges\":1", WAIT).await;
    let course = tokio::time::timeout(WAIT, async {
        loop {
            let (_, course) = json(&collector, "/api/v1/history").await;
            let sent: u64 = course["skbs"].as_array().expect("numbers").iter().filter_map(Value::as_u64).sum();
            if sent == 40 {
                return course;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let course = course.await.expect("all 40 packets are in a bucket");
    let busy =
        course["skbs"].as_array().expect("numbers").iter().position(|skbs| skbs.as_u64() > Some(0)).expect("one");
    let at = course["at_ms"][busy].as_i64().expect("a time") / 1000;
    let (head, then) = json(&collector, &format!("/api/v1/graph?at={at}")).await;
    assert!(head.contains("200 OK"), "{head}");
    assert_eq!(then["edges"][0]["rate"]["forward_skbs"].as_f64(), course["skbs"][busy].as_f64());
    assert_eq!(then["time_ms"], (at + 1) * 1000);
    // The ids are those of the live graph, and lead to the same course.
    let live = collector.graph("pod").await;
    assert_eq!(then["edges"][0]["id"], live["edges"][0]["id"]);
    let id = live["edges"][0]["id"].as_str().expect("an id").replace('>', "%3E").replace('/', "%2F");
    let (_, of_edge) = json(&collector, &format!("/api/v1/history?edge={id}")).await;
    assert_eq!(of_edge["skbs"], course["skbs"]);
    let (_, of_vertex) = json(&collector, "/api/v1/history?vertex=external:10.0.0.1").await;
    assert_eq!((&of_vertex["skbs"], &of_vertex["edges"]), (&course["skbs"], &1.into()));
    let (_, filtered) = json(&collector, &format!("/api/v1/graph?at={at}&filter=port:443")).await;
    assert_eq!((filtered["edges"].as_array().map(Vec::len), &filtered["hidden"]["edges"]), (Some(0), &1.into()));
    assert!(json(&collector, "/api/v1/history?edge=a&vertex=b").await.0.contains("400"));
    assert!(json(&collector, "/api/v1/events?since=0").await.1["events"].is_array());
    collector.stop().await;
}
