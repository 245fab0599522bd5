//! What the pods say to each other meanwhile: every kind of traffic, in rounds, and all of it in the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use lab::{Edge, Flow, IcmpSend, Lab, Pod, Protocol, Reply, TcpSend, UdpSend};

/// Ports of the first address family; those of IPv6 are a hundred above.
const ECHO: u16 = 7000;
const TRANSFER: u16 = 7010;
const STEADY: u16 = 7004;
const LOSSY: u16 = 7005;

/// Client and server: over VXLAN, over plain routes, both ways, and on one node.
const PAIRS: [(&str, &str); 5] =
    [("p1-0", "p3-0"), ("p3-0", "p2-0"), ("p2-1", "p3-1"), ("p1-1", "p2-1"), ("p3-1", "p3-0")];
/// The two whose link drops packets, at times.
const DROPPED: (&str, &str) = ("p1-1", "p3-1");

/// The edge whose packets the link drops.
pub(super) fn lossy(lab: &Lab) -> lab::Result<Edge> {
    let (client, server) = (lab.pod(DROPPED.0)?, lab.pod(DROPPED.1)?);
    Ok(Edge { client: client.v4(), server: server.v4(), port: LOSSY, protocol: Protocol::Udp })
}

/// Traffic that goes on until it is stopped.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    steady: Flow,
    threads: Vec<JoinHandle<lab::Result<()>>>,
}

impl Traffic {
    /// Opens all servers, and begins.
    pub(super) fn start(lab: &Lab) -> anyhow::Result<Self> {
        for pod in lab.pods() {
            for family in [0, 100] {
                pod.serve_udp(ECHO + family, Reply::Echo)?;
                pod.serve_tcp(TRANSFER + family)?;
            }
            pod.serve_udp(STEADY, Reply::Sink)?;
            pod.serve_udp(LOSSY, Reply::Sink)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (first, server) = (lab.pod(PAIRS[0].0)?, lab.pod(PAIRS[0].1)?);
        let steady = first.start_udp((server.v4(), STEADY).into(), 200, 400.0).context("start a steady flow")?;
        let mut threads = Vec::new();
        for (client, server) in PAIRS {
            let (client, server, stop) = (lab.pod(client)?, lab.pod(server)?, Arc::clone(&stop));
            threads.push(std::thread::spawn(move || repeat(&stop, || every_kind(&client, &server))));
        }
        let (client, edge, over) = (lab.pod(DROPPED.0)?, lossy(lab)?, Arc::clone(&stop));
        let datagrams = move || client.udp(UdpSend::new((edge.server, edge.port).into(), 100, 150, 200.0));
        threads.push(std::thread::spawn(move || repeat(&over, datagrams)));
        Ok(Self { stop, steady, threads })
    }

    /// Ends it; when it returns, all that was sent is in the ledger.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.steady.stop().context("stop the steady flow")?;
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))?.context("traffic between pods")?;
        }
        Ok(())
    }
}

fn repeat(stop: &AtomicBool, mut round: impl FnMut() -> lab::Result<()>) -> lab::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        round()?;
    }
    Ok(())
}

fn every_kind(client: &Pod, server: &Pod) -> lab::Result<()> {
    for ipv6 in [false, true] {
        let (to, family) = (server.address(ipv6), u16::from(ipv6) * 100);
        let udp = UdpSend::new((to, ECHO + family).into(), 60, 300, 150.0);
        client.udp(UdpSend { replies: true, per_port: 15, ..udp })?;
        client.tcp(TcpSend { to: (to, TRANSFER + family).into(), connections: 4, send: 20_000, receive: 6_000 })?;
        client.icmp(IcmpSend { to, count: 5, payload: 100, pps: 50.0 })?;
    }
    Ok(())
}
