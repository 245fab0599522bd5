//! Counting what is lost, where it is lost.

use agent_ebpf::abi::Loss;

use super::{flow, maps::LOSSES};

/// Counts one loss on this CPU.
#[inline(always)]
pub(super) fn count(cause: Loss) {
    if let Some(slot) = LOSSES.get_ptr_mut(cause as u32) {
        // SAFETY: the slot lives as long as its map. A program that watches a cgroup may be interrupted by one on a device.
        unsafe { flow::add_64(slot, 1) }
    }
}
