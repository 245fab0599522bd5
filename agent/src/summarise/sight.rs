//! Whose an event of a flow is: the hook that counts the flow tells of it, and no other does.

use agent_ebpf::abi::FlowKey;

use super::{Table, Target, pod_end};
use crate::{
    edge::known_orientation,
    points::{Class, Place},
};

/// What the table knows of the flow that something happened on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The packet ran from the client to the server.
    pub forward: bool,
    /// No SYN told who opened.
    pub guessed: bool,
    /// The packet's source is this node's end; else its destination is.
    pub local_is_source: bool,
    /// The class of the hook.
    pub class: Class,
    /// Wire segments of the flow until then; 0 where not known.
    pub flow_segments: u64,
    /// Bytes of them.
    pub flow_bytes: u64,
    /// Mean round-trip time of the edge's sockets, microseconds; 0 where not known.
    pub rtt_us: u64,
    /// Segments that they sent again.
    pub retransmitted: u64,
}

/// Whether a hook's event is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The hook counts the flow.
    Own(Seen),
    /// Another does, or nobody of this node.
    Elsewhere,
    /// Not known yet.
    Unknown,
}

impl Table {
    /// Whose an event is that a hook at `at` saw; `role` has the bits of `tcp_state` that its packet alone tells.
    #[must_use]
    pub fn sight(&self, key: &FlowKey, role: u8, at: Place) -> Sight {
        let known = known_orientation(key, role);
        let Some(flow) = self.flows.get(key) else {
            // A pod's may be seen further on under another destination: it counts when that is known.
            if at.class != Class::Pod || self.waits(key) {
                return Sight::Unknown;
            }
            let local = pod_end(key, at);
            let orientation = known.unwrap_or_else(|| self.orientation_of_new(key, local));
            return Sight::Own(Seen {
                forward: orientation.forward,
                guessed: orientation.guessed,
                local_is_source: local.is_source,
                class: at.class,
                ..Seen::default()
            });
        };
        let edge = match flow.target {
            Target::Edge(id) => {
                // What nodes send each other to carry the rest is no flow of anybody's.
                if id.tunnel.is_some() {
                    return Sight::Elsewhere;
                }
                self.edges.get(&id)
            }
            Target::Other => None,
            Target::Nowhere if flow.waits.is_some() => return Sight::Unknown,
            Target::Nowhere | Target::Transit => return Sight::Elsewhere,
        };
        let orientation = known.unwrap_or(flow.orientation);
        let sockets = edge.and_then(|edge| edge.facts.sockets.as_ref());
        let rtt = sockets.and_then(|sockets| sockets.rtt.as_ref());
        let samples = rtt.map_or(0, |rtt| rtt.buckets.iter().sum());
        Sight::Own(Seen {
            forward: orientation.forward,
            guessed: orientation.guessed,
            local_is_source: flow.local.is_source,
            class: at.class,
            flow_segments: flow.counted.segments,
            flow_bytes: flow.counted.l3_bytes,
            rtt_us: rtt.map_or(0, |rtt| rtt.sum_us.checked_div(samples).unwrap_or(0)),
            retransmitted: sockets.map_or(0, |sockets| sockets.retransmitted),
        })
    }
}
