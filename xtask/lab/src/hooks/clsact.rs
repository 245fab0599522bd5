//! A clsact qdisc with one BPF filter, over a bare netlink socket: what a device without TCX takes instead.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use super::SCHED_CLS;
use super::calls::Load;

// Numbers of include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
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

/// Puts the qdisc and the filter on a device; they end with its namespace.
pub(super) fn attach(ifindex: u32) -> io::Result<()> {
    let program = Load::new(SCHED_CLS).load()?;
    let kind = attribute(TCA_KIND, b"clsact\0");
    ask(RTM_NEWQDISC, &[&message(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0)[..], &kind].concat())?;
    let options = [
        attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
        attribute(TCA_BPF_NAME, b"orrery\0"),
        attribute(TCA_BPF_FLAGS, &BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
    ]
    .concat();
    let info = 1 << 16 | ETH_P_ALL_BE;
    let parts = [attribute(TCA_KIND, b"bpf\0"), attribute(TCA_OPTIONS, &options)].concat();
    ask(RTM_NEWTFILTER, &[&message(ifindex, 0, CLSACT_INGRESS, info)[..], &parts].concat())
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
fn ask(kind: u16, body: &[u8]) -> io::Result<()> {
    const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_ACK_CREATE.to_ne_bytes());
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
