//! Orrery's own graph, as a comparison wants it: by ends that Hubble can name, too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::report::{OrrerySide, OurVerdict};
use crate::{
    hubble::fold::{self, Edge, End, Fold},
    view::{EdgeRow, NodeRow, NodeState, SideRow, Snapshot, VertexRow},
};

/// What makes an edge for both: the ids of two vertices, port and protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) client: Arc<str>,
    pub(super) server: Arc<str>,
    pub(super) port: u16,
    pub(super) protocol: String,
}

/// An edge of ours, or several that are one to Hubble.
#[derive(Debug, Clone, Default)]
pub(super) struct Ours {
    pub(super) edges: Vec<Arc<str>>,
    pub(super) skbs: u64,
    pub(super) opened: Option<u64>,
    pub(super) dropped: u64,
    pub(super) nodes: BTreeSet<Arc<str>>,
    pub(super) guessed: bool,
    pub(super) neighbours: bool,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    answered: bool,
    lost: bool,
}

impl Ours {
    pub(super) fn verdict(&self) -> OurVerdict {
        match (self.dropped > 0 || self.lost, self.answered) {
            (false, true) => OurVerdict::Forwarded,
            (true, true) => OurVerdict::Both,
            (true, false) => OurVerdict::Dropped,
            (false, false) => OurVerdict::Unanswered,
        }
    }

    pub(super) fn side(&self) -> OrrerySide {
        OrrerySide {
            edges: self.edges.clone(),
            verdict: self.verdict(),
            skbs: self.skbs,
            connections: self.opened,
            dropped: self.dropped,
            nodes: self.nodes.iter().cloned().collect(),
            guessed: self.guessed,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
        }
    }

    /// Two edges of ours that are one to Hubble.
    pub(super) fn join(&mut self, other: Self) {
        self.edges.extend(other.edges);
        self.skbs += other.skbs;
        self.opened = self.opened.zip(other.opened).map(|(a, b)| a + b);
        self.dropped += other.dropped;
        self.nodes.extend(other.nodes);
        self.guessed &= other.guessed;
        self.neighbours &= other.neighbours;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.answered |= other.answered;
        self.lost |= other.lost;
    }
}

/// The graph, to be looked things up in.
pub(super) struct Graph<'a> {
    pub(super) edges: BTreeMap<Key, Ours>,
    /// Edges of tunnels: what they carry has edges of its own.
    pub(super) tunnels: u64,
    vertices: HashMap<&'a str, &'a VertexRow>,
    nodes: HashMap<&'a str, &'a NodeRow>,
    by_address: HashMap<IpAddr, Arc<str>>,
}

impl<'a> Graph<'a> {
    /// `before`: the same graph when the window began; totals count from there.
    pub(super) fn new(before: Option<&Snapshot>, after: &'a Snapshot) -> Self {
        let mut graph = Self {
            edges: BTreeMap::new(),
            tunnels: 0,
            vertices: after.vertices.iter().map(|vertex| (&*vertex.id, &**vertex)).collect(),
            nodes: after.nodes.iter().map(|node| (&*node.name, &**node)).collect(),
            by_address: HashMap::new(),
        };
        for vertex in &after.vertices {
            for address in vertex.addresses.iter().filter_map(|address| address.parse().ok()) {
                let id = graph.home(&vertex.id);
                // A node shares its address with the pods of its network.
                if vertex.kind == "node" || !graph.by_address.contains_key(&address) {
                    graph.by_address.insert(address, id);
                }
            }
        }
        let earlier: HashMap<&str, &EdgeRow> =
            before.map_or_else(HashMap::new, |before| before.edges.iter().map(|edge| (&*edge.id, &**edge)).collect());
        for edge in &after.edges {
            if edge.tunnel.is_some() {
                graph.tunnels += 1;
                continue;
            }
            let (key, ours) = graph.read(edge, earlier.get(&*edge.id).copied(), before.is_some());
            match graph.edges.get_mut(&key) {
                Some(known) => known.join(ours),
                None => drop(graph.edges.insert(key, ours)),
            }
        }
        graph
    }

