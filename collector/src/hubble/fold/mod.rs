//! Hubble's flows, each of them one observation of one packet, folded to edges as ours are: who opened, who serves, the
//! server's port, the protocol. Pure; memory is bounded whatever comes in.
//!
//! Several observations of one packet are one; replies are turned round; what a node sent in a pod's name after masquerade
//! is the pod's own; a ClusterIP is told by the socket's translation; a policy's verdict stands beside the drop it made; an
//! ICMP error belongs to the edge that it quotes; neighbour discovery is no edge at all.

mod edge;
mod read;
mod recent;
mod translate;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

pub use self::edge::{Edge, End, Hidden, Key, NodeSeen, Verdict};
use self::{
    edge::MAX_LISTED,
    read::{Kind, Packet},
    recent::Recent,
    translate::Translation,
};
use super::proto::{
    flow::{Flow, LostEvent},
    observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
    relay::{NodeState, NodeStatusEvent},
};
use crate::time::{Ns, SECOND};

/// How much a fold holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Edges; flows of further ones are counted and refused.
    pub edges: usize,
    /// Connections remembered, so that none counts twice.
    pub connections: usize,
    /// Nodes.
    pub nodes: usize,
    /// Translations of sockets that wait for their connection, and masqueraded flows that wait for theirs.
    pub waiting: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { edges: 65_536, connections: 262_144, nodes: 4_096, waiting: 4_096 }
    }
}

/// A port is used again no sooner than this.
const PORT_REST: Ns = SECOND;

/// One connection: ends and ports, client first.
type Tuple = (IpAddr, IpAddr, u16, u16, u8);
/// A connection by what masquerade leaves of it: server, both ports, protocol.
type Masked = (IpAddr, u16, u16, u8);

#[derive(Debug)]
struct Connection {
    opened: Ns,
    closed: bool,
}

/// Flows on their way to edges.
#[derive(Debug)]
pub struct Fold {
    bounds: Bounds,
    edges: HashMap<Key, Edge>,
    /// The edge between two ends that was seen last, for ICMP errors.
    latest: Recent<(End, End), Key>,
    connections: Recent<Tuple, Connection>,
    masked: Recent<Masked, (End, u32)>,
    /// Which pod has an address, as some flows say and others leave out.
    pods: Recent<IpAddr, Arc<str>>,
    /// Which service has an address.
    services: Recent<IpAddr, Arc<str>>,
    hosts: BTreeMap<IpAddr, Arc<str>>,
    nodes: BTreeMap<Arc<str>, NodeSeen>,
    translations: Vec<Translation>,
    masqueraded: Vec<(Packet, u32)>,
    hidden: Hidden,
}

