//! `cargo xtask load`: a cluster of any size that is not there: real reports, over real sockets, to a real collector.
//!
//! Every node has a connection of its own and reports all its edges once a second, the nodes spread over the second: so a
//! browser gets ten deltas a second, each of a tenth of the edges.

mod agent;
pub(crate) mod figures;
mod probe;
mod world;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::Stop;

use self::agent::Agent;
use self::world::World;
use crate::sys;

/// How long the collector may take to answer, and to know every node.
const READY_WAIT: Duration = Duration::from_secs(60);
/// How many connections are served by one thread.
const NODES_PER_THREAD: usize = 5;
/// Figures are taken from this long after the start.
const SETTLES: Duration = Duration::from_secs(5);
/// Once the last answer is there, the last rows are on the map within this time.
const LAST_TICK: Duration = Duration::from_secs(1);
/// Pods are replaced this often, as many as their rate asks for: the collector reads its list twice a second.
const CHURN_EVERY: Duration = Duration::from_millis(500);

/// The cluster that is played.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Size {
    /// Nodes, each with an agent
    #[arg(long, default_value_t = 154, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) nodes: u16,
    /// Pods
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(10..=65_536))]
    pub(crate) pods: u32,
    /// Edges
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..=120_000))]
    pub(crate) edges: u32,
    /// Another cluster of the same size
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Pods replaced by others in a second
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) churn: u32,
}

/// Arguments of `cargo xtask load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    size: Size,
    /// Port of the page on 127.0.0.1
    #[arg(long, default_value_t = 7380)]
    port: u16,
    /// Stop by itself after so many seconds, and tell what it cost, how late the stream was and whether all arrived
    #[arg(long = "for", value_name = "SECONDS")]
    time: Option<u64>,
    /// Clients that follow the map beside it
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=2000))]
    clients: u16,
    /// How many different views they look at
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=63))]
    views: u16,
}

/// Plays it until its time is over or a signal comes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let load = Load::start(&args.size, args.port)?;
    let Size { nodes, pods, edges, .. } = args.size;
    println!("Orrery is up        http://{}", load.address);
    println!(
        "what it shows       {nodes} nodes, {pods} pods, {edges} edges, one of them loses packets: payments to ledger"
    );
    println!("Ctrl-C stops it; nothing is left behind");
    let Some(time) = args.time else {
        while !stop.within(Duration::from_millis(200)) {
            load.check()?;
        }
        return Ok(());
    };
    load.measure(Duration::from_secs(time), args.views.min(args.clients.max(1)), args.clients, &stop)
}

/// What all agents have sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) reports: u64,
    pub(crate) refused: u64,
    /// More than half a tick late: the collector answered too slowly, or we did.
    pub(crate) late: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// A collector, and agents that are not there. All ends when it is dropped.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    collector: Collector,
    reports: SocketAddr,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    agents: Vec<JoinHandle<u64>>,
}

/// A client whose reader ends with it.
pub(crate) struct Follower(TcpStream);

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A child that does not outlive us.
struct Collector(Mutex<Child>);

impl Drop for Collector {
    fn drop(&mut self) {
        if let Ok(child) = self.0.get_mut() {
            // It may have ended by itself; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// Starts the collector and all agents, and waits until every node is known.
    pub(crate) fn start(size: &Size, port: u16) -> anyhow::Result<Self> {
        let world = Arc::new(RwLock::new(World::new(size)));
        let folder = crate::sys::work_dir().join("load");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let list = folder.join(format!("pods-{port}.json"));
        write_list(&world, &list)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let reports = free_address()?;
        let mut command = Command::new(lab::binary("orrery-collector")?);
        command.args(["--listen", &address.to_string(), "--report-listen", &reports.to_string()]);
        command.args(["--cluster", "load", "--log-level", "warn", "--pods"]).arg(&list);
        let collector = Collector(Mutex::new(command.spawn().context("start the collector")?));
        let mut load = Self {
            address,
            collector,
            reports,
            stop: Arc::new(AtomicBool::new(false)),
            tally: Arc::default(),
            agents: Vec::new(),
        };
        load.until("answers", || load.get("/readyz").is_ok_and(|(status, _)| status == 200))?;
        load.play(size, &world, reports);
        if size.churn > 0 {
            load.churn(size.churn, Arc::clone(&world), list);
        }
        let nodes = format!("orrery_collector_merge_nodes {}\n", size.nodes);
        load.until("knows every node", || load.get("/metrics").is_ok_and(|(_, text)| text.contains(&nodes)))?;
        Ok(load)
    }

    /// Fails when the collector has ended.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let mut child = self.collector.0.lock().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        match child.try_wait().context("ask for the collector")? {
            Some(status) => bail!("the collector ended: {status}"),
            None => Ok(()),
        }
    }

