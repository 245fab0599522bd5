//! What the collector says at the end, held against the ledger, nft's counters and the devices' own statistics.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use lab::{Collector, Edge, Lab, Pod, Protocol, Totals};
use serde_json::Value;

/// Client, server, port and protocol, as the graph by pod names them.
type Name = (String, String, u64, String);

/// What was found: how much held, and what did not.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) held: usize,
    pub(super) broken: Vec<String>,
}

impl Finding {
    fn hold(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if holds {
            self.held += 1;
        } else {
            self.broken.push(what());
        }
    }
}

/// All that is held against something.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Sides of edges at the node whose agent lived through all of it: equal to the ledger.
    pub(super) exact: Finding,
    /// Sides at the others: no more than the ledger, so nothing counted twice.
    pub(super) bounded: Finding,
    /// Devices and directions: seen + unseen = what the kernel carried.
    pub(super) devices: Finding,
    /// Edges without loss show none, and the others no more than nft dropped.
    pub(super) loss: Finding,
}

impl Verdict {
    /// Nothing is broken.
    pub(super) fn holds(&self) -> bool {
        [&self.exact, &self.bounded, &self.devices, &self.loss].iter().all(|finding| finding.broken.is_empty())
    }
}

/// What is expected beside the ledger.
pub(super) struct Known<'a> {
    /// The node whose agent was never ended.
    pub(super) spared: &'a str,
    /// The edge whose link dropped packets.
    pub(super) lossy: Edge,
    /// How many it dropped.
    pub(super) dropped: lab::Matched,
}

/// Asks the collector, once.
pub(super) fn ask(lab: &Lab, collector: &Collector, known: &Known<'_>) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    // First what was carried: a counter that grows meanwhile would be ahead of what was told.
    let devices = collector.get("/api/v1/devices")?.json().context("read the devices")?;
    accounts(lab, &devices, &mut verdict.devices)?;
    edges(lab, &collector.graph("pod")?, known, &mut verdict)?;
    Ok(verdict)
}

fn edges(lab: &Lab, graph: &Value, known: &Known<'_>, verdict: &mut Verdict) -> anyhow::Result<()> {
    let pods = lab.pods();
    let of = |address: IpAddr| pods.iter().find(|pod| pod.v4() == address || pod.v6() == address);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told: BTreeMap<Name, &Value> = BTreeMap::new();
    for edge in graph["edges"].as_array().into_iter().flatten().filter(|edge| edge["tunnel"].is_null()) {
        let port = edge["port"].as_u64().unwrap_or(0);
        let name = (text(&edge["client"]), text(&edge["server"]), port, text(&edge["protocol"]));
        let words = format!("{name:?}: there twice");
        verdict.bounded.hold(told.insert(name, edge).is_none(), || words);
    }
    for (edge, totals) in lab.ledger()?.iter() {
        let (client, server) = (of(edge.client), of(edge.server));
        let (client, server) = client.zip(server).context("an address of the ledger is no pod's")?;
        let id = |pod: &Pod| format!("pod:{}/{}", pod.namespace(), pod.name());
        let name = (id(client), id(server), u64::from(edge.port), edge.protocol.name().to_owned());
        let row = told.remove(&name);
        let row = row.unwrap_or(&Value::Null);
        let lossy = *edge == known.lossy;
        for (side, pod) in [("client_side", client), ("server_side", server)] {
            let mut wanted = *totals;
            if lossy && side == "server_side" {
                less(&mut wanted, known.dropped);
            }
            let spared = pod.node() == known.spared;
            let found = differences(&row[side], edge.protocol, &wanted, spared);
            let finding = if spared { &mut verdict.exact } else { &mut verdict.bounded };
            finding.hold(found.is_empty(), || format!("{name:?} {side}: {}", found.join(", ")));
        }
        let lost = |way: &str| row["loss"][way].as_u64().unwrap_or(0);
        let most = if lossy { known.dropped.packets } else { 0 };
        let shown = (lost("forward_lost"), lost("reverse_lost"));
        verdict.loss.hold(shown.0 <= most && shown.1 == 0, || format!("{name:?}: shows {shown:?}, nft dropped {most}"));
    }
    for name in told.keys() {
        verdict.bounded.broken.push(format!("{name:?}: seen, but never sent"));
    }
    Ok(())
}

