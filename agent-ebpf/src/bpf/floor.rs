//! The floor program of the benches: the least that counts flows. Not part of what runs on a node.

use aya_ebpf::{macros::map, maps::PerCpuHashMap, programs::TcContext};

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
    match u16::from_be(*at::<u16>(ctx, 12)?) {
        0x0800 => {
            let header = at::<[u8; 24]>(ctx, 14)?;
            key.source[10..12].fill(0xff);
            key.destination[10..12].fill(0xff);
            key.source[12..].copy_from_slice(&header[12..16]);
            key.destination[12..].copy_from_slice(&header[16..20]);
            key.protocol = u32::from(header[9]);
            key.ports.copy_from_slice(&header[20..24]);
        }
        0x86dd => {
            let header = at::<[u8; 44]>(ctx, 14)?;
            key.source.copy_from_slice(&header[8..24]);
            key.destination.copy_from_slice(&header[24..40]);
            key.protocol = u32::from(header[6]);
            key.ports.copy_from_slice(&header[40..44]);
        }
        _ => return None,
    }
    Some(key)
}

#[inline(always)]
fn at<T>(ctx: &TcContext, offset: usize) -> Option<&T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes lie between data and data_end, checked on the line above; the callers want no alignment beyond
    // what network headers have.
    Some(unsafe { &*(start as *const T) })
}
