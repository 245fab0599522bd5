//! The topology: a fabric that routes, nodes on it, VXLAN between the first two, pods behind veth pairs. Addresses and
//! neighbours are static, so the only packets are the ones somebody sends.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use crate::error::Result;
use crate::spec::{Cni, EXTERNAL, Offloads, POD_MTU, node_addresses, pod_addresses};
use crate::sys::{Netns, ip_batch, tool};

const UNDERLAY_MTU: usize = 1500;
const VXLAN_PORT: u16 = 8472;
const VXLAN_ID: u32 = 77;

/// Settings of every namespace, before it has devices. Duplicate address detection and router solicitation off: they delay
/// and chatter. What groups a device is in is told at once, or it would be told seconds later, amid what is
/// counted. Ping sockets for everybody. No reverse-path filter: two nodes are reached over a tunnel.
const SYSCTLS: [(&str, &str); 11] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/mldv1_unsolicited_report_interval", "1"),
    ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
];

/// A namespace's name in this lab.
pub(crate) fn netns_name(id: &str, what: &str) -> String {
    format!("orrery-{id}-{what}")
}

/// A pod's place in the network.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) node: usize,
    pub(crate) index: u8,
    /// Host side of its veth pair.
    pub(crate) device: String,
    pub(crate) netns: String,
}

impl Place {
    pub(crate) fn addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        pod_addresses(self.node, self.index)
    }
}

/// A locally administered address; `kind` says which end.
fn mac(kind: u8, node: usize, index: u8) -> String {
    format!("02:00:00:{kind:02x}:{node:02x}:{index:02x}")
}

const FABRIC_END: u8 = 1;
const NODE_END: u8 = 2;
const VXLAN_END: u8 = 3;
const HOST_END: u8 = 4;
const POD_END: u8 = 5;

/// Makes namespaces and sets what must be set before their devices come.
pub(crate) fn make_namespaces(names: &[String]) -> Result<Vec<Netns>> {
    let lines: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
    ip_batch(None, &lines)?;
    names
        .iter()
        .map(|name| {
            let netns = Netns::open(name)?;
            netns.sysctl(&SYSCTLS)?;
            Ok(netns)
        })
        .collect()
}

/// Fabric, nodes and the external host, without pods.
pub(crate) fn make_underlay(id: &str, nodes: usize, offloads: Offloads, cni: Cni) -> Result<Vec<Netns>> {
    let fabric = netns_name(id, "fabric");
    let external = netns_name(id, "external");
    let names: Vec<String> = [fabric.clone(), external.clone()]
        .into_iter()
        .chain((1..=nodes).map(|node| netns_name(id, &format!("n{node}"))))
        .collect();
    let namespaces = make_namespaces(&names)?;
    let mut lines = "link set lo up\n".to_owned();
    link(
        &mut lines,
        "external",
        &external,
        0,
        [("192.0.2.1/24", "2001:db8::1/64"), (&EXTERNAL[0].to_string(), &EXTERNAL[1].to_string())],
    );
    for node in 1..=nodes {
        let (v4, v6) = node_addresses(node);
        let ours = (format!("172.30.{node}.1/24"), format!("fd30:{node}::1/64"));
        link(
            &mut lines,
            &format!("n{node}"),
            &netns_name(id, &format!("n{node}")),
            node,
            [(&ours.0, &ours.1), (&v4.to_string(), &v6.to_string())],
        );
        let _ = writeln!(lines, "route add 10.{node}.0.0/24 via {v4}\nroute add fd00:{node}::/64 via {v6}");
    }
    ip_batch(Some(&fabric), &lines)?;
    let end = |node: usize, v4: &str, v6: &str, gateways: [&str; 2]| {
        let mac = mac(FABRIC_END, node, 0);
        let [gateway, gateway6] = gateways;
        format!(
            "link set lo up\naddr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\n\
             neigh replace {gateway} lladdr {mac} dev eth0 nud permanent\nneigh replace {gateway6} lladdr {mac} dev eth0 nud permanent\n\
             route add default via {gateway}\nroute add default via {gateway6}\n"
        )
    };
    ip_batch(
        Some(&external),
        &end(0, &EXTERNAL[0].to_string(), &EXTERNAL[1].to_string(), ["192.0.2.1", "2001:db8::1"]),
    )?;
    set_offloads(&external, &["eth0"], offloads)?;
    let mut fabric_devices = vec!["external".to_owned()];
    for node in 1..=nodes {
        let (v4, v6) = node_addresses(node);
        let mut lines =
            end(node, &v4.to_string(), &v6.to_string(), [&format!("172.30.{node}.1"), &format!("fd30:{node}::1")]);
        if node <= 2 {
            lines += &vxlan(cni.tunnel(), node, 3 - node);
        }
        if cni == Cni::Cilium {
            lines += "link add cilium_host type veth peer name cilium_net\nlink set cilium_host up\nlink set cilium_net up\n";
        }
        let name = netns_name(id, &format!("n{node}"));
        ip_batch(Some(&name), &lines)?;
        if node <= 2 {
            tool(Command::new("bridge").args(["-n", &name, "-batch", "-"]), &forwarding(cni.tunnel(), 3 - node))?;
            set_offloads(&name, &["eth0", cni.tunnel()], offloads)?;
        } else {
            set_offloads(&name, &["eth0"], offloads)?;
        }
        fabric_devices.push(format!("n{node}"));
    }
    let devices: Vec<&str> = fabric_devices.iter().map(String::as_str).collect();
    set_offloads(&fabric, &devices, offloads)?;
    Ok(namespaces)
}

