//! The lab itself: brings up what a spec says, adds and removes pods, keeps the pod list true, and takes all of it away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cgroup;
use crate::cluster_ip::ClusterIp;
use crate::error::{Context, LabError, Result};
use crate::handle::Pod;
use crate::ledger::Ledger;
use crate::net::{Place, make_namespaces, make_underlay, netns_name, plug, set_offloads};
use crate::pod_list::{self, Listed, timestamp, uid};
use crate::run_dir::RunDir;
use crate::spawn::{Home, Process, Spawner};
use crate::spec::{EXTERNAL, LabSpec, Offloads, POD_MTU, Phase, PodSpec, ServiceSpec, mix, node_addresses, seed};
use crate::sys::{Netns, binary, ip_batch, require_root};

/// First and last host number that pods get in their node's network.
const POD_NUMBERS: std::ops::RangeInclusive<u8> = 2..=250;

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, Arc<Pod>>,
    host_pods: Vec<Arc<Pod>>,
    listed: BTreeMap<String, Listed>,
    /// Last number given, per node: numbers come round late, as with a real CNI.
    numbers: BTreeMap<usize, u8>,
    made: u64,
    /// What removed pods had sent.
    retired: Ledger,
    cluster_ips: Vec<ClusterIp>,
}

/// A running lab. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: processes first, then what they live in.
    state: Mutex<State>,
    external: Option<Arc<Pod>>,
    spawner: Spawner,
    nodes: Vec<Netns>,
    fabric: Netns,
    services: Vec<ServiceSpec>,
    spec: LabSpec,
    created: String,
    binary: PathBuf,
    run: RunDir,
}

impl Lab {
    /// Brings a lab up; on failure, or when dropped, nothing of it is left.
    pub fn up(spec: LabSpec) -> Result<Self> {
        require_root()?;
        if !(2..=9).contains(&spec.nodes) {
            return Err(LabError::Unknown { kind: "lab of so many nodes (2 to 9)", name: spec.nodes.to_string() });
        }
        let binary = binary("orrery-lab")?;
        let run = RunDir::create(&binary)?;
        let mut namespaces = make_underlay(run.id(), spec.nodes, spec.offloads, spec.cni)?.into_iter();
        let (fabric, external) = match (namespaces.next(), namespaces.next()) {
            (Some(fabric), Some(external)) => (fabric, external),
            _ => {
                return Err(LabError::Unknown { kind: "namespace", name: "fabric".to_owned() });
            }
        };
        let mut lab = Self {
            state: Mutex::default(),
            external: None,
            spawner: Spawner::start(),
            nodes: namespaces.collect(),
            fabric,
            services: spec.services.clone(),
            created: now(),
            binary,
            run,
            spec,
        };
        let process = lab.start_pod_process("external", &external, EXTERNAL.to_vec(), Home::default())?;
        let socket = lab.socket("external");
        lab.external = Some(Arc::new(Pod::external(external, socket, process)));
        let pods = lab.spec.pods.clone();
        lab.add_pods(&pods)?;
        lab.external()?.wait_ready()?;
        Ok(lab)
    }

    /// Short name of this lab; its namespaces are `orrery-<id>-…`.
    pub fn id(&self) -> &str {
        self.run.id()
    }

    /// Where logs, sockets and the pod list are.
    pub fn dir(&self) -> &Path {
        self.run.path()
    }

    /// The pod list's file.
    pub fn pod_list(&self) -> PathBuf {
        self.dir().join("pods.json")
    }

    /// The nodes' names.
    pub fn nodes(&self) -> Vec<String> {
        (1..=self.spec.nodes).map(|node| format!("n{node}")).collect()
    }

    /// A node's namespace.
    pub fn node(&self, name: &str) -> Result<&Netns> {
        let number = self.node_number(name)?;
        self.nodes.get(number - 1).ok_or_else(|| LabError::Unknown { kind: "node", name: name.to_owned() })
    }

    /// The subtree of cgroup v2 that a node's pods live in; `None` where the machine has no v2 hierarchy.
    pub fn node_cgroup(&self, name: &str) -> Option<PathBuf> {
        cgroup::node(self.id(), name)
    }

    /// The router between the nodes.
    pub fn fabric(&self) -> &Netns {
        &self.fabric
    }

    /// The host outside the cluster, which takes the same requests as a pod.
    pub fn external(&self) -> Result<&Arc<Pod>> {
        self.external.as_ref().ok_or_else(|| LabError::Unknown { kind: "pod", name: "external".to_owned() })
    }

    /// A pod by its name.
    pub fn pod(&self, name: &str) -> Result<Arc<Pod>> {
        self.state().pods.get(name).cloned().ok_or_else(|| LabError::Unknown { kind: "pod", name: name.to_owned() })
    }

