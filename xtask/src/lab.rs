//! `cargo xtask lab`: the lab by hand. `up` keeps one until Ctrl-C, `reap` removes what dead ones left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api_mock::FileApi;
use lab::shop::Shop;
use lab::{AgentOptions, CollectorOptions, Lab, LabSpec, Offloads, Stop};

/// The recording in the tree.
pub(crate) const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/sample/shop.orrery");
/// How large it may be.
const SAMPLE_BYTES: u64 = 1_000_000;
/// What is to be seen in it: how many pods the scaled deployment has, and for how long.
const SAMPLE_SCALES: [(usize, Duration); 3] =
    [(2, Duration::from_secs(3)), (8, Duration::from_secs(5)), (3, Duration::from_secs(3))];

/// Arguments of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bring up three nodes with pods, print where they are, and keep them until Ctrl-C
    Up {
        /// Pods on each node
        #[arg(long, default_value_t = 2)]
        pods: usize,
        /// Switch segmentation, checksum and receive offloads off
        #[arg(long)]
        no_offloads: bool,
        /// Start an agent on each node, and a collector
        #[arg(long)]
        orrery: bool,
        /// Where its collector's names come from
        #[arg(long, default_value = "file", requires = "orrery")]
        names: Names,
    },
    /// Record a short visit to the shop, small enough for the tree: what `demo --replay` plays
    Sample {
        /// Where to keep it
        #[arg(default_value = SAMPLE)]
        file: PathBuf,
    },
    /// Remove what labs without a living owner left behind
    Reap,
}

/// Where a collector's names come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Names {
    /// The lab's pod list
    File,
    /// A mock of the Kubernetes API that serves the pod list
    MockApi,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Up { pods, no_offloads, orrery, names } => {
            let offloads = if *no_offloads { Offloads::Off } else { Offloads::On };
            up(*pods, offloads, orrery.then_some(*names))
        }
        Command::Sample { file } => sample(file),
        Command::Reap => {
            lab::require_root()?;
            let reaped = lab::reap()?;
            println!("removed {} labs, {} namespaces, {} processes", reaped.labs, reaped.namespaces, reaped.processes);
            Ok(())
        }
    }
}

fn up(pods: usize, offloads: Offloads, orrery: Option<Names>) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let lab = Lab::up(LabSpec::plain(pods, offloads)).context("bring the lab up")?;
    println!("lab {} in {}", lab.id(), lab.dir().display());
    for pod in lab.pods() {
        println!(
            "  {:<6} on {}  {:<12} {:<12} {}  {}",
            pod.name(),
            pod.node(),
            pod.v4(),
            pod.v6(),
            pod.device(),
            pod.netns().name()
        );
    }
    println!("enter one with: ip netns exec NAMESPACE sh");
    let services = if let Some(names) = orrery {
        let mut options = CollectorOptions::default();
        let api = match names {
            Names::File => None,
            Names::MockApi => {
                let api = FileApi::serve(&lab.pod_list()).context("serve the pod list")?;
                let path = lab.dir().join("kubeconfig");
                std::fs::write(&path, api.api().kubeconfig("lab")).context("write a kubeconfig")?;
                println!("kubeconfig of the mock API: {}", path.display());
                options.arguments = vec!["--kubeconfig".to_owned(), path.display().to_string()];
                Some(api)
            }
        };
        let collector = lab.start_collector(&options).context("start the collector")?;
        let agents = lab.start_agents(&AgentOptions::default()).context("start the agents")?;
        println!("page and API: http://{}", collector.address());
        Some((agents, collector, api))
    } else {
        None
    };
    println!("Ctrl-C removes it");
    while !stop.within(Duration::from_secs(3600)) {}
    drop(services);
    Ok(())
}

fn sample(file: &Path) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let file = std::path::absolute(file).context("find the file to record to")?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let shop = Shop::build(Offloads::On, 0).context("build the shop")?;
    let arguments = vec!["--record".to_owned(), file.display().to_string()];
    let collector =
        shop.lab().start_collector(&CollectorOptions { port: 0, arguments }).context("start the collector")?;
    let agents = shop.lab().start_agents(&AgentOptions::default()).context("start the agents")?;
    shop.start_traffic().context("open the shop")?;
    for (pods, time) in SAMPLE_SCALES {
        shop.scale(pods).context("scale the shop")?;
        if stop.within(time) {
            bail!("stopped before the recording was whole");
        }
    }
    for agent in agents {
        agent.terminate().context("end an agent")?;
    }
    collector.terminate().context("end the collector")?;
    let bytes = std::fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?.len();
    println!("{}: {bytes} bytes", file.display());
    if bytes > SAMPLE_BYTES {
        bail!("the sample is larger than {SAMPLE_BYTES} bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{SAMPLE, SAMPLE_BYTES};

    #[test]
    fn the_sample_is_in_the_tree_and_small() {
        let bytes = std::fs::metadata(SAMPLE).expect("the sample; cargo xtask lab sample makes it").len();
        assert!((100_000..=SAMPLE_BYTES).contains(&bytes), "{bytes} bytes");
    }
}
