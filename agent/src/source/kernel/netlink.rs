//! Just enough of rtnetlink's traffic control to see every filter of a device, whatever its kind, and to handle our own.
//! The crate for the rest drops a whole message where it cannot read one attribute, and so would hide other people's
//! filters; here only what is asked for is read.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    sys::time::{TimeVal, TimeValLike as _},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// `NLM_F_*`, include/uapi/linux/netlink.h.
pub(super) mod flags {
    pub(in super::super) const REQUEST: u16 = 0x1;
    pub(in super::super) const ACK: u16 = 0x4;
    pub(in super::super) const DUMP: u16 = 0x300;
    pub(in super::super) const EXCL: u16 = 0x200;
    pub(in super::super) const CREATE: u16 = 0x400;
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The longest message of a dump: the kernel's own bound on a dump's buffer.
const RECEIVE_BYTES: usize = 65_536;
/// Answers come from the kernel itself: one that is not there after this long never comes.
const PATIENCE_SECONDS: i64 = 2;

/// `struct nlmsghdr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct tcmsg`, include/uapi/linux/rtnetlink.h.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
)]
pub(super) struct TrafficControl {
    pub(super) family: u8,
    pub(super) padding: [u8; 3],
    pub(super) ifindex: u32,
    pub(super) handle: u32,
    pub(super) parent: u32,
    pub(super) info: u32,
}

/// Attributes of a request, in the making.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds one.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds one that has attributes of its own.
    pub(super) fn nest(&mut self, kind: u16, inner: &Self) -> &mut Self {
        self.put(kind, &inner.0)
    }
}

/// The attributes in some bytes: number and value. Ends at the first that does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]])).checked_sub(4)?;
        // The two top bits are flags: nested, and in network order.
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = rest.get(..length)?;
        bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A connection to rtnetlink, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Asks, and hands every message of the answer to `each`: what it is about, and its attributes.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        about: TrafficControl,
        attributes: &Attributes,
        mut each: impl FnMut(&TrafficControl, &[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        let length = size_of::<Header>() + size_of::<TrafficControl>() + attributes.0.len();
        let header = Header {
            length: u32::try_from(length).map_err(io::Error::other)?,
            kind,
            flags: flags | self::flags::REQUEST,
            sequence: self.sequence,
            port: 0,
        };
        let message = [header.as_bytes(), about.as_bytes(), &attributes.0].concat();
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        loop {
            let received = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                outcome => outcome?,
            };
            let mut rest = &self.buffer[..received];
            while let Ok((header, _)) = Header::read_from_prefix(rest) {
                let length = header.length as usize;
                let Some(body) = rest.get(size_of::<Header>()..length) else { break };
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                // The rest of an answer that was given up.
                if header.sequence != self.sequence {
                    continue;
                }
                match header.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return error(body),
                    _ => {
                        if let Ok((about, attributes)) = TrafficControl::read_from_prefix(body) {
                            each(&about, attributes);
                        }
                    }
                }
            }
        }
    }
}

/// An acknowledgement is an error of 0.
fn error(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|number| i32::from_ne_bytes(*number)) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, attributes};

    #[test]
    fn attributes_survive_the_way_there_and_back_and_end_where_they_are_cut() {
        let mut inner = Attributes::default();
        inner.put(7, b"orrery\0");
        let mut outer = Attributes::default();
        outer.put(1, b"bpf\0").nest(2, &inner);
        let read: Vec<_> = attributes(&outer.0).collect();
        assert_eq!(read[0], (1, &b"bpf\0"[..]));
        assert_eq!(attributes(read[1].1).collect::<Vec<_>>(), [(7, &b"orrery\0"[..])]);
        assert_eq!(outer.0.len() % 4, 0);
        assert_eq!(attributes(&outer.0[..outer.0.len() - 3]).count(), 1);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0, "shorter than its own head");
    }
}
