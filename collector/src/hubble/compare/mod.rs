//! Hubble's edges held against our own, over a window: what both saw, what only one did, and why. Pure; time is an argument.

mod ours;
mod reason;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use self::report::{
    Agreement, Difference, HubbleSide, NodeRow, OrrerySide, OurVerdict, Reason, Report, Row, Seen, Summary,
};
use self::{
    ours::{Graph, Key, Ours},
    reason::Judge,
};
use super::fold::{Edge, Fold, Verdict};
use crate::{
    time::Ns,
    view::{Snapshot, ms},
};

/// Rows of a report; what differs comes first.
pub const MAX_ROWS: usize = 16_384;

/// From when to when both were listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub start: Ns,
    /// Its end.
    pub end: Ns,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Hubble's flows, folded and settled.
    pub hubble: &'a Fold,
    /// Our graph by pod when the window began, if it was asked for then: connections are counted from there.
    pub before: Option<&'a Snapshot>,
    /// Our graph by pod when it ended.
    pub after: &'a Snapshot,
    /// The window.
    pub window: Window,
}

/// One edge, of either.
#[derive(Default)]
struct Pair<'a> {
    hubble: Vec<&'a Edge>,
    ours: Option<Ours>,
}

/// Compares.
#[must_use]
pub fn compare(inputs: Inputs<'_>) -> Report {
    let mut graph = Graph::new(inputs.before, inputs.after);
    let mut pairs: BTreeMap<Key, Pair<'_>> = BTreeMap::new();
    for edge in inputs.hubble.edges() {
        pairs.entry(graph.key(edge, inputs.hubble)).or_default().hubble.push(edge);
    }
    for (key, ours) in std::mem::take(&mut graph.edges) {
        let known = pairs.contains_key(&key);
        // An edge that was quiet all the time is no difference.
        if known || ours.last_ms >= ms(inputs.window.start) {
            pairs.entry(key).or_default().ours = Some(ours);
        }
    }
    turn_guesses(&mut pairs);
    let judge = Judge::new(&inputs, &graph, &pairs);
    let mut rows: Vec<Row> = pairs.iter().map(|(key, pair)| row(key, pair, &judge)).collect();
    let order = |row: &Row| {
        let worst = row.differences.iter().map(|difference| difference.reason).min();
        (worst.is_none(), worst, row.seen)
    };
    // The sort is stable: within, rows stay ordered by their ends.
    rows.sort_by_key(order);
    let summary = summary(&rows, &inputs, graph.tunnels);
    rows.truncate(MAX_ROWS);
    Report {
        start_ms: ms(inputs.window.start),
        end_ms: ms(inputs.window.end),
        summary,
        nodes: nodes(&inputs, &graph),
        rows,
    }
}

/// Where nobody saw who opened, we guess, and Hubble may know.
fn turn_guesses(pairs: &mut BTreeMap<Key, Pair<'_>>) {
    let lone = |pair: &Pair<'_>| pair.hubble.is_empty() && pair.ours.as_ref().is_some_and(|ours| ours.guessed);
    let guesses: Vec<Key> = pairs.iter().filter(|(_, pair)| lone(pair)).map(|(key, _)| key.clone()).collect();
    for guess in guesses {
        let is_turned =
            |key: &Key| key.client == guess.server && key.server == guess.client && key.protocol == guess.protocol;
        let from =
            Key { client: Arc::clone(&guess.server), server: Arc::clone(&guess.client), port: 0, ..guess.clone() };
        let found = pairs.range(from..).take_while(|(key, _)| key.client == guess.server && key.server == guess.client);
        let found =
            found.filter(|(key, pair)| is_turned(key) && pair.ours.is_none()).map(|(key, _)| key.clone()).next();
        if let Some(found) = found
            && let Some(ours) = pairs.remove(&guess).and_then(|pair| pair.ours)
        {
            pairs.entry(found).or_default().ours = Some(ours);
        }
    }
}

fn row(key: &Key, pair: &Pair<'_>, judge: &Judge<'_>) -> Row {
    let hubble = hubble_side(&pair.hubble);
    let ours = pair.ours.as_ref();
    let mut differences = Vec::new();
    let mut differ = |what: &str, (reason, why): (Reason, String)| {
        differences.push(Difference { what: what.to_owned(), reason, why });
    };
    let (mut verdict_agrees, mut first_seen_difference_ms) = (None, None);
    let seen = match (&hubble, ours) {
        (Some(hubble), Some(ours)) => {
            if let Some(opened) = ours.opened
                && opened != hubble.connections
            {
                differ("connections", judge.connections(key, hubble, ours));
            }
            if let Some(verdict) = hubble.verdict {
                let agrees = agree(verdict, ours.verdict());
                verdict_agrees = Some(agrees);
                if !agrees {
                    differ("verdict", judge.verdict(key, hubble, ours));
                }
            }
            // Of an edge that was there before, Hubble tells later.
            if ours.first_ms >= ms(judge.window.start) {
                let difference = hubble.first_ms - ours.first_ms;
                first_seen_difference_ms = Some(difference);
                if difference.abs() > reason::FIRST_SEEN_MS {
                    differ("first_seen", judge.first_seen(key, hubble, ours));
                }
            }
            Seen::Both
        }
        (Some(hubble), None) => {
            differ("edge", judge.only_hubble(key, hubble));
            Seen::OnlyHubble
        }
        (None, ours) => {
            if let Some(ours) = ours {
                differ("edge", judge.only_orrery(key, ours));
            }
            Seen::OnlyOrrery
        }
    };
    Row {
        seen,
        client: Arc::clone(&key.client),
        server: Arc::clone(&key.server),
        port: key.port,
        protocol: key.protocol.clone(),
        differences,
        verdict_agrees,
        first_seen_difference_ms,
        hubble,
        orrery: ours.map(Ours::side),
    }
}

