//! The agents, the collector and the roads between them, and what a step of the plan does to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::{Agent, AgentOptions, Collector, CollectorOptions, DroppingLink, Lab, Process};
use serde_json::Value;

use super::plan::{NODES, Step};
use super::road::{Condition, Road};
use super::scarce::{Disk, Pids};
use super::traffic;
use super::vitals::{Memory, descriptors};

/// How long descriptors are watched to find out how many are open when nothing is asked.
const CALM: Duration = Duration::from_secs(3);

/// What runs, and what was read of it.
pub(super) struct Cluster<'a> {
    lab: &'a Lab,
    roads: Vec<Road>,
    agents: BTreeMap<usize, Agent>,
    collector: Option<Collector>,
    options: CollectorOptions,
    /// Where its state is, where it keeps one.
    disk: Option<Disk>,
    /// That disk is full.
    full: bool,
    /// Where nobody starts a thread at times; none where the kernel cannot.
    pids: Option<Pids>,
    /// Arguments of every agent.
    arguments: Vec<String>,
    links: Vec<DroppingLink>,
    /// How often what was done.
    done: BTreeMap<&'static str, u32>,
    start: Instant,
    /// Payload on all edges when the collector was asked to end, where it keeps a state.
    kept: Option<u64>,
    /// Every time that totals were smaller after a stop.
    pub(super) backwards: Vec<String>,
    /// By node.
    pub(super) agents_memory: BTreeMap<String, Memory>,
    /// Of the collector's present run.
    pub(super) collector_memory: Memory,
    /// Of all its runs, in KiB.
    pub(super) collector_most: u64,
}

impl<'a> Cluster<'a> {
    /// A collector, a road to it for each node, and an agent at the end of each.
    pub(super) fn start(lab: &'a Lab, state: bool, object: Option<&Path>) -> anyhow::Result<Self> {
        let mut options = CollectorOptions::default();
        let mut disk = None;
        if state {
            let mount = lab.dir().join("disk");
            disk = Some(Disk::mount(&mount)?);
            let dir = mount.join("state");
            std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            options.arguments = vec!["--state-dir".to_owned(), dir.display().to_string()];
        }
        let roads =
            (1..=NODES).map(|node| Road::open(lab.dir().join(format!("road-n{node}.sock")), &lab.reports_socket()));
        let mut cluster = Self {
            lab,
            roads: roads.collect::<anyhow::Result<_>>()?,
            agents: BTreeMap::new(),
            collector: None,
            options,
            disk,
            full: false,
            pids: Pids::open()?,
            arguments: object
                .into_iter()
                .flat_map(|file| ["--ebpf-object".to_owned(), file.display().to_string()])
                .collect(),
            links: Vec::new(),
            done: BTreeMap::new(),
            start: Instant::now(),
            kept: None,
            backwards: Vec::new(),
            agents_memory: BTreeMap::new(),
            collector_memory: Memory::default(),
            collector_most: 0,
        };
        cluster.collector_up()?;
        for node in 1..=NODES {
            cluster.agent_up(node, 0)?;
        }
        Ok(cluster)
    }

    /// The collector, which has to be there.
    pub(super) fn collector(&self) -> anyhow::Result<&Collector> {
        self.collector.as_ref().context("the collector is away")
    }