    fn read(&self, edge: &EdgeRow, earlier: Option<&EdgeRow>, counts: bool) -> (Key, Ours) {
        let icmp = edge.protocol.starts_with("icmp");
        let key = Key {
            client: self.home(&edge.client),
            server: self.home(&edge.server),
            port: if icmp { 0 } else { edge.port },
            protocol: edge.protocol.clone(),
        };
        let sides = [
            (edge.client_side.as_ref(), earlier.and_then(|edge| edge.client_side.as_ref())),
            (edge.server_side.as_ref(), earlier.and_then(|edge| edge.server_side.as_ref())),
        ];
        let most = |of: fn(&SideRow) -> u64| {
            let grown =
                sides.iter().filter_map(|(now, then)| now.map(|now| of(now).saturating_sub(then.map_or(0, of))));
            grown.max().unwrap_or(0)
        };
        let drops = |edge: &EdgeRow| edge.drops.iter().map(|drop| drop.segments).sum::<u64>();
        let lost = [edge.loss.forward_lost, edge.loss.reverse_lost];
        let ours = Ours {
            edges: vec![Arc::clone(&edge.id)],
            skbs: most(|side| side.forward.skbs + side.reverse.skbs),
            opened: (counts && edge.protocol == "tcp").then(|| most(|side| side.opened)),
            dropped: drops(edge).saturating_sub(earlier.map_or(0, drops)),
            nodes: sides.iter().filter_map(|(now, _)| *now).flat_map(|side| side.nodes.iter().cloned()).collect(),
            guessed: edge.guessed,
            neighbours: edge.protocol == "icmpv6" && matches!(edge.port, 130..=137 | 143),
            first_ms: edge.first_seen_ms,
            last_ms: edge.last_seen_ms,
            answered: if edge.protocol == "tcp" && most(|side| side.opened) > 0 {
                most(|side| side.established) > 0
            } else {
                most(|side| side.reverse.skbs) > 0
            },
            lost: lost.into_iter().flatten().any(|lost| lost > 0),
        };
        (key, ours)
    }

    /// A vertex's id; of a pod in its node's network, the node's.
    fn home(&self, id: &Arc<str>) -> Arc<str> {
        let shared = self.vertices.get(&**id).filter(|vertex| vertex.host_network);
        shared
            .and_then(|vertex| vertex.node.as_ref())
            .map_or_else(|| Arc::clone(id), |node| format!("node:{node}").into())
    }

    /// Hubble's edge under our names.
    pub(super) fn key(&self, edge: &Edge, fold: &Fold) -> Key {
        let fold::Key { client, server, port, protocol } = &edge.key;
        Key {
            client: self.end(client, fold),
            server: self.end(server, fold),
            port: *port,
            protocol: match protocol {
                1 => "icmp".to_owned(),
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                58 => "icmpv6".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            },
        }
    }

    fn end(&self, end: &End, fold: &Fold) -> Arc<str> {
        match end {
            End::Pod(pod) => self.home(&format!("pod:{pod}").into()),
            End::Address(address) => {
                let ours = self.by_address.get(address).cloned();
                let theirs = || Some(format!("node:{}", fold.host(address)?).into());
                // A service without an edge of its own is no vertex of ours.
                let service = || Some(format!("service:{}", fold.service(address)?).into());
                ours.or_else(theirs).or_else(service).unwrap_or_else(|| format!("external:{address}").into())
            }
        }
    }

    /// The nodes that the pods of an edge run on.
    pub(super) fn homes(&self, key: &Key) -> BTreeSet<Arc<str>> {
        let node = |id: &Arc<str>| self.vertices.get(&**id).and_then(|vertex| vertex.node.as_deref()).map(Arc::from);
        [&key.client, &key.server].into_iter().filter_map(node).collect()
    }

    /// What the agent of a node says; `None` where none ever did.
    pub(super) fn agent(&self, node: &str) -> Option<&'a NodeRow> {
        self.nodes.get(node).copied().filter(|node| node.last_report_ms.is_some())
    }

    /// No agent tells of the node now.
    pub(super) fn is_away(&self, node: &str) -> bool {
        self.agent(node).is_none_or(|agent| agent.state == NodeState::Lost)
    }

    /// The agent says that it does not see all.
    pub(super) fn is_blind(&self, node: &str) -> bool {
        let sees_less =
            |agent: &NodeRow| !agent.blind_spots.is_empty() || matches!(&*agent.tier, "none" | "partial" | "sockets");
        self.agent(node).is_some_and(sees_less)
    }

    /// The agent lost telemetry.
    pub(super) fn is_lossy(&self, node: &str) -> bool {
        self.agent(node).is_some_and(|agent| agent.state == NodeState::Lossy || agent.other_skbs > 0)
    }
}
