//! What of the merge outlives a run, and how it comes back: totals, marks and tombstones, so that nothing counts twice and
//! what was refused stays refused. Rates, samples and estimates of loss begin anew. Pure.

use std::{net::IpAddr, sync::Arc};

use prost::Message;
use wire::v1::{self, Counters, DeviceCounters, Edge};

use super::{
    Bounds, FlowId, Merge,
    age::fold,
    device::DeviceRun,
    facts::{Drops, Facts},
    flow::{Row, Side, Source, Totals},
    key::{FlowKey, Tunnel},
    node::{Epoch, Node, NodeId},
    points::Points,
};
use crate::{
    keep::{Batch, Damaged, Kept, Table},
    time::{self, Ns},
};

#[derive(Clone, PartialEq, Message)]
struct KeptRow {
    #[prost(string, tag = "1")]
    node: String,
    /// The totals and facts, in the form of a report.
    #[prost(message, optional, tag = "2")]
    edge: Option<Edge>,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(uint64, tag = "4")]
    through: u64,
    #[prost(uint64, tag = "5")]
    stated: u64,
    #[prost(int32, repeated, tag = "6")]
    points: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptFlow {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<KeptRow>,
    /// Lost between the sides, there and back.
    #[prost(uint64, tag = "2")]
    forward_lost: u64,
    #[prost(uint64, tag = "3")]
    reverse_lost: u64,
    #[prost(int64, optional, tag = "4")]
    ended: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptEpoch {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    mark: u64,
    #[prost(uint64, tag = "3")]
    seq: u64,
    #[prost(int64, optional, tag = "4")]
    ended: Option<i64>,
    #[prost(map = "int32, uint64", tag = "5")]
    losses: std::collections::HashMap<i32, u64>,
    #[prost(message, optional, tag = "6")]
    other: Option<Counters>,
    #[prost(message, repeated, tag = "7")]
    drops: Vec<v1::Drop>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptRun {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(int32, tag = "3")]
    tier: i32,
    #[prost(string, tag = "4")]
    blind_spot: String,
    #[prost(int32, tag = "5")]
    point: i32,
    #[prost(string, tag = "6")]
    tunnel: String,
    #[prost(uint32, tag = "7")]
    reattached: u32,
    #[prost(message, repeated, tag = "8")]
    directions: Vec<DeviceCounters>,
    #[prost(int64, tag = "9")]
    covered_since: i64,
    #[prost(bool, tag = "10")]
    gone: bool,
    #[prost(bool, tag = "11")]
    unsettled: bool,
    #[prost(uint64, tag = "12")]
    seq: u64,
}

#[derive(Clone, PartialEq, Message)]
struct KeptDevice {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    ifindex: u32,
    #[prost(message, repeated, tag = "3")]
    runs: Vec<KeptRun>,
    #[prost(int64, optional, tag = "4")]
    gone_at: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptNode {
    #[prost(message, repeated, tag = "1")]
    epochs: Vec<KeptEpoch>,
    #[prost(uint64, tag = "2")]
    folded_through: u64,
    /// Losses, `other` and drops of the folded epochs.
    #[prost(message, optional, tag = "3")]
    folded: Option<KeptEpoch>,
    #[prost(message, repeated, tag = "4")]
    devices: Vec<KeptDevice>,
    #[prost(int64, tag = "5")]
    last_report: i64,
    #[prost(uint32, tag = "6")]
    tick_ms: u32,
    #[prost(string, tag = "7")]
    agent_version: String,
    #[prost(bool, tag = "8")]
    left: bool,
}

/// The key of a kept edge: its ends, port, protocol and tunnel.
#[must_use]
pub fn key_bytes(key: &FlowKey) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut bytes = [octets(key.client), octets(key.server)].concat();
    bytes.extend(key.port.to_be_bytes());
    bytes.push(key.protocol);
    bytes.extend(key.tunnel.map_or("", Tunnel::label).bytes());
    bytes
}

fn key_of(bytes: &[u8]) -> Option<FlowKey> {
    let end = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::from(octets).to_canonical());
    Some(FlowKey {
        client: end(bytes.get(..16)?)?,
        server: end(bytes.get(16..32)?)?,
        port: u16::from_be_bytes(bytes.get(32..34)?.try_into().ok()?),
        protocol: *bytes.get(34)?,
        tunnel: Tunnel::of(std::str::from_utf8(bytes.get(35..)?).ok()?),
    })
}

