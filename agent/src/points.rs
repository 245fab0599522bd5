//! Where a packet is counted. It passes several hooks on its way (a pod's device, a tunnel, an uplink); for each five-tuple
//! and local side the best class of hook that sees it owns the counts. Pure; times are monotonic nanoseconds.

use std::collections::VecDeque;

use agent_ebpf::{
    abi::{Direction, FlowKey},
    facts::Tuple,
};
use wire::v1::Point;

use crate::packed::Packed;

/// A lesser class waits this long before it may own what it saw: the better class's entry appears microseconds later, but a
/// reading of the map may take the two in any order.
pub const HOLD_NS: u64 = 100_000_000;
/// An owner that has seen nothing for this long while a lesser class has is no owner any more.
pub const SILENT_NS: u64 = 2_000_000_000;
/// Paths remembered for packets that found no room in the flow map.
const MAX_LOOSE: usize = 65_536;

/// A class of hooks, best first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The host's end of a pod's device.
    #[default]
    Pod,
    /// A tunnel's device: inner packets.
    Tunnel,
    /// A device that leaves the node.
    Uplink,
    /// The pod's cgroup: above the devices, where not every packet comes. Such flows have the interface index 0.
    Cgroup,
}

impl Class {
    /// As the wire has it.
    #[must_use]
    pub fn point(self) -> Point {
        match self {
            Self::Pod => Point::Pod,
            Self::Cgroup => Point::Cgroup,
            Self::Tunnel => Point::Tunnel,
            Self::Uplink => Point::Uplink,
        }
    }

    /// Whether the local end of a flow is its source: what a pod sends comes *in* at the host's end of its device, what a
    /// node sends goes *out* by its tunnels and uplinks.
    #[must_use]
    pub fn local_is_source(self, key: &FlowKey) -> bool {
        let ingress = key.direction == Direction::Ingress as u8;
        ingress == matches!(self, Self::Pod | Self::Cgroup)
    }
}

/// Where a flow was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The class of its hook.
    pub class: Class,
    /// The device's incarnation; 0 where there is none.
    pub device: u64,
}

/// The local end of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Local {
    /// It is the flow's source.
    pub is_source: bool,
    /// Incarnation of its device.
    pub device: u64,
    /// The cgroup of its socket if it is under the node's own address; 0 for others, and where unknown.
    pub cgroup: u32,
}

/// What a device saw one way that is in no edge by its doing, in buffers. It only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// A better hook of the same node counted it.
    pub elsewhere: u64,
    /// Neither end is this node's.
    pub transit: u64,
    /// Under the node's address, but of no socket of the node's: masqueraded, or forwarded from a node port.
    pub translated: u64,
}

/// A five-tuple one way, and which end of it is local: what passes several hooks of a node on the same side. A flow's key at
/// no device, whose direction says whether the local end is the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathKey(FlowKey);

impl PathKey {
    /// The path of a flow at a class of hook.
    #[must_use]
    pub fn of(key: &FlowKey, class: Class) -> Self {
        Self(FlowKey { ifindex: 0, direction: class.local_is_source(key).into(), ..*key })
    }

    fn reversed(self) -> Self {
        Self(self.0.reversed())
    }
}

/// One hook: its class, and the device's interface index.
pub type Hook = (Class, u32);

#[derive(Debug, Clone, Copy)]
struct Owner {
    hook: Hook,
    last_ns: u64,
}

#[derive(Debug, Default)]
struct Path {
    owner: Option<Owner>,
    flows: u32,
    /// The cgroup of the socket of the node's own that a packet of it came from; 0 where unknown.
    socket: Option<u32>,
}

/// What is to be done with what a lesser class saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Own,
    /// It counts from the last reading on: until then another hook did.
    Took,
    /// It counts, since the owner fell silent.
    Moved,
    /// A better hook counted it.
    Covered,
    /// Not known yet.
    Wait,
}

/// Who owns which path.
#[derive(Debug, Default)]
pub struct Paths {
    paths: Packed<PathKey, Path>,
    /// Paths of packets without a flow, oldest first.
    loose: VecDeque<(u64, PathKey)>,
    changes: u64,
}

impl Paths {
    /// A flow of this path entered the table.
    pub fn enter(&mut self, key: PathKey) {
        self.paths.get_or_default(key).flows += 1;
    }

