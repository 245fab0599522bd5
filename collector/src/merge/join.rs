//! One reported edge joined into its flow. Pure.

use wire::v1::{Edge, Point, Report};

use super::{
    Change, FlowId, MAX_AHEAD, Merge,
    facts::Facts,
    flow::{Flow, Row, Side, Source, Totals},
    key::FlowKey,
    node::NodeId,
    points::Points,
};
use crate::time::{self, Ns};

impl Merge {
    /// Joins one reported edge. Returns what it touched, and whether the edge is new.
    pub(super) fn join(
        &mut self,
        node: NodeId,
        report: &Report,
        edge: &Edge,
        offset: Ns,
        now: Ns,
    ) -> Option<(FlowId, (Source, u64), bool)> {
        let (key, side) = (FlowKey::of(edge)?, Side::of(edge)?);
        let source = Source { node, epoch: report.epoch, side, device: edge.device };
        let known = self.by_key.get(&key).copied();
        let rows = known.and_then(|id| self.flows.get(id)).map(|flow| &flow.rows);
        let series = (source, edge.cgroup);
        let position = rows
            .as_ref()
            .and_then(|rows| rows.iter().position(|row| row.series() == series && row.incarnation == edge.incarnation));
        let tombstone = rows.as_ref().is_some_and(|rows| {
            rows.iter().any(|row| row.series() == series && row.incarnation == 0 && edge.incarnation <= row.through)
        });
        if tombstone {
            self.refusals.tombstoned_rows += 1;
            return None;
        }
        if position.is_none() {
            if !self.has_room(node, known) {
                self.refusals.rows += 1;
                let grown = self.shed.hold(&key, source, edge);
                self.nodes[node as usize].shed(grown, now);
                return None;
            }
            let back = self.shed.release(&key, source, edge);
            self.nodes[node as usize].unshed(back);
        }
        let id = known.unwrap_or_else(|| self.insert_flow(key));
        let flow = self.flows.get_mut(id)?;
        let limit = now.saturating_add(MAX_AHEAD);
        let totals = Totals::of(edge, offset, limit);
        let facts = Facts::of(edge, |ns| time::from_wire(ns).saturating_add(offset).min(limit));
        let first_seen = time::from_wire(edge.first_seen_unix_ns).saturating_add(offset);
        let mut change = Change::Touched;
        let mut turned = edge.path_changed;
        match position {
            Some(index) => {
                let row = &mut flow.rows[index];
                let owners = row.pod_uids().count();
                turned = row.join(&totals, edge, facts);
                if row.pod_uids().count() != owners {
                    change = Change::Reshaped;
                }
                if row.guessed && !edge.guessed {
                    row.guessed = false;
                    change = Change::Reshaped;
                }
                row.first_seen = row.first_seen.min(first_seen);
                if report.seq > row.stated {
                    (row.stated, row.finished) = (report.seq, edge.r#final);
                } else if report.seq == row.stated {
                    row.finished |= edge.r#final;
                }
            }
            None => {
                change = Change::Reshaped;
                self.rows += 1;
                self.shares.add(node);
                flow.rows.push(Row {
                    source,
                    cgroup: edge.cgroup,
                    incarnation: edge.incarnation,
                    through: 0,
                    stated: report.seq,
                    finished: edge.r#final,
                    guessed: edge.guessed,
                    own: edge.own,
                    first_seen,
                    totals,
                    points: Points::default().with(edge.point),
                    path_changed: edge.path_changed,
                    facts,
                });
            }
        }
        if turned {
            flow.turn(node, now);
        }
        let row = position.map_or_else(|| flow.rows.last(), |index| flow.rows.get(index));
        if let Some(row) = row.filter(|_| matches!(edge.point(), Point::Unspecified | Point::Pod)) {
            self.index.see(row);
        }
        // Who still speaks has not ended, nor has one that had not ended before.
        let settled = !edge.r#final && flow.ended.is_none();
        if edge.r#final
            && let Some(epoch) = self.nodes[node as usize].epochs.get_mut(&report.epoch)
        {
            epoch.finished.insert(id);
        }
        if !settled {
            self.settle_end(id, now);
        }
        self.mark_change(id, change);
        Some((id, series, known.is_none()))
    }

    /// Whether the node may add a row. Edges that ended make room first, the oldest of them.
    fn has_room(&mut self, node: NodeId, known: Option<FlowId>) -> bool {
        if self.shares.allow(node, self.rows, self.bounds.rows, self.by_name.len()) {
            return true;
        }
        let oldest = self.ended.iter().find(|(_, id)| Some(*id) != known).copied();
        let Some(oldest) = oldest else { return false };
        self.ended.remove(&oldest);
        self.remove(oldest.1);
        self.refusals.ended_early += 1;
        self.rows < self.bounds.rows
    }

    pub(super) fn insert_flow(&mut self, key: FlowKey) -> FlowId {
        let id = self.flows.insert(Flow::new(key));
        self.by_key.insert(key, id);
        self.index.add(&key, id);
        id
    }
}
