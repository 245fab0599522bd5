//! Rows of edges, nodes and devices, from the merged state.

use std::{collections::BTreeSet, sync::Arc};

use wire::v1::{Counters, Tier};

use super::{Group, Member, vertex::VertexKey};
use crate::{
    loss::Loss,
    merge::{
        Merge,
        evaluate::Unmeasured,
        flow::{Flow, Row, Side, Totals},
        node::{Node, NodeId},
    },
    names::{Names, Owner},
    time::Ns,
    view::{
        CountersRow, DeviceRow, EdgeRow, EdgeState, LossBetweenRow, LossStatus, NodeRow, NodeState, RateRow, SideRow,
        View, ms,
    },
};

/// The vertices of an edge's ends at a time.
pub(super) fn ends(view: View, flow: &Flow, at: Ns, swapped: bool, names: &Names) -> (VertexKey, VertexKey) {
    let client = VertexKey::of(view, &names.resolve(flow.key.client, at), names);
    let server = VertexKey::of(view, &names.resolve(flow.key.server, at), names);
    if swapped { (server, client) } else { (client, server) }
}

pub(super) fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Default)]
struct SideSum {
    nodes: BTreeSet<NodeId>,
    totals: Totals,
    fresh: bool,
}

#[derive(Default)]
struct LossSum {
    measured: usize,
    /// Members that are not measured, and the first one's reason.
    unmeasured: usize,
    first_why: Option<String>,
    settling: Option<String>,
    one_sided: Option<String>,
    forward: Option<Loss>,
    reverse: Option<Loss>,
}

/// The row of a group.
pub(super) fn edge_row(view: View, id: &Arc<str>, group: &Group, merge: &Merge, names: &Names, now: Ns) -> EdgeRow {
    let mut sides: [Option<SideSum>; 2] = [None, None];
    let mut rate = RateRow::default();
    let mut loss = LossSum::default();
    let (mut guessed, mut own, mut ended) = (true, true, true);
    let (mut first_seen, mut last_seen) = (Ns::MAX, 0);
    for (flow_id, member) in &group.members {
        let Some(flow) = merge.flow(*flow_id) else { continue };
        ended &= flow.ended.is_some();
        let mine = |row: &Row| member.whole || is_mine(view, flow, row, *member, group, names);
        for row in flow.rows.iter().filter(|row| mine(row)) {
            add_row(&mut sides, row, *member, merge);
            guessed &= row.guessed;
            own &= row.own;
            first_seen = first_seen.min(row.first_seen);
            last_seen = last_seen.max(row.totals.forward_last).max(row.totals.reverse_last);
        }
        // Samples are of the newest holder of the addresses; what an older one had stands still.
        let newest = flow.rows.iter().max_by_key(|row| row.first_seen);
        if newest.is_some_and(mine) {
            add_rate(&mut rate, flow, *member);
            add_loss(&mut loss, flow, *member, merge, names, now);
        } else {
            loss.unmeasured(LossStatus::OneSided, || "the address went to another pod".to_owned());
        }
    }
    let fresh = sides.iter().flatten().any(|side| side.fresh);
    let state = if ended {
        EdgeState::Ended
    } else if fresh {
        EdgeState::Live
    } else {
        EdgeState::Stale
    };
    let [client_side, server_side] = sides.map(|side| side.map(|side| side_row(side, merge)));
    EdgeRow {
        id: Arc::clone(id),
        client: Arc::clone(&group.client_id),
        server: Arc::clone(&group.server_id),
        port: group.port,
        protocol: protocol_name(group.protocol),
        tunnel: None,
        guessed,
        own,
        state,
        first_seen_ms: if first_seen == Ns::MAX { 0 } else { ms(first_seen) },
        last_seen_ms: ms(last_seen),
        client_side,
        server_side,
        rate: RateRow {
            forward_skbs: round(rate.forward_skbs, 1e3),
            reverse_skbs: round(rate.reverse_skbs, 1e3),
            forward_bytes: round(rate.forward_bytes, 1e1),
            reverse_bytes: round(rate.reverse_bytes, 1e1),
            connections: round(rate.connections, 1e3),
        },
        loss: loss_row(loss),
        drops: Vec::new(),
        dns: None,
    }
}

fn is_mine(view: View, flow: &Flow, row: &Row, member: Member, group: &Group, names: &Names) -> bool {
    let (client, server) = ends(view, flow, row.first_seen, member.swapped, names);
    client == group.client && server == group.server
}

fn add_row(sides: &mut [Option<SideSum>; 2], row: &Row, member: Member, merge: &Merge) {
    let side = if member.swapped { row.source.side.other() } else { row.source.side };
    let sum = sides[usize::from(side == Side::Server)].get_or_insert_default();
    let totals = if member.swapped { row.totals.swapped() } else { row.totals };
    sum.totals = sum.totals.plus(&totals);
    sum.nodes.insert(row.source.node);
    let node = merge.node(row.source.node);
    let current = node.epoch().is_some_and(|(epoch, _)| epoch == row.source.epoch);
    sum.fresh |= (current || row.finished) && node.told != Some(NodeState::Lost);
}

