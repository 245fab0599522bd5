//! The shop: a small, lively cluster whose pods really talk HTTP/1.1, DNS, TCP, UDP and ICMP, over IPv4 and IPv6. One link
//! drops, one pod crashes again and again, one deployment is scaled; a port refuses, an address stays silent, a name is
//! nobody's, and one client sits in its node's own namespace.

mod faults;
mod plan;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::control::{Call, Family, Load};
use crate::error::{LabError, Result};
use crate::handle::Pod;
use crate::lab::Lab;
use crate::link::{DroppingLink, Matched};
use crate::pod_list::replace;
use crate::spawn::Process;
use crate::spec::{Cni, LabSpec, Offloads, Owner, Phase, PodSpec};
use crate::sys::wait_for;

pub use faults::{Fault, Faults, Plight};
pub use plan::SCALED;
use plan::{
    CRASHING, DNS, EXTERNAL_ALIAS, EXTERNAL_NAMES, EXTERNAL_PORTS, METRICS_PORT, SCALED_AT_FIRST, SCRAPED, Speaks,
    Workload,
};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const METRICS_BYTES: u32 = 3_000;
/// Requests per second from outside to each pod of the shop's front.
const VISITS_PER_SECOND: f64 = 8.0;
/// How many pods the scaled deployment has, and for how long, over and over.
const SCHEDULE: [(usize, Duration); 3] =
    [(SCALED_AT_FIRST, Duration::from_secs(15)), (8, Duration::from_secs(25)), (3, Duration::from_secs(20))];

/// An open shop.
#[derive(Debug)]
pub struct Shop {
    // Before the lab: it lives in one of its pods.
    dns: Process,
    dropping: Mutex<(Fault, DroppingLink)>,
    faults: Faults,
    host: Arc<Pod>,
    scaled: Mutex<Scaled>,
    lab: Lab,
}

#[derive(Debug)]
struct Scaled {
    pods: Vec<String>,
    /// Index of the next new pod: names do not come back.
    next: usize,
}

impl Shop {
    /// Builds the shop and lets its traffic flow.
    pub fn open(offloads: Offloads, seed: u64) -> Result<Self> {
        let shop = Self::build(offloads, seed)?;
        shop.start_traffic()?;
        Ok(shop)
    }

    /// Builds the lab and everything that serves; nobody calls yet, so that who watches can see the first packet.
    /// Another `seed` puts each fault elsewhere; with 0 payments to ledger drops 12 %.
    pub fn build(offloads: Offloads, seed: u64) -> Result<Self> {
        let workloads = plan::workloads();
        let pods: Vec<PodSpec> = workloads.iter().flat_map(Workload::pods).collect();
        let named = |name: &str| -> Vec<String> {
            pods.iter().filter(|pod| pod.owner.name() == name).map(|pod| pod.name.clone()).collect()
        };
        let scaled = named(SCALED);
        let dns_pod = named(DNS).into_iter().next();
        let lab = Lab::up(LabSpec {
            nodes: NODES.len(),
            offloads,
            pods,
            services: plan::services(),
            dns_pod: dns_pod.clone(),
            cni: Cni::Plain,
        })?;
        lab.set_phase(named_crashing(&lab).iter().map(String::as_str), Phase::CrashLoop)?;
        write_hosts(&lab)?;
        let dns = start_dns(&lab, &dns_pod.unwrap_or_default())?;
        let faults = Faults::of(&lab, seed)?;
        let host = lab.add_host_pod(&faults::host_pod(seed))?;
        let dropping = Mutex::new(faults::drop_packets(&lab, seed)?);
        let next = scaled.len();
        let shop = Self { dns, dropping, faults, host, scaled: Mutex::new(Scaled { pods: scaled, next }), lab };
        let external = shop.lab.external()?;
        for port in EXTERNAL_PORTS {
            external.serve_tcp(port)?;
        }
        shop.lab.pods().iter().try_for_each(|pod| serve(pod))?;
        Ok(shop)
    }

