//! `cargo xtask demo`: the shop in the lab, one real agent a node, one collector, and where to look.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lab::shop::{Plight, SCALED, Shop};
use lab::{Agent, AgentOptions, Collector, CollectorOptions, Offloads, Process, Stop};

/// How long the first picture may take.
const READY_WAIT: Duration = Duration::from_secs(60);
/// Edges between the shop's workloads that the graph must have before it counts as up.
const READY_EDGES: usize = 8;
/// How many ports are tried, from the wanted one on.
const PORTS_TRIED: u16 = 50;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop by itself after this long, counted from ready: 90, 60s, 5m, 1h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,
    /// Port of the page on 127.0.0.1; the next free one is taken if it is in use
    #[arg(long, default_value_t = 7380)]
    port: u16,
    /// Keep the posted reports in this file
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Play recorded reports, over and over: needs no root and no BPF; without FILE, the sample in the tree
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = crate::lab::SAMPLE)]
    replay: Option<PathBuf>,
    /// Put the faults elsewhere: the link that drops packets, the port that refuses, the address that stays silent, the name
    /// that nobody has; with 0 payments to ledger drops 12 %
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl Args {
    /// Whether a recording is played: that needs neither root nor BPF.
    pub(crate) fn replays(&self) -> bool {
        self.replay.is_some()
    }
}

/// Runs it until its time is over or a signal comes. Everything it made is gone when it returns.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // First of all: threads started later leave the signals to this one.
    let stop = Stop::on_signals()?;
    match &args.replay {
        Some(recording) => replay(args, recording, &stop),
        None => live(args, &stop),
    }
}

fn live(args: &Args, stop: &Stop) -> anyhow::Result<()> {
    lab::require_root()?;
    for name in ["orrery-agent", "orrery-collector", "orrery-lab"] {
        lab::binary(name)?;
    }
    let progress = spinner();
    progress.set_message("building the lab: 3 nodes, the shop's pods, real traffic");
    let shop = Shop::build(Offloads::On, args.seed).context("build the shop")?;
    progress.set_message("starting the collector, and an agent on each node");
    let mut options = CollectorOptions { port: free_port(args.port)?, ..CollectorOptions::default() };
    if let Some(record) = &args.record {
        let record = std::path::absolute(record).context("find the file to record to")?;
        options.arguments = vec!["--record".to_owned(), record.display().to_string()];
    }
    let collector = shop.lab().start_collector(&options).context("start the collector")?;
    let agents = shop.lab().start_agents(&AgentOptions::default()).context("start the agents")?;
    // Traffic last: the agents see every connection from its first packet on.
    shop.start_traffic().context("open the shop")?;
    progress.set_message("waiting for the first picture");
    let start = Instant::now();
    while shop_edges(&collector).unwrap_or(0) < READY_EDGES {
        all_alive(&agents, &collector)?;
        if start.elapsed() > READY_WAIT {
            bail!(
                "no picture within {READY_WAIT:?}\nhint: the logs are in {} while this runs",
                shop.lab().dir().display()
            );
        }
        if stop.within(Duration::from_millis(100)) {
            return Ok(());
        }
    }
    progress.finish_and_clear();
    tell(args, &shop, &collector);
    let mut trouble = None;
    shop.keep_scaling(|elapsed| {
        trouble = all_alive(&agents, &collector).err();
        trouble.is_some() || args.time.is_some_and(|time| elapsed >= time) || stop.within(Duration::from_millis(100))
    })
    .context("scale the shop")?;
    trouble.map_or(Ok(()), Err)
}

fn tell(args: &Args, shop: &Shop, collector: &Collector) {
    let fault = shop.fault();
    let url = format!("http://{}", collector.address());
    println!("Orrery is up        {url}");
    println!("from elsewhere      {}", tunnel(collector.address().port()));
    println!("the stream          curl -N '{url}/api/v1/stream?view=workload'");
    println!("what to look at");
    println!(
        "  {} to {}: this link drops {} of 100 datagrams, and only this one",
        fault.client, fault.server, fault.percent
    );
    let faults = shop.faults();
    let line = |plight: &Plight, what: &str| println!("  {} to {}:{}: {what}", plight.client, plight.to, plight.port);
    line(&faults.refused, "nobody listens there: refused");
    line(&faults.silent, "nobody answers there: timed out");
    println!("  {} asks for {}: there is no such name", faults.nameless.client, faults.nameless.to);
    line(&faults.host, "a pod in its node's own namespace, told apart by its cgroup");
    println!("  {SCALED}: scaled 2, 8, 3 pods, over and over");
    println!("  recommendations: crashes again and again");
    println!("  shop is HTTP, TCP and UDP over IPv4 and IPv6; kube-system answers DNS; monitoring scrapes and pings");
    println!("{}", ending(args));
}

