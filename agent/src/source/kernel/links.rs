//! The kernel's devices, their counters and the node's own routes, asked over rtnetlink.

use std::net::{IpAddr, Ipv4Addr};

use agent_ebpf::abi::LinkType;
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::{LinkAttribute, LinkLayerType, LinkMessage},
        route::RouteAttribute,
    },
};

use super::KernelError;
use crate::devices::{Carried, Link, NodeFacts};

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

    /// Which devices are the node's own: those with a default route, and those with an address on a shared subnet.
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
            facts.uplinks.extend(defaults.flat_map(|route| &route.attributes).filter_map(
                |attribute| match attribute {
                    RouteAttribute::Oif(ifindex) => Some(*ifindex),
                    _ => None,
                },
            ));
        }
        let addresses: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(netlink("the addresses"))?;
        for message in addresses {
            let prefix = message.header.prefix_len;
            let shared = message.attributes.iter().any(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(_)) => prefix < 32,
                AddressAttribute::Address(IpAddr::V6(address)) => prefix < 128 && !address.is_unicast_link_local(),
                _ => false,
            });
            if shared {
                facts.uplinks.insert(message.header.index);
            }
        }
        Ok(facts)
    }
}

/// Whether a device of this index is there right now.
#[must_use]
pub fn is_there(ifindex: u32) -> bool {
    nix::net::if_::if_indextoname(ifindex).is_ok()
}

fn link(message: LinkMessage) -> Option<Link> {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        link_type: match message.header.link_layer_type {
            LinkLayerType::Ether | LinkLayerType::Loopback => Some(LinkType::Ethernet),
            LinkLayerType::Rawip | LinkLayerType::None => Some(LinkType::RawIp),
            _ => None,
        },
        peer_elsewhere: false,
        carried: [Carried::default(); 2],
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
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

fn netlink<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl Fn(E) -> KernelError {
    move |source| KernelError::Netlink { what, source: Box::new(source) }
}