fn add_rate(sum: &mut RateRow, flow: &Flow, member: Member) {
    let evaluation = &flow.evaluation;
    let (forward, reverse) = if member.swapped {
        (evaluation.reverse, evaluation.forward)
    } else {
        (evaluation.forward, evaluation.reverse)
    };
    sum.forward_skbs += forward.skbs;
    sum.reverse_skbs += reverse.skbs;
    sum.forward_bytes += forward.bytes;
    sum.reverse_bytes += reverse.bytes;
    sum.connections += forward.connections + reverse.connections;
}

impl LossSum {
    fn unmeasured(&mut self, status: LossStatus, why: impl FnOnce() -> String) {
        self.unmeasured += 1;
        let slot = if status == LossStatus::Settling { &mut self.settling } else { &mut self.one_sided };
        if slot.is_none() {
            let why = why();
            self.first_why.get_or_insert_with(|| why.clone());
            *slot = Some(why);
        }
    }
}

fn add_loss(sum: &mut LossSum, flow: &Flow, member: Member, merge: &Merge, names: &Names, now: Ns) {
    use LossStatus::{OneSided, Settling};
    let name = |node: &NodeId| &merge.node(*node).name;
    match &flow.evaluation.loss {
        Ok((forward, reverse)) => {
            let (forward, reverse) = if member.swapped { (reverse, forward) } else { (forward, reverse) };
            sum.measured += 1;
            sum.forward = Some(plus(sum.forward, forward));
            sum.reverse = Some(plus(sum.reverse, reverse));
        }
        Err(Unmeasured::NotReported(side)) => {
            sum.unmeasured(OneSided, || not_reported(flow, *side, member, merge, names, now));
        }
        Err(Unmeasured::NodeLost(node)) => sum.unmeasured(OneSided, || format!("node {} is lost", name(node))),
        Err(Unmeasured::DeviceGone(side, node)) => {
            sum.unmeasured(OneSided, || format!("the {}'s device on {} is gone", role(*side, member), name(node)));
        }
        Err(Unmeasured::Unobserved(side, node)) => sum.unmeasured(OneSided, || {
            format!("arrivals at the {} are not observed on node {}", role(*side, member), name(node))
        }),
        Err(Unmeasured::NoClock(node)) => {
            sum.unmeasured(Settling, || format!("the clock offset of node {} is not known yet", name(node)));
        }
        Err(Unmeasured::Settling) => sum.unmeasured(Settling, || "both sides must report for a moment".to_owned()),
    }
}

fn plus(sum: Option<Loss>, loss: &Loss) -> Loss {
    let sum = sum.unwrap_or(Loss { lost: 0, recent_lost: 0.0, recent_sent: 0.0 });
    Loss {
        lost: sum.lost.saturating_add(loss.lost),
        recent_lost: sum.recent_lost + loss.recent_lost,
        recent_sent: sum.recent_sent + loss.recent_sent,
    }
}

/// What the group calls a side of its member.
fn role(side: Side, member: Member) -> &'static str {
    if (side == Side::Client) == member.swapped { "server" } else { "client" }
}

/// Why the other side is missing, in words.
fn not_reported(flow: &Flow, side: Side, member: Member, merge: &Merge, names: &Names, now: Ns) -> String {
    let address = match side {
        Side::Client => flow.key.client,
        Side::Server => flow.key.server,
    };
    match names.resolve(address, now) {
        Owner::External(address) => format!("no agent sees {address}"),
        Owner::Node(name) => format!("host addresses are not watched: {name}"),
        Owner::Service(key) => format!("no device holds the address of service {key}"),
        Owner::Pod(key) => {
            let node = names.pod(&key).and_then(|pod| pod.node.as_ref());
            match node.map(|name| (name, merge.node_named(name))) {
                Some((name, None)) => format!("no agent reports from node {name}"),
                Some((name, Some(node))) if node.told == Some(NodeState::Lost) => format!("node {name} is lost"),
                _ => format!("{} side not reported yet", role(side, member)),
            }
        }
    }
}

fn loss_row(sum: LossSum) -> LossBetweenRow {
    let ratio = |loss: Option<Loss>| loss.map(|loss| round(loss.ratio(), 1e4));
    if sum.measured > 0 {
        let (rest, all) = (sum.unmeasured, sum.measured + sum.unmeasured);
        let verb = if rest == 1 { "is" } else { "are" };
        return LossBetweenRow {
            status: LossStatus::Measured,
            why: sum.first_why.map(|why| format!("{rest} of {all} links {verb} not measured: {why}")),
            forward_lost: sum.forward.map(|loss| loss.lost),
            reverse_lost: sum.reverse.map(|loss| loss.lost),
            forward_ratio: ratio(sum.forward),
            reverse_ratio: ratio(sum.reverse),
        };
    }
    let (status, why) = match sum.settling {
        Some(why) => (LossStatus::Settling, Some(why)),
        None => (LossStatus::OneSided, sum.one_sided),
    };
    LossBetweenRow { status, why, forward_lost: None, reverse_lost: None, forward_ratio: None, reverse_ratio: None }
}

