//! Adding a packet to its flow's totals, and following TCP by what one way of a connection shows.

use core::arch::asm;

use agent_ebpf::{
    abi::{FLOW_LOCAL_SOCKET, tcp_state},
    entry::{FlowEntry, ONE_ABOVE_BITS},
    parse::tcp_flags,
};

use super::{
    Sabotage,
    events::{self, What},
    now_and_then,
    tc::Packet,
};

/// Adds one packet.
///
/// # Safety
/// `totals` points to an entry of the flow map. Several CPUs may add to it at once, so the counters are added to
/// atomically; everything else is a plain store whose last writer wins.
#[inline(always)]
pub(super) unsafe fn add(totals: *mut FlowEntry, packet: &Packet) {
    let parsed = &packet.parsed;
    // SAFETY: the caller's promise.
    unsafe {
        (*totals).last = packet.now.tick;
        let flags = lowest(&raw mut (*totals).icmp_errors_and_flags);
        if packet.local_socket && *flags & FLOW_LOCAL_SOCKET == 0 {
            *flags = FLOW_LOCAL_SOCKET;
        }
        if parsed.icmp_error {
            add_32(&raw mut (*totals).icmp_errors_and_flags, ONE_ABOVE_BITS);
            return;
        }
        if crate::SABOTAGE == Sabotage::Double && now_and_then() {
            add_64(&raw mut (*totals).skbs, 1);
            add_64(&raw mut (*totals).payload_bytes, u64::from(parsed.payload_bytes));
        }
        add_64(&raw mut (*totals).skbs, 1);
        if packet.segments > 1 {
            add_32(&raw mut (*totals).more_segments, packet.segments - 1);
        }
        add_64(&raw mut (*totals).l3_bytes, u64::from(parsed.l3_bytes));
        add_64(&raw mut (*totals).payload_bytes, u64::from(parsed.payload_bytes));
        if parsed.tcp_flags != 0 {
            follow_tcp(totals, packet);
        }
    }
}

/// The byte of bits below a counter of 24 bits: BPF's lowest byte is the first (`bpfel`). Stored to beside additions to the
/// whole word, which change it not.
#[inline(always)]
fn lowest(word: *mut u32) -> *mut u8 {
    word.cast()
}

/// SYN, then anything later with ACK is the third packet of the handshake, since only an answered client sends it
/// (RFC 9293 §3.5). A retransmitted SYN keeps its initial sequence number and is no new attempt.
#[inline(always)]
unsafe fn follow_tcp(totals: *mut FlowEntry, packet: &Packet) {
    let flags = packet.parsed.tcp_flags;
    let seq = packet.parsed.tcp_seq;
    // SAFETY: as for `add`.
    unsafe {
        let kept = lowest(&raw mut (*totals).closed_and_state);
        let state = *kept;
        if flags & tcp_flags::RST != 0 {
            add_32(&raw mut (*totals).resets, 1);
            *kept = state | tcp_state::RESET;
            events::tell(What::TCP_RESET, packet);
            return;
        }
        if flags & tcp_flags::SYN != 0 {
            let role = if flags & tcp_flags::ACK == 0 { tcp_state::OPENER } else { tcp_state::ACCEPTOR };
            if state & role == 0 || (*totals).initial_seq != seq {
                (*totals).initial_seq = seq;
                *kept = role;
                if role == tcp_state::OPENER {
                    add_32(&raw mut (*totals).opened, 1);
                }
            }
            return;
        }
        let mut next = state;
        let opening = state & (tcp_state::OPENER | tcp_state::ESTABLISHED) == tcp_state::OPENER;
        if opening && flags & tcp_flags::ACK != 0 && (seq.wrapping_sub((*totals).initial_seq) as i32) > 0 {
            next |= tcp_state::ESTABLISHED;
            add_32(&raw mut (*totals).established, 1);
            events::tell(What::TCP_OPEN, packet);
        }
        if flags & tcp_flags::FIN != 0 && state & tcp_state::FIN == 0 {
            next |= tcp_state::FIN;
            add_32(&raw mut (*totals).closed_and_state, ONE_ABOVE_BITS);
            events::tell(What::TCP_CLOSE, packet);
        }
        if next != state {
            *kept = next;
        }
    }
}

// BPF can add atomically but not compare and swap, so `core` offers it no `fetch_add`; the instruction itself does
// (BPF_ATOMIC | BPF_ADD, RFC 9669 §5.3), on every kernel.

/// # Safety
/// `counter` is valid and aligned.
#[inline(always)]
pub(super) unsafe fn add_64(counter: *mut u64, by: u64) {
    // SAFETY: the caller's pointer is valid and aligned; the instruction touches nothing else.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) by) }
}

#[inline(always)]
pub(super) unsafe fn add_32(counter: *mut u32, by: u32) {
    // SAFETY: as for `add_64`.
    unsafe { asm!("lock *(u32 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) u64::from(by)) }
}
