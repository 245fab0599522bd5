//! `cargo xtask bench kernel`: what the kernel side costs a packet, and the agent a flow, as multiples of the least that
//! does the same on the same machine at the same time. A run counts only if every packet was counted.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::{Agent, AgentOptions, Collector, CollectorOptions, Lab, LabSpec, Offloads, Pod, bare};

use super::process::{self, Runs};
use super::sender::{PORT, Sender};
use crate::sys;

/// Packets of one run.
const PACKETS: u64 = 100_000;
/// Packets a second: what one core sends and routes beside everything else.
const PER_SECOND: u64 = 50_000;
/// Flows of the second load.
const FLOWS: u16 = 20_000;
/// Runs in each order of the programs.
const RUNS: usize = 5;
/// A run whose programs ran by more than this share apart is thrown away.
const MOST_APART: f64 = 0.05;
/// For how long the agent's own processor time is taken.
const WINDOW: Duration = Duration::from_secs(60);
/// The switch of the kernel's run times.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Options of `cargo xtask bench kernel`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Packets only: leaves out what takes minutes (P3, P5, P12)
    #[arg(long)]
    quick: bool,
}

/// The programs that are compared, by the object that brings each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Nothing,
    Floor,
    Ours,
}

const ORDERS: [[What; 3]; 2] = [[What::Nothing, What::Floor, What::Ours], [What::Ours, What::Floor, What::Nothing]];

/// A measured figure beside its goal.
struct Figure {
    goal: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    ship: f64,
    note: String,
}

/// Switches the kernel's run times on, and back to what they were.
struct Stats(String);

impl Stats {
    fn on() -> anyhow::Result<Self> {
        let before = std::fs::read_to_string(STATS).with_context(|| format!("read {STATS}"))?;
        std::fs::write(STATS, "1").with_context(|| format!("write {STATS}"))?;
        Ok(Self(before))
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        let _ = std::fs::write(STATS, self.0.trim());
    }
}

/// Measures all of it; an error when a figure misses its goal.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::up(LabSpec::plain(2, Offloads::Off))?;
    let (client, server) = (lab.pod("p1-0")?, lab.pod("p1-1")?);
    sink(&server)?;
    let mut figures = Vec::new();
    {
        let _stats = Stats::on()?;
        let (hot, many) = packets(&lab, &client, &server)?;
        let floor = hot.floor;
        println!(
            "\nfloor: {floor:.0} ns a packet beyond a program that does nothing (which takes {:.0} ns)",
            hot.nothing
        );
        figures.push(hot.figure("P1", "hot flow ÷ floor", floor, 2.5));
        figures.push(many.figure("P2", "20,000 flows in turn ÷ floor", many.floor, 1.1));
    }
    agent(&lab, &client, &server, args.quick, &mut figures)?;
    report(&figures)
}

/// Whatever comes for the load's port is dropped on arrival: answers would add flows.
fn sink(server: &Pod) -> anyhow::Result<()> {
    let rules = format!(
        "add table inet sink; add chain inet sink in {{ type filter hook prerouting priority -300; }}; add rule inet sink in udp dport {PORT} drop"
    );
    let status =
        Command::new("ip").args(["netns", "exec", server.netns().name(), "nft", &rules]).status().context("run nft")?;
    if !status.success() {
        bail!("nft cannot drop what arrives");
    }
    Ok(())
}

fn options(what: What, device: &str, collector: Option<String>) -> anyhow::Result<AgentOptions> {
    // Each agent for itself: none takes over what another one pinned.
    let mut arguments: Vec<String> =
        ["--devices", device, "--tier", "tcx", "--pin-path", "off"].map(str::to_owned).to_vec();
    let object = match what {
        What::Nothing => Some("bench-noop"),
        What::Floor => Some("bench-floor"),
        What::Ours => None,
    };
    if let Some(object) = object {
        arguments.extend(["--ebpf-object".to_owned(), lab::ebpf_object(object)?.display().to_string()]);
    }
    let collector = collector.or_else(|| Some("http://127.0.0.1:9".to_owned()));
    Ok(AgentOptions { arguments, name: Some(format!("{what:?}")), collector })
}

/// Net costs of one load.
struct Cost {
    nothing: f64,
    floor: f64,
    floors: Vec<f64>,
    ours: Vec<f64>,
}

