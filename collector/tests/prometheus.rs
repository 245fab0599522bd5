//! The real Prometheus reads our metrics, with a token.

mod client;

use std::{path::PathBuf, process::Stdio, time::Duration};

use client::{Collector, report};
use tokio::time::timeout;

const TOKEN: &str = "a-token-for-prometheus";
const LIMIT: Duration = Duration::from_secs(60);

fn program() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/xtask/prometheus/usr/bin/prometheus");
    assert!(path.is_file(), "missing: {}; hint: cargo xtask setup", path.display());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_our_metrics_with_a_token() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("token");
    std::fs::write(&path, TOKEN).expect("write");
    let collector = Collector::start(&["--ui-token-file", path.to_str().expect("UTF-8")]).await;
    // Something of each kind is counted.
    let mut agent = collector.agent().await;
    agent.post(&wire::codec::encode_report(&report("n1", 1, 0)).expect("encode")).await;
    agent.post(b"not a report").await;
    collector.get("/metrics").await;
    // What is held is written down with the next tick.
    let held = async {
        while !collector.get_with("/metrics", TOKEN).await.contains("orrery_collector_merge_nodes 1\n") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, held).await.expect("the node is counted");
    let listen = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: orrery\n  authorization: {{ credentials_file: {} }}\n  \
         static_configs: [ {{ targets: [ '{}' ] }} ]\n",
        path.display(),
        collector.browser()
    );
    std::fs::write(&config, text).expect("write");
    let mut server = tokio::process::Command::new(program());
    server.arg(format!("--config.file={}", config.display()));
    server.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    server.arg(format!("--web.listen-address={listen}")).stderr(Stdio::null()).kill_on_drop(true);
    let mut server = server.spawn().expect("run");
    let asked = "/api/v1/query?query=orrery_collector_merge_nodes%20and%20on()%20(up%20%3D%3D%201)";
    let seen = async {
        loop {
            if let Some(text) = client::fetch(&listen.to_string(), asked).await
                && text.contains("\"orrery_collector_merge_nodes\"")
                && text.contains("\"1\"]")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if timeout(LIMIT, seen).await.is_err() {
        let targets = client::fetch(&listen.to_string(), "/api/v1/targets").await;
        panic!("Prometheus never had them: {targets:?}");
    }
    server.kill().await.expect("end");
    collector.stop().await;
}
