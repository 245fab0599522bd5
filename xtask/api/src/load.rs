//! A cluster's life with a ledger: pods that hand their address on within a second, traffic between them, what the API says
//! of it, and what agents report of it. Made in advance from a seed; who plays it decides how late everything is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};
use wire::v1::{ClockOffset, Counters, Edge, Point, Report};

use crate::namespaced;

/// Nanoseconds since the Unix epoch.
pub type Ns = i64;

const MS: Ns = 1_000_000;
const SECOND: Ns = 1_000 * MS;
/// A pod that was just replaced is left alone for this long.
const LEAST_LIFE: Ns = 8 * SECOND;
/// Between two packets of an edge.
const PERIOD: Ns = 700 * MS;
/// All edges' server port.
const PORT: u32 = 8080;

/// How large, how lively, how late.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Pods at any time.
    pub pods: usize,
    /// Edges at any time.
    pub edges: usize,
    /// Pods replaced a second; each is four changes of the API.
    pub replaced_per_second: usize,
    /// For this long, in seconds.
    pub seconds: i64,
    /// Agents report this often, in milliseconds.
    pub tick_ms: i64,
    /// Reports come up to this much later, in milliseconds.
    pub late_ms: i64,
    /// When it begins.
    pub start: Ns,
    /// Everything else.
    pub seed: u64,
}

/// What the API is told, and when.
#[derive(Debug, Clone)]
pub enum Api {
    /// This object is so from now on.
    Put(Value),
    /// This object is gone.
    Delete(Value),
}

/// Who talked to whom: client and server as `namespace/name`.
pub type Pair = (String, String);

/// The whole of it.
#[derive(Debug)]
pub struct Life {
    /// What the API says at the start.
    pub first: Vec<Value>,
    /// Then, by time.
    pub api: Vec<(Ns, Api)>,
    /// Reports by the time they come.
    pub reports: Vec<(Ns, Report)>,
    /// Every pair that exchanged a packet.
    pub ledger: BTreeSet<Pair>,
    /// Rows whose far end was more than one pod in turn: of their totals nobody can say whose they are.
    pub spanning: usize,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*: good enough, and the same everywhere.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap_or(0) % bound.max(1)
    }

    fn ms(&mut self, below: i64) -> Ns {
        Ns::try_from(self.below(usize::try_from(below).unwrap_or(1))).unwrap_or(0) * MS
    }
}

#[derive(Clone)]
struct Pod {
    number: usize,
    slot: usize,
    node: usize,
    from: Ns,
    to: Ns,
    created: Ns,
}

impl Pod {
    fn name(&self) -> String {
        format!("web-{}-{}", self.slot, self.number)
    }

    fn key(&self) -> String {
        format!("load/{}", self.name())
    }
}

fn address(slot: usize) -> [u8; 4] {
    [10, 128 + u8::try_from(slot / 62_500).unwrap_or(0), (slot / 250 % 250) as u8, (1 + slot % 250) as u8]
}

fn node_name(node: usize) -> String {
    format!("n{node}")
}

/// As the API tells times: in whole seconds, cut off.
fn stamp(at: Ns) -> String {
    let since = Duration::from_nanos(at.unsigned_abs());
    let cut = UNIX_EPOCH + Duration::from_secs(since.as_secs());
    humantime::format_rfc3339_seconds(cut).to_string()
}

/// A pod's object at a stage of its life.
fn object(pod: &Pod, has_address: bool, deleted: Option<Ns>) -> Value {
    let mut object = json!({
        "metadata": { "uid": format!("uid-{}", pod.number), "creationTimestamp": stamp(pod.created) },
        "spec": { "nodeName": node_name(pod.node) },
        "status": { "phase": "Pending" },
    });
    if has_address {
        let [a, b, c, d] = address(pod.slot);
        let ip = format!("{a}.{b}.{c}.{d}");
        object["status"] = json!({
            "phase": "Running", "startTime": stamp(pod.from - 600 * MS), "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": [
                { "type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": stamp(pod.from) },
                { "type": "Ready", "status": "True", "lastTransitionTime": stamp(pod.from + SECOND) },
            ],
        });
    }
    if let Some(asked) = deleted {
        object["metadata"]["deletionTimestamp"] = json!(stamp(asked + 30 * SECOND));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    }
    namespaced("Pod", "load", &pod.name(), object)
}

