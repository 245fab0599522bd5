//! The cluster that is played: pods, who talks to whom and how much. Everything follows from the seed, but for time.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::Size;

/// Namespaces, the first ones bigger.
const NAMESPACES: &str = "kube-system monitoring web-shop logging catalog mobile-bff orders checkout kafka search staging \
     minio payments inventory auth recommendations cart accounts ci-runners postgres redis fraud elastic media pricing \
     shipping feature-store partner-api ingress-nginx ml-serving ledger ml-batch notifications qa reports sandbox reviews \
     cert-manager external-dns gatekeeper vault argocd";
/// Addresses of the world.
const WORLD: u32 = 40;
/// What is lost on the one edge that loses packets, in per cent.
const LOST: u64 = 12;
const LOSSY_PORT: u16 = 8443;

/// A pod's place: pods come and go in it.
pub(super) struct Pod {
    namespace: String,
    workload: String,
    name: String,
    pub(super) node: u16,
    pub(super) address: Ipv4Addr,
    /// How many were here before; a device of its own each.
    pub(super) generation: u32,
    created: u64,
}

/// One end of an edge.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Pod(usize),
    World(u32),
}

pub(super) struct Edge {
    pub(super) client: End,
    pub(super) server: End,
    pub(super) port: u16,
    pub(super) protocol: u32,
    /// Packets a second.
    pub(super) rate: f64,
    pub(super) bytes: u64,
    /// Nanoseconds since 1970.
    pub(super) born: u64,
    /// What of hundred packets does not arrive.
    pub(super) lost: u64,
}

/// What one node reports: edges by place and side, and pods.
type Share = (Vec<(usize, i32)>, Vec<usize>);

pub(super) struct World {
    pub(super) pods: Vec<Pod>,
    pub(super) edges: Vec<Edge>,
    /// Edges by place, at either end.
    of_pod: Vec<Vec<usize>>,
    /// What each node reports. Places stay where they are.
    of_node: Vec<Share>,
    nodes: u16,
    random: Random,
    next_address: u32,
}

/// xorshift64*: the same cluster from the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.next() * bound as f64) as usize).min(bound.saturating_sub(1))
    }
}

