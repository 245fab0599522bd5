//! What the names are made of: pods, services, nodes, and changes of them. Pure.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Names,
    owners::{Above, OwnerKey},
};
use crate::{time::Ns, view::Phase};

/// A pod as the list has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Pod {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// What the kubelet calls a static pod in its cgroups: the mirror in the list has another UID.
    pub static_uid: Option<Arc<str>>,
    pub workload: Option<Arc<str>>,
    pub workload_kind: Option<Arc<str>>,
    /// Its controller's (kind, name), the first link of the owner chain.
    pub controller: Above,
    pub template_hash: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
    pub addresses: Vec<IpAddr>,
    pub host_network: bool,
    pub phase: Phase,
    pub ready: bool,
    /// Its containers ended for good: its address is free, even if it is still listed.
    pub over: bool,
    pub restarts: u64,
    pub created: Option<Ns>,
    /// The node took it up: its address is not older.
    pub started: Option<Ns>,
    /// By then it had its address.
    pub networked: Option<Ns>,
    /// Its deletion was asked for.
    pub deleted: Option<Ns>,
    /// Its last container ended.
    pub stopped: Option<Ns>,
}

impl Pod {
    /// Namespace and name: how pods are keyed here.
    #[must_use]
    pub fn key(&self) -> Arc<str> {
        format!("{}/{}", self.namespace, self.name).into()
    }

    /// It counts into its workload's size.
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.over && self.deleted.is_none() && self.phase != Phase::Gone
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        [&self.uid].into_iter().chain(&self.static_uid).filter(|uid| !uid.is_empty())
    }

    /// The addresses it alone has.
    pub(super) fn held(&self) -> impl Iterator<Item = IpAddr> {
        let shared = self.host_network || self.over;
        self.addresses.iter().copied().filter(move |_| !shared)
    }

    pub(super) fn holds(&self, address: &IpAddr) -> bool {
        !self.host_network && !self.over && self.addresses.contains(address)
    }

    pub(super) fn owner_key(&self) -> Option<OwnerKey> {
        let (kind, name) = self.controller.as_ref()?;
        Some((Arc::clone(kind), Arc::clone(&self.namespace), Arc::clone(name)))
    }

    /// What decides to which vertex it belongs, in any view.
    pub(super) fn identity(&self) -> impl PartialEq {
        (self.uid.clone(), self.workload.clone(), self.workload_kind.clone(), self.node.clone())
    }
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Service {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Cluster, external and load balancer addresses.
    pub addresses: Vec<IpAddr>,
    /// Port and protocol on every node.
    pub node_ports: Vec<(u16, u8)>,
    pub external_name: Option<Arc<str>>,
    pub created: Option<Ns>,
}

impl Service {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> Arc<str> {
        format!("{}/{}", self.namespace, self.name).into()
    }
}

/// The part of a service's endpoints that are no pods.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Slice {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub service: Option<Arc<str>>,
    pub addresses: Vec<IpAddr>,
}

impl Slice {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> Arc<str> {
        format!("{}/{}", self.namespace, self.name).into()
    }

    pub(super) fn service_key(&self) -> Option<Arc<str>> {
        Some(format!("{}/{}", self.namespace, self.service.as_ref()?).into())
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Node {
    pub name: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub ready: bool,
    pub zone: Option<Arc<str>>,
    pub created: Option<Ns>,
}

/// One reading of the whole list.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Inventory {
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    pub nodes: Vec<Node>,
    pub slices: Vec<Slice>,
    pub namespaces: Vec<Arc<str>>,
}

/// One thing that is different. What is gone is named by `namespace/name`, nodes and namespaces by name.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "said above")]
pub enum Change {
    Pod(Box<Pod>),
    /// A pod of this UID, or whichever has the name.
    PodGone(Arc<str>, Option<Arc<str>>),
    /// A replica set or job, and its controller.
    Owner(OwnerKey, Above),
    OwnerGone(OwnerKey),
    Service(Service),
    ServiceGone(Arc<str>),
    Slice(Slice),
    SliceGone(Arc<str>),
    Node(Node),
    NodeGone(Arc<str>),
    Namespace(Arc<str>),
    NamespaceGone(Arc<str>),
}

impl Names {
    /// The changes that lead from what is known to `inventory`.
    pub(super) fn difference(&self, inventory: Inventory) -> Vec<Change> {
        let mut changes = Vec::new();
        let pods: HashSet<Arc<str>> = inventory.pods.iter().map(Pod::key).collect();
        let services: HashSet<Arc<str>> = inventory.services.iter().map(Service::key).collect();
        let slices: HashSet<Arc<str>> = inventory.slices.iter().map(Slice::key).collect();
        let nodes: HashSet<Arc<str>> = inventory.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let namespaces: HashSet<Arc<str>> = inventory.namespaces.iter().cloned().collect();
        let gone = |known: &Arc<str>, listed: &HashSet<Arc<str>>| (!listed.contains(known)).then(|| Arc::clone(known));
        changes.extend(self.pods.keys().filter_map(|key| gone(key, &pods)).map(|key| Change::PodGone(key, None)));
        changes.extend(self.services.keys().filter_map(|key| gone(key, &services)).map(Change::ServiceGone));
        changes.extend(self.slices.keys().filter_map(|key| gone(key, &slices)).map(Change::SliceGone));
        changes.extend(self.nodes.keys().filter_map(|key| gone(key, &nodes)).map(Change::NodeGone));
        changes.extend(self.namespaces.iter().filter_map(|key| gone(key, &namespaces)).map(Change::NamespaceGone));
        changes.extend(inventory.nodes.into_iter().map(Change::Node));
        changes.extend(inventory.namespaces.into_iter().map(Change::Namespace));
        changes.extend(inventory.pods.into_iter().map(|pod| Change::Pod(Box::new(pod))));
        changes.extend(inventory.services.into_iter().map(Change::Service));
        changes.extend(inventory.slices.into_iter().map(Change::Slice));
        changes
    }
}
