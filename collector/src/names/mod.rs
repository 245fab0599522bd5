//! Who held an address at a time: pods, services and nodes on a timeline. Pure; `file.rs` reads kubectl's JSON into it.
//!
//! A pod that leaves the list keeps its past: an old edge keeps its old name when another pod gets the address.

pub mod external;
pub mod file;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use self::external::{Answer, External};
use crate::{
    time::{Ns, SECOND},
    view::Phase,
};

/// A pod list may come this much later than the pod's first packet.
const GRACE: Ns = 5 * SECOND;
/// Pods that are gone, kept for the edges that remember them.
pub const MAX_GONE: usize = 16_384;
/// Owners one address had, kept.
const MAX_OWNERS: usize = 16;

/// A pod as the list has it.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Pod {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// What the kubelet calls a static pod in its cgroups: the mirror in the list has another UID.
    pub static_uid: Option<Arc<str>>,
    pub workload: Option<Arc<str>>,
    pub workload_kind: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
    pub addresses: Vec<IpAddr>,
    pub host_network: bool,
    pub phase: Phase,
    pub ready: bool,
    pub created: Option<Ns>,
}

impl Pod {
    /// Namespace and name: how pods are keyed here.
    #[must_use]
    pub fn key(&self) -> Arc<str> {
        format!("{}/{}", self.namespace, self.name).into()
    }

    fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        [&self.uid].into_iter().chain(&self.static_uid).filter(|uid| !uid.is_empty())
    }
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Service {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub created: Option<Ns>,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Node {
    pub name: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub ready: bool,
    pub created: Option<Ns>,
}

/// One reading of the whole list.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub struct Inventory {
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    pub nodes: Vec<Node>,
}

/// Who an address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A pod, by `namespace/name`.
    Pod(Arc<str>),
    /// A service, by `namespace/name`.
    Service(Arc<str>),
    /// A node, by name.
    Node(Arc<str>),
    /// Nobody we know.
    External(IpAddr),
}

#[derive(Debug, Clone)]
struct Held {
    pod: Arc<str>,
    uid: Arc<str>,
    start: Ns,
    end: Option<Ns>,
}

/// The names, now and before.
#[derive(Debug, Clone, Default)]
pub struct Names {
    held: HashMap<IpAddr, Vec<Held>>,
    pods: BTreeMap<Arc<str>, Pod>,
    gone: BTreeMap<Arc<str>, Pod>,
    by_uid: HashMap<Arc<str>, Arc<str>>,
    services: BTreeMap<Arc<str>, Service>,
    service_of: HashMap<IpAddr, Arc<str>>,
    nodes: BTreeMap<Arc<str>, Node>,
    node_of: HashMap<IpAddr, Arc<str>>,
    external: External,
    revision: u64,
}

impl Names {
    /// Grows with every reading that changed anything.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes in a reading made at `now`.
    pub fn read(&mut self, inventory: Inventory, now: Ns) {
        let pods: BTreeMap<Arc<str>, Pod> = inventory.pods.into_iter().map(|pod| (pod.key(), pod)).collect();
        let services: BTreeMap<Arc<str>, Service> = inventory
            .services
            .into_iter()
            .map(|service| (format!("{}/{}", service.namespace, service.name).into(), service))
            .collect();
        let nodes: BTreeMap<Arc<str>, Node> =
            inventory.nodes.into_iter().map(|node| (Arc::clone(&node.name), node)).collect();
        if pods == self.pods && services == self.services && nodes == self.nodes && self.revision > 0 {
            return;
        }
        self.revision += 1;
        self.end_missing(&pods, now);
        for (key, pod) in &pods {
            self.gone.remove(key);
            if !pod.host_network {
                for &address in &pod.addresses {
                    self.hold(address, key, pod, now);
                }
            }
        }
        self.service_of = by_address(&services, |service| &service.addresses);
        self.node_of = by_address(&nodes, |node| &node.addresses);
        (self.pods, self.services, self.nodes) = (pods, services, nodes);
        self.forget();
    }

    fn end_missing(&mut self, pods: &BTreeMap<Arc<str>, Pod>, now: Ns) {
        for (key, old) in &self.pods {
            if !pods.contains_key(key) {
                self.gone.insert(Arc::clone(key), Pod { phase: Phase::Gone, ready: false, ..old.clone() });
            }
        }
        for (address, owners) in &mut self.held {
            for held in owners.iter_mut().filter(|held| held.end.is_none()) {
                let still = pods
                    .get(&held.pod)
                    .is_some_and(|pod| pod.uid == held.uid && pod.addresses.contains(address) && !pod.host_network);
                if !still {
                    held.end = Some(now);
                }
            }
        }
    }

