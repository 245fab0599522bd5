//! What a lab is to be: nodes, pods, offloads. Plain data, and the address plan that follows from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// MTU in all pods: leaves room for VXLAN over an underlay of 1500.
pub const POD_MTU: usize = 1450;

/// What the devices may do in place of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offloads {
    /// Segmentation, checksums and receive coalescing on.
    On,
    /// All off: one buffer is one packet everywhere.
    Off,
}

/// Whose names the devices have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cni {
    /// `veth…` and `vxlan0`.
    Plain,
    /// As Cilium's: `lxc…`, `cilium_vxlan`, and the pair `cilium_host` and `cilium_net`.
    Cilium,
}

impl Cni {
    /// How the host's ends of pods' devices begin.
    pub(crate) fn prefix(self) -> &'static str {
        if self == Self::Plain { "veth" } else { "lxc" }
    }

    /// The tunnel's device.
    pub(crate) fn tunnel(self) -> &'static str {
        if self == Self::Plain { "vxlan0" } else { "cilium_vxlan" }
    }
}

/// What a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A deployment's replica set; the pod's name carries its hash.
    Deployment(String),
    /// A stateful set.
    StatefulSet(String),
    /// A daemon set.
    DaemonSet(String),
}

impl Owner {
    /// Name of the workload.
    pub fn name(&self) -> &str {
        match self {
            Self::Deployment(name) | Self::StatefulSet(name) | Self::DaemonSet(name) => name,
        }
    }
}

/// What the pod list says about a pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Scheduled, not started.
    Pending,
    /// Up and ready.
    Running,
    /// Its container starts and dies, again and again.
    CrashLoop,
}

/// A pod to be made.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// Unique in the lab.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// What it belongs to.
    pub owner: Owner,
    /// On which node it runs.
    pub node: String,
}

impl PodSpec {
    /// A pod of a workload, on a node; deployments' pods get names like the real ones.
    pub fn new(namespace: &str, owner: Owner, index: usize, node: &str) -> Self {
        let name = match &owner {
            Owner::Deployment(name) => {
                format!("{name}-{}-{}", template_hash(name), suffix(name, index))
            }
            Owner::StatefulSet(name) => format!("{name}-{index}"),
            Owner::DaemonSet(name) => format!("{name}-{}", suffix(name, index)),
        };
        Self { name, namespace: namespace.to_owned(), owner, node: node.to_owned() }
    }
}

/// A service that names a workload's pods.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Its name; resolved as `name.namespace.svc.cluster.local`.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// The workload whose pods serve.
    pub workload: String,
    /// Its port.
    pub port: u16,
    /// A virtual address; none for a headless service.
    pub cluster_ip: Option<Ipv4Addr>,
}

/// A lab to be brought up.
#[derive(Debug, Clone)]
pub struct LabSpec {
    /// Nodes n1, n2, …; the first two are joined by VXLAN, the others by plain routing. At least 2, at most 9.
    pub nodes: usize,
    /// Offloads of every device.
    pub offloads: Offloads,
    /// The pods.
    pub pods: Vec<PodSpec>,
    /// The services.
    pub services: Vec<ServiceSpec>,
    /// The pod that answers DNS, if any: all pods ask it.
    pub dns_pod: Option<String>,
    /// Whose names the devices have.
    pub cni: Cni,
}

impl LabSpec {
    /// Three nodes with `pods` pods on each, called `p<node>-<number>`, in the namespace `lab`.
    pub fn plain(pods: usize, offloads: Offloads) -> Self {
        let nodes = 3;
        let pod = |node: usize, index: usize| PodSpec {
            name: format!("p{node}-{index}"),
            namespace: "lab".to_owned(),
            owner: Owner::StatefulSet(format!("p{node}")),
            node: format!("n{node}"),
        };
        let pods = (1..=nodes).flat_map(|node| (0..pods).map(move |index| pod(node, index))).collect();
        Self { nodes, offloads, pods, services: Vec::new(), dns_pod: None, cni: Cni::Plain }
    }
}

/// The external host's addresses.
pub const EXTERNAL: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10))];

/// The addresses of a node on the underlay.
pub(crate) fn node_addresses(node: usize) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(172, 30, small(node), 2), Ipv6Addr::new(0xfd30, small(node).into(), 0, 0, 0, 0, 0, 2))
}

/// The addresses of the `index`-th pod of a node.
pub(crate) fn pod_addresses(node: usize, index: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(10, small(node), 0, index), Ipv6Addr::new(0xfd00, small(node).into(), 0, 0, 0, 0, 0, index.into()))
}

/// A node's number as an address part; the spec allows nine.
fn small(node: usize) -> u8 {
    u8::try_from(node).unwrap_or(u8::MAX)
}

/// Letters that Kubernetes uses in generated names.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn letters(seed: u64, count: u32) -> String {
    let mut state = seed;
    let mut next = || {
        state = mix(state);
        char::from(SAFE[usize::try_from(state % SAFE.len() as u64).unwrap_or(0)])
    };
    (0..count).map(|_| next()).collect()
}

/// splitmix64: a fixed, well-spread function, so that names stay the same from run to run.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn seed(text: &str) -> u64 {
    text.bytes().fold(7, |seed, byte| mix(seed ^ u64::from(byte)))
}

/// The hash in the names of a deployment's pods.
pub(crate) fn template_hash(deployment: &str) -> String {
    letters(seed(deployment), 9)
}

fn suffix(workload: &str, index: usize) -> String {
    letters(seed(workload) ^ mix(index as u64 + 1), 5)
}

#[cfg(test)]
mod tests {
    use super::{Owner, PodSpec};

    #[test]
    fn names_look_like_the_real_ones_and_stay() {
        let pod = |index| PodSpec::new("shop", Owner::Deployment("cart".into()), index, "n1").name;
        assert_eq!(pod(0), pod(0));
        assert_ne!(pod(0), pod(1));
        assert_eq!(pod(0).split('-').map(str::len).collect::<Vec<_>>(), [4, 9, 5]);
        assert_eq!(PodSpec::new("shop", Owner::StatefulSet("ledger".into()), 0, "n1").name, "ledger-0");
    }
}
