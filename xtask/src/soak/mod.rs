//! `cargo xtask soak`: real agents and a real collector in the lab, and everything around them going wrong for a while, by a
//! plan that follows from a seed. At the end what they say has to be what was sent.

mod cluster;
mod plan;
mod road;
mod scarce;
mod traffic;
mod verdict;
mod vitals;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::{Lab, LabSpec, Offloads, Stop};

use self::cluster::Cluster;
use self::plan::{SPARED, plan};
use self::traffic::Traffic;
use self::verdict::{Finding, Known, Verdict};

/// Traffic runs for so long before anything is counted or goes wrong.
const WARM_UP: Duration = Duration::from_secs(3);
/// Once all stands again and nothing is sent any more, the collector knows all of it within this time: an agent that found
/// nobody waits 10 s at the most, and a stalled report has to be given up first.
const SETTLE: Duration = Duration::from_secs(60);
/// How often memory is read.
const READ_EVERY: Duration = Duration::from_millis(500);
/// What an agent may take, in a release build (design, P5).
const AGENT_MIB: u64 = 26;
/// What the collector may take: the limit in the chart.
const COLLECTOR_MIB: u64 = 1_024;
/// By how much an agent's peak may grow from the middle third to the last: a tenth, or this.
const FLAT_KIB: u64 = 2 << 10;
/// How often it says where it stands.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// How many lines of what is broken are shown.
const SHOWN: usize = 12;

/// Arguments of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long things go wrong: 90, 60s, 30m, 1h
    #[arg(long = "for", value_name = "TIME", default_value = "30m", value_parser = crate::demo::parse_time)]
    time: Duration,
    /// Another plan of what goes wrong
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Let the collector keep its state in a directory, so that it goes on where it stood
    #[arg(long)]
    state: bool,
    /// Another object for the agents: with a sabotaged one it has to fail
    #[arg(long, hide = true, value_name = "FILE")]
    ebpf_object: Option<PathBuf>,
}

/// Runs it, prints what held, and fails where something did not.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    if args.time < Duration::from_secs(30) {
        bail!("{:?} is too short for everything to have its turn\nhint: --for 60s", args.time);
    }
    lab::require_root()?;
    let lab = Lab::up(LabSpec::plain(2, Offloads::On)).context("build the lab")?;
    let mut cluster = Cluster::start(&lab, args.state, args.ebpf_object.as_deref())?;
    let traffic = Traffic::start(&lab)?;
    wait(&mut cluster, &stop, WARM_UP)?;
    let before = cluster.descriptors()?;
    println!("{}", crate::bench::machine());
    println!(
        "soak {:?}, seed {}, the collector {} a state directory; the agent of n{SPARED} is never ended",
        args.time,
        args.seed,
        if args.state { "with" } else { "without" }
    );
    let (start, began) = (Instant::now(), cluster.elapsed());
    let mut told = Duration::ZERO;
    for (at, step) in plan(args.seed, args.time) {
        if start.elapsed() >= told + TOLD_EVERY {
            told = start.elapsed();
            println!("{:>4} of {} s  {}", told.as_secs(), args.time.as_secs(), cluster.progress());
        }
        wait(&mut cluster, &stop, at.saturating_sub(start.elapsed()))?;
        cluster.apply(step).with_context(|| format!("{step:?}, {at:?} after the start"))?;
    }
    wait(&mut cluster, &stop, args.time.saturating_sub(start.elapsed()))?;
    cluster.check()?;
    let chaos = start.elapsed();
    traffic.stop()?;
    let (lossy, dropped) = (traffic::lossy(&lab)?, cluster.dropped()?);
    let spared = format!("n{SPARED}");
    let known = Known { spared: &spared, lossy, dropped };
    let settled = Instant::now();
    let mut verdict = verdict::ask(&lab, cluster.collector()?, &known)?;
    while !verdict.holds() && settled.elapsed() < SETTLE {
        wait(&mut cluster, &stop, Duration::from_millis(500))?;
        verdict = verdict::ask(&lab, cluster.collector()?, &known)?;
    }
    println!("what went wrong     {}; {} datagrams dropped", cluster.told(), dropped.packets);
    println!("settled             {:.1} s after the last packet", settled.elapsed().as_secs_f64());
    let after = cluster.descriptors()?;
    let mut broken = judge(&verdict);
    broken += memory(&cluster, began, chaos)?;
    let leak = after.iter().any(|(name, open)| before.get(name).is_none_or(|before| open > before));
    broken += usize::from(!line("descriptors", !leak, &format!("{before:?} before, {after:?} after")));
    broken += usize::from(!line("totals over a stop", cluster.backwards.is_empty(), &cluster.backwards.join("; ")));
    if broken > 0 {
        bail!(
            "{broken} promises are broken\nhint: the same again: --for {}s --seed {}",
            args.time.as_secs(),
            args.seed
        );
    }
    Ok(())
}