    /// Lets everybody talk, and people visit from outside.
    pub fn start_traffic(&self) -> Result<()> {
        let external = self.lab.external()?;
        let all = self.lab.pods();
        all.iter().try_for_each(|pod| talk(pod))?;
        self.faults.start(&self.lab, &self.host)?;
        for pod in all.iter().filter(|pod| pod.workload() == "web") {
            for family in [Family::V4, Family::V6] {
                let to = pod.address(family == Family::V6).to_string();
                let call = Call::Http { path: "/".to_owned(), body: 0 };
                external.load(Load {
                    to,
                    port: 8080,
                    call,
                    per_second: VISITS_PER_SECOND / 2.0,
                    swing: 0.6,
                    family,
                })?;
            }
        }
        Ok(())
    }

    /// The lab it stands in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The link that drops.
    pub fn fault(&self) -> Fault {
        self.dropping().0.clone()
    }

    /// What it dropped so far.
    pub fn dropped(&self) -> Result<Matched> {
        self.dropping().1.dropped()
    }

    /// Lets the link that drops drop no more.
    pub fn heal(&self) -> Result<()> {
        self.dropping().1.heal()
    }

    /// Heals the link that drops, and lets the one drop that this seed names.
    pub fn drop_elsewhere(&self, seed: u64) -> Result<Fault> {
        let mut dropping = self.dropping();
        dropping.1.heal()?;
        *dropping = faults::drop_packets(&self.lab, seed)?;
        Ok(dropping.0.clone())
    }

    fn dropping(&self) -> MutexGuard<'_, (Fault, DroppingLink)> {
        self.dropping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What else is wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The client in its node's own namespace.
    pub fn host(&self) -> &Pod {
        &self.host
    }

    /// Gives the scaled deployment so many pods: new ones are made, the youngest go.
    pub fn scale(&self, pods: usize) -> Result<()> {
        let mut scaled = self.scaled.lock().unwrap_or_else(PoisonError::into_inner);
        if scaled.pods.len() > pods {
            let gone = scaled.pods.split_off(pods);
            // Out of DNS first, as endpoints go before their pods do.
            self.tell_dns(&gone)?;
            for name in gone {
                self.lab.remove_pod(&name)?;
            }
        } else if scaled.pods.len() < pods {
            let first = scaled.next;
            scaled.next += pods - scaled.pods.len();
            let owner = Owner::Deployment(SCALED.to_owned());
            let specs: Vec<PodSpec> = (first..scaled.next)
                .map(|index| PodSpec::new("shop", owner.clone(), index, NODES[index % NODES.len()]))
                .collect();
            let made = self.lab.add_pods(&specs)?;
            scaled.pods.extend(specs.into_iter().map(|spec| spec.name));
            made.iter().try_for_each(|pod| serve(pod))?;
            self.tell_dns(&[])?;
            made.iter().try_for_each(|pod| talk(pod))?;
        }
        Ok(())
    }

    /// How many pods the schedule wants after so long.
    pub fn scheduled(since_open: Duration) -> usize {
        let round: Duration = SCHEDULE.iter().map(|(_, time)| *time).sum();
        let mut left = Duration::from_secs_f64(since_open.as_secs_f64() % round.as_secs_f64());
        for (pods, time) in SCHEDULE {
            if left < time {
                return pods;
            }
            left -= time;
        }
        SCALED_AT_FIRST
    }

    /// Follows the schedule until `stop` says so; it is asked ten times a second with the time since the start.
    pub fn keep_scaling(&self, mut stop: impl FnMut(Duration) -> bool) -> Result<()> {
        let start = Instant::now();
        while !stop(start.elapsed()) {
            self.scale(Self::scheduled(start.elapsed()))?;
        }
        Ok(())
    }

    fn tell_dns(&self, gone: &[String]) -> Result<()> {
        write_hosts_without(&self.lab, gone)?;
        // dnsmasq reads its hosts file again, and forgets what it knew.
        self.dns.signal(Signal::SIGHUP);
        Ok(())
    }
}

fn named_crashing(lab: &Lab) -> Vec<String> {
    lab.pods().iter().filter(|pod| pod.workload() == CRASHING).map(|pod| pod.name().to_owned()).collect()
}

