//! All that crosses the kernel border: keys, totals, events, loss causes, map names. One definition, compiled twice.
//!
//! Every type is `zerocopy`: its layout has no padding and any bytes are a value, so user space reads what the kernel
//! wrote without a cast. Numbers are in host order from here on; addresses are 16 bytes, IPv4 mapped (RFC 4291 §2.5.5.2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names of the maps in the object.
pub mod maps {
    /// `FlowKey` → [`FlowEntry`](crate::entry::FlowEntry): a plain hash, since an LRU evicts in silence.
    pub const FLOWS: &str = "FLOWS";
    /// Slots of `DeviceTotals`, per CPU; a device's is one of those behind its interface index.
    pub const DEVICES: &str = "DEVICES";
    /// `FragmentKey` → `Ports`: where later fragments find their ports.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// `Event`s.
    pub const EVENTS: &str = "EVENTS";
    /// `DnsHead`s, each with what was taken of the message behind it.
    pub const DNS: &str = "DNS";
    /// Lost telemetry by [`Loss`](super::Loss), per CPU.
    pub const LOSSES: &str = "LOSSES";
}

/// Names of the programs in the object.
pub mod programs {
    /// tc program for what leaves the pod (ingress of the host's end).
    pub const INGRESS: &str = "tc_ingress";
    /// tc program for what goes to the pod (egress of the host's end).
    pub const EGRESS: &str = "tc_egress";
    /// cgroup program for what local sockets send.
    pub const CGROUP_EGRESS: &str = "cgroup_egress";
    /// cgroup program for what local sockets get.
    pub const CGROUP_INGRESS: &str = "cgroup_ingress";
}

/// The interface index that stands for the watched cgroup: no device has it.
pub const CGROUP_IFINDEX: u32 = 0;

/// Flows the kernel side holds at once, unless the agent asks for another number.
pub const MAX_FLOWS: u32 = 65_536;
/// Devices watched at once.
pub const MAX_DEVICES: u32 = 4_096;
/// Slots for them, a power of two: twice as many, so that a free one is near.
pub const DEVICE_SLOTS: u32 = 2 * MAX_DEVICES;
/// The slot behind them: what the cgroup's programs saw.
pub const CGROUP_SLOT: u32 = DEVICE_SLOTS;
/// Slots that are looked at for a device, from that of its interface index on.
pub const DEVICE_PROBES: u32 = 64;
/// Tunnels' UDP ports that the kernel side knows at one device.
pub const MAX_TUNNEL_PORTS: usize = 3;
/// Datagrams whose later fragments can be joined at once (an LRU: the oldest goes).
pub const MAX_FRAGMENTS: u32 = 8_192;
/// Bytes of the event ring.
pub const EVENTS_BYTES: u32 = 1 << 20;
/// Bytes of the ring of DNS messages: some 3,000 of up to 256 bytes, 500 larger ones.
pub const DNS_RING_BYTES: u32 = 1 << 20;
/// Bytes taken of a DNS message at the most: more than one packet of an Ethernet carries. A power of two.
pub const DNS_SNAP_BYTES: usize = 2_048;
/// Ports whose datagrams and segments are taken for DNS.
pub const DNS_PORT: u16 = 53;

/// Which way past the hook (IPFIX field 61): `Ingress` of the host's end of a pod's veth is what the pod sent; at a tunnel
/// or an uplink `Egress` is what the node sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the pod.
    Ingress = 0,
    /// To the pod.
    Egress = 1,
}

/// What the device's frames begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkType {
    /// An Ethernet header, perhaps with VLAN tags.
    Ethernet = 0,
    /// The IP header itself (WireGuard, tun, IPIP).
    RawIp = 1,
}

/// A five-tuple at one device, one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Interface index of the device, in the agent's network namespace; [`CGROUP_IFINDEX`] where a cgroup's program saw it.
    pub ifindex: u32,
    /// Source port. ICMP echo: the request's type if this is the reply, else 0.
    pub source_port: u16,
    /// Destination port. ICMP echo: the request's type if this is the request, else 0.
    pub destination_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

impl core::hash::Hash for FlowKey {
    /// All of it in one go: seven fields, of which two are arrays, are nine writes.
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl FlowKey {
    /// The key of the traffic the other way past the same device.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            direction: self.direction ^ 1,
            ..*self
        }
    }
}

