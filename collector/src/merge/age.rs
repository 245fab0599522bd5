//! What leaves the merge, and when: finished rows fold, ended epochs fold, ended edges go. Pure.

use std::collections::BTreeSet;

use super::{
    Change, FlowId, Merge,
    evaluate::Evaluation,
    flow::{Flow, Row, Source},
    node::{Node, NodeId},
    track::SideTrack,
};
use crate::{
    time::{MINUTE, Ns, SECOND},
    view::NodeState,
};

/// An ended epoch is folded this long after a newer one appeared.
pub const EPOCH_FOLDS_AFTER: Ns = 10 * MINUTE;
/// A node that nobody lists has left the cluster once it was silent for this long.
const NODE_LEFT_AFTER: Ns = 60 * MINUTE;
/// An edge is looked at again for this long after it was last reported.
const ACTIVE_FOR: Ns = 20 * SECOND;
/// What was reported this lately was evaluated then: time alone has changed nothing yet.
const JUST_SEEN: Ns = SECOND;
/// For this long after it was reported rates sink; later only the loss settles, and every fourth look is enough.
const SINKS: Ns = 4 * SECOND;

impl Merge {
    /// The agent has the acknowledgement of everything up to `mark`: what was finished by then will never be spoken of again.
    pub(super) fn raise_mark(&mut self, node: NodeId, epoch: u64, mark: u64) {
        let Some(state) = self.nodes[node as usize].epochs.get_mut(&epoch) else { return };
        if mark <= state.mark {
            return;
        }
        state.mark = mark;
        let mut waiting = std::mem::take(&mut state.finished);
        waiting.retain(|id| {
            let Some(flow) = self.flows.get_mut(*id) else { return false };
            let before = flow.rows.len();
            let ours = |row: &Row| row.source.node == node && row.source.epoch == epoch && row.finished;
            fold(&mut flow.rows, |row| (ours(row) && row.stated <= mark).then_some((row.source, row.incarnation)));
            self.rows -= before - flow.rows.len();
            flow.rows.iter().any(|row| row.incarnation != 0 && ours(row))
        });
        state.finished = waiting;
    }

