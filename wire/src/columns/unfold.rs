//! Columns into edges, whatever the columns are: no more edges than [`MAX_EDGES`], no more owners in them than a report of plain
//! edges could have.

use prost::Message as _;

use super::{column::Column, samples, segments_unit, total};
use crate::{
    codec::{DecodeError, MAX_DECODED_BYTES},
    limits::{MAX_BUCKETS, MAX_EDGES, MAX_TUNNEL_BYTES},
    v1::{
        Counters, Edge, EdgeColumns, EdgeKind, Histogram, LocalColumns, Owner, Owners, Side, SocketColumns, Sockets,
        TimeColumns, WayColumns,
    },
};

fn invalid<T>(reason: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Invalid { reason })
}

/// Adds the columns' edges to those that are there.
pub(crate) fn unfold(columns: EdgeColumns, sampled_unix_ns: u64, edges: &mut Vec<Edge>) -> Result<(), DecodeError> {
    let mut locals = Locals::open(columns.locals.as_ref());
    let Some(rows) = Locals::open(columns.locals.as_ref()).rows(MAX_EDGES - edges.len().min(MAX_EDGES)) else {
        return invalid("more than 65,536 edges");
    };
    if columns.kinds.iter().any(|kind| kind.tunnel.len() > MAX_TUNNEL_BYTES) {
        return invalid("a tunnel's kind is over 16 bytes");
    }
    let addresses = Addresses::read(&columns, rows)?;
    let mut times = Times::open(columns.times.as_ref(), sampled_unix_ns);
    let mut ways = [&columns.forward, &columns.reverse].map(|way| Way::open(way.as_ref()));
    let mut sockets = SocketRows::open(columns.sockets.as_ref());
    let mut owners = OwnerLists::open(&columns.owner_lists);
    let mut rest = Rest::open(&columns.rest_rows, columns.rest);
    let mut open = [
        &columns.kind,
        &columns.remote,
        &columns.server_port,
        &columns.opened,
        &columns.incarnation,
        &columns.resets,
        &columns.icmp_errors,
        &columns.owners,
    ]
    .map(|bytes| Column::open(bytes));
    let [kind, remote, port, opened, incarnation, resets, icmp_errors, owner] = &mut open;
    let mut less = [&columns.established, &columns.closed].map(|bytes| Column::open_signed(bytes));
    let [established, closed] = &mut less;
    edges.reserve_exact(rows);
    let mut far = 0u64;
    for row in 0..rows {
        let Some(kind) = place(kind.next()).and_then(|place| columns.kinds.get(place)) else {
            return invalid("an edge is of no kind");
        };
        let mut edge = rest.next(row);
        far = if locals.next() { remote.next() } else { far.wrapping_add(remote.next()) };
        let [near, far] = [locals.address, far].map(|at| addresses.get(at));
        let (Some(near), Some(far)) = (near, far) else { return invalid("an end has no address") };
        [edge.client, edge.server] = if kind.side == i32::from(Side::Server) { [far, near] } else { [near, far] };
        edge.server_port = u32::try_from(port.next()).unwrap_or(u32::MAX);
        edge.device = locals.device;
        edge.cgroup = locals.cgroup;
        edge.incarnation = incarnation.next();
        edge.opened = opened.next();
        edge.established = edge.opened.wrapping_sub(established.next());
        edge.closed = edge.opened.wrapping_sub(closed.next());
        edge.resets = resets.next();
        edge.icmp_errors = icmp_errors.next();
        let [forward, reverse] = &mut ways;
        let forward = forward.next(segments_unit(edge.opened, None));
        let reverse = reverse.next(segments_unit(edge.opened, Some(&forward)));
        edge.forward = (!kind.without_forward).then_some(forward);
        edge.reverse = (!kind.without_reverse).then_some(reverse);
        [edge.first_seen_unix_ns, edge.forward_last_unix_ns, edge.reverse_last_unix_ns] = times.next(kind);
        edge.sockets = if kind.with_sockets { Some(sockets.next(edge.opened, kind.with_rtt)?) } else { None };
        edge.owners = owners.get(owner.next())?;
        of_kind(&mut edge, kind);
        edges.push(edge);
    }
    open.iter()
        .chain(&less)
        .chain(ways.iter().flat_map(|way| &way.0))
        .chain(&times.columns)
        .try_for_each(Column::close)?;
    locals.close()?;
    sockets.close()?;
    rest.close()
}

