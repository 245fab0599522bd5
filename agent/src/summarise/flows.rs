//! The flows of the table: found by key, kept side by side. A hash map that doubles is half empty as a rule, so its buckets
//! hold a number in place of a flow, which is four times as large as its key.

use std::collections::HashMap;

use agent_ebpf::abi::FlowKey;

use super::Flow;

/// Flows by key.
#[derive(Debug, Default)]
pub(super) struct Flows {
    places: HashMap<FlowKey, u32>,
    flows: Vec<Flow>,
    free: Vec<u32>,
}

impl Flows {
    pub(super) fn contains_key(&self, key: &FlowKey) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.flows.get(*self.places.get(key)? as usize)
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.flows.get_mut(*self.places.get(key)? as usize)
    }

    /// Puts a flow in; says whether none had this key.
    pub(super) fn insert(&mut self, key: FlowKey, flow: Flow) -> bool {
        if let Some(known) = self.get_mut(&key) {
            *known = flow;
            return false;
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.flows[place as usize] = flow;
                place
            }
            None => {
                self.flows.push(flow);
                // As many as the kernel's map holds, whose size is a u32.
                (self.flows.len() - 1) as u32
            }
        };
        self.places.insert(key, place);
        true
    }

    /// Takes a flow out, and gives where it counted.
    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<super::Target> {
        let place = self.places.remove(key)?;
        self.free.push(place);
        let flow = &mut self.flows[place as usize];
        // It may own memory, and stays until its place is taken.
        flow.waits = None;
        Some(flow.target)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FlowKey, &Flow)> {
        self.places.iter().map(|(key, place)| (key, &self.flows[*place as usize]))
    }
}

#[cfg(test)]
mod tests {
    use agent_ebpf::abi::{FlowKey, FlowTotals};

    use super::{super::Target, Flow, Flows};
    use crate::points::Place;

    #[test]
    fn a_place_is_used_again_and_nobody_elses_flow_is_found() {
        let key = |port| FlowKey { source_port: port, ..FlowKey::default() };
        let flow = |skbs| {
            let counted = FlowTotals { skbs, ..FlowTotals::default() };
            Flow { counted, ..Flow::new(Place::default(), Target::Nowhere) }
        };
        let mut flows = Flows::default();
        assert!(flows.insert(key(1), flow(1)) && flows.insert(key(2), flow(2)) && !flows.insert(key(1), flow(3)));
        assert!(flows.remove(&key(1)).is_some() && flows.remove(&key(1)).is_none());
        assert!(flows.insert(key(4), flow(4)));
        assert_eq!(flows.flows.len(), 2, "one place for one, then the other");
        let skbs = |port| flows.get(&key(port)).map(|flow| flow.counted.skbs);
        assert_eq!([1, 2, 4].map(skbs), [None, Some(2), Some(4)]);
        assert_eq!(flows.iter().count(), 2);
    }
}