/// Several edges are one where Hubble names an end now by its pod, now by its address alone.
fn hubble_side(edges: &[&Edge]) -> Option<HubbleSide> {
    let first = edges.iter().map(|edge| edge.first).min()?;
    let mut reasons = BTreeMap::new();
    for (reason, count) in edges.iter().flat_map(|edge| edge.reasons()) {
        *reasons.entry(reason.to_owned()).or_default() += count;
    }
    let all = |of: fn(&Edge) -> u64| edges.iter().map(|edge| of(edge)).sum::<u64>();
    let (forwarded, dropped) = (all(|edge| edge.forwarded), all(|edge| edge.dropped));
    let texts = |of: fn(&Edge) -> &BTreeSet<String>| {
        edges.iter().flat_map(|edge| of(edge).iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    };
    Some(HubbleSide {
        verdict: match (forwarded > 0, dropped > 0) {
            (true, true) => Some(Verdict::Both),
            (true, false) => Some(Verdict::Forwarded),
            (false, true) => Some(Verdict::Dropped),
            (false, false) => None,
        },
        forwarded,
        dropped,
        connections: all(|edge| edge.connections),
        reasons,
        policies: texts(|edge| &edge.policies),
        nodes: edges.iter().flat_map(|edge| edge.nodes.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect(),
        via: texts(|edge| &edge.via),
        icmp_errors: all(|edge| edge.icmp_errors),
        aggregated: edges.iter().any(|edge| edge.aggregated),
        first_ms: ms(first),
        last_ms: edges.iter().map(|edge| ms(edge.last)).max().unwrap_or(0),
    })
}

/// Silence fits whatever Hubble says of the packets that went out.
const fn agree(hubble: Verdict, ours: OurVerdict) -> bool {
    matches!(
        (hubble, ours),
        (_, OurVerdict::Unanswered)
            | (Verdict::Forwarded, OurVerdict::Forwarded)
            | (Verdict::Dropped, OurVerdict::Dropped)
            | (Verdict::Both, OurVerdict::Both)
    )
}

fn summary(rows: &[Row], inputs: &Inputs<'_>, tunnels: u64) -> Summary {
    let mut edges = Agreement::default();
    let mut connections = Agreement::default();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let (mut compared, mut agreeing) = (0, 0);
    for row in rows {
        let unexplained =
            |what: &str| row.differences.iter().any(|of| of.what == what && of.reason == Reason::Unexplained);
        match row.seen {
            Seen::Both => edges.both += 1,
            Seen::OnlyHubble => edges.only_hubble += 1,
            Seen::OnlyOrrery => edges.only_orrery += 1,
        }
        edges.unexplained += u64::from(unexplained("edge"));
        if row.protocol == "tcp" {
            let hubble = row.hubble.as_ref().map_or(0, |side| side.connections);
            let ours = row.orrery.as_ref().and_then(|side| side.connections).unwrap_or(0);
            connections.both += hubble.min(ours);
            connections.only_hubble += hubble.saturating_sub(ours);
            connections.only_orrery += ours.saturating_sub(hubble);
            if unexplained("edge") || unexplained("connections") {
                connections.unexplained += hubble.abs_diff(ours);
            }
        }
        compared += u64::from(row.verdict_agrees.is_some());
        agreeing += u64::from(row.verdict_agrees == Some(true));
        for difference in &row.differences {
            *reasons.entry(difference.reason.label().to_owned()).or_default() += 1;
        }
    }
    Summary {
        edges: edges.finish(),
        connections: inputs.before.map(|_| connections.finish()),
        verdicts_compared: compared,
        verdicts_agree: agreeing,
        reasons,
        tunnels,
        refused_rows: rows.len().saturating_sub(MAX_ROWS) as u64,
        hidden: inputs.hubble.hidden(),
    }
}

fn nodes(inputs: &Inputs<'_>, graph: &Graph<'_>) -> Vec<NodeRow> {
    let names: BTreeSet<&Arc<str>> =
        inputs.hubble.nodes().keys().chain(inputs.after.nodes.iter().map(|node| &node.name)).collect();
    let row = |name: &Arc<str>| {
        let seen = inputs.hubble.nodes().get(name).cloned().unwrap_or_default();
        let state = |state| serde_json::to_value(state).ok()?.as_str().map(ToOwned::to_owned);
        NodeRow {
            name: Arc::clone(name),
            flows: seen.flows,
            lost_events: seen.lost_events,
            away: seen.away.map(ToOwned::to_owned),
            behind_ms: seen.behind.map(ms),
            agent: graph.agent(name).and_then(|agent| state(agent.state)),
        }
    };
    names.into_iter().filter(|name| !name.is_empty()).map(row).collect()
}