/// What a TCP flow's packets told; bits of [`FlowTotals::tcp_state`].
pub mod tcp_state {
    /// A SYN without ACK passed: the source opened the connection.
    pub const OPENER: u8 = 1;
    /// A SYN with ACK passed: the source accepted it.
    pub const ACCEPTOR: u8 = 1 << 1;
    /// The handshake's third packet passed.
    pub const ESTABLISHED: u8 = 1 << 2;
    /// A FIN passed.
    pub const FIN: u8 = 1 << 3;
    /// An RST passed.
    pub const RESET: u8 = 1 << 4;
}

/// Totals of a flow, as user space has them of its [`FlowEntry`](crate::entry::FlowEntry), which says what each is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowTotals {
    /// Socket buffers.
    pub skbs: u64,
    /// Wire segments (`gso_segs`).
    pub segments: u64,
    /// Bytes from the network header on.
    pub l3_bytes: u64,
    /// Bytes behind the transport header.
    pub payload_bytes: u64,
    /// `CLOCK_MONOTONIC` of the last packet.
    pub last_ns: u64,
    /// `CLOCK_MONOTONIC` when the entry was made.
    pub first_ns: u64,
    /// TCP: connection attempts.
    pub opened: u32,
    /// TCP: completed handshakes.
    pub established: u32,
    /// TCP: connections that this side finished.
    pub closed: u32,
    /// TCP: RST segments.
    pub resets: u32,
    /// ICMP errors that quote a packet of the *opposite* flow.
    pub icmp_errors: u32,
    /// TCP: initial sequence number of the newest attempt.
    pub initial_seq: u32,
    /// Bits of [`tcp_state`]; the last four since the newest attempt.
    pub tcp_state: u8,
    /// [`FLOW_LOCAL_SOCKET`], or 0.
    pub flags: u8,
    /// Number of the cgroup of the socket that the first packet came straight from, or 0.
    pub cgroup: u32,
}

/// A packet of the flow left the node straight from a socket of the node's own; a bit of [`FlowTotals::flags`]. What the
/// node only forwards has lost its socket on the way (`skb_orphan`).
pub const FLOW_LOCAL_SOCKET: u8 = 1;

/// Identifies a datagram whose fragments pass one device one way (RFC 791 §2.3, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Identification.
    pub id: u32,
    /// Interface index.
    pub ifindex: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

/// The ports that a datagram's first fragment carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// What passed a device one way, in whole buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectionTotals {
    /// Every buffer our program saw.
    pub skbs: u64,
    /// Their bytes, link header included (`skb->len`).
    pub bytes: u64,
    /// Of those: ARP, neighbour discovery, group membership and other link chatter, in no flow.
    pub link_control: u64,
    /// Of those: too short or malformed to be parsed, in no flow.
    pub malformed: u64,
    /// Of those: in no flow since map and ring were full.
    pub lost: u64,
}

/// What the [`DeviceTotals::owner`] of a device's slot is.
#[must_use]
#[inline(always)]
pub fn slot_owner(ifindex: u32) -> u32 {
    ifindex.wrapping_add(1)
}

/// The `probe`th slot in which a device may be.
#[must_use]
#[inline(always)]
pub fn slot(ifindex: u32, probe: u32) -> u32 {
    ifindex.wrapping_add(probe) & (DEVICE_SLOTS - 1)
}

/// One CPU's totals of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceTotals {
    /// By [`Direction`].
    pub directions: [DirectionTotals; 2],
    /// [`slot_owner`] of the device whose slot this is; 0 while it is free. Only the agent writes it.
    pub owner: u32,
    /// A [`LinkType`]; the kernel side reads it, only the agent writes it.
    pub link_type: u8,
    /// 1 where DNS messages are copied. A message that a pod's device shows too would only fill the ring a second time.
    pub dns: u8,
    /// Always 0.
    pub reserved: [u8; 4],
    /// UDP ports of tunnels whose outer packets pass here; 0 for none. Their source port is a hash of what they carry
    /// (RFC 7348 §5), so it is left out of the flow's key; only the agent writes this.
    pub tunnel_ports: TunnelPorts,
}

