//! How much each edge grew since the last look: totals of the merge held against what they were. Pure.

use super::{
    EdgeKey,
    pack::{self, FIELDS, Numbers, flags},
};
use crate::{
    hash::{HashMap, HashSet},
    merge::{
        Change, FlowId, Merge,
        evaluate::Unmeasured,
        facts::{Dns, DropKey, Drops},
        flow::{Flow, Row, Side, Totals},
    },
    names::Names,
    project::ends,
    time::{Ns, SECOND},
};

/// What is said to be older than this before the last look began before it.
const SLACK: Ns = 5 * SECOND;
/// DNS response codes: no error, no such name.
const NOERROR: u32 = 0;
/// See [`NOERROR`].
const NXDOMAIN: u32 = 3;

/// What a series had counted at the last look.
#[derive(Debug, Clone)]
struct Base {
    series: Option<(Side, u64)>,
    numbers: Numbers,
    drops: Drops,
}

/// What an edge did since.
#[derive(Debug)]
pub(super) struct Growth {
    pub(super) key: EdgeKey,
    pub(super) first_seen: Ns,
    pub(super) flags: u8,
    pub(super) numbers: Numbers,
    pub(super) drops: Vec<(DropKey, u64)>,
}

/// The last look.
#[derive(Debug)]
pub(super) struct Watch {
    bases: HashMap<FlowId, Vec<Base>>,
    touched: HashSet<FlowId>,
    looked: Ns,
    first: bool,
}

impl Watch {
    pub(super) fn new(now: Ns) -> Self {
        Self { bases: HashMap::default(), touched: HashSet::default(), looked: now, first: true }
    }

    pub(super) fn note(&mut self, changes: &[(FlowId, Change)]) {
        for (id, change) in changes {
            if *change == Change::Removed {
                self.bases.remove(id);
                self.touched.remove(id);
            } else {
                self.touched.insert(*id);
            }
        }
    }

    /// What grew since the last look.
    pub(super) fn gather(&mut self, merge: &Merge, names: &Names, now: Ns) -> Vec<Growth> {
        // What began before we watched, and was counted by nobody, did not happen in this bucket.
        let since = if self.first { self.looked } else { self.looked.saturating_sub(SLACK) };
        (self.looked, self.first) = (now, false);
        let mut grown = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(flow) = merge.flow(id) else { continue };
            let bases = self.bases.entry(id).or_default();
            for series in series(flow) {
                let Some(seen) = look(id, flow, series, merge, names) else { continue };
                let known = bases.iter().position(|base| base.series == series);
                let fresh = Base { series, numbers: seen.numbers, drops: seen.drops };
                let before = match known {
                    Some(index) => Some(std::mem::replace(&mut bases[index], fresh.clone())),
                    None => {
                        bases.push(fresh.clone());
                        (seen.first_seen >= since).then(|| Base {
                            numbers: [0; FIELDS],
                            drops: Drops::default(),
                            series,
                        })
                    }
                };
                let Some(before) = before else { continue };
                // Loss that cannot be told for a while is not loss again when it can.
                if let Some(base) = bases.iter_mut().find(|base| base.series == series) {
                    for index in pack::LOST..pack::QUERIES {
                        base.numbers[index] = base.numbers[index].max(before.numbers[index]);
                    }
                }
                let mut numbers = fresh.numbers;
                for (number, before) in numbers.iter_mut().zip(before.numbers) {
                    *number = number.saturating_sub(before);
                }
                let grown_by = |(key, count): (&DropKey, &u64)| {
                    let more = count.saturating_sub(before.drops.0.get(key).copied().unwrap_or(0));
                    (more > 0).then(|| (key.clone(), more))
                };
                let drops: Vec<_> = fresh.drops.0.iter().filter_map(grown_by).collect();
                if numbers != [0; FIELDS] || !drops.is_empty() {
                    let (key, first_seen, flags) = (seen.key, seen.first_seen, seen.flags);
                    grown.push(Growth { key, first_seen, flags, numbers, drops });
                }
            }
        }
        grown
    }
}

/// A node's own address is many pods': their rows are told apart by cgroup.
fn series(flow: &Flow) -> Vec<Option<(Side, u64)>> {
    let mut all: Vec<Option<(Side, u64)>> = Vec::new();
    if flow.rows.iter().any(|row| row.cgroup != 0) {
        let of = |row: &Row| (row.cgroup != 0).then_some((row.source.side, row.cgroup));
        for one in flow.rows.iter().map(of) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    } else {
        all.push(None);
    }
    all
}

struct Seen {
    key: EdgeKey,
    first_seen: Ns,
    flags: u8,
    numbers: Numbers,
    drops: Drops,
}