fn of_kind(edge: &mut Edge, kind: &EdgeKind) {
    edge.side = kind.side;
    edge.protocol = kind.protocol;
    edge.point = kind.point;
    edge.r#final = kind.r#final;
    edge.guessed = kind.guessed;
    edge.own = kind.own;
    edge.path_changed = kind.path_changed;
    edge.translated = kind.translated;
    edge.tunnel.clone_from(&kind.tunnel);
}

fn place(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

/// The bytes of a column that may not be there.
fn bytes<T>(columns: Option<&T>, of: fn(&T) -> &Vec<u8>) -> &[u8] {
    columns.map_or(&[], |columns| of(columns))
}

/// All addresses, by place.
struct Addresses {
    v4: Vec<[u8; 4]>,
    v6: Vec<[u8; 16]>,
}

impl Addresses {
    fn read(columns: &EdgeColumns, rows: usize) -> Result<Self, DecodeError> {
        let [v4, v6] = [columns.v4_count, columns.v6_count].map(|count| count as usize);
        if v4.max(v6) > 2 * rows {
            return invalid("more addresses than edges have");
        }
        let [mut steps, mut highs, mut lows] =
            [&columns.v4, &columns.v6_high, &columns.v6_low].map(|bytes| Column::open(bytes));
        let mut last = 0u64;
        let v4 = (0..v4).map(|_| {
            last = last.wrapping_add(steps.next());
            u32::try_from(last).map(u32::to_be_bytes)
        });
        let Ok(v4) = v4.collect() else { return invalid("an address is beyond 4 bytes") };
        let mut last = [0u64; 2];
        let v6 = (0..v6).map(|_| {
            let (step, low) = (highs.next(), lows.next());
            last = [last[0].wrapping_add(step), if step == 0 { last[1].wrapping_add(low) } else { low }];
            ((u128::from(last[0]) << 64) | u128::from(last[1])).to_be_bytes()
        });
        let v6 = v6.collect();
        [steps, highs, lows].iter().try_for_each(Column::close)?;
        Ok(Self { v4, v6 })
    }

    fn get(&self, at: u64) -> Option<Vec<u8>> {
        let at = place(at)?;
        match self.v4.get(at) {
            Some(address) => Some(address.to_vec()),
            None => self.v6.get(at - self.v4.len()).map(|address| address.to_vec()),
        }
    }
}

/// The local end of one edge after the other.
struct Locals<'a> {
    columns: [Column<'a>; 4],
    count: u32,
    /// Edges of the one that is begun.
    rows: u64,
    address: u64,
    device: u64,
    cgroup: u64,
}

impl<'a> Locals<'a> {
    fn open(columns: Option<&'a LocalColumns>) -> Self {
        let open = |of: fn(&LocalColumns) -> &Vec<u8>| Column::open(bytes(columns, of));
        let signed = |of: fn(&LocalColumns) -> &Vec<u8>| Column::open_signed(bytes(columns, of));
        Self {
            columns: [
                open(|columns| &columns.address),
                signed(|columns| &columns.device),
                open(|columns| &columns.cgroup),
                open(|columns| &columns.rows),
            ],
            count: columns.map_or(0, |columns| columns.count),
            rows: 0,
            address: 0,
            device: 0,
            cgroup: 0,
        }
    }

    /// Edges of all, unless they are more.
    fn rows(mut self, most: usize) -> Option<usize> {
        let mut sum = 0usize;
        let [.., rows] = &mut self.columns;
        for _ in 0..self.count {
            sum = sum.checked_add(place(rows.next())?)?.checked_add(1).filter(|sum| *sum <= most)?;
        }
        Some(sum)
    }

    /// Goes on to the next edge's. Says whether it is another one's than the last edge's.
    fn next(&mut self) -> bool {
        let other = self.rows == 0;
        if other {
            let [address, device, cgroup, rows] = &mut self.columns;
            self.address = self.address.wrapping_add(address.next());
            self.device = self.device.wrapping_add(device.next());
            self.cgroup = cgroup.next();
            self.rows = rows.next().saturating_add(1);
        }
        self.rows -= 1;
        other
    }

    fn close(&self) -> Result<(), DecodeError> {
        self.columns.iter().try_for_each(Column::close)
    }
}

/// Counters one way of one edge after the other.
struct Way<'a>([Column<'a>; 7]);

