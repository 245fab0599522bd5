//! What a load cost, and whether all of it arrived.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Load, Tally, probe};
use crate::bench::machine;

/// The collector at one moment.
pub(crate) struct Moment {
    at: Instant,
    cpu: f64,
    deltas: f64,
    tally: Tally,
}

impl Moment {
    pub(crate) fn of(load: &Load) -> anyhow::Result<Self> {
        Ok(Self { at: Instant::now(), cpu: load.cpu_seconds()?, deltas: load.deltas()?, tally: load.tally() })
    }
}

/// Prints what it cost since `before`; `views` are looked at by `clients`.
pub(crate) fn print(load: &Load, before: &Moment, views: u16, clients: u16) -> anyhow::Result<()> {
    let now = Moment::of(load)?;
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let share = |count: u64, before: u64| (count - before) as f64;
    let (records, bytes) = (share(now.tally.records, before.tally.records), share(now.tally.bytes, before.tally.bytes));
    let reports = share(now.tally.reports, before.tally.reports);
    let cpu = now.cpu - before.cpu;
    println!("{}", machine());
    println!(
        "reports          {:.0} a second, {} refused, {} late; {records:.0} records in {seconds:.0} s",
        reports / seconds,
        now.tally.refused - before.tally.refused,
        now.tally.late - before.tally.late
    );
    println!("on the wire      {:.1} B a record, {:.0} B a report", bytes / records, bytes / reports);
    println!(
        "collector        {:.0} % of a core, {:.2} CPU s a million records; {} resident, {} at the most",
        cpu / seconds * 100.0,
        cpu / records * 1e6,
        load.memory("VmRSS")?,
        load.memory("VmHWM")?
    );
    if clients > 0 {
        let ticks = (now.deltas - before.deltas) / f64::from(views) / seconds;
        println!("streams          {clients} clients of {views} views, {ticks:.1} deltas a second of each");
    }
    Ok(())
}

pub(super) fn print_probe(found: &probe::Found) -> anyhow::Result<()> {
    let all = &found.latencies;
    let at = |per_mille: usize| all.get(all.len() * per_mille / 1_000).copied().unwrap_or_default();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!("report → stream  p50 {:.0} ms, p99 {:.0} ms of {} probes", millis(at(500)), millis(at(990)), all.len());
    if all.is_empty() { bail!("no probe arrived") } else { Ok(()) }
}

/// Every packet that was acknowledged is on an edge, or counted as one that found no room.
pub(super) fn verify(load: &Load, told: u64) -> anyhow::Result<()> {
    let (status, text) = load.get("/api/v1/graph?view=namespace")?;
    if status != 200 {
        bail!("ask for the graph: status {status}");
    }
    let graph: Value = serde_json::from_str(&text).context("read the graph")?;
    let on_edges: u64 = rows(&graph, "edges")
        .flat_map(|edge| ["client_side", "server_side"].map(|side| &edge[side]))
        .flat_map(|side| ["forward", "reverse"].map(|way| side[way]["segments"].as_u64().unwrap_or(0)))
        .sum();
    let shed: u64 = rows(&graph, "nodes")
        .flat_map(|node| rows(node, "losses"))
        .filter(|loss| loss["cause"] == "collector_full")
        .filter_map(|loss| loss["count"].as_u64())
        .sum();
    let rest = told.abs_diff(on_edges + shed);
    println!("packets          {told} acknowledged, {on_edges} on edges, {shed} counted as lost; {rest} uncounted");
    if rest > 0 { bail!("{rest} packets are on no edge and in no count") } else { Ok(()) }
}

fn rows<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}
