//! Why the two differ: what either said of itself, the most telling first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Inputs, Pair, Window,
    ours::{Graph, Key, Ours},
    report::{HubbleSide, Reason},
};
use crate::{
    hubble::fold::Fold,
    time::{Ns, SECOND},
    view::ms,
};

/// First seen further apart than this is a difference, in milliseconds: reports come every 2 s at the least.
pub(super) const FIRST_SEEN_MS: i64 = 5_000;
/// What happened this near to the window's ends may be on either side of them, by either's account.
const MARGIN_MS: i64 = 3_000;
/// Flows that come later than this, or earlier than they were made, tell of a clock that is off.
const SKEWED: Ns = 2 * SECOND;

/// Knows what either said of itself.
pub(super) struct Judge<'a> {
    pub(super) window: Window,
    fold: &'a Fold,
    graph: &'a Graph<'a>,
    /// Who speaks to a ClusterIP, by either, and in which protocol.
    to_services: BTreeSet<(Arc<str>, String)>,
    /// Some node told something.
    some_node: bool,
}

type Verdict = (Reason, String);

impl<'a> Judge<'a> {
    pub(super) fn new(inputs: &Inputs<'a>, graph: &'a Graph<'a>, pairs: &BTreeMap<Key, Pair<'_>>) -> Self {
        let services = pairs.keys().filter(|key| key.server.starts_with("service:"));
        Self {
            window: inputs.window,
            fold: inputs.hubble,
            graph,
            to_services: services.map(|key| (Arc::clone(&key.client), key.protocol.clone())).collect(),
            some_node: inputs.hubble.nodes().values().any(|node| node.flows > 0),
        }
    }

    /// An edge that Hubble did not show.
    pub(super) fn only_orrery(&self, key: &Key, ours: &Ours) -> Verdict {
        if ours.neighbours {
            return because(Reason::NeighbourDiscovery, None);
        }
        if let Some(verdict) = self.by_kind(key).or_else(|| self.hubble_missed(&ours.nodes)) {
            return verdict;
        }
        if let Some(verdict) = self.by_window(ours.first_ms, ours.last_ms) {
            return verdict;
        }
        // Nothing was opened that Hubble would have had to tell of.
        if ours.first_ms < ms(self.window.start) && ours.opened.unwrap_or(0) == 0 {
            return because(Reason::HubbleAggregated, None);
        }
        self.else_unexplained()
    }

    /// An edge that Orrery did not show.
    pub(super) fn only_hubble(&self, key: &Key, hubble: &HubbleSide) -> Verdict {
        let by = self.by_kind(key).or_else(|| self.orrery_missed(key, hubble)).or_else(|| self.by_clock(&hubble.nodes));
        by.or_else(|| self.by_window(hubble.first_ms, hubble.last_ms)).unwrap_or_else(|| self.else_unexplained())
    }

    /// More connections by one than by the other.
    pub(super) fn connections(&self, key: &Key, hubble: &HubbleSide, ours: &Ours) -> Verdict {
        let fewer = ours.opened.is_some_and(|opened| opened < hubble.connections);
        let missed = if fewer { self.orrery_missed(key, hubble) } else { self.hubble_missed_some(&ours.nodes) };
        if let Some(verdict) = missed.or_else(|| self.by_kind(key)) {
            return verdict;
        }
        if hubble.aggregated && !fewer {
            return because(Reason::HubbleAggregated, Some("its flows stand for several".to_owned()));
        }
        // Of what went on at the window's ends, either may count a part: no more than happened near them.
        let length = ms(self.window.end - self.window.start).max(1);
        let most = ours.opened.unwrap_or(0).max(hubble.connections);
        let near = most.saturating_mul(2 * MARGIN_MS.unsigned_abs()) / length.unsigned_abs() + 1;
        let at_ends =
            ours.first_ms < ms(self.window.start) + MARGIN_MS || ours.last_ms > ms(self.window.end) - MARGIN_MS;
        if at_ends && ours.opened.is_some_and(|opened| opened.abs_diff(hubble.connections) <= near) {
            return because(Reason::OutsideWindow, None);
        }
        self.else_unexplained()
    }

    /// Hubble says forwarded, we say dropped, or the other way round.
    pub(super) fn verdict(&self, key: &Key, hubble: &HubbleSide, ours: &Ours) -> Verdict {
        let missed = self.hubble_missed_some(&ours.nodes).or_else(|| self.orrery_missed(key, hubble));
        missed.or_else(|| self.by_kind(key)).unwrap_or_else(|| self.else_unexplained())
    }