    /// Does one step.
    pub(super) fn apply(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::AgentDown { node, kill } => {
                let agent = self.agents.remove(&node).context("no agent there")?;
                self.end(&agent, kill, ["agents killed", "agents asked to end"])
            }
            Step::AgentUp { node, skew_ms } => self.agent_up(node, skew_ms),
            Step::CollectorDown { kill } => {
                let collector = self.collector.take().context("no collector")?;
                // What a stop promises a kill does not: the last second and a half may not be written yet.
                // Nor can it be kept where there is no room.
                self.kept = (!kill && self.disk.is_some() && !self.full).then(|| carried(&collector)).transpose()?;
                self.end(&collector, kill, ["collectors killed", "collectors asked to end"])
            }
            Step::CollectorUp => self.collector_up(),
            Step::Road { node, condition } => {
                let what = match condition {
                    Condition::Open => None,
                    Condition::Throttled => Some("roads throttled"),
                    Condition::Stalled => Some("roads stalled"),
                    Condition::Cut => Some("roads cut"),
                };
                if let Some(what) = what {
                    self.count(what);
                }
                self.roads.get(node - 1).context("no such road")?.set(condition);
                Ok(())
            }
            Step::Disk { full } => {
                let Some(disk) = &self.disk else { return Ok(()) };
                self.full = full;
                if full {
                    disk.fill()?;
                    self.count("times the disk was full");
                    return Ok(());
                }
                disk.free()
            }
            Step::Pids { scarce } => {
                let Some(pids) = &self.pids else { return Ok(()) };
                if !scarce {
                    return pids.lift();
                }
                let agents = self.agents.values().map(|agent| agent.pid());
                pids.limit(agents.chain(self.collector.iter().map(|collector| collector.pid())))?;
                self.count("times no thread could be started");
                Ok(())
            }
            Step::Link { percent: 0 } => self.links.last().map_or(Ok(()), DroppingLink::heal).context("heal the link"),
            Step::Link { percent } => {
                self.count("times a link dropped");
                self.links.push(DroppingLink::install(self.lab, traffic::lossy(self.lab)?, percent)?);
                Ok(())
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn end(&mut self, process: &Process, kill: bool, names: [&'static str; 2]) -> anyhow::Result<()> {
        self.count(names[usize::from(!kill)]);
        if kill {
            process.kill();
            return Ok(());
        }
        let status = process.terminate().context("ask it to end")?;
        if status.success() { Ok(()) } else { bail!("asked to end, it failed: {status}\n{}", tail(process)) }
    }

    fn agent_up(&mut self, node: usize, skew_ms: i64) -> anyhow::Result<()> {
        let road = self.roads.get(node - 1).context("no such road")?;
        let skew = ["--clock-skew".to_owned(), format!("{skew_ms}ms")];
        let options = AgentOptions {
            arguments: self.arguments.iter().cloned().chain(skew).collect(),
            collector: Some(road.address()),
            ..AgentOptions::default()
        };
        self.agents.insert(node, self.lab.start_agent(&format!("n{node}"), &options)?);
        Ok(())
    }

    fn collector_up(&mut self) -> anyhow::Result<()> {
        let collector = self.lab.start_collector(&self.options)?;
        if let Some(before) = self.kept.take() {
            let after = carried(&collector)?;
            if after < before {
                self.backwards.push(format!("{before} bytes before a stop, {after} after"));
            }
        }
        self.collector_memory = Memory::default();
        self.collector = Some(collector);
        Ok(())
    }

    /// Fails when a process has ended that nobody ended.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let agents = self.agents.values().map(|agent| -> &Process { agent });
        let collector = self.collector.iter().map(|collector| -> &Process { collector });
        for process in agents.chain(collector) {
            if let Some(status) = process.ended() {
                bail!("{} ended by itself: {status}\n{}", process.log().display(), tail(process));
            }
        }
        Ok(())
    }

    /// Reads everybody's memory.
    pub(super) fn read(&mut self) {
        let at = self.start.elapsed();
        for (node, agent) in &self.agents {
            self.agents_memory.entry(format!("n{node}")).or_default().read(at, agent.pid());
        }
        if let Some(collector) = &self.collector {
            self.collector_memory.read(at, collector.pid());
            self.collector_most = self.collector_most.max(self.collector_memory.most(at, at));
        }
    }

    /// What the readings' clock says.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Descriptors that stay open: the fewest over a while, by process.
    pub(super) fn descriptors(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut fewest: BTreeMap<String, usize> = BTreeMap::new();
        let start = Instant::now();
        while start.elapsed() < CALM {
            let agents = self.agents.iter().map(|(node, agent)| (format!("n{node}"), agent.pid()));
            for (name, pid) in agents.chain([("collector".to_owned(), self.collector()?.pid())]) {
                let open = descriptors(pid)?;
                fewest.entry(name).and_modify(|fewest| *fewest = open.min(*fewest)).or_insert(open);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(fewest)
    }

    /// What the link dropped, all times together.
    pub(super) fn dropped(&self) -> anyhow::Result<lab::Matched> {
        let mut sum = lab::Matched::default();
        for link in &self.links {
            let dropped = link.dropped()?;
            (sum.packets, sum.bytes) = (sum.packets + dropped.packets, sum.bytes + dropped.bytes);
        }
        Ok(sum)
    }

    /// What was done, in words.
    pub(super) fn told(&self) -> String {
        let done = self.done.iter().map(|(what, times)| format!("{times} {what}"));
        // None: nobody asked for one in that time, which is what a process does that has all it needs from its start.
        let refused = self.pids.as_ref().map(|pids| format!("{} threads refused", pids.refused()));
        done.chain(refused).collect::<Vec<_>>().join(", ")
    }

    /// Where it stands, in a line.
    pub(super) fn progress(&self) -> String {
        let agents = self.agents_memory.iter().map(|(node, memory)| format!("{node} {}", super::mib(memory.last())));
        let collector = match &self.collector {
            Some(_) => super::mib(self.collector_memory.last()),
            None => "away".to_owned(),
        };
        format!("collector {collector}, {}; {}", agents.collect::<Vec<_>>().join(", "), self.told())
    }
}

/// Payload on all edges, both sides and both ways.
fn carried(collector: &Collector) -> anyhow::Result<u64> {
    let graph = collector.graph("pod")?;
    let way = |side: &Value, way: &str| side[way]["payload_bytes"].as_u64().unwrap_or(0);
    let edges = graph["edges"].as_array().into_iter().flatten();
    let sides = edges.flat_map(|edge| [&edge["client_side"], &edge["server_side"]]);
    Ok(sides.map(|side| way(side, "forward") + way(side, "reverse")).sum())
}

/// The end of a process's log.
fn tail(process: &Process) -> String {
    let log = std::fs::read_to_string(process.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