    /// All pods, by name.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.state().pods.values().cloned().collect()
    }

    /// Switches the offloads of every device, in mid-life.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<()> {
        let (pods, nodes) = (self.pods(), self.nodes());
        let own: Vec<&str> = nodes.iter().map(String::as_str).chain(["external"]).collect();
        set_offloads(self.fabric.name(), &own, offloads)?;
        for (index, (netns, node)) in self.nodes.iter().zip(&nodes).enumerate() {
            // The first two are joined by a tunnel.
            let tunnel = (index < 2).then(|| self.spec.cni.tunnel());
            let theirs = pods.iter().filter(|pod| pod.node() == node.as_str()).map(|pod| pod.device());
            let devices: Vec<&str> = ["eth0"].into_iter().chain(tunnel).chain(theirs).collect();
            set_offloads(netns.name(), &devices, offloads)?;
        }
        pods.iter().chain(&self.external).try_for_each(|pod| set_offloads(pod.netns().name(), &["eth0"], offloads))
    }

    /// Makes pods: listed as pending, then made, then listed as running.
    pub fn add_pods(&self, specs: &[PodSpec]) -> Result<Vec<Arc<Pod>>> {
        let places = specs.iter().map(|spec| self.list(spec)).collect::<Result<Vec<_>>>()?;
        self.write_list()?;
        let names: Vec<String> = places.iter().map(|place| place.netns.clone()).collect();
        let namespaces = make_namespaces(&names)?;
        for (index, node) in self.nodes.iter().enumerate() {
            let here: Vec<Place> = places.iter().filter(|place| place.node == index + 1).cloned().collect();
            if !here.is_empty() {
                plug(node.name(), &here, self.spec.offloads)?;
            }
        }
        let mut pods = Vec::new();
        for ((spec, place), netns) in specs.iter().zip(places).zip(namespaces) {
            let (v4, v6) = place.addresses();
            let uid = self.state().listed.get(&spec.name).map(|pod| pod.uid.clone()).unwrap_or_default();
            let cgroup = cgroup::pod(self.id(), &spec.node, &uid)?;
            let home = Home { resolver: self.resolver(&spec.namespace)?, cgroup: cgroup.clone(), netns: None };
            let process = self.start_pod_process(&spec.name, &netns, vec![v4.into(), v6.into()], home)?;
            let pod = Arc::new(Pod::new(spec, place, netns, self.socket(&spec.name), process, cgroup));
            self.state().pods.insert(spec.name.clone(), Arc::clone(&pod));
            pods.push(pod);
        }
        for pod in &pods {
            pod.wait_ready()?;
        }
        self.set_phase(specs.iter().map(|spec| spec.name.as_str()), Phase::Running)?;
        Ok(pods)
    }

    /// Makes a pod in its node's own namespace, under the node's addresses: it has no device, and is not among [`Self::pods`].
    pub fn add_host_pod(&self, spec: &PodSpec) -> Result<Arc<Pod>> {
        let addresses = node_addresses(self.node_number(&spec.node)?);
        let netns = Netns::open(self.node(&spec.node)?.name())?;
        let uid = uid(&format!("{}/host/{}", self.id(), spec.name));
        let cgroup = cgroup::pod(self.id(), &spec.node, &uid)?;
        let home = Home { resolver: self.resolver(&spec.namespace)?, cgroup: cgroup.clone(), netns: None };
        let (v4, v6) = (addresses.0.into(), addresses.1.into());
        let process = self.start_pod_process(&spec.name, &netns, vec![v4, v6], home)?;
        let pod = Arc::new(Pod::host(spec, addresses, netns, self.socket(&spec.name), process, cgroup));
        let listed = Listed {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            uid,
            owner: spec.owner.clone(),
            node: spec.node.clone(),
            host_ip: addresses.0,
            addresses: vec![v4, v6],
            host_network: true,
            phase: Phase::Running,
            created: now(),
        };
        let mut state = self.state();
        state.listed.insert(spec.name.clone(), listed);
        state.host_pods.push(Arc::clone(&pod));
        drop(state);
        pod.wait_ready()?;
        self.write_list()?;
        Ok(pod)
    }

    /// Removes a pod: its process, device, namespace, and its line in the list. What it sent stays in the ledger.
    pub fn remove_pod(&self, name: &str) -> Result<()> {
        let pod = self.pod(name)?;
        let sent = pod.ledger()?;
        pod.stop();
        let node = self.node(pod.node())?;
        ip_batch(Some(node.name()), &format!("link del {}\n", pod.device()))?;
        ip_batch(None, &format!("netns del {}\n", pod.netns().name()))?;
        if let Some(cgroup) = pod.cgroup().and_then(Path::parent) {
            cgroup::remove_tree(cgroup);
        }
        let mut state = self.state();
        state.retired.merge(&sent);
        state.pods.remove(name);
        state.listed.remove(name);
        drop(state);
        self.write_list()
    }

    /// Changes what the list says about pods, and rewrites it.
    pub fn set_phase<'a>(&self, names: impl IntoIterator<Item = &'a str>, phase: Phase) -> Result<()> {
        let mut state = self.state();
        for name in names {
            if let Some(pod) = state.listed.get_mut(name) {
                pod.phase = phase;
            }
        }
        drop(state);
        self.write_list()
    }

    /// What everybody sent, pods that are gone included.
    pub fn ledger(&self) -> Result<Ledger> {
        let mut ledger = self.state().retired.clone();
        for pod in self.pods().iter().chain(&self.external) {
            ledger.merge(&pod.ledger()?);
        }
        Ok(ledger)
    }

    /// Starts a program in a namespace of this lab, with its output in `<name>.log`.
    pub fn start(&self, name: &str, command: Command, netns: Option<&Netns>) -> Result<Process> {
        let home = Home { netns: netns.map(Netns::file).transpose()?, ..Home::default() };
        self.start_in(name, command, home)
    }

    fn start_in(&self, name: &str, command: Command, home: Home) -> Result<Process> {
        let process = self.spawner.spawn(command, home, &self.dir().join(format!("{name}.log")))?;
        self.run.record(process.pid())?;
        Ok(process)
    }

    fn start_pod_process(&self, name: &str, netns: &Netns, addresses: Vec<IpAddr>, home: Home) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.arg("pod").arg(self.socket(name)).args(["--mtu", &POD_MTU.to_string()]);
        command.args(addresses.iter().map(ToString::to_string));
        self.start_in(name, command, Home { netns: Some(netns.file()?), ..home })
    }

    fn socket(&self, pod: &str) -> PathBuf {
        self.dir().join(format!("{pod}.sock"))
    }

    fn node_number(&self, name: &str) -> Result<usize> {
        let number = name.strip_prefix('n').and_then(|number| number.parse().ok());
        number
            .filter(|number| (1..=self.spec.nodes).contains(number))
            .ok_or_else(|| LabError::Unknown { kind: "node", name: name.to_owned() })
    }

    /// Gives a pod its place and lists it as pending.
    fn list(&self, spec: &PodSpec) -> Result<Place> {
        let node = self.node_number(&spec.node)?;
        let mut state = self.state();
        if state.listed.contains_key(&spec.name) {
            return Err(LabError::Unknown { kind: "free pod name", name: spec.name.clone() });
        }
        state.made += 1;
        let made = state.made;
        let taken: Vec<u8> =
            state.pods.values().filter(|pod| pod.node() == spec.node).map(|pod| pod.number()).collect();
        let last = state.numbers.entry(node).or_insert(*POD_NUMBERS.start() - 1);
        let after = *last;
        let next = POD_NUMBERS.cycle_after(after).find(|number| !taken.contains(number));
        let index = next.ok_or_else(|| LabError::Unknown { kind: "free address on node", name: spec.node.clone() })?;
        *last = index;
        let place = Place {
            node,
            index,
            device: format!("{}{:08x}", self.spec.cni.prefix(), (seed(&spec.name) ^ mix(made)) & 0xffff_ffff),
            netns: netns_name(self.id(), &format!("{}-p{made}-{}", spec.node, spec.name)),
        };
        let (v4, v6) = place.addresses();
        let listed = Listed {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            uid: uid(&format!("{}/{}/{made}", self.id(), spec.name)),
            owner: spec.owner.clone(),
            node: spec.node.clone(),
            host_ip: node_addresses(node).0,
            addresses: vec![v4.into(), v6.into()],
            host_network: false,
            phase: Phase::Pending,
            created: now(),
        };
        state.listed.insert(spec.name.clone(), listed);
        Ok(place)
    }

    fn write_list(&self) -> Result<()> {
        let state = self.state();
        let pods: Vec<Listed> = state.listed.values().cloned().collect();
        // Under the lock: two writers must not replace the list in the wrong order.
        pod_list::write(&self.pod_list(), &pods, &self.services, self.spec.nodes, &self.created)
    }

    pub(crate) fn cluster_ips(&self) -> Vec<ClusterIp> {
        self.state().cluster_ips.clone()
    }

    pub(crate) fn remember_cluster_ip(&self, service: ClusterIp) {
        self.state().cluster_ips.push(service);
    }

    /// The resolver file of a Kubernetes namespace, when the lab has a DNS server.
    fn resolver(&self, namespace: &str) -> Result<Option<PathBuf>> {
        let Some(server) = &self.spec.dns_pod else {
            return Ok(None);
        };
        let address = self.state().listed.get(server).and_then(|pod| pod.addresses.first().copied());
        let address = address.ok_or_else(|| LabError::Unknown { kind: "dns pod", name: server.clone() })?;
        let path = self.dir().join(format!("resolv-{namespace}.conf"));
        if !path.exists() {
            let text = format!(
                "nameserver {address}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:1\n"
            );
            std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        }
        Ok(Some(path))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pod numbers from the one after `last`, once round.
trait CycleAfter {
    fn cycle_after(&self, last: u8) -> impl Iterator<Item = u8>;
}

impl CycleAfter for std::ops::RangeInclusive<u8> {
    fn cycle_after(&self, last: u8) -> impl Iterator<Item = u8> {
        (last.saturating_add(1)..=*self.end()).chain(*self.start()..=last.min(*self.end()))
    }
}

fn now() -> String {
    timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
