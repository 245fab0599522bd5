//! A device whose TCX chain is full: what a kernel does that refuses a hook, made for real.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::error::{Context, Result};
use crate::sys::Netns;

// Numbers of bpf(2): include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
/// More programs than one chain takes: `BPF_MPROG_MAX` of include/linux/bpf_mprog.h.
const MOST: usize = 65;

/// `r0 = -1; exit`: `TCX_NEXT`, and nothing else.
const PASS_ON: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u64,
    expected_revision: u64,
}

/// Holds every place in a device's ingress chain until it is dropped.
#[derive(Debug)]
pub struct FullChain {
    _descriptors: Vec<OwnedFd>,
}

impl FullChain {
    /// Fills the ingress chain of a device in a namespace.
    pub fn fill(netns: &Netns, device: &str) -> Result<Self> {
        let descriptors = netns.run(|| fill(device))?.context(|| format!("fill the TCX chain of {device}"))?;
        Ok(Self { _descriptors: descriptors })
    }
}

fn fill(device: &str) -> io::Result<Vec<OwnedFd>> {
    let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
    let mut descriptors = Vec::new();
    for _ in 0..MOST {
        let mut load = ProgLoad {
            prog_type: BPF_PROG_TYPE_SCHED_CLS,
            insn_cnt: PASS_ON.len() as u32,
            insns: PASS_ON.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoad::default()
        };
        // SAFETY: the attribute is BPF_PROG_LOAD's, and its pointers are to constants.
        let program = unsafe { bpf(BPF_PROG_LOAD, &mut load) }?;
        let mut link = LinkCreate {
            prog_fd: std::os::fd::AsRawFd::as_raw_fd(&program).cast_unsigned(),
            target_ifindex: ifindex,
            attach_type: BPF_TCX_INGRESS,
            ..LinkCreate::default()
        };
        // SAFETY: the attribute is BPF_LINK_CREATE's, and it has no pointers.
        match unsafe { bpf(BPF_LINK_CREATE, &mut link) } {
            Ok(link) => descriptors.push(link),
            Err(full) if full.raw_os_error() == Some(libc::ERANGE) => return Ok(descriptors),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{MOST} programs found room")))
}

/// # Safety
/// `attr` is the attribute that `command` takes, its pointers are valid, and the command answers with a new descriptor.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(outcome as i32) })
}
