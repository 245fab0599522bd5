//! UDP: servers that sink, echo or answer, and senders that keep a rate.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::pace::Pace;
use super::{Pod, locked};
use crate::control::{Reply, UdpSend};
use crate::error::{Context, LabError, Result};
use crate::ledger::{Edge, Protocol, udp_packets};

const BUFFER_BYTES: usize = 4 << 20;
/// How long a sender waits for a reply that does not come.
const REPLY_WAIT: Duration = Duration::from_millis(500);

/// Answers on all addresses of the pod.
pub(super) fn serve(pod: &Arc<Pod>, port: u16, reply: Reply) -> Result<()> {
    for address in pod.addresses.clone() {
        let socket = UdpSocket::bind((address, port)).context(|| format!("bind udp {address} port {port}"))?;
        roomy(&socket);
        let pod = Arc::clone(pod);
        std::thread::spawn(move || answer_all(&pod, &socket, address, port, reply));
    }
    Ok(())
}

fn answer_all(pod: &Pod, socket: &UdpSocket, address: IpAddr, port: u16, reply: Reply) {
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        // An error here is what an earlier reply met (a closed port, say); the next datagram is not affected.
        let Ok((received, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let size = match reply {
            Reply::Sink => continue,
            Reply::Echo => received,
            Reply::Bytes(bytes) => (bytes as usize).min(buffer.len()),
        };
        let Some(body) = buffer.get(..size) else {
            continue;
        };
        // Sent under the ledger's lock: who has the reply finds it written down.
        let mut ledger = locked(&pod.ledger);
        if socket.send_to(body, client).is_ok() {
            let totals = ledger.edge(Edge { client: client.ip(), server: address, port, protocol: Protocol::Udp });
            totals.reverse.packets += udp_packets(size, pod.mtu, address.is_ipv6());
            totals.reverse.payload_bytes += size as u64;
        }
    }
}

/// A receiver that lags must not lose what the network delivered.
fn roomy(socket: &UdpSocket) {
    let _ = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER_BYTES);
}

/// Sends all of it, then answers.
pub(super) fn send(pod: &Pod, send: &UdpSend) -> Result<()> {
    let rate = AtomicU64::new(send.pps.to_bits());
    run(pod, send, &rate, &AtomicBool::new(false))
}

/// A flow that runs until it is stopped.
#[derive(Debug)]
pub(super) struct Flow {
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
}

impl Flow {
    pub(super) fn start(pod: Arc<Pod>, send: UdpSend) -> Result<Self> {
        let rate = Arc::new(AtomicU64::new(send.pps.to_bits()));
        let stop = Arc::new(AtomicBool::new(false));
        let (its_rate, its_stop) = (Arc::clone(&rate), Arc::clone(&stop));
        let sender = std::thread::Builder::new()
            .spawn(move || run(&pod, &send, &its_rate, &its_stop))
            .context(|| "start a sender".to_owned())?;
        Ok(Self { rate, stop, sender })
    }

    pub(super) fn set_rate(&self, pps: f64) {
        self.rate.store(pps.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap_or_else(|_| Err(LabError::Protocol { what: "the sender panicked".to_owned() }))
    }
}

fn run(pod: &Pod, send: &UdpSend, rate: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let body = vec![0x5a_u8; send.payload as usize];
    let mut pace = Pace::new(f64::from_bits(rate.load(Ordering::Relaxed)), Instant::now());
    let mut socket = Sender::open(send.to)?;
    let mut left = if send.datagrams == 0 { u64::MAX } else { send.datagrams };
    while left > 0 && !stop.load(Ordering::Relaxed) {
        pace.set(f64::from_bits(rate.load(Ordering::Relaxed)), Instant::now());
        for _ in 0..pace.due(Instant::now()).min(left) {
            if send.per_port > 0 && socket.sent >= send.per_port {
                socket.finish(send.replies);
                socket = Sender::open(send.to)?;
            }
            socket.send(&body)?;
            left -= 1;
            socket.count(pod, body.len());
        }
        socket.drain();
        if left > 0 {
            std::thread::sleep(pace.rest(Instant::now()));
        }
    }
    socket.finish(send.replies);
    Ok(())
}

/// One source port.
pub(super) struct Sender {
    socket: UdpSocket,
    edge: Edge,
    sent: u64,
    replies: u64,
}

impl Sender {
    pub(super) fn open(to: SocketAddr) -> Result<Self> {
        let any: SocketAddr = if to.is_ipv6() {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let open = || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>((socket.local_addr()?.ip(), socket))
        };
        let (client, socket) = open().context(|| format!("open a udp socket to {to}"))?;
        roomy(&socket);
        let edge = Edge { client, server: to.ip(), port: to.port(), protocol: Protocol::Udp };
        Ok(Self { socket, edge, sent: 0, replies: 0 })
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        // A full send buffer empties within moments; 2 s is a stuck device.
        for _ in 0..2_000 {
            match self.socket.send(body) {
                Ok(_) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                // An ICMP error that an earlier datagram met: this one was not sent, so it is sent again.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(source) => {
                    return Err(LabError::Io { what: format!("send to {}", self.edge.server), source });
                }
            }
        }
        Err(LabError::Timeout { after: Duration::from_secs(2), what: format!("room to send to {}", self.edge.server) })
    }

    fn count(&self, pod: &Pod, payload: usize) {
        let packets = udp_packets(payload, pod.mtu, self.edge.server.is_ipv6());
        let mut ledger = locked(&pod.ledger);
        let totals = ledger.edge(self.edge);
        totals.forward.packets += packets;
        totals.forward.payload_bytes += payload as u64;
    }

    /// One datagram, written down; replies that came meanwhile are taken.
    pub(super) fn one(&mut self, pod: &Pod, payload: u32) -> Result<()> {
        self.send(&vec![0x5a; payload as usize])?;
        self.count(pod, payload as usize);
        self.drain();
        Ok(())
    }

    /// Takes the replies that are there.
    fn drain(&mut self) {
        let mut byte = [0_u8; 1];
        while self.socket.recv(&mut byte).is_ok() {
            self.replies += 1;
        }
    }

    /// Waits for outstanding replies as long as any come.
    fn finish(&mut self, replies: bool) {
        let (mut last, mut seen) = (Instant::now(), self.replies);
        while replies && self.replies < self.sent && last.elapsed() < REPLY_WAIT {
            self.drain();
            if self.replies > seen {
                (last, seen) = (Instant::now(), self.replies);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
