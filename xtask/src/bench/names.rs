//! `cargo xtask bench names`: a real collector against a mock of the Kubernetes API and a generated load, held against the
//! generator's ledger.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use api_mock::load::{Api, Life, Ns, Plan, live};
use api_mock::{MockApi, namespaced};
use lab::http1::Client;
use serde_json::{Value, json};

use crate::{step, sys};

/// A large cluster, by the promise.
const NODES: usize = 150;
const PODS: usize = 5_000;
const OBJECTS: usize = 15_000;
const EDGES: usize = 12_000;
/// Each replaced pod is four changes: asked to go, gone, made, given an address.
const REPLACED_PER_SECOND: usize = 50;
const LAG: Duration = Duration::from_secs(10);
const LATE_MS: i64 = 30_000;
/// From now until the load begins: it is generated meanwhile, and the collector reads its first lists.
const LEAD: Duration = Duration::from_secs(40);
const WAIT: Duration = Duration::from_secs(60);
/// A report that was told to come again does so after this long, so many times.
const AGAIN: Duration = Duration::from_millis(100);
const TRIES: usize = 50;
/// Reports are sent over this many connections.
const SENDERS: usize = 4;

/// Options of `cargo xtask bench names`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of load
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(i64).range(12..=600))]
    seconds: i64,
    /// What is made of the dice
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// A collector that ends with the bench.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    step::run(
        "bench",
        "build the collector",
        sys::cargo().args(["build", "--locked", "--release", "-p", "orrery-collector"]),
    )?;
    let start = now() + Ns::try_from(LEAD.as_nanos())?;
    let plan = Plan {
        nodes: NODES,
        pods: PODS,
        edges: EDGES,
        replaced_per_second: REPLACED_PER_SECOND,
        seconds: args.seconds,
        tick_ms: 2_000,
        late_ms: LATE_MS,
        start,
        seed: args.seed,
    };
    let life = live(&plan);
    ensure!(now() < start, "generating took longer than {} s: this machine is too busy", LEAD.as_secs());
    println!(
        "names: {NODES} nodes, {PODS} pods, {EDGES} edges; {} changes in {} s, told {} s late; {} reports, up to {} s late",
        life.api.len(),
        args.seconds,
        LAG.as_secs(),
        life.reports.len(),
        LATE_MS / 1_000
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let api = runtime.block_on(MockApi::start())?;
    api.put_all(life.first.clone());
    api.put_all(others(OBJECTS - life.first.len()));
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, api.kubeconfig("bench"))?;
    let (page, reports) = (free()?, free()?);
    let mut collector = collector(page, reports, &kubeconfig)?;
    wait_ready(page, &mut collector)?;
    api.fail(|faults| faults.lag = LAG);
    println!("listed {OBJECTS} objects: {}", usage(collector.0.id())?.1);
    let looking = Arc::new(AtomicBool::new(true));
    let looker = look(page, Arc::clone(&looking));
    std::thread::sleep(until(start));
    let (before, begun) = (usage(collector.0.id())?.0, Instant::now());
    play(&life, &api, reports)?;
    let (after, memory) = usage(collector.0.id())?;
    let share = 100.0 * (after - before) / begun.elapsed().as_secs_f64();
    // The watch tells the last changes this late, and then the view follows.
    std::thread::sleep(LAG + Duration::from_secs(3));
    let graph = get(page, "/api/v1/graph?view=pod")?;
    looking.store(false, Ordering::Relaxed);
    println!("collector: {share:.0} % of one CPU (release profile), {memory}; {}", looker.join().unwrap_or_default());
    print_calls(&api);
    verdict(&life, &graph)
}

fn now() -> Ns {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ns::try_from(since.as_nanos()).unwrap_or(Ns::MAX)
}

fn until(at: Ns) -> Duration {
    Duration::from_nanos(u64::try_from(at - now()).unwrap_or(0))
}

