//! The kernel's devices, their counters and the node's own routes, asked over rtnetlink.

use std::net::{IpAddr, Ipv4Addr};

use agent_ebpf::abi::LinkType;
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::{
            InfoData, InfoGeneve, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
        },
        route::RouteAttribute,
    },
};

use super::KernelError;
use crate::{
    devices::{Carried, Link, LinkKind, NodeFacts},
    home::TunnelKind,
};

/// A connection to rtnetlink in the network namespace of the thread that opened it.
pub struct Links {
    handle: Handle,
}

impl Links {
    /// Opens the connection; its driver runs as a task until this is dropped.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open() -> Result<Self, KernelError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(netlink("a connection"))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All devices with their `stats64`.
    ///
    /// # Errors
    /// What rtnetlink answered.
    pub async fn dump(&self) -> Result<Vec<Link>, KernelError> {
        let messages: Vec<_> =
            self.handle.link().get().execute().try_collect().await.map_err(netlink("the devices"))?;
        Ok(messages.into_iter().filter_map(link).collect())
    }

    /// Which devices are the node's own: those with a default route, and those with an address on a shared subnet; and
    /// which addresses are.
    ///
    /// # Errors
    /// What rtnetlink answered.
    pub async fn node_facts(&self) -> Result<NodeFacts, KernelError> {
        let mut facts = NodeFacts::default();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for family in [v4, v6] {
            let routes: Vec<_> =
                self.handle.route().get(family).execute().try_collect().await.map_err(netlink("the routes"))?;
            let defaults = routes.iter().filter(|route| route.header.destination_prefix_length == 0);
            facts.default_routes.extend(defaults.flat_map(|route| &route.attributes).filter_map(|attribute| {
                match attribute {
                    RouteAttribute::Oif(ifindex) => Some(*ifindex),
                    _ => None,
                }
            }));
        }
        let addresses: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(netlink("the addresses"))?;
        for message in addresses {
            let prefix = message.header.prefix_len;
            facts.addresses.extend(message.attributes.iter().filter_map(|attribute| match attribute {
                // On a point-to-point device `Address` is the peer's and `Local` ours; elsewhere both are ours.
                AddressAttribute::Local(address) => Some(mapped(*address)),
                AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(mapped(*address)),
                _ => None,
            }));
            let shared = message.attributes.iter().any(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(_)) => prefix < 32,
                AddressAttribute::Address(IpAddr::V6(address)) => prefix < 128 && !address.is_unicast_link_local(),
                _ => false,
            });
            if shared {
                facts.shared.insert(message.header.index);
            }
        }
        Ok(facts)
    }
}

/// Whether a device of this index is there right now.
#[must_use]
pub fn is_there(ifindex: u32) -> bool {
    // Of one that is just going, the kernel may give an empty name.
    nix::net::if_::if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}

fn link(message: LinkMessage) -> Option<Link> {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        link_type: match message.header.link_layer_type {
            LinkLayerType::Ether | LinkLayerType::Loopback => Some(LinkType::Ethernet),
            LinkLayerType::Rawip
            | LinkLayerType::None
            | LinkLayerType::Tunnel
            | LinkLayerType::Tunnel6
            | LinkLayerType::Sit
            | LinkLayerType::Ipgre
            | LinkLayerType::Ip6gre => Some(LinkType::RawIp),
            _ => None,
        },
        kind: match message.header.link_layer_type {
            LinkLayerType::Loopback => LinkKind::Loopback,
            _ => LinkKind::Other,
        },
        up: message.header.flags.contains(LinkFlags::Up),
        peer_elsewhere: false,
        carried: [Carried::default(); 2],
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => link.kind = kind(&infos).unwrap_or(link.kind),
            LinkAttribute::Stats64(stats) => {
                link.carried = [
                    Carried { skbs: stats.rx_packets, bytes: stats.rx_bytes },
                    // Our program runs before the device may refuse a buffer.
                    Carried { skbs: stats.tx_packets + stats.tx_dropped, bytes: stats.tx_bytes },
                ];
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// What rtnetlink says a device is, with the port of a tunnel.
fn kind(infos: &[LinkInfo]) -> Option<LinkKind> {
    let of = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })?;
    let port = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => data.iter().find_map(|item| match item {
            InfoVxlan::Port(port) => Some(*port),
            _ => None,
        }),
        LinkInfo::Data(InfoData::Geneve(data)) => data.iter().find_map(|item| match item {
            InfoGeneve::Port(port) => Some(*port),
            _ => None,
        }),
        _ => None,
    });
    let tunnel = match of {
        InfoKind::Bridge => return Some(LinkKind::Bridge),
        InfoKind::Vxlan => TunnelKind::Vxlan,
        InfoKind::Geneve => TunnelKind::Geneve,
        InfoKind::Wireguard => TunnelKind::Wireguard,
        InfoKind::IpTun | InfoKind::SitTun => TunnelKind::Ipip,
        InfoKind::GreTun | InfoKind::GreTun6 | InfoKind::GreTap | InfoKind::GreTap6 => TunnelKind::Gre,
        InfoKind::Vti | InfoKind::Xfrm => TunnelKind::Ipsec,
        InfoKind::Other(name) if name == "ip6tnl" => TunnelKind::Ipip,
        _ => return None,
    };
    Some(LinkKind::Tunnel(tunnel, port.unwrap_or(0)))
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn netlink<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl Fn(E) -> KernelError {
    move |source| KernelError::Netlink { what, source: Box::new(source) }
}
