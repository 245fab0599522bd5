//! What rings tell: packets without a flow, flows that just began, DNS messages.

use agent_ebpf::abi::Event;

use super::{Flow, Folded, Table, Target, pod_end};
use crate::{
    dns,
    edge::{EdgeId, Moment, edge_id, single},
    points::{Class, PathKey, Place},
};

impl Table {
    /// Folds a packet that found no room in the flow map.
    pub fn fold_unmapped(&mut self, event: &Event, moment: Moment, place: impl Fn(u32) -> Place) -> Folded {
        let mut folded = Folded::default();
        let key = &event.key;
        let at = place(key.ifindex);
        *self.folded.entry((key.ifindex, key.direction)).or_default() += 1;
        if at.class != Class::Pod {
            self.hold_unmapped(event);
            return folded;
        }
        self.paths.best_loose(PathKey::of(&self.as_counted(key, at).0, at.class), key.ifindex, event.time_ns);
        let local = pod_end(key, at);
        let orientation = self.orientation_of_event(event, local);
        let (counts, via) = self.as_counted(key, at);
        let id = edge_id(&counts, orientation, local);
        let target = self.target(key, id, orientation, event.time_ns, moment, &mut folded);
        self.mark(key, target, local, via);
        self.add(target, orientation.forward, &single(event), at, moment, &mut folded);
        folded
    }

    /// Whether a flow that just began belongs to an edge of the table: then there is no hurry to tell of it. Nor is there
    /// where a better hook may be about to tell.
    #[must_use]
    pub fn knows(&self, event: &Event, at: Place) -> bool {
        if at.class != Class::Pod {
            return true;
        }
        let local = pod_end(&event.key, at);
        let orientation = self.orientation_of_event(event, local);
        self.edges.contains_key(&edge_id(&self.as_counted(&event.key, at).0, orientation, local))
    }

    /// Adds what a DNS message told to the edge of its flow, if the table has it; says which that is. A hook that does not
    /// own the flow has nothing to tell: the owner saw the same message.
    pub fn dns(&mut self, fact: &dns::Fact, moment: Moment, place: impl Fn(u32) -> Place) -> Option<EdgeId> {
        let at = place(fact.key.ifindex);
        let id = match self.flows.get(&fact.key) {
            Some(Flow { target: Target::Edge(id), .. }) => *id,
            None if at.class == Class::Pod => {
                let local = pod_end(&fact.key, at);
                let counts = self.as_counted(&fact.key, at).0;
                edge_id(&counts, self.orientation_of_new(&fact.key, local), local)
            }
            _ => return None,
        };
        let edge = self.edges.get_mut(&id)?;
        edge.dns.get_or_insert_default().add(&fact.what, moment.clock.unix_ns(fact.time_ns));
        edge.pending = true;
        Some(id)
    }
}
