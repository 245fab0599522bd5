//! `cargo xtask bench ui`: the page in a browser without a GPU, fed by a cluster that `xtask load` plays.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::load::{Load, Size};
use crate::sys;

/// A figure, its name in the page's answer, and the most it may be.
type Limit = (&'static str, &'static str, f64);
/// Of a cluster that stands.
const LIMITS: [Limit; 7] = [
    ("frame while panning, p50", "frame_pan_p50", 17.0),
    ("frame while panning, p95", "frame_pan_p95", 33.0),
    ("drawing the base layer, p50", "draw_ms_p50", 33.0),
    ("a delta applied, p50", "delta_apply_ms_p50", 2.0),
    ("first picture", "first_picture_ms", 2_000.0),
    ("scripts of the first view, gzip", "js_gzip_bytes", 60_000.0),
    ("links drawn from afar", "links", 1_600.0),
];
/// While pods come and go: the heap an edge, in the last quarter of the time beside the second.
const CHURN_LIMITS: [Limit; 2] =
    [("heap an edge, late of early", "heap_growth", 1.1), ("pods moved by others, px", "moved_px", 0.0)];
/// What is told beside, without a limit.
const FACTS: [&str; 10] = [
    "edges",
    "delta_edges_p50",
    "delta_bytes_p50",
    "delta_gap_ms_p50",
    "delta_read_ms_p50",
    "frame_still_p50",
    "frame_still_p95",
    "worker_frame_ms",
    "heap_mb",
    "js_all_gzip_bytes",
];
const CHURN_FACTS: [&str; 8] = [
    "heap_early_mb",
    "heap_late_mb",
    "edges_early",
    "edges_late",
    "heap_readings",
    "pods_came",
    "pods_went",
    "moved_pods",
];
/// Pods replaced in a second while the heap is watched: each is one that goes and one that comes.
const CHURN: u32 = 100;
/// Different views that are looked at, one after the other.
const VIEWS: [u16; 3] = [1, 16, 64];
/// How long the collector is watched with each.
const WATCHED: Duration = Duration::from_secs(8);

/// Measures frames and drawing before a cluster that stands, and the heap for `churn_for` seconds before one whose pods come and go.
pub(super) fn run(size: &Size, port: u16, churn_for: u32) -> anyhow::Result<()> {
    println!("{} nodes, {} pods, {} edges, seed {}", size.nodes, size.pods, size.edges, size.seed);
    println!("{}", super::machine());
    let load = Load::start(size, port)?;
    let figures = page(&load, &[])?;
    let mut missed = verdict(&LIMITS, &FACTS, &figures);
    collector(&load)?;
    load.check()?;
    drop(load);
    if churn_for > 0 {
        let churning = Size { churn: if size.churn > 0 { size.churn } else { CHURN }, ..size.clone() };
        println!("the same, {} pods replaced a second, for {churn_for} s", churning.churn);
        let load = Load::start(&churning, port)?;
        let figures = page(&load, &["churn", &churn_for.to_string()])?;
        missed += verdict(&CHURN_LIMITS, &CHURN_FACTS, &figures);
        load.check()?;
    }
    if missed > 0 { bail!("{missed} figures are above their limits") } else { Ok(()) }
}

/// What `ui/dev/bench.mjs` finds.
fn page(load: &Load, more: &[&str]) -> anyhow::Result<Value> {
    let out = Command::new("node")
        .arg("dev/bench.mjs")
        .arg(format!("http://{}/", load.address))
        .args(more)
        .current_dir(sys::root().join("ui"))
        .output()
        .context("start node")?;
    if !out.status.success() {
        bail!("the page could not be measured: {}", String::from_utf8_lossy(&out.stderr));
    }
    serde_json::from_slice(&out.stdout).context("read the page's figures")
}

/// Prints the facts, then each figure beside its limit; how many are above, or missing.
fn verdict(limits: &[Limit], facts: &[&str], figures: &Value) -> usize {
    for name in facts {
        println!("  {name:<31} {}", figures[name]);
    }
    limits
        .iter()
        .filter(|(what, name, most)| {
            let figure = figures[*name].as_f64();
            let good = figure.is_some_and(|figure| figure <= *most);
            let shown = figure.map_or_else(|| "missing".to_owned(), |figure| format!("{figure:.2}"));
            println!("{} {what:<31} {shown:>10}  at most {most}", if good { "ok  " } else { "MISS" });
            !good
        })
        .count()
}

/// What the collector costs while so many different views are followed, one client each.
fn collector(load: &Load) -> anyhow::Result<()> {
    for views in VIEWS {
        let streams = load.follow_views(views, views)?;
        std::thread::sleep(Duration::from_secs(2));
        let (before, told, start) = (load.cpu_seconds()?, load.deltas()?, Instant::now());
        std::thread::sleep(WATCHED);
        let spent = load.cpu_seconds()? - before;
        let ticks = (load.deltas()? - told) / f64::from(views) / start.elapsed().as_secs_f64();
        let share = spent / start.elapsed().as_secs_f64() * 100.0;
        println!("collector with {views:>2} views      {share:>5.1} % of a CPU, {ticks:.1} deltas a second to each");
        drop(streams);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CHURN_LIMITS, LIMITS, Limit, verdict};
    use serde_json::{Map, Value, json};

    #[test]
    fn a_figure_above_its_limit_and_a_missing_one_are_misses() {
        for limits in [&LIMITS[..], &CHURN_LIMITS[..]] {
            let at = |by: f64| {
                let figure = |(_, name, most): &Limit| ((*name).to_owned(), json!(most + by));
                let figures: Map<String, Value> = limits.iter().map(figure).collect();
                verdict(limits, &[], &Value::Object(figures))
            };
            assert_eq!((at(0.0), at(0.5)), (0, limits.len()));
            assert_eq!(verdict(limits, &[], &json!({})), limits.len());
        }
    }
}
