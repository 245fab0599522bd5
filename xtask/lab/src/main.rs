//! What runs inside the lab's pods, and the janitor that clears up after a lab whose owner died.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "orrery-lab", version, about = "Processes of Orrery's lab; cargo xtask lab starts them")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve and send as told over a Unix socket.
    Pod {
        /// The socket to listen on.
        socket: PathBuf,
        /// MTU of the pod's device.
        #[arg(long, default_value_t = lab::POD_MTU)]
        mtu: usize,
        /// The pod's addresses.
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Wait until a lab's owner is gone, and remove what it left.
    Janitor {
        /// The lab's id.
        id: String,
    },
    /// Remove what dead labs left.
    Reap,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Pod { socket, mtu, addresses } => lab::pod::run(&socket, addresses, mtu)?,
        Command::Janitor { id } => {
            // A Ctrl-C at the terminal is for the lab, not for who clears up after it.
            nix::unistd::setsid().ok();
            lab::watch(&id)?;
        }
        Command::Reap => {
            let reaped = lab::reap()?;
            println!("removed {} labs, {} namespaces, {} processes", reaped.labs, reaped.namespaces, reaped.processes);
        }
    }
    Ok(())
}
