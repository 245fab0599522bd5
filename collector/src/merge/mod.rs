//! Reports become one state: a join, so that re-sent, doubled, reordered and missing reports change nothing but freshness.
//! Pure: no IO, no clock.
//!
//! A counter belongs to (node, epoch, edge side, device, incarnation). Readings of the same one are joined by maximum;
//! different ones are summed when asked for; the two sides of an edge are never summed. What a report's mark proves to be
//! finished is folded into one sum with a tombstone, and what comes from behind the mark, or of a folded epoch, is refused.

mod age;
mod cause;
pub mod device;
pub mod evaluate;
pub mod facts;
pub mod flow;
mod index;
mod join;
pub mod keep;
pub mod key;
pub mod node;
pub mod points;
mod shed;
mod slab;
pub mod track;
mod written;

use std::{collections::BTreeSet, sync::Arc};

use wire::v1::Report;

pub use self::{age::EPOCH_FOLDS_AFTER, slab::Pace};
use self::{
    flow::{Flow, Row, Source},
    index::Index,
    key::FlowKey,
    node::{Node, NodeId},
    shed::{Shares, Shed},
    slab::Slab,
    track::Unseen,
};
use crate::{
    hash::HashMap,
    time::{self, MINUTE, Ns, SECOND},
};

/// An edge's place in the merge; never used twice in a run.
pub type FlowId = u64;

/// Epochs of one node that are kept apart: a crashing agent folds the oldest early.
const MAX_EPOCHS: usize = 64;

/// What claims to come from further ahead than this is taken as from there: one wild clock must not stop an edge for ever.
pub const MAX_AHEAD: Ns = 5 * SECOND;

/// How much the merge may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Rows: (edge side, device, incarnation).
    pub rows: usize,
    /// Nodes.
    pub nodes: usize,
    /// Devices of one node.
    pub devices: usize,
    /// How long an ended edge stays.
    pub retention: Ns,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows: 262_144, nodes: 4_096, devices: 4_096, retention: 10 * MINUTE }
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken in.
    Accepted {
        /// It brought an edge that was not there.
        new_edge: bool,
    },
    /// Its sequence number is not above the mark.
    Behind {
        /// The mark.
        mark: u64,
    },
    /// Its epoch is folded.
    Folded,
    /// There is no room for another node.
    TooManyNodes,
}

/// What did not find room, and what came too late to matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/api.md describes the metrics")]
pub struct Refusals {
    pub rows: u64,
    pub nodes: u64,
    pub devices: u64,
    pub tombstoned_rows: u64,
    /// Ended edges that left early to make room.
    pub ended_early: u64,
    /// Rows that not even a tombstone is left for.
    pub untold: u64,
}

/// What happened to an edge since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Time alone passed.
    Aged,
    /// Its numbers.
    Touched,
    /// Its rows: it may belong to other vertices now.
    Reshaped,
    /// It left.
    Removed,
}

/// All nodes' reports, merged.
#[derive(Debug, Clone)]
pub struct Merge {
    bounds: Bounds,
    started: Ns,
    nodes: Vec<Node>,
    by_name: HashMap<Arc<str>, NodeId>,
    vacant: Vec<NodeId>,
    flows: Slab,
    by_key: HashMap<FlowKey, FlowId>,
    index: Index,
    rows: usize,
    /// How often it was asked what time alone changes.
    looks: usize,
    ended: BTreeSet<(Ns, FlowId)>,
    shed: Shed,
    shares: Shares,
    refusals: Refusals,
}

impl Merge {
    /// Nothing yet. `started` is when this collector began.
    #[must_use]
    pub fn new(bounds: Bounds, started: Ns) -> Self {
        Self {
            bounds,
            started,
            nodes: Vec::new(),
            by_name: HashMap::default(),
            vacant: Vec::new(),
            flows: Slab::default(),
            by_key: HashMap::default(),
            index: Index::default(),
            rows: 0,
            looks: 0,
            ended: BTreeSet::new(),
            shed: Shed::default(),
            shares: Shares::default(),
            refusals: Refusals::default(),
        }
    }

