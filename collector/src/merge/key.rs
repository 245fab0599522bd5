//! What an edge is known by: its ends, its port and protocol, and the layer it belongs to. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use wire::v1::Edge;

use super::flow::Side;

/// What carries other traffic between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the report's")]
pub enum Tunnel {
    Vxlan,
    Geneve,
    Wireguard,
    Ipip,
    Gre,
    Ipsec,
    /// A kind that a later agent knows.
    Other,
}

impl Tunnel {
    /// The kind by the report's name; `None` for what is no tunnel.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "" => return None,
            "vxlan" => Self::Vxlan,
            "geneve" => Self::Geneve,
            "wireguard" => Self::Wireguard,
            "ipip" => Self::Ipip,
            "gre" => Self::Gre,
            "ipsec" => Self::Ipsec,
            _ => Self::Other,
        })
    }

    /// The kind's name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Wireguard => "wireguard",
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Ipsec => "ipsec",
            Self::Other => "other",
        }
    }
}

/// Client, server, port, protocol, and the tunnel: what carries other traffic is a layer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Who opened.
    pub client: IpAddr,
    /// Who answered.
    pub server: IpAddr,
    /// The server's port; 0 where the protocol has none.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// For traffic between nodes that carries other traffic.
    pub tunnel: Option<Tunnel>,
}

impl FlowKey {
    /// The key of a reported edge. `None` when the codec's checks were skipped and an address is no address.
    #[must_use]
    pub fn of(edge: &Edge) -> Option<Self> {
        Some(Self {
            client: address(&edge.client)?,
            server: address(&edge.server)?,
            port: u16::try_from(edge.server_port).ok()?,
            protocol: u8::try_from(edge.protocol).ok()?,
            tunnel: Tunnel::of(&edge.tunnel),
        })
    }

    /// One end's address.
    #[must_use]
    pub const fn end(&self, side: Side) -> IpAddr {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    /// The same ends the other way round, on the same port.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self { client: self.server, server: self.client, ..*self }
    }
}

/// An address as the wire has it.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_canonical()),
        _ => None,
    }
}
