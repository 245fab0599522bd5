//! Programs of others on a device's TCX chains, made for real: one that passes on, drops or redirects, so many that the
//! chain is full, and somebody who takes everybody's programs off.

use std::io;
use std::os::fd::OwnedFd;

use crate::bpf::{self, Attach, BEFORE, Load, MOST, TCX_EGRESS, TCX_INGRESS, instruction};
use crate::error::{Context, Result};
use crate::sys::Netns;

/// `r0 = -1; exit`: `TCX_NEXT`, and nothing else.
const PASS_ON: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

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
        match attach(&PASS_ON, ifindex, 0) {
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
        let flags = if head { BEFORE } else { 0 };
        let make = || {
            let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
            attach(&program(port, verdict), ifindex, flags)
        };
        let link = netns.run(make)?.context(|| format!("attach another's program to {device}"))?;
        Ok(Self { _link: link })
    }
}

/// How many programs are on both TCX chains of a device, whoever made them.
pub fn programs_on(netns: &Netns, device: &str) -> Result<usize> {
    let count = || {
        let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
        Ok::<_, io::Error>(bpf::links(ifindex, TCX_INGRESS)?.len() + bpf::links(ifindex, TCX_EGRESS)?.len())
    };
    netns.run(count)?.context(|| format!("count the programs on {device}"))
}

/// Takes every program off both TCX chains of a device, whoever made it, as root can. Says how many there were.
pub fn detach_all(netns: &Netns, device: &str) -> Result<usize> {
    let detach = || {
        let ifindex = nix::net::if_::if_nametoindex(device).map_err(io::Error::from)?;
        let mut count = 0;
        for attach_type in [TCX_INGRESS, TCX_EGRESS] {
            for id in bpf::links(ifindex, attach_type)? {
                bpf::detach(id)?;
                count += 1;
            }
        }
        Ok::<_, io::Error>(count)
    };
    netns.run(detach)?.context(|| format!("take the programs off {device}"))
}

fn attach(code: &[u64], ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    bpf::link(&Load::tc(code).load()?, &Attach { target: ifindex, kind: TCX_INGRESS, flags })
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