impl<'a> Way<'a> {
    fn open(columns: Option<&'a WayColumns>) -> Self {
        let open = |of: fn(&WayColumns) -> &Vec<u8>| Column::open(bytes(columns, of));
        let signed = |of: fn(&WayColumns) -> &Vec<u8>| Column::open_signed(bytes(columns, of));
        Self([
            open(|columns| &columns.segments),
            signed(|columns| &columns.segments_rest),
            signed(|columns| &columns.skbs),
            open(|columns| &columns.payload),
            signed(|columns| &columns.payload_rest),
            open(|columns| &columns.header),
            signed(|columns| &columns.header_rest),
        ])
    }

    fn next(&mut self, unit: u64) -> Counters {
        let [segments, segments_rest, skbs, payload, payload_rest, header, header_rest] = &mut self.0;
        let segments = total([segments.next(), segments_rest.next()], unit);
        let payload_bytes = total([payload.next(), payload_rest.next()], segments);
        let header_bytes = total([header.next(), header_rest.next()], segments);
        Counters {
            skbs: segments.wrapping_sub(skbs.next()),
            segments,
            l3_bytes: payload_bytes.wrapping_add(header_bytes),
            payload_bytes,
        }
    }
}

/// Times of one edge after the other.
struct Times<'a> {
    columns: [Column<'a>; 3],
    last: u64,
    unit: u64,
}

impl<'a> Times<'a> {
    fn open(columns: Option<&'a TimeColumns>, sampled_unix_ns: u64) -> Self {
        let open = |of: fn(&TimeColumns) -> &Vec<u8>| Column::open(bytes(columns, of));
        let signed = |of: fn(&TimeColumns) -> &Vec<u8>| Column::open_signed(bytes(columns, of));
        let [last, unit] = columns.map_or([0; 2], |columns| [columns.last_ns.cast_unsigned(), columns.unit_ns]);
        Self {
            columns: [
                open(|columns| &columns.first_seen),
                open(|columns| &columns.forward_last),
                signed(|columns| &columns.reverse_last),
            ],
            last: sampled_unix_ns.wrapping_add(last),
            unit,
        }
    }

    /// First seen, last forward, last reverse.
    fn next(&mut self, kind: &EdgeKind) -> [u64; 3] {
        let [seen, forward, reverse] = self.columns.each_mut().map(Column::next);
        let at = |without: bool, before: u64| {
            if without { 0 } else { self.last.wrapping_sub(self.unit.wrapping_mul(before)) }
        };
        [
            at(kind.without_first_seen, seen),
            at(kind.without_forward_last, forward),
            at(kind.without_reverse_last, forward.wrapping_add(reverse)),
        ]
    }
}

