//! DNS messages: what stands behind the transport header goes into a ring of its own, unread; user space parses it.

use core::arch::asm;

use agent_ebpf::{
    abi::{DNS_PORT, DNS_SNAP_BYTES, DnsHead, Loss},
    parse::{Fragment, protocol},
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes},
};

use super::{loss, maps::DNS, tc::Packet};

/// Room for most messages; a power of two.
const USUAL_BYTES: usize = 256;
/// How an IPv4 address begins in a key.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// A message in the ring, in one of two sizes: the kernel wants to know a record's size beforehand. The ring is the only
/// place it is written to, since a cgroup's programs may interrupt each other and so have no memory of their own.
#[repr(C)]
struct Record<const ROOM: usize> {
    head: DnsHead,
    message: [u8; ROOM],
}

/// Takes the packet's message if it is to or from a DNS port; any other packet costs two compares.
#[inline(always)]
pub(super) fn take(skb: *mut __sk_buff, packet: &Packet) {
    let key = &packet.parsed.key;
    if key.source_port == DNS_PORT || key.destination_port == DNS_PORT {
        copy(skb, packet);
    }
}

/// Copies the message into the ring. Not inlined: few packets come here.
#[inline(never)]
fn copy(skb: *mut __sk_buff, packet: &Packet) {
    let parsed = &packet.parsed;
    let carries = matches!(parsed.key.protocol, protocol::UDP | protocol::TCP) && parsed.payload_bytes > 0;
    // A later fragment has its ports from the first, which alone has the message's head.
    if !carries || parsed.icmp_error || parsed.fragment == Fragment::Later {
        return;
    }
    // SAFETY: the context is valid for the whole run of the program.
    let skb_len = unsafe { (*skb).len };
    let l3 = skb_len.wrapping_sub(parsed.l3_bytes);
    // Padding may follow the packet: its own header tells where it ends, unless it is a BIG TCP's.
    let (field, header) = if parsed.key.source[..12] == MAPPED { (2, 0) } else { (4, 40) };
    let mut told = [0_u8; 2];
    // SAFETY: the helper writes two bytes to a buffer of two; where it fails it leaves zeros there.
    unsafe { bpf_skb_load_bytes(skb.cast(), l3 + field, told.as_mut_ptr().cast(), 2) };
    let end = match u32::from(u16::from_be_bytes(told)) {
        0 => skb_len,
        bytes => (l3 + header + bytes).min(skb_len),
    };
    let at = end.wrapping_sub(parsed.payload_bytes);
    if parsed.payload_bytes <= USUAL_BYTES as u32 {
        put::<USUAL_BYTES>(skb, packet, at);
    } else {
        put::<DNS_SNAP_BYTES>(skb, packet, at);
    }
}

/// Puts what stands at `at` into the ring, as much as there is room for in its record.
#[inline(always)]
fn put<const ROOM: usize>(skb: *mut __sk_buff, packet: &Packet, at: u32) {
    let Some(mut entry) = DNS.reserve::<Record<ROOM>>(0) else {
        return loss::count(Loss::DnsRingFull);
    };
    let parsed = &packet.parsed;
    // From 0 to ROOM - 1; the helper wants one more than that, and the verifier to see both bounds.
    let mut last = parsed.payload_bytes.min(ROOM as u32) - 1;
    // SAFETY: plain arithmetic on one register.
    unsafe { asm!("{last} &= {mask}", last = inout(reg) last, mask = const ROOM - 1, options(pure, nomem, nostack)) }
    let taken = last + 1;
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved for us; the helper writes `taken` bytes, between 1 and ROOM, to a buffer of ROOM, or
    // fails. A message that it refuses is one that cannot be parsed: user space counts it so.
    unsafe {
        let outcome = bpf_skb_load_bytes(skb.cast(), at, (&raw mut (*record).message).cast(), taken);
        (*record).head = DnsHead {
            // A packet's own time may be a tick late, which is more than many an answer takes.
            time_ns: bpf_ktime_get_ns(),
            key: parsed.key,
            payload_bytes: parsed.payload_bytes,
            taken: if outcome == 0 { taken as u16 } else { 0 },
            fragment: u8::from(parsed.fragment == Fragment::First),
            reserved: [0; 5],
        };
    }
    entry.submit(0);
}