impl Cost {
    fn of(runs: &[[f64; 3]]) -> Self {
        let net = |index: usize| {
            let mut all: Vec<f64> = runs.iter().map(|run| run[index] - run[0]).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let mut nothing: Vec<f64> = runs.iter().map(|run| run[0]).collect();
        nothing.sort_by(f64::total_cmp);
        let floors = net(1);
        Self { nothing: median(&nothing), floor: median(&floors), floors, ours: net(2) }
    }

    fn figure(&self, goal: &'static str, what: &'static str, floor: f64, ship: f64) -> Figure {
        let range = |all: &[f64]| match (all.first(), all.last()) {
            (Some(least), Some(most)) => format!("{least:.0}–{most:.0}"),
            _ => String::new(),
        };
        let note = format!(
            "ours {:.0} ns ({}), floor {:.0} ns ({}), {} runs",
            median(&self.ours),
            range(&self.ours),
            self.floor,
            range(&self.floors),
            self.ours.len()
        );
        Figure { goal, what, value: median(&self.ours) / floor, unit: "×", ship, note }
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nothing, floor and ours in one chain, in both orders, under one hot flow and under many.
fn packets(lab: &Lab, client: &Pod, server: &Pod) -> anyhow::Result<(Cost, Cost)> {
    let (mut hot, mut many) = (Vec::new(), Vec::new());
    for order in ORDERS {
        // Each goes to the head: the last one started runs first.
        let agents: Vec<(What, Agent)> = order
            .into_iter()
            .map(|what| Ok((what, lab.start_agent("n1", &options(what, client.device(), None)?)?)))
            .collect::<anyhow::Result<_>>()?;
        for (flows, runs) in [(1, &mut hot), (FLOWS, &mut many)] {
            let mut kept = 0;
            for attempt in 0.. {
                if attempt > 3 * RUNS {
                    bail!("the programs' counts differ by more than {} % in most runs", 100.0 * MOST_APART);
                }
                let costs = one_run(&agents, client, server, flows)?;
                // The first of each load makes the flows' entries.
                if attempt == 0 {
                    continue;
                }
                let Some(costs) = costs else { continue };
                println!(
                    "{flows:>6} flows  nothing {:>4.0}  floor {:>4.0}  ours {:>4.0} ns",
                    costs[0], costs[1], costs[2]
                );
                runs.push(costs);
                kept += 1;
                if kept == RUNS {
                    break;
                }
            }
        }
    }
    Ok((Cost::of(&hot), Cost::of(&many)))
}

/// Nanoseconds a packet of nothing, floor and ours; `None` for a run that others disturbed.
fn one_run(agents: &[(What, Agent)], client: &Pod, server: &Pod, flows: u16) -> anyhow::Result<Option<[f64; 3]>> {
    let read = || agents.iter().map(|(_, agent)| process::runs(agent.pid())).collect::<anyhow::Result<Vec<Runs>>>();
    let before = read()?;
    let (from, to) = (client.v4(), server.v4());
    client.netns().run(|| Sender::open(from, to)?.send(PACKETS, flows, PER_SECOND))??;
    let after = read()?;
    let mut costs = [0.0; 3];
    for (((what, _), before), after) in agents.iter().zip(before).zip(after) {
        let (count, ns) = (after.count - before.count, after.ns - before.ns);
        if (count as f64 / PACKETS as f64 - 1.0).abs() > MOST_APART {
            return Ok(None);
        }
        costs[*what as usize] = ns as f64 / count as f64;
    }
    Ok(Some(costs))
}

/// One agent alone with a collector: totals, drain, processor time and memory.
fn agent(lab: &Lab, client: &Pod, server: &Pod, quick: bool, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let collector = lab.start_collector(&CollectorOptions::default())?;
    let reports = format!("unix:{}", lab.reports_socket().display());
    let agent = lab.start_agent("n1", &options(What::Ours, client.device(), Some(reports))?)?;
    let send = |packets| {
        let (from, to) = (client.v4(), server.v4());
        client.netns().run(|| Sender::open(from, to)?.send(packets, FLOWS, 20_000))?
    };
    if !quick {
        // The first seconds of a life are fast ticks.
        std::thread::sleep(Duration::from_secs(5));
        let before = sys::processor_time(agent.pid())?;
        std::thread::sleep(WINDOW);
        let idle = (sys::processor_time(agent.pid())? - before).as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
        figures.push(Figure {
            goal: "P12",
            what: "idle agent, of a core",
            value: idle,
            unit: "%",
            ship: 0.2,
            note: "60 s".to_owned(),
        });
    }
    let mut sent = 2 * u64::from(FLOWS);
    send(sent)?;
    let map = process::flow_map(agent.pid())?;
    let (bare_ns, entries) =
        bare::drain(map.id, map.key_bytes, map.value_bytes).context("drain the flow map by hand")?;
    let before = (sys::processor_time(agent.pid())?, Readings::of(&agent)?);
    let window = if quick { Duration::from_secs(5) } else { WINDOW };
    let started = Instant::now();
    while started.elapsed() < window {
        send(u64::from(FLOWS))?;
        sent += u64::from(FLOWS);
    }
    let after = (sys::processor_time(agent.pid())?, Readings::of(&agent)?);
    let flows = after.1.flows - before.1.flows;
    let drain_ns = (after.1.seconds - before.1.seconds) * 1e9 / flows.max(1.0);
    figures.push(Figure {
        goal: "P4",
        what: "drain ÷ bare batch drain",
        value: drain_ns / bare_ns,
        unit: "×",
        ship: 1.5,
        note: format!("{drain_ns:.0} ns an entry, bare {bare_ns:.0} ns of {entries} entries"),
    });
    let million = (after.0 - before.0).as_secs_f64() / flows.max(1.0) * 1e6;
    figures.push(Figure {
        goal: "P3",
        what: "agent's CPU a million flow records",
        value: million,
        unit: "s",
        ship: 1.5,
        note: format!("{flows:.0} records in {:.0} s", window.as_secs_f64()),
    });
    let rss = sys::memory_kib(agent.pid(), "VmRSS")? as f64 * 1_024.0 / 1e6;
    figures.push(Figure {
        goal: "P5",
        what: "agent's memory with 20,000 flows",
        value: rss,
        unit: "MB",
        ship: 26.0,
        note: String::new(),
    });
    figures.push(Figure {
        goal: "P5",
        what: "kernel's memory a flow",
        value: map.bytes as f64 / map.entries as f64,
        unit: "B",
        ship: 180.0,
        note: format!("key {} B, value {} B", map.key_bytes, map.value_bytes),
    });
    equal(&collector, sent)
}

/// What the agent tells of its own reading of the map.
struct Readings {
    flows: f64,
    seconds: f64,
}

impl Readings {
    fn of(agent: &Agent) -> anyhow::Result<Self> {
        let response = agent.get("/metrics")?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok())
                .with_context(|| format!("find {name} among the agent's metrics"))
        };
        Ok(Self {
            flows: value("orrery_agent_flow_readings_total ")?,
            seconds: value("orrery_agent_drain_seconds_total ")?,
        })
    }
}

/// Packets on the graph are the packets that were sent: a speed that loses some is none.
fn equal(collector: &Collector, sent: u64) -> anyhow::Result<()> {
    let mut seen = 0;
    let found = lab::wait_for("all packets on the graph", Duration::from_secs(20), || {
        let graph = collector.graph("pod").ok()?;
        let edges = graph["edges"].as_array()?.iter().filter(|edge| edge["port"] == PORT);
        seen = edges.filter_map(|edge| edge["client_side"]["forward"]["skbs"].as_u64()).sum();
        (seen == sent).then_some(())
    });
    if found.is_err() {
        bail!("{sent} packets were sent, and {seen} are on the graph");
    }
    println!("totals: {sent} packets sent, {seen} on the graph");
    Ok(())
}

/// The table, and the verdict.
fn report(figures: &[Figure]) -> anyhow::Result<()> {
    println!("\n{}\n", super::machine());
    println!("| goal | what | measured | ship | |\n|---|---|---|---|---|");
    let mut missed = Vec::new();
    for figure in figures {
        let Figure { goal, what, value, unit, ship, note } = figure;
        println!("| {goal} | {what} | {value:.2} {unit} | ≤ {ship} {unit} | {note} |");
        if value > ship {
            missed.push(*goal);
        }
    }
    if !missed.is_empty() {
        bail!("missed: {}", missed.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Cost, Figure, report};

    #[test]
    fn costs_are_medians_beyond_the_program_that_does_nothing() {
        let cost = Cost::of(&[[50.0, 80.0, 110.0], [60.0, 100.0, 140.0], [50.0, 70.0, 90.0]]);
        assert!((cost.floor - 30.0).abs() < 1e-9 && (cost.nothing - 50.0).abs() < 1e-9);
        assert!((cost.figure("P1", "x", cost.floor, 2.5).value - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_missed_goal_fails() {
        let figure = |value| Figure { goal: "P1", what: "x", value, unit: "×", ship: 2.5, note: String::new() };
        assert!(report(&[figure(2.5)]).is_ok());
        assert!(report(&[figure(2.6)]).is_err());
    }
}
