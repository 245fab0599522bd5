//! Flows fold into edges: a bounded table of cumulative totals. Pure; `now` is an argument. The table is also the agent's
//! only buffer: a collector that is away costs no more memory than the table has.

mod events;
mod facts;
mod grow;
mod lesser;
mod sight;
mod tell;
mod virtuals;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use agent_ebpf::abi::{Event, FlowKey, FlowTotals, tcp_state};
use wire::v1::Counters;

use crate::{
    edge::{
        Edge, EdgeId, Moment, Orientation, edge_id, grew, guessed_orientation, has_own_ends, is_own, known_orientation,
    },
    home::{Bypass, Home, PodAddresses},
    packed::Packed,
    points::{Class, Local, PathKey, Paths, Place, Rest},
    ports::HighPorts,
    via::Vias,
};
pub use facts::{SocketEnd, Told};
pub use lesser::MAX_UNMAPPED;
use lesser::Waits;
pub use sight::{Seen, Sight};

/// A closed flow's entry is removed after this long without a packet.
pub const CLOSED_AFTER_NS: u64 = 5_000_000_000;
/// Any flow's entry is removed after this long without a packet.
pub const IDLE_AFTER_NS: u64 = 30_000_000_000;

/// How large and how long-lived the table is.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Edges at the most, retiring ones included.
    pub max_edges: usize,
    /// An edge without traffic for this long retires, nanoseconds.
    pub retire_after_ns: u64,
}

/// Where a flow's counts go.
#[derive(Debug, Clone, Copy)]
enum Target {
    Edge(EdgeId),
    Other,
    /// Nothing of it counts, or not yet.
    Nowhere,
    /// Neither end is this node's.
    Transit,
}

#[derive(Debug)]
struct Flow {
    counted: FlowTotals,
    target: Target,
    orientation: Orientation,
    local: Local,
    /// A lesser class's growth that is not decided yet.
    waits: Option<Box<Waits>>,
    /// How far a better class was when it last covered this flow.
    covered_ns: u64,
}

impl Flow {
    fn new(place: Place, target: Target) -> Self {
        Self {
            counted: FlowTotals::default(),
            target,
            orientation: Orientation { forward: true, guessed: true },
            local: Local { is_source: true, device: place.device, cgroup: 0 },
            waits: None,
            covered_ns: 0,
        }
    }
}