impl Merge {
    /// Writes an edge, if it is still there.
    pub fn keep_flow(&self, id: FlowId, batch: &mut Batch) {
        let Some(flow) = self.flows.get(id) else { return };
        let kept = KeptFlow {
            rows: flow.rows.iter().map(|row| self.kept_row(row)).collect(),
            forward_lost: flow.forward.lost(),
            reverse_lost: flow.reverse.lost(),
            ended: flow.ended,
        };
        batch.put(Table::Flows, key_bytes(&flow.key), kept.encode_to_vec());
    }

    fn kept_row(&self, row: &Row) -> KeptRow {
        let unsigned = |ns: Ns| u64::try_from(ns).unwrap_or(0);
        let totals = &row.totals;
        let mut edge = Edge {
            side: match row.source.side {
                Side::Client => 1,
                Side::Server => 2,
            },
            device: row.source.device,
            cgroup: row.cgroup,
            incarnation: row.incarnation,
            r#final: row.finished,
            guessed: row.guessed,
            own: row.own,
            forward: Some(totals.forward),
            reverse: Some(totals.reverse),
            opened: totals.opened,
            established: totals.established,
            closed: totals.closed,
            resets: totals.resets,
            icmp_errors: totals.icmp_errors,
            first_seen_unix_ns: unsigned(row.first_seen),
            forward_last_unix_ns: unsigned(totals.forward_last),
            reverse_last_unix_ns: unsigned(totals.reverse_last),
            path_changed: row.path_changed,
            ..Edge::default()
        };
        if let Some(facts) = &row.facts {
            facts.write(&mut edge);
        }
        KeptRow {
            node: self.nodes[row.source.node as usize].name.to_string(),
            edge: Some(edge),
            epoch: row.source.epoch,
            through: row.through,
            stated: row.stated,
            points: row.points.iter().map(|point| point as i32).collect(),
        }
    }

    /// Writes every node.
    pub fn keep_nodes(&self, batch: &mut Batch) {
        for node in self.nodes() {
            batch.put(Table::Nodes, node.name.as_bytes(), kept_node(node).encode_to_vec());
        }
    }

    /// Takes back what a run before had kept.
    ///
    /// # Errors
    /// When a row of it cannot be read.
    pub fn restore(bounds: Bounds, started: Ns, kept: &Kept) -> Result<Self, Damaged> {
        let mut merge = Self::new(bounds, started);
        for (name, value) in kept.rows(Table::Nodes) {
            let damaged = || Damaged::row(Table::Nodes);
            let name = std::str::from_utf8(name).map_err(|_| damaged())?;
            let kept = KeptNode::decode(value.as_slice()).map_err(|_| damaged())?;
            let Some(id) = merge.node_id(name) else { continue };
            let place = &mut merge.nodes[id as usize];
            *place = node_of(&place.name, kept);
        }
        for (key, value) in kept.rows(Table::Flows) {
            let kept = KeptFlow::decode(value.as_slice()).ok();
            let (Some(key), Some(kept)) = (key_of(key), kept) else { return Err(Damaged::row(Table::Flows)) };
            merge.restore_flow(key, kept);
        }
        Ok(merge)
    }

    fn restore_flow(&mut self, key: FlowKey, kept: KeptFlow) {
        let mut rows = Vec::with_capacity(kept.rows.len());
        for row in kept.rows {
            // A node's row is written after its edges': without it they are of nobody, and the node will speak of them again.
            let Some(node) = self.by_name.get(row.node.as_str()).copied() else { continue };
            if self.rows + rows.len() >= self.bounds.rows {
                self.refusals.rows += 1;
                continue;
            }
            rows.extend(row_of(node, row));
        }
        if rows.is_empty() {
            return;
        }
        // What of an epoch was written before it folded folds now.
        fold(&mut rows, |row| {
            let epoch = row.source.epoch;
            let folded = epoch != 0 && epoch <= self.nodes[row.source.node as usize].folded_through;
            folded.then_some((Source { epoch: 0, device: 0, ..row.source }, u64::MAX))
        });
        let id = self.insert_flow(key);
        self.rows += rows.len();
        for row in rows.iter().filter(|row| row.incarnation != 0 && row.finished) {
            if let Some(epoch) = self.nodes[row.source.node as usize].epochs.get_mut(&row.source.epoch) {
                epoch.finished.insert(id);
            }
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.rows = rows;
            // The sides are compared from here on; what was confirmed before stays.
            flow.from_first = Some(false);
            flow.forward.resume(kept.forward_lost);
            flow.reverse.resume(kept.reverse_lost);
            flow.ended = kept.ended;
        }
        if let Some(at) = kept.ended {
            self.ended.insert((at, id));
        }
    }
}

