//! Rows of edges, from the merged state. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use wire::v1::Counters;

use super::{
    Group, Member,
    ends::{self, Ends},
    facts::{dns_row, drop_rows, owner_rows, point_label, sockets_row, via_rows},
    loss::{LossSum, add_loss, loss_row},
    vertex::VertexKey,
};
use crate::{
    merge::{
        Merge,
        facts::{Dns, Drops, Facts},
        flow::{Flow, Row, Side, Totals},
        node::NodeId,
        points::Points,
    },
    names::Names,
    rate::Rate,
    time::Ns,
    view::{CountersRow, EdgeRow, EdgeState, LossStatus, NodeState, RateRow, SideRow, View, ms},
};

/// The vertices of a row's ends.
pub(super) fn vertices(view: View, ends: &Ends, swapped: bool, names: &Names) -> (VertexKey, VertexKey) {
    let client = VertexKey::of(view, &ends.client, names);
    let server = VertexKey::of(view, &ends.server, names);
    if swapped { (server, client) } else { (client, server) }
}

pub(crate) fn protocol_name(protocol: u8) -> String {
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
    points: Points,
    path_changed: bool,
    facts: Facts,
}

/// Whether another edge counts some of what is counted here, by way of a virtual address: the other side did not get it.
fn is_astray(row: &Row) -> bool {
    row.facts.as_deref().is_some_and(|facts| facts.translated && !facts.vias.0.is_empty())
}