impl Default for Fold {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Fold {
    /// Nothing yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            edges: HashMap::new(),
            latest: Recent::new(bounds.connections),
            connections: Recent::new(bounds.connections),
            masked: Recent::new(bounds.connections),
            pods: Recent::new(bounds.connections),
            services: Recent::new(bounds.connections),
            hosts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            translations: Vec::new(),
            masqueraded: Vec::new(),
            hidden: Hidden::default(),
        }
    }

    /// Takes a response; `arrived` is when it came, if it was waited for.
    pub fn add(&mut self, response: &GetFlowsResponse, arrived: Option<Ns>) {
        match &response.response_types {
            Some(ResponseTypes::Flow(flow)) => self.flow(flow, &response.node_name, arrived),
            Some(ResponseTypes::LostEvents(lost)) => self.lost(lost, &response.node_name),
            Some(ResponseTypes::NodeStatus(status)) => self.status(status),
            None => self.hidden.unreadable += 1,
        }
    }

    fn node(&mut self, name: &str) -> Option<(Arc<str>, &mut NodeSeen)> {
        if !self.nodes.contains_key(name) && self.nodes.len() >= self.bounds.nodes {
            self.hidden.refused_nodes += 1;
            return None;
        }
        let name: Arc<str> = name.into();
        Some((Arc::clone(&name), self.nodes.entry(name).or_default()))
    }

    fn lost(&mut self, lost: &LostEvent, node: &str) {
        self.hidden.lost_events = self.hidden.lost_events.saturating_add(lost.num_events_lost);
        if let Some((_, seen)) = self.node(node) {
            seen.lost_events = seen.lost_events.saturating_add(lost.num_events_lost);
        }
    }

    /// The stream broke: what happened meanwhile may be missing, of any node.
    pub fn gap(&mut self) {
        for seen in self.nodes.values_mut() {
            seen.was_away = true;
        }
    }

    fn status(&mut self, status: &NodeStatusEvent) {
        let away = match NodeState::try_from(status.state_change) {
            Ok(NodeState::NodeConnected) => None,
            Ok(NodeState::NodeUnavailable) => Some("unavailable"),
            Ok(NodeState::NodeGone) => Some("gone"),
            Ok(NodeState::NodeError) => Some("error"),
            Ok(NodeState::UnknownNodeState) | Err(_) => return,
        };
        for name in &status.node_names {
            if let Some((_, seen)) = self.node(name) {
                seen.away = away;
                seen.was_away |= away.is_some();
            }
        }
    }

    fn flow(&mut self, flow: &Flow, node: &str, arrived: Option<Ns>) {
        self.hidden.flows += 1;
        let node = if flow.node_name.is_empty() { node } else { &flow.node_name };
        let packet = match read::packet(flow) {
            Kind::Packet(packet) => packet,
            Kind::Socket(packet) => return self.translate(flow, packet, node),
            Kind::Neighbours => {
                self.hidden.neighbour_discovery += 1;
                return;
            }
            Kind::Unreadable => {
                self.hidden.unreadable += 1;
                return;
            }
        };
        let node = match self.node(node) {
            Some((name, seen)) => {
                seen.saw(packet.time, arrived);
                name
            }
            None => node.into(),
        };
        let mut packet = Packet { node, ..packet };
        self.learn(&packet);
        for at in 0..2 {
            if let (End::Address(address), address_of) = (&packet.ends[at], packet.addresses[at])
                && let Some(pod) = self.pods.get(address)
            {
                debug_assert_eq!(*address, address_of);
                packet.ends[at] = End::Pod(Arc::clone(pod));
            }
        }
        if packet.error {
            return self.failure(&packet);
        }
        if let Some(identity) = packet.masqueraded {
            return self.unmask(packet, identity, true);
        }
        self.count(packet);
    }

    /// Who has which address.
    fn learn(&mut self, packet: &Packet) {
        for at in 0..2 {
            match &packet.ends[at] {
                End::Pod(pod) => self.pods.put(packet.addresses[at], Arc::clone(pod)),
                End::Address(address) if packet.host[at] && self.hosts.len() < self.bounds.nodes => {
                    self.hosts.insert(*address, Arc::clone(&packet.node));
                }
                End::Address(address) => {
                    if let Some(service) = &packet.services[at] {
                        self.services.put(*address, Arc::clone(service));
                    }
                }
            }
        }
    }

    /// An ICMP error tells of the edge between the same ends.
    fn failure(&mut self, packet: &Packet) {
        let [source, destination] = packet.ends.clone();
        let pair = (destination.clone(), source.clone());
        let key = self.latest.get(&pair).cloned().or_else(|| self.latest.get(&(source, destination)).cloned());
        match key.and_then(|key| self.edges.get_mut(&key)) {
            Some(edge) => edge.icmp_errors += 1,
            None => self.hidden.stray_errors += 1,
        }
    }

    /// What a node sent in a pod's name: the same packet was seen before, or will be.
    fn unmask(&mut self, packet: Packet, identity: u32, wait: bool) {
        let masked = (packet.addresses[1], packet.ports[0], packet.ports[1], packet.protocol);
        match self.masked.get(&masked) {
            Some((client, known)) if *known == identity => {
                let key = Key { client: client.clone(), server: packet.ends[1].clone(), ..packet.key() };
                self.hidden.masqueraded += 1;
                if let Some(edge) = self.edges.get_mut(&key) {
                    edge.seen_by(&packet.node);
                }
            }
            _ if wait && self.masqueraded.len() < self.bounds.waiting => self.masqueraded.push((packet, identity)),
            // Nothing else told of it: it is the node's.
            _ => self.count(packet),
        }
    }

    /// A packet of an edge.
    fn count(&mut self, mut packet: Packet) {
        if !packet.turned && self.is_answer(&packet) {
            packet.turn();
        }
        let key = packet.key();
        if !self.edges.contains_key(&key) {
            if self.edges.len() >= self.bounds.edges {
                self.hidden.refused_flows += 1;
                return;
            }
            self.edges.insert(key.clone(), Edge::new(key.clone(), packet.time));
        }
        self.latest.put((key.client.clone(), key.server.clone()), key.clone());
        if matches!(key.client, End::Pod(_)) {
            let masked = (packet.addresses[1], packet.ports[0], packet.ports[1], packet.protocol);
            self.masked.put(masked, (key.client.clone(), packet.identity));
        }
        let opens = self.opens(&packet);
        let via = if packet.begins || opens { self.take_translation(&packet) } else { None };
        let Some(edge) = self.edges.get_mut(&key) else { return };
        edge.add(&packet);
        edge.connections += u64::from(opens);
        edge.via.extend(via.filter(|_| edge.via.len() < MAX_LISTED));
    }

    /// Nothing says which way it went, but the other way is known.
    fn is_answer(&self, packet: &Packet) -> bool {
        if packet.certain {
            return false;
        }
        let mut other = packet.key();
        std::mem::swap(&mut other.client, &mut other.server);
        other.port = packet.ports[0];
        !self.edges.contains_key(&packet.key()) && self.edges.contains_key(&other)
    }

    /// Whether this is the first that is heard of a connection.
    fn opens(&mut self, packet: &Packet) -> bool {
        let [client, server] = packet.addresses;
        let tuple = (client, server, packet.ports[0], packet.ports[1], packet.protocol);
        let Some(known) = self.connections.get(&tuple) else {
            let opens = packet.begins;
            self.connections.put(tuple, Connection { opened: packet.time, closed: packet.ends_it });
            return opens;
        };
        if packet.begins && known.closed && packet.time >= known.opened + PORT_REST {
            *known = Connection { opened: packet.time, closed: false };
            return packet.tcp;
        }
        known.closed |= packet.ends_it;
        false
    }

    /// What waited for an earlier flow waits no longer.
    pub fn settle(&mut self) {
        for (packet, identity) in std::mem::take(&mut self.masqueraded) {
            self.unmask(packet, identity, false);
        }
    }

    /// Forgets edges that nobody spoke of since `before`.
    pub fn forget(&mut self, before: Ns) {
        self.edges.retain(|_, edge| edge.last >= before);
        self.translations.retain(|known| known.time >= before);
    }

    /// The edges, in no order.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.edges.values()
    }

    /// The nodes that told something, or that something was told of.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<Arc<str>, NodeSeen> {
        &self.nodes
    }

    /// What became no edge.
    #[must_use]
    pub fn hidden(&self) -> Hidden {
        Hidden {
            untranslated: self.hidden.untranslated + self.translations.len() as u64,
            forgotten_connections: self.connections.forgotten,
            ..self.hidden
        }
    }

    /// The service that has an address, where some flow said so.
    #[must_use]
    pub fn service(&self, address: &IpAddr) -> Option<&Arc<str>> {
        self.services.peek(address)
    }

    /// The node that has an address, where some flow said so.
    #[must_use]
    pub fn host(&self, address: &IpAddr) -> Option<&Arc<str>> {
        self.hosts.get(address)
    }
}
