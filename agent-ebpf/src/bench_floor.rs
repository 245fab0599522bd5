//! The BPF object, but its tc programs do the least that still counts flows: addresses and ports of IPv4 and IPv6 into a
//! key, one look-up in a per-CPU hash, packets and bytes. What ours cost is told as a multiple of it.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod bpf;
#[cfg(target_arch = "bpf")]
#[path = "bpf/floor.rs"]
mod floor;

/// Whether this object is wrong on purpose, and how.
#[cfg(target_arch = "bpf")]
const SABOTAGE: bpf::Sabotage = bpf::Sabotage::None;

/// What the tc programs do in place of counting.
#[cfg(target_arch = "bpf")]
const INSTEAD: bpf::Instead = Some(floor::count);

#[cfg(not(target_arch = "bpf"))]
fn main() {}
