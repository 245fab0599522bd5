//! The node itself, as far as its packets are concerned: its addresses, its pods' and its tunnels. Pure.

use std::collections::{HashMap, HashSet};

use agent_ebpf::{
    abi::{FlowKey, TunnelPorts},
    parse::protocol,
};

/// What arrives for an address that nobody is known to have waits this long for the address to be learnt.
pub const UNKNOWN_NS: u64 = 2_000_000_000;
/// Addresses of pods that are remembered with their device.
pub const MAX_POD_ADDRESSES: usize = 16_384;

/// So many packets that reached pods past their devices are no accident of a device that came or went.
const BYPASS_SKBS: u64 = 16;
/// What was so long ago says nothing of now.
const BYPASS_NS: u64 = 600_000_000_000;

/// Whether packets reach pods past their devices (`bpf_redirect_peer`), by what other hooks see of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bypass {
    skbs: u64,
    last_ns: u64,
}

impl Bypass {
    /// Packets arrived for a pod whose device did not see them.
    pub fn met(&mut self, skbs: u64, now_ns: u64) {
        let long_ago = now_ns.saturating_sub(self.last_ns) >= BYPASS_NS;
        *self = Self { skbs: if long_ago { skbs } else { self.skbs + skbs }, last_ns: now_ns };
    }

    /// A pod's device saw what another hook saw, too: packets arrive by devices after all, and those met were early or late.
    pub fn refuted(&mut self) {
        self.skbs = 0;
    }

    /// Whether what a pod's device sees arrive is no measure of what does.
    #[must_use]
    pub fn is_so(&self, now_ns: u64) -> bool {
        self.skbs >= BYPASS_SKBS && now_ns.saturating_sub(self.last_ns) < BYPASS_NS
    }
}

/// What carries other packets between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// WireGuard.
    Wireguard,
    /// IP in IP, both versions in both (RFC 2003, 2473, 4213).
    Ipip,
    /// RFC 2784.
    Gre,
    /// ESP, bare or in UDP (RFC 4303, 3948).
    Ipsec,
}

impl TunnelKind {
    /// As the wire has it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Wireguard => "wireguard",
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Ipsec => "ipsec",
        }
    }
}

/// UDP ports of tunnels that no device had to tell: VXLAN's own and the one that Linux (and flannel, Cilium) had before
/// it was given, Geneve's, WireGuard's customary one and Cilium's, NAT traversal of IPsec.
pub const TUNNEL_PORTS: [(u16, TunnelKind); 6] = [
    (8472, TunnelKind::Vxlan),
    (4789, TunnelKind::Vxlan),
    (6081, TunnelKind::Geneve),
    (51_820, TunnelKind::Wireguard),
    (51_871, TunnelKind::Wireguard),
    (4500, TunnelKind::Ipsec),
];

/// What a node calls its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Home {
    /// Its own addresses, IPv4 mapped.
    pub addresses: HashSet<[u8; 16]>,
    /// Incarnation of the uplink that stands for the node in edges; 0 without one.
    pub device: u64,
    /// UDP ports of the tunnels that its devices told, beside [`TUNNEL_PORTS`].
    pub tunnel_ports: Vec<(u16, TunnelKind)>,
}

impl Home {
    /// Whether a flow is the outside of a tunnel, and its port (0 for protocols that have none). Either port may be the
    /// tunnel's: of VXLAN only the destination's is, but an ICMP error quotes it as the source's.
    #[must_use]
    pub fn carrier(&self, key: &FlowKey) -> Option<(TunnelKind, u16)> {
        const IN_IP: [u8; 2] = [4, 41];
        match key.protocol {
            protocol if IN_IP.contains(&protocol) => Some((TunnelKind::Ipip, 0)),
            47 => Some((TunnelKind::Gre, 0)),
            50 => Some((TunnelKind::Ipsec, 0)),
            protocol::UDP => self.ports().find_map(|(port, kind)| {
                // WireGuard's ports are ephemeral ones: an answer from a well-known port is none of it.
                let other = if key.destination_port == port { key.source_port } else { key.destination_port };
                let stray = kind == TunnelKind::Wireguard && (1..1024).contains(&other);
                let matches = (key.destination_port == port || key.source_port == port) && !stray;
                matches.then_some((kind, port))
            }),
            _ => None,
        }
    }

    fn ports(&self) -> impl Iterator<Item = (u16, TunnelKind)> + '_ {
        self.tunnel_ports.iter().chain(&TUNNEL_PORTS).copied()
    }

    /// The ports to which packets come from source ports that are hashes: for the kernel side, which leaves these out of
    /// its keys. Those of the node's own devices first; where there are more than the kernel side takes, the rest is
    /// folded here alone.
    #[must_use]
    pub fn hashed_ports(&self) -> TunnelPorts {
        let mut chosen = TunnelPorts::default();
        let hashed = self.ports().filter(|(_, kind)| matches!(kind, TunnelKind::Vxlan | TunnelKind::Geneve));
        let mut known = HashSet::new();
        let distinct = hashed.map(|(port, _)| port).filter(|port| known.insert(*port));
        chosen.iter_mut().zip(distinct).for_each(|(place, port)| *place = port);
        chosen
    }
}

/// Which pod's device an address is behind, learnt from what pods sent.
#[derive(Debug, Default)]
pub struct PodAddresses {
    devices: HashMap<[u8; 16], (u32, u64)>,
}

impl PodAddresses {
    /// A pod sent from this address. The first device that did so keeps it for as long as it is there: a pod that
    /// forwards for another must not take its address.
    pub fn learn(&mut self, address: [u8; 16], ifindex: u32, device: u64) {
        if self.devices.len() < MAX_POD_ADDRESSES || self.devices.contains_key(&address) {
            self.devices.entry(address).or_insert((ifindex, device));
        }
    }

    /// The incarnation of the device that an address is behind.
    #[must_use]
    pub fn device(&self, address: &[u8; 16]) -> Option<u64> {
        self.devices.get(address).map(|(_, device)| *device)
    }

    /// A device is gone, and its addresses are free.
    pub fn forget(&mut self, ifindex: u32) {
        self.devices.retain(|_, (index, _)| *index != ifindex);
    }

    /// Addresses held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.devices.len()
    }
}