/// One side of an edge behind one device, as an agent's table has it.
struct Row {
    edge: usize,
    at_client: bool,
    device: usize,
    first: Ns,
    last: Ns,
    count: u64,
    incarnation: u64,
    far: BTreeSet<usize>,
}

/// Makes a life.
#[must_use]
pub fn live(plan: &Plan) -> Life {
    let mut random = Random(plan.seed | 1);
    let end = plan.start + plan.seconds * SECOND;
    let mut pods: Vec<Pod> = (0..plan.pods)
        .map(|slot| {
            let from = plan.start - 600 * SECOND;
            Pod { number: slot, slot, node: slot % plan.nodes, from, to: end, created: from - SECOND }
        })
        .collect();
    let mut first: Vec<Value> = pods.iter().map(|pod| object(pod, true, None)).collect();
    first.extend((0..plan.nodes).map(|node| namespaced("Node", "", &node_name(node), json!({ "metadata": {} }))));
    let mut api = Vec::new();
    let mut current: Vec<usize> = (0..plan.pods).collect();
    replace(plan, &mut random, &mut pods, &mut current, &mut api);
    let mut slots: HashMap<usize, Vec<usize>> = HashMap::new();
    pods.iter().for_each(|pod| slots.entry(pod.slot).or_default().push(pod.number));
    let mut edges = BTreeSet::new();
    while edges.len() < plan.edges.min(plan.pods * (plan.pods - 1)) {
        let (client, server) = (random.below(plan.pods), random.below(plan.pods));
        if client != server {
            edges.insert((client, server));
        }
    }
    let edges: Vec<(usize, usize)> = edges.into_iter().collect();
    let (packets, ledger) = talk(plan, &mut random, &edges, &slots, &pods);
    let (reports, spanning) = report(plan, &mut random, &edges, &pods, packets);
    api.sort_by_key(|(at, _)| *at);
    Life { first, api, reports, ledger, spanning }
}

/// Each replaced pod's address is another one's a second later.
fn replace(plan: &Plan, random: &mut Random, pods: &mut Vec<Pod>, current: &mut [usize], api: &mut Vec<(Ns, Api)>) {
    let end = plan.start + plan.seconds * SECOND;
    let count = plan.replaced_per_second * usize::try_from(plan.seconds).unwrap_or(0);
    for index in 0..count {
        let stop =
            plan.start + 3 * SECOND + SECOND * Ns::try_from(index).unwrap_or(0) / plan.replaced_per_second.max(1) as Ns;
        let slot = random.below(plan.pods);
        let old = current[slot];
        if stop - pods[old].from < LEAST_LIFE || stop > end - LEAST_LIFE {
            continue;
        }
        pods[old].to = stop;
        let from = stop + SECOND;
        let node = if random.below(5) == 0 { random.below(plan.nodes) } else { pods[old].node };
        let new = Pod { number: pods.len(), slot, node, from, to: end, created: stop - random.ms(5_000) };
        let asked = stop - 500 * MS;
        api.push((asked, Api::Put(object(&pods[old], true, Some(asked)))));
        // It may leave the API only when its address is another's already.
        api.push((stop + 300 * MS + random.ms(3_000), Api::Delete(object(&pods[old], true, Some(asked)))));
        api.push((new.created, Api::Put(object(&new, false, None))));
        api.push((from + 300 * MS, Api::Put(object(&new, true, None))));
        current[slot] = new.number;
        pods.push(new);
    }
}

/// (when, edge, client pod, server pod)
type Packet = (Ns, usize, usize, usize);

