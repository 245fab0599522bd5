//! Counting what is lost, where it is lost.

use agent_ebpf::abi::Loss;

use super::maps::LOSSES;

/// Counts one loss on this CPU.
#[inline(always)]
pub(super) fn count(cause: Loss) {
    if let Some(slot) = LOSSES.get_ptr_mut(cause as u32) {
        // SAFETY: the slot is this CPU's own, and tc programs of one CPU do not interrupt each other.
        unsafe { *slot += 1 }
    }
}
