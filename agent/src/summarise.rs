//! Flows fold into edges: a bounded table of cumulative totals. Pure; `now` is an argument. The table is also the agent's
//! only buffer: a collector that is away costs no more memory than the table has.

use std::{collections::HashMap, net::SocketAddr};

use agent_ebpf::abi::{Event, FlowKey, FlowTotals, tcp_state};
use wire::v1::{Counters, Edge as WireEdge};

use crate::{
    dns,
    edge::{
        Edge, EdgeId, Moment, Orientation, edge_id, grew, growth, guessed_orientation, is_own, known_orientation,
        single,
    },
    ports::HighPorts,
};

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
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    counted: FlowTotals,
    target: Target,
    orientation: Orientation,
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
    flows: HashMap<FlowKey, Flow>,
    high_ports: HighPorts,
    own: Option<(SocketAddr, SocketAddr)>,
    other: Counters,
    refused: u64,
    /// Buffers folded by device index and direction: held against what the device's program counted.
    folded: HashMap<(u32, u8), u64>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            edges: HashMap::new(),
            retiring: Vec::new(),
            flows: HashMap::new(),
            high_ports: HighPorts::default(),
            own: None,
            other: Counters::default(),
            refused: 0,
            folded: HashMap::new(),
        }
    }

    /// Buffers of a device that were folded, by direction.
    #[must_use]
    pub fn folded(&self, ifindex: u32) -> [u64; 2] {
        [0, 1].map(|direction| self.folded.get(&(ifindex, direction)).copied().unwrap_or(0))
    }

    /// Forgets the sums of a device that is gone.
    pub fn forget_device(&mut self, ifindex: u32) {
        self.folded.retain(|(index, _), _| *index != ifindex);
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
    }

    /// Folds current readings of flows. `device` gives the incarnation behind an interface index.
    pub fn fold(&mut self, readings: &[(FlowKey, FlowTotals)], moment: Moment, device: impl Fn(u32) -> u64) -> Folded {
        let mut folded = Folded::default();
        // Flows that know who opened come first, so that the other way of the same connection need not guess.
        for (key, totals) in readings {
            if !self.flows.contains_key(key)
                && let Some(orientation) = known_orientation(key, totals.tcp_state)
            {
                self.enter(key, orientation, FlowTotals::default(), moment, &device, &mut folded);
            }
        }
        for (key, totals) in readings {
            if !self.flows.contains_key(key) {
                let orientation = self.orientation_of_new(key, device(key.ifindex));
                self.enter(key, orientation, FlowTotals::default(), moment, &device, &mut folded);
            }
            self.read(key, totals, moment, &device, &mut folded);
            let idle_ns = moment.now_ns.saturating_sub(totals.last_ns);
            let closed = totals.tcp_state & (tcp_state::FIN | tcp_state::RESET) != 0;
            if idle_ns > IDLE_AFTER_NS || (closed && idle_ns > CLOSED_AFTER_NS) {
                folded.ended.push(*key);
            }
        }
        folded
    }

    /// Folds a packet that found no room in the flow map.
    pub fn fold_unmapped(&mut self, event: &Event, moment: Moment, device: impl Fn(u32) -> u64) -> Folded {
        let mut folded = Folded::default();
        let key = &event.key;
        let orientation = self.orientation_of_event(event, device(key.ifindex));
        let delta = single(event);
        *self.folded.entry((key.ifindex, key.direction)).or_default() += 1;
        let target = self.target(key, orientation, event.time_ns, moment, &device, &mut folded);
        self.add(target, orientation.forward, &delta, moment, &mut folded);
        folded
    }

    /// Whether a flow that just began belongs to an edge of the table: then there is no hurry to tell of it.
    #[must_use]
    pub fn knows(&self, event: &Event, device: u64) -> bool {
        let orientation = self.orientation_of_event(event, device);
        self.edges.contains_key(&edge_id(&event.key, orientation, device))
    }

    /// Adds what a DNS message told to the edge of its flow, if the table has it; says which that is.
    pub fn dns(&mut self, fact: &dns::Fact, moment: Moment, device: impl Fn(u32) -> u64) -> Option<EdgeId> {
        let id = match self.flows.get(&fact.key) {
            Some(Flow { target: Target::Edge(id), .. }) => *id,
            Some(Flow { target: Target::Other, .. }) => return None,
            None => {
                let device = device(fact.key.ifindex);
                edge_id(&fact.key, self.orientation_of_new(&fact.key, device), device)
            }
        };
        let edge = self.edges.get_mut(&id)?;
        edge.dns.get_or_insert_default().add(&fact.what, moment.clock.unix_ns(fact.time_ns));
        edge.pending = true;
        Some(id)
    }

    /// Takes a flow's final totals, or its last known ones, and forgets the flow.
    pub fn finish(
        &mut self,
        key: &FlowKey,
        last: Option<&FlowTotals>,
        moment: Moment,
        device: impl Fn(u32) -> u64,
    ) -> Folded {
        let mut folded = Folded::default();
        if let Some(totals) = last {
            self.read(key, totals, moment, &device, &mut folded);
        }
        if let Some(flow) = self.flows.remove(key) {
            self.leave(flow.target);
        }
        folded
    }

    /// Retires edges that have been silent for long enough and that no flow adds to. One that entered since the last
    /// report waits, so that its next life has another incarnation.
    pub fn retire(&mut self, now_ns: u64, next_seq: u64) {
        let asleep = |edge: &Edge| edge.flows == 0 && edge.incarnation < next_seq;
        let silent = |edge: &Edge| asleep(edge) && now_ns.saturating_sub(edge.active_ns) >= self.limits.retire_after_ns;
        let ids: Vec<_> = self.edges.iter().filter(|(_, edge)| silent(edge)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(mut edge) = self.edges.remove(&id) {
                if edge.guessed {
                    self.high_ports.leave(&id);
                }
                edge.pending = true;
                self.retiring.push((id, edge));
            }
        }
    }

    /// The edges for report `seq`: all when `full`, else those whose last change no acknowledgement covers.
    pub fn report(&mut self, seq: u64, acked_seq: u64, full: bool) -> Vec<WireEdge> {
        let mut rows = Vec::new();
        let live = self.edges.iter_mut().map(|(id, edge)| (*id, edge, false));
        let retiring = self.retiring.iter_mut().map(|(id, edge)| (*id, edge, true));
        for (id, edge, is_final) in live.chain(retiring) {
            if edge.pending {
                edge.pending = false;
                edge.told_seq = seq;
            }
            if full {
                edge.told_seq = seq;
            }
            if edge.told_seq > acked_seq {
                rows.push(edge.report(&id, is_final));
            }
        }
        rows
    }

    /// The collector has everything up to `seq`: final totals it has need not be kept.
    pub fn acknowledge(&mut self, seq: u64) {
        self.retiring.retain(|(_, edge)| edge.pending || edge.told_seq > seq);
    }

    fn orientation_of_event(&self, event: &Event, device: u64) -> Orientation {
        known_orientation(&event.key, event.flags).unwrap_or_else(|| self.orientation_of_new(&event.key, device))
    }

    fn orientation_of_new(&self, key: &FlowKey, device: u64) -> Orientation {
        if let Some(flow) = self.flows.get(&key.reversed()) {
            return Orientation { forward: !flow.orientation.forward, ..flow.orientation };
        }
        // A connection that slept longer than its flow's entry was kept: its edge still knows who opened.
        let known = [true, false].map(|forward| Orientation { forward, guessed: false });
        let told = |way: &Orientation| self.edges.get(&edge_id(key, *way, device)).is_some_and(|edge| !edge.guessed);
        known.into_iter().find(told).unwrap_or_else(|| guessed_orientation(key))
    }

    /// Gives a flow its edge; `counted` of it is in an edge already.
    fn enter(
        &mut self,
        key: &FlowKey,
        orientation: Orientation,
        counted: FlowTotals,
        moment: Moment,
        device: &impl Fn(u32) -> u64,
        folded: &mut Folded,
    ) {
        let target = self.target(key, orientation, moment.now_ns, moment, device, folded);
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
        }
        self.flows.insert(*key, Flow { counted, target, orientation });
    }

    fn read(
        &mut self,
        key: &FlowKey,
        totals: &FlowTotals,
        moment: Moment,
        device: &impl Fn(u32) -> u64,
        folded: &mut Folded,
    ) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let delta = growth(totals, &flow.counted);
        if !grew(&delta) {
            return;
        }
        flow.counted = *totals;
        *self.folded.entry((key.ifindex, key.direction)).or_default() += delta.skbs + u64::from(delta.icmp_errors);
        // A SYN on a connection that had been guessed the other way round: what comes from now on is known.
        if let Some(known) = known_orientation(key, totals.tcp_state)
            && known.forward != flow.orientation.forward
        {
            let left = flow.target;
            self.leave(left);
            self.enter(key, known, *totals, moment, device, folded);
        }
        let Some(Flow { target, orientation, .. }) = self.flows.get(key).copied() else { return };
        if let Target::Edge(id) = target
            && let Some(edge) = self.edges.get_mut(&id)
        {
            edge.first_seen_unix_ns = edge.first_seen_unix_ns.min(moment.clock.unix_ns(delta.first_ns));
        }
        self.add(target, orientation.forward, &delta, moment, folded);
    }

    /// A flow adds to its edge no more. An edge that flows add to does not retire, so it is there.
    fn leave(&mut self, target: Target) {
        if let Target::Edge(id) = target
            && let Some(edge) = self.edges.get_mut(&id)
        {
            edge.flows = edge.flows.saturating_sub(1);
        }
    }

    fn add(&mut self, target: Target, forward: bool, delta: &FlowTotals, moment: Moment, folded: &mut Folded) {
        let edge = match target {
            Target::Edge(id) => self.edges.get_mut(&id),
            Target::Other => None,
        };
        match edge {
            Some(edge) => {
                edge.add(forward, delta, moment.now_ns, moment.clock);
                folded.active |= !edge.own;
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
    fn target(
        &mut self,
        key: &FlowKey,
        orientation: Orientation,
        first_ns: u64,
        moment: Moment,
        device: &impl Fn(u32) -> u64,
        folded: &mut Folded,
    ) -> Target {
        let mut id = edge_id(key, orientation, device(key.ifindex));
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
            first_seen_unix_ns: moment.clock.unix_ns(first_ns),
            active_ns: moment.now_ns,
            pending: true,
            ..Edge::default()
        };
        folded.edges_new += u32::from(!edge.own);
        self.edges.insert(id, edge);
        Target::Edge(id)
    }
}
