//! Packets made by hand, where no ordinary socket makes them: frames past a device, packets past a tun device, and IPv4
//! packets of any protocol.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};

use crate::error::{Context, Result};
use crate::sys::Netns;

/// `TUNSETIFF` and the flags of a device without any header of its own, include/uapi/linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const IFF_TUN_NO_PI: u16 = 0x0001 | 0x1000;
/// Longest packet read from a tun device.
const LONGEST: usize = 65_536;

/// An IPv4 packet without options, as Ethernet carries it.
#[must_use]
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend([from.octets(), to.octets()].concat());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram of so many bytes, without a checksum.
#[must_use]
pub fn udp(source: u16, destination: u16, payload: usize) -> Vec<u8> {
    let length = u16::try_from(8 + payload).unwrap_or(u16::MAX);
    let mut datagram = [source, destination, length, 0].map(u16::to_be_bytes).concat();
    datagram.resize(8 + payload, 7);
    datagram
}

/// Sends frames as they are.
#[derive(Debug)]
pub struct Frames {
    socket: OwnedFd,
    ifindex: i32,
}

impl Frames {
    /// On a device of a namespace.
    pub fn open(netns: &Netns, device: &str) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let ifindex = nix::net::if_::if_nametoindex(device)?.cast_signed();
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            Ok(Self { socket, ifindex })
        };
        netns.run(open)?.context(|| format!("open {device} for frames"))
    }

    /// Sends one, hardware addresses and all.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: all zeros are a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        (to.sll_family, to.sll_ifindex, to.sll_halen) = (libc::AF_PACKET as u16, self.ifindex, 6);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let (fd, data, at) = (self.socket.as_raw_fd(), frame.as_ptr().cast(), (&raw const to).cast());
        // SAFETY: frame and address live until the call returns, and their lengths are told.
        let sent = unsafe { libc::sendto(fd, data, frame.len(), 0, at, length) };
        let outcome = if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        outcome.context(|| "send a frame".to_owned())
    }
}

/// Sends IPv4 packets with their header from a namespace.
#[derive(Debug)]
pub struct Packets(OwnedFd);

impl Packets {
    /// In a namespace.
    pub fn open(netns: &Netns) -> Result<Self> {
        let open = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
        netns.run(open)?.map(Self).map_err(io::Error::from).context(|| "open a raw socket".to_owned())
    }

    /// Sends one.
    pub fn send(&self, to: Ipv4Addr, packet: &[u8]) -> Result<()> {
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        let sent = sendto(self.0.as_raw_fd(), packet, &to, MsgFlags::empty());
        sent.map(drop).map_err(io::Error::from).context(|| "send a packet".to_owned())
    }
}

/// A tun device, as long as it is held: packets without a link header.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes one in a namespace.
    pub fn make(netns: &Netns, name: &str) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let file = File::options().read(true).write(true).open("/dev/net/tun")?;
            // `struct ifreq`: the name, then the flags.
            let mut request = [0_u8; 40];
            request.iter_mut().zip(name.bytes().take(15)).for_each(|(place, byte)| *place = byte);
            request[16..18].copy_from_slice(&IFF_TUN_NO_PI.to_ne_bytes());
            // SAFETY: the request is as long as `struct ifreq`.
            let outcome = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
            if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(file)) }
        };
        netns.run(open)?.context(|| format!("make the tun device {name}"))
    }

    /// Hands a packet to the kernel, as if it had arrived.
    pub fn write(&mut self, packet: &[u8]) -> Result<()> {
        self.0.write_all(packet).context(|| "write to a tun device".to_owned())
    }

    /// The next packet that leaves by it.
    pub fn read(&mut self) -> Result<Vec<u8>> {
        let mut packet = vec![0; LONGEST];
        let length = self.0.read(&mut packet).context(|| "read from a tun device".to_owned())?;
        packet.truncate(length);
        Ok(packet)
    }
}
