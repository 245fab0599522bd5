//! The floor program of the benches: the least that counts flows. Not part of what runs on a node.

use agent_ebpf::abi::mapped;
use aya_ebpf::{macros::map, maps::PerCpuHashMap, programs::TcContext};

use crate::bpf::skb::words;

/// Addresses and ports, IPv4 mapped.
#[derive(Clone, Copy)]
#[repr(C)]
struct Key {
    source: [u8; 16],
    destination: [u8; 16],
    ports: [u8; 4],
    protocol: u32,
}

/// What is counted.
#[derive(Clone, Copy)]
#[repr(C)]
struct Totals {
    packets: u64,
    bytes: u64,
}

#[map]
static FLOOR: PerCpuHashMap<Key, Totals> = PerCpuHashMap::with_max_entries(agent_ebpf::abi::MAX_FLOWS, 0);

/// Counts one packet, whatever becomes of it.
#[inline(always)]
pub(crate) fn count(ctx: &TcContext) {
    let Some(key) = key(ctx) else { return };
    let bytes = u64::from(ctx.len());
    match FLOOR.get_ptr_mut(&key) {
        // SAFETY: the value is this CPU's own.
        Some(totals) => unsafe {
            (*totals).packets += 1;
            (*totals).bytes += bytes;
        },
        None => {
            let _ = FLOOR.insert(&key, &Totals { packets: 1, bytes }, 0);
        }
    }
}

#[inline(always)]
fn key(ctx: &TcContext) -> Option<Key> {
    let mut key = Key { source: [0; 16], destination: [0; 16], ports: [0; 4], protocol: 0 };
    match load(ctx, 12)? {
        [0x08, 0x00] => {
            let header: [u8; 20] = load(ctx, 14)?;
            key.source = mapped([header[12], header[13], header[14], header[15]]);
            key.destination = mapped([header[16], header[17], header[18], header[19]]);
            key.protocol = u32::from(header[9]);
            key.ports = load(ctx, 34)?;
        }
        [0x86, 0xdd] => {
            key.protocol = u32::from(load::<2>(ctx, 20)?[0]);
            key.source = load(ctx, 22)?;
            key.destination = load(ctx, 38)?;
            key.ports = load(ctx, 54)?;
        }
        _ => return None,
    }
    Some(key)
}

/// `N` bytes from `offset`, or `None` where the packet is shorter.
#[inline(always)]
fn load<const N: usize>(ctx: &TcContext, offset: usize) -> Option<[u8; N]> {
    let start = ctx.data() + offset;
    (start + N <= ctx.data_end()).then(|| words(start))
}