    /// The processor time the collector has taken so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(sys::processor_time(self.id()?)?.as_secs_f64())
    }

    /// A GET of the collector: status and body.
    pub(crate) fn get(&self, target: &str) -> anyhow::Result<(u16, String)> {
        let mut client = lab::http1::Client::tcp(self.address, Duration::from_secs(20))?;
        let response = client.request("orrery", target, &[])?;
        Ok((response.status, String::from_utf8_lossy(&response.body).into_owned()))
    }

    fn until(&self, what: &str, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let start = Instant::now();
        while !ready() {
            self.check()?;
            if start.elapsed() > READY_WAIT {
                bail!("waited {READY_WAIT:?}, but no collector {what}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn play(&mut self, size: &Size, world: &Arc<RwLock<World>>, reports: SocketAddr) {
        let nodes: Vec<u16> = (0..size.nodes).collect();
        for nodes in nodes.chunks(NODES_PER_THREAD) {
            let agents: Vec<Agent> = nodes.iter().map(|node| Agent::new(*node, size.nodes, reports)).collect();
            let (world, stop, tally) = (Arc::clone(world), Arc::clone(&self.stop), Arc::clone(&self.tally));
            self.agents.push(std::thread::spawn(move || agent::play(agents, &world, &stop, &tally)));
        }
    }

    /// What was sent so far.
    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all agents and holds what was acknowledged against what is shown and counted.
    pub(crate) fn verify(mut self) -> anyhow::Result<()> {
        let told = self.stop_agents()?;
        figures::verify(&self, told)
    }

    /// The packets that were acknowledged.
    fn stop_agents(&mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let told = self.agents.drain(..).map(|thread| thread.join().map_err(|_| anyhow::anyhow!("an agent panicked")));
        let told = told.sum::<anyhow::Result<u64>>()?;
        std::thread::sleep(LAST_TICK);
        Ok(told)
    }

    /// Watches for `time`, prints the figures, and ends with the sums.
    fn measure(mut self, time: Duration, views: u16, clients: u16, stop: &Stop) -> anyhow::Result<()> {
        let (browser, reports, over) = (self.address, self.reports, Arc::clone(&self.stop));
        let probe = std::thread::spawn(move || probe::run(browser, reports, &over));
        let followers = self.follow_views(views, clients)?;
        stop.within(SETTLES);
        let before = figures::Moment::of(&self)?;
        let start = Instant::now();
        while start.elapsed() < time && !stop.within(Duration::from_millis(200)) {
            self.check()?;
        }
        figures::print(&self, &before, views, clients)?;
        drop(followers);
        self.stop.store(true, Ordering::Relaxed);
        let found = probe.join().map_err(|_| anyhow::anyhow!("the probe panicked"))??;
        figures::print_probe(&found)?;
        let told = self.stop_agents()? + found.told;
        figures::verify(&self, told)
    }

    /// Clients that read and forget until what is returned is dropped, spread over so many views: the first is the whole; each
    /// of the others leaves out one port that nobody has, so that it shows all the same.
    pub(crate) fn follow_views(&self, views: u16, clients: u16) -> anyhow::Result<Vec<Follower>> {
        (0..clients).map(|client| self.follow(client % views)).collect()
    }

    fn follow(&self, view: u16) -> anyhow::Result<Follower> {
        let filter = if view == 0 { String::new() } else { format!("&filter=-port:{}", 20_000 + view) };
        let mut stream = TcpStream::connect(self.address).context("connect to the collector")?;
        write!(stream, "GET /api/v1/stream?view=pod{filter} HTTP/1.1\r\nHost: orrery\r\n\r\n")
            .context("ask for a stream")?;
        let mut reader = stream.try_clone().context("share a connection")?;
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || {
                let mut buffer = vec![0; 32 << 10];
                while reader.read(&mut buffer).is_ok_and(|read| read > 0) {}
            })
            .context("start a client")?;
        Ok(Follower(stream))
    }

    /// Deltas made so far, of all views by pod.
    pub(crate) fn deltas(&self) -> anyhow::Result<f64> {
        self.count("stream_deltas")
    }

    /// Their bytes, each delta once however many read it.
    pub(crate) fn delta_bytes(&self) -> anyhow::Result<f64> {
        self.count("stream_delta_bytes")
    }

    fn count(&self, what: &str) -> anyhow::Result<f64> {
        let (_, text) = self.get("/metrics")?;
        let name = format!("orrery_collector_{what}_total{{view=\"pod\"}} ");
        // Before the first delta there is no such line.
        Ok(text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0.0))
    }

    /// A line of the collector's `/proc/PID/status`.
    pub(crate) fn memory(&self, name: &str) -> anyhow::Result<String> {
        Ok(format!("{} MB", sys::memory_kib(self.id()?, name)? * 1_024 / 1_000_000))
    }

    /// The collector's process.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        Ok(self.collector.0.lock().map_err(|_| anyhow::anyhow!("a thread panicked"))?.id())
    }

    fn churn(&self, per_second: u32, world: Arc<RwLock<World>>, list: PathBuf) {
        let stop = Arc::clone(&self.stop);
        std::thread::spawn(move || {
            let share = u32::try_from(Duration::from_secs(1).as_millis() / CHURN_EVERY.as_millis()).unwrap_or(1);
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(CHURN_EVERY);
                if let Ok(mut world) = world.write() {
                    world.replace_pods(per_second.div_ceil(share));
                }
                if let Err(error) = write_list(&world, &list) {
                    eprintln!("error: {error:#}");
                    return;
                }
            }
        });
    }
}

/// Written beside and moved into place: nobody reads half a list.
fn write_list(world: &RwLock<World>, list: &std::path::Path) -> anyhow::Result<()> {
    let json = world.read().map_err(|_| anyhow::anyhow!("a thread panicked"))?.pod_list();
    let beside = list.with_extension("new");
    std::fs::write(&beside, json).with_context(|| format!("write {}", beside.display()))?;
    std::fs::rename(&beside, list).with_context(|| format!("move {}", list.display()))
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}