    /// One saw it much earlier.
    pub(super) fn first_seen(&self, key: &Key, hubble: &HubbleSide, ours: &Ours) -> Verdict {
        let by = self.by_clock(&hubble.nodes).or_else(|| self.hubble_missed_some(&ours.nodes));
        by.or_else(|| self.orrery_missed(key, hubble))
            .or_else(|| self.by_kind(key))
            .unwrap_or_else(|| self.else_unexplained())
    }

    /// What the ends are.
    fn by_kind(&self, key: &Key) -> Option<Verdict> {
        let ends = [&key.client, &key.server];
        if ends.iter().any(|id| id.starts_with("node:")) {
            return Some(because(Reason::HostTraffic, None));
        }
        if key.server.starts_with("service:") {
            return Some(because(Reason::ClusterIp, None));
        }
        if !ends.iter().any(|id| id.starts_with("pod:")) {
            return Some(because(Reason::NotAPod, None));
        }
        let by_service = self.to_services.contains(&(Arc::clone(&key.client), key.protocol.clone()));
        by_service.then(|| because(Reason::ClusterIp, Some(format!("{} also speaks to a service", key.client))))
    }

    fn by_window(&self, first_ms: i64, last_ms: i64) -> Option<Verdict> {
        let [start, end] = [self.window.start, self.window.end].map(ms);
        let outside = last_ms < start + MARGIN_MS || first_ms > end - MARGIN_MS;
        outside.then(|| because(Reason::OutsideWindow, None))
    }

    fn by_clock(&self, nodes: &[Arc<str>]) -> Option<Verdict> {
        for node in nodes {
            let behind = self.fold.nodes().get(node).and_then(|seen| seen.behind).unwrap_or(0);
            if behind.abs() > SKEWED {
                let why = format!("flows of {node} come {:.1} s after their time", behind as f64 / SECOND as f64);
                return Some(because(Reason::ClockSkew, Some(why)));
            }
        }
        None
    }

    /// All nodes that could have told Hubble are silent, or one of them lost events.
    fn hubble_missed(&self, nodes: &BTreeSet<Arc<str>>) -> Option<Verdict> {
        let silent = |node: &Arc<str>| match self.fold.nodes().get(node) {
            Some(seen) => seen.flows == 0 || seen.away.is_some(),
            None => true,
        };
        if self.some_node && !nodes.is_empty() && nodes.iter().all(silent) {
            let names = nodes.iter().map(|node| &**node).collect::<Vec<_>>().join(", ");
            return Some(because(Reason::HubbleNodeAway, Some(names)));
        }
        self.hubble_missed_some(nodes)
    }

    /// A node that could have told Hubble lost events, or was away for a while.
    fn hubble_missed_some(&self, nodes: &BTreeSet<Arc<str>>) -> Option<Verdict> {
        let all = self.fold.nodes();
        // A relay may tell of losses without saying whose.
        let theirs = |(name, _): &(&Arc<str>, _)| name.is_empty() || nodes.contains(*name);
        if let Some((name, seen)) = all.iter().filter(theirs).find(|(_, seen)| seen.lost_events > 0) {
            return Some(because(Reason::HubbleLostEvents, Some(format!("{} on {name}", seen.lost_events))));
        }
        let away = all.iter().filter(theirs).find(|(_, seen)| seen.was_away)?;
        Some(because(Reason::HubbleNodeAway, Some(format!("{} was away", away.0))))
    }

    /// All agents that could have told us are away, or do not see all.
    fn orrery_missed(&self, key: &Key, hubble: &HubbleSide) -> Option<Verdict> {
        let mut nodes = self.graph.homes(key);
        if nodes.is_empty() {
            nodes.extend(hubble.nodes.iter().cloned());
        }
        let (away, blind) = (|node: &Arc<str>| self.graph.is_away(node), |node: &Arc<str>| self.graph.is_blind(node));
        if !nodes.is_empty() && nodes.iter().all(|node| away(node) || blind(node)) {
            let names = nodes.iter().map(|node| &**node).collect::<Vec<_>>().join(", ");
            let reason = if nodes.iter().any(blind) { Reason::OrreryBlindSpot } else { Reason::OrreryNodeAway };
            return Some(because(reason, Some(names)));
        }
        let lossy = nodes.iter().find(|node| self.graph.is_lossy(node))?;
        Some(because(Reason::OrreryLostEvents, Some(lossy.to_string())))
    }

    fn else_unexplained(&self) -> Verdict {
        let hidden = self.fold.hidden();
        if hidden.refused_flows > 0 || hidden.forgotten_connections > 0 {
            return because(Reason::TableFull, Some(format!("{} flows refused", hidden.refused_flows)));
        }
        because(Reason::Unexplained, None)
    }
}

fn because(reason: Reason, detail: Option<String>) -> Verdict {
    let words = reason.words();
    (reason, detail.map_or_else(|| words.to_owned(), |detail| format!("{words}: {detail}")))
}
