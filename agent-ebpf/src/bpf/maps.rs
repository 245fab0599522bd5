//! The maps, nothing else. Sizes are the defaults of the border; the agent may ask for others when it loads.

use agent_ebpf::abi::{
    CGROUP_IFINDEX, CGROUP_SLOT, DEVICE_PROBES, DEVICE_SLOTS, DNS_RING_BYTES, DeviceTotals, EVENTS_BYTES, FlowKey,
    FragmentKey, Loss, MAX_FLOWS, MAX_FRAGMENTS, Ports, slot, slot_owner,
};
use agent_ebpf::entry::FlowEntry;
use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
};

use super::tc::Scratch;

#[map]
pub(super) static FLOWS: HashMap<FlowKey, FlowEntry> = HashMap::with_max_entries(MAX_FLOWS, 0);

/// An array: a look-up costs a tenth of a hash's.
#[map]
pub(super) static DEVICES: PerCpuArray<DeviceTotals> = PerCpuArray::with_max_entries(DEVICE_SLOTS + 1, 0);

#[map]
pub(super) static FRAGMENTS: LruHashMap<FragmentKey, Ports> = LruHashMap::with_max_entries(MAX_FRAGMENTS, 0);

#[map]
pub(super) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

#[map]
pub(super) static DNS: RingBuf = RingBuf::with_byte_size(DNS_RING_BYTES, 0);

#[map]
pub(super) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::COUNT, 0);

/// One packet's working memory; the stack of a BPF program is 512 bytes.
#[map]
pub(super) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's totals of a device that is watched.
#[inline(always)]
pub(super) fn device(ifindex: u32) -> Option<*mut DeviceTotals> {
    let first = DEVICES.get_ptr_mut(slot(ifindex, 0))?;
    // SAFETY: values of an array stay mapped for as long as the program lives.
    if unsafe { (*first).owner } == slot_owner(ifindex) {
        return Some(first);
    }
    let other = displaced(ifindex);
    (!other.is_null()).then_some(other)
}

/// This CPU's totals of the cgroup. Its place is fixed: the programs there keep a packet on the stack, which has no room
/// for a further call.
#[inline(always)]
pub(super) fn cgroup() -> Option<*mut DeviceTotals> {
    let totals = DEVICES.get_ptr_mut(CGROUP_SLOT)?;
    // SAFETY: as in `device`.
    (unsafe { (*totals).owner } == slot_owner(CGROUP_IFINDEX)).then_some(totals)
}

/// A device whose first slot another one has: indices far apart, seldom live at once. Not inlined, so that the usual
/// way stays short.
#[inline(never)]
fn displaced(ifindex: u32) -> *mut DeviceTotals {
    for probe in 1..DEVICE_PROBES {
        let Some(totals) = DEVICES.get_ptr_mut(slot(ifindex, probe)) else { break };
        // SAFETY: as in `device`.
        if unsafe { (*totals).owner } == slot_owner(ifindex) {
            return totals;
        }
    }
    core::ptr::null_mut()
}
