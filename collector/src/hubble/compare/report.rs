//! What a comparison says: rows, reasons, a summary; as JSON, and as text.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::hubble::fold::{Hidden, Verdict};

/// Who saw an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Hubble alone.
    OnlyHubble,
    /// Orrery alone.
    OnlyOrrery,
    /// Both.
    Both,
}

/// Why the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "`Reason::words` says what each means")]
pub enum Reason {
    Unexplained,
    HubbleLostEvents,
    HubbleNodeAway,
    HubbleAggregated,
    OrreryBlindSpot,
    OrreryNodeAway,
    OrreryLostEvents,
    OutsideWindow,
    ClockSkew,
    ClusterIp,
    HostTraffic,
    NotAPod,
    NeighbourDiscovery,
    TableFull,
}

impl Reason {
    /// As JSON and the page have it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unexplained => "unexplained",
            Self::HubbleLostEvents => "hubble-lost-events",
            Self::HubbleNodeAway => "hubble-node-away",
            Self::HubbleAggregated => "hubble-aggregated",
            Self::OrreryBlindSpot => "orrery-blind-spot",
            Self::OrreryNodeAway => "orrery-node-away",
            Self::OrreryLostEvents => "orrery-lost-events",
            Self::OutsideWindow => "outside-window",
            Self::ClockSkew => "clock-skew",
            Self::ClusterIp => "cluster-ip",
            Self::HostTraffic => "host-traffic",
            Self::NotAPod => "not-a-pod",
            Self::NeighbourDiscovery => "neighbour-discovery",
            Self::TableFull => "table-full",
        }
    }

    /// In a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unexplained => "nothing that is known explains it",
            Self::HubbleLostEvents => "Hubble lost events on a node of this edge",
            Self::HubbleNodeAway => "no flows came from the nodes of this edge",
            Self::HubbleAggregated => "opened before, and Hubble tells of open connections now and then only",
            Self::OrreryBlindSpot => "the agent does not see all devices of the node",
            Self::OrreryNodeAway => "no agent reports from the node",
            Self::OrreryLostEvents => "the agent lost telemetry",
            Self::OutsideWindow => "at the window's ends, or beyond them",
            Self::ClockSkew => "a node's clock is off",
            Self::ClusterIp => "one has the ClusterIP, the other the pod behind it",
            Self::HostTraffic => "an end is a node, which Hubble sees in part only",
            Self::NotAPod => "no end is a pod",
            Self::NeighbourDiscovery => "neighbour discovery, which is folded away from Hubble's flows",
            Self::TableFull => "more edges or connections than are kept",
        }
    }
}

/// One thing in which the two differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// `edge`, `connections`, `verdict` or `first_seen`.
    pub what: String,
    /// Why.
    pub reason: Reason,
    /// In words, with what it was told by.
    pub why: String,
}

/// What became of an edge's packets, as far as Orrery knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OurVerdict {
    /// They were answered, and none was dropped.
    Forwarded,
    /// Packets were dropped or lost, and none was answered.
    Dropped,
    /// Some were dropped, some answered.
    Both,
    /// Nothing came back, and nobody told of a drop.
    Unanswered,
}

/// An edge by Hubble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct HubbleSide {
    pub verdict: Option<Verdict>,
    pub forwarded: u64,
    pub dropped: u64,
    pub connections: u64,
    pub reasons: BTreeMap<String, u64>,
    pub policies: Vec<String>,
    pub nodes: Vec<Arc<str>>,
    pub via: Vec<String>,
    pub icmp_errors: u64,
    pub aggregated: bool,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// An edge by Orrery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct OrrerySide {
    pub edges: Vec<Arc<str>>,
    pub verdict: OurVerdict,
    pub skbs: u64,
    pub connections: Option<u64>,
    pub dropped: u64,
    pub nodes: Vec<Arc<str>>,
    pub guessed: bool,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct Row {
    pub seen: Seen,
    pub client: Arc<str>,
    pub server: Arc<str>,
    pub port: u16,
    pub protocol: String,
    pub differences: Vec<Difference>,
    pub verdict_agrees: Option<bool>,
    pub first_seen_difference_ms: Option<i64>,
    pub hubble: Option<HubbleSide>,
    pub orrery: Option<OrrerySide>,
}

/// How far the two agree.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// What both have.
    pub both: u64,
    /// What Hubble alone has.
    pub only_hubble: u64,
    /// What Orrery alone has.
    pub only_orrery: u64,
    /// Of the two last, what no reason explains.
    pub unexplained: u64,
    /// `both` of all; `null` where there is nothing.
    pub agreement: Option<f64>,
    /// `both` of all that no reason sets aside; what `--min-agreement` looks at.
    pub beside_explained: Option<f64>,
}

