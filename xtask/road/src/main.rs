//! `road merge`, `road wire`: speeds and sizes of a report's road, for `cargo xtask bench`; exit status 1 where a figure is
//! missed. `road count STEP`: one step over a fixed input, for a counter of instructions.

mod cluster;
mod merge;
mod sizes;
mod steps;

use std::process::ExitCode;

use cluster::{Cluster, START};
use collector::time;
use steps::{Agent, Collector};

/// Nodes, pods and edges of a cluster as large as promised.
const LARGE: (usize, u64, usize) = (154, 4_000, 12_000);
/// Those of one that an instrumented process goes through in a moment.
const SMALL: (usize, u64, usize) = (8, 100, 400);
const SECOND: u64 = 1_000_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let good = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["merge"] => merge::run(),
        ["wire"] => sizes::run(),
        ["count"] => count(),
        _ => {
            eprintln!("usage: road merge|wire|count");
            return ExitCode::from(64);
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a figure beside its goals. True when it is good enough.
fn figure(goal: &str, what: &str, unit: &str, value: f64, goals: [f64; 2], less: bool) -> bool {
    let [ship, lead] = goals;
    let good = if less { value <= ship } else { value >= ship };
    let sign = if less { "≤" } else { "≥" };
    let word = if good { "ok  " } else { "MISS" };
    println!("{word} {goal} {what:<44} {value:>8.3} {unit:<4} ship {sign} {ship}, lead {sign} {lead}");
    good
}

/// Each step over the same input, three rounds of it: the first makes all edges, the others find them.
fn count() -> bool {
    let (nodes, pods, edges) = SMALL;
    let cluster = Cluster::new(nodes, pods, edges);
    let mut collector = Collector::new(START);
    let mut agent = Agent::new(200, 50);
    let mut written = 0;
    for seq in 1..=3 {
        let now = START + seq * SECOND;
        agent.fold(seq);
        for node in 0..cluster.nodes() {
            let body = steps::encode(&cluster.report(node, seq, now));
            collector.join(&steps::decode(&body), time::from_wire(now));
        }
        let changes = collector.evaluate(time::from_wire(now));
        written += collector.project(&changes, time::from_wire(now)).map_or(0, |step| steps::write(&step));
    }
    println!("{} edges, {} edges of an agent, {written} bytes", collector.edges(), agent.edges(3).len());
    collector.edges() > edges / 2 && written > 0
}
