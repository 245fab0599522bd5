//! Who held an address at a time: pods, services and nodes on a timeline. Pure; `file.rs` reads kubectl's JSON into it, the
//! API's watches bring changes one by one.
//!
//! A pod that is gone keeps its past: an old edge keeps its old name when another pod gets the address. What one change costs
//! hangs on that change alone, not on how many pods there are.

pub mod external;
pub mod file;
mod inventory;
mod lasting;
pub mod object;
pub mod owners;
mod past;
mod resolve;
mod timeline;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::{
    external::External,
    owners::{Above, Chain, OwnerKey},
    past::Past,
    timeline::{Held, Timeline},
};
pub use self::{
    inventory::{Change, Inventory, Node, Pod, Service, Slice},
    past::MAX_GONE,
    timeline::Sighting,
};
use crate::{time::Ns, view::Phase};

/// Addresses, and UIDs, of its past that one pod's name keeps.
const MAX_PAST: usize = 16;
/// Changes of pods that wait to be told as events.
const MAX_TURNS: usize = 65_536;

/// Who an address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Who an address belonged to when it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Who.
    pub owner: Owner,
    /// Nothing tells whether it was this pod or the one before it.
    pub ambiguous: bool,
    /// At that instant two pods are possible: it took more than the instant to tell, or it could not be told.
    pub close: bool,
}

/// What changed since somebody asked.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// Addresses that may belong to others now.
    pub addresses: HashSet<IpAddr>,
    /// Pods whose own facts changed.
    pub pods: HashSet<Arc<str>>,
    /// Services, by `namespace/name`.
    pub services: HashSet<Arc<str>>,
    /// Nodes, by name.
    pub nodes: HashSet<Arc<str>>,
    /// Namespaces.
    pub namespaces: HashSet<Arc<str>>,
}

/// A pod or node that came, changed or went.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "said above")]
pub enum Turn {
    Pod { before: Option<Box<Pod>>, after: Option<Box<Pod>> },
    Node { name: Arc<str>, joined: bool },
}

/// Addresses and UIDs that a pod's name has or had; the newest last.
#[derive(Debug, Clone, Default)]
struct Trace {
    addresses: Vec<IpAddr>,
    uids: Vec<Arc<str>>,
}

/// The names, now and before.
#[derive(Debug, Clone, Default)]
pub struct Names {
    held: HashMap<IpAddr, Timeline>,
    pods: BTreeMap<Arc<str>, Pod>,
    traces: HashMap<Arc<str>, Trace>,
    past: Past,
    by_uid: HashMap<Arc<str>, Arc<str>>,
    by_owner: HashMap<OwnerKey, BTreeSet<Arc<str>>>,
    chain: Chain,
    services: BTreeMap<Arc<str>, Service>,
    service_of: HashMap<IpAddr, BTreeSet<Arc<str>>>,
    service_at: HashMap<(u16, u8), BTreeSet<Arc<str>>>,
    slices: HashMap<Arc<str>, Slice>,
    nodes: BTreeMap<Arc<str>, Node>,
    node_of: HashMap<IpAddr, BTreeSet<Arc<str>>>,
    namespaces: BTreeSet<Arc<str>>,
    external: External,
    /// When the list was last read as a whole.
    read: Option<Ns>,
    touched: Touched,
    turns: Vec<Turn>,
}

impl Names {
    /// Takes in a reading of everything, made at `now`.
    pub fn read(&mut self, inventory: Inventory, now: Ns) {
        for change in self.difference(inventory) {
            self.apply(change, now);
        }
        self.read = Some(now);
    }

    /// Takes in one change that was learned of at `now`.
    pub fn apply(&mut self, change: Change, now: Ns) {
        match change {
            Change::Pod(pod) => self.put_pod(*pod, now),
            Change::PodGone(key, uid) => self.remove_pod(&key, uid.as_deref(), now),
            Change::Owner(key, above) => self.put_owner(key, above, now),
            Change::OwnerGone(key) => {
                self.chain.remove(&key);
            }
            Change::Service(service) => self.put_service(service),
            Change::ServiceGone(key) => self.remove_service(&key),
            Change::Slice(slice) => self.put_slice(slice),
            Change::SliceGone(key) => self.remove_slice(&key),
            Change::Node(node) => self.put_node(node),
            Change::NodeGone(name) => self.remove_node(&name),
            Change::Namespace(name) => {
                if self.namespaces.insert(Arc::clone(&name)) {
                    self.touched.namespaces.insert(name);
                }
            }
            Change::NamespaceGone(name) => {
                self.namespaces.remove(&name);
                self.touched.namespaces.insert(name);
            }
        }
    }