fn look(id: FlowId, flow: &Flow, series: Option<(Side, u64)>, merge: &Merge, names: &Names) -> Option<Seen> {
    let mine = |row: &&Row| match series {
        Some((side, cgroup)) => row.source.side == side && row.cgroup == cgroup,
        None => row.cgroup == 0,
    };
    // What is counted now is the newest holder's.
    let newest = flow.rows.iter().filter(mine).max_by_key(|row| row.first_seen)?;
    let swapped = flow.guessed()
        && merge.flow_by_key(&flow.key.swapped()).is_some_and(|(twin, flow)| twin != id && !flow.guessed());
    let ends = ends::of_row(flow, newest, merge, names);
    let (client, server) = if swapped { (ends.server, ends.client) } else { (ends.client, ends.server) };
    let key = EdgeKey { client, server, port: flow.key.port, protocol: flow.key.protocol, tunnel: flow.key.tunnel };
    let mut seen = Seen { key, first_seen: Ns::MAX, flags: 0, numbers: [0; FIELDS], drops: Drops::default() };
    let mut connections: [Option<[u64; 10]>; 2] = [None, None];
    let mut dns: [Option<[u64; 5]>; 2] = [None, None];
    let (mut guessed, mut own) = (true, true);
    for row in flow.rows.iter().filter(mine) {
        let side = if swapped { row.source.side.other() } else { row.source.side };
        let totals = if swapped { row.totals.swapped() } else { row.totals };
        let at = usize::from(side == Side::Server);
        add_traffic(&mut seen.numbers, [pack::CLIENT, pack::SERVER][at], &totals);
        seen.flags |= [flags::CLIENT, flags::SERVER][at];
        let sum = connections[at].get_or_insert_default();
        sum.iter_mut().zip(counted(row)).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        if let Some(facts) = &row.facts {
            seen.drops.add(&if swapped { facts.drops.swapped() } else { facts.drops.clone() });
            if let Some(of_row) = &facts.dns {
                let sum = dns[at].get_or_insert_default();
                sum.iter_mut().zip(messages(of_row)).for_each(|(sum, more)| *sum = sum.saturating_add(more));
            }
        }
        guessed &= row.guessed;
        own &= row.own;
        seen.first_seen = seen.first_seen.min(row.first_seen);
    }
    // Both ends see the same connections and the same messages: the client's end knows more of them.
    let [asked, answered] = connections;
    seen.numbers[pack::OPENED..pack::LOST].copy_from_slice(&asked.or(answered).unwrap_or_default());
    let [asked, answered] = dns;
    seen.numbers[pack::QUERIES..].copy_from_slice(&asked.or(answered).unwrap_or_default());
    if series.is_none() {
        match &flow.evaluation.loss {
            Ok((forward, reverse)) => {
                let both = if swapped { [reverse.lost, forward.lost] } else { [forward.lost, reverse.lost] };
                seen.numbers[pack::LOST..pack::QUERIES].copy_from_slice(&both);
                seen.flags |= flags::MEASURED;
            }
            Err(Unmeasured::Settling) => seen.flags |= flags::SETTLING,
            Err(_) => {}
        }
    }
    seen.flags |= if guessed { flags::GUESSED } else { 0 } | if own { flags::OWN } else { 0 };
    Some(seen)
}

fn add_traffic(numbers: &mut Numbers, at: usize, totals: &Totals) {
    let (there, back) = (&totals.forward, &totals.reverse);
    let all = [there.skbs, there.segments, there.l3_bytes, back.skbs, back.segments, back.l3_bytes];
    for (index, more) in all.into_iter().enumerate() {
        numbers[at + index] = numbers[at + index].saturating_add(more);
    }
}

/// From [`pack::OPENED`] to [`pack::RETRANSMITTED`].
fn counted(row: &Row) -> [u64; 10] {
    let totals = &row.totals;
    let sockets = row.facts.as_ref().and_then(|facts| facts.sockets.clone()).unwrap_or_default();
    [
        totals.opened,
        totals.established,
        totals.closed,
        totals.resets,
        sockets.attempts,
        sockets.refused,
        sockets.timed_out,
        sockets.unreachable,
        sockets.failed_otherwise,
        sockets.retransmitted,
    ]
}

/// From [`pack::QUERIES`] to the end.
fn messages(dns: &Dns) -> [u64; 5] {
    let nameless = dns.rcodes.get(&NXDOMAIN).copied().unwrap_or(0);
    let bad = dns.rcodes.iter().filter(|(code, _)| ![NOERROR, NXDOMAIN].contains(*code));
    let bad = bad.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    [dns.queries, dns.answers, dns.timeouts, nameless, bad]
}
