//! A synthetic Cilium on one node: what its programs do to packets, in some forty instructions. At pods' devices, the tunnel
//! and the uplink it delivers to the node's own pods past their devices (`bpf_redirect_peer`), forwards to other nodes' pods
//! without the host's stack (`bpf_redirect_neigh`), drops what a policy denies, and hands the rest to the stack. It stands
//! where the real one stands, and takes off others' filters where the real one does.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::bpf::{self, ARRAY, Attach, HASH, Load, TCX_INGRESS, instruction as op};
use crate::clsact::{self, Place};
use crate::error::{Context, Result};
use crate::lab::Lab;
use crate::spec::Cni;
use crate::sys::Netns;

/// How it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// At the tail of the TCX chain; every filter on the device is deleted then.
    Tcx,
    /// A filter of priority 1 and handle 1 that replaces what is there.
    Filter,
}

/// What it did with packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handled {
    /// Handed into a pod of this node, past its device.
    pub delivered: u64,
    /// Sent on to another node.
    pub forwarded: u64,
    /// Dropped, as the policy wants it.
    pub denied: u64,
    /// Left to the stack, but for groups of IPv6: a stack reports those it joined when it likes, seconds after a device came up.
    pub passed: u64,
}

// What the map of destinations says is to be done.
const DELIVER: u32 = 1;
const FORWARD: u32 = 2;
/// The filter's name, and how a program of Cilium's is called.
const NAME: &str = "cil_from_lxc";
const PLACE: Place = Place { priority: 1, handle: 1 };

/// One node's datapath, until it is dropped; filters stay until [`Cilium::leave`], as the real one's do.
#[derive(Debug)]
pub struct Cilium {
    netns: Netns,
    form: Form,
    denied: u16,
    destinations: OwnedFd,
    counts: OwnedFd,
    /// Its devices by interface index, and the links on them.
    devices: BTreeMap<u32, Option<OwnedFd>>,
}

impl Cilium {
    /// Installs it on a node of a lab whose devices are called as Cilium's. UDP to the port `denied` is dropped.
    pub fn install(lab: &Lab, node: &str, form: Form, denied: u16) -> Result<Self> {
        let netns = Netns::open(lab.node(node)?.name())?;
        let what = || format!("install a datapath on {node}");
        let stats = lab.device_stats(node)?;
        let tunnel = stats.contains_key(Cni::Cilium.tunnel()).then_some(Cni::Cilium.tunnel());
        // The first two nodes are joined by the tunnel, all others by the fabric.
        let by_tunnel = |other: &str| tunnel.filter(|_| ["n1", "n2"].contains(&other));
        let mut destinations = Vec::new();
        let mut devices: Vec<String> = tunnel.into_iter().chain(["eth0"]).map(str::to_owned).collect();
        for pod in lab.pods() {
            let (action, device) = if pod.node() == node {
                devices.push(pod.device().to_owned());
                (DELIVER, pod.device())
            } else {
                (FORWARD, by_tunnel(pod.node()).unwrap_or("eth0"))
            };
            destinations.extend([pod.v4(), pod.v6()].map(|address| (address, action, device.to_owned())));
        }
        let make = || -> io::Result<_> {
            let room = u32::try_from(destinations.len()).unwrap_or(u32::MAX);
            let map = bpf::make_map(HASH, 16, 8, room)?;
            for (address, action, device) in &destinations {
                let value = [action.to_ne_bytes(), index_of(device)?.to_ne_bytes()].concat();
                bpf::insert::<16, 8>(&map, &mapped(*address), &value.try_into().unwrap_or_default())?;
            }
            let indexes = devices.iter().map(|device| index_of(device)).collect::<io::Result<Vec<_>>>()?;
            Ok((map, bpf::make_map(ARRAY, 4, 8, 4)?, indexes))
        };
        let (destinations, counts, indexes) = netns.run(make)?.context(what)?;
        let mut cilium = Self { netns, form, denied, destinations, counts, devices: BTreeMap::new() };
        cilium.put(&indexes).context(what)?;
        Ok(cilium)
    }

    /// Loads its program anew and puts it everywhere in the old one's place, as at every change of an endpoint.
    pub fn regenerate(&mut self) -> Result<()> {
        let devices: Vec<u32> = self.devices.keys().copied().collect();
        self.put(&devices).context(|| "put a new program in the old one's place".to_owned())
    }