    fn hold(&mut self, address: IpAddr, key: &Arc<str>, pod: &Pod, now: Ns) {
        let owners = self.held.entry(address).or_default();
        if owners.iter().any(|held| held.uid == pod.uid && held.pod == *key && held.end.is_none()) {
            return;
        }
        let mut start = pod.created.unwrap_or(now).min(now);
        if let Some(last) = owners.last_mut() {
            // Creation times are whole seconds, and the old owner's end is only when the list said so.
            if start <= last.start {
                start = now;
            }
            last.end = Some(last.end.map_or(start, |end| end.min(start)));
        }
        owners.push(Held { pod: Arc::clone(key), uid: Arc::clone(&pod.uid), start, end: None });
        if owners.len() > MAX_OWNERS {
            owners.remove(0);
        }
    }

    /// Beyond the bound the gone pods go for good, and with them their hold on addresses and UIDs.
    fn forget(&mut self) {
        while self.gone.len() > MAX_GONE {
            self.gone.pop_first();
        }
        // Who is there comes last: a name of two lives leads from both of its UIDs.
        let pods = self.gone.iter().chain(&self.pods);
        self.by_uid = pods.flat_map(|(key, pod)| pod.uids().map(|uid| (Arc::clone(uid), Arc::clone(key)))).collect();
        let (pods, gone) = (&self.pods, &self.gone);
        self.held.retain(|_, owners| {
            owners.retain(|held| pods.contains_key(&held.pod) || gone.contains_key(&held.pod));
            !owners.is_empty()
        });
    }

    /// Takes in what DNS answered; names of our own addresses are known better.
    pub fn learn(&mut self, answer: Answer) {
        if let Owner::External(_) = self.resolve(answer.address, answer.at) {
            self.external.learn(answer);
        }
    }

    /// Names of the world whose time is over go, but for those of `used` addresses.
    pub fn forget_external(&mut self, now: Ns, used: &HashSet<IpAddr>) {
        self.external.forget(now, used);
    }

    /// The names of the world.
    #[must_use]
    pub fn external(&self) -> &External {
        &self.external
    }

    /// Some pods are gone and still remembered.
    #[must_use]
    pub fn any_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Gone pods that no edge remembers go.
    pub fn retain_gone(&mut self, used: &HashSet<Arc<str>>) {
        let before = self.gone.len();
        self.gone.retain(|key, _| used.contains(key));
        if self.gone.len() != before {
            self.revision += 1;
            self.forget();
        }
    }

    /// Who held `address` at `at`.
    #[must_use]
    pub fn resolve(&self, address: IpAddr, at: Ns) -> Owner {
        let address = address.to_canonical();
        if let Some(owners) = self.held.get(&address) {
            let held = owners
                .iter()
                .find(|held| held.start <= at && held.end.is_none_or(|end| at < end))
                .or_else(|| owners.iter().find(|held| held.start > at && held.start <= at.saturating_add(GRACE)))
                .or_else(|| owners.iter().rev().find(|held| held.start <= at))
                .or_else(|| owners.first());
            if let Some(held) = held {
                return Owner::Pod(Arc::clone(&held.pod));
            }
        }
        if let Some(node) = self.node_of.get(&address) {
            return Owner::Node(Arc::clone(node));
        }
        if let Some(service) = self.service_of.get(&address) {
            return Owner::Service(Arc::clone(service));
        }
        Owner::External(address)
    }

    /// The `namespace/name` of a pod by its UID, as a cgroup's name has it; gone ones too.
    #[must_use]
    pub fn pod_of_uid(&self, uid: &str) -> Option<&Arc<str>> {
        self.by_uid.get(uid)
    }

    /// A pod by `namespace/name`, gone ones too.
    #[must_use]
    pub fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key).or_else(|| self.gone.get(key))
    }

    /// A service by `namespace/name`.
    #[must_use]
    pub fn service(&self, key: &str) -> Option<&Service> {
        self.services.get(key)
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The pods of the last reading.
    pub fn pods(&self) -> impl Iterator<Item = (&Arc<str>, &Pod)> {
        self.pods.iter()
    }

    /// The nodes of the last reading.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }
}

fn by_address<T>(map: &BTreeMap<Arc<str>, T>, addresses: impl Fn(&T) -> &Vec<IpAddr>) -> HashMap<IpAddr, Arc<str>> {
    map.iter().flat_map(|(key, value)| addresses(value).iter().map(|address| (*address, Arc::clone(key)))).collect()
}

#[cfg(test)]
mod tests;
