//! What the library and a pod's process say to each other: one JSON object a line over a Unix socket.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;

/// What a UDP server does with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Nothing comes back.
    Sink,
    /// The same payload comes back.
    Echo,
    /// A payload of this size comes back.
    Bytes(u32),
}

/// UDP datagrams to one destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UdpSend {
    /// Where to.
    pub to: SocketAddr,
    /// How many datagrams.
    pub datagrams: u64,
    /// Bytes in each.
    pub payload: u32,
    /// Datagrams per second.
    pub pps: f64,
    /// Datagrams from one source port before the next one is opened; 0: all from one.
    pub per_port: u64,
    /// Wait for as many replies as datagrams before the socket is closed (a reply to a closed port makes an ICMP error).
    pub replies: bool,
}

impl UdpSend {
    /// Datagrams from one port, without waiting for replies.
    #[must_use]
    pub fn new(to: SocketAddr, datagrams: u64, payload: u32, pps: f64) -> Self {
        Self { to, datagrams, payload, pps, per_port: 0, replies: false }
    }
}

/// TCP connections to one destination that serves transfers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TcpSend {
    /// Where to.
    pub to: SocketAddr,
    /// How many connections, one after the other.
    pub connections: u64,
    /// Bytes that the client sends on each, beside the 16 bytes that ask for the answer.
    pub send: u64,
    /// Bytes that the server answers with.
    pub receive: u64,
}

/// Echo requests to one destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IcmpSend {
    /// Where to.
    pub to: IpAddr,
    /// How many requests.
    pub count: u64,
    /// Bytes behind the ICMP header.
    pub payload: u32,
    /// Requests per second.
    pub pps: f64,
}

/// What a background load does at each beat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// One HTTP/1.1 request on a kept-alive connection; a POST of `body` bytes, or a GET when 0.
    Http {
        /// The request's target.
        path: String,
        /// Size of the request's body.
        body: u32,
    },
    /// One datagram.
    Udp {
        /// Its size.
        payload: u32,
    },
    /// One transfer on a connection of its own.
    Tcp {
        /// Bytes to the server.
        send: u64,
        /// Bytes back.
        receive: u64,
    },
    /// One connection, opened and closed at once; given up after this long, as a program with a time limit does.
    Connect {
        /// Milliseconds.
        patience_ms: u64,
    },
    /// One echo request.
    Ping {
        /// Bytes behind the ICMP header.
        payload: u32,
    },
}

/// Addresses of which family a load picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// A load that goes on until the pod ends: the shop's pods are made of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// A name that the pod's resolver knows, or an address.
    pub to: String,
    /// The server's port.
    pub port: u16,
    /// What happens at each beat.
    pub call: Call,
    /// Beats per second, on average.
    pub per_second: f64,
    /// How much the rate breathes around its average: 0 not at all, 0.5 between half and one and a half.
    pub swing: f64,
    /// Which family of addresses to use.
    pub family: Family,
}

/// What the library asks of a pod's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answer UDP on all the pod's addresses.
    ServeUdp {
        /// The port.
        port: u16,
        /// What comes back.
        reply: Reply,
    },
    /// Answer transfers on all the pod's addresses.
    ServeTcp {
        /// The port.
        port: u16,
    },
    /// Speak HTTP/1.1 on all the pod's addresses.
    ServeHttp {
        /// The port.
        port: u16,
        /// Size of each answer's body.
        bytes: u32,
    },
    /// Send datagrams, answer when the last one is out.
    Udp(UdpSend),
    /// Open connections, answer when the last one is closed.
    Tcp(TcpSend),
    /// Send echo requests, answer when the last reply is in (or 1 s after the last request).
    Icmp(IcmpSend),
    /// Send datagrams until stopped; `datagrams` is a bound unless 0.
    StartUdp(UdpSend),
    /// Another rate for a started flow.
    SetRate {
        /// Which flow.
        id: u64,
        /// Datagrams per second.
        pps: f64,
    },
    /// End a started flow; answers when its last datagram is out.
    Stop {
        /// Which flow.
        id: u64,
    },
    /// Start a background load.
    Load(Load),
    /// All this pod has sent so far, as client and as server.
    Ledger,
}

/// What a pod's process answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done; nothing to tell.
    Done,
    /// A flow was started.
    Started {
        /// Its id, for `SetRate` and `Stop`.
        id: u64,
    },
    /// What was sent.
    Ledger(Ledger),
    /// It did not work.
    Failed {
        /// Why.
        message: String,
    },
}
