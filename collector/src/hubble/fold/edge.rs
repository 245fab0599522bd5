//! What a fold makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::read::Packet;
use crate::{hubble::text, time::Ns};

/// Reasons, policies, ClusterIPs and nodes listed of one edge.
pub(super) const MAX_LISTED: usize = 16;

/// One end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// A pod, as `NAMESPACE/NAME`.
    Pod(Arc<str>),
    /// All else: a node, the world, a service.
    Address(IpAddr),
}

/// What makes an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Who opened it.
    pub client: End,
    /// Who serves.
    pub server: End,
    /// The server's port; 0 where the protocol has none.
    pub port: u16,
    /// IANA's number.
    pub protocol: u8,
}

/// What Hubble said of an edge's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// They went on.
    Forwarded,
    /// None went on.
    Dropped,
    /// Some did, some did not.
    Both,
}

/// An edge, as Hubble saw it.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Which.
    pub key: Key,
    /// Addresses that its ends had, client first.
    pub addresses: [Option<IpAddr>; 2],
    /// Observations that went on.
    pub forwarded: u64,
    /// Observations that were dropped.
    pub dropped: u64,
    /// Connections opened (TCP: first packets; else: pairs of ports).
    pub connections: u64,
    /// Policies that allowed or denied it, as `NAMESPACE/NAME`.
    pub policies: BTreeSet<String>,
    /// Nodes that reported it.
    pub nodes: BTreeSet<Arc<str>>,
    /// ClusterIPs that some of its connections were opened to.
    pub via: BTreeSet<String>,
    /// ICMP errors that quote it.
    pub icmp_errors: u64,
    /// The earliest observation, by its node's clock.
    pub first: Ns,
    /// The latest one.
    pub last: Ns,
    /// Some observations stand for several.
    pub aggregated: bool,
    /// By reason: drops, and verdicts of policies, which come beside the drops they make.
    reasons: BTreeMap<String, [u64; 2]>,
}

impl Edge {
    pub(super) fn new(key: Key, time: Ns) -> Self {
        Self {
            key,
            addresses: [None, None],
            forwarded: 0,
            dropped: 0,
            connections: 0,
            policies: BTreeSet::new(),
            nodes: BTreeSet::new(),
            via: BTreeSet::new(),
            icmp_errors: 0,
            first: time,
            last: time,
            aggregated: false,
            reasons: BTreeMap::new(),
        }
    }

    pub(super) fn seen_by(&mut self, node: &Arc<str>) {
        if self.nodes.len() < MAX_LISTED {
            self.nodes.insert(Arc::clone(node));
        }
    }

    pub(super) fn add(&mut self, packet: &Packet) {
        self.first = self.first.min(packet.time);
        self.last = self.last.max(packet.time);
        self.addresses = packet.addresses.map(Some);
        self.aggregated |= packet.aggregated;
        self.seen_by(&packet.node);
        match packet.dropped {
            Some(true) => {
                self.dropped += 1;
                if self.reasons.contains_key(&*packet.reason) || self.reasons.len() < MAX_LISTED {
                    self.reasons.entry(packet.reason.clone()).or_default()[usize::from(packet.policy_verdict)] += 1;
                }
            }
            Some(false) => self.forwarded += 1,
            None => {}
        }
        let room = MAX_LISTED.saturating_sub(self.policies.len());
        self.policies.extend(packet.policies.iter().take(room).cloned());
    }

    /// Why packets were dropped, by Hubble's names, and how often.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        self.reasons.iter().map(|(reason, [drops, verdicts])| (reason.as_str(), *drops.max(verdicts)))
    }

    /// What became of its packets; `None` where no flow said.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        match (self.forwarded > 0, self.dropped > 0) {
            (true, true) => Some(Verdict::Both),
            (true, false) => Some(Verdict::Forwarded),
            (false, true) => Some(Verdict::Dropped),
            (false, false) => None,
        }
    }
}

/// A node, as Hubble told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Flows that came from it.
    pub flows: u64,
    /// Events that it lost.
    pub lost_events: u64,
    /// Why nothing comes from it now: `unavailable`, `gone`, `error`.
    pub away: Option<&'static str>,
    /// It was away at some time.
    pub was_away: bool,
    /// How far its flows' times lay behind their arrival, at the least: the clocks' difference and the way.
    pub behind: Option<Ns>,
}

impl NodeSeen {
    pub(super) fn saw(&mut self, time: Ns, arrived: Option<Ns>) {
        self.flows += 1;
        self.away = None;
        if let Some(arrived) = arrived {
            let behind = arrived.saturating_sub(time);
            self.behind = Some(self.behind.map_or(behind, |known| known.min(behind)));
        }
    }
}

/// What became no edge, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "docs/hubble.md describes them")]
pub struct Hidden {
    pub flows: u64,
    pub lost_events: u64,
    pub neighbour_discovery: u64,
    pub masqueraded: u64,
    pub stray_errors: u64,
    pub untranslated: u64,
    pub unreadable: u64,
    pub refused_flows: u64,
    pub refused_nodes: u64,
    pub forgotten_connections: u64,
}

/// `ADDRESS:PORT`.
pub(super) fn address_port(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// An identity that pods share by their labels; those above are of address ranges, those below are reserved.
pub(super) const fn is_pods(identity: u32) -> bool {
    text::reserved_identity(identity).is_none() && identity >= 256 && identity < 1 << 24
}
