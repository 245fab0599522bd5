//! What the kernel dropped and why, by five-tuple.

use agent_ebpf::{
    abi::{Loss, mapped},
    facts::{DropKey, DropTotals, Tuple},
    parse::protocol,
};
use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};

use super::{
    super::{flow::add_64, loss},
    maps::{DROP_NOISE, DROPS, setting},
    read::{in_scope, netns_at, read},
};

/// `ETH_P_IP` and `ETH_P_IPV6`, include/uapi/linux/if_ether.h.
const IP: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Network namespaces have inodes above this (include/linux/proc_ns.h); anything else was no namespace.
const FIRST_NETNS: u32 = 0xefff_0000;

/// Whether a reason says nothing: asked before anything is read.
#[inline(always)]
pub(super) fn noise(reason: u32) -> bool {
    DROP_NOISE.get(reason).is_some_and(|noise| *noise != 0)
}

/// The kernel threw a buffer away; `receiver` is the socket it was for, or 0.
#[inline(never)]
pub(super) fn dropped(skb: u64, reason: u32, receiver: u64) -> u32 {
    let Some(head) = read::<u64>(skb, setting!(skb_head)) else { return 0 };
    let Some(network) = read::<u16>(skb, setting!(skb_network_header)) else { return 0 };
    let Some(ethertype) = read::<u16>(skb, setting!(skb_protocol)) else { return 0 };
    // A buffer that was dropped before its network header was set tells 0 here.
    if network == 0 || network == u16::MAX {
        return 0;
    }
    let Some(tuple) = tuple(head + u64::from(network), u16::from_be(ethertype)) else { return 0 };
    if !in_scope(netns(skb, receiver)) {
        return 0;
    }
    let key = DropKey { tuple, reason };
    // SAFETY: no arguments, no memory.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let entry = match DROPS.get_ptr_mut(&key) {
        Some(entry) => Some(entry),
        None => {
            let fresh = DropTotals { first_ns: now_ns, last_ns: now_ns, segments: 0 };
            // Another CPU may have made the entry meanwhile: then this fails, and its entry is found below.
            let _ = DROPS.insert(&key, &fresh, u64::from(BPF_NOEXIST));
            DROPS.get_ptr_mut(&key)
        }
    };
    match entry {
        // SAFETY: entries of a preallocated hash stay mapped while the program runs.
        Some(totals) => unsafe {
            (*totals).last_ns = now_ns;
            add_64(&raw mut (*totals).segments, segments(skb, head));
        },
        None => loss::count(Loss::DropsFull),
    }
    0
}

/// Where the buffer was: the device's namespace. Some queues keep other things in the device's place; then the socket's.
#[inline(always)]
fn netns(skb: u64, receiver: u64) -> u32 {
    let of_socket = |sk: u64| if sk == 0 { 0 } else { netns_at(sk, setting!(sock_net)) };
    let at_device = match read::<u64>(skb, setting!(skb_dev)) {
        Some(device) if device != 0 => netns_at(device, setting!(dev_net)),
        _ => 0,
    };
    if at_device >= FIRST_NETNS {
        return at_device;
    }
    match of_socket(receiver) {
        0 => of_socket(read::<u64>(skb, setting!(skb_sk)).unwrap_or(0)),
        found => found,
    }
}

/// Wire segments (`skb_shinfo(skb)->gso_segs`; the shared info lies behind the buffer's end).
#[inline(always)]
fn segments(skb: u64, head: u64) -> u64 {
    let end = u64::from(read::<u32>(skb, setting!(skb_end)).unwrap_or(0));
    u64::from(read::<u16>(head + end, setting!(skb_gso_segs)).unwrap_or(1).max(1))
}

/// The five-tuple of the packet at `ip`; no ports in later fragments, behind IPv6 extensions, and where there are none.
#[inline(always)]
fn tuple(ip: u64, ethertype: u16) -> Option<Tuple> {
    let mut tuple = Tuple::default();
    let version = read::<u8>(ip, 0)?;
    let transport = match (ethertype, version >> 4) {
        (IP, 4) => {
            tuple.protocol = read(ip, 9)?;
            tuple.source = mapped(read(ip, 12)?);
            tuple.destination = mapped(read(ip, 16)?);
            let later = u16::from_be(read(ip, 6)?) & 0x1fff != 0;
            if later { None } else { Some(ip + u64::from(version & 0xf) * 4) }
        }
        (IPV6, 6) => {
            tuple.protocol = read(ip, 6)?;
            tuple.source = read(ip, 8)?;
            tuple.destination = read(ip, 24)?;
            Some(ip + 40)
        }
        _ => return None,
    };
    if let Some(transport) = transport
        && matches!(tuple.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
    {
        tuple.source_port = u16::from_be(read(transport, 0)?);
        tuple.destination_port = u16::from_be(read(transport, 2)?);
    }
    Some(tuple)
}
