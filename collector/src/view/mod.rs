//! What browsers get: the JSON of snapshots, deltas and device accounts. Not the wire's types, and no logic.
//!
//! The contract is `ui/fixtures/*.json`, which the tests of both sides decode. Times end in `_ms` and are milliseconds
//! since the Unix epoch by the collector's clock.

mod facts;
mod shared;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    facts::{DnsRow, DropRow, HistogramRow, HookRow, OwnerRow, QuestionRow, RcodeRow, SocketsRow, TierRow, ViaRow},
    shared::Shared,
};

/// How the graph is grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// One vertex a pod.
    #[default]
    Pod,
    /// One vertex a workload (deployment, stateful set, …).
    Workload,
    /// One vertex a namespace.
    Namespace,
    /// One vertex a node.
    Node,
}

impl View {
    /// Every view there is: their number bounds the live projections.
    pub const ALL: [Self; 4] = [Self::Pod, Self::Workload, Self::Namespace, Self::Node];

    /// The view's name in queries and labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Workload => "workload",
            Self::Namespace => "namespace",
            Self::Node => "node",
        }
    }
}

/// Where the names come from, and whether they can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesRow {
    /// `kubernetes`, `file`, `recording` or `none`.
    pub source: String,
    /// `fresh`, `partial` (some kinds may not be read; `error` says which), `stale` (the last reading failed, the one
    /// before still holds) or `none`.
    pub state: String,
    /// Why the last reading failed.
    pub error: Option<String>,
    /// When the names in use were read.
    pub read_ms: Option<i64>,
    /// Ends of edges of which nothing could tell who held the address.
    pub ambiguous: u64,
}

/// Something that happened to the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRow {
    /// When the collector learned of it.
    pub time_ms: i64,
    /// Such as `pod-added`: docs/api.md lists them.
    pub kind: String,
    /// `namespace/pod`, `namespace/workload` or a node's name.
    pub subject: Arc<str>,
    /// In words, such as "2 → 8".
    pub text: String,
}

/// A device no program could be attached to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlindSpot {
    /// The device's name.
    pub device: String,
    /// Why, in words.
    pub reason: String,
}

/// Telemetry lost on a node, by cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossRow {
    /// The cause's name, such as `ring_full`.
    pub cause: String,
    /// Packets or events, cumulative.
    pub count: u64,
}

/// One node and the agent on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct NodeRow {
    pub name: Arc<str>,
    pub state: NodeState,
    pub why: Option<String>,
    pub last_report_ms: Option<i64>,
    pub tick_ms: Option<u32>,
    pub clock_offset_ms: Option<f64>,
    pub clock_error_ms: Option<f64>,
    pub agent_version: Option<String>,
    pub epoch_ms: Option<i64>,
    pub tier: String,
    pub tiers: Vec<TierRow>,
    pub devices: u32,
    pub reattached: u64,
    pub blind_spots: Vec<BlindSpot>,
    pub refused_hooks: Vec<String>,
    pub hooks: Vec<HookRow>,
    pub drops: Vec<DropRow>,
    pub seen_skbs: u64,
    pub unseen_skbs: u64,
    pub unaccounted_skbs: i64,
    pub other_skbs: u64,
    pub losses: Vec<LossRow>,
}

/// Law 7: silence is not absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Reports come when they are due.
    Live,
    /// Three reports are overdue.
    Late,
    /// Nothing for 15 s, or never anything.
    Lost,
    /// Live, but telemetry was lost in the last minute.
    Lossy,
}

/// One vertex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct VertexRow {
    pub id: Arc<str>,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
    pub workload: Option<String>,
    pub workload_kind: Option<String>,
    pub node: Option<String>,
    pub addresses: Vec<String>,
    pub dns_names: Vec<String>,
    pub phase: Phase,
    pub ready: bool,
    pub host_network: bool,
    pub created_ms: Option<i64>,
}

/// A pod's state, as far as the map shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not known, or not a pod.
    Unknown,
    /// No longer in the pod list.
    Gone,
    /// Runs.
    Running,
    /// Not started yet.
    Pending,
    /// Failed, or restarts again and again.
    Failing,
}

/// Traffic one way, cumulative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct CountersRow {
    pub skbs: u64,
    pub segments: u64,
    pub l3_bytes: u64,
    pub payload_bytes: u64,
}

/// An edge as one of its two sides saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct SideRow {
    pub nodes: Vec<Arc<str>>,
    pub stale: bool,
    pub points: Vec<String>,
    pub path_changed: bool,
    pub forward: CountersRow,
    pub reverse: CountersRow,
    pub opened: u64,
    pub established: u64,
    pub closed: u64,
    pub resets: u64,
    pub icmp_errors: u64,
    pub sockets: Option<SocketsRow>,
    pub owners: Vec<OwnerRow>,
}