/// Objects of the other kinds, as a cluster has them.
fn others(count: usize) -> Vec<Value> {
    (0..count)
        .map(|index| {
            let name = format!("x{index}");
            let owner = json!({ "metadata": { "ownerReferences": [{ "kind": "Deployment", "name": name, "controller": true }] } });
            match index % 5 {
                0 => namespaced("Service", "load", &name, json!({ "spec": { "clusterIP": format!("10.96.{}.{}", index / 1_250, index / 5 % 250) } })),
                1 => namespaced("EndpointSlice", "load", &name, json!({ "metadata": { "labels": { "kubernetes.io/service-name": name } } })),
                2 => namespaced("Job", "load", &name, owner),
                _ => namespaced("ReplicaSet", "load", &name, owner),
            }
        })
        .collect()
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn collector(page: SocketAddr, reports: SocketAddr, kubeconfig: &Path) -> anyhow::Result<Collector> {
    let mut command = Command::new(sys::root().join("target/release/orrery-collector"));
    command
        .args(["--names", "kubernetes", "--log-level", "warn"])
        .args(["--listen", &page.to_string(), "--report-listen", &reports.to_string()])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .stdin(Stdio::null());
    Ok(Collector(command.spawn().context("start the collector")?))
}

fn wait_ready(page: SocketAddr, collector: &mut Collector) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if let Some(status) = collector.0.try_wait()? {
            bail!("the collector ended: {status}");
        }
        let ask = || Client::tcp(page, Duration::from_secs(2))?.request("orrery", "/readyz", &[]);
        if ask().is_ok_and(|response| response.status == 200) {
            return Ok(());
        }
        ensure!(begun.elapsed() < WAIT, "the collector was not ready within {} s", WAIT.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Somebody looks, so that deltas are made.
fn look(page: SocketAddr, looking: Arc<AtomicBool>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let open = || Client::tcp(page, WAIT)?.events("orrery", "/api/v1/stream?view=pod", "");
        let (mut events, mut bytes) = (0_u64, 0_u64);
        if let Ok(mut stream) = open() {
            while looking.load(Ordering::Relaxed) {
                let Ok(Some(event)) = stream.next(WAIT) else { break };
                (events, bytes) = (events + 1, bytes + event.data.len() as u64);
            }
        }
        format!("{events} events of {} MiB on one stream", bytes >> 20)
    })
}

/// Everything in its own time: the API's changes here, reports from threads.
fn play(life: &Life, api: &MockApi, to: SocketAddr) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut client = Client::tcp(to, WAIT)?;
                    for (at, report) in life.reports.iter().skip(sender).step_by(SENDERS) {
                        let body = wire::codec::encode_report(report)?;
                        std::thread::sleep(until(*at));
                        let mut answer = client.request("orrery", wire::REPORT_PATH, &body)?;
                        // Two late reports of one node at once: the second is told to come again, as an agent would.
                        for _ in 0..TRIES {
                            if answer.status != 503 {
                                break;
                            }
                            std::thread::sleep(AGAIN);
                            answer = client.request("orrery", wire::REPORT_PATH, &body)?;
                        }
                        ensure!(answer.status == 200, "a report was answered with {}", answer.status);
                    }
                    Ok(())
                })
            })
            .collect();
        for (at, change) in &life.api {
            std::thread::sleep(until(*at));
            match change {
                Api::Put(object) => api.put(object.clone()),
                Api::Delete(object) => api.delete(object),
            }
        }
        for sender in senders {
            sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        Ok(())
    })
}

fn get(page: SocketAddr, target: &str) -> anyhow::Result<Value> {
    let response = Client::tcp(page, WAIT)?.request("orrery", target, &[])?;
    ensure!(response.status == 200, "{target}: status {}", response.status);
    Ok(response.json()?)
}

/// CPU seconds so far, and memory in words.
fn usage(pid: u32) -> anyhow::Result<(f64, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        line.strip_suffix(" kB").and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) >> 10
    };
    // User and system time, in hundredths of a second.
    Ok(((ticks(11) + ticks(12)) / 100.0, format!("RSS {} MiB, at most {} MiB", line("VmRSS:"), line("VmHWM:"))))
}

fn print_calls(api: &MockApi) {
    let calls = api.calls();
    let count =
        |verb: &str| calls.iter().filter(|((known, ..), _)| *known == verb).map(|(_, count)| count).sum::<u64>();
    println!("API requests: {} lists, {} watches", count("list"), count("watch"));
}

fn verdict(life: &Life, graph: &Value) -> anyhow::Result<()> {
    let name = |id: &Value| id.as_str().unwrap_or_default().trim_start_matches("pod:").to_owned();
    let edges = graph["edges"].as_array().context("a graph without edges")?;
    let shown: BTreeSet<_> = edges.iter().map(|edge| (name(&edge["client"]), name(&edge["server"]))).collect();
    let wrong: Vec<_> = shown.difference(&life.ledger).collect();
    let missing: Vec<_> = life.ledger.difference(&shown).collect();
    let ambiguous = graph["names"]["ambiguous"].as_u64().unwrap_or(0);
    println!(
        "{} pairs talked, {} edges shown: {} wrong, {} missing; {ambiguous} ends ambiguous, {} rows of which the ledger says \
         so",
        life.ledger.len(),
        shown.len(),
        wrong.len(),
        missing.len(),
        life.spanning
    );
    for (client, server) in wrong.iter().take(5) {
        println!("wrong: {client} > {server}");
    }
    for (client, server) in missing.iter().take(5) {
        println!("missing: {client} > {server}");
    }
    ensure!(wrong.is_empty() && missing.is_empty(), "names are wrong or missing");
    ensure!(ambiguous <= life.spanning as u64, "more is ambiguous than the ledger says");
    Ok(())
}