fn serve(pod: &Pod) -> Result<()> {
    if pod.workload() == CRASHING {
        return Ok(());
    }
    pod.serve_http(METRICS_PORT, METRICS_BYTES)?;
    for (port, speaks) in plan::ports_of(pod.workload()) {
        match speaks {
            Speaks::Http(bytes) => pod.serve_http(*port, *bytes)?,
            Speaks::Tcp => pod.serve_tcp(*port)?,
            Speaks::Udp(reply) => pod.serve_udp(*port, *reply)?,
        }
    }
    Ok(())
}

fn talk(pod: &Pod) -> Result<()> {
    plan::talks().into_iter().filter(|talk| talk.from == pod.workload()).try_for_each(|talk| pod.load(talk.load))
}

fn hosts_file(lab: &Lab) -> PathBuf {
    lab.dir().join("hosts")
}

fn write_hosts(lab: &Lab) -> Result<()> {
    write_hosts_without(lab, &[])
}

/// Every pod under its workload's name, as a headless service has it; all that answer scrapes under one more.
fn write_hosts_without(lab: &Lab, gone: &[String]) -> Result<()> {
    let workloads = plan::workloads();
    let mut text = String::new();
    for pod in lab.pods().iter().filter(|pod| pod.workload() != CRASHING && !gone.iter().any(|name| name == pod.name()))
    {
        let Some(workload) = workloads.iter().find(|workload| workload.name() == pod.workload()) else {
            continue;
        };
        for address in [pod.v4(), pod.v6()] {
            let _ = writeln!(text, "{address} {} {SCRAPED}.monitoring.svc.cluster.local", workload.domain());
        }
    }
    let external = lab.external()?;
    for name in EXTERNAL_NAMES {
        let _ = writeln!(text, "{} {name}\n{} {name}", external.v4(), external.v6());
    }
    replace(&hosts_file(lab), text.as_bytes())
}

/// Debian's dnsmasq, in a pod, answering from the hosts file alone.
fn start_dns(lab: &Lab, pod: &str) -> Result<Process> {
    let pod = lab.pod(pod)?;
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-"]);
    command.args([
        "--no-resolv",
        "--no-hosts",
        "--local=/cluster.local/",
        "--local=/example/",
        "--local-ttl=2",
        "--bind-interfaces",
        "--except-interface=lo",
    ]);
    command.arg(format!("--addn-hosts={}", hosts_file(lab).display()));
    let (alias, target) = EXTERNAL_ALIAS;
    command.arg(format!("--cname={alias},{target}"));
    for address in [pod.v4(), pod.v6()] {
        command.arg(format!("--listen-address={address}"));
    }
    let dns = lab.start("dns", command, Some(pod.netns()))?;
    // A bound socket shows in the namespace's own table: 0035 is port 53.
    let listens = || {
        let table = pod.netns().run(|| std::fs::read_to_string("/proc/thread-self/net/udp")).ok()?.ok()?;
        table.contains(":0035 ").then_some(())
    };
    match wait_for("dnsmasq listens", Duration::from_secs(10), || listens().or_else(|| dns.ended().map(drop))) {
        Ok(()) if dns.ended().is_none() => Ok(dns),
        Ok(()) => Err(LabError::Tool {
            tool: "dnsmasq".to_owned(),
            stderr: std::fs::read_to_string(dns.log()).unwrap_or_default(),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Shop, plan};
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn the_schedule_goes_round() {
        let at = |seconds| Shop::scheduled(Duration::from_secs(seconds));
        assert_eq!([at(0), at(14), at(15), at(39), at(40), at(59), at(60), at(75)], [2, 2, 8, 8, 3, 3, 2, 8]);
    }

    #[test]
    fn everybody_who_talks_exists() {
        let workloads = plan::workloads();
        let names: BTreeSet<&str> = workloads.iter().map(plan::Workload::name).collect();
        assert_eq!(names.len(), workloads.len());
        let pods: usize = workloads.iter().map(|workload| workload.nodes.len()).sum();
        assert!((20..=26).contains(&pods), "{pods} pods");
        for talk in plan::talks() {
            assert!(names.contains(talk.from), "{}", talk.from);
        }
    }
}
