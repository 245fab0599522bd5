//! Echo requests over the kernel's ping sockets; the other side's kernel answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Pod;
use super::pace::Pace;
use crate::control::IcmpSend;
use crate::error::{Context, Result};
use crate::ledger::Protocol;

const REPLY_WAIT: Duration = Duration::from_secs(1);
const HEADER_BYTES: usize = 8;

/// A ping socket. It sends and receives whole ICMP messages; the kernel writes identifier and checksum.
pub(super) struct Ping {
    socket: UdpSocket,
    message: Vec<u8>,
    client: IpAddr,
    server: IpAddr,
    sequence: u16,
}

impl Ping {
    pub(super) fn open(to: IpAddr, payload: usize) -> Result<Self> {
        let open = || {
            let (family, protocol) =
                if to.is_ipv6() { (libc::AF_INET6, libc::IPPROTO_ICMPV6) } else { (libc::AF_INET, libc::IPPROTO_ICMP) };
            // SAFETY: socket takes three integers; the descriptor it returns is checked and then owned here alone.
            let socket = unsafe {
                let fd = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol);
                OwnedFd::from_raw_fd(nix::errno::Errno::result(fd)?)
            };
            // A datagram socket like any other for connect, send and recv.
            let socket = UdpSocket::from(socket);
            let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            // The local address is chosen by the kernel; a UDP socket tells it without sending.
            let probe = UdpSocket::bind((any, 0))?;
            probe.connect(SocketAddr::from((to, 9)))?;
            socket.connect(SocketAddr::from((to, 0)))?;
            Ok::<_, std::io::Error>((probe.local_addr()?.ip(), socket))
        };
        let (client, socket) = open().context(|| format!("open a ping socket to {to}"))?;
        let mut message = vec![0x5a_u8; HEADER_BYTES + payload];
        message[..HEADER_BYTES].fill(0);
        message[0] = Self::request_type(to);
        Ok(Self { socket, message, client, server: to, sequence: 0 })
    }

    fn request_type(to: IpAddr) -> u8 {
        if to.is_ipv6() { 128 } else { 8 }
    }

    /// One request, written down.
    pub(super) fn send(&mut self, pod: &Pod) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        self.socket.send(&self.message).context(|| format!("ping {}", self.server))?;
        self.count(pod, |totals| &mut totals.forward, 1);
        Ok(())
    }

    /// Takes the replies that are there, and writes them down: the other side's kernel sent as many.
    pub(super) fn drain(&mut self, pod: &Pod) -> u64 {
        let mut buffer = [0_u8; 1];
        let mut replies = 0;
        while self.socket.recv(&mut buffer).is_ok() {
            replies += 1;
        }
        self.count(pod, |totals| &mut totals.reverse, replies);
        replies
    }

    fn count(&self, pod: &Pod, way: impl FnOnce(&mut crate::ledger::Totals) -> &mut crate::ledger::Sent, packets: u64) {
        let protocol = if self.server.is_ipv6() { Protocol::Icmpv6 } else { Protocol::Icmp };
        let bytes = (self.message.len() - HEADER_BYTES) as u64;
        pod.count(self.client, self.server, Self::request_type(self.server).into(), protocol, |totals| {
            let sent = way(totals);
            sent.packets += packets;
            sent.payload_bytes += packets * bytes;
        });
    }
}

/// Sends all requests and waits for the replies.
pub(super) fn send(pod: &Pod, send: &IcmpSend) -> Result<()> {
    let mut ping = Ping::open(send.to, send.payload as usize)?;
    let mut pace = Pace::new(send.pps, Instant::now());
    let (mut left, mut replies) = (send.count, 0);
    while left > 0 {
        for _ in 0..pace.due(Instant::now()).min(left) {
            ping.send(pod)?;
            left -= 1;
        }
        replies += ping.drain(pod);
        if left > 0 {
            std::thread::sleep(pace.rest(Instant::now()));
        }
    }
    let last = Instant::now();
    while replies < send.count && last.elapsed() < REPLY_WAIT {
        replies += ping.drain(pod);
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