    fn put(&mut self, indexes: &[u32]) -> io::Result<()> {
        let code = program(&self.destinations, &self.counts, self.denied);
        let program = Load { name: NAME, ..Load::tc(&code) }.load()?;
        let (form, devices) = (self.form, &mut self.devices);
        let work = || {
            for ifindex in indexes {
                let held = devices.entry(*ifindex).or_default();
                match (form, &held) {
                    (Form::Filter, _) => {
                        clsact::qdisc(*ifindex)?;
                        clsact::put(*ifindex, PLACE, NAME, &program)?;
                        continue;
                    }
                    (Form::Tcx, Some(link)) => bpf::replace(link, &program)?,
                    (Form::Tcx, None) => {
                        let at = Attach { target: *ifindex, kind: TCX_INGRESS, flags: 0 };
                        *held = Some(bpf::link(&program, &at)?);
                    }
                }
                // What it leaves of other people's filters: nothing.
                clsact::delete_all(*ifindex)?;
            }
            Ok(())
        };
        self.netns.run(work).map_err(io::Error::other)?
    }

    /// What it did so far.
    pub fn handled(&self) -> Result<Handled> {
        let count = |index| bpf::counter(&self.counts, index).context(|| "read what was handled".to_owned());
        Ok(Handled { delivered: count(0)?, forwarded: count(1)?, denied: count(2)?, passed: count(3)? })
    }

    /// Whether it still is the last of each chain, or the filter at its place.
    pub fn in_place(&self) -> Result<bool> {
        let look = || {
            for (ifindex, held) in &self.devices {
                let there = match held {
                    Some(link) => bpf::links(*ifindex, TCX_INGRESS)?.last() == Some(&bpf::link_id(link)?),
                    None => clsact::names(*ifindex)?.iter().any(|name| name == NAME),
                };
                if !there {
                    return Ok::<_, io::Error>(false);
                }
            }
            Ok(true)
        };
        self.netns.run(look)?.context(|| "look after a datapath's programs".to_owned())
    }

    /// Takes it off: its links, or every filter of its devices, whoever owns it.
    pub fn leave(self) -> Result<()> {
        let off = || match self.form {
            Form::Tcx => Ok(()),
            Form::Filter => self.devices.keys().try_for_each(|ifindex| clsact::delete_all(*ifindex)),
        };
        self.netns.run(off)?.context(|| "take a datapath off".to_owned())
    }
}

fn index_of(device: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(device)?)
}

/// IPv4 addresses as IPv6 writes them.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    }
}

/// Where a jump leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    V4Address,
    V6,
    V6Address,
    Look,
    Forward,
    Deny,
    Pass,
    Stack,
}

/// Instructions with named places among them.
#[derive(Default)]
struct Code {
    instructions: Vec<u64>,
    jumps: Vec<(usize, To)>,
    places: Vec<(To, usize)>,
}

impl Code {
    fn add(&mut self, instructions: &[u64]) {
        self.instructions.extend_from_slice(instructions);
    }

    /// `if (r0 op value) goto to`, or a plain jump.
    fn jump(&mut self, code: u8, value: u32, to: To) {
        self.jumps.push((self.instructions.len(), to));
        self.add(&[op(code, 0, 0, value)]);
    }

    fn place(&mut self, at: To) {
        self.places.push((at, self.instructions.len()));
    }

    fn load_map(&mut self, register: u8, map: &OwnedFd) {
        self.add(&[op(0x18, 0x10 | register, 0, map.as_raw_fd().cast_unsigned()), 0]);
    }

    /// Adds one to a counter.
    fn count(&mut self, counts: &OwnedFd, index: u32) {
        self.add(&[op(0x62, 0x0a, -20, index)]); // *(u32 *)(fp - 20) = index
        self.load_map(1, counts);
        self.add(&[
            op(0xbf, 0xa2, 0, 0),
            op(0x07, 0x02, 0, (-20_i32).cast_unsigned()), // r2 = fp - 20
            op(0x85, 0, 0, 1),                            // r0 = map_lookup_elem(r1, r2)
            op(JUMP_IF, 0, 2, 0),                         // none: not counted
            op(0xb7, 0x01, 0, 1),
            op(0xdb, 0x10, 0, 0), // lock *(u64 *)r0 += 1
        ]);
    }

