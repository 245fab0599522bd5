//! What is known of an edge or a node beside packets: sockets, owners, drops, DNS, hooks. Rows, and no logic.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Durations, estimated from buckets by powers of two. The numbers are `null` where nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct HistogramRow {
    pub count: u64,
    pub mean_us: Option<f64>,
    pub p50_us: Option<f64>,
    pub p95_us: Option<f64>,
}

/// What the sockets of one side told.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct SocketsRow {
    pub attempts: u64,
    pub established: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub unreachable: u64,
    pub failed_otherwise: u64,
    pub retransmitted: u64,
    pub aborted: u64,
    pub rtt: HistogramRow,
}

/// Whose sockets they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct OwnerRow {
    pub process: String,
    pub container: String,
    pub pod_uid: String,
    pub pod: Option<Arc<str>>,
}

/// Packets the kernel dropped, by its own reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct DropRow {
    pub reason: String,
    pub by: String,
    pub forward: bool,
    pub segments: u64,
    pub nodes: Vec<Arc<str>>,
}

/// Answers by their response code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct RcodeRow {
    pub rcode: String,
    pub count: u64,
}

/// One question and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct QuestionRow {
    pub name: String,
    pub r#type: String,
    pub queries: u64,
    pub failures: u64,
    pub last_rcode: String,
    pub last_ms: i64,
}

/// DNS messages of an edge.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct DnsRow {
    pub queries: u64,
    pub answers: u64,
    pub timeouts: u64,
    pub unparsed: u64,
    pub rcodes: Vec<RcodeRow>,
    pub latency: HistogramRow,
    pub questions: Vec<QuestionRow>,
}

/// A virtual address that clients named instead of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct ViaRow {
    pub address: String,
    pub port: u16,
    pub service: Option<Arc<str>>,
}

/// One fact about the kernel, and the hook that tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct HookRow {
    pub fact: String,
    pub form: String,
    pub refused: Option<String>,
}

/// How many devices of a node are watched in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct TierRow {
    pub tier: String,
    pub devices: u32,
}
