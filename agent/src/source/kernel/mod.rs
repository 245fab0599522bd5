//! The only rooms that name `aya`: loading, attaching, reading maps and the ring, and asking the kernel for devices.

pub mod attach;
pub mod batch;
pub mod clsact;
pub mod facts;
pub mod hook;
pub mod links;
pub mod load;
pub mod memlock;
pub mod memory;
mod netlink;
pub mod pins;
pub mod slots;
mod sys;
pub mod trigger;

use std::io;

/// What the kernel refused, with what was tried.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The build has no programs in it.
    #[error("load eBPF programs: this build embeds none; hint: cargo xtask setup, then build again")]
    EmptyObject,
    /// A file given by `--ebpf-object` cannot be read.
    #[error("read eBPF object: {path}")]
    ReadObject {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The maps or the object as a whole were refused.
    #[error("load eBPF object; hint: the agent needs the capabilities BPF, PERFMON and NET_ADMIN (root has them)")]
    Load(#[source] Box<aya::EbpfError>),
    /// A program was refused.
    #[error(
        "load program: {program}; hint: the agent needs the capabilities BPF, PERFMON and NET_ADMIN (root has them)"
    )]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A map or program is missing from the object.
    #[error("find in eBPF object: {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A map of the object is not what it should be, or refused an operation.
    #[error("use map: {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// All slots near the device's index belong to others.
    #[error("find a free slot for the device of index {ifindex}")]
    NoSlot {
        /// Its interface index.
        ifindex: u32,
    },
    /// The event ring could not be watched.
    #[error("watch the event ring")]
    Ring(#[source] io::Error),
    /// A program could not be put where it was to be.
    #[error(transparent)]
    Attach(#[from] attach::AttachError),
    /// A batch read failed.
    #[error("read the flow map")]
    Batch(#[source] io::Error),
    /// rtnetlink failed.
    #[error("ask rtnetlink for {what}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
