//! The maps, nothing else. Sizes are the defaults of the border; the agent may ask for others when it loads.

use agent_ebpf::abi::{
    DNS_RING_BYTES, DeviceTotals, EVENTS_BYTES, FlowKey, FlowTotals, FragmentKey, Loss, MAX_DEVICES, MAX_FLOWS,
    MAX_FRAGMENTS, Ports,
};
use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};

use super::tc::Scratch;

#[map]
pub(super) static FLOWS: HashMap<FlowKey, FlowTotals> = HashMap::with_max_entries(MAX_FLOWS, 0);

#[map]
pub(super) static DEVICES: PerCpuHashMap<u32, DeviceTotals> = PerCpuHashMap::with_max_entries(MAX_DEVICES, 0);

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
