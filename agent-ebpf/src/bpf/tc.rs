//! The tc programs: one body, the direction is an argument. They watch and let pass, whatever happens inside.

use agent_ebpf::{
    abi::{Direction, LinkType, Loss},
    entry::{FlowEntry, tick},
    facts::cgroup_number,
    parse::{Parsed, Skip, parse, protocol},
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST, TC_ACT_UNSPEC},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_skb_cgroup_id},
    macros::classifier,
    programs::TcContext,
};

use super::{
    Sabotage, dns,
    events::{self, What},
    flow, fragments, loss,
    maps::{self, FLOWS},
    now_and_then,
    skb::{Copied, Head, Linear},
};

/// What the pod sent, at the host's end of its veth.
#[classifier]
pub(super) fn tc_ingress(ctx: TcContext) -> i32 {
    watch(&ctx, Direction::Ingress)
}

/// What goes to the pod, at the host's end of its veth.
#[classifier]
pub(super) fn tc_egress(ctx: TcContext) -> i32 {
    watch(&ctx, Direction::Egress)
}

/// One packet's working memory.
#[repr(C)]
pub(super) struct Scratch {
    packet: Packet,
    head: Head,
    clock: Clock,
}

/// The time of this CPU's newest packet: reading the clock anew for each would cost half of what counting one does.
#[repr(C)]
struct Clock {
    tick: u64,
    now: Now,
}

/// A moment, and the same as entries keep it: dividing by a million costs as much as adding to an entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Now {
    pub(super) ns: u64,
    pub(super) tick: u32,
}

impl Now {
    /// Reads the clock.
    #[inline(always)]
    pub(super) fn read() -> Self {
        // SAFETY: no arguments, no memory.
        let ns = unsafe { bpf_ktime_get_ns() };
        Self { ns, tick: tick(ns) }
    }
}

impl Clock {
    /// `CLOCK_MONOTONIC`, late by a tick of the kernel's timer (1 to 10 ms) at the most.
    #[inline(always)]
    fn now(&mut self) -> Now {
        // SAFETY: no arguments, no memory.
        let tick = unsafe { bpf_jiffies64() };
        if self.tick != tick {
            self.tick = tick;
            self.now = Now::read();
        }
        self.now
    }
}

/// A packet that is being counted.
#[repr(C)]
pub(super) struct Packet {
    pub(super) parsed: Parsed,
    pub(super) segments: u32,
    /// It leaves the node straight from a socket.
    pub(super) local_socket: bool,
    pub(super) now: Now,
}

/// The next program in the chain decides, always: `TC_ACT_UNSPEC` is `TCX_NEXT`.
#[inline(always)]
fn watch(ctx: &TcContext, direction: Direction) -> i32 {
    match crate::INSTEAD {
        Some(instead) => instead(ctx),
        None => count(ctx, direction),
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn count(ctx: &TcContext, direction: Direction) {
    // SAFETY: the context is valid for the whole run of the program.
    let (ifindex, gso_segs, gso_size) =
        unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).gso_segs, (*ctx.skb.skb).gso_size) };
    let (Some(device), Some(scratch)) = (maps::device(ifindex), maps::SCRATCH.get_ptr_mut(0)) else {
        return loss::count(Loss::UnknownDevice);
    };
    // SAFETY: both values are this CPU's own, and tc programs of one CPU do not interrupt each other.
    let (device, scratch) = unsafe { (&mut *device, &mut *scratch) };
    let link = if device.link_type == LinkType::RawIp as u8 { LinkType::RawIp } else { LinkType::Ethernet };
    let [ingress, egress] = &mut device.directions;
    let totals = match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    };
    totals.skbs += 1;
    totals.bytes += u64::from(ctx.len());

    let packet = &mut scratch.packet;
    let outcome = match parse(&Linear(&ctx.skb), link, &mut packet.parsed) {
        // Perhaps only not in one piece.
        Err(Skip::Malformed) if ctx.data_end() - ctx.data() < ctx.len() as usize => {
            match Copied::new(ctx, &mut scratch.head) {
                Some(copy) => parse(&copy, link, &mut packet.parsed),
                None => Err(Skip::Malformed),
            }
        }
        outcome => outcome,
    };
    match outcome {
        Ok(()) => {
            packet.parsed.key.ifindex = ifindex;
            packet.parsed.key.direction = direction as u8;
            packet.segments = segments(gso_segs, gso_size, packet.parsed.payload_bytes);
            packet.now = scratch.clock.now();
            // SAFETY: as above; only whether there is a socket is asked.
            packet.local_socket =
                direction == Direction::Egress && unsafe { !(*ctx.skb.skb).__bindgen_anon_2.sk.is_null() };
            fragments::join(&mut packet.parsed);
            let key = &mut packet.parsed.key;
            if key.protocol == protocol::UDP && device.tunnel_ports.contains(&key.destination_port) {
                key.source_port = 0;
            }
            if !add(ctx.skb.skb, packet) {
                totals.lost += 1;
            }
            if device.dns != 0 {
                dns::take(ctx.skb.skb, packet);
            }
        }
        Err(Skip::LinkControl) => totals.link_control += 1,
        Err(Skip::Malformed) => totals.malformed += 1,
        Err(Skip::HeaderDepth) => {
            totals.malformed += 1;
            loss::count(Loss::HeaderDepth);
        }
    }
}

/// Wire segments of a buffer. One that a guest or a tunnel handed in unchecked (`SKB_GSO_DODGY`, include/linux/skbuff.h)
/// has a segment size but no count yet: the kernel fills it in behind this hook.
#[inline(always)]
pub(super) fn segments(gso_segs: u32, gso_size: u32, payload_bytes: u32) -> u32 {
    if gso_size == 0 {
        return gso_segs.max(1);
    }
    gso_segs.max(payload_bytes.div_ceil(gso_size)).max(1)
}

/// Adds a packet to its flow; where the flow map is full, the packet goes through the ring. False if that was full too.
#[inline(always)]
pub(super) fn add(skb: *mut __sk_buff, packet: &mut Packet) -> bool {
    match crate::SABOTAGE {
        Sabotage::Skip if now_and_then() => return true,
        Sabotage::Sides => packet.parsed.key.direction ^= 1,
        _ => {}
    }
    let key = &packet.parsed.key;
    let entry = match FLOWS.get_ptr_mut(key) {
        Some(entry) => Some(entry),
        None => {
            // SAFETY: the context is valid for the whole run of the program.
            let cgroup = if packet.local_socket { cgroup_number(unsafe { bpf_skb_cgroup_id(skb) }) } else { 0 };
            let now = packet.now.tick;
            let fresh = FlowEntry { first: now, last: now, cgroup, ..FlowEntry::default() };
            // Another CPU may have made the entry meanwhile: then this fails, and its entry is found below.
            let made = FLOWS.insert(key, &fresh, u64::from(BPF_NOEXIST)).is_ok();
            if made {
                events::tell(What::FLOW_NEW, packet);
            }
            FLOWS.get_ptr_mut(key)
        }
    };
    match entry {
        // SAFETY: entries of a preallocated hash stay mapped while the program runs.
        Some(totals) => unsafe { flow::add(totals, packet) },
        None => {
            if !events::tell(What::UNMAPPED, packet) {
                loss::count(Loss::MapFull);
                return false;
            }
        }
    }
    true
}