    fn finish(mut self) -> Vec<u64> {
        for (at, to) in &self.jumps {
            let place = self.places.iter().find(|(place, _)| place == to).map_or(0, |(_, place)| *place);
            let offset = (place as i16) - (*at as i16) - 1;
            self.instructions[*at] |= u64::from(offset.cast_unsigned()) << 16;
        }
        self.instructions
    }
}

// Opcodes: include/uapi/linux/bpf.h and bpf_common.h. LD_ABS reads the packet in network order, with r6 the context.
const JUMP: u8 = 0x05;
const JUMP_IF: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x55;
const BYTE: u8 = 0x30;
const HALF: u8 = 0x28;
const UDP: u32 = 17;

/// The program of every device.
fn program(destinations: &OwnedFd, counts: &OwnedFd, denied: u16) -> Vec<u64> {
    let denied = u32::from(denied);
    let mut code = Code::default();
    // Where the destination address goes: fp - 16, all zeros so far.
    code.add(&[op(0xbf, 0x16, 0, 0), op(0x7a, 0x0a, -16, 0), op(0x7a, 0x0a, -8, 0)]);
    code.add(&[op(HALF, 0, 0, 12)]);
    code.jump(JUMP_IF, 0x86dd, To::V6);
    code.jump(JUMP_UNLESS, 0x0800, To::Pass);
    // UDP, and no later fragment: those have no ports.
    code.add(&[op(BYTE, 0, 0, 23)]);
    code.jump(JUMP_UNLESS, UDP, To::V4Address);
    code.add(&[op(HALF, 0, 0, 20), op(0x57, 0, 0, 0x1fff)]);
    code.jump(JUMP_UNLESS, 0, To::V4Address);
    code.add(&[op(HALF, 0, 0, 36)]);
    code.jump(JUMP_IF, denied, To::Deny);
    code.place(To::V4Address);
    code.add(&[op(0x62, 0x0a, -8, 0xffff_0000)]);
    code.add(&load_bytes(30, -4, 4));
    code.jump(JUMP, 0, To::Look);
    code.place(To::V6);
    code.add(&[op(BYTE, 0, 0, 38)]);
    code.jump(JUMP_IF, 0xff, To::Stack); // ff00::/8, RFC 4291 section 2.7
    code.add(&[op(BYTE, 0, 0, 20)]);
    code.jump(JUMP_UNLESS, UDP, To::V6Address);
    code.add(&[op(HALF, 0, 0, 56)]);
    code.jump(JUMP_IF, denied, To::Deny);
    code.place(To::V6Address);
    code.add(&load_bytes(38, -16, 16));
    code.place(To::Look);
    code.load_map(1, destinations);
    code.add(&[op(0xbf, 0xa2, 0, 0), op(0x07, 0x02, 0, (-16_i32).cast_unsigned()), op(0x85, 0, 0, 1)]);
    code.jump(JUMP_IF, 0, To::Pass);
    code.add(&[op(0x61, 0x08, 4, 0), op(0x61, 0x00, 0, 0)]); // r8 = the device, r0 = what to do
    code.jump(JUMP_IF, FORWARD, To::Forward);
    code.count(counts, 0);
    code.add(&[op(0xbf, 0x81, 0, 0), op(0xb7, 2, 0, 0), op(0x85, 0, 0, 155), op(0x95, 0, 0, 0)]);
    code.place(To::Forward);
    code.count(counts, 1);
    code.add(&[op(0xbf, 0x81, 0, 0), op(0xb7, 2, 0, 0), op(0xb7, 3, 0, 0), op(0xb7, 4, 0, 0)]);
    code.add(&[op(0x85, 0, 0, 152), op(0x95, 0, 0, 0)]);
    code.place(To::Deny);
    code.count(counts, 2);
    code.add(&[op(0xb7, 0, 0, 2), op(0x95, 0, 0, 0)]);
    code.place(To::Pass);
    code.count(counts, 3);
    code.place(To::Stack);
    code.add(&[op(0xb7, 0, 0, 0), op(0x95, 0, 0, 0)]);
    code.finish()
}

/// `skb_load_bytes(r6, from, fp + to, bytes)`
fn load_bytes(from: u32, to: i32, bytes: u32) -> [u64; 6] {
    [
        op(0xbf, 0x61, 0, 0),
        op(0xb7, 0x02, 0, from),
        op(0xbf, 0xa3, 0, 0),
        op(0x07, 0x03, 0, to.cast_unsigned()),
        op(0xb7, 0x04, 0, bytes),
        op(0x85, 0, 0, 26),
    ]
}