/// Waits, and looks after the processes meanwhile.
fn wait(cluster: &mut Cluster<'_>, stop: &Stop, time: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        cluster.read();
        cluster.check()?;
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        if stop.within(left.min(READ_EVERY)) {
            bail!("stopped by a signal");
        }
    }
}

/// Prints one promise, and says whether it holds.
fn line(what: &str, holds: bool, figure: &str) -> bool {
    println!("{}  {what:<18}  {figure}", if holds { "held  " } else { "BROKEN" });
    holds
}

/// Prints what is held against the ledger and the kernel; how many promises are broken.
fn judge(verdict: &Verdict) -> usize {
    let one = |what: &str, of: &str, Finding { held, broken }: &Finding| {
        let holds = line(what, broken.is_empty() && *held > 0, &format!("{held} {of}, {} wrong", broken.len()));
        for text in broken.iter().take(SHOWN) {
            println!("          {text}");
        }
        usize::from(!holds)
    };
    one("edges, spared node", "sides are the ledger", &verdict.exact)
        + one("edges, elsewhere", "sides and names, none above the ledger", &verdict.bounded)
        + one("devices", "accounts: seen + unseen = stats64", &verdict.devices)
        + one("loss", "edges show none that nft did not drop", &verdict.loss)
}

/// Prints memory and its slopes; how many promises are broken.
fn memory(cluster: &Cluster<'_>, from: Duration, chaos: Duration) -> anyhow::Result<usize> {
    let release = lab::binary("orrery-agent")?.ends_with("release/orrery-agent");
    let agents = &cluster.agents_memory;
    let mut broken = 0;
    for (node, agent) in agents {
        let most = agent.most(Duration::ZERO, Duration::MAX);
        let fits = !release || most <= AGENT_MIB << 10;
        let profile = if release { "release" } else { "dev profile, not held against the bound" };
        let figure = format!("{} at the most, bound {AGENT_MIB} MiB ({profile})", mib(most));
        broken += usize::from(!line(&format!("memory of {node}"), fits, &figure));
    }
    let spared = agents.get(&format!("n{SPARED}")).context("the spared agent's memory")?;
    let thirds = [1, 2].map(|third| spared.most(from + chaos / 3 * third, from + chaos / 3 * (third + 1)));
    let flat = thirds[1] <= thirds[0] + (thirds[0] / 10).max(FLAT_KIB);
    let slope = spared.slope(from + chaos / 3);
    let figure = format!(
        "{} while the collector was away, {} after; {slope:+.0} KiB a minute from then on",
        mib(thirds[0]),
        mib(thirds[1])
    );
    broken += usize::from(!line("spared agent flat", flat, &figure));
    let collector = &cluster.collector_memory;
    let most = cluster.collector_most;
    let figure = format!(
        "{} at the most, bound {COLLECTOR_MIB} MiB; {:+.0} KiB a minute in its last run",
        mib(most),
        collector.slope(Duration::ZERO)
    );
    broken += usize::from(!line("collector's memory", most <= COLLECTOR_MIB << 10, &figure));
    Ok(broken)
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
