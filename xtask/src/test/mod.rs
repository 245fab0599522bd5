//! `cargo xtask test`: every tier in order, least powerful first, and at the end what ran, what failed and what did
//! not run and why. A tier that fails does not stop the later ones: one run tells everything.

mod count;
mod rust;

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub(crate) use self::count::Counts;
use crate::setup::{self, Purpose};
use crate::{e2e, sys, tidy, vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run one tier only
    #[arg(long, value_enum)]
    tier: Option<Tier>,
}

/// What runs as one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tier {
    /// rustfmt, without changing anything
    Fmt,
    /// clippy over everything, warnings refused
    Clippy,
    /// The project's own rules
    Tidy,
    /// Licences and sources of dependencies
    Deny,
    /// Unit, law, golden, contract and integration tests in Rust
    Rust,
    /// The page's linter, types and unit tests
    Ui,
    /// Real packets through the kernel side, in the lab
    Kernel,
    /// The kernel tests on two other kernels, in virtual machines
    Vm,
    /// The page in a real browser, on the lab
    E2e,
}

/// All tiers, in the order in which they run.
const TIERS: [Tier; 9] =
    [Tier::Fmt, Tier::Clippy, Tier::Tidy, Tier::Deny, Tier::Rust, Tier::Ui, Tier::Kernel, Tier::Vm, Tier::E2e];

/// How a tier ended.
enum End {
    Passed,
    Failed(String),
    Skipped(String),
}

/// A runner that failed, and what it ran all the same.
#[derive(Debug)]
struct Red {
    counts: Counts,
    why: String,
}

impl std::fmt::Display for Red {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Red {}

/// One line of the closing table.
struct Row {
    name: &'static str,
    counts: Counts,
    end: End,
    took: Duration,
}

/// Sets up and runs the tiers; an error when one of them failed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // Looking at sources needs no programs.
    if args.tier.is_none_or(|only| matches!(only, Tier::Rust | Tier::Kernel | Tier::Vm | Tier::E2e)) {
        setup::prepare(Purpose::Test)?;
    } else {
        setup::run(Purpose::Test, &setup::Args::default())?;
    }
    let mut rows = Vec::new();
    for tier in TIERS {
        if args.tier.is_none_or(|only| only == tier) {
            heading(tier);
            let started = Instant::now();
            let (counts, end) = run_tier(tier);
            if let End::Failed(why) | End::Skipped(why) = &end {
                println!("{}: {why}", name(tier));
            }
            rows.push(Row { name: name(tier), counts, end, took: started.elapsed() });
        }
    }
    report(&rows)
}

fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Fmt => "fmt",
        Tier::Clippy => "clippy",
        Tier::Tidy => "tidy",
        Tier::Deny => "deny",
        Tier::Rust => "rust",
        Tier::Ui => "ui",
        Tier::Kernel => "kernel",
        Tier::Vm => "vm",
        Tier::E2e => "e2e",
    }
}

fn heading(tier: Tier) {
    println!("\n── {} {}", name(tier), "─".repeat(60));
}

fn run_tier(tier: Tier) -> (Counts, End) {
    let result = match tier {
        Tier::Fmt => watch("fmt", sys::cargo().args(["fmt", "--all", "--check"])),
        // Clippy has build folders of its own, so the kernel side would be built a second time, to be looked at by nobody.
        Tier::Clippy => watch(
            "clippy",
            sys::cargo()
                .args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
                .env("AYA_BUILD_SKIP", "1"),
        ),
        Tier::Tidy => tidy::run().map(|rules| Counts::of("rules", rules)),
        Tier::Deny if sys::which("cargo-deny").is_none() => {
            let why = "cargo-deny is not installed (cargo install cargo-deny --locked)";
            return (Counts::default(), End::Skipped(why.to_owned()));
        }
        Tier::Deny => watch("deny", sys::cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"])),
        Tier::Rust => rust::unit(),
        Tier::Ui => page(),
        Tier::Kernel => rust::kernel(),
        Tier::Vm => vm::run(&vm::Args::in_tests()).map(|passed| Counts::of("vm", passed)),
        Tier::E2e if !sys::is_root() => {
            sys::self_as_root(["test", "--tier", "e2e"]).and_then(|mut command| watch("e2e", &mut command))
        }
        Tier::E2e => e2e::run(),
    };
    match result {
        Ok(counts) => (counts, End::Passed),
        Err(error) => {
            let why = End::Failed(format!("{error:#}"));
            (error.downcast::<Red>().map(|red| red.counts).unwrap_or_default(), why)
        }
    }
}

/// The page's linter and types, and its tests whatever these say.
fn page() -> anyhow::Result<Counts> {
    let lint = watch("lint", setup::npm().args(["run", "lint"]));
    let counts = watch("ui", setup::npm().arg("test"))?;
    match lint {
        Ok(_) => Ok(counts),
        Err(error) => Err(Red { counts, why: format!("lint: {error:#}") }.into()),
    }
}

/// Runs a command with its output on the screen, and counts the tests that it says it ran.
pub(crate) fn watch(kind: &'static str, command: &mut Command) -> anyhow::Result<Counts> {
    let program = command.get_program().to_string_lossy().into_owned();
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always").env("FORCE_COLOR", "1");
    }
    // One pipe for both streams: cargo test names the binary on one and its tests on the other, and their order tells
    // which belongs to which.
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("share a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    // The command holds the pipe's other end, and the reader waits until nobody does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let lines = copy(reader);
    let status = child.wait().with_context(|| format!("wait for {program}"))?;
    let counts = count::read(kind, &lines);
    if status.success() {
        return Ok(counts);
    }
    Err(Red { counts, why: format!("{program} ended with {status}") }.into())
}

/// Copies a stream to the screen line by line, and keeps the lines.
fn copy(from: impl Read) -> Vec<String> {
    let mut lines = Vec::new();
    let mut screen = std::io::stdout();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // A screen that is gone does not make the tests fail.
        let _ = writeln!(screen, "{line}");
        lines.push(count::plain(&line));
    }
    lines
}

/// The closing table, and the verdict.
fn report(rows: &[Row]) -> anyhow::Result<()> {
    println!("\n── summary {}", "─".repeat(57));
    let mut failed = Vec::new();
    for row in rows {
        let word = match &row.end {
            End::Passed => "ok".to_owned(),
            End::Failed(_) => {
                failed.push(row.name);
                "FAILED".to_owned()
            }
            End::Skipped(why) => format!("skipped: {why}"),
        };
        println!("{:<8} {:>4} s  {word:<8} {}", row.name, row.took.as_secs(), row.counts);
    }
    for test in tidy::ignored_tests()? {
        println!("left out: {test}");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(" "));
    }
    Ok(())
}