/// Sockets of one edge that has any after the other.
struct SocketRows<'a> {
    counts: [Column<'a>; 8],
    rtt: [Column<'a>; 4],
}

impl<'a> SocketRows<'a> {
    fn open(columns: Option<&'a SocketColumns>) -> Self {
        let open = |of: fn(&SocketColumns) -> &Vec<u8>| Column::open(bytes(columns, of));
        let signed = |of: fn(&SocketColumns) -> &Vec<u8>| Column::open_signed(bytes(columns, of));
        Self {
            counts: [
                signed(|columns| &columns.attempts),
                signed(|columns| &columns.established),
                open(|columns| &columns.refused),
                open(|columns| &columns.timed_out),
                open(|columns| &columns.unreachable),
                open(|columns| &columns.failed_otherwise),
                open(|columns| &columns.retransmitted),
                open(|columns| &columns.aborted),
            ],
            rtt: [
                open(|columns| &columns.rtt_count),
                open(|columns| &columns.rtt_sum),
                signed(|columns| &columns.rtt_sum_rest),
                open(|columns| &columns.rtt_buckets),
            ],
        }
    }

    fn next(&mut self, opened: u64, with_rtt: bool) -> Result<Sockets, DecodeError> {
        let rtt = if with_rtt { Some(self.next_rtt()?) } else { None };
        let [attempts, established, refused, timed_out, unreachable, failed_otherwise, retransmitted, aborted] =
            self.counts.each_mut().map(Column::next);
        let attempts = opened.wrapping_sub(attempts);
        let established = attempts.wrapping_sub(established);
        Ok(Sockets {
            attempts,
            established,
            refused,
            timed_out,
            unreachable,
            failed_otherwise,
            retransmitted,
            rtt,
            aborted,
        })
    }

    fn next_rtt(&mut self) -> Result<Histogram, DecodeError> {
        let [count, sum, rest, bucket] = &mut self.rtt;
        let count = place(count.next()).filter(|count| *count <= MAX_BUCKETS);
        let Some(count) = count else { return invalid("more than 32 buckets of a histogram") };
        let buckets: Vec<u64> = (0..count).map(|_| bucket.next()).collect();
        let sum_us = total([sum.next(), rest.next()], samples(&buckets));
        Ok(Histogram { buckets, sum_us })
    }

    fn close(&self) -> Result<(), DecodeError> {
        self.counts.iter().chain(&self.rtt).try_for_each(Column::close)
    }
}

/// Owners by their list's place. A list is told once and held by each edge that has it: what all of them take is bounded as if it
/// had been told each time.
struct OwnerLists<'a> {
    lists: &'a [Owners],
    bytes: Vec<usize>,
    left: usize,
}

impl<'a> OwnerLists<'a> {
    fn open(lists: &'a [Owners]) -> Self {
        Self { lists, bytes: lists.iter().map(Owners::encoded_len).collect(), left: MAX_DECODED_BYTES }
    }

    fn get(&mut self, number: u64) -> Result<Vec<Owner>, DecodeError> {
        let Some(at) = number.checked_sub(1) else { return Ok(Vec::new()) };
        let known = place(at).and_then(|at| Some((self.lists.get(at)?, self.bytes.get(at)?)));
        let Some((list, bytes)) = known else { return invalid("an edge's owners are in no list") };
        self.left = self.left.checked_sub(*bytes).ok_or(DecodeError::DecodedTooLarge)?;
        Ok(list.owners.clone())
    }
}

/// What is beside the columns, and of which edge the next is.
struct Rest<'a> {
    rows: Column<'a>,
    left: std::vec::IntoIter<Edge>,
    at: u64,
}

impl<'a> Rest<'a> {
    fn open(rows: &'a [u8], edges: Vec<Edge>) -> Self {
        let mut rows = Column::open(rows);
        let at = if edges.is_empty() { u64::MAX } else { rows.next() };
        Self { rows, left: edges.into_iter(), at }
    }

    fn next(&mut self, row: usize) -> Edge {
        if self.at != row as u64 {
            return Edge::default();
        }
        let edge = self.left.next().unwrap_or_default();
        self.at =
            if self.left.len() == 0 { u64::MAX } else { self.at.saturating_add(1).saturating_add(self.rows.next()) };
        edge
    }

    fn close(&self) -> Result<(), DecodeError> {
        if self.left.len() > 0 {
            return invalid("what is beside the columns is of no edge");
        }
        self.rows.close()
    }
}