    /// A flow left the table; its hook owns the path no more.
    pub fn leave(&mut self, key: PathKey, hook: Hook) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        path.flows = path.flows.saturating_sub(1);
        if path.owner.is_some_and(|owner| owner.hook == hook) {
            path.owner = None;
        }
        if path.flows == 0 {
            self.paths.remove(&key);
        }
    }

    /// A packet of this path left from a socket of the node's own, of this cgroup.
    pub fn from_socket(&mut self, key: PathKey, cgroup: u32) {
        if let Some(path) = self.paths.get_mut(&key) {
            let known = path.socket.unwrap_or(0);
            path.socket = Some(if cgroup == 0 { known } else { cgroup });
        }
    }

    /// The cgroup of the node's own socket that a packet of this path left from; `None` where there was none.
    #[must_use]
    pub fn socket(&self, key: PathKey) -> Option<u32> {
        self.paths.get(&key)?.socket
    }

    /// Whether the device of the pod that sent it saw a flow as it is.
    #[must_use]
    pub fn seen_by_sender(&self, key: &FlowKey) -> bool {
        self.is_pods(PathKey(FlowKey { ifindex: 0, direction: 1, ..*key }))
    }

    /// Whether a pod's device counts the path.
    #[must_use]
    pub fn is_pods(&self, path: PathKey) -> bool {
        let owner = self.paths.get(&path).and_then(|path| path.owner);
        owner.is_some_and(|owner| owner.hook.0 == Class::Pod)
    }

    /// The same of the path that this one answers: `None` where nothing went the other way.
    #[must_use]
    pub fn answers_socket(&self, key: PathKey) -> Option<Option<u32>> {
        self.paths.get(&key.reversed()).map(|path| path.socket)
    }

    /// The cgroup of the node's own socket that such packets leave from, or reach; 0 where unknown.
    #[must_use]
    pub fn cgroup(&self, tuple: &Tuple) -> u32 {
        let key = FlowKey {
            source: tuple.source,
            destination: tuple.destination,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
            protocol: tuple.protocol,
            ..FlowKey::default()
        };
        let [back, out] = [0, 1].map(|local_is_source| PathKey(FlowKey { direction: local_is_source, ..key }));
        let back = back.reversed();
        self.socket(out).or_else(|| self.socket(back)).unwrap_or(0)
    }

    /// The best class saw the path: it owns it. Says whether it took it from another.
    pub fn best(&mut self, key: PathKey, ifindex: u32, last_ns: u64) -> bool {
        let Some(path) = self.paths.get_mut(&key) else { return false };
        let before = path.owner.replace(Owner { hook: (Class::Pod, ifindex), last_ns });
        if let (Some(owner), Some(before)) = (&mut path.owner, before) {
            owner.last_ns = owner.last_ns.max(before.last_ns);
        }
        let took = before.is_some_and(|owner| owner.hook.0 != Class::Pod);
        self.changes += u64::from(took);
        took
    }

    /// The best class saw a packet that has no flow. It is remembered for a moment.
    pub fn best_loose(&mut self, key: PathKey, ifindex: u32, time_ns: u64) {
        self.forget_loose(time_ns);
        if self.loose.len() >= MAX_LOOSE
            && let Some(oldest) = self.loose.pop_front()
        {
            self.forget_if_loose(oldest);
        }
        self.paths.get_or_default(key);
        self.best(key, ifindex, time_ns);
        self.loose.push_back((time_ns, key));
    }

    /// Forgets paths that no flow has and whose last packet is long past.
    pub fn forget_loose(&mut self, now_ns: u64) {
        while let Some(oldest) = self.loose.pop_front_if(|(time_ns, _)| now_ns.saturating_sub(*time_ns) > 8 * HOLD_NS) {
            self.forget_if_loose(oldest);
        }
    }

    fn forget_if_loose(&mut self, (time_ns, key): (u64, PathKey)) {
        let newer = |path: &Path| path.owner.is_some_and(|owner| owner.last_ns > time_ns);
        if self.paths.get(&key).is_some_and(|path| path.flows == 0 && !newer(path)) {
            self.paths.remove(&key);
        }
    }

    /// What becomes of growth that a lesser class saw, the last of it at `last_ns`, and that has waited for
    /// `waited_ns`. `covered_ns` is how far the owner was when it last covered this flow.
    pub fn judge(&mut self, key: PathKey, hook: Hook, last_ns: u64, waited_ns: u64, covered_ns: &mut u64) -> Verdict {
        let path = self.paths.get_or_default(key);
        let waits = waited_ns < HOLD_NS;
        let mine = Some(Owner { hook, last_ns });
        let Some(owner) = &mut path.owner else {
            if waits {
                return Verdict::Wait;
            }
            path.owner = mine;
            return Verdict::Own;
        };
        if owner.hook == hook {
            owner.last_ns = owner.last_ns.max(last_ns);
            return Verdict::Own;
        }
        let better = hook.0 < owner.hook.0;
        if !better && owner.last_ns > *covered_ns {
            *covered_ns = owner.last_ns;
            return Verdict::Covered;
        }
        let silent = last_ns.saturating_sub(owner.last_ns) > SILENT_NS;
        if waits || !(better || silent) {
            return Verdict::Wait;
        }
        path.owner = mine;
        self.changes += 1;
        if silent { Verdict::Moved } else { Verdict::Took }
    }

    /// Whether another hook, as good or better, owns a path: for packets that have no flow.
    #[must_use]
    pub fn covered(&self, key: PathKey, hook: Hook) -> bool {
        let owner = self.paths.get(&key).and_then(|path| path.owner);
        owner.is_some_and(|owner| owner.hook != hook && owner.hook.0 <= hook.0)
    }

    /// Whether another hook, be it a lesser one, owns a path.
    #[must_use]
    pub fn others(&self, key: PathKey, hook: Hook) -> bool {
        self.paths.get(&key).and_then(|path| path.owner).is_some_and(|owner| owner.hook != hook)
    }

    /// How often ownership moved.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Paths held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.paths.len()
    }
}
