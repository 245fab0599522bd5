//! An edge as one side of it adds up: identity, cumulative totals, and who is the client. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use agent_ebpf::{
    abi::{EVENT_ICMP_ERROR, Event, FlowKey, FlowTotals, tcp_state},
    entry::TICK_NS,
    parse::protocol,
};
use wire::v1::{Counters, Edge as WireEdge, Point, Side, Via};

use crate::{
    dns,
    facts::EdgeFacts,
    home::TunnelKind,
    points::{Class, Local},
};

/// The lowest port that Linux gives to clients by itself (`net.ipv4.ip_local_port_range`).
pub const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// From the monotonic clock, which the kernel side stamps with, to Unix time.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// Unix time minus monotonic time, nanoseconds.
    pub offset_ns: i64,
}

impl WallClock {
    /// Unix nanoseconds of a monotonic instant.
    #[must_use]
    pub fn unix_ns(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.offset_ns)
    }

    /// The same of what a packet is stamped with, by the unit that flows keep times in. Of packets that came by the ring and of
    /// sockets finer ones are known, which are as late by the kernel's tick; in a report they would cost each edge some bytes.
    #[must_use]
    pub fn packet_unix_ns(self, monotonic_ns: u64) -> u64 {
        self.unix_ns(monotonic_ns - monotonic_ns % TICK_NS)
    }
}

/// When something is folded, and by what clock.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic nanoseconds.
    pub now_ns: u64,
    /// To Unix time.
    pub clock: WallClock,
    /// The sequence number of the report that comes next.
    pub next_seq: u64,
}

/// What an edge is keyed by, beside the incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EdgeId {
    /// Who opened, IPv4 mapped.
    pub client: [u8; 16],
    /// Who serves.
    pub server: [u8; 16],
    /// 0 where the protocol has none.
    pub server_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// The local endpoint is the server.
    pub server_side: bool,
    /// Incarnation of the local endpoint's device.
    pub device: u64,
    /// Packets between nodes that carry others: a layer of its own.
    pub tunnel: Option<TunnelKind>,
    /// The local endpoint is a socket of this cgroup under the node's own address; 0 for others.
    pub cgroup: u32,
}

/// Who opened a flow's connection, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation {
    /// The flow runs from the client to the server.
    pub forward: bool,
    /// No SYN told; the rule did.
    pub guessed: bool,
}

/// What a flow's own packets say about who opened: a SYN, or an ICMP echo request's type in a port.
#[must_use]
pub fn known_orientation(key: &FlowKey, state: u8) -> Option<Orientation> {
    let known = |forward| Some(Orientation { forward, guessed: false });
    if state & tcp_state::OPENER != 0 {
        return known(true);
    }
    if state & tcp_state::ACCEPTOR != 0 {
        return known(false);
    }
    // Whoever sent the echo request is the client.
    if matches!(key.protocol, protocol::ICMP | protocol::ICMPV6) && key.source_port != key.destination_port {
        return known(key.destination_port != 0);
    }
    None
}

/// The rule from a packet alone, the same on every node: the lower port serves, a tie goes to the lower address.
#[must_use]
pub fn guessed_orientation(key: &FlowKey) -> Orientation {
    let forward = (key.destination_port, key.destination) < (key.source_port, key.source);
    Orientation { forward, guessed: true }
}

/// The edge that a flow belongs to.
#[must_use]
pub fn edge_id(key: &FlowKey, orientation: Orientation, local: Local) -> EdgeId {
    let (client, server, server_port) = if orientation.forward {
        (key.source, key.destination, key.destination_port)
    } else {
        (key.destination, key.source, key.source_port)
    };
    let server_side = local.is_source != orientation.forward;
    EdgeId {
        client,
        server,
        server_port,
        protocol: key.protocol,
        server_side,
        device: local.device,
        tunnel: None,
        cgroup: local.cgroup,
    }
}

/// The edge of a tunnel's outer packets: nobody opened it, so the lower address stands first; its source ports tell
/// nothing.
#[must_use]
pub fn carrier_id(key: &FlowKey, kind: TunnelKind, port: u16, local: Local) -> (EdgeId, Orientation) {
    let orientation = Orientation { forward: key.source < key.destination, guessed: false };
    let id = edge_id(&FlowKey { source_port: port, destination_port: port, ..*key }, orientation, local);
    (EdgeId { tunnel: Some(kind), ..id }, orientation)
}

/// Whether a flow is one way of our own connection.
#[must_use]
pub fn is_own(own: Option<(SocketAddr, SocketAddr)>, key: &FlowKey) -> bool {
    let end = |address: [u8; 16], port| SocketAddr::new(IpAddr::from(address).to_canonical(), port);
    own.is_some_and(|(ours, theirs)| {
        let source = end(key.source, key.source_port);
        let destination = end(key.destination, key.destination_port);
        (source, destination) == (ours, theirs) || (source, destination) == (theirs, ours)
    })
}

/// Whether an edge that only sockets told of has our own connection's ends.
#[must_use]
pub fn has_own_ends(own: Option<(SocketAddr, SocketAddr)>, id: &EdgeId) -> bool {
    let address = |address: [u8; 16]| IpAddr::from(address).to_canonical();
    own.is_some_and(|(ours, theirs)| {
        address(id.client) == ours.ip() && SocketAddr::new(address(id.server), id.server_port) == theirs
    })
}