/// Takes away what nft dropped: it counts from the network header on, of IPv4 without options and UDP.
fn less(totals: &mut Totals, dropped: lab::Matched) {
    totals.forward.packets = totals.forward.packets.saturating_sub(dropped.packets);
    let payload = dropped.bytes.saturating_sub(dropped.packets * 28);
    totals.forward.payload_bytes = totals.forward.payload_bytes.saturating_sub(payload);
}

/// What is wrong with one side, in words: it has to be equal, or no more.
fn differences(side: &Value, protocol: Protocol, totals: &Totals, exactly: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut hold = |what: String, told: &Value, wanted: u64| {
        let fits = match told.as_u64() {
            Some(told) => told == wanted || (!exactly && told < wanted),
            None => !exactly,
        };
        if !fits {
            wrong.push(format!("{what} {told}, ledger {wanted}"));
        }
    };
    for (way, sent) in [("forward", &totals.forward), ("reverse", &totals.reverse)] {
        hold(format!("{way} payload bytes"), &side[way]["payload_bytes"], sent.wire_payload_bytes());
        if protocol != Protocol::Tcp {
            hold(format!("{way} packets"), &side[way]["skbs"], sent.packets);
        }
    }
    if protocol == Protocol::Tcp {
        hold("connections".to_owned(), &side["established"], totals.connections);
    }
    wrong
}

fn accounts(lab: &Lab, told: &Value, finding: &mut Finding) -> anyhow::Result<()> {
    let pods: Vec<Arc<Pod>> = lab.pods();
    for node in lab.nodes() {
        let carried = lab.device_stats(&node)?;
        for pod in pods.iter().filter(|pod| pod.node() == node) {
            let stats = carried.get(pod.device()).copied().unwrap_or_default();
            let ways = [("ingress", stats.rx_packets, stats.rx_bytes), ("egress", stats.tx_packets, stats.tx_bytes)];
            for (direction, packets, bytes) in ways {
                let row = told.as_array().into_iter().flatten().find(|row| {
                    row["node"] == *node && row["device"] == *pod.device() && row["direction"] == direction
                });
                let row = row.unwrap_or(&Value::Null);
                let number = |name: &str| row[name].as_u64().unwrap_or(0);
                let sums = (number("seen_skbs") + number("unseen_skbs"), number("seen_bytes") + number("unseen_bytes"));
                finding.hold(sums == (packets, bytes) && row["unaccounted_skbs"] == 0, || {
                    format!("{node} {} {direction}: carried {packets} packets, {bytes} bytes: {row}", pod.device())
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lab::{Protocol, Totals};
    use serde_json::{Value, json};

    use super::{differences, less};

    fn side(packets: u64, bytes: u64) -> Value {
        let way = |packets: u64, bytes: u64| json!({ "skbs": packets, "payload_bytes": bytes });
        json!({ "forward": way(packets, bytes), "reverse": way(0, 0) })
    }

    #[test]
    fn a_side_is_equal_or_at_least_not_more() {
        let mut totals = Totals::default();
        (totals.forward.packets, totals.forward.payload_bytes) = (10, 500);
        let wrong = |side: &Value, exactly| differences(side, Protocol::Udp, &totals, exactly).len();
        assert_eq!([wrong(&side(10, 500), true), wrong(&side(10, 500), false)], [0, 0]);
        assert_eq!([wrong(&side(9, 450), true), wrong(&side(9, 450), false)], [2, 0]);
        assert_eq!([wrong(&side(11, 500), true), wrong(&side(11, 500), false)], [1, 1], "counted twice");
        assert_eq!([wrong(&Value::Null, true), wrong(&Value::Null, false)], [4, 0], "not there");
    }

    #[test]
    fn what_was_dropped_did_not_arrive() {
        let mut totals = Totals::default();
        (totals.forward.packets, totals.forward.payload_bytes) = (10, 1_500);
        less(&mut totals, lab::Matched { packets: 2, bytes: 2 * (150 + 28) });
        assert_eq!((totals.forward.packets, totals.forward.payload_bytes), (8, 1_200));
    }
}
