//! The BPF object. On any other target than BPF this is an empty program, so that the workspace builds anywhere.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod bpf;

/// Whether this object is wrong on purpose, and how.
#[cfg(target_arch = "bpf")]
const SABOTAGE: bpf::Sabotage = bpf::Sabotage::None;

/// What the tc programs do in place of counting: nothing else.
#[cfg(target_arch = "bpf")]
const INSTEAD: bpf::Instead = None;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
