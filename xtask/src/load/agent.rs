//! An agent that is not there: reports of what it would have counted by now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use lab::http1::Client;
use wire::codec;
use wire::v1::{ClockOffset, Counters, Device, DeviceCounters, Edge, Point, Report, Tier};

use super::Tally;
use super::world::{self, End, World};

/// Every agent reports this often.
const TICK: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// An edge as an agent's table has it: place in the world, side, generation of its local end.
type Key = (usize, i32, u32);

/// A row as the collector has it: ends, port, side, incarnation.
type Row = (Vec<u8>, Vec<u8>, u32, i32, u64);

pub(super) struct Agent {
    node: u16,
    collector: SocketAddr,
    client: Option<Client>,
    epoch: u64,
    seq: u64,
    acked: u64,
    run: u64,
    due: Instant,
    /// What was reported last, to say goodbye to what is no more.
    table: HashMap<Key, Edge>,
    /// Packets that were acknowledged, by row.
    told: HashMap<Row, u64>,
}

/// Reports of some agents, each when it is due, until told to stop. Returns how many packets were acknowledged.
pub(super) fn play(mut agents: Vec<Agent>, world: &RwLock<World>, stop: &AtomicBool, tally: &Mutex<Tally>) -> u64 {
    while !stop.load(Ordering::Relaxed) {
        let Some(next) = agents.iter_mut().min_by_key(|agent| agent.due) else { return 0 };
        std::thread::sleep(next.due.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
        let late = Instant::now().saturating_duration_since(next.due);
        if Instant::now() < next.due {
            continue;
        }
        // Who cannot keep up reports later, and never twice at once.
        next.due = (next.due + TICK).max(Instant::now());
        let Ok(report) = world.read().map(|world| next.report(&world)) else { return 0 };
        let sent = next.post(&report);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.late += u64::from(late > TICK / 2);
        match sent {
            Some(bytes) => {
                tally.reports += 1;
                tally.records += report.edges.len() as u64;
                tally.bytes += bytes as u64;
            }
            None => tally.refused += 1,
        }
    }
    agents.iter().flat_map(|agent| agent.told.values()).sum()
}

fn packets(edge: &Edge) -> u64 {
    [edge.forward, edge.reverse].into_iter().flatten().map(|way| way.segments).sum()
}

impl Agent {
    /// The agents' ticks are spread over the second.
    pub(super) fn new(node: u16, nodes: u16, collector: SocketAddr) -> Self {
        Self {
            node,
            collector,
            client: None,
            epoch: world::now(),
            seq: 0,
            acked: 0,
            run: 0,
            due: Instant::now() + TICK.mul_f64(f64::from(node) / f64::from(nodes)),
            table: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// How long the body was, if the report was acknowledged.
    fn post(&mut self, report: &Report) -> Option<usize> {
        let body = codec::encode_report(report).ok()?;
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::tcp(self.collector, ANSWER_WAIT).ok()?),
        };
        let Ok(response) = client.request("collector", wire::REPORT_PATH, &body) else {
            self.client = None;
            return None;
        };
        let ack = codec::decode_ack(&response.body).ok().filter(|_| response.status == 200)?;
        (self.acked, self.run) = (ack.seq, ack.collector_run);
        for edge in &report.edges {
            self.told.insert(
                (edge.client.clone(), edge.server.clone(), edge.server_port, edge.side, edge.incarnation),
                packets(edge),
            );
        }
        Some(body.len())
    }

    fn report(&mut self, world: &World) -> Report {
        let now = world::now();
        self.seq += 1;
        let mut table = HashMap::new();
        for &(index, side) in world.edges_of(self.node) {
            let edge = &world.edges[index];
            let End::Pod(place) = (if side == 1 { edge.client } else { edge.server }) else { continue };
            let key = (index, side, generation(world, edge));
            let incarnation = self.table.get(&key).map_or(self.seq, |known| known.incarnation);
            let device = device(place, world.pods[place].generation);
            table.insert(key, row(world, edge, side, device, incarnation, now));
        }
        let gone = self.table.drain().filter(|(key, _)| !table.contains_key(key));
        let finals = gone.map(|(_, edge)| Edge { r#final: true, ..edge });
        let edges: Vec<Edge> = table.values().cloned().chain(finals).collect();
        self.table = table;
        let devices = world.pods_of(self.node).iter().map(|place| (*place, &world.pods[*place]));
        let devices = devices.map(|(place, pod)| Device {
            name: format!("lxc{place}"),
            ifindex: u32::try_from(place).unwrap_or(0) + 10,
            incarnation: device(place, pod.generation),
            tier: Tier::Tcx.into(),
            ingress: Some(DeviceCounters::default()),
            egress: Some(DeviceCounters::default()),
            covered_since_unix_ns: self.epoch,
            unsettled: true,
            point: Point::Pod.into(),
            ..Device::default()
        });
        Report {
            version: wire::VERSION,
            node: world::node_name(self.node),
            epoch: self.epoch,
            seq: self.seq,
            acked_seq: self.acked,
            collector_run: self.run,
            full: self.acked == 0,
            sent_unix_ns: now,
            sampled_unix_ns: now,
            complete: true,
            next_tick_ms: u32::try_from(TICK.as_millis()).unwrap_or(u32::MAX),
            clock: Some(ClockOffset { offset_ns: 0, error_ns: 100_000 }),
            edges,
            devices: devices.collect(),
            agent_version: "load".to_owned(),
            ..Report::default()
        }
    }
}

/// A new pod in a place has a new device.
fn device(place: usize, generation: u32) -> u64 {
    ((place as u64) << 24) + u64::from(generation) + 1
}

/// How often either end was replaced: another edge each time.
fn generation(world: &World, edge: &world::Edge) -> u32 {
    let of = |end: End| match end {
        End::Pod(place) => world.pods[place].generation,
        End::World(_) => 0,
    };
    of(edge.client) + of(edge.server)
}

fn row(world: &World, edge: &world::Edge, side: i32, device: u64, incarnation: u64, now: u64) -> Edge {
    let elapsed = now.saturating_sub(edge.born) as f64 / 1e9;
    let sent = (edge.rate * elapsed) as u64;
    let arrived = sent - sent * edge.lost / 100;
    let answered = arrived * 9 / 10;
    let count = |skbs: u64, bytes: u64| Counters {
        skbs,
        segments: skbs,
        l3_bytes: skbs * (bytes + 40),
        payload_bytes: skbs * bytes,
    };
    // The time of the last packet, not of the reading: rates are taken between packets.
    let last = |skbs: u64, rate: f64| {
        if skbs == 0 { 0 } else { world::by_tick(edge.born + (skbs as f64 / rate * 1e9) as u64) }
    };
    let connections = if edge.protocol == 6 { 1 + sent / 9 } else { 0 };
    Edge {
        client: world.address_of(edge.client).octets().to_vec(),
        server: world.address_of(edge.server).octets().to_vec(),
        server_port: u32::from(edge.port),
        protocol: edge.protocol,
        side,
        device,
        incarnation,
        forward: Some(count(if side == 1 { sent } else { arrived }, edge.bytes)),
        reverse: Some(count(answered, edge.bytes * 3)),
        opened: connections,
        established: connections,
        closed: connections.saturating_sub(1),
        first_seen_unix_ns: edge.born,
        forward_last_unix_ns: last(sent, edge.rate),
        reverse_last_unix_ns: last(answered, edge.rate * 0.9),
        point: Point::Pod.into(),
        ..Edge::default()
    }
}
