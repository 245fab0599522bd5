//! `cargo xtask lab`: the lab by hand. `up` keeps one until Ctrl-C, `reap` removes what dead ones left.

use anyhow::Context;
use lab::{Lab, LabSpec, Offloads, Stop};

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
    },
    /// Remove what labs without a living owner left behind
    Reap,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match args.command {
        Command::Up { pods, no_offloads, orrery } => {
            let offloads = if no_offloads { Offloads::Off } else { Offloads::On };
            up(pods, offloads, orrery)
        }
        Command::Reap => {
            lab::require_root()?;
            let reaped = lab::reap()?;
            println!("removed {} labs, {} namespaces, {} processes", reaped.labs, reaped.namespaces, reaped.processes);
            Ok(())
        }
    }
}

fn up(pods: usize, offloads: Offloads, orrery: bool) -> anyhow::Result<()> {
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
    let services = if orrery {
        let collector = lab.start_collector(&lab::CollectorOptions::default()).context("start the collector")?;
        let agents = lab.start_agents(&lab::AgentOptions::default()).context("start the agents")?;
        println!("page and API: http://{}", collector.address());
        Some((agents, collector))
    } else {
        None
    };
    println!("Ctrl-C removes it");
    while !stop.within(std::time::Duration::from_secs(3600)) {}
    drop(services);
    Ok(())
}