/// What a fold found.
#[derive(Debug, Default)]
pub struct Folded {
    /// Something other than our own reports moved.
    pub active: bool,
    /// Flows that have ended: to be taken from the kernel and handed to [`Table::finish`].
    pub ended: Vec<FlowKey>,
    /// Edges that entered the table, but for our own reports'.
    pub edges_new: u32,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    edges: HashMap<EdgeId, Edge>,
    /// Final totals that no acknowledgement covers yet.
    retiring: Vec<(EdgeId, Edge)>,
    flows: Packed<FlowKey, Flow>,
    high_ports: HighPorts,
    own: Option<(SocketAddr, SocketAddr)>,
    other: Counters,
    refused: u64,
    /// Buffers folded by device index and direction: held against what the device's program counted.
    folded: HashMap<(u32, u8), u64>,
    /// Of those, what is in no edge by that device's doing.
    rest: HashMap<(u32, u8), Rest>,
    paths: Paths,
    pods: PodAddresses,
    home: Home,
    bypass: Bypass,
    /// Packets without a flow at lesser hooks, oldest first.
    unmapped: VecDeque<Event>,
    unheld: u64,
    /// New edges of a cgroup, of which nobody was asked yet whose it is.
    unowned: Vec<EdgeId>,
    vias: Vias,
    /// New flows of pods' devices that are not counted before it is known where they lead, with what was read of them.
    waiting: HashMap<FlowKey, u64>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            edges: HashMap::new(),
            retiring: Vec::new(),
            flows: Packed::default(),
            high_ports: HighPorts::default(),
            own: None,
            other: Counters::default(),
            refused: 0,
            folded: HashMap::new(),
            rest: HashMap::new(),
            paths: Paths::default(),
            pods: PodAddresses::default(),
            home: Home::default(),
            bypass: Bypass::default(),
            unmapped: VecDeque::new(),
            unheld: 0,
            unowned: Vec::new(),
            vias: Vias::default(),
            waiting: HashMap::new(),
        }
    }

    /// Says which addresses are the node's own, and which ports its tunnels have.
    pub fn set_home(&mut self, home: Home) {
        self.home = home;
    }

    /// Whether packets reach pods past their devices.
    #[must_use]
    pub fn bypassed(&self, now_ns: u64) -> bool {
        self.bypass.is_so(now_ns)
    }

    /// How often a flow's counts moved to another class of hook in mid-life.
    #[must_use]
    pub fn path_changes(&self) -> u64 {
        self.paths.changes()
    }

    /// Buffers of a device that were folded, by direction.
    #[must_use]
    pub fn folded(&self, ifindex: u32) -> [u64; 2] {
        [0, 1].map(|direction| self.folded.get(&(ifindex, direction)).copied().unwrap_or(0))
    }

    /// Forgets the sums of a device that is gone.
    pub fn forget_device(&mut self, ifindex: u32) {
        self.folded.retain(|(index, _), _| *index != ifindex);
        self.rest.retain(|(index, _), _| *index != ifindex);
        self.free_addresses(ifindex);
    }

    /// A device is gone: what it was known to have behind it may be anywhere.
    pub fn free_addresses(&mut self, ifindex: u32) {
        self.pods.forget(ifindex);
    }

    /// Paths remembered, of flows and of packets without one.
    #[must_use]
    pub fn paths_held(&self) -> usize {
        self.paths.held()
    }

    /// Edges held, retiring ones included.
    #[must_use]
    pub fn held(&self) -> usize {
        self.edges.len() + self.retiring.len()
    }

    /// What new flows counted while the table was full.
    #[must_use]
    pub fn other(&self) -> Counters {
        self.other
    }

    /// Flows that found the table full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Names the connection that the agent's own reports take: (our end, the collector's). Its flow may be in the table
    /// already, since the ring tells of it before the connection is up.
    pub fn set_own(&mut self, own: Option<(SocketAddr, SocketAddr)>) {
        if self.own == own {
            return;
        }
        self.own = own;
        let ours = self.flows.iter().filter(|(key, _)| is_own(own, key));
        let targets: Vec<_> = ours.map(|(_, flow)| flow.target).collect();
        for target in targets {
            if let Target::Edge(id) = target
                && let Some(edge) = self.edges.get_mut(&id)
            {
                edge.own = true;
                edge.pending = true;
            }
        }
        let sockets = self.edges.iter_mut().filter(|(id, edge)| edge.socket && has_own_ends(own, id));
        for (_, edge) in sockets {
            edge.own = true;
            edge.pending = true;
        }
    }

    /// Folds current readings of flows. `place` says where an interface index is.
    pub fn fold(
        &mut self,
        readings: impl Iterator<Item = (FlowKey, FlowTotals)>,
        moment: Moment,
        place: impl Fn(u32) -> Place,
    ) -> Folded {
        let mut folded = Folded::default();
        // What is known of pods' devices, which is nearly all, is read as it comes; the rest when all of it is there.
        let mut rest = Vec::new();
        for (key, totals) in readings {
            let at = place(key.ifindex);
            let known = at.class == Class::Pod && !self.waits(&key);
            if !known || !self.read(&key, &totals, at, moment, &mut folded) {
                rest.push((key, totals));
            }
            let idle_ns = moment.now_ns.saturating_sub(totals.last_ns);
            let closed = totals.tcp_state & (tcp_state::FIN | tcp_state::RESET) != 0;
            if idle_ns > IDLE_AFTER_NS || (closed && idle_ns > CLOSED_AFTER_NS) {
                folded.ended.push(key);
            }
        }
        self.look_onward(&rest, moment, &place);
        folded.active |= !self.waiting.is_empty();
        let mut lesser = Vec::new();
        // Flows that know who opened come first, so that the other way of the same connection need not guess.
        for reading in &rest {
            let (key, totals) = reading;
            let at = place(key.ifindex);
            let known = known_orientation(key, totals.tcp_state);
            if at.class != Class::Pod {
                self.meet(key, totals, at);
                lesser.push((at, known.is_none(), reading));
            } else if let Some(orientation) = known
                && !self.flows.contains_key(key)
                && !self.waits(key)
            {
                self.enter(key, orientation, FlowTotals::default(), at, moment, &mut folded);
            }
        }
        for (key, totals) in &rest {
            let at = place(key.ifindex);
            if self.waits(key) {
                self.hold(key, totals);
            } else if at.class == Class::Pod {
                if !self.flows.contains_key(key) {
                    let orientation = self.orientation_of_new(key, pod_end(key, at));
                    self.enter(key, orientation, FlowTotals::default(), at, moment, &mut folded);
                }
                self.read(key, totals, at, moment, &mut folded);
            }
        }
        // The better class first: the lesser one then finds its path owned.
        lesser.sort_by_key(|(at, guesses, _)| (at.class, *guesses));
        for (at, _, (key, totals)) in lesser {
            self.read_lesser(key, totals, at, moment, false, &mut folded);
        }
        self.release_unmapped(moment, &place, &mut folded);
        self.paths.forget_loose(moment.now_ns);
        folded
    }

    /// Takes a flow's final totals, or its last known ones, and forgets the flow.
    pub fn finish(
        &mut self,
        key: &FlowKey,
        last: Option<&FlowTotals>,
        moment: Moment,
        place: impl Fn(u32) -> Place,
    ) -> Folded {
        let mut folded = Folded::default();
        let at = place(key.ifindex);
        let known = self.flows.get(key).map(|flow| flow.counted);
        match (at.class, last.or(known.as_ref())) {
            (Class::Pod, Some(totals)) => {
                self.read(key, totals, at, moment, &mut folded);
            }
            (_, Some(totals)) => self.read_lesser(key, totals, at, moment, true, &mut folded),
            (_, None) => {}
        }
        if let Some(flow) = self.flows.remove(key) {
            self.leave(flow.target);
            self.paths.leave(PathKey::of(&self.as_counted(key, at).0, at.class), (at.class, key.ifindex));
            self.vias.leave(key, at.class.local_is_source(key));
        }
        folded
    }

    fn orientation_of_event(&self, event: &Event, local: Local) -> Orientation {
        known_orientation(&event.key, event.flags).unwrap_or_else(|| self.orientation_of_new(&event.key, local))
    }

    fn orientation_of_new(&self, key: &FlowKey, local: Local) -> Orientation {
        if let Some(flow) = self.flows.get(&key.reversed())
            && matches!(flow.target, Target::Edge(_) | Target::Other)
        {
            return Orientation { forward: !flow.orientation.forward, ..flow.orientation };
        }
        // A connection that slept longer than its flow's entry was kept, or whose other way another hook sees: its edge
        // still knows who opened.
        let known = [true, false].map(|forward| Orientation { forward, guessed: false });
        let counts = self.vias.translate(key, local.is_source).map_or(*key, |(counts, _)| counts);
        let told = |way: &Orientation| self.edges.get(&edge_id(&counts, *way, local)).is_some_and(|edge| !edge.guessed);
        known.into_iter().find(told).unwrap_or_else(|| guessed_orientation(key))
    }

    /// Gives a pod device's flow its edge, and says which; `counted` of it is in an edge already.
    fn enter(
        &mut self,
        key: &FlowKey,
        orientation: Orientation,
        counted: FlowTotals,
        at: Place,
        moment: Moment,
        folded: &mut Folded,
    ) -> Target {
        let local = pod_end(key, at);
        let (counts, via) = self.as_counted(key, at);
        let id = edge_id(&counts, orientation, local);
        let target = self.target(key, id, orientation, moment.now_ns, moment, folded);
        self.join(target, orientation);
        self.mark(key, target, local, via);
        let flow = Flow { counted, orientation, local, ..Flow::new(at, target) };
        if self.flows.insert(*key, flow) {
            self.paths.enter(PathKey::of(&counts, at.class));
            self.vias.enter(key, local.is_source);
        }
        if local.is_source {
            self.pods.learn(key.source, key.ifindex, at.device);
        }
        target
    }

    /// Reads a pod device's flow; false if it is not known.
    fn read(&mut self, key: &FlowKey, totals: &FlowTotals, at: Place, moment: Moment, folded: &mut Folded) -> bool {
        let path = PathKey::of(&self.as_counted(key, at).0, at.class);
        let Some(flow) = self.flows.get_mut(key) else { return false };
        let delta = totals.since(&flow.counted);
        if !grew(&delta) {
            return true;
        }
        flow.counted = *totals;
        let (mut target, mut orientation) = (flow.target, flow.orientation);
        *self.folded.entry((key.ifindex, key.direction)).or_default() += delta.skbs + u64::from(delta.icmp_errors);
        let changed = self.paths.best(path, key.ifindex, totals.last_ns);
        // A SYN on a connection that had been guessed the other way round: what comes from now on is known.
        if let Some(known) = known_orientation(key, totals.tcp_state)
            && known.forward != orientation.forward
        {
            self.leave(target);
            target = self.enter(key, known, *totals, at, moment, folded);
            orientation = known;
        }
        self.grow(target, orientation, &delta, at, changed, moment, folded);
        true
    }
}

/// The local end of a flow at a pod's device.
fn pod_end(key: &FlowKey, at: Place) -> Local {
    Local { is_source: at.class.local_is_source(key), device: at.device, cgroup: 0 }
}