    fn put_pod(&mut self, mut pod: Pod, now: Ns) {
        let key = pod.key();
        if let Some(owner) = &pod.controller {
            let hash = pod.template_hash.as_deref();
            // A file tells the chain with the pod; the API's watches tell it apart.
            if self.chain.contains_key(&(Arc::clone(&owner.0), Arc::clone(&pod.namespace), Arc::clone(&owner.1))) {
                let (kind, name) = owners::workload(owner, &pod.namespace, hash, &self.chain);
                (pod.workload_kind, pod.workload) = (Some(kind), Some(name));
            }
        }
        let before = self.pods.get(&key);
        if before == Some(&pod) {
            return;
        }
        if before.is_some_and(|before| before.uid != pod.uid) {
            self.remove_pod(&key, None, now);
        }
        let before = self.pods.get(&key).cloned();
        self.past.take(&key);
        let moved = before.as_ref().is_none_or(|before| before.identity() != pod.identity());
        if let Some(before) = &before {
            let lost = before.addresses.iter().filter(|address| !pod.holds(address));
            for address in lost.copied().collect::<Vec<_>>() {
                self.release(address, before, now);
            }
        } else {
            self.remember_uids(&key, &pod);
            if let Some(owner) = pod.owner_key() {
                self.by_owner.entry(owner).or_default().insert(Arc::clone(&key));
            }
        }
        for address in pod.held().collect::<Vec<_>>() {
            self.hold(address, &key, &pod, now);
        }
        if moved && pod.host_network {
            // Its edges are those of its node's address, told apart by its UID.
            self.touched.addresses.extend(&pod.addresses);
        }
        if moved {
            self.touched.addresses.extend(self.traces.get(&key).into_iter().flat_map(|trace| &trace.addresses));
        }
        self.touched.pods.insert(Arc::clone(&key));
        self.turn(Turn::Pod { before: before.map(Box::new), after: Some(Box::new(pod.clone())) });
        self.pods.insert(key, pod);
    }

    fn hold(&mut self, address: IpAddr, key: &Arc<str>, pod: &Pod, now: Ns) {
        let held = Held {
            pod: Arc::clone(key),
            uid: Arc::clone(&pod.uid),
            node: pod.node.clone(),
            since: pod.created.max(pod.started).unwrap_or(0).min(now),
            by: pod.networked.unwrap_or(now).min(now),
            alive: pod.deleted.map_or(Ns::MAX, |deleted| deleted.max(pod.stopped.unwrap_or(0))),
            end: None,
        };
        if self.held.entry(address).or_default().hold(held) {
            self.touched.addresses.insert(address);
        }
        let trace = &mut self.traces.entry(Arc::clone(key)).or_default().addresses;
        if !trace.contains(&address) {
            trace.push(address);
            if trace.len() > MAX_PAST {
                let oldest = trace.remove(0);
                self.forget(oldest, key);
            }
        }
    }

    fn remember_uids(&mut self, key: &Arc<str>, pod: &Pod) {
        let trace = &mut self.traces.entry(Arc::clone(key)).or_default().uids;
        for uid in pod.uids() {
            if self.by_uid.insert(Arc::clone(uid), Arc::clone(key)).as_ref() == Some(key) {
                continue;
            }
            trace.push(Arc::clone(uid));
            if trace.len() > MAX_PAST {
                self.by_uid.remove(&trace.remove(0));
            }
        }
    }

    fn release(&mut self, address: IpAddr, pod: &Pod, now: Ns) {
        let known = pod.deleted.into_iter().chain(pod.stopped).max();
        let alive = known.or(self.read).unwrap_or(now).min(now);
        if let Some(timeline) = self.held.get_mut(&address)
            && timeline.release(&pod.uid, alive, now)
        {
            self.touched.addresses.insert(address);
        }
    }

    fn forget(&mut self, address: IpAddr, key: &str) {
        if let Some(timeline) = self.held.get_mut(&address) {
            if timeline.forget(key) {
                self.held.remove(&address);
            }
            self.touched.addresses.insert(address);
        }
    }

    fn remove_pod(&mut self, key: &Arc<str>, uid: Option<&str>, now: Ns) {
        if self.pods.get(key).is_none_or(|pod| uid.is_some_and(|uid| *pod.uid != *uid)) {
            return;
        }
        let Some(pod) = self.pods.remove(key) else { return };
        for address in pod.addresses.clone() {
            self.release(address, &pod, now);
        }
        if let Some(owner) = pod.owner_key()
            && let Some(pods) = self.by_owner.get_mut(&owner)
        {
            pods.remove(key);
            if pods.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        self.touched.pods.insert(Arc::clone(key));
        let gone = Pod { phase: Phase::Gone, ready: false, ..pod.clone() };
        self.turn(Turn::Pod { before: Some(Box::new(pod)), after: None });
        if let Some(oldest) = self.past.put(Arc::clone(key), gone, now) {
            self.lose(&oldest);
        }
    }

    /// A gone pod goes for good, and with it its hold on addresses.
    fn lose(&mut self, key: &Arc<str>) {
        let trace = self.traces.remove(key).unwrap_or_default();
        for address in trace.addresses {
            self.forget(address, key);
        }
        for uid in trace.uids {
            self.by_uid.remove(&uid);
        }
        self.touched.pods.insert(Arc::clone(key));
    }

    fn put_owner(&mut self, key: OwnerKey, above: Above, now: Ns) {
        if self.chain.get(&key) == Some(&above) {
            return;
        }
        self.chain.insert(key.clone(), above);
        let pods: Vec<Pod> =
            self.by_owner.get(&key).into_iter().flatten().filter_map(|key| self.pods.get(key)).cloned().collect();
        for pod in pods {
            self.put_pod(pod, now);
        }
    }

    fn turn(&mut self, turn: Turn) {
        if self.turns.len() < MAX_TURNS {
            self.turns.push(turn);
        }
    }
}

#[cfg(test)]
mod tests;
