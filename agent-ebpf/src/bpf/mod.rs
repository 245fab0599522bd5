//! The programs, the maps, and what the BPF target needs beside them.

mod cgroup;
mod dns;
mod events;
mod facts;
mod flow;
mod fragments;
mod loss;
mod maps;
pub(crate) mod skb;
mod tc;

/// Ways to be wrong on purpose; a constant of the object, so that the right one has no trace of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "each object is built with one of them")]
pub(crate) enum Sabotage {
    /// Right.
    None,
    /// One packet in 10,000 is not counted.
    Skip,
    /// One packet in 10,000 is counted twice.
    Double,
    /// What the pod sent counts as what it got.
    Sides,
}

/// Another body for the tc programs, for measuring; a constant of the object as well.
pub(crate) type Instead = Option<fn(&aya_ebpf::programs::TcContext)>;

/// True for about one packet in 10,000.
#[inline(always)]
fn now_and_then() -> bool {
    // SAFETY: no arguments, no memory.
    let random = unsafe { aya_ebpf::helpers::bpf_get_prandom_u32() };
    random % 10_000 == 0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// The helpers that write to no one but us still want a GPL-compatible object.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