    /// An epoch that ended long ago: its rows become one sum a side, and its late reports are refused from here on.
    pub(super) fn fold_epoch(&mut self, node: NodeId, epoch: u64, now: Ns) {
        let mut over = Vec::new();
        for (id, flow) in self.flows.iter_mut() {
            if !flow.rows.iter().any(|row| row.source.node == node && row.source.epoch == epoch) {
                continue;
            }
            let before = flow.rows.len();
            fold(&mut flow.rows, |row| {
                (row.source.node == node && row.source.epoch == epoch)
                    .then_some((Source { epoch: 0, device: 0, ..row.source }, u64::MAX))
            });
            self.rows -= before - flow.rows.len();
            over.push(id);
        }
        for id in over {
            self.settle_end(id, now);
            self.mark_change(id, Change::Reshaped);
        }
        self.shed.forget(node, Some(epoch));
        let node = &mut self.nodes[node as usize];
        node.folded_through = node.folded_through.max(epoch);
        if let Some(state) = node.epochs.remove(&epoch) {
            node.folded_other = node.folded_other.plus(&state.other);
            node.folded_drops.add(&state.drops);
            for (cause, count) in state.losses {
                let sum = node.folded_losses.entry(cause).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }

    /// What time alone changes: epochs fold, ended edges leave, nodes fall silent, rates sink. Call it twice a second.
    pub fn refresh(&mut self, now: Ns) {
        let mut turned = BTreeSet::new();
        // Rows leave in many places; who has how many matters only when room is scarce.
        if self.rows >= self.bounds.rows / 2 {
            self.shares.count(self.flows.iter().flat_map(|(_, flow)| &flow.rows));
        }
        for id in 0..self.nodes.len() {
            let node_id = id as NodeId;
            let due = |ended: Option<Ns>| ended.is_some_and(|at| now.saturating_sub(at) >= EPOCH_FOLDS_AFTER);
            let old: Vec<u64> =
                self.nodes[id].epochs.iter().filter(|(_, state)| due(state.ended)).map(|(epoch, _)| *epoch).collect();
            for epoch in old {
                self.fold_epoch(node_id, epoch, now);
            }
            let node = &mut self.nodes[id];
            node.forget_devices(now);
            let state = node.state(now).0;
            let told = node.told.replace(state);
            if told.is_none_or(|told| (told == NodeState::Lost) != (state == NodeState::Lost)) {
                turned.insert(node_id);
            }
        }
        if !turned.is_empty() {
            // Lost or not decides what is stale, and what edges say of a side that is missing, whoever would report it. All
            // others are as they were: with a thousand nodes one turns at nearly every look.
            let theirs =
                |track: &Option<SideTrack>| track.as_ref().is_none_or(|track| turned.contains(&track.source.node));
            let concerned = |flow: &Flow| {
                theirs(&flow.client)
                    || theirs(&flow.server)
                    || flow.rows.iter().any(|row| turned.contains(&row.source.node))
            };
            let ids: Vec<FlowId> = self.flows.iter().filter(|(_, flow)| concerned(flow)).map(|(id, _)| id).collect();
            ids.into_iter().for_each(|id| self.mark_change(id, Change::Touched));
        }
        while let Some(&(at, id)) = self.ended.first() {
            if now.saturating_sub(at) < self.bounds.retention {
                break;
            }
            self.ended.pop_first();
            self.remove(id);
        }
        self.looks += 1;
        let looks = self.looks;
        self.flows
            .age(now, ACTIVE_FOR, |place, age| age >= JUST_SEEN && (age < SINKS || (looks + place).is_multiple_of(4)));
    }

    /// Nodes that left the cluster: what they saw ends, and after the retention they are forgotten with all of it. `listed`
    /// says whether a node is known to be there, however silent. Looks at all edges for each node that leaves, and no other.
    pub fn forget_nodes(&mut self, now: Ns, listed: impl Fn(&str) -> bool) {
        for id in 0..self.nodes.len() {
            let node = &self.nodes[id];
            let silent = now.saturating_sub(node.last_report);
            if !self.by_name.contains_key(&node.name) || silent < NODE_LEFT_AFTER || listed(&node.name) {
                continue;
            }
            if !node.left {
                self.end_node(id as NodeId, now);
            } else if silent >= NODE_LEFT_AFTER.saturating_add(self.bounds.retention) {
                self.forget_node(id as NodeId);
            }
        }
    }

    fn end_node(&mut self, id: NodeId, now: Ns) {
        self.nodes[id as usize].left = true;
        let mut over = Vec::new();
        for (flow_id, flow) in self.flows.iter_mut() {
            let mut rows = flow.rows.iter_mut().filter(|row| row.source.node == id).peekable();
            if rows.peek().is_some() {
                over.push(flow_id);
            }
            rows.for_each(|row| row.finished = true);
        }
        for flow_id in over {
            self.settle_end(flow_id, now);
            self.mark_change(flow_id, Change::Touched);
        }
    }

    /// Its place goes to the next new node, so nothing may mention it any more.
    fn forget_node(&mut self, id: NodeId) {
        let mut touched = Vec::new();
        for (flow_id, flow) in self.flows.iter_mut() {
            let before = flow.rows.len();
            flow.rows.retain(|row| row.source.node != id);
            if flow.rows.len() < before {
                self.rows -= before - flow.rows.len();
                drop_tracks(flow, id);
                touched.push((flow_id, flow.rows.is_empty()));
            }
        }
        for (flow_id, empty) in touched {
            if empty {
                self.remove(flow_id);
            } else {
                self.mark_change(flow_id, Change::Reshaped);
            }
        }
        self.shed.forget(id, None);
        let name = std::mem::replace(&mut self.nodes[id as usize], Node::new("")).name;
        self.by_name.remove(&name);
        self.vacant.push(id);
    }

    pub(super) fn remove(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(id) {
            self.by_key.remove(&flow.key);
            self.index.remove(&flow.key, id);
            self.rows -= flow.rows.len();
        }
    }
}

/// Lets go of what a node that is forgotten had sampled: the comparison of the sides starts anew.
fn drop_tracks(flow: &mut Flow, node: NodeId) {
    for side in [&mut flow.client, &mut flow.server] {
        side.take_if(|track| track.source.node == node);
    }
    flow.cgroups.retain(|(_, _, track)| track.source.node != node);
    flow.from_first = Some(false);
    flow.forward.restart();
    flow.reverse.restart();
    flow.evaluation = Evaluation::default();
}

/// Folds the rows that `into` names a sum for into that sum, which remembers the highest incarnation in it.
pub(super) fn fold(rows: &mut Vec<Row>, into: impl Fn(&Row) -> Option<(Source, u64)>) {
    let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
    let mut due = Vec::new();
    for row in rows.drain(..) {
        match into(&row) {
            Some(target) if row.incarnation != 0 || target.0 != row.source => due.push((target, row)),
            _ => kept.push(row),
        }
    }
    for ((source, through), row) in due {
        match kept.iter_mut().find(|kept| kept.series() == (source, row.cgroup) && kept.incarnation == 0) {
            Some(sum) => {
                sum.through = sum.through.max(through);
                sum.fold(&row);
            }
            None => kept.push(Row { source, incarnation: 0, through, finished: true, ..row }),
        }
    }
    *rows = kept;
}
