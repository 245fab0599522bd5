//! Edges into columns.

use std::collections::HashMap;

use super::{
    by, ends,
    pack::{pack, pack_signed},
    segments_unit,
};
use crate::v1::{
    Counters, Edge, EdgeColumns, EdgeKind, Histogram, LocalColumns, Owner, Owners, Side, SocketColumns, Sockets,
    TimeColumns, WayColumns,
};

/// An edge and where it stands.
struct Row<'a> {
    edge: &'a Edge,
    local: u32,
    remote: u32,
}

/// Columns of all edges that fit into some, and the others; times are told by how far they are from when the report was sampled.
pub(crate) fn fold(edges: &[Edge], sampled_unix_ns: u64) -> (Option<EdgeColumns>, Vec<Edge>) {
    let fits = |edge: &&Edge| {
        let sides = [Side::Client, Side::Server].map(i32::from);
        sides.contains(&edge.side) && ends(edge).iter().all(|end| matches!(end.len(), 4 | 16))
    };
    let others = edges.iter().filter(|edge| !fits(edge)).cloned().collect();
    let mut columns = EdgeColumns::default();
    let rows = placed(edges.iter().filter(fits), &mut columns);
    if rows.is_empty() {
        return (None, others);
    }
    let each = |of: &dyn Fn(&Edge) -> u64| pack(rows.iter().map(|row| of(row.edge)));
    let each_signed = |of: &dyn Fn(&Edge) -> u64| pack_signed(rows.iter().map(|row| of(row.edge)));
    locals(&rows, &mut columns);
    kinds(&rows, &mut columns);
    owners(&rows, &mut columns);
    rest(&rows, &mut columns);
    columns.server_port = each(&|edge| edge.server_port.into());
    columns.opened = each(&|edge| edge.opened);
    columns.established = each_signed(&|edge| edge.opened.wrapping_sub(edge.established));
    columns.closed = each_signed(&|edge| edge.opened.wrapping_sub(edge.closed));
    columns.incarnation = each(&|edge| edge.incarnation);
    columns.resets = each(&|edge| edge.resets);
    columns.icmp_errors = each(&|edge| edge.icmp_errors);
    let forward = |edge: &Edge| edge.forward.unwrap_or_default();
    columns.forward = way(&rows, forward, |edge| segments_unit(edge.opened, None));
    let reverse = |edge: &Edge| edge.reverse.unwrap_or_default();
    columns.reverse = way(&rows, reverse, |edge| segments_unit(edge.opened, Some(&forward(edge))));
    columns.times = Some(times(&rows, sampled_unix_ns));
    columns.sockets = sockets(&rows);
    (Some(columns), others)
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

/// Rows in the order of their ends, whose addresses go into a dictionary.
fn placed<'a>(edges: impl Iterator<Item = &'a Edge> + Clone, columns: &mut EdgeColumns) -> Vec<Row<'a>> {
    let mut addresses: Vec<&[u8]> = edges.clone().flat_map(ends).map(Vec::as_slice).collect();
    addresses.sort_unstable_by_key(|address| (address.len(), *address));
    addresses.dedup();
    let place = |end: &[u8]| {
        let order = |address: &&[u8]| (address.len(), *address).cmp(&(end.len(), end));
        count(addresses.binary_search_by(order).unwrap_or_default())
    };
    let mut rows: Vec<Row<'_>> = edges
        .map(|edge| {
            let [local, remote] = ends(edge).map(|end| place(end));
            Row { edge, local, remote }
        })
        .collect();
    rows.sort_by_key(|row| (local(row), row.remote, row.edge.side, row.edge.protocol, row.edge.server_port));
    let (v4, v6) = addresses.split_at(addresses.partition_point(|address| address.len() == 4));
    let v4: Vec<u64> = v4.iter().map(|address| big_endian(address)).collect();
    columns.v4_count = count(v4.len());
    columns.v4 = pack(steps(&v4));
    let halves = |half: usize| v6.iter().map(|address| big_endian(&address[8 * half..][..8])).collect::<Vec<u64>>();
    let [high, low] = [halves(0), halves(1)];
    columns.v6_count = count(v6.len());
    columns.v6_high = pack(steps(&high));
    let within = steps(&high).zip(&low).zip(steps(&low));
    columns.v6_low = pack(within.map(|((step, whole), low)| if step == 0 { low } else { *whole }));
    rows
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What each is above the one before.
fn steps(numbers: &[u64]) -> impl Iterator<Item = u64> {
    let before = std::iter::once(0).chain(numbers.iter().copied());
    numbers.iter().zip(before).map(|(number, before)| number.wrapping_sub(before))
}

