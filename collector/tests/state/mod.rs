//! The state directory: what survives a stop, a kill, a full disk, and what a file that cannot be read does.

#![expect(clippy::disallowed_methods, reason = "what takes how long is measured here")]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::client::{Agent, Collector, get, report};
use redb::{Database, TableDefinition};
use serde_json::Value;
use wire::{
    codec,
    v1::{Counters, Edge, Report},
};

const WAIT: Duration = Duration::from_secs(20);
const FILE: &str = "orrery.redb";

/// The totals so far of three edges, to ports 1 to 3.
fn totals(seq: u64, sum: u64) -> Report {
    let mut report = report("n1", seq, seq.saturating_sub(1));
    let edge = report.edges[0].clone();
    let counters = Counters { skbs: sum, segments: sum, l3_bytes: sum * 60, payload_bytes: sum * 20 };
    let of = |port: u32| Edge { server_port: port, forward: Some(counters), ..edge.clone() };
    report.edges = (1..=3).map(of).collect();
    report
}

fn encoded(report: &Report) -> Vec<u8> {
    codec::encode_report(report).expect("encode")
}

/// Packets of every edge, by port.
fn packets(graph: &Value) -> Vec<(u64, u64)> {
    let edges = graph["edges"].as_array().expect("edges");
    let of = |edge: &Value| {
        (edge["port"].as_u64().unwrap_or(0), edge["client_side"]["forward"]["skbs"].as_u64().unwrap_or(0))
    };
    let mut all: Vec<_> = edges.iter().map(of).collect();
    all.sort_unstable();
    all
}

async fn graph(address: &str) -> Value {
    let text = get(address, "/api/v1/graph").await;
    serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap_or("null")).unwrap_or(Value::Null)
}

/// A collector as a process of its own, so that it can be killed.
struct Process {
    child: Child,
    browser: String,
    reports: String,
}

