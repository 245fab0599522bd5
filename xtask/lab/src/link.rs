//! The kernel's own counting, held against the ledger and against what agents report: nft counters per edge, device
//! statistics, and a link that drops a known share and knows how many.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::error::{Context, LabError, Result};
use crate::lab::Lab;
use crate::ledger::{Edge, Protocol};
use crate::sys::{nft, tool};

/// A table of its own for each installation: several may count in one namespace.
fn table_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("orrery_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What an nft counter says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matched {
    /// Packets.
    pub packets: u64,
    /// Bytes from the network header on.
    pub bytes: u64,
}

/// `ip saddr … ip daddr … udp dport …` for one way of an edge.
fn matches(edge: &Edge, forward: bool) -> String {
    let (from, to) = if forward { (edge.client, edge.server) } else { (edge.server, edge.client) };
    let family = if edge.server.is_ipv6() { "ip6" } else { "ip" };
    let transport = match (edge.protocol, forward) {
        (Protocol::Tcp | Protocol::Udp, true) => {
            format!("{} dport {}", edge.protocol.name(), edge.port)
        }
        (Protocol::Tcp | Protocol::Udp, false) => {
            format!("{} sport {}", edge.protocol.name(), edge.port)
        }
        (Protocol::Icmp, true) => "icmp type echo-request".to_owned(),
        (Protocol::Icmp, false) => "icmp type echo-reply".to_owned(),
        (Protocol::Icmpv6, true) => "icmpv6 type echo-request".to_owned(),
        (Protocol::Icmpv6, false) => "icmpv6 type echo-reply".to_owned(),
    };
    format!("{family} saddr {from} {family} daddr {to} {transport}")
}

fn read_counters(netns: &str, table: &str) -> Result<BTreeMap<String, Matched>> {
    let text = tool(
        Command::new("ip").args(["netns", "exec", netns, "nft", "-j", "list", "counters", "table", "inet", table]),
        "",
    )?;
    let list: Value = serde_json::from_str(&text).context(|| "read nft's counters".to_owned())?;
    let counters = list["nftables"].as_array().into_iter().flatten().filter_map(|item| {
        let counter = item.get("counter")?;
        Some((
            counter["name"].as_str()?.to_owned(),
            Matched { packets: counter["packets"].as_u64()?, bytes: counter["bytes"].as_u64()? },
        ))
    });
    Ok(counters.collect())
}

/// nft counters for edges, in the namespace of one end: what its stack sent and received. With offloads off a count is a packet.
#[derive(Debug)]
pub struct EdgeCounters {
    netns: String,
    table: String,
    edges: Vec<Edge>,
}

impl EdgeCounters {
    /// Starts to count the edges of the pod with this address.
    pub fn install(lab: &Lab, at: IpAddr, edges: &[Edge]) -> Result<Self> {
        let pods = lab.pods();
        let pod = pods.iter().find(|pod| pod.v4() == at || pod.v6() == at);
        let pod = pod.ok_or_else(|| LabError::Unknown { kind: "pod with address", name: at.to_string() })?;
        let (mut counters, mut sent, mut received) = (String::new(), String::new(), String::new());
        for (index, edge) in edges.iter().enumerate() {
            for (way, forward) in [("forward", true), ("reverse", false)] {
                let _ = writeln!(counters, "counter {way}{index} {{ }}");
                // A client's forward way leaves it, a server's forward way arrives.
                let chain = if (edge.client == at) == forward { &mut sent } else { &mut received };
                let _ = writeln!(chain, "{} counter name {way}{index}", matches(edge, forward));
            }
        }
        let table = table_name();
        let script = format!(
            "table inet {table} {{\n{counters}chain sent {{ type filter hook output priority 0;\n{sent}}}\n\
             chain received {{ type filter hook input priority 0;\n{received}}}\n}}\n"
        );
        let netns = pod.netns().name().to_owned();
        nft(&netns, &script)?;
        Ok(Self { netns, table, edges: edges.to_vec() })
    }

