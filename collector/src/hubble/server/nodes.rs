//! `GetNodes`, `GetNamespaces`, `ServerStatus`: what the hub knows, in Hubble's words. Pure.

use std::sync::Arc;

use crate::{
    hub::FlowNode,
    hubble::proto::{
        observer::{GetNamespacesResponse, GetNodesResponse, Namespace, Node, ServerStatusResponse},
        relay::NodeState,
    },
    time::Ns,
};

/// Events that one agent's ring holds.
pub(super) const RING: u64 = 4_095;

fn uptime(started: Ns, now: Ns) -> u64 {
    u64::try_from(now.saturating_sub(started)).unwrap_or(0)
}

/// The nodes.
#[must_use]
pub(super) fn nodes(nodes: &[FlowNode], now: Ns) -> GetNodesResponse {
    let node = |node: &FlowNode| Node {
        name: node.name.to_string(),
        version: format!("orrery-{}", node.agent_version),
        address: node.address.map(|address| address.to_string()).unwrap_or_default(),
        state: if node.available { NodeState::NodeConnected } else { NodeState::NodeUnavailable }.into(),
        tls: None,
        uptime_ns: uptime(node.started, now),
        num_flows: node.ring.held,
        max_flows: RING,
        seen_flows: node.ring.seen,
    };
    GetNodesResponse { nodes: nodes.iter().map(node).collect() }
}

/// The namespaces of the one cluster.
#[must_use]
pub(super) fn namespaces(names: &[Arc<str>], cluster: &str) -> GetNamespacesResponse {
    let namespace = |name: &Arc<str>| Namespace { cluster: cluster.to_owned(), namespace: name.to_string() };
    GetNamespacesResponse { namespaces: names.iter().map(namespace).collect() }
}

/// All rings together.
#[must_use]
pub(super) fn status(nodes: &[FlowNode], started: Ns, now: Ns) -> ServerStatusResponse {
    let unavailable: Vec<_> = nodes.iter().filter(|node| !node.available).map(|node| node.name.to_string()).collect();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    ServerStatusResponse {
        num_flows: nodes.iter().map(|node| node.ring.held).sum(),
        max_flows: nodes.len() as u64 * RING,
        seen_flows: nodes.iter().fold(0, |sum, node| sum.saturating_add(node.ring.seen)),
        uptime_ns: uptime(started, now),
        num_connected_nodes: Some(count(nodes.len() - unavailable.len())),
        num_unavailable_nodes: Some(count(unavailable.len())),
        unavailable_nodes: unavailable,
        version: format!("orrery-{}", env!("CARGO_PKG_VERSION")),
        flows_rate: None,
    }
}