/// Nanoseconds since 1970 by the unit of agents' times of packets.
pub(super) fn by_tick(time: u64) -> u64 {
    time - time % 1_000_000
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    pub(super) fn new(size: &Size) -> Self {
        let mut world = Self {
            pods: Vec::new(),
            edges: Vec::new(),
            of_pod: Vec::new(),
            of_node: vec![(Vec::new(), Vec::new()); usize::from(size.nodes)],
            nodes: size.nodes,
            random: Random(size.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            next_address: u32::from(Ipv4Addr::new(10, 64, 0, 1)),
        };
        let workloads = world.settle(size.pods as usize);
        world.connect(size.edges as usize, &workloads);
        world
    }

    /// Places for all pods; tells which are of one workload.
    fn settle(&mut self, wanted: usize) -> Vec<Vec<usize>> {
        let namespaces: Vec<&str> = NAMESPACES.split_whitespace().collect();
        let weights: Vec<f64> = (0..namespaces.len())
            .map(|index| if index < 5 { 5.0 - index as f64 * 0.6 } else { 0.4 + self.random.next() * 1.6 })
            .collect();
        let all: f64 = weights.iter().sum();
        let mut workloads = Vec::new();
        for (namespace, weight) in namespaces.iter().zip(&weights) {
            let mut left = ((wanted as f64 * weight / all).ceil() as usize).max(1).min(wanted - self.pods.len());
            for letter in ('a'..='z').cycle() {
                if left == 0 {
                    break;
                }
                let size = (2 + self.random.below(40)).min(left);
                left -= size;
                let members = (0..size).map(|_| self.place(namespace, &format!("{namespace}-{letter}"))).collect();
                workloads.push(members);
            }
        }
        workloads
    }

    fn place(&mut self, namespace: &str, workload: &str) -> usize {
        let node = u16::try_from(self.random.below(usize::from(self.nodes))).unwrap_or(0);
        let address = self.address();
        let name = self.name(workload);
        let created = now() / 1_000_000_000 - 3_600;
        self.pods.push(Pod {
            namespace: namespace.to_owned(),
            workload: workload.to_owned(),
            name,
            node,
            address,
            generation: 0,
            created,
        });
        self.of_pod.push(Vec::new());
        let place = self.pods.len() - 1;
        self.of_node[usize::from(node)].1.push(place);
        place
    }

    fn address(&mut self) -> Ipv4Addr {
        self.next_address += 1;
        Ipv4Addr::from(self.next_address)
    }

    fn name(&mut self, workload: &str) -> String {
        let letters: String =
            (0..5).map(|_| char::from(b"bcdfghjklmnpqrstvwxz2456789"[self.random.below(27)])).collect();
        format!("{workload}-7f9c6d5b8-{letters}")
    }

    /// Every workload talks to a few others, mostly of near namespaces, as real ones do.
    fn connect(&mut self, wanted: usize, workloads: &[Vec<usize>]) {
        let mut known = HashSet::new();
        let of = |namespace: &str, pods: &[Pod]| pods.iter().position(|pod| pod.namespace == namespace);
        if let (Some(from), Some(to)) = (of("payments", &self.pods), of("ledger", &self.pods)) {
            known.insert((from, End::Pod(to), LOSSY_PORT));
            self.edge(from, End::Pod(to), LOSSY_PORT, 17, 84.0, LOST);
        }
        let resolvers = workloads.first().cloned().unwrap_or_default();
        for round in 0.. {
            let clients = &workloads[round % workloads.len()];
            let near = (round + [0, 1, 2, 3, 7, 19][self.random.below(6)]) % workloads.len();
            let servers = &workloads[near];
            let scale = 10f64.powf(self.random.next() * 3.2 - 0.8) / clients.len() as f64;
            let port = [8080, 5432, 6379, 443, 9090][self.random.below(5)];
            for client in clients {
                if self.edges.len() >= wanted {
                    return;
                }
                let rate = scale * (0.5 + self.random.next());
                let (server, port, protocol) = match self.random.below(20) {
                    0 => (End::World(self.random.below(WORLD as usize) as u32), 443, 6),
                    1 if !resolvers.is_empty() => (End::Pod(resolvers[self.random.below(resolvers.len())]), 53, 17),
                    _ => (End::Pod(servers[self.random.below(servers.len())]), port, 6),
                };
                if server != End::Pod(*client) && known.insert((*client, server, port)) {
                    self.edge(*client, server, port, protocol, rate, 0);
                }
            }
        }
    }

    fn edge(&mut self, client: usize, server: End, port: u16, protocol: u32, rate: f64, lost: u64) {
        let index = self.edges.len();
        self.of_pod[client].push(index);
        self.of_node[usize::from(self.pods[client].node)].0.push((index, 1));
        if let End::Pod(server) = server {
            self.of_pod[server].push(index);
            self.of_node[usize::from(self.pods[server].node)].0.push((index, 2));
        }
        let bytes = 80 + self.random.below(900) as u64;
        self.edges.push(Edge {
            client: End::Pod(client),
            server,
            port,
            protocol,
            rate,
            bytes,
            born: by_tick(now()),
            lost,
        });
    }

    /// Other pods in the places of some, with other names and addresses; their edges begin anew.
    pub(super) fn replace_pods(&mut self, count: u32) {
        for _ in 0..count {
            let place = self.random.below(self.pods.len());
            let address = self.address();
            let workload = self.pods[place].workload.clone();
            let name = self.name(&workload);
            let pod = &mut self.pods[place];
            (pod.name, pod.address, pod.created) = (name, address, now() / 1_000_000_000);
            pod.generation += 1;
            for edge in &self.of_pod[place] {
                self.edges[*edge].born = by_tick(now());
            }
        }
    }

    /// As kubectl prints it.
    pub(super) fn pod_list(&self) -> Vec<u8> {
        let pods = self.pods.iter().map(|pod| {
            json!({
                "kind": "Pod",
                "metadata": {
                    "name": pod.name, "namespace": pod.namespace, "uid": format!("{}-{}", pod.address, pod.generation),
                    "creationTimestamp": utc(pod.created),
                    "labels": { "pod-template-hash": "7f9c6d5b8" },
                    "ownerReferences": [{ "kind": "ReplicaSet", "name": format!("{}-7f9c6d5b8", pod.workload), "controller": true }],
                },
                "spec": { "nodeName": node_name(pod.node) },
                "status": {
                    "phase": "Running", "podIPs": [{ "ip": pod.address }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            })
        });
        let nodes = (0..self.nodes).map(|node| {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 20, 0, 1)) + u32::from(node));
            json!({
                "kind": "Node", "metadata": { "name": node_name(node) },
                "status": { "addresses": [{ "type": "InternalIP", "address": address }],
                            "conditions": [{ "type": "Ready", "status": "True" }] },
            })
        });
        let list = json!({ "kind": "List", "items": pods.chain(nodes).collect::<Vec<_>>() });
        // These are maps and texts: serialising them cannot fail.
        serde_json::to_vec(&list).unwrap_or_default()
    }

    /// A node's edges, by place and side.
    pub(super) fn edges_of(&self, node: u16) -> &[(usize, i32)] {
        &self.of_node[usize::from(node)].0
    }

    /// A node's pods, by place.
    pub(super) fn pods_of(&self, node: u16) -> &[usize] {
        &self.of_node[usize::from(node)].1
    }

    pub(super) fn address_of(&self, end: End) -> Ipv4Addr {
        match end {
            End::Pod(place) => self.pods[place].address,
            End::World(index) => Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 1)) + index),
        }
    }
}

pub(super) fn node_name(node: u16) -> String {
    format!("n-{node:03}")
}

/// RFC 3339 of seconds since 1970, by days from civil (Howard Hinnant's algorithm).
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::{End, World, utc};
    use crate::load::Size;

    fn world(seed: u64) -> World {
        World::new(&Size { nodes: 154, pods: 4_000, edges: 12_000, seed, churn: 0 })
    }

    #[test]
    fn a_seed_is_a_cluster_of_the_size_asked_for() {
        let (one, same, other) = (world(7), world(7), world(8));
        assert_eq!((one.pods.len(), one.edges.len()), (4_000, 12_000));
        let names = |world: &World| world.pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&one), names(&same));
        assert_ne!(names(&one), names(&other));
        assert_eq!(one.edges.iter().filter(|edge| edge.lost > 0).count(), 1);
        assert!(one.edges.iter().any(|edge| matches!(edge.server, End::World(_))));
    }

    #[test]
    fn a_replaced_pod_is_another_with_edges_that_begin_anew() {
        let mut world = world(7);
        let before: Vec<_> = world.pods.iter().map(|pod| pod.address).collect();
        world.replace_pods(100);
        let changed = world.pods.iter().zip(&before).filter(|(pod, before)| pod.address != **before).count();
        assert!((90..=100).contains(&changed), "{changed}");
        assert_eq!(world.pods.len(), before.len());
    }

    #[test]
    fn times_are_written_as_kubernetes_does() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_795_233_127), "2026-11-21T03:52:07Z");
        assert_eq!(utc(1_709_164_800), "2024-02-29T00:00:00Z");
    }
}
