//! What crosses the kernel border beside packets: what sockets know, what the kernel dropped, and where in the kernel's own
//! structs that is read. The same rules as in [`abi`](crate::abi).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names of the maps in the object.
pub mod maps {
    /// `SocketKey` → `SocketTotals`: connections of one pair of ends to one server port.
    pub const SOCKETS: &str = "SOCKETS";
    /// The kernel's address of a socket → `SocketState`.
    pub const OPEN_SOCKETS: &str = "OPEN_SOCKETS";
    /// `DropKey` → `DropTotals`.
    pub const DROPS: &str = "DROPS";
    /// Reason → 1 where a drop of that reason says nothing.
    pub const DROP_NOISE: &str = "DROP_NOISE";
    /// Inode of a network namespace → 1 where it is ours.
    pub const SCOPE: &str = "SCOPE";
}

/// Name of the read-only [`Settings`].
pub const SETTINGS: &str = "SETTINGS";

/// Pairs of ends (with port, cgroup and role) whose sockets are counted at once.
pub const MAX_SOCKETS: u32 = 16_384;
/// Open sockets whose opener is remembered.
pub const MAX_OPEN_SOCKETS: u32 = 32_768;
/// Five-tuples with a reason whose drops are counted at once.
pub const MAX_DROPS: u32 = 4_096;
/// Reasons that can be named as noise.
pub const MAX_REASONS: u32 = 512;
/// Network namespaces that can be in scope.
pub const MAX_SCOPE: u32 = 4_096;
/// Buckets of a round-trip time histogram: bucket i counts microseconds from 2^i up to 2^(i+1).
pub const RTT_BUCKETS: usize = 32;
/// Nanoseconds between two round-trip time samples of one socket in mid-life.
pub const RTT_EVERY_NS: u64 = 200_000_000;

/// This kernel has no such member.
pub const ABSENT: u16 = u16::MAX;

/// Byte offsets into the running kernel's structs, from its own BTF, and what else the programs are told at their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "the kernel's own names: struct, member")]
pub struct Settings {
    /// Inode of the agent's own network namespace.
    pub own_netns: u32,
    /// Only namespaces in `SCOPE` are ours.
    pub scoped: u16,
    /// `kfree_skb` carries a reason.
    pub drop_reason: u16,
    /// `kfree_skb` carries the receiving socket.
    pub drop_socket: u16,
    /// `tcp_retransmit_skb` carries an error.
    pub retransmit_error: u16,
    pub sock_daddr: u16,
    pub sock_rcv_saddr: u16,
    pub sock_v6_daddr: u16,
    pub sock_v6_rcv_saddr: u16,
    pub sock_dport: u16,
    pub sock_family: u16,
    pub sock_state: u16,
    pub sock_net: u16,
    pub sock_protocol: u16,
    pub sock_err: u16,
    pub sock_err_soft: u16,
    pub sock_cgroup: u16,
    pub inet_sport: u16,
    pub icsk_retransmits: u16,
    pub tcp_srtt: u16,
    pub net_inum: u16,
    pub cgroup_kn: u16,
    pub kernfs_id: u16,
    pub skb_head: u16,
    pub skb_end: u16,
    pub skb_network_header: u16,
    pub skb_protocol: u16,
    pub skb_dev: u16,
    pub skb_sk: u16,
    pub skb_cb: u16,
    pub skb_gso_segs: u16,
    pub cb_gso_segs: u16,
    pub dev_net: u16,
    /// Members of the tracepoints' records, for the form `tracepoint`.
    pub state_sk: u16,
    pub state_old: u16,
    pub state_new: u16,
    pub retransmit_skb: u16,
    pub retransmit_sk: u16,
    pub retransmit_err: u16,
    pub receive_sk: u16,
    pub drop_skb: u16,
    pub drop_why: u16,
    /// Always 0.
    pub reserved: u16,
}

/// Which end of its connection a socket is; values of [`SocketKey::role`].
pub mod role {
    /// It opened the connection.
    pub const CLIENT: u8 = 1;
    /// It took the connection.
    pub const SERVER: u8 = 2;
    /// A bit beside the others: the socket is older than the agent, and the lower port was taken to serve.
    pub const GUESSED: u8 = 1 << 7;
}