impl Agreement {
    pub(super) fn finish(self) -> Self {
        let share = |of: u64| (of > 0).then(|| self.both as f64 / of as f64);
        Self {
            agreement: share(self.both + self.only_hubble + self.only_orrery),
            beside_explained: share(self.both + self.unexplained),
            ..self
        }
    }
}

/// All of it in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct Summary {
    pub edges: Agreement,
    pub connections: Option<Agreement>,
    pub verdicts_compared: u64,
    pub verdicts_agree: u64,
    pub reasons: BTreeMap<String, u64>,
    pub tunnels: u64,
    pub refused_rows: u64,
    pub hidden: Hidden,
}

/// A node, as both told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct NodeRow {
    pub name: Arc<str>,
    pub flows: u64,
    pub lost_events: u64,
    pub away: Option<String>,
    pub behind_ms: Option<i64>,
    pub agent: Option<String>,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct Report {
    pub start_ms: i64,
    pub end_ms: i64,
    pub summary: Summary,
    pub nodes: Vec<NodeRow>,
    pub rows: Vec<Row>,
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "nothing to compare".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

impl Report {
    /// Whether enough agrees of what no reason sets aside, of edges and of connections. Nothing at all is not enough.
    #[must_use]
    pub fn agrees(&self, at_least: f64) -> bool {
        let enough = |share: Option<f64>| share.is_some_and(|share| share >= at_least);
        let connections = self.summary.connections.filter(|of| of.both + of.unexplained > 0);
        self.summary.edges.both > 0
            && enough(self.summary.edges.beside_explained)
            && connections.is_none_or(|connections| enough(connections.beside_explained))
    }

    /// For people: what differs first, a summary last.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = vec![["SEEN", "CLIENT", "SERVER", "PORT", "HUBBLE", "ORRERY", "WHY"].map(str::to_owned)];
        table.extend(self.rows.iter().map(row_text));
        let mut widths = [0; 7];
        for row in &table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &table {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
        for node in self.nodes.iter().filter(|node| node.lost_events > 0 || node.away.is_some()) {
            let away = node.away.as_deref().map_or_else(String::new, |away| format!(", {away}"));
            let _ = writeln!(text, "node {}: {} events lost by Hubble{away}", node.name, node.lost_events);
        }
        let summary = &self.summary;
        let mut line = |what: &str, of: &Agreement| {
            let _ = writeln!(
                text,
                "{what}: {} agree; {} both, {} only Hubble, {} only Orrery; beside what is explained: {}",
                percent(of.agreement),
                of.both,
                of.only_hubble,
                of.only_orrery,
                percent(of.beside_explained)
            );
        };
        line("edges", &summary.edges);
        if let Some(connections) = &summary.connections {
            line("connections", connections);
        }
        let reasons = summary.reasons.iter().map(|(reason, count)| format!("{count} {reason}"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "verdicts: {} of {} agree", summary.verdicts_agree, summary.verdicts_compared);
        let _ = writeln!(text, "differences: {}", if reasons.is_empty() { "none" } else { &reasons });
        text
    }
}

fn row_text(row: &Row) -> [String; 7] {
    let seen = match row.seen {
        Seen::Both => "both",
        Seen::OnlyHubble => "only Hubble",
        Seen::OnlyOrrery => "only Orrery",
    };
    let hubble = row.hubble.as_ref().map_or_else(String::new, |side| {
        let verdict = match side.verdict {
            Some(Verdict::Forwarded) => "forwarded",
            Some(Verdict::Dropped) => "dropped",
            Some(Verdict::Both) => "some dropped",
            None => "?",
        };
        format!("{verdict} {}", side.connections)
    });
    let orrery = row.orrery.as_ref().map_or_else(String::new, |side| {
        let verdict = match side.verdict {
            OurVerdict::Forwarded => "forwarded",
            OurVerdict::Dropped => "dropped",
            OurVerdict::Both => "some dropped",
            OurVerdict::Unanswered => "unanswered",
        };
        format!("{verdict} {}", side.connections.map_or_else(|| "-".to_owned(), |count| count.to_string()))
    });
    let why = row.differences.iter().map(|difference| match &*difference.what {
        "edge" => difference.reason.label().to_owned(),
        what => format!("{what}: {}", difference.reason.label()),
    });
    let port = if row.port == 0 { row.protocol.clone() } else { format!("{}/{}", row.port, row.protocol) };
    [
        seen.to_owned(),
        row.client.to_string(),
        row.server.to_string(),
        port,
        hubble,
        orrery,
        why.collect::<Vec<_>>().join(", "),
    ]
}
