//! What finds no room is not lost in silence: a row that is not held leaves a tombstone with its total, and the node says how
//! much it counted that is on no edge. Totals are cumulative, so a row that finds room later brings all of it, and its
//! tombstone goes: nothing counts twice, and nothing is missing from both. Pure.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use wire::v1::Edge;

use super::{
    flow::{Row, Source},
    key::FlowKey,
    node::NodeId,
};

/// Tombstones at the most, of 40 bytes and their share of a table.
const MAX_TOMBSTONES: usize = 1_048_576;

#[derive(Debug, Clone, Copy)]
struct Tombstone {
    node: NodeId,
    epoch: u64,
    segments: u64,
}

/// Rows that are not held.
#[derive(Debug, Clone, Default)]
pub(super) struct Shed {
    /// By a hash of all that a row is known by.
    tombstones: HashMap<u64, Tombstone>,
    /// Rows that not even a tombstone was left for.
    pub(super) untold: u64,
}

/// What a row is known by, as one number: with a million rows two are the same once in 30 million runs.
fn identity(key: &FlowKey, source: Source, cgroup: u64, incarnation: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, source, cgroup, incarnation).hash(&mut hasher);
    hasher.finish()
}

fn segments(edge: &Edge) -> u64 {
    [edge.forward, edge.reverse].into_iter().flatten().fold(0, |sum, way| sum.saturating_add(way.segments))
}

impl Shed {
    /// Puts a reported row that finds no room here. Returns by how much the node's sum grows.
    pub(super) fn hold(&mut self, key: &FlowKey, source: Source, edge: &Edge) -> u64 {
        let identity = identity(key, source, edge.cgroup, edge.incarnation);
        let total = segments(edge);
        if self.tombstones.len() >= MAX_TOMBSTONES && !self.tombstones.contains_key(&identity) {
            self.untold += 1;
            return 0;
        }
        let Source { node, epoch, .. } = source;
        let known = self.tombstones.entry(identity).or_insert(Tombstone { node, epoch, segments: 0 });
        let grown = total.saturating_sub(known.segments);
        known.segments += grown;
        grown
    }

    /// A reported row has found room. Returns by how much the node's sum shrinks.
    pub(super) fn release(&mut self, key: &FlowKey, source: Source, edge: &Edge) -> u64 {
        if self.tombstones.is_empty() {
            return 0;
        }
        let known = self.tombstones.remove(&identity(key, source, edge.cgroup, edge.incarnation));
        known.map_or(0, |tombstone| tombstone.segments)
    }

    /// An epoch is over: its late reports are refused, so nothing of it can come back. The node's sum stays.
    pub(super) fn forget(&mut self, node: NodeId, epoch: Option<u64>) {
        let over = |tombstone: &Tombstone| tombstone.node == node && epoch.is_none_or(|epoch| tombstone.epoch == epoch);
        self.tombstones.retain(|_, tombstone| !over(tombstone));
    }

    /// Tombstones held.
    pub(super) fn len(&self) -> usize {
        self.tombstones.len()
    }
}

/// Rows of one node that a quarter of the room is kept for: the others' share of it, whatever one node reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Vec<usize>);

impl Shares {
    /// Counted anew.
    pub(super) fn count<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) {
        self.0.fill(0);
        rows.for_each(|row| self.add(row.source.node));
    }

    pub(super) fn add(&mut self, node: NodeId) {
        let node = node as usize;
        if self.0.len() <= node {
            self.0.resize(node + 1, 0);
        }
        self.0[node] += 1;
    }

    /// Whether a node may add a row: up to three quarters of the room anybody, beyond that who has less than its share.
    pub(super) fn allow(&self, node: NodeId, rows: usize, bound: usize, nodes: usize) -> bool {
        let own = self.0.get(node as usize).copied().unwrap_or(0);
        rows < bound && (rows < bound - bound / 4 || own < bound / nodes.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::Shares;

    #[test]
    fn the_last_quarter_is_for_who_has_less_than_its_share() {
        let mut shares = Shares::default();
        (0..80).for_each(|_| shares.add(0));
        // Of a hundred places, for two nodes.
        assert!(shares.allow(0, 74, 100, 2) && !shares.allow(0, 75, 100, 2));
        assert!(shares.allow(1, 75, 100, 2) && shares.allow(1, 99, 100, 2) && !shares.allow(1, 100, 100, 2));
    }
}
