//! `cargo xtask fuzz`: libFuzzer on everything that takes bytes from strangers. It works on stable Rust: only our own crates
//! are instrumented (`fuzz/rustc.sh`), and dependencies are those that are built already.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{setup, sys};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Seconds for each target
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// These targets only; each is a folder of fuzz/corpus
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Keep the inputs that reached something new in fuzz/corpus, as few as will do
    #[arg(long)]
    keep: bool,
}

/// An input that takes longer is as bad as one that crashes.
const SECONDS_AN_INPUT: u32 = 10;
/// So is one that takes more memory: a report may unpack to 32 MiB, and a small multiple of it.
const MEMORY_MIB: u32 = 1_024;
/// Longer inputs are not kept, in bytes.
const MAX_KEPT: usize = 1_024;

/// Builds the fuzzer and runs the targets, one after the other.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let corpora = sys::root().join("fuzz/corpus");
    let wanted = targets(&corpora, &args.targets)?;
    setup::fuzzer()?;
    let mut build = sys::cargo();
    // With the whole workspace features are unified as in tests: of dependencies only the engine is built anew.
    build.args(["build", "--locked", "--workspace", "--bin", "fuzz", "--features", "fuzz/libfuzzer"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", sys::root().join("fuzz/rustc.sh")).env("AYA_BUILD_SKIP", "1");
    let status = build.status().context("start cargo")?;
    if !status.success() {
        bail!("the fuzzer was not built ({status}); hint: it needs a C++ compiler beside Rust");
    }
    let program = sys::root().join("target").join("debug/fuzz");
    let mut red = Vec::new();
    for name in &wanted {
        let grown = sys::work_dir().join("fuzz").join(name);
        std::fs::create_dir_all(&grown).with_context(|| format!("create {}", grown.display()))?;
        let kept = corpora.join(name);
        let mut command = Command::new(&program);
        command.env("ORRERY_FUZZ", name);
        command.arg(format!("-timeout={SECONDS_AN_INPUT}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command.arg(format!("-artifact_prefix={}-", grown.display()));
        let mut merge = Command::new(&program);
        // By code that is reached, not by how often: every kept input is a test, with its changes.
        merge.env("ORRERY_FUZZ", name).args(["-set_cover_merge=1", "-use_counters=0"]);
        merge.arg(format!("-max_len={MAX_KEPT}")).arg(&kept).arg(&grown);
        command.arg(format!("-max_total_time={}", args.seconds)).arg("-print_final_stats=1").arg(&grown).arg(&kept);
        println!("\n── fuzz {name}: {} s", args.seconds);
        if !command.status().with_context(|| format!("start {}", program.display()))?.success() {
            red.push(name.as_str());
        } else if args.keep && !merge.status().context("merge")?.success() {
            bail!("merge of {name} failed");
        }
    }
    if !red.is_empty() {
        bail!(
            "broken: {}\nhint: the inputs are beside {}; one that stays in fuzz/corpus/TARGET is a test for ever",
            red.join(" "),
            sys::work_dir().join("fuzz").display()
        );
    }
    Ok(())
}

fn targets(corpora: &PathBuf, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(corpora).with_context(|| format!("read {}", corpora.display()))? {
        all.push(entry?.file_name().to_string_lossy().into_owned());
    }
    all.sort();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no such target: {unknown}; hint: {}", all.join(" "));
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}
