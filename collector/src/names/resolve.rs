//! Questions to the names. Pure.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use super::{
    Names, Node, Owner, Pod, Resolved, Service, Sighting, Touched, Turn,
    external::{Answer, External},
};
use crate::time::Ns;

impl Names {
    /// Who held `address` at `at`.
    #[must_use]
    pub fn resolve(&self, address: IpAddr, at: Ns) -> Owner {
        self.seen(address, Sighting::at(at)).owner
    }

    /// Who held `address` when it was seen.
    #[must_use]
    pub fn seen(&self, address: IpAddr, sighting: Sighting<'_>) -> Resolved {
        let address = address.to_canonical();
        if let Some(claim) = self.held.get(&address).and_then(|timeline| timeline.claim(sighting)) {
            let owner = Owner::Pod(Arc::clone(claim.pod));
            return Resolved { owner, ambiguous: claim.ambiguous, close: claim.close };
        }
        Resolved { owner: self.lasting(address), ambiguous: false, close: false }
    }

    /// Who answers on a port of `address`, where that is no pod: a node's port may be a service's.
    #[must_use]
    pub fn serving(&self, address: IpAddr, port: u16, protocol: u8, sighting: Sighting<'_>) -> Resolved {
        let resolved = self.seen(address, sighting);
        if matches!(resolved.owner, Owner::Node(_))
            && let Some(service) = self.service_at.get(&(port, protocol)).and_then(|services| services.first())
        {
            return Resolved { owner: Owner::Service(Arc::clone(service)), ..resolved };
        }
        resolved
    }

    fn lasting(&self, address: IpAddr) -> Owner {
        if let Some(node) = self.node_of.get(&address).and_then(|nodes| nodes.first()) {
            return Owner::Node(Arc::clone(node));
        }
        self.service_at(address).map_or(Owner::External(address), |service| Owner::Service(Arc::clone(service)))
    }

    /// The service, by `namespace/name`, that has this address.
    #[must_use]
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.service_of.get(&address).and_then(|services| services.first())
    }

    /// Whether another pod certainly had `address` after this one, by `to`.
    #[must_use]
    pub fn passed_on(&self, address: IpAddr, pod: &str, to: Ns) -> bool {
        self.held.get(&address.to_canonical()).is_some_and(|timeline| timeline.passed_on(pod, to))
    }

    /// A pod by `namespace/name`, gone ones too.
    #[must_use]
    pub fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key).or_else(|| self.past.get(key))
    }

    /// A pod that is there, by `namespace/name`.
    #[must_use]
    pub fn live_pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// The `namespace/name` of a pod by its UID, as a cgroup's name has it; gone ones too.
    #[must_use]
    pub fn pod_of_uid(&self, uid: &str) -> Option<&Arc<str>> {
        self.by_uid.get(uid)
    }

    /// A service by `namespace/name`.
    #[must_use]
    pub fn service(&self, key: &str) -> Option<&Service> {
        self.services.get(key)
    }

    /// The services that are there.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// A namespace is listed.
    #[must_use]
    pub fn namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The namespaces that are listed.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.iter()
    }

    /// The pods that are there.
    pub fn pods(&self) -> impl Iterator<Item = (&Arc<str>, &Pod)> {
        self.pods.iter()
    }

    /// The nodes that are there.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// What changed since the last call.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Pods and nodes that came, changed or went since the last call.
    pub fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
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
        self.past.len() > 0
    }

    /// Gone pods that no edge remembers go, once nothing late can come of them.
    pub fn retain_gone(&mut self, used: &HashSet<Arc<str>>, now: Ns) {
        for key in self.past.unused(used, now) {
            self.lose(&key);
        }
    }
}
