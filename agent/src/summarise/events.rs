//! What the ring tells: packets without a flow, and flows that just began.

use agent_ebpf::abi::Event;

use super::{Folded, Table, pod_end};
use crate::{
    edge::{Moment, edge_id, single},
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
}
