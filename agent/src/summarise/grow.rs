//! Where growth goes: into an edge, made if there is room, or into `other`.

use agent_ebpf::abi::{FlowKey, FlowTotals};

use super::{Folded, Table, Target};
use crate::{
    edge::{Edge, EdgeId, Moment, Orientation, is_own},
    points::Place,
};

impl Table {
    /// A flow adds to an edge from now on.
    pub(super) fn join(&mut self, target: Target, orientation: Orientation) {
        match target {
            Target::Edge(id) => {
                if let Some(edge) = self.edges.get_mut(&id) {
                    edge.flows += 1;
                    if edge.guessed && !orientation.guessed {
                        edge.guessed = false;
                        edge.pending = true;
                        self.high_ports.leave(&id);
                    }
                }
            }
            Target::Other => self.refused += 1,
            Target::Nowhere | Target::Transit => {}
        }
    }

    /// Adds what a flow grew by to where it belongs.
    #[expect(clippy::too_many_arguments, reason = "one step of two readings")]
    pub(super) fn grow(
        &mut self,
        target: Target,
        orientation: Orientation,
        delta: &FlowTotals,
        at: Place,
        changed: bool,
        moment: Moment,
        folded: &mut Folded,
    ) {
        if let Target::Edge(id) = target
            && let Some(edge) = self.edges.get_mut(&id)
        {
            edge.first_seen_unix_ns = edge.first_seen_unix_ns.min(moment.clock.packet_unix_ns(delta.first_ns));
            edge.path_changed |= changed;
        }
        self.add(target, orientation.forward, delta, at, moment, folded);
    }

    /// A flow adds to its edge no more. An edge that flows add to does not retire, so it is there.
    pub(super) fn leave(&mut self, target: Target) {
        if let Target::Edge(id) = target
            && let Some(edge) = self.edges.get_mut(&id)
        {
            edge.flows = edge.flows.saturating_sub(1);
        }
    }

    pub(super) fn add(
        &mut self,
        target: Target,
        forward: bool,
        delta: &FlowTotals,
        at: Place,
        moment: Moment,
        folded: &mut Folded,
    ) {
        let edge = match target {
            Target::Edge(id) => self.edges.get_mut(&id).map(|edge| (edge, id)),
            Target::Other => None,
            Target::Nowhere | Target::Transit => return,
        };
        match edge {
            Some((edge, id)) => {
                edge.add(forward, delta, moment.now_ns, moment.clock);
                edge.class = edge.class.max(at.class);
                folded.active |= edge.wakes(&id);
            }
            None => {
                self.other.skbs += delta.skbs;
                self.other.segments += delta.segments;
                self.other.l3_bytes += delta.l3_bytes;
                self.other.payload_bytes += delta.payload_bytes;
                folded.active = true;
            }
        }
    }

    /// The edge for a flow, made if there is room.
    pub(super) fn target(
        &mut self,
        key: &FlowKey,
        id: EdgeId,
        orientation: Orientation,
        first_ns: u64,
        moment: Moment,
        folded: &mut Folded,
    ) -> Target {
        let mut id = id;
        if self.edges.contains_key(&id) {
            return Target::Edge(id);
        }
        if orientation.guessed && self.high_ports.full(&id) {
            id.server_port = 0;
            if self.edges.contains_key(&id) {
                return Target::Edge(id);
            }
        }
        if self.held() >= self.limits.max_edges {
            return Target::Other;
        }
        if orientation.guessed {
            self.high_ports.enter(&id);
        }
        let edge = Edge {
            incarnation: moment.next_seq,
            guessed: orientation.guessed,
            own: is_own(self.own, key),
            first_seen_unix_ns: moment.clock.packet_unix_ns(first_ns),
            active_ns: moment.now_ns,
            pending: true,
            ..Edge::default()
        };
        if id.cgroup != 0 {
            self.unowned.push(id);
        }
        folded.edges_new += u32::from(edge.wakes(&id));
        self.edges.insert(id, edge);
        Target::Edge(id)
    }
}
