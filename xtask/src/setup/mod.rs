//! Everything that a fresh machine with rustup needs, step by step. A step that finds its thing in place says so and
//! does nothing, so running set-up again costs about a second.

mod debian;
mod helm;
mod prometheus;
mod ui;

use anyhow::{Context as _, bail};

pub(crate) use self::debian::Apt;
pub(crate) use self::ui::npm;
use crate::{ebpf, step, sys};

/// What the set-up is for: each purpose needs all that the one before it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Playing a recording: the collector and its page. No root, no BPF.
    Replay,
    /// The lab with real agents.
    Demo,
    /// All tests: the linters and a browser besides.
    Test,
}

/// Options of `cargo xtask setup`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    #[command(flatten)]
    ebpf: ebpf::Options,
}

/// Sets up what `purpose` needs.
pub(crate) fn run(purpose: Purpose, args: &Args) -> anyhow::Result<()> {
    let mut apt = Apt::default();
    if purpose >= Purpose::Demo {
        let mut needs: Vec<_> = debian::DEMO.iter().collect();
        if purpose >= Purpose::Test {
            needs.extend(debian::TEST);
        }
        debian::ensure(&mut apt, &needs)?;
    }
    if purpose >= Purpose::Test {
        components()?;
        nextest();
        helm::ensure(&mut apt)?;
        prometheus::ensure(&mut apt)?;
    }
    if purpose >= Purpose::Demo {
        ebpf::ensure(&mut apt, &args.ebpf)?;
    }
    ui::ensure(&mut apt)
}

/// What building the fuzzer needs, beside Rust.
pub(crate) fn fuzzer() -> anyhow::Result<()> {
    debian::ensure(&mut Apt::default(), &debian::FUZZ.iter().collect::<Vec<_>>())
}

/// What building and running images needs, beside all the rest.
pub(crate) fn images() -> anyhow::Result<()> {
    debian::ensure(&mut Apt::default(), &debian::IMAGE.iter().collect::<Vec<_>>())
}

/// Sets up what `purpose` needs and builds the programs that the lab runs, unless whoever started us did.
///
/// All is built in the dev profile: its dependencies are optimised there already (root `Cargo.toml`), so the agents keep
/// up with the lab's traffic; and `cargo xtask`, demo and tests share one build. The release profile would compile
/// every dependency a second time, which is minutes of the first picture on two cores.
pub(crate) fn prepare(purpose: Purpose) -> anyhow::Result<()> {
    if sys::is_prepared() {
        return Ok(());
    }
    run(purpose, &Args::default())?;
    let mut command = sys::cargo();
    match purpose {
        Purpose::Replay => command.args(["build", "--locked", "-p", "orrery-collector"]),
        Purpose::Demo => {
            command.args(["build", "--locked", "-p", "orrery-collector", "-p", "orrery-agent", "-p", "lab"])
        }
        // With the tests in the same build, features are unified as the test runs will: nothing is built twice.
        Purpose::Test => command.args(["build", "--locked", "--workspace", "--bins", "--tests"]),
    };
    step::run("build", "cargo build", &mut command)
}

/// rustfmt and clippy, which rustup installs on demand where `rust-toolchain.toml` is obeyed.
fn components() -> anyhow::Result<()> {
    let missing: Vec<&str> = [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")]
        .into_iter()
        .filter(|(_, command)| sys::ask(command, ["--version"]).is_none())
        .map(|(component, _)| component)
        .collect();
    if missing.is_empty() {
        step::say("rust", "present: rustfmt clippy");
        return Ok(());
    }
    if sys::which("rustup").is_none() {
        bail!("missing: {}\nhint: they come with rustup, https://rustup.rs", missing.join(" "));
    }
    let mut command = std::process::Command::new("rustup");
    command.args(["component", "add"]).args(&missing).current_dir(sys::root());
    step::run("rust", &format!("rustup component add {}", missing.join(" ")), &mut command)
        .context("hint: rustup toolchain install stable")
}

/// Says which runner the tests will have. cargo-nextest takes minutes to compile and `cargo test` runs the same
/// tests, so it is used where it is and not installed.
fn nextest() {
    match sys::ask("cargo-nextest", ["--version"]) {
        Some(version) => step::say("rust", &format!("present: {}", version.lines().next().unwrap_or_default())),
        None => {
            step::say("rust", "cargo-nextest is absent: tests run by cargo test (cargo install cargo-nextest --locked)")
        }
    }
}
