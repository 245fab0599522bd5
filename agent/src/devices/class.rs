//! What a device is, as rtnetlink describes it, and which class of hook that makes.

use std::collections::HashSet;

use agent_ebpf::abi::LinkType;
use globset::GlobSet;

use crate::{home::TunnelKind, points::Class};

/// What the kernel counted on a device, one way, in whole buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Socket buffers.
    pub skbs: u64,
    /// Bytes, link header included.
    pub bytes: u64,
}

/// What kind of link a device is, by rtnetlink's word (`IFLA_INFO_KIND`), never by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// A tunnel, and the UDP port of its outer packets; 0 where it has none or does not tell.
    Tunnel(TunnelKind, u16),
    /// A bridge.
    Bridge,
    /// The loopback device.
    Loopback,
    /// Anything else: veth, physical, bond, VLAN, …
    #[default]
    Other,
}

/// A device as rtnetlink describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// What its frames begin with; `None` where our parser does not follow.
    pub link_type: Option<LinkType>,
    /// What it is.
    pub kind: LinkKind,
    /// It is up.
    pub up: bool,
    /// Its peer is in another network namespace.
    pub peer_elsewhere: bool,
    /// `stats64` from the pod (ingress) and to the pod (egress).
    pub carried: [Carried; 2],
}

/// What is known of the node itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Devices that a default route leaves by.
    pub default_routes: HashSet<u32>,
    /// Devices that hold an address of the node's on a shared subnet.
    pub shared: HashSet<u32>,
    /// All addresses of the node, IPv4 mapped.
    pub addresses: HashSet<[u8; 16]>,
}

/// Which class of hook a device makes; `None` where it is not watched. Globs, where given, decide alone which face pods.
///
/// A tunnel is known by its kind. An uplink is what a default route leaves by, or what holds an address of the node's on a
/// shared subnet; but a bridge (`cni0`, `docker0`) holds such an address as the pods' gateway, and `cilium_host` holds
/// Cilium's: these are uplinks only where a default route leaves by them.
#[must_use]
pub fn classify(link: &Link, facts: &NodeFacts, globs: Option<&GlobSet>) -> Option<Class> {
    link.link_type?;
    if globs.is_some_and(|globs| globs.is_match(&link.name)) {
        return Some(Class::Pod);
    }
    if link.kind == LinkKind::Loopback {
        return None;
    }
    if let LinkKind::Tunnel(..) = link.kind {
        // Every namespace has some that nobody uses (`tunl0`, `sit0`): they are down.
        return link.up.then_some(Class::Tunnel);
    }
    let gateway = link.kind == LinkKind::Bridge || matches!(link.name.as_str(), "cilium_host" | "cilium_net");
    if facts.default_routes.contains(&link.ifindex) || (facts.shared.contains(&link.ifindex) && !gateway) {
        return Some(Class::Uplink);
    }
    (link.peer_elsewhere && globs.is_none()).then_some(Class::Pod)
}

/// The UDP ports of the tunnels among a node's devices.
#[must_use]
pub fn tunnel_ports(links: &[Link]) -> Vec<(u16, TunnelKind)> {
    let port = |link: &Link| match link.kind {
        LinkKind::Tunnel(kind, port) if port != 0 => Some((port, kind)),
        _ => None,
    };
    links.iter().filter_map(port).collect()
}
