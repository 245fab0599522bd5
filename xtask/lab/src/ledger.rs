//! The ledger: what the generator sent, per edge. It is written by the senders, never derived from what was observed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Transport of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// ICMP for IPv4.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv6.
    Icmpv6,
}

impl Protocol {
    /// IANA's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmpv6 => 58,
        }
    }

    /// As nft and the API spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmpv6 => "icmpv6",
        }
    }
}

/// Who speaks to whom. An ICMP edge has the echo request's type as its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// Who opened it.
    pub client: IpAddr,
    /// Who serves.
    pub server: IpAddr,
    /// The server's port.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// IP packets (a datagram above the MTU is several). Not known for TCP: 0.
    pub packets: u64,
    /// Payload handed to the socket.
    pub payload_bytes: u64,
    /// TCP: payload that the kernel sent again.
    pub retransmitted_bytes: u64,
}

impl Sent {
    /// Payload that went over the wire.
    pub fn wire_payload_bytes(&self) -> u64 {
        self.payload_bytes + self.retransmitted_bytes
    }

    /// Both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            payload_bytes: self.payload_bytes + other.payload_bytes,
            retransmitted_bytes: self.retransmitted_bytes + other.retransmitted_bytes,
        }
    }
}

/// Both ways of an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Client to server.
    pub forward: Sent,
    /// Server to client.
    pub reverse: Sent,
    /// TCP: completed handshakes.
    pub connections: u64,
}

impl Totals {
    /// Both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            forward: self.forward.plus(&other.forward),
            reverse: self.reverse.plus(&other.reverse),
            connections: self.connections + other.connections,
        }
    }
}

/// One row, as it is written down.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Row {
    /// Which edge.
    #[serde(flatten)]
    pub edge: Edge,
    /// What it carried.
    #[serde(flatten)]
    pub totals: Totals,
}

/// What was sent on each edge. Merging adds: every sender writes only what it sent itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Row>", into = "Vec<Row>")]
pub struct Ledger {
    edges: BTreeMap<Edge, Totals>,
}

impl Ledger {
    /// The totals of an edge, to be added to.
    pub fn edge(&mut self, edge: Edge) -> &mut Totals {
        self.edges.entry(edge).or_default()
    }

    /// The totals of an edge, if anything was sent on it.
    pub fn get(&self, edge: &Edge) -> Option<&Totals> {
        self.edges.get(edge)
    }

    /// Adds what another sender wrote.
    pub fn merge(&mut self, other: &Self) {
        for (edge, theirs) in &other.edges {
            let ours = self.edge(*edge);
            *ours = ours.plus(theirs);
        }
    }

    /// Every edge, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Edge, &Totals)> {
        self.edges.iter()
    }

    /// How many edges there are.
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// Nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }
}

impl From<Vec<Row>> for Ledger {
    fn from(rows: Vec<Row>) -> Self {
        Self { edges: rows.into_iter().map(|row| (row.edge, row.totals)).collect() }
    }
}

impl From<Ledger> for Vec<Row> {
    fn from(ledger: Ledger) -> Self {
        ledger.edges.into_iter().map(|(edge, totals)| Row { edge, totals }).collect()
    }
}

/// How many IP packets a UDP datagram of `payload` bytes becomes on a path of this MTU.
pub fn udp_packets(payload: usize, mtu: usize, ipv6: bool) -> u64 {
    // 8 bytes of UDP header; fragments carry multiples of 8; IPv6 adds a fragment header of 8 to each.
    let (header, extension) = if ipv6 { (40, 8) } else { (20, 0) };
    let datagram = payload + 8;
    if datagram + header <= mtu {
        return 1;
    }
    let room = (mtu - header - extension) & !7;
    datagram.div_ceil(room) as u64
}

#[cfg(test)]
mod tests {
    use super::{Edge, Ledger, Protocol, udp_packets};

    #[test]
    fn datagrams_become_packets() {
        for (payload, mtu, ipv6, packets) in [
            (0, 1450, false, 1),
            (1422, 1450, false, 1),
            (1423, 1450, false, 2),
            (1402, 1450, true, 1),
            (1403, 1450, true, 2),
            (8000, 1450, false, 6),
        ] {
            assert_eq!(udp_packets(payload, mtu, ipv6), packets, "{payload} bytes, ipv6 {ipv6}");
        }
    }

    #[test]
    fn merging_adds_and_survives_json() {
        let edge =
            Edge { client: [10, 1, 0, 2].into(), server: [10, 2, 0, 2].into(), port: 53, protocol: Protocol::Udp };
        let (mut client, mut server) = (Ledger::default(), Ledger::default());
        client.edge(edge).forward.packets = 3;
        server.edge(edge).reverse.payload_bytes = 40;
        client.merge(&server);
        let text = serde_json::to_string(&client).expect("a ledger is JSON");
        let read: Ledger = serde_json::from_str(&text).expect("and reads back");
        assert_eq!(read, client);
        let totals = read.get(&edge).expect("the edge is there");
        assert_eq!((totals.forward.packets, totals.reverse.payload_bytes), (3, 40));
    }
}
