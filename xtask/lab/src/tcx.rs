//! Programs of others on a device's TCX chains, made for real: one that passes on, drops or redirects, so many that the
//! chain is full, and somebody who takes everybody's programs off.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::error::{Context, Result};
use crate::sys::Netns;

// Numbers of bpf(2): include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_BEFORE: u32 = 1 << 3;
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

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
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
        match attach(&load(&PASS_ON)?, ifindex, BPF_TCX_INGRESS, 0) {
            Ok(link) => descriptors.push(link),
            Err(full) if full.raw_os_error() == Some(libc::ERANGE) => return Ok(descriptors),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{MOST} programs found room")))
}

/// What another's program does with UDP over IPv4 to one port; everything else it passes on.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// Drops it.
    Drop,
    /// Sends it out of another device, by interface index.
    Redirect(u32),
}

/// Another's program at what a pod sends, until it is dropped.
#[derive(Debug)]
pub struct Guest {
    _link: OwnedFd,
}

impl Guest {
    /// Attaches to the ingress of a device in a namespace, at the chain's head or at its tail.
    pub fn attach(netns: &Netns, device: &str, head: bool, port: u16, verdict: Verdict) -> Result<Self> {
        let flags = if head { BPF_F_BEFORE } else { 0 };
        let make = || {
            let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
            attach(&load(&program(port, verdict))?, ifindex, BPF_TCX_INGRESS, flags)
        };
        let link = netns.run(make)?.context(|| format!("attach another's program to {device}"))?;
        Ok(Self { _link: link })
    }
}

/// How many programs are on both TCX chains of a device, whoever made them.
pub fn programs_on(netns: &Netns, device: &str) -> Result<usize> {
    let count = || {
        let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
        Ok::<_, io::Error>(links(ifindex, BPF_TCX_INGRESS)?.len() + links(ifindex, BPF_TCX_EGRESS)?.len())
    };
    netns.run(count)?.context(|| format!("count the programs on {device}"))
}

/// Takes every program off both TCX chains of a device, whoever made it, as root can. Says how many there were.
pub fn detach_all(netns: &Netns, device: &str) -> Result<usize> {
    let detach = || {
        let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
        let mut count = 0;
        for attach_type in [BPF_TCX_INGRESS, BPF_TCX_EGRESS] {
            for id in links(ifindex, attach_type)? {
                let mut by_id = [id, 0, 0, 0];
                // SAFETY: the attribute is BPF_LINK_GET_FD_BY_ID's and has no pointers.
                let link = unsafe { bpf(BPF_LINK_GET_FD_BY_ID, &mut by_id) }?;
                let mut attr = link.as_raw_fd().cast_unsigned();
                // SAFETY: the attribute is BPF_LINK_DETACH's: one descriptor. The command answers with 0, no descriptor.
                let outcome = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw mut attr, size_of::<u32>()) };
                if outcome < 0 {
                    return Err(io::Error::last_os_error());
                }
                count += 1;
            }
        }
        Ok(count)
    };
    netns.run(detach)?.context(|| format!("take the programs off {device}"))
}

/// The numbers of the links on one chain.
fn links(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let (mut programs, mut links) = ([0_u32; MOST], [0_u32; MOST]);
    let mut attr = Query {
        target: ifindex,
        attach_type,
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    // SAFETY: the attribute is BPF_PROG_QUERY's, and both buffers hold the number that is told.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size_of::<Query>()) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(links[..attr.count as usize].to_vec())
}

fn load(code: &[u64]) -> io::Result<OwnedFd> {
    let mut load = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: the attribute is BPF_PROG_LOAD's, and its pointers live until the call returns.
    unsafe { bpf(BPF_PROG_LOAD, &mut load) }
}

fn attach(program: &OwnedFd, ifindex: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut link = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: ifindex,
        attach_type,
        flags,
        ..LinkCreate::default()
    };
    // SAFETY: the attribute is BPF_LINK_CREATE's, and it has no pointers.
    unsafe { bpf(BPF_LINK_CREATE, &mut link) }
}

/// `struct bpf_insn` in a number: opcode, registers, offset, immediate.
const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> u64 {
    code as u64 | (registers as u64) << 8 | (offset.cast_unsigned() as u64) << 16 | (immediate as u64) << 32
}

/// A verdict on UDP over IPv4 (without options) to `port`, `TCX_NEXT` for the rest.
fn program(port: u16, verdict: Verdict) -> Vec<u64> {
    // Opcodes and registers: include/uapi/linux/bpf.h. LD_ABS reads the packet in network order, with r6 the context.
    let mut code = vec![
        instruction(0xbf, 0x16, 0, 0),            // r6 = r1
        instruction(0x28, 0, 0, 12),              // r0 = the Ethernet type
        instruction(0x55, 0, 8, 0x0800),          // if it is not IPv4, pass on
        instruction(0x30, 0, 0, 23),              // r0 = the protocol
        instruction(0x55, 0, 6, 17),              // if it is not UDP, pass on
        instruction(0x28, 0, 0, 36),              // r0 = the destination port
        instruction(0x55, 0, 4, u32::from(port)), // if it is another, pass on
    ];
    match verdict {
        // As long as the other, so that the jumps above fit both.
        Verdict::Drop => code.extend([
            instruction(0xb7, 0x00, 0, 2), // r0 = TC_ACT_SHOT
            instruction(0xb7, 0x00, 0, 2),
            instruction(0xb7, 0x00, 0, 2),
            instruction(0x95, 0, 0, 0),
        ]),
        Verdict::Redirect(ifindex) => code.extend([
            instruction(0xb7, 0x01, 0, ifindex), // r1 = the device
            instruction(0xb7, 0x02, 0, 0),       // r2 = 0: out of it
            instruction(0x85, 0, 0, 23),         // r0 = bpf_redirect(r1, r2)
            instruction(0x95, 0, 0, 0),
        ]),
    }
    code.extend(PASS_ON);
    code
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