    /// Takes in a report that came at `now`.
    pub fn accept(&mut self, report: &Report, now: Ns) -> Verdict {
        let Some(id) = self.node_id(&report.node) else {
            self.refusals.nodes += 1;
            return Verdict::TooManyNodes;
        };
        let node = &mut self.nodes[id as usize];
        if report.epoch <= node.folded_through {
            return Verdict::Folded;
        }
        if let Some(mark) = node.epochs.get(&report.epoch).map(|epoch| epoch.mark).filter(|mark| report.seq <= *mark) {
            return Verdict::Behind { mark };
        }
        // Before its first acknowledgement a run knows nothing of its clock, which need not be as in the run before: when its
        // totals were true is a guess, and no sample.
        let offset = report.clock.map(|clock| clock.offset_ns);
        let timed = offset.is_some();
        let offset = offset.unwrap_or_else(|| now.saturating_sub(time::from_wire(report.sent_unix_ns)));
        self.begin_epoch(id, report.epoch, now);
        let node = &mut self.nodes[id as usize];
        let (held_until, base) =
            node.epochs.get(&report.epoch).map_or((0, 0), |epoch| (epoch.sampled, epoch.unseen_sampled));
        self.refusals.devices += node.take(report, now, offset, self.bounds.devices);
        let unseen = node.epochs.get(&report.epoch).map_or(0, node::Epoch::unseen);
        let mut new_edge = false;
        let mut touched: Vec<(FlowId, (Source, u64))> = Vec::with_capacity(report.edges.len());
        for edge in &report.edges {
            if let Some((flow, series, new)) = self.join(id, report, edge, offset, now) {
                new_edge |= new;
                touched.push((flow, series));
            }
        }
        // Incarnations of one series are one sample.
        touched.sort_unstable();
        touched.dedup();
        let at = time::from_wire(report.sampled_unix_ns).saturating_add(offset).min(now.saturating_add(MAX_AHEAD));
        for (id, series) in touched {
            if timed && let Some(flow) = self.flows.get_mut(id) {
                flow.sample(series, at, held_until, Unseen { now: unseen, base });
            }
            self.flows.speak(id, now);
        }
        self.raise_mark(id, report.epoch, report.acked_seq);
        Verdict::Accepted { new_edge }
    }

    fn node_id(&mut self, name: &str) -> Option<NodeId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        if self.by_name.len() >= self.bounds.nodes {
            return None;
        }
        let node = Node::new(name);
        let id = self.vacant.pop().map_or_else(|| NodeId::try_from(self.nodes.len()).ok(), Some)?;
        self.by_name.insert(Arc::clone(&node.name), id);
        match self.nodes.get_mut(id as usize) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        Some(id)
    }

    fn begin_epoch(&mut self, id: NodeId, epoch: u64, now: Ns) {
        let node = &mut self.nodes[id as usize];
        if node.epochs.contains_key(&epoch) {
            return;
        }
        let unheard = node.epochs.is_empty() && node.folded_through == 0;
        node.epochs.insert(epoch, node::Epoch::default());
        if unheard {
            return;
        }
        let newest = node.epoch().map_or(epoch, |(newest, _)| newest);
        for (number, state) in &mut node.epochs {
            if *number < newest {
                state.ended.get_or_insert(now);
            }
        }
        let excess = node.epochs.len().saturating_sub(MAX_EPOCHS);
        let oldest: Vec<u64> = node.epochs.keys().copied().take(excess).collect();
        for old in oldest {
            self.fold_epoch(id, old, now);
        }
        // Edges of the epoch that ended are stale now, until the new one speaks of them.
        self.touch_node(id);
    }

    fn settle_end(&mut self, id: FlowId, now: Ns) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let over = flow.rows.iter().all(Row::is_finished);
        match (over, flow.ended) {
            (true, None) => {
                flow.ended = Some(now);
                self.ended.insert((now, id));
            }
            (false, Some(at)) => {
                flow.ended = None;
                self.ended.remove(&(at, id));
            }
            _ => {}
        }
    }

    fn touch_node(&mut self, node: NodeId) {
        let spoken_of = |flow: &Flow| flow.rows.iter().any(|row| row.source.node == node);
        let ids: Vec<FlowId> = self.flows.iter().filter(|(_, flow)| spoken_of(flow)).map(|(id, _)| id).collect();
        for id in ids {
            self.mark_change(id, Change::Touched);
        }
    }

    fn mark_change(&mut self, id: FlowId, change: Change) {
        self.flows.change(id, change);
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Vec<(FlowId, Change)> {
        self.flows.take_changes()
    }

    /// Something changed since the last call of [`Merge::take_changes`].
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.flows.has_changes()
    }

    /// An edge.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id)
    }

    /// The edge of these addresses.
    #[must_use]
    pub fn flow_by_key(&self, key: &FlowKey) -> Option<(FlowId, &Flow)> {
        let id = *self.by_key.get(key)?;
        Some((id, self.flows.get(id)?))
    }

    /// All edges.
    pub fn flows(&self) -> impl Iterator<Item = (FlowId, &Flow)> {
        self.flows.iter()
    }

    /// How many edges there are.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// All nodes that reported and are not forgotten.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| self.by_name.contains_key(&node.name))
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// A node by name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.by_name.get(name).map(|id| &self.nodes[*id as usize])
    }

    /// How many rows there are.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// What found no room so far.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals { untold: self.shed.untold, ..self.refusals }
    }

    /// How many rows found no room and left a tombstone.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.shed.len()
    }
}

#[cfg(test)]
mod tests;
