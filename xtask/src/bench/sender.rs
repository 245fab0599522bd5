//! UDP packets of very many flows at a steady pace, from one raw socket: a socket for each would be what is measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};

/// Bytes behind the UDP header.
pub(super) const PAYLOAD: usize = 64;
/// Where the source ports begin.
const FIRST_PORT: u16 = 20_000;
/// The port that all flows go to.
pub(super) const PORT: u16 = 7_000;
/// Between two bursts.
const STEP: Duration = Duration::from_millis(1);

/// A sender in the network namespace of the thread that opened it.
pub(super) struct Sender {
    socket: OwnedFd,
    to: SockaddrIn,
    packet: Vec<u8>,
    next: u16,
}

impl Sender {
    pub(super) fn open(from: IpAddr, to: IpAddr) -> anyhow::Result<Self> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { bail!("send from {from} to {to}: IPv4 only") };
        // IPPROTO_RAW: the packet comes with its own IP header.
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
            .context("open a raw socket")?;
        Ok(Self { socket, to: SockaddrIn::from(SocketAddrV4::new(to, 0)), packet: packet(from, to), next: 0 })
    }

    /// Sends `count` packets of `flows` flows in turn, `per_second` at the most.
    pub(super) fn send(&mut self, count: u64, flows: u16, per_second: u64) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut sent = 0;
        while sent < count {
            let passed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let due = (passed * per_second / 1_000_000 + 1).min(count);
            // A stall is not made up for in one burst: a device's backlog holds 1,000.
            for _ in 0..due.saturating_sub(sent).min(256) {
                let port = FIRST_PORT + self.next;
                self.next = (self.next + 1) % flows;
                self.packet[20..22].copy_from_slice(&port.to_be_bytes());
                sendto(self.socket.as_raw_fd(), &self.packet, &self.to, MsgFlags::empty()).context("send a packet")?;
                sent += 1;
            }
            if sent < count {
                std::thread::sleep(STEP);
            }
        }
        Ok(())
    }
}

/// An IPv4 and a UDP header with nothing behind; the kernel fills in length, identification and the IP checksum, and a
/// UDP checksum of 0 says that there is none.
fn packet(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0_u8; 28 + PAYLOAD];
    bytes[0] = 0x45;
    bytes[8] = 64;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&from.octets());
    bytes[16..20].copy_from_slice(&to.octets());
    bytes[22..24].copy_from_slice(&PORT.to_be_bytes());
    bytes[24..26].copy_from_slice(&u16::try_from(8 + PAYLOAD).unwrap_or(0).to_be_bytes());
    bytes
}
