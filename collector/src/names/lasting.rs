//! What keeps its addresses: services, their endpoints that are no pods, nodes. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{Names, Node, Service, Slice, Turn};

impl Names {
    pub(super) fn put_service(&mut self, service: Service) {
        let key = service.key();
        if self.services.get(&key) == Some(&service) {
            return;
        }
        self.remove_service(&key);
        for &address in &service.addresses {
            self.service_of.entry(address).or_default().insert(Arc::clone(&key));
            self.touched.addresses.insert(address);
        }
        for &port in &service.node_ports {
            self.service_at.entry(port).or_default().insert(Arc::clone(&key));
            self.touched.addresses.extend(self.node_of.keys());
        }
        self.touched.services.insert(Arc::clone(&key));
        self.services.insert(key, service);
    }

    pub(super) fn remove_service(&mut self, key: &Arc<str>) {
        let Some(service) = self.services.remove(key) else { return };
        for address in service.addresses {
            drop_one(&mut self.service_of, &address, key);
            self.touched.addresses.insert(address);
        }
        for port in service.node_ports {
            drop_one(&mut self.service_at, &port, key);
            self.touched.addresses.extend(self.node_of.keys());
        }
        self.touched.services.insert(Arc::clone(key));
    }

    pub(super) fn put_slice(&mut self, slice: Slice) {
        let key = slice.key();
        if self.slices.get(&key) == Some(&slice) {
            return;
        }
        self.remove_slice(&key);
        let Some(service) = slice.service_key() else { return };
        // Slices of pods are many and say nothing that the pods do not: only the others are kept.
        if slice.addresses.is_empty() {
            return;
        }
        for &address in &slice.addresses {
            self.service_of.entry(address).or_default().insert(Arc::clone(&service));
            self.touched.addresses.insert(address);
        }
        self.slices.insert(key, slice);
    }

    pub(super) fn remove_slice(&mut self, key: &Arc<str>) {
        let Some(slice) = self.slices.remove(key) else { return };
        let Some(service) = slice.service_key() else { return };
        for address in slice.addresses {
            let elsewhere = self.services.get(&service).is_some_and(|service| service.addresses.contains(&address));
            if !elsewhere {
                drop_one(&mut self.service_of, &address, &service);
            }
            self.touched.addresses.insert(address);
        }
    }

    pub(super) fn put_node(&mut self, node: Node) {
        let before = self.nodes.get(&node.name);
        if before == Some(&node) {
            return;
        }
        let name = Arc::clone(&node.name);
        if before.is_none() {
            self.turn(Turn::Node { name: Arc::clone(&name), joined: true });
        } else if before.is_some_and(|before| before.addresses != node.addresses) {
            self.drop_node_addresses(&name);
        }
        for &address in &node.addresses {
            if self.node_of.entry(address).or_default().insert(Arc::clone(&name)) {
                self.touched.addresses.insert(address);
            }
        }
        self.touched.nodes.insert(Arc::clone(&name));
        self.nodes.insert(name, node);
    }

    fn drop_node_addresses(&mut self, name: &Arc<str>) {
        for address in self.nodes.get(name).map(|node| node.addresses.clone()).unwrap_or_default() {
            drop_one(&mut self.node_of, &address, name);
            self.touched.addresses.insert(address);
        }
    }

    pub(super) fn remove_node(&mut self, name: &Arc<str>) {
        self.drop_node_addresses(name);
        if self.nodes.remove(name).is_some() {
            self.touched.nodes.insert(Arc::clone(name));
            self.turn(Turn::Node { name: Arc::clone(name), joined: false });
        }
    }
}

fn drop_one<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Arc<str>>>, key: &K, value: &Arc<str>) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}
