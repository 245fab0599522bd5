//! A pod as the library sees it: where it is, and what can be asked of its process.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::control::{Answer, IcmpSend, Load, Reply, Request, TcpSend, UdpSend};
use crate::error::{Context, LabError, Result};
use crate::ledger::Ledger;
use crate::net::Place;
use crate::spawn::Process;
use crate::spec::{EXTERNAL, PodSpec};
use crate::sys::{Netns, wait_for};

const READY_WAIT: Duration = Duration::from_secs(10);
/// The longest request: a long flow that answers at its end.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: String,
    workload: String,
    node: String,
    number: u8,
    device: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    netns: Netns,
    socket: PathBuf,
    process: Process,
    cgroup: Option<PathBuf>,
}

impl Pod {
    pub(crate) fn new(
        spec: &PodSpec,
        place: Place,
        netns: Netns,
        socket: PathBuf,
        process: Process,
        cgroup: Option<PathBuf>,
    ) -> Self {
        let (v4, v6) = place.addresses();
        Self {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            workload: spec.owner.name().to_owned(),
            node: spec.node.clone(),
            number: place.index,
            device: place.device,
            v4,
            v6,
            netns,
            socket,
            process,
            cgroup,
        }
    }

    /// A pod in its node's own namespace.
    pub(crate) fn host(
        spec: &PodSpec,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
        netns: Netns,
        socket: PathBuf,
        process: Process,
        cgroup: Option<PathBuf>,
    ) -> Self {
        let place = Place { node: 0, index: 0, device: String::new(), netns: netns.name().to_owned() };
        Self { v4, v6, ..Self::new(spec, place, netns, socket, process, cgroup) }
    }

    /// The host outside the cluster.
    pub(crate) fn external(netns: Netns, socket: PathBuf, process: Process) -> Self {
        let (v4, v6) = match EXTERNAL {
            [IpAddr::V4(v4), IpAddr::V6(v6)] => (v4, v6),
            _ => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        };
        let nowhere = String::new;
        Self {
            name: "external".to_owned(),
            namespace: nowhere(),
            workload: nowhere(),
            node: nowhere(),
            number: 0,
            device: nowhere(),
            v4,
            v6,
            netns,
            socket,
            process,
            cgroup: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its workload's name.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Its node's name; empty for the external host.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The host side of its veth pair, in the node's namespace.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.v4.into()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.v6.into()
    }

    /// One of its addresses.
    pub fn address(&self, ipv6: bool) -> IpAddr {
        if ipv6 { self.v6() } else { self.v4() }
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Its cgroup's directory, where the machine has a v2 hierarchy.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }

    pub(crate) fn stop(&self) {
        self.process.kill();
    }

    /// Stops its process where it is; `Signal::SIGCONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn wait_ready(&self) -> Result<()> {
        let what = format!("pod {} listens on {}", self.name, self.socket.display());
        wait_for(&what, READY_WAIT, || UnixStream::connect(&self.socket).ok()).map(drop)
    }

    /// Asks its process, on a connection of its own: several threads may ask at once.
    pub fn call(&self, request: &Request) -> Result<Answer> {
        let exchange = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(ANSWER_WAIT))?;
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line)?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            Ok::<_, std::io::Error>(serde_json::from_str(&answer)?)
        };
        match exchange().context(|| format!("ask pod {}", self.name))? {
            Answer::Failed { message } => Err(LabError::Pod { pod: self.name.clone(), message }),
            answer => Ok(answer),
        }
    }

    fn done(&self, request: &Request) -> Result<()> {
        self.call(request).map(drop)
    }

    /// Answers UDP on a port of all its addresses.
    pub fn serve_udp(&self, port: u16, reply: Reply) -> Result<()> {
        self.done(&Request::ServeUdp { port, reply })
    }

    /// Answers transfers on a port of all its addresses.
    pub fn serve_tcp(&self, port: u16) -> Result<()> {
        self.done(&Request::ServeTcp { port })
    }

    /// Speaks HTTP/1.1 on a port of all its addresses.
    pub fn serve_http(&self, port: u16, bytes: u32) -> Result<()> {
        self.done(&Request::ServeHttp { port, bytes })
    }

    /// Sends datagrams; returns when the last one is out.
    pub fn udp(&self, send: UdpSend) -> Result<()> {
        self.done(&Request::Udp(send))
    }

    /// Transfers over TCP; returns when the last connection is closed.
    pub fn tcp(&self, send: TcpSend) -> Result<()> {
        self.done(&Request::Tcp(send))
    }

    /// Pings; returns when the replies are in.
    pub fn icmp(&self, send: IcmpSend) -> Result<()> {
        self.done(&Request::Icmp(send))
    }

    /// Starts a load that lasts as long as the pod.
    pub fn load(&self, load: Load) -> Result<()> {
        self.done(&Request::Load(load))
    }

    /// Starts datagrams at a rate that can be changed.
    pub fn start_udp(self: &Arc<Self>, to: SocketAddr, payload: u32, pps: f64) -> Result<Flow> {
        let send = UdpSend::new(to, 0, payload, pps);
        match self.call(&Request::StartUdp(send))? {
            Answer::Started { id } => Ok(Flow { pod: Arc::clone(self), id, stopped: false }),
            other => Err(LabError::Protocol { what: format!("{other:?}") }),
        }
    }

    /// What it sent so far.
    pub fn ledger(&self) -> Result<Ledger> {
        match self.call(&Request::Ledger)? {
            Answer::Ledger(ledger) => Ok(ledger),
            other => Err(LabError::Protocol { what: format!("{other:?}") }),
        }
    }
}

/// A running flow of datagrams; it stops when dropped.
#[derive(Debug)]
pub struct Flow {
    pod: Arc<Pod>,
    id: u64,
    stopped: bool,
}

impl Flow {
    /// Another rate, from now on.
    pub fn set_rate(&self, pps: f64) -> Result<()> {
        self.pod.done(&Request::SetRate { id: self.id, pps })
    }

    /// Ends it; returns when the last datagram is out and in the ledger.
    pub fn stop(mut self) -> Result<()> {
        self.stopped = true;
        self.pod.done(&Request::Stop { id: self.id })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if !self.stopped {
            // The pod may be gone, and the flow with it.
            let _ = self.pod.done(&Request::Stop { id: self.id });
        }
    }
}