impl Process {
    /// `wrap` goes before the program's own words.
    async fn start(dir: &Path, wrap: &[&str], extra: &[&str]) -> Self {
        let free =
            || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").to_string();
        let (browser, reports) = (free(), free());
        let program = env!("CARGO_BIN_EXE_orrery-collector");
        let mut words: Vec<&str> = wrap.to_vec();
        words.extend([
            program,
            "--listen",
            &browser,
            "--report-listen",
            &reports,
            "--names",
            "none",
            "--history-bucket",
            "1",
        ]);
        words.extend(["--state-dir", dir.to_str().expect("a path")]);
        words.extend(extra);
        let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = Self { child: child.expect("a process"), browser, reports };
        let up = async {
            while tokio::net::TcpStream::connect(&process.reports).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WAIT, up).await.expect("it listens");
        process
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start(dir: &Path) -> Collector {
    Collector::start(&["--history-bucket", "1", "--state-dir", dir.to_str().expect("a path")]).await
}

#[tokio::test]
async fn a_restart_keeps_totals_marks_and_the_hour_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let collector = start(dir.path()).await;
    let mut agent = collector.agent().await;
    agent.post(&encoded(&totals(1, 100))).await;
    // Port 3 is over: its last word is acknowledged and folded.
    let mut last = totals(2, 150);
    last.edges[2].r#final = true;
    agent.post(&encoded(&last)).await;
    let mut after = totals(3, 200);
    after.edges.truncate(2);
    after.acked_seq = 2;
    agent.post(&encoded(&after)).await;
    collector.until("/api/v1/history", "\"edges\":3", WAIT).await;
    let first = collector.graph("pod").await;
    collector.stop().await;

    let collector = start(dir.path()).await;
    let second = collector.graph("pod").await;
    assert_eq!(packets(&second), [(1, 200), (2, 200), (3, 150)]);
    assert_eq!(second["since_ms"], first["since_ms"]);
    assert_ne!(second["run"], first["run"]);
    let hour = collector.get("/api/v1/history").await;
    assert!(hour.contains("\"edges\":3"), "{hour}");
    // The agent has not noticed: it sends everything it still has, and an old report of the network's comes again.
    let mut agent = collector.agent().await;
    let refused = agent.post(&encoded(&last)).await;
    assert_eq!(refused.status, 409, "behind the mark");
    let mut again = totals(4, 210);
    again.edges[2] = last.edges[2].clone();
    again.acked_seq = 3;
    assert_eq!(agent.post(&encoded(&again)).await.status, 200);
    // The next delta is due within a tenth of a second.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let third = collector.graph("pod").await;
    assert_eq!(packets(&third), [(1, 210), (2, 210), (3, 150)], "what was folded is not added again");
    collector.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_killed_under_load_goes_on_where_the_file_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut seq, mut sum, mut before) = (0, 0, 0);
    for round in 0..3 {
        let process = Process::start(dir.path(), &[], &[]).await;
        let restored = packets(&graph(&process.browser).await);
        if round > 0 {
            assert_eq!(restored.len(), 3, "round {round}: {restored:?}");
            for (_, packets) in restored {
                assert!(before <= packets && packets <= sum, "round {round}: {before} <= {packets} <= {sum}");
            }
        }
        let mut agent = Agent::connect(&process.reports).await;
        let until = tokio::time::Instant::now() + Duration::from_millis(2_600 + 300 * round);
        while tokio::time::Instant::now() < until {
            (seq, sum) = (seq + 1, sum + 7);
            assert_eq!(agent.post(&encoded(&totals(seq, sum))).await.status, 200);
            if until - tokio::time::Instant::now() > Duration::from_millis(2_300) {
                // Written within a second and a half, on a machine that is busy.
                before = sum;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process.kill();
    }
    let process = Process::start(dir.path(), &[], &[]).await;
    let mut agent = Agent::connect(&process.reports).await;
    agent.post(&encoded(&totals(seq + 1, sum + 1))).await;
    assert_eq!(packets(&graph(&process.browser).await), [(1, sum + 1), (2, sum + 1), (3, sum + 1)]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_set_aside_and_said() {
    // A file of redb's that is none of ours, one of a later version, one that was cut off, one that is no table at all.
    let foreign = |path: &Path, table: &str, version: u32| {
        let database = Database::create(path).expect("a file");
        let transaction = database.begin_write().expect("a transaction");
        let definition: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
        let key: &[u8] = b"version";
        transaction.open_table(definition).expect("a table").insert(key, &version.to_be_bytes()[..]).expect("a row");
        transaction.commit().expect("written");
    };
    for case in ["foreign", "newer", "cut", "text", "flipped"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        match case {
            "foreign" => foreign(&path, "somebody-else's", 1),
            "newer" => foreign(&path, "head", 99),
            "text" => std::fs::write(&path, "not a table".repeat(1_000)).expect("written"),
            _ => {
                let collector = start(dir.path()).await;
                collector.agent().await.post(&encoded(&totals(1, 10))).await;
                collector.stop().await;
                let mut bytes = std::fs::read(&path).expect("a file");
                if case == "cut" {
                    bytes.truncate(bytes.len() / 3);
                } else {
                    let from = bytes.len() / 16;
                    bytes[from..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
                }
                std::fs::write(&path, bytes).expect("written");
            }
        }
        let collector = start(dir.path()).await;
        let metrics = collector.get("/metrics").await;
        assert!(metrics.contains("orrery_collector_state_set_aside_total 1"), "{case}: {metrics}");
        assert!(dir.path().join("orrery.redb.set-aside").exists(), "{case}");
        collector.agent().await.post(&encoded(&totals(1, 20))).await;
        collector.stop().await;
        let collector = start(dir.path()).await;
        assert_eq!(packets(&collector.graph("pod").await), [(1, 20), (2, 20), (3, 20)], "{case}: it is kept anew");
        collector.stop().await;
    }
}

#[tokio::test]
async fn one_directory_serves_one_collector() {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start(dir.path(), &[], &[]).await;
    let second = Command::new(env!("CARGO_BIN_EXE_orrery-collector"))
        .args(["--listen", "127.0.0.1:0", "--report-listen", "127.0.0.1:0", "--state-dir"])
        .arg(dir.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("in use by another collector") && said.contains("hint"),
        "{said}"
    );
    process.kill();
}

#[tokio::test]
async fn a_full_disk_is_counted_and_the_picture_goes_on() {
    let able = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !able {
        println!("skipped: no mount namespace can be made: not root?");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("a path");
    // A disk of its own, with room for an empty file and little more, gone with the process.
    let script =
        format!("mount -t tmpfs -o size=1200k none {path} && head -c 900k /dev/zero > {path}/full && exec \"$@\"");
    let process = Process::start(dir.path(), &["unshare", "-m", "sh", "-c", &script, "sh"], &[]).await;
    let mut agent = Agent::connect(&process.reports).await;
    let failing = async {
        let mut seq = 0;
        loop {
            seq += 1;
            let mut report = totals(seq, seq);
            let edge = report.edges[0].clone();
            report.edges = (1..=2_000).map(|port| Edge { server_port: port, ..edge.clone() }).collect();
            assert_eq!(agent.post(&encoded(&report)).await.status, 200);
            let metrics = get(&process.browser, "/metrics").await;
            let failures = metrics.lines().find_map(|line| line.strip_prefix("orrery_collector_state_failures_total "));
            if failures.is_some_and(|count| count != "0") {
                return seq;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let seq = tokio::time::timeout(WAIT, failing).await.expect("the disk is full");
    let shown = async {
        loop {
            let graph = graph(&process.browser).await;
            if graph["edges"][0]["client_side"]["forward"]["skbs"] == seq {
                return graph["edges"].as_array().map(Vec::len);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(tokio::time::timeout(WAIT, shown).await.expect("the picture goes on"), Some(2_000));
    process.kill();
}