/// UDP ports of tunnels at one device; 0 for none.
pub type TunnelPorts = [u16; MAX_TUNNEL_PORTS];

/// What an [`Event`] tells; values of [`Event::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// The first packet of a flow. Its counts are in the flow map already.
    FlowNew = 1,
    /// A TCP handshake was completed.
    TcpOpen = 2,
    /// A FIN passed for the first time.
    TcpClose = 3,
    /// An RST passed.
    TcpReset = 4,
    /// The flow map was full: this event carries the packet's counts, which are nowhere else.
    Unmapped = 5,
}

impl EventKind {
    /// All kinds, for tables and labels.
    pub const ALL: [Self; 5] = [Self::FlowNew, Self::TcpOpen, Self::TcpClose, Self::TcpReset, Self::Unmapped];

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// A short constant name, for metric labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::FlowNew => "flow_new",
            Self::TcpOpen => "tcp_open",
            Self::TcpClose => "tcp_close",
            Self::TcpReset => "tcp_reset",
            Self::Unmapped => "unmapped",
        }
    }
}

/// One record of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The packet's flow.
    pub key: FlowKey,
    /// Bytes from the network header on.
    pub l3_bytes: u32,
    /// Bytes behind the transport header.
    pub payload_bytes: u32,
    /// Wire segments.
    pub segments: u16,
    /// An [`EventKind`].
    pub kind: u8,
    /// Bits of [`tcp_state`] that this packet alone tells (`OPENER`, `ACCEPTOR`), [`EVENT_ICMP_ERROR`] and
    /// [`EVENT_LOCAL_SOCKET`].
    pub flags: u8,
}

/// The packet of an [`Event`] is an ICMP error that quotes its flow; a bit of [`Event::flags`].
pub const EVENT_ICMP_ERROR: u8 = 1 << 7;
/// The packet left from a socket of the node's own, as [`FLOW_LOCAL_SOCKET`] says; a bit of [`Event::flags`].
pub const EVENT_LOCAL_SOCKET: u8 = 1 << 6;

/// What stands before a DNS message, or before its beginning, in the ring `DNS`. A segment of TCP begins with the length
/// of its message (RFC 1035 §4.2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DnsHead {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The packet's flow.
    pub key: FlowKey,
    /// Bytes behind the transport header, whether they were taken or not.
    pub payload_bytes: u32,
    /// Bytes that follow this head.
    pub taken: u16,
    /// 1: the packet is a first fragment, so that the payload goes on in others.
    pub fragment: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

/// Where telemetry can be lost on the kernel side; the index into `LOSSES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Loss {
    /// An event found the ring full.
    RingFull = 0,
    /// A packet found the flow map full and the ring too.
    MapFull = 1,
    /// A later fragment whose first was not seen: counted with port 0.
    Fragment = 2,
    /// A packet on a device that is not in `DEVICES`.
    UnknownDevice = 3,
    /// More IPv6 extension headers than the parser follows.
    HeaderDepth = 4,
    /// A DNS message found its ring full.
    DnsRingFull = 5,
    /// A socket's fact found its map full.
    SocketsFull = 6,
    /// A dropped packet found the map of drops full.
    DropsFull = 7,
}

impl Loss {
    /// How many causes there are.
    pub const COUNT: u32 = 8;
    /// All causes, in the order of their index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::RingFull,
        Self::MapFull,
        Self::Fragment,
        Self::UnknownDevice,
        Self::HeaderDepth,
        Self::DnsRingFull,
        Self::SocketsFull,
        Self::DropsFull,
    ];
}

/// An IPv4 address in the mapped form that keys use.
#[must_use]
#[inline(always)]
pub fn mapped(v4: [u8; 4]) -> [u8; 16] {
    // By words: the kernel side would call for ten zeros, and write the rest byte by byte.
    zerocopy::transmute!([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), u32::from_ne_bytes(v4)])
}

// The layouts both sides rely on, frozen: a change here is a change of the border.
const _: () = {
    assert!(size_of::<FlowKey>() == 44);
    assert!(size_of::<FragmentKey>() == 44);
    assert!(size_of::<DeviceTotals>() == 96);
    assert!(size_of::<Event>() == 64);
    assert!(size_of::<DnsHead>() == 64);
    assert!(DNS_SNAP_BYTES.is_power_of_two());
};
