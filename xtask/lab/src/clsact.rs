//! BPF filters on a device's clsact qdisc, over a bare netlink socket: what a device without TCX takes instead.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

// Numbers of include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const BPF_FLAG_ACT_DIRECT: u32 = 1;
const ETH_P_ALL_BE: u32 = 0x0300;
// include/uapi/linux/netlink.h: with a request goes an answer, and what is not there is made; what is there stays or yields.
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const REPLACE: u16 = 0x100;

/// A filter's place on the way into a device: priority and handle, 0 for one of the kernel's choice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) priority: u32,
    pub(crate) handle: u32,
}

/// Makes the qdisc where there is none.
pub(crate) fn qdisc(ifindex: u32) -> io::Result<()> {
    let kind = attribute(TCA_KIND, b"clsact\0");
    let made =
        ask(RTM_NEWQDISC, CREATE | EXCLUSIVE, &[&message(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0)[..], &kind].concat());
    match made {
        Err(there) if there.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        made => made,
    }
}

/// Puts a program there, in the place of what stands at the same priority and handle.
pub(crate) fn put(ifindex: u32, place: Place, name: &str, program: &OwnedFd) -> io::Result<()> {
    let options = [
        attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
        attribute(TCA_BPF_NAME, format!("{name}\0").as_bytes()),
        attribute(TCA_BPF_FLAGS, &BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
    ]
    .concat();
    let info = place.priority << 16 | ETH_P_ALL_BE;
    let parts = [attribute(TCA_KIND, b"bpf\0"), attribute(TCA_OPTIONS, &options)].concat();
    let head = message(ifindex, place.handle, CLSACT_INGRESS, info);
    ask(RTM_NEWTFILTER, CREATE | REPLACE, &[&head[..], &parts].concat())
}

/// Deletes every filter on the way into a device, whoever owns it. Without a qdisc there is none.
pub(crate) fn delete_all(ifindex: u32) -> io::Result<()> {
    match ask(RTM_DELTFILTER, 0, &message(ifindex, 0, CLSACT_INGRESS, 0)) {
        Err(none) if matches!(none.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(()),
        outcome => outcome,
    }
}

/// What the BPF filters on the way into a device are called.
pub(crate) fn names(ifindex: u32) -> io::Result<Vec<String>> {
    let device = nix::net::if_::if_indextoname(ifindex)?;
    let device = device.to_string_lossy().into_owned();
    let out = Command::new("tc").args(["filter", "show", "dev", &device, "ingress"]).output()?;
    // Such as: `filter protocol all pref 1 bpf chain 0 handle 0x1 NAME direct-action …`.
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let name = |line: &str| line.split_once(" handle ")?.1.split(' ').nth(1).map(str::to_owned);
    Ok(text.lines().filter_map(name).collect())
}

/// `struct tcmsg`
fn message(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, ifindex, handle, parent, info].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + data.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a request, and gives what the kernel answers.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(body);
    sendto(socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 4_096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // `struct nlmsgerr` behind the header: 0, or an error number less than it.
    match answer.get(16..20).filter(|_| length >= 20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
