//! The cgroup programs: what local sockets send and get, above all devices. One body, the direction is an argument.
//!
//! They run in the context of whoever sends, where a softirq or another task may interrupt them on the same CPU. So
//! everything shared is added to atomically, and the packet's working memory is the stack: headers lie in one piece here.

use agent_ebpf::{
    abi::{CGROUP_IFINDEX, Direction, LinkType, Loss},
    parse::{Parsed, parse, protocol},
};
use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

use super::{dns, flow, loss, maps, skb::Linear, tc};

/// A namespace's own loopback device always has this index (`LOOPBACK_IFINDEX`, include/net/net_namespace.h).
const LOOPBACK_IFINDEX: u32 = 1;
/// Let pass; the verifier wants nothing else of a program that has no opinion.
const PASS: i32 = 1;

/// What a socket sends: from the pod.
#[cgroup_skb(egress)]
pub(super) fn cgroup_egress(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Ingress);
    PASS
}

/// What a socket gets: to the pod.
#[cgroup_skb(ingress)]
pub(super) fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    count(&ctx, Direction::Egress);
    PASS
}

/// Counts TCP and UDP of sockets. Everything else is left out, since only a part of it has a socket; so is what a
/// namespace says to itself.
#[inline(always)]
fn count(ctx: &SkBuffContext, direction: Direction) {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid for the whole run of the program.
    let (ifindex, gso_segs, gso_size, len) = unsafe { ((*skb).ifindex, (*skb).gso_segs, (*skb).gso_size, (*skb).len) };
    if ifindex == LOOPBACK_IFINDEX {
        return;
    }
    let local_socket = direction == Direction::Ingress;
    let mut packet =
        tc::Packet { parsed: Parsed::default(), segments: 0, local_socket, now: tc::Now { ns: 0, tick: 0 } };
    // What this hook hands over begins at the network header.
    let outcome = parse(&Linear(&ctx.skb), LinkType::RawIp, &mut packet.parsed);
    let transport = packet.parsed.key.protocol;
    if outcome.is_err() || packet.parsed.icmp_error || (transport != protocol::TCP && transport != protocol::UDP) {
        return;
    }
    let Some(device) = maps::cgroup() else {
        return loss::count(Loss::UnknownDevice);
    };
    // SAFETY: the value lives as long as its map, and is only added to.
    let totals = unsafe {
        let [ingress, egress] = &mut (*device).directions;
        match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        }
    };
    packet.parsed.key.ifindex = CGROUP_IFINDEX;
    packet.parsed.key.direction = direction as u8;
    packet.segments = tc::segments(gso_segs, gso_size, packet.parsed.payload_bytes);
    packet.now = tc::Now::read();
    let counted = tc::add(skb, &mut packet);
    dns::take(skb, &packet);
    // SAFETY: as above.
    unsafe {
        flow::add_64(&raw mut totals.skbs, 1);
        flow::add_64(&raw mut totals.bytes, u64::from(len));
        if !counted {
            flow::add_64(&raw mut totals.lost, 1);
        }
    }
}
