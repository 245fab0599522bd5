//! `cargo xtask`: every chore of Orrery, one module each.

mod bench;
mod e2e;
mod ebpf;
mod setup;
mod step;
mod sys;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every chore of Orrery.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install and build what a fresh machine lacks; done again, it does nothing
    Setup(setup::Args),
    /// Run every test, tier by tier
    Test(test::Args),
    /// Measure what is promised about speed
    Bench(bench::Args),
    /// Check what the compiler does not: sizes, borders, documents
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Setup(args) => setup::run(setup::Purpose::Test, &args),
        Chore::Test(args) => test::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Tidy => tidy::run().map(drop),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
