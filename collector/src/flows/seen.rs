//! A flow event with the names of its ends, as of its own time. Pure.

use std::{net::IpAddr, sync::Arc};

use wire::v1::{FlowEvent, Side};

use crate::{
    names::{Names, Owner, Sighting},
    time::Ns,
};

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Whose it was.
    pub owner: Owner,
    /// A pod's or a service's.
    pub namespace: Option<Arc<str>>,
    /// A pod's, service's or node's own name.
    pub name: Option<Arc<str>>,
    /// A pod's workload: (kind, name).
    pub workload: Option<(Arc<str>, Arc<str>)>,
    /// It is on the node that saw the event.
    pub here: bool,
    /// Of an address outside the cluster: names that DNS gave it, this client's own first.
    pub world: Vec<Arc<str>>,
}

/// A flow event, named.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The node that saw it.
    pub node: Arc<str>,
    /// When, by our clock.
    pub at: Ns,
    /// As the agent told it.
    pub event: FlowEvent,
    /// Whose packet.
    pub source: End,
    /// For whom.
    pub destination: End,
}

impl Seen {
    /// Names the ends; `None` where an address is none.
    pub(super) fn new(event: FlowEvent, node: &Arc<str>, at: Ns, names: &Names) -> Option<Self> {
        let (source, destination) = (address(&event.source)?, address(&event.destination)?);
        let source_is_client = !event.reply;
        let known = event.side() != Side::Unspecified;
        let client_is_here = event.side() == Side::Client;
        let end = |address: IpAddr, other: IpAddr, is_client: bool, port: u32| {
            let here = known && is_client == client_is_here;
            let sighting = Sighting { from: at, to: at, node: here.then_some(&**node) };
            let port = u16::try_from(port).unwrap_or(0);
            let protocol = u8::try_from(event.protocol).unwrap_or(0);
            let resolved = match is_client {
                true => names.seen(address, sighting),
                false => names.serving(address, port, protocol, sighting),
            };
            named(address, other, resolved.owner, here, node, names)
        };
        let from = end(source, destination, source_is_client, event.source_port);
        let to = end(destination, source, !source_is_client, event.destination_port);
        Some(Self { node: Arc::clone(node), at, source: from, destination: to, event })
    }
}

fn named(address: IpAddr, other: IpAddr, owner: Owner, here: bool, node: &str, names: &Names) -> End {
    let mut end = End { address, owner, namespace: None, name: None, workload: None, here, world: Vec::new() };
    match &end.owner {
        Owner::Pod(key) => {
            let pod = names.pod(key);
            end.workload = pod.and_then(|pod| pod.workload_kind.clone().zip(pod.workload.clone()));
            (end.namespace, end.name) = halves(key);
        }
        Owner::Service(key) => (end.namespace, end.name) = halves(key),
        Owner::Node(name) => end.name = Some(Arc::clone(name)),
        Owner::External(_) => {
            let own = names.external().resolve(address, other, Some(node));
            let others = names.external().shown(address).into_iter().filter(|name| own.as_ref() != Some(name));
            end.world = own.iter().cloned().chain(others).collect();
        }
    }
    end
}

/// Namespace and name of `namespace/name`.
fn halves(key: &str) -> (Option<Arc<str>>, Option<Arc<str>>) {
    match key.split_once('/') {
        Some((namespace, name)) => (Some(namespace.into()), Some(name.into())),
        None => (None, Some(key.into())),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|address| address.to_canonical())
}