/// What is one local end.
fn local(row: &Row<'_>) -> (u32, u64, u64) {
    (row.local, row.edge.device, row.edge.cgroup)
}

fn locals(rows: &[Row<'_>], columns: &mut EdgeColumns) {
    let ends: Vec<&[Row<'_>]> = rows.chunk_by(|a, b| local(a) == local(b)).collect();
    let of = |what: fn(&Row<'_>) -> u64| ends.iter().map(|rows| what(&rows[0])).collect::<Vec<u64>>();
    columns.locals = Some(LocalColumns {
        count: count(ends.len()),
        address: pack(steps(&of(|row| row.local.into()))),
        device: pack_signed(steps(&of(|row| row.edge.device))),
        cgroup: pack(of(|row| row.edge.cgroup).into_iter()),
        rows: pack(ends.iter().map(|rows| rows.len() as u64 - 1)),
    });
    let remote = |rows: &&[Row<'_>]| steps(&rows.iter().map(|row| row.remote.into()).collect::<Vec<u64>>()).collect();
    columns.remote = pack(ends.iter().flat_map(|rows| -> Vec<u64> { remote(rows) }));
}

fn kinds(rows: &[Row<'_>], columns: &mut EdgeColumns) {
    let mut known = HashMap::new();
    let mut place = |kind: EdgeKind| {
        *known.entry(kind).or_insert_with_key(|kind| {
            columns.kinds.push(kind.clone());
            columns.kinds.len() as u64 - 1
        })
    };
    columns.kind = pack(rows.iter().map(|row| place(kind(row.edge))));
}

fn kind(edge: &Edge) -> EdgeKind {
    EdgeKind {
        side: edge.side,
        protocol: edge.protocol,
        point: edge.point,
        r#final: edge.r#final,
        guessed: edge.guessed,
        own: edge.own,
        path_changed: edge.path_changed,
        translated: edge.translated,
        tunnel: edge.tunnel.clone(),
        without_forward: edge.forward.is_none(),
        without_reverse: edge.reverse.is_none(),
        without_first_seen: edge.first_seen_unix_ns == 0,
        without_forward_last: edge.forward_last_unix_ns == 0,
        without_reverse_last: edge.reverse_last_unix_ns == 0,
        with_sockets: edge.sockets.is_some(),
        with_rtt: edge.sockets.as_ref().is_some_and(|sockets| sockets.rtt.is_some()),
    }
}

fn owners(rows: &[Row<'_>], columns: &mut EdgeColumns) {
    let mut known: HashMap<&[Owner], u64> = HashMap::new();
    let lists = &mut columns.owner_lists;
    columns.owners = pack(rows.iter().map(|row| {
        if row.edge.owners.is_empty() {
            return 0;
        }
        *known.entry(&row.edge.owners).or_insert_with_key(|owners| {
            lists.push(Owners { owners: owners.to_vec() });
            lists.len() as u64
        })
    }));
}

fn rest(rows: &[Row<'_>], columns: &mut EdgeColumns) {
    let mut before = 0;
    let mut between = Vec::new();
    for (at, row) in (1..).zip(rows) {
        let rest = beside_columns(row.edge);
        if rest != Edge::default() {
            columns.rest.push(rest);
            between.push(at - before - 1);
            before = at;
        }
    }
    columns.rest_rows = pack(between.into_iter());
}

/// What no column holds. Names every field, so that one that comes new has to be thought of.
fn beside_columns(edge: &Edge) -> Edge {
    let Edge {
        client: _,
        server: _,
        server_port: _,
        protocol: _,
        side: _,
        device: _,
        incarnation: _,
        r#final: _,
        guessed: _,
        own: _,
        forward: _,
        reverse: _,
        opened: _,
        established: _,
        closed: _,
        resets: _,
        icmp_errors: _,
        first_seen_unix_ns: _,
        forward_last_unix_ns: _,
        reverse_last_unix_ns: _,
        tunnel: _,
        point: _,
        path_changed: _,
        cgroup: _,
        sockets: _,
        owners: _,
        drops,
        dns,
        vias,
        translated: _,
    } = edge;
    Edge { drops: drops.clone(), dns: dns.clone(), vias: vias.clone(), ..Edge::default() }
}

/// Columns of one way; none where nobody counted anything.
fn way(rows: &[Row<'_>], of: impl Fn(&Edge) -> Counters, unit: impl Fn(&Edge) -> u64) -> Option<WayColumns> {
    let each = |value: &dyn Fn(&Edge, Counters) -> u64| pack(rows.iter().map(|row| value(row.edge, of(row.edge))));
    let rest =
        |value: &dyn Fn(&Edge, Counters) -> u64| pack_signed(rows.iter().map(|row| value(row.edge, of(row.edge))));
    let segments = |edge: &Edge, way: Counters| by(way.segments, unit(edge));
    let payload = |way: Counters| by(way.payload_bytes, way.segments);
    let header = |way: Counters| by(way.l3_bytes.wrapping_sub(way.payload_bytes), way.segments);
    let columns = WayColumns {
        segments: each(&|edge, way| segments(edge, way)[0]),
        segments_rest: rest(&|edge, way| segments(edge, way)[1]),
        skbs: rest(&|_, way| way.segments.wrapping_sub(way.skbs)),
        payload: each(&|_, way| payload(way)[0]),
        payload_rest: rest(&|_, way| payload(way)[1]),
        header: each(&|_, way| header(way)[0]),
        header_rest: rest(&|_, way| header(way)[1]),
    };
    (columns != WayColumns::default()).then_some(columns)
}

fn times(rows: &[Row<'_>], sampled_unix_ns: u64) -> TimeColumns {
    let of = |edge: &Edge| [edge.first_seen_unix_ns, edge.forward_last_unix_ns, edge.reverse_last_unix_ns];
    let all = || rows.iter().flat_map(|row| of(row.edge)).filter(|time| *time != 0);
    let last = all().max().unwrap_or(0);
    let unit = all().fold(0, |unit, time| common_divisor(unit, last - time)).max(1);
    // 0 where there is none.
    let units = |time: u64| if time == 0 { 0 } else { (last - time) / unit };
    let each = |value: fn([u64; 3]) -> u64| pack(rows.iter().map(|row| units(value(of(row.edge)))));
    TimeColumns {
        last_ns: last.wrapping_sub(sampled_unix_ns).cast_signed(),
        unit_ns: unit,
        first_seen: each(|[seen, ..]| seen),
        forward_last: each(|[_, forward, _]| forward),
        reverse_last: pack_signed(rows.iter().map(|row| match of(row.edge) {
            [.., 0] => 0,
            [_, forward, reverse] => units(reverse).wrapping_sub(units(forward)),
        })),
    }
}

/// The greatest; with 0 the other.
fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while a != 0 {
        (a, b) = (b % a, a);
    }
    b
}

fn sockets(rows: &[Row<'_>]) -> Option<SocketColumns> {
    let with = || rows.iter().filter_map(|row| Some((row.edge, row.edge.sockets.as_ref()?)));
    let each = |value: &dyn Fn(&Sockets) -> u64| pack(with().map(|(_, sockets)| value(sockets)));
    let rtt = || with().filter_map(|(_, sockets)| sockets.rtt.as_ref());
    let sum = |rtt: &Histogram| by(rtt.sum_us, super::samples(&rtt.buckets));
    let columns = SocketColumns {
        attempts: pack_signed(with().map(|(edge, sockets)| edge.opened.wrapping_sub(sockets.attempts))),
        established: pack_signed(with().map(|(_, sockets)| sockets.attempts.wrapping_sub(sockets.established))),
        refused: each(&|sockets| sockets.refused),
        timed_out: each(&|sockets| sockets.timed_out),
        unreachable: each(&|sockets| sockets.unreachable),
        failed_otherwise: each(&|sockets| sockets.failed_otherwise),
        retransmitted: each(&|sockets| sockets.retransmitted),
        aborted: each(&|sockets| sockets.aborted),
        rtt_count: pack(rtt().map(|rtt| rtt.buckets.len() as u64)),
        rtt_sum: pack(rtt().map(|rtt| sum(rtt)[0])),
        rtt_sum_rest: pack_signed(rtt().map(|rtt| sum(rtt)[1])),
        rtt_buckets: pack(rtt().flat_map(|rtt| rtt.buckets.iter().copied())),
    };
    (columns != SocketColumns::default()).then_some(columns)
}
