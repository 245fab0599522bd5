//! `cargo xtask bench ui`: the page in a browser without a GPU, fed by a cluster that `xtask load` plays.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::load::{Load, Size};
use crate::sys;

/// Each figure with its name in the page's answer, and the most it may be.
const LIMITS: [(&str, &str, f64); 7] = [
    ("frame while panning, p50", "frame_pan_p50", 17.0),
    ("frame while panning, p95", "frame_pan_p95", 33.0),
    ("drawing the base layer, p50", "draw_ms_p50", 33.0),
    ("a delta applied, p50", "delta_apply_ms_p50", 2.0),
    ("first picture", "first_picture_ms", 2_000.0),
    ("scripts, gzip", "js_gzip_bytes", 60_000.0),
    ("links drawn from afar", "links", 1_600.0),
];
/// What is told beside, without a limit.
const FACTS: [&str; 9] = [
    "edges",
    "delta_edges_p50",
    "delta_bytes_p50",
    "delta_gap_ms_p50",
    "delta_read_ms_p50",
    "frame_still_p50",
    "frame_still_p95",
    "worker_frame_ms",
    "heap_mb",
];
/// Different views that are looked at, one after the other.
const VIEWS: [u16; 3] = [1, 16, 64];
/// How long the collector is watched with each.
const WATCHED: Duration = Duration::from_secs(8);

pub(super) fn run(size: &Size, port: u16) -> anyhow::Result<()> {
    let load = Load::start(size, port)?;
    println!("{} nodes, {} pods, {} edges, seed {}", size.nodes, size.pods, size.edges, size.seed);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    println!("kernel {}  load {}", read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let out = Command::new("node")
        .arg("dev/bench.mjs")
        .arg(format!("http://{}/", load.address))
        .current_dir(sys::root().join("ui"))
        .output()
        .context("start node")?;
    if !out.status.success() {
        bail!("the page could not be measured: {}", String::from_utf8_lossy(&out.stderr));
    }
    let figures: Value = serde_json::from_slice(&out.stdout).context("read the page's figures")?;
    for name in FACTS {
        println!("  {name:<28} {}", figures[name]);
    }
    let missed = verdict(&figures);
    collector(&load)?;
    load.check()?;
    if missed > 0 { bail!("{missed} figures are above their limits") } else { Ok(()) }
}

/// Prints each figure beside its limit; how many are above, or missing.
fn verdict(figures: &Value) -> usize {
    LIMITS
        .iter()
        .filter(|(what, name, most)| {
            let figure = figures[*name].as_f64();
            let good = figure.is_some_and(|figure| figure <= *most);
            let shown = figure.map_or_else(|| "missing".to_owned(), |figure| format!("{figure:.1}"));
            println!("{} {what:<28} {shown:>10}  at most {most}", if good { "ok  " } else { "MISS" });
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
    use super::{LIMITS, verdict};
    use serde_json::{Map, Value, json};

    #[test]
    fn a_figure_above_its_limit_and_a_missing_one_are_misses() {
        let at = |by: f64| {
            let figures: Map<String, Value> =
                LIMITS.iter().map(|(_, name, most)| ((*name).to_owned(), json!(most + by))).collect();
            verdict(&Value::Object(figures))
        };
        assert_eq!((at(0.0), at(0.5)), (0, LIMITS.len()));
        assert_eq!(verdict(&json!({})), LIMITS.len());
    }
}
