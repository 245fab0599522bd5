//! Both images run, with what the manifest grants: the agent in a container of a lab's node sees real traffic, exactly.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use lab::http1::{Client, Response};
use lab::{Lab, LabSpec, Offloads, Reply, UdpSend};
use serde_json::Value;

use super::{Args, podman};
use crate::sys;

const WAIT: Duration = Duration::from_secs(60);
const DATAGRAMS: u64 = 500;
const PAYLOAD: u32 = 300;

/// A container that ends with the check.
struct Container(String);

impl Container {
    /// `podman run` with these arguments.
    fn start(name: String, arguments: &[String]) -> anyhow::Result<Self> {
        let out = podman()?
            .args(["run", "--detach", "--name", &name, "--read-only", "--cap-drop", "ALL"])
            .args(["--security-opt", "no-new-privileges"])
            .args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"])
            .args(arguments)
            .output()
            .context("start podman")?;
        let container = Self(name);
        ensure!(out.status.success(), "podman run {}: {}", container.0, String::from_utf8_lossy(&out.stderr).trim());
        Ok(container)
    }

    fn ask(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let out = podman()?.arg(verb).args(arguments).output().context("start podman")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(out.status.success(), "podman {verb}: {} {}", text(&out.stdout), text(&out.stderr));
        Ok(text(&out.stdout))
    }

    fn log(&self) -> String {
        let out = podman().ok().and_then(|mut podman| podman.args(["logs", "--tail", "20", &self.0]).output().ok());
        out.map_or_else(String::new, |out| {
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(mut podman) = podman() {
            // It may have ended by itself.
            let _ = podman.args(["rm", "--force", "--time", "5", &self.0]).output();
        }
    }
}

/// What the manifest's agent may do: its capabilities, in its own words.
fn granted() -> anyhow::Result<Vec<String>> {
    let path = sys::root().join("deploy/kubernetes/orrery.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("add: ")).context("the manifest adds nothing")?;
    serde_json::from_str(line).context("the manifest's capabilities")
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::up(LabSpec::plain(1, Offloads::On)).context("bring the lab up")?;
    let folder = lab.dir().join("check");
    std::fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    // The collector is nobody, and makes its socket here.
    std::fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
    let shared = format!("{}:/check", folder.display());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let page = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    std::fs::copy(lab.pod_list(), folder.join("pods.json")).context("copy the pod list")?;
    let mut arguments = words(&["--network", "host", "--volume", &shared, &args.name("orrery-collector")]);
    arguments.extend(words(&["--listen", &page.to_string(), "--report-listen", "unix:/check/reports.sock"]));
    arguments.extend(words(&["--pods", "/check/pods.json"]));
    let collector = Container::start(format!("orrery-check-{}-collector", lab.id()), &arguments)?;
    let wait = |what: &str, containers: &[&Container], ready: &mut dyn FnMut() -> anyhow::Result<bool>| {
        let start = Instant::now();
        loop {
            let trouble = match ready() {
                Ok(true) => return Ok(()),
                Ok(false) => String::new(),
                Err(error) => format!("{error:#}\n"),
            };
            if start.elapsed() > WAIT {
                let logs: String = containers.iter().map(|container| container.log()).collect();
                bail!("{what}: not within {} s\n{trouble}{logs}", WAIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let get = |target: &str| {
        anyhow::Ok::<Response>(Client::tcp(page, Duration::from_secs(5))?.request("orrery", target, &[])?)
    };
    wait("the collector is ready", &[&collector], &mut || Ok(get("/readyz")?.status == 200))?;
    // Its socket is its own: the agent is root without the power to write where it likes.
    std::fs::set_permissions(folder.join("reports.sock"), Permissions::from_mode(0o777))?;

    let node = lab.node("n1")?.name().to_owned();
    let mut arguments = words(&["--network", &format!("ns:/run/netns/{node}"), "--volume", &shared]);
    for capability in granted()? {
        arguments.extend(["--cap-add".to_owned(), capability]);
    }
    arguments.extend(words(&["--tmpfs", "/run/orrery", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:ro"]));
    arguments.extend(words(&["--env", "ORRERY_ADMIN_SOCKET=/run/orrery/agent.sock", &args.name("orrery-agent")]));
    arguments.extend(words(&["--node", "n1", "--collector", "unix:/check/reports.sock", "--pin-path", "off"]));
    let agent = Container::start(format!("orrery-check-{}-agent", lab.id()), &arguments)?;
    // The probe of the manifest.
    let healthy = || agent.ask("exec", &[&agent.0, "/orrery-agent", "health"]).map(|_| true);
    wait("the agent is well", &[&agent, &collector], &mut || healthy())?;
    powers(&agent, granted()?.len())?;
    powers(&collector, 0)?;

    let (client, server) = (lab.pod("p1-0")?, lab.pod("p2-0")?);
    let watched = || Ok(String::from_utf8_lossy(&get("/api/v1/devices")?.body).contains(client.device()));
    wait("the pod's device is watched", &[&agent], &mut || watched())?;
    server.serve_udp(7000, Reply::Echo)?;
    let to: SocketAddr = (server.v4(), 7000).into();
    client.udp(UdpSend { replies: true, ..UdpSend::new(to, DATAGRAMS, PAYLOAD, 2_000.0) })?;
    let counted = || {
        let graph: Value = get("/api/v1/graph?view=pod")?.json()?;
        let edges = graph["edges"].as_array().context("no edges")?;
        let edge = edges.iter().find(|edge| edge["client"] == "pod:lab/p1-0" && edge["port"] == 7000);
        let side = &edge.context("no edge yet")?["client_side"];
        let is =
            |way: &str| side[way]["skbs"] == DATAGRAMS && side[way]["payload_bytes"] == DATAGRAMS * u64::from(PAYLOAD);
        ensure!(is("forward") && is("reverse"), "counted so far: {side}");
        Ok(true)
    };
    wait("what the pod sent is counted", &[&agent, &collector], &mut || counted())?;
    println!(
        "both images ran: {DATAGRAMS} datagrams each way counted exactly, by an agent with {:?} alone",
        granted()?
    );
    Ok(())
}

/// The container's process has so many capabilities, and no way to more.
fn powers(container: &Container, count: usize) -> anyhow::Result<()> {
    let pid = container.ask("inspect", &["--format", "{{.State.Pid}}", &container.0])?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    for set in ["CapEff:", "CapBnd:"] {
        let bits = u64::from_str_radix(&field(set), 16).with_context(|| format!("{set} of process {pid}"))?;
        ensure!(bits.count_ones() as usize == count, "{} has other capabilities: {set} {bits:x}", container.0);
    }
    ensure!(field("NoNewPrivs:") == "1", "{} may gain privileges", container.0);
    Ok(())
}
