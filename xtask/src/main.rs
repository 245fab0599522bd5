//! `cargo xtask`: every chore of Orrery, one module each.

mod bench;
mod demo;
mod e2e;
mod ebpf;
mod fuzz;
mod image;
mod lab;
mod load;
mod setup;
mod soak;
mod step;
mod sys;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use setup::Purpose;

/// Every chore of Orrery.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install and build what a fresh machine lacks; done again, it does nothing
    Setup(setup::Args),
    /// Show the shop's traffic: three nodes, real agents, a collector and its page
    Demo(demo::Args),
    /// Bring up the lab by hand
    Lab(lab::Args),
    /// Play a cluster of any size: real reports to a real collector
    Load(load::Args),
    /// Let agents, collector and the ways between them fail for a while, and hold the totals against what was sent
    Soak(soak::Args),
    /// Run every test, tier by tier
    Test(test::Args),
    /// Boot other kernels in virtual machines, and run the kernel tests inside each
    Vm(vm::Args),
    /// The first process inside such a machine
    #[command(hide = true)]
    VmGuest,
    /// Build the images of agent and collector
    Image(image::Args),
    /// Measure what is promised about speed
    Bench(bench::Args),
    /// Feed libFuzzer's inventions to all that takes bytes from strangers
    Fuzz(fuzz::Args),
    /// Check what the compiler does not: sizes, borders, documents
    Tidy,
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    match chore {
        Chore::Setup(args) => setup::run(Purpose::Test, &args).map(|()| ExitCode::SUCCESS),
        Chore::Demo(args) => {
            let purpose = if args.replays() { Purpose::Replay } else { Purpose::Demo };
            in_lab(purpose, || demo::run(&args))
        }
        Chore::Lab(args) => in_lab(Purpose::Demo, || lab::run(&args)),
        Chore::Load(args) => in_lab(Purpose::Replay, || load::run(&args)),
        Chore::Soak(args) => in_lab(Purpose::Demo, || soak::run(&args)),
        Chore::Test(args) => test::run(&args).map(|()| ExitCode::SUCCESS),
        Chore::Vm(args) => vm::run(&args).map(|_| ExitCode::SUCCESS),
        Chore::VmGuest => vm::guest().map(|()| ExitCode::SUCCESS),
        Chore::Image(args) => in_lab(Purpose::Demo, || image::run(&args)),
        Chore::Bench(args) => {
            // What is not measured in the lab needs neither root nor BPF.
            let purpose = if args.in_lab() { Purpose::Demo } else { Purpose::Replay };
            in_lab(purpose, || bench::run(&args))
        }
        Chore::Fuzz(args) => fuzz::run(&args).map(|()| ExitCode::SUCCESS),
        Chore::Tidy => tidy::run().map(|_| ExitCode::SUCCESS),
    }
}

/// Prepares as whoever we are, so that what is built stays theirs; then does `work` as root.
fn in_lab(purpose: Purpose, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    setup::prepare(purpose)?;
    // A recording is played without root.
    if purpose == Purpose::Replay || sys::is_root() {
        return work().map(|()| ExitCode::SUCCESS);
    }
    let status = sys::self_as_root(std::env::args_os().skip(1))?.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