/// Per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct RateRow {
    pub forward_skbs: f64,
    pub reverse_skbs: f64,
    pub forward_bytes: f64,
    pub reverse_bytes: f64,
    pub connections: f64,
}

/// Whether the loss between the two sides could be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossStatus {
    /// The numbers hold.
    Measured,
    /// Both sides report, but not long enough yet.
    Settling,
    /// Only one side reports; `why` says why.
    OneSided,
}

/// Loss between the two sides of an edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct LossBetweenRow {
    pub status: LossStatus,
    pub why: Option<String>,
    pub forward_lost: Option<u64>,
    pub reverse_lost: Option<u64>,
    pub forward_ratio: Option<f64>,
    pub reverse_ratio: Option<f64>,
}

/// Whether an edge can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeState {
    /// A live node watches it.
    Live,
    /// The nodes that saw it are silent.
    Stale,
    /// A live node retired it.
    Ended,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct EdgeRow {
    pub id: Arc<str>,
    pub client: Arc<str>,
    pub server: Arc<str>,
    pub port: u16,
    pub protocol: String,
    pub tunnel: Option<String>,
    pub via: Vec<ViaRow>,
    pub translated: bool,
    pub guessed: bool,
    pub own: bool,
    pub state: EdgeState,
    pub first_seen_ms: i64,
    pub last_seen_ms: i64,
    pub client_side: Option<SideRow>,
    pub server_side: Option<SideRow>,
    pub rate: RateRow,
    pub loss: LossBetweenRow,
    pub drops: Vec<DropRow>,
    pub dns: Option<DnsRow>,
}

/// Edges left out as noise, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct NoiseRow {
    pub own: u64,
    pub dns: u64,
    pub scrapes: u64,
    pub probes: u64,
    pub kube_system: u64,
}

/// What a filtered view leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct HiddenRow {
    pub edges: u64,
    pub vertices: u64,
    pub noise: NoiseRow,
}

/// The whole graph of one view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct Snapshot {
    pub run: String,
    pub revision: u64,
    pub view: View,
    pub time_ms: i64,
    pub since_ms: i64,
    pub cluster: String,
    pub names: NamesRow,
    pub hidden: HiddenRow,
    pub nodes: Vec<Shared<NodeRow>>,
    pub vertices: Vec<Shared<VertexRow>>,
    pub edges: Vec<Shared<EdgeRow>>,
    /// The newest ones, oldest first.
    pub events: Vec<EventRow>,
}

/// Rows that came or changed, and ids of rows that went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(serialize = "Row: Serialize", deserialize = "Row: Deserialize<'de>"))]
pub struct Changes<Row> {
    /// Whole rows.
    pub upsert: Vec<Shared<Row>>,
    /// Ids (of nodes: names).
    pub remove: Vec<Arc<str>>,
}

impl<Row> Default for Changes<Row> {
    fn default() -> Self {
        Self { upsert: Vec::new(), remove: Vec::new() }
    }
}

impl<Row> Changes<Row> {
    /// Nothing came, changed or went.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upsert.is_empty() && self.remove.is_empty()
    }
}

/// What leads from revision `base` to `revision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct Delta {
    pub run: String,
    pub revision: u64,
    pub base: u64,
    pub time_ms: i64,
    pub names: NamesRow,
    pub hidden: HiddenRow,
    pub nodes: Changes<NodeRow>,
    pub vertices: Changes<VertexRow>,
    pub edges: Changes<EdgeRow>,
    /// Those since `base`, oldest first.
    pub events: Vec<EventRow>,
}

/// The account of one device, one way: seen + unseen = carried, or the rest is `unaccounted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct DeviceRow {
    pub node: Arc<str>,
    pub device: String,
    pub ifindex: u32,
    pub direction: String,
    pub tier: String,
    pub point: Option<String>,
    pub tunnel: Option<String>,
    pub gone: bool,
    pub settled: bool,
    pub epochs: u32,
    pub seen_skbs: u64,
    pub seen_bytes: u64,
    pub unseen_skbs: u64,
    pub unseen_bytes: u64,
    pub carried_skbs: u64,
    pub carried_bytes: u64,
    pub unaccounted_skbs: i64,
    pub unaccounted_bytes: i64,
    pub link_control_skbs: u64,
    pub malformed_skbs: u64,
}

/// A time in nanoseconds as the JSON's milliseconds.
#[must_use]
pub const fn ms(ns: i64) -> i64 {
    ns.div_euclid(1_000_000)
}
