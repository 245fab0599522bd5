//! What is in every cluster's picture and tells nothing of the user's own traffic. What is unhealthy is never noise.

use super::matcher::{is_dns, is_dropping};
use crate::view::{EdgeRow, VertexRow};

/// Kinds of noise, each edge of the first that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Noise {
    /// The agents' own reports.
    Own,
    /// Questions to the cluster's name service.
    Dns,
    /// Scrapes by the usual collectors of metrics.
    Scrape,
    /// A node that speaks to a pod of its own: probes of the kubelet.
    Probe,
    /// Everything else from and to `kube-system`.
    KubeSystem,
}

/// The platform's own namespace.
const PLATFORM: &str = "kube-system";
/// Who scrapes, by how the names of their workloads begin.
const SCRAPERS: [&str; 6] =
    ["prometheus", "vmagent", "grafana-agent", "alloy", "otel-collector", "opentelemetry-collector"];
/// Who resolves names, by how the names of their workloads begin.
const RESOLVERS: [&str; 4] = ["coredns", "kube-dns", "node-local-dns", "rke2-coredns"];

/// What kind of noise an edge is; `ends` are its client and its server.
#[must_use]
pub fn noise(edge: &EdgeRow, ends: [&VertexRow; 2]) -> Option<Noise> {
    if is_dropping(edge) {
        return None;
    }
    let [client, server] = ends;
    let platform = |end: &VertexRow| end.namespace.as_deref() == Some(PLATFORM);
    let begins = |end: &VertexRow, words: &[&str]| {
        end.workload.as_deref().is_some_and(|workload| words.iter().any(|word| workload.starts_with(word)))
    };
    if edge.own {
        Some(Noise::Own)
    } else if is_dns(edge) && (platform(server) || begins(server, &RESOLVERS)) {
        Some(Noise::Dns)
    } else if begins(client, &SCRAPERS) && edge.protocol == "tcp" {
        Some(Noise::Scrape)
    } else if client.kind == "node" && server.kind == "pod" && server.node.as_deref() == Some(&client.name) {
        Some(Noise::Probe)
    } else if platform(client) || platform(server) {
        Some(Noise::KubeSystem)
    } else {
        None
    }
}
