//! Both images run, as the manifest has it: the agent in a container of a lab's node finds its collector by name, and sees
//! real traffic, exactly.

use std::fs::{Permissions, create_dir, set_permissions, write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lab::http1::{Client, Response};
use lab::{Lab, LabSpec, Offloads, Reply, UdpSend};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::Args;
use super::container::{Container, Manifest, wait};

const DATAGRAMS: u64 = 500;
const PAYLOAD: u32 = 300;
/// Where the page listens: a loopback port of the node's namespace, as the manifest has it.
const PAGE: &str = "127.0.0.1:7380";
/// The collector's name in the manifest; a cluster's DNS knows it with the cluster's domain behind it.
const NAME: &str = "orrery-collector.orrery.svc";
const DOMAIN: &str = "cluster.local";

/// A BPF file system of the check's own: what a node's has is not ours.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(at: PathBuf) -> anyhow::Result<Self> {
        create_dir(&at).with_context(|| format!("create {}", at.display()))?;
        mount(Some("bpf"), &at, Some("bpf"), MsFlags::empty(), None::<&str>).context("mount a BPF file system")?;
        Ok(Self(at))
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::up(LabSpec::plain(1, Offloads::On)).context("bring the lab up")?;
    let node = lab.node("n1")?;
    let folder = lab.dir().join("check");
    create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    let bpffs = Bpffs::mount(lab.dir().join("check-bpf"))?;
    let place = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = folder.join(name);
        write(&path, text).with_context(|| format!("write {}", path.display()))?;
        // The collector is nobody.
        set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(path.display().to_string())
    };
    place("pods.json", &std::fs::read_to_string(lab.pod_list()).context("read the pod list")?)?;
    place("token", "an-agents-token-of-the-check\n")?;
    let hosts = place("hosts", &format!("127.0.0.1 {NAME}\n"))?;
    let no_hosts = place("no-hosts", "127.0.0.1 localhost\n")?;
    let no_resolver = place("no-resolv.conf", "")?;
    let resolver = place("resolv.conf", &format!("search {DOMAIN}\nnameserver 127.0.0.1\noptions ndots:5\n"))?;
    // A cluster's DNS, as far as one name goes; it reads nothing else of the machine.
    let mut dns = Command::new("dnsmasq");
    dns.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
        .args(["--user=root", "--bind-interfaces", "--listen-address=127.0.0.1"])
        .arg(format!("--host-record={NAME}.{DOMAIN},127.0.0.1"));
    let _dns = lab.start("check-dns", dns, Some(node))?;

    let network = format!("ns:/run/netns/{}", node.name());
    let container = |part: &str, hosts: &str, resolver: &str, more: Vec<String>| {
        let mounts = [format!("{hosts}:/etc/hosts:ro"), format!("{resolver}:/etc/resolv.conf:ro")];
        let mut arguments = words(&["--network", &network, "--volume", &mounts[0], "--volume", &mounts[1]]);
        arguments.extend(more);
        Container::start(format!("orrery-check-{}-{part}", lab.id()), &arguments)
    };

    // There is no API: names come from a file, and who may report from another.
    let manifest = Manifest::of("Deployment")?;
    let mut more =
        manifest.environment(&["ORRERY_NAMES", "ORRERY_REPORT_TOKEN_REVIEW", "ORRERY_REPORT_SERVICE_ACCOUNT"]);
    more.extend(words(&["--env", "ORRERY_PODS=/check/pods.json", "--env", "ORRERY_REPORT_TOKEN_FILE=/check/token"]));
    more.extend(words(&["--env", "ORRERY_HUBBLE_LISTEN=127.0.0.1:4245"]));
    more.extend(words(&["--volume", &format!("{}:/check:ro", folder.display()), &args.name("orrery-collector")]));
    let collector = container("collector", &hosts, &no_resolver, more)?;
    let page: SocketAddr = PAGE.parse()?;
    let get = |target: &str| {
        node.run(|| Client::tcp(page, Duration::from_secs(5))?.request("orrery", target, &[]))?
            .map_err(anyhow::Error::from)
            .and_then(
                |answer: Response| if answer.status == 200 { Ok(answer) } else { anyhow::bail!("{}", answer.status) },
            )
    };
    wait("the collector is ready", &[&collector], || get("/readyz").map(|_| true))?;
    collector.powers(manifest.capabilities()?.len())?;
    // Its own program, as a client that is told a name.
    wait("the collector's image finds a name", &[&collector], || {
        collector
            .exec(&["/orrery-collector", "observe", "--server", &format!("{NAME}:4245"), "--last", "1"])
            .map(|_| true)
    })?;

    let manifest = Manifest::of("DaemonSet")?;
    let granted = manifest.capabilities()?;
    let seccomp = format!("seccomp={}", place("seccomp.json", &default_profile()?)?);
    let start = |hosts: &str, resolver: &str| -> anyhow::Result<Container> {
        let mut more = manifest.environment(&[]);
        granted.iter().for_each(|capability| more.extend(["--cap-add".to_owned(), capability.clone()]));
        more.extend(words(&["--env", "ORRERY_NODE=n1", "--tmpfs", "/run/orrery", "--security-opt", &seccomp]));
        more.extend(words(&["--volume", &format!("{}:/sys/fs/bpf", bpffs.0.display())]));
        more.extend(words(&["--volume", "/sys/fs/cgroup:/sys/fs/cgroup:ro"]));
        more.extend(words(&["--volume", &format!("{}/token:/run/secrets/orrery/token:ro", folder.display())]));
        more.push(args.name("orrery-agent"));
        let agent = container("agent", hosts, resolver, more)?;
        // The probe of the manifest.
        wait("the agent is well", &[&agent, &collector], || agent.exec(&["/orrery-agent", "health"]).map(|_| true))?;
        agent.powers(granted.len())?;
        Ok(agent)
    };
    let (client, server) = (lab.pod("p1-0")?, lab.pod("p2-0")?);
    let watched = || Ok(String::from_utf8_lossy(&get("/api/v1/devices")?.body).contains(client.device()));
    let agent = start(&hosts, &no_resolver)?;
    wait("an agent reports to a name of its /etc/hosts", &[&agent, &collector], watched)?;
    drop(agent);
    let before = reports(&get("/metrics")?);
    let agent = start(&no_hosts, &resolver)?;
    wait("an agent reports to a name that DNS knows", &[&agent, &collector], || {
        Ok(reports(&get("/metrics")?) > before && watched()?)
    })?;

    server.serve_udp(7000, Reply::Echo)?;
    let to: SocketAddr = (server.v4(), 7000).into();
    client.udp(UdpSend { replies: true, ..UdpSend::new(to, DATAGRAMS, PAYLOAD, 2_000.0) })?;
    wait("what the pod sent is counted", &[&agent, &collector], || {
        let graph: Value = get("/api/v1/graph?view=pod")?.json()?;
        let edges = graph["edges"].as_array().context("no edges")?;
        let edge = edges.iter().find(|edge| edge["client"] == "pod:lab/p1-0" && edge["port"] == 7000);
        let side = &edge.context("no edge yet")?["client_side"];
        let is =
            |way: &str| side[way]["skbs"] == DATAGRAMS && side[way]["payload_bytes"] == DATAGRAMS * u64::from(PAYLOAD);
        ensure!(is("forward") && is("reverse"), "counted so far: {side}");
        Ok(true)
    })?;
    println!(
        "both images ran: {DATAGRAMS} datagrams each way counted exactly, by an agent with {granted:?} alone that knew its \
         collector by name"
    );
    Ok(())
}

/// The default profile of seccomp as containerd has it: Podman's own lets these two calls pass to SYS_ADMIN alone.
fn default_profile() -> anyhow::Result<String> {
    let path = "/usr/share/containers/seccomp.json";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let mut profile: Value = serde_json::from_str(&text).with_context(|| format!("parse {path}"))?;
    let rules = profile["syscalls"].as_array_mut().context("a profile without rules")?;
    let ours = [("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON")];
    for (call, capability) in ours {
        for rule in rules.iter_mut() {
            rule["names"].as_array_mut().context("a rule without names")?.retain(|name| *name != call);
        }
        rules.push(json!({ "names": [call], "action": "SCMP_ACT_ALLOW", "includes": { "caps": [capability] } }));
    }
    rules.retain(|rule| rule["names"] != json!([]));
    Ok(profile.to_string())
}

/// Reports that the collector took.
fn reports(metrics: &Response) -> u64 {
    let text = String::from_utf8_lossy(&metrics.body);
    let count = text.lines().find_map(|line| line.strip_prefix("orrery_collector_ingest_reports_total "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}
