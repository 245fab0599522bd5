//! Orrery's own processes in the lab: one agent per node, one collector.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Context, LabError, Result};
use crate::http1::{Client, Events, Response};
use crate::lab::Lab;
use crate::spawn::Process;
use crate::sys::{binary, wait_for};

/// In a virtual machine without KVM the verifier alone takes longer than anything here.
const START_WAIT: Duration = Duration::from_secs(60);
const HTTP_WAIT: Duration = Duration::from_secs(10);

/// How an agent is started.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// Further arguments: `--clock-skew`, `--max-edges`, `--ebpf-object`, `--devices`, …
    pub arguments: Vec<String>,
    /// A name for its log and socket where a node has several; the node's otherwise.
    pub name: Option<String>,
    /// Where it reports; [`Lab::reports_socket`] otherwise.
    pub collector: Option<String>,
}

/// A running agent: a process that answers on its admin socket.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    admin: PathBuf,
}

impl Deref for Agent {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Agent {
    /// Asks its admin socket.
    pub fn get(&self, target: &str) -> Result<Response> {
        let ask = || Client::unix(&self.admin, HTTP_WAIT)?.request("agent", target, &[]);
        ask().context(|| format!("ask {}{target}", self.admin.display()))
    }
}

/// How a collector is started.
#[derive(Debug, Clone, Default)]
pub struct CollectorOptions {
    /// The port of page and API on 127.0.0.1; a free one when 0.
    pub port: u16,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running collector: a process that answers over HTTP.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    address: SocketAddr,
}

impl Deref for Collector {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Collector {
    /// Where its page and API are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A GET of its API.
    pub fn get(&self, target: &str) -> Result<Response> {
        let ask = || Client::tcp(self.address, HTTP_WAIT)?.request("orrery", target, &[]);
        ask().context(|| format!("ask {}{target}", self.address))
    }

    /// The graph as JSON: `node`, `namespace`, `workload` or `pod`.
    pub fn graph(&self, view: &str) -> Result<Value> {
        let response = self.get(&format!("/api/v1/graph?view={view}"))?;
        if response.status != 200 {
            return Err(LabError::Protocol {
                what: format!("status {}: {}", response.status, String::from_utf8_lossy(&response.body)),
            });
        }
        response.json()
    }

    /// The event stream of a view, from the snapshot on, or from `last_event_id`.
    pub fn events(&self, view: &str, last_event_id: Option<&str>) -> Result<Events> {
        let header = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let open =
            || Client::tcp(self.address, HTTP_WAIT)?.events("orrery", &format!("/api/v1/stream?view={view}"), &header);
        open().context(|| format!("open the event stream of {}", self.address))
    }
}

/// Waits until a process answers, and fails at once, with the end of its log, when it ends instead.
fn wait_ready(what: &str, process: &Process, mut ready: impl FnMut() -> bool) -> Result<()> {
    let ended = wait_for(what, START_WAIT, || {
        let ended = process.ended();
        (ended.is_some() || ready()).then_some(ended)
    })?;
    match ended {
        None => Ok(()),
        Some(status) => {
            let log = std::fs::read_to_string(process.log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            Err(LabError::Tool { tool: what.to_owned(), stderr: format!("{status}\n{}", tail.join("\n")) })
        }
    }
}

impl Lab {
    /// The socket on which the collector takes reports.
    pub fn reports_socket(&self) -> PathBuf {
        self.dir().join("reports.sock")
    }

    /// Starts the collector outside the namespaces and waits until it answers.
    pub fn start_collector(&self, options: &CollectorOptions) -> Result<Collector> {
        let address = match options.port {
            0 => free_port()?,
            port => (Ipv4Addr::LOCALHOST, port).into(),
        };
        let reports = format!("unix:{}", self.reports_socket().display());
        let mut command = Command::new(binary("orrery-collector")?);
        command.args(["--listen", &address.to_string(), "--report-listen", &reports, "--cluster", "lab"]);
        // Names come from one place.
        if !options.arguments.iter().any(|argument| argument == "--kubeconfig") {
            command.arg("--pods").arg(self.pod_list());
        }
        command.args(&options.arguments);
        let process = self.start("collector", command, None)?;
        let collector = Collector { process, address };
        wait_ready("the collector", &collector.process, || {
            collector.get("/healthz").is_ok_and(|response| response.status == 200)
        })?;
        Ok(collector)
    }

    /// Starts an agent in a node's namespace and waits until it says it is well.
    pub fn start_agent(&self, node: &str, options: &AgentOptions) -> Result<Agent> {
        let name = options.name.clone().unwrap_or_else(|| format!("agent-{node}"));
        let admin = self.dir().join(format!("{name}.sock"));
        let mut command = Command::new(binary("orrery-agent")?);
        let reports = || format!("unix:{}", self.reports_socket().display());
        command.args(["--node", node, "--collector", &options.collector.clone().unwrap_or_else(reports)]);
        command.arg("--admin-socket").arg(&admin).args(&options.arguments);
        // A lab's node is a set of namespaces and a cgroup: hooks on sockets and drops see the whole machine.
        let own = format!("/run/netns/{}", self.node(node)?.name());
        command.args(["--scope-netns", &own, "--scope-netns", &format!("{own}-*")]);
        if let Some(cgroup) = self.node_cgroup(node).filter(|cgroup| cgroup.exists())
            && !options.arguments.iter().any(|argument| argument == "--scope-cgroup")
        {
            command.arg("--scope-cgroup").arg(cgroup);
        }
        // Nothing of a lab outlives it, unless a test says where.
        if !options.arguments.iter().any(|argument| argument == "--pin-path") {
            command.args(["--pin-path", "off"]);
        }
        let process = self.start(&name, command, Some(self.node(node)?))?;
        let agent = Agent { process, admin };
        wait_ready(&name, &agent.process, || agent.get("/healthz").is_ok_and(|response| response.status == 200))?;
        Ok(agent)
    }

    /// An agent on every node.
    pub fn start_agents(&self, options: &AgentOptions) -> Result<Vec<Agent>> {
        self.nodes().iter().map(|node| self.start_agent(node, options)).collect()
    }
}

fn free_port() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .context(|| "find a free port".to_owned())
}