/// One edge's totals since it entered the table.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    /// The sequence number at which it entered.
    pub incarnation: u64,
    /// Client to server.
    pub forward: Counters,
    /// Server to client.
    pub reverse: Counters,
    /// TCP connection attempts.
    pub opened: u64,
    /// Completed handshakes.
    pub established: u64,
    /// FINs from the client.
    pub closed: u64,
    /// RST segments, both ways.
    pub resets: u64,
    /// ICMP errors that quote this edge's packets.
    pub icmp_errors: u64,
    /// The rule told who opened.
    pub guessed: bool,
    /// The agent's own reports.
    pub own: bool,
    /// The least of the classes of hooks that counted it.
    pub class: Class,
    /// Its packets took another way past the hooks in mid-life.
    pub path_changed: bool,
    /// Unix nanoseconds.
    pub first_seen_unix_ns: u64,
    /// Unix nanoseconds of the last packet from the client; 0 for none.
    pub forward_last_unix_ns: u64,
    /// Unix nanoseconds of the last packet from the server; 0 for none.
    pub reverse_last_unix_ns: u64,
    /// Monotonic nanoseconds of the last change.
    pub active_ns: u64,
    /// Flows that add to it.
    pub flows: u32,
    /// Changed since the last report was made.
    pub pending: bool,
    /// The report that told the last change.
    pub told_seq: u64,
    /// Its DNS messages, if it carries any.
    pub dns: Option<Box<dns::Totals>>,
    /// No hook saw its packets; the sockets told of it.
    pub socket: bool,
    /// What is known of it beside packets.
    pub facts: EdgeFacts,
    /// Virtual addresses and their ports that the client named instead of the server.
    pub vias: Vec<([u8; 16], u16)>,
    /// One of two edges that count the same packets, before and after a translation, and that could not be joined.
    pub translated: bool,
}

impl Edge {
    /// Whether what moves on it is worth a report. Our own reports are not, or each would make the next; nor is a tunnel,
    /// which moves with what it carries.
    #[must_use]
    pub fn wakes(&self, id: &EdgeId) -> bool {
        !self.own && id.tunnel.is_none()
    }

    /// Adds what a flow grew by.
    pub fn add(&mut self, forward: bool, delta: &FlowTotals, now_ns: u64, clock: WallClock) {
        let last_unix_ns = clock.packet_unix_ns(delta.last_ns);
        let (way, last) = if forward {
            (&mut self.forward, &mut self.forward_last_unix_ns)
        } else {
            (&mut self.reverse, &mut self.reverse_last_unix_ns)
        };
        way.skbs += delta.skbs;
        way.segments += delta.segments;
        way.l3_bytes += delta.l3_bytes;
        way.payload_bytes += delta.payload_bytes;
        if delta.skbs > 0 {
            *last = (*last).max(last_unix_ns);
        }
        if forward {
            self.opened += u64::from(delta.opened);
            self.established += u64::from(delta.established);
            self.closed += u64::from(delta.closed);
        }
        self.resets += u64::from(delta.resets);
        self.icmp_errors += u64::from(delta.icmp_errors);
        self.active_ns = now_ns;
        self.pending = true;
    }

    /// The edge as it goes into a report.
    #[must_use]
    pub fn report(&self, id: &EdgeId, is_final: bool) -> WireEdge {
        WireEdge {
            client: address_bytes(id.client),
            server: address_bytes(id.server),
            server_port: u32::from(id.server_port),
            protocol: u32::from(id.protocol),
            side: if id.server_side { Side::Server } else { Side::Client }.into(),
            device: id.device,
            cgroup: id.cgroup.into(),
            incarnation: self.incarnation,
            r#final: is_final,
            guessed: self.guessed,
            own: self.own,
            forward: Some(self.forward),
            reverse: Some(self.reverse),
            opened: self.opened,
            established: self.established,
            closed: self.closed,
            resets: self.resets,
            icmp_errors: self.icmp_errors,
            first_seen_unix_ns: self.first_seen_unix_ns,
            forward_last_unix_ns: self.forward_last_unix_ns,
            reverse_last_unix_ns: self.reverse_last_unix_ns,
            tunnel: id.tunnel.map(|kind| kind.label().to_owned()).unwrap_or_default(),
            point: if self.socket { Point::Socket } else { self.class.point() }.into(),
            path_changed: self.path_changed,
            dns: self.dns.as_ref().map(|dns| dns.report()),
            sockets: self.facts.sockets.clone(),
            owners: self.facts.owners.clone(),
            drops: self.facts.drops.clone(),
            vias: self.vias.iter().map(|(address, port)| via(*address, *port)).collect(),
            translated: self.translated,
        }
    }
}

/// One packet that found no room in the flow map, as totals.
#[must_use]
pub fn single(event: &Event) -> FlowTotals {
    let last_ns = event.time_ns;
    if event.flags & EVENT_ICMP_ERROR != 0 {
        return FlowTotals { icmp_errors: 1, last_ns, ..FlowTotals::default() };
    }
    FlowTotals {
        skbs: 1,
        segments: u64::from(event.segments),
        l3_bytes: u64::from(event.l3_bytes),
        payload_bytes: u64::from(event.payload_bytes),
        last_ns,
        ..FlowTotals::default()
    }
}

/// Whether a growth holds anything.
#[must_use]
pub fn grew(delta: &FlowTotals) -> bool {
    delta.skbs != 0 || delta.icmp_errors != 0
}

fn via(address: [u8; 16], port: u16) -> Via {
    Via { address: address_bytes(address), port: u32::from(port) }
}

fn address_bytes(address: [u8; 16]) -> Vec<u8> {
    match Ipv6Addr::from(address).to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
