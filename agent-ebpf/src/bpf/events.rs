//! The ring: what user space should hear of at once, and packets that found no room in the flow map.

use super::{loss, maps::EVENTS, tc::Packet};
use agent_ebpf::{
    abi::{EVENT_ICMP_ERROR, EVENT_LOCAL_SOCKET, Event, EventKind, Loss, tcp_state},
    parse::tcp_flags,
};

/// A kind of event in a register: a BPF function takes no enum that the verifier could not check.
#[derive(Clone, Copy)]
pub(super) struct What(u32);

impl What {
    pub(super) const FLOW_NEW: Self = Self(EventKind::FlowNew as u32);
    pub(super) const TCP_OPEN: Self = Self(EventKind::TcpOpen as u32);
    pub(super) const TCP_CLOSE: Self = Self(EventKind::TcpClose as u32);
    pub(super) const TCP_RESET: Self = Self(EventKind::TcpReset as u32);
    pub(super) const UNMAPPED: Self = Self(EventKind::Unmapped as u32);
}

/// Puts an event on the ring; says whether it got there. The ring wakes the agent whenever it had read everything: an
/// event that asked for no wake-up would stay unread and keep the next new flow from waking it too. Not inlined: each
/// copy would take its event's room on the stack.
#[inline(never)]
pub(super) fn tell(what: What, packet: &Packet) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        loss::count(Loss::RingFull);
        return false;
    };
    let parsed = &packet.parsed;
    let role = match parsed.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) {
        tcp_flags::SYN => tcp_state::OPENER,
        0 | tcp_flags::ACK => 0,
        _ => tcp_state::ACCEPTOR,
    };
    let error = if parsed.icmp_error { EVENT_ICMP_ERROR } else { 0 };
    let socket = if packet.local_socket { EVENT_LOCAL_SOCKET } else { 0 };
    entry.write(Event {
        time_ns: packet.now.ns,
        key: parsed.key,
        l3_bytes: parsed.l3_bytes,
        payload_bytes: parsed.payload_bytes,
        segments: packet.segments as u16,
        kind: what.0 as u8,
        flags: role | error | socket,
    });
    entry.submit(0);
    true
}