fn side_row(side: SideSum, merge: &Merge) -> SideRow {
    let totals = side.totals;
    SideRow {
        nodes: side.nodes.iter().map(|id| Arc::clone(&merge.node(*id).name)).collect(),
        stale: !side.fresh,
        points: Vec::new(),
        path_changed: false,
        forward: counters(&totals.forward),
        reverse: counters(&totals.reverse),
        opened: totals.opened,
        established: totals.established,
        closed: totals.closed,
        resets: totals.resets,
        icmp_errors: totals.icmp_errors,
        sockets: None,
        owners: Vec::new(),
    }
}

fn counters(of: &Counters) -> CountersRow {
    CountersRow { skbs: of.skbs, segments: of.segments, l3_bytes: of.l3_bytes, payload_bytes: of.payload_bytes }
}

fn round(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

/// The row of a node that reports.
pub(super) fn node_row(node: &Node, now: Ns) -> NodeRow {
    let (state, why) = node.state(now);
    let (tier, devices, blind_spots) = node.coverage();
    let (mut seen, mut unseen, mut unaccounted) = (0u64, 0u64, 0i64);
    for account in node.devices.values() {
        let settled = account.newest().is_some_and(|(_, run)| !run.unsettled);
        for direction in [0, 1] {
            let account = account.account(direction);
            seen = seen.saturating_add(account.seen_skbs);
            unseen = unseen.saturating_add(account.unseen_skbs);
            if settled {
                let rest = rest(account.carried_skbs, account.seen_skbs, account.unseen_skbs);
                unaccounted = unaccounted.saturating_add(rest);
            }
        }
    }
    let in_ms = |ns: Ns| round(ns as f64 / 1e6, 1e2);
    NodeRow {
        name: Arc::clone(&node.name),
        state,
        why,
        last_report_ms: Some(ms(node.last_report)),
        tick_ms: Some(node.tick_ms),
        clock_offset_ms: node.clock.map(|(offset, _)| in_ms(offset)),
        clock_error_ms: node.clock.map(|(_, error)| in_ms(error)),
        agent_version: Some(node.agent_version.clone()),
        epoch_ms: node.epoch().map(|(epoch, _)| ms(crate::time::from_wire(epoch))),
        tier: tier.to_owned(),
        tiers: Vec::new(),
        devices,
        reattached: 0,
        blind_spots,
        refused_hooks: node.refused_hooks.clone(),
        hooks: Vec::new(),
        drops: Vec::new(),
        seen_skbs: seen,
        unseen_skbs: unseen,
        unaccounted_skbs: unaccounted,
        other_skbs: node.other().skbs,
        losses: node.losses(),
    }
}

/// What the kernel carried and nobody accounts for.
fn rest(carried: u64, seen: u64, unseen: u64) -> i64 {
    let rest = i128::from(carried) - i128::from(seen) - i128::from(unseen);
    i64::try_from(rest).unwrap_or(if rest < 0 { i64::MIN } else { i64::MAX })
}

/// The accounts of all devices of all nodes.
#[must_use]
pub fn device_rows(merge: &Merge) -> Vec<DeviceRow> {
    let mut rows = Vec::new();
    for node in merge.nodes() {
        for ((device, ifindex), account) in &node.devices {
            let Some((_, newest)) = account.newest() else { continue };
            let epochs: BTreeSet<u64> = account.runs.keys().map(|(epoch, _)| *epoch).collect();
            for (index, direction) in ["ingress", "egress"].into_iter().enumerate() {
                let sums = account.account(index);
                rows.push(DeviceRow {
                    node: Arc::clone(&node.name),
                    device: device.clone(),
                    ifindex: *ifindex,
                    direction: direction.to_owned(),
                    tier: if newest.tier == Tier::Tcx as i32 { "tcx" } else { "unwatched" }.to_owned(),
                    point: None,
                    tunnel: None,
                    gone: newest.gone,
                    settled: !newest.unsettled,
                    epochs: u32::try_from(epochs.len()).unwrap_or(u32::MAX),
                    seen_skbs: sums.seen_skbs,
                    seen_bytes: sums.seen_bytes,
                    unseen_skbs: sums.unseen_skbs,
                    unseen_bytes: sums.unseen_bytes,
                    carried_skbs: sums.carried_skbs,
                    carried_bytes: sums.carried_bytes,
                    unaccounted_skbs: rest(sums.carried_skbs, sums.seen_skbs, sums.unseen_skbs),
                    unaccounted_bytes: rest(sums.carried_bytes, sums.seen_bytes, sums.unseen_bytes),
                    link_control_skbs: sums.link_control_skbs,
                    malformed_skbs: sums.malformed_skbs,
                });
            }
        }
    }
    rows
}
