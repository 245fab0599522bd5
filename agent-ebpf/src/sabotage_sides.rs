//! The BPF object, but with the two sides swapped: a test of exactness must turn red on it.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod bpf;

/// Whether this object is wrong on purpose, and how.
#[cfg(target_arch = "bpf")]
const SABOTAGE: bpf::Sabotage = bpf::Sabotage::Sides;

/// What the tc programs do in place of counting: nothing else.
#[cfg(target_arch = "bpf")]
const INSTEAD: bpf::Instead = None;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
