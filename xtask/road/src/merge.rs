//! P7: records a second of one core, from a body to the text of a delta, beside the least that could be done with each record:
//! an upsert into a hash table.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use collector::{hash::HashMap, time};

use crate::{
    LARGE, SECOND,
    cluster::{Cluster, Random, START},
    figure,
    steps::{self, Collector},
};

/// Rounds that are not measured, and rounds that are.
const ROUNDS: (u64, u64) = (3, 6);
/// Steps of the view in a second.
const STEPS: usize = 10;
/// Upserts that the bound is taken over.
const UPSERTS: usize = 20_000_000;

pub(crate) fn run() -> bool {
    let bound = upserts(LARGE.2);
    let (nodes, pods, edges) = LARGE;
    let cluster = Cluster::new(nodes, pods, edges);
    let mut collector = Collector::new(START);
    let names = ["decode", "join", "evaluate", "project", "write"];
    let mut spent = [Duration::ZERO; 5];
    let (mut records, mut rows, mut bytes) = (0, 0, 0);
    for round in 1..=ROUNDS.0 + ROUNDS.1 {
        if round == ROUNDS.0 + 1 {
            (spent, records, rows, bytes) = ([Duration::ZERO; 5], 0, 0, 0);
        }
        for step in 0..STEPS {
            let now = START + round * SECOND + SECOND * step as u64 / STEPS as u64;
            let nodes = (0..cluster.nodes()).filter(|node| node % STEPS == step);
            let bodies: Vec<Vec<u8>> = nodes.map(|node| steps::encode(&cluster.report(node, round, now))).collect();
            let now = time::from_wire(now);
            let mut clock = |index: usize, since: Instant| spent[index] += since.elapsed();
            for body in &bodies {
                let since = Instant::now();
                let report = steps::decode(body);
                clock(0, since);
                records += report.edges.len();
                let since = Instant::now();
                collector.join(&report, now);
                clock(1, since);
            }
            let since = Instant::now();
            let changes = collector.evaluate(now);
            clock(2, since);
            rows += changes.len();
            let since = Instant::now();
            let delta = collector.project(&changes, now);
            clock(3, since);
            let since = Instant::now();
            bytes += delta.as_ref().map_or(0, steps::write);
            clock(4, since);
        }
    }
    let all: Duration = spent.iter().sum();
    let each = |spent: Duration| spent.as_secs_f64() * 1e9 / records as f64;
    println!("{} edges of {nodes} nodes, {records} records, {rows} rows, {bytes} bytes written", collector.edges());
    let parts: Vec<String> =
        names.iter().zip(spent).map(|(name, spent)| format!("{name} {:.0} ns", each(spent))).collect();
    println!("a record: {} = {:.0} ns", parts.join(" + "), each(all));
    let speed = records as f64 / all.as_secs_f64();
    println!("records a second of a core: {:.2} M; upserts of {edges} keys: {:.0} M", speed / 1e6, bound / 1e6);
    figure("P7", "records ÷ upserts", "", speed / bound, [0.07, 0.20], false)
}

/// Upserts a second into a table of so many keys, in an order that no cache foresees.
fn upserts(keys: usize) -> f64 {
    let mut random = Random(7);
    let order: Vec<u64> = (0..keys * 4).map(|_| random.below(keys as u64)).collect();
    let mut table: HashMap<u64, [u64; 2]> = HashMap::default();
    (0..keys as u64).for_each(|key| _ = table.insert(key, [0; 2]));
    let since = Instant::now();
    for key in order.iter().cycle().take(UPSERTS) {
        let value = table.entry(black_box(*key)).or_default();
        value[0] += 1;
        value[1] = value[1].max(*key);
    }
    black_box(&table);
    UPSERTS as f64 / since.elapsed().as_secs_f64()
}
