//! The half of the kernel side that builds anywhere: what crosses the border, and the packet parser.
//!
//! No helper calls and no `aya` here; the programs themselves are behind `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod entry;
pub mod facts;
pub mod parse;