    /// Per edge: client to server, server to client.
    pub fn read(&self) -> Result<BTreeMap<Edge, (Matched, Matched)>> {
        let counters = read_counters(&self.netns, &self.table)?;
        let get = |way: &str, index: usize| counters.get(&format!("{way}{index}")).copied().unwrap_or_default();
        Ok(self
            .edges
            .iter()
            .enumerate()
            .map(|(index, edge)| (*edge, (get("forward", index), get("reverse", index))))
            .collect())
    }
}

/// A rule that drops a share of one edge's forward packets where its client's node forwards them.
#[derive(Debug)]
pub struct DroppingLink {
    netns: String,
    table: String,
    percent: u8,
    edge: Edge,
}

impl DroppingLink {
    /// Starts to drop `percent` of a hundred, at random.
    pub fn install(lab: &Lab, edge: Edge, percent: u8) -> Result<Self> {
        let pods = lab.pods();
        let pod = pods.iter().find(|pod| pod.v4() == edge.client || pod.v6() == edge.client);
        let pod = pod.ok_or_else(|| LabError::Unknown { kind: "pod with address", name: edge.client.to_string() })?;
        let link = Self { netns: lab.node(pod.node())?.name().to_owned(), table: table_name(), percent, edge };
        nft(&link.netns, &link.script())?;
        Ok(link)
    }

    fn script(&self) -> String {
        // nft has no way to say "less than 100 of 100".
        let share =
            if self.percent < 100 { format!("numgen random mod 100 < {}", self.percent) } else { String::new() };
        format!(
            "table inet {table} {{\ncounter passed {{ }}\ncounter dropped {{ }}\nchain forward {{ type filter hook forward priority 0;\n\
             {edge} {share} counter name dropped drop\n{edge} counter name passed\n}}\n}}\n",
            edge = matches(&self.edge, true),
            table = self.table
        )
    }

    /// What it dropped so far.
    pub fn dropped(&self) -> Result<Matched> {
        Ok(read_counters(&self.netns, &self.table)?.get("dropped").copied().unwrap_or_default())
    }

    /// What of the edge it let pass so far.
    pub fn passed(&self) -> Result<Matched> {
        Ok(read_counters(&self.netns, &self.table)?.get("passed").copied().unwrap_or_default())
    }

    /// Drops no more; the counter stays readable.
    pub fn heal(&self) -> Result<()> {
        nft(&self.netns, &format!("flush chain inet {} forward\n", self.table))
    }
}

/// A device's `stats64`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Buffers received: for a pod's host-side device, what the pod sent.
    pub rx_packets: u64,
    /// Their bytes, with the link header.
    pub rx_bytes: u64,
    /// Buffers sent: to the pod.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Buffers that the receiving side gave up.
    pub rx_dropped: u64,
    /// Buffers that the sending side gave up.
    pub tx_dropped: u64,
}

impl Lab {
    /// Every device of a node with its `stats64`, as rtnetlink gives them.
    pub fn device_stats(&self, node: &str) -> Result<BTreeMap<String, DeviceStats>> {
        let text = tool(Command::new("ip").args(["-n", self.node(node)?.name(), "-j", "-s", "link"]), "")?;
        let list: Value = serde_json::from_str(&text).context(|| "read ip's statistics".to_owned())?;
        let devices = list.as_array().into_iter().flatten().filter_map(|item| {
            let number = |way: &str, name: &str| item["stats64"][way][name].as_u64().unwrap_or(0);
            let stats = DeviceStats {
                rx_packets: number("rx", "packets"),
                rx_bytes: number("rx", "bytes"),
                tx_packets: number("tx", "packets"),
                tx_bytes: number("tx", "bytes"),
                rx_dropped: number("rx", "dropped"),
                tx_dropped: number("tx", "dropped"),
            };
            Some((item["ifname"].as_str()?.to_owned(), stats))
        });
        Ok(devices.collect())
    }
}