fn row_of(node: NodeId, kept: KeptRow) -> Option<Row> {
    let edge = kept.edge?;
    let side = Side::of(&edge)?;
    let points = kept.points.iter().fold(Points::default(), |points, point| points.with(*point));
    Some(Row {
        source: Source { node, epoch: kept.epoch, side, device: edge.device },
        cgroup: edge.cgroup,
        incarnation: edge.incarnation,
        through: kept.through,
        stated: kept.stated,
        finished: edge.r#final,
        guessed: edge.guessed,
        own: edge.own,
        first_seen: time::from_wire(edge.first_seen_unix_ns),
        totals: Totals::of(&edge, 0, Ns::MAX),
        points,
        path_changed: edge.path_changed,
        facts: Facts::of(&edge, time::from_wire),
    })
}

fn kept_node(node: &Node) -> KeptNode {
    let drops = |drops: &Drops| drops.written();
    let epochs = node.epochs.iter().map(|(number, epoch)| KeptEpoch {
        number: *number,
        mark: epoch.mark,
        seq: epoch.seq,
        ended: epoch.ended,
        losses: epoch.losses.iter().map(|(cause, count)| (*cause, *count)).collect(),
        other: Some(epoch.other),
        drops: drops(&epoch.drops),
    });
    let folded = KeptEpoch {
        losses: node.folded_losses.iter().map(|(cause, count)| (*cause, *count)).collect(),
        other: Some(node.folded_other),
        drops: drops(&node.folded_drops),
        ..KeptEpoch::default()
    };
    let devices = node.devices.iter().map(|((name, ifindex), account)| KeptDevice {
        name: name.clone(),
        ifindex: *ifindex,
        runs: account.runs.iter().map(|(run, state)| kept_run(*run, state)).collect(),
        gone_at: account.gone_at,
    });
    KeptNode {
        epochs: epochs.collect(),
        folded_through: node.folded_through,
        folded: Some(folded),
        devices: devices.collect(),
        last_report: node.last_report,
        tick_ms: node.tick_ms,
        agent_version: node.agent_version.clone(),
        left: node.left,
    }
}

fn kept_run((epoch, incarnation): (u64, u64), run: &DeviceRun) -> KeptRun {
    KeptRun {
        epoch,
        incarnation,
        tier: run.tier,
        blind_spot: run.blind_spot.clone(),
        point: run.point,
        tunnel: run.tunnel.map_or("", Tunnel::label).to_owned(),
        reattached: run.reattached,
        directions: run.directions.to_vec(),
        covered_since: run.covered_since,
        gone: run.gone,
        unsettled: run.unsettled,
        seq: run.seq,
    }
}

fn node_of(name: &Arc<str>, kept: KeptNode) -> Node {
    let mut node = Node::new(name);
    for epoch in kept.epochs {
        let mut state = Epoch {
            mark: epoch.mark,
            seq: epoch.seq,
            ended: epoch.ended,
            losses: epoch.losses.into_iter().collect(),
            other: epoch.other.unwrap_or_default(),
            drops: Drops::of(&epoch.drops),
            ..Epoch::default()
        };
        state.unseen_sampled = state.unseen();
        node.epochs.insert(epoch.number, state);
    }
    let folded = kept.folded.unwrap_or_default();
    node.folded_through = kept.folded_through;
    node.folded_losses = folded.losses.into_iter().collect();
    node.folded_other = folded.other.unwrap_or_default();
    node.folded_drops = Drops::of(&folded.drops);
    for device in kept.devices {
        let account = node.devices.entry((device.name, device.ifindex)).or_default();
        account.gone_at = device.gone_at;
        for run in device.runs {
            let direction = |index: usize| run.directions.get(index).copied().unwrap_or_default();
            let state = DeviceRun {
                tier: run.tier,
                blind_spot: run.blind_spot.clone(),
                point: run.point,
                tunnel: Tunnel::of(&run.tunnel),
                reattached: run.reattached,
                directions: [direction(0), direction(1)],
                covered_since: run.covered_since,
                gone: run.gone,
                unsettled: run.unsettled,
                seq: run.seq,
            };
            account.runs.insert((run.epoch, run.incarnation), state);
        }
    }
    node.last_report = kept.last_report;
    node.tick_ms = kept.tick_ms;
    node.agent_version = kept.agent_version;
    node.left = kept.left;
    node
}