/// The sockets of one end that talk to one other end about one server port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketKey {
    /// Address of the socket, IPv4 mapped.
    pub local: [u8; 16],
    /// Address of its peer.
    pub remote: [u8; 16],
    /// Id of the socket's cgroup (v2); 0 where unknown.
    pub cgroup: u64,
    /// Inode of the socket's network namespace.
    pub netns: u32,
    /// The server's port.
    pub server_port: u16,
    /// One of [`role`], perhaps with `GUESSED`.
    pub role: u8,
    /// Always 0.
    pub reserved: u8,
}

/// What those sockets did since the entry was made. Numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketTotals {
    /// `CLOCK_MONOTONIC` when the entry was made.
    pub first_ns: u64,
    /// `CLOCK_MONOTONIC` of the last change.
    pub last_ns: u64,
    /// Sum of the samples, microseconds.
    pub rtt_sum_us: u64,
    /// Samples of the smoothed round-trip time.
    pub rtt: [u32; RTT_BUCKETS],
    /// Connections tried (client) or taken (server).
    pub attempts: u32,
    /// Of those, opened.
    pub established: u32,
    /// Failed with ECONNREFUSED.
    pub refused: u32,
    /// Failed with ETIMEDOUT, or given up after the SYN was sent again without an answer.
    pub timed_out: u32,
    /// Failed with EHOSTUNREACH, ENETUNREACH, EHOSTDOWN or ENETDOWN.
    pub unreachable: u32,
    /// Failed in any other way.
    pub failed_otherwise: u32,
    /// Ended by a reset or a time-out after they were open.
    pub aborted: u32,
    /// Segments sent again.
    pub retransmitted: u32,
    /// Process id of the newest owner seen; 0 for none.
    pub pid: u32,
    /// Always 0.
    pub reserved: u32,
    /// Its command name.
    pub process: [u8; 16],
}

impl SocketTotals {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        first_ns: 0,
        last_ns: 0,
        rtt_sum_us: 0,
        rtt: [0; RTT_BUCKETS],
        attempts: 0,
        established: 0,
        refused: 0,
        timed_out: 0,
        unreachable: 0,
        failed_otherwise: 0,
        aborted: 0,
        retransmitted: 0,
        pid: 0,
        reserved: 0,
        process: [0; 16],
    };
}

/// What is remembered of an open socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketState {
    /// `CLOCK_MONOTONIC` of the last sample of its round-trip time.
    pub sampled_ns: u64,
    /// As in [`SocketKey`].
    pub role: u8,
    /// Always 0.
    pub reserved: [u8; 7],
}

/// A cgroup (v2) by half of the bits of its id, which is below 2^32 until a machine has made some ten million cgroups. 0 where it
/// tells nothing: unknown, or the root, in which the kernel's own sockets are.
#[inline(always)]
#[must_use]
pub fn cgroup_number(id: u64) -> u32 {
    const ROOT: u32 = 1;
    match (id ^ (id >> 32)) as u32 {
        ROOT => 0,
        number => number,
    }
}

/// A five-tuple.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tuple {
    /// Source address, IPv4 mapped.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

/// Dropped packets of one five-tuple, for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DropKey {
    /// Whose packets.
    pub tuple: Tuple,
    /// The kernel's number of the reason (`enum skb_drop_reason`); 0 before 5.17.
    pub reason: u32,
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DropTotals {
    /// `CLOCK_MONOTONIC` when the entry was made.
    pub first_ns: u64,
    /// `CLOCK_MONOTONIC` of the last drop.
    pub last_ns: u64,
    /// Wire segments.
    pub segments: u64,
}

// The layouts both sides rely on, frozen: a change here is a change of the border.
const _: () = {
    assert!(size_of::<Settings>() == 88);
    assert!(size_of::<SocketKey>() == 48);
    assert!(size_of::<SocketTotals>() == 208);
    assert!(size_of::<SocketState>() == 16);
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<DropKey>() == 44);
    assert!(size_of::<DropTotals>() == 24);
};