fn ending(args: &Args) -> String {
    match args.time {
        Some(time) => format!("stops by itself after {time:?}; Ctrl-C stops it now; nothing is left behind"),
        None => "Ctrl-C stops it; nothing is left behind".to_owned(),
    }
}

/// The line that brings the page to another machine.
fn tunnel(port: u16) -> String {
    let name = |result: std::io::Result<String>| {
        result.map(|text| text.trim().to_owned()).ok().filter(|text| !text.is_empty())
    };
    let host = name(std::fs::read_to_string("/proc/sys/kernel/hostname")).unwrap_or_else(|| "HOST".to_owned());
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".to_owned());
    format!("ssh -L {port}:127.0.0.1:{port} {user}@{host}")
}

/// Edges of the workload view with both ends in the shop.
fn shop_edges(collector: &Collector) -> lab::Result<usize> {
    let graph = collector.graph("workload")?;
    let in_shop = |id: &serde_json::Value| id.as_str().is_some_and(|id| id.contains("shop/"));
    let edges = graph["edges"].as_array().into_iter().flatten();
    Ok(edges.filter(|edge| in_shop(&edge["client"]) && in_shop(&edge["server"])).count())
}

fn all_alive(agents: &[Agent], collector: &Collector) -> anyhow::Result<()> {
    let agents = agents.iter().map(|agent| -> &Process { agent });
    for process in agents.chain([&**collector]) {
        if let Some(status) = process.ended() {
            let log = std::fs::read_to_string(process.log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            bail!(
                "{} ended: {status}\n{}",
                process.log().display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
    Ok(())
}

fn replay(args: &Args, recording: &Path, stop: &Stop) -> anyhow::Result<()> {
    let port = free_port(args.port)?;
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(lab::binary("orrery-collector")?);
    command.args(["--listen", &address, "--log-level", "warn", "--replay-loop", "--replay"]).arg(recording);
    let mut collector = Guard(command.spawn().context("start the collector")?);
    let start = Instant::now();
    let answers = || {
        let mut client = lab::http1::Client::tcp((Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(2))?;
        client.request("orrery", "/healthz", &[])
    };
    while !answers().is_ok_and(|response| response.status == 200) {
        if let Some(status) = collector.0.try_wait()? {
            bail!("the collector ended: {status}");
        }
        if start.elapsed() > READY_WAIT {
            bail!("the collector does not answer within {READY_WAIT:?}");
        }
        if stop.within(Duration::from_millis(50)) {
            return Ok(());
        }
    }
    println!("Orrery plays {}   http://{address}", recording.display());
    println!("from elsewhere      {}", tunnel(port));
    println!("{}", ending(args));
    let start = Instant::now();
    while args.time.is_none_or(|time| start.elapsed() < time) && !stop.within(Duration::from_millis(100)) {
        if let Some(status) = collector.0.try_wait()? {
            bail!("the collector ended: {status}");
        }
    }
    Ok(())
}

/// A child that does not outlive us.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The wanted port, or the next one that is free.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let last = wanted.saturating_add(PORTS_TRIED);
    let free = (wanted..=last).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.with_context(|| format!("ports {wanted} to {last} of 127.0.0.1 are in use\nhint: --port N"))
}

fn spinner() -> ProgressBar {
    // Draws on stderr, and nothing at all when that is not a terminal.
    let progress = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    progress.enable_steady_tick(Duration::from_millis(120));
    progress
}

/// A time with or without its unit.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    let number: u64 = number.parse().map_err(|_| "not a time; hint: 90, 60s, 5m or 1h".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn times_have_units() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs());
        assert_eq!([seconds("90"), seconds("60s"), seconds("5m"), seconds("1h")], [Ok(90), Ok(60), Ok(300), Ok(3600)]);
        for bad in ["", "s", "-1", "1d", "ten"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
