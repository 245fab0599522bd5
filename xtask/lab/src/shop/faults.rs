//! What is wrong in the shop, on purpose: each fault has one client, and a seed says which.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::plan::{DROPPING, HOST, HOST_CLIENT, NAMELESS, REFUSED, SILENT};
use crate::control::{Call, Family, Load};
use crate::error::{LabError, Result};
use crate::handle::Pod;
use crate::lab::Lab;
use crate::ledger::{Edge, Protocol};
use crate::link::DroppingLink;
use crate::spec::{Owner, PodSpec, mix};
use crate::sys::ip_batch;

/// In no node: the router throws away what is sent there, without a word.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
/// How long a client waits for a connection: the SYN is sent again once within it.
const PATIENCE_MS: u64 = 2_500;
/// Percent that the link of the demo drops.
const DEMO_PERCENT: u8 = 12;

/// The link that drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The client's pod.
    pub client: String,
    /// The server's pod.
    pub server: String,
    /// The edge.
    pub edge: Edge,
    /// Packets of a hundred.
    pub percent: u8,
}

/// What one pod tries again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plight {
    /// The client's pod.
    pub client: String,
    /// The server's pod, an address, or a name.
    pub to: String,
    /// The server's port.
    pub port: u16,
}

/// Everything wrong beside the link that drops, and the client that its node's address hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Nobody listens there.
    pub refused: Plight,
    /// Nobody answers there.
    pub silent: Plight,
    /// Nobody has that name.
    pub nameless: Plight,
    /// All is well here; the client shares its node's address.
    pub host: Plight,
}

impl Faults {
    /// Where a seed puts them.
    pub(super) fn of(lab: &Lab, seed: u64) -> Result<Self> {
        let name = |workload| Ok::<_, LabError>(pod_of(lab, workload, 0)?.name().to_owned());
        let (caller, server, port) = *pick(&REFUSED, seed);
        let refused = Plight { client: name(caller)?, to: name(server)?, port };
        let (caller, port) = *pick(&SILENT, seed);
        let silent = Plight { client: name(caller)?, to: NOBODY.to_string(), port };
        let (caller, nobody) = *pick(&NAMELESS, seed);
        let nameless = Plight { client: name(caller)?, to: nobody.to_owned(), port: 443 };
        let (_, server, port) = *pick(&HOST, seed);
        let host = Plight { client: host_pod(seed).name, to: name(server)?, port };
        Ok(Self { refused, silent, nameless, host })
    }

    /// Lets the clients try.
    pub(super) fn start(&self, lab: &Lab, host: &Pod) -> Result<()> {
        ip_batch(Some(lab.fabric().name()), &format!("route replace blackhole {NOBODY}\n"))?;
        let address = |pod: &str| Ok::<_, LabError>(lab.pod(pod)?.v4().to_string());
        let load = |plight: &Plight, to, call, per_second| Load {
            to,
            port: plight.port,
            call,
            per_second,
            swing: 0.0,
            family: Family::V4,
        };
        let connect = || Call::Connect { patience_ms: PATIENCE_MS };
        let Self { refused, silent, nameless, host: hidden } = self;
        lab.pod(&refused.client)?.load(load(refused, address(&refused.to)?, connect(), 1.0))?;
        lab.pod(&silent.client)?.load(load(silent, silent.to.clone(), connect(), 0.5))?;
        // With the dot at its end no search domain is tried.
        lab.pod(&nameless.client)?.load(load(nameless, format!("{}.", nameless.to), connect(), 2.0))?;
        let ship = Call::Http { path: "/ship".to_owned(), body: 1_800 };
        host.load(load(hidden, format!("{}.shop", lab.pod(&hidden.to)?.workload()), ship, 6.0))
    }
}

/// The pod in its node's own namespace.
pub(super) fn host_pod(seed: u64) -> PodSpec {
    let (node, ..) = *pick(&HOST, seed);
    PodSpec::new("monitoring", Owner::DaemonSet(HOST_CLIENT.to_owned()), 0, node)
}

/// Lets the link drop that a seed names.
pub(super) fn drop_packets(lab: &Lab, seed: u64) -> Result<(Fault, DroppingLink)> {
    let ((from, number), (to, other), port) = *pick(&DROPPING, seed);
    let percent = match seed {
        0 => DEMO_PERCENT,
        seed => DEMO_PERCENT + u8::try_from(mix(seed) % 14).unwrap_or_default(),
    };
    let (client, server) = (pod_of(lab, from, number)?, pod_of(lab, to, other)?);
    let edge = Edge { client: client.v4(), server: server.v4(), port, protocol: Protocol::Udp };
    let link = DroppingLink::install(lab, edge, percent)?;
    Ok((Fault { client: client.name().to_owned(), server: server.name().to_owned(), edge, percent }, link))
}

/// Seeds count through the places: neighbours differ in all of them.
fn pick<T>(places: &[T], seed: u64) -> &T {
    &places[usize::try_from(seed % places.len() as u64).unwrap_or(0)]
}

/// A workload's pod by its number.
fn pod_of(lab: &Lab, workload: &str, number: usize) -> Result<Arc<Pod>> {
    let mut pods = lab.pods();
    pods.retain(|pod| pod.workload() == workload);
    // By node, as the plan lists them: names are made of letters drawn at random.
    pods.sort_by(|one, other| (one.node(), one.name()).cmp(&(other.node(), other.name())));
    let unknown = || LabError::Unknown { kind: "pod of workload", name: format!("{workload} {number}") };
    pods.into_iter().nth(number).ok_or_else(unknown)
}