/// A veth pair from the fabric to the namespace `to`, where it is `eth0`; the far side's addresses are neighbours from the start.
fn link(lines: &mut String, device: &str, to: &str, node: usize, addresses: [(&str, &str); 2]) {
    let [(v4, v6), (peer4, peer6)] = addresses;
    let (mac, peer_mac) = (mac(FABRIC_END, node, 0), mac(NODE_END, node, 0));
    // Nodes carry VXLAN around what pods send; the external host (0) keeps to the pods' MTU, so that nobody in between has to
    // fragment and the sender's count of packets is everybody's.
    let mtu = if node == 0 { POD_MTU } else { UNDERLAY_MTU };
    let _ = write!(
        lines,
        "link add {device} mtu {mtu} address {mac} type veth peer name eth0 mtu {mtu} address {peer_mac} netns {to}\n\
         addr add {v4} dev {device}\naddr add {v6} dev {device} nodad\nlink set {device} up\n\
         neigh replace {peer4} lladdr {peer_mac} dev {device} nud permanent\nneigh replace {peer6} lladdr {peer_mac} dev {device} nud permanent\n"
    );
}

/// The tunnel from `node` to `peer`, flannel's way: one next hop per peer, whose hardware address the forwarding table knows.
fn vxlan(device: &str, node: usize, peer: usize) -> String {
    let (local, _) = node_addresses(node);
    let (own_mac, peer_mac) = (mac(VXLAN_END, node, 0), mac(VXLAN_END, peer, 0));
    format!(
        "link add {device} mtu {POD_MTU} address {own_mac} type vxlan id {VXLAN_ID} dstport {VXLAN_PORT} local {local} nolearning\n\
         link set {device} up\naddr add 10.{node}.0.0/32 dev {device}\naddr add fd00:{node}::/128 dev {device} nodad\n\
         neigh replace 10.{peer}.0.0 lladdr {peer_mac} dev {device} nud permanent\nneigh replace fd00:{peer}:: lladdr {peer_mac} dev {device} nud permanent\n\
         route add 10.{peer}.0.0/24 via 10.{peer}.0.0 dev {device} onlink\nroute add fd00:{peer}::/64 via fd00:{peer}:: dev {device} onlink\n"
    )
}

fn forwarding(device: &str, peer: usize) -> String {
    let (remote, _) = node_addresses(peer);
    format!("fdb replace {} dev {device} dst {remote} self permanent\n", mac(VXLAN_END, peer, 0))
}

/// Veth pairs and routes for pods whose namespaces exist. The pods of one node are made in one go.
pub(crate) fn plug(node_netns: &str, pods: &[Place], offloads: Offloads) -> Result<()> {
    let mut lines = String::new();
    for pod in pods {
        let (v4, v6) = pod.addresses();
        let Place { device, netns, node, index } = pod;
        let (host_mac, pod_mac) = (mac(HOST_END, *node, *index), mac(POD_END, *node, *index));
        let _ = write!(
            lines,
            "link add {device} mtu {POD_MTU} address {host_mac} type veth peer name eth0 mtu {POD_MTU} address {pod_mac} netns {netns}\n\
             link set {device} up\nroute add {v4} dev {device}\nroute add {v6} dev {device}\n\
             neigh replace {v4} lladdr {pod_mac} dev {device} nud permanent\nneigh replace {v6} lladdr {pod_mac} dev {device} nud permanent\n"
        );
    }
    ip_batch(Some(node_netns), &lines)?;
    for pod in pods {
        let (v4, v6) = pod.addresses();
        let host_mac = mac(HOST_END, pod.node, pod.index);
        // The gateways exist as neighbours only, as with Calico: the host's side needs no address.
        let lines = format!(
            "link set lo up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\nlink set eth0 up\n\
             neigh replace 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent\nneigh replace fe80::1 lladdr {host_mac} dev eth0 nud permanent\n\
             route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1 dev eth0\nroute add default via fe80::1 dev eth0\n"
        );
        ip_batch(Some(&pod.netns), &lines)?;
        set_offloads(&pod.netns, &["eth0"], offloads)?;
    }
    let devices: Vec<&str> = pods.iter().map(|pod| pod.device.as_str()).collect();
    set_offloads(node_netns, &devices, offloads)
}

pub(crate) fn set_offloads(netns: &str, devices: &[&str], offloads: Offloads) -> Result<()> {
    let (state, features) = match offloads {
        Offloads::On => ("on", "gso tso gro"),
        Offloads::Off => ("off", "gso tso gro tx rx sg"),
    };
    let settings: String = features.split(' ').map(|feature| format!(" {feature} {state}")).collect();
    let script: String = devices.iter().map(|device| format!("ethtool -K {device}{settings}\n")).collect();
    tool(Command::new("ip").args(["netns", "exec", netns, "sh", "-e"]), &script).map(drop)
}