/// The row of a group.
pub(super) fn edge_row(view: View, id: &Arc<str>, group: &Group, merge: &Merge, names: &Names, now: Ns) -> EdgeRow {
    let mut sides: [Option<SideSum>; 2] = [None, None];
    let mut rate = RateRow::default();
    let mut loss = LossSum::default();
    let mut drops: BTreeMap<NodeId, Drops> = BTreeMap::new();
    let mut dns: Option<Dns> = None;
    let (mut guessed, mut own, mut ended) = (true, true, true);
    let (mut first_seen, mut last_seen) = (Ns::MAX, 0);
    for (flow_id, member) in &group.members {
        let Some(flow) = merge.flow(*flow_id) else { continue };
        ended &= flow.ended.is_some();
        let mut messages: [Option<Dns>; 2] = [None, None];
        let mine = |row: &Row| member.whole || is_mine(view, flow, row, *member, group, merge, names);
        for row in flow.rows.iter().filter(|row| mine(row)) {
            add_row(&mut sides, row, *member, merge);
            add_drops(&mut drops, row, *member);
            let facts = row.facts.as_deref().and_then(|facts| facts.dns.as_ref());
            add_dns(&mut messages[usize::from(row.source.side == Side::Server)], facts);
            guessed &= row.guessed;
            own &= row.own;
            first_seen = first_seen.min(row.first_seen);
            last_seen = last_seen.max(row.totals.forward_last).max(row.totals.reverse_last);
        }
        // Both ends see the same messages; the client's knows how long it waited.
        let [asked, answered] = messages;
        add_dns(&mut dns, asked.or(answered).as_ref());
        // Samples are of the newest holder of the addresses; what an older one had stands still.
        let newest = flow.rows.iter().max_by_key(|row| row.first_seen);
        if !member.whole && flow.rows.iter().any(|row| row.cgroup != 0) {
            add_cgroup_rates(&mut rate, flow, *member, &mine);
            loss.unmeasured(LossStatus::OneSided, || "the other side cannot tell the node's pods apart".to_owned());
        } else if newest.is_some_and(mine) {
            add_rate(&mut rate, [flow.evaluation.forward, flow.evaluation.reverse], *member);
            if flow.rows.iter().any(is_astray) {
                loss.unmeasured(LossStatus::OneSided, || "some of it was sent on to another backend".to_owned());
            } else {
                add_loss(&mut loss, flow, *member, merge, names, now);
            }
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
    let drops = drops.iter().map(|(node, drops)| (&merge.node(*node).name, drops));
    let drops = drop_rows(drops);
    let translated = sides.iter().flatten().any(|side| side.facts.translated);
    let vias = sides.iter().flatten().flat_map(|side| side.facts.vias.0.iter().copied()).collect();
    let [client_side, server_side] = sides.map(|side| side.map(|side| side_row(&side, merge, names)));
    EdgeRow {
        id: Arc::clone(id),
        client: Arc::clone(&group.client_id),
        server: Arc::clone(&group.server_id),
        port: group.port,
        protocol: protocol_name(group.protocol),
        tunnel: group.tunnel.map(|tunnel| tunnel.label().to_owned()),
        via: via_rows(&vias, names),
        translated,
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
        drops,
        dns: dns.as_ref().map(dns_row),
    }
}

fn is_mine(view: View, flow: &Flow, row: &Row, member: Member, group: &Group, merge: &Merge, names: &Names) -> bool {
    let (client, server) = vertices(view, &ends::of_row(flow, row, merge, names), member.swapped, names);
    group.client.takes(&client) && group.server.takes(&server)
}

fn add_row(sides: &mut [Option<SideSum>; 2], row: &Row, member: Member, merge: &Merge) {
    let side = if member.swapped { row.source.side.other() } else { row.source.side };
    let sum = sides[usize::from(side == Side::Server)].get_or_insert_default();
    let totals = if member.swapped { row.totals.swapped() } else { row.totals };
    sum.totals = sum.totals.plus(&totals);
    sum.nodes.insert(row.source.node);
    sum.points = sum.points.and(row.points);
    sum.path_changed |= row.path_changed;
    if let Some(facts) = &row.facts {
        sum.facts.add(facts);
    }
    let node = merge.node(row.source.node);
    let current = node.epoch().is_some_and(|(epoch, _)| epoch == row.source.epoch);
    sum.fresh |= (current || row.finished) && node.told != Some(NodeState::Lost);
}

/// An agent tells each drop on one of its rows, so the rows of all nodes add up.
fn add_drops(sum: &mut BTreeMap<NodeId, Drops>, row: &Row, member: Member) {
    let Some(drops) = row.facts.as_ref().map(|facts| &facts.drops).filter(|drops| !drops.0.is_empty()) else { return };
    let node = sum.entry(row.source.node).or_default();
    if member.swapped { node.add(&drops.swapped()) } else { node.add(drops) }
}

fn add_dns(sum: &mut Option<Dns>, dns: Option<&Dns>) {
    if let Some(dns) = dns {
        sum.get_or_insert_default().add(dns);
    }
}

fn add_rate(sum: &mut RateRow, [forward, reverse]: [Rate; 2], member: Member) {
    let (forward, reverse) = if member.swapped { (reverse, forward) } else { (forward, reverse) };
    sum.forward_skbs += forward.skbs;
    sum.reverse_skbs += reverse.skbs;
    sum.forward_bytes += forward.bytes;
    sum.reverse_bytes += reverse.bytes;
    sum.connections += forward.connections + reverse.connections;
}

/// The rates of those of the node's pods that are meant: each cgroup once, in its newest run.
fn add_cgroup_rates(sum: &mut RateRow, flow: &Flow, member: Member, mine: &impl Fn(&Row) -> bool) {
    for (side, cgroup, rates) in &flow.evaluation.cgroups {
        let rows = flow.rows.iter().filter(|row| row.source.side == *side && row.cgroup == *cgroup);
        if rows.max_by_key(|row| row.first_seen).is_some_and(mine) {
            add_rate(sum, *rates, member);
        }
    }
}

fn side_row(side: &SideSum, merge: &Merge, names: &Names) -> SideRow {
    let totals = side.totals;
    SideRow {
        nodes: side.nodes.iter().map(|id| Arc::clone(&merge.node(*id).name)).collect(),
        stale: !side.fresh,
        points: side.points.iter().filter_map(point_label).map(ToOwned::to_owned).collect(),
        path_changed: side.path_changed,
        forward: counters(&totals.forward),
        reverse: counters(&totals.reverse),
        opened: totals.opened,
        established: totals.established,
        closed: totals.closed,
        resets: totals.resets,
        icmp_errors: totals.icmp_errors,
        sockets: side.facts.sockets.as_ref().map(sockets_row),
        owners: owner_rows(&side.facts.owners, names),
    }
}

fn counters(of: &Counters) -> CountersRow {
    CountersRow { skbs: of.skbs, segments: of.segments, l3_bytes: of.l3_bytes, payload_bytes: of.payload_bytes }
}

pub(crate) fn round(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}