fn talk(
    plan: &Plan,
    random: &mut Random,
    edges: &[(usize, usize)],
    slots: &HashMap<usize, Vec<usize>>,
    pods: &[Pod],
) -> (Vec<Packet>, BTreeSet<Pair>) {
    let end = plan.start + plan.seconds * SECOND;
    let (mut packets, mut ledger) = (Vec::new(), BTreeSet::new());
    for (number, (client, server)) in edges.iter().enumerate() {
        for client in &slots[client] {
            for server in &slots[server] {
                let (client, server) = (&pods[*client], &pods[*server]);
                let from = client.from.max(server.from).max(plan.start);
                let to = client.to.min(server.to).min(end);
                if to - from < 100 * MS {
                    continue;
                }
                ledger.insert((client.key(), server.key()));
                // From the first moment to the last.
                let mut at = from + 10 * MS;
                while at < to - 10 * MS {
                    packets.push((at, number, client.number, server.number));
                    at += PERIOD + random.ms(50);
                }
                packets.push((to - 10 * MS, number, client.number, server.number));
            }
        }
    }
    packets.sort_unstable();
    (packets, ledger)
}

fn report(
    plan: &Plan,
    random: &mut Random,
    edges: &[(usize, usize)],
    pods: &[Pod],
    packets: Vec<Packet>,
) -> (Vec<(Ns, Report)>, usize) {
    let mut rows: Vec<Row> = Vec::new();
    let mut by_key: HashMap<(usize, usize, bool, usize), usize> = HashMap::new();
    let mut reports = Vec::new();
    let mut packets = packets.into_iter().peekable();
    let last_tick = plan.start + plan.seconds * SECOND;
    let mut tick = plan.start;
    let mut seq = 0;
    while tick < last_tick {
        tick += plan.tick_ms * MS;
        seq += 1;
        let mut changed: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        while let Some((at, edge, client, server)) = packets.next_if(|packet| packet.0 <= tick) {
            for (at_client, near, far) in [(true, client, server), (false, server, client)] {
                let node = pods[near].node;
                let row = *by_key.entry((node, edge, at_client, near)).or_insert_with(|| {
                    let far = BTreeSet::new();
                    rows.push(Row {
                        edge,
                        at_client,
                        device: near,
                        first: at,
                        last: at,
                        count: 0,
                        incarnation: seq,
                        far,
                    });
                    rows.len() - 1
                });
                let known = &mut rows[row];
                (known.last, known.count) = (at, known.count + 1);
                known.far.insert(far);
                changed.entry(node).or_default().insert(row);
            }
        }
        for (node, changed) in changed {
            let edges = changed.iter().map(|row| edge(&rows[*row], edges)).collect();
            let sent = tick.unsigned_abs();
            let report = Report {
                version: wire::VERSION,
                node: node_name(node),
                epoch: plan.start.unsigned_abs(),
                seq,
                complete: true,
                next_tick_ms: u32::try_from(plan.tick_ms).unwrap_or(1_000),
                sent_unix_ns: sent,
                sampled_unix_ns: sent,
                clock: Some(ClockOffset { offset_ns: 0, error_ns: 1_000_000 }),
                edges,
                ..Report::default()
            };
            reports.push((tick + random.ms(plan.late_ms.max(1)), report));
        }
    }
    reports.sort_by_key(|(at, _)| *at);
    let spanning = rows.iter().filter(|row| row.far.len() > 1).count();
    (reports, spanning)
}

fn edge(row: &Row, edges: &[(usize, usize)]) -> Edge {
    let (client, server) = edges[row.edge];
    let counters =
        Counters { skbs: row.count, segments: row.count, l3_bytes: row.count * 100, payload_bytes: row.count * 72 };
    Edge {
        client: address(client).to_vec(),
        server: address(server).to_vec(),
        server_port: PORT,
        protocol: 17,
        side: if row.at_client { 1 } else { 2 },
        device: row.device as u64 + 1,
        incarnation: row.incarnation,
        point: Point::Pod as i32,
        forward: Some(counters),
        first_seen_unix_ns: row.first.unsigned_abs(),
        forward_last_unix_ns: row.last.unsigned_abs(),
        ..Edge::default()
    }
}
