//! `cargo xtask vm`: Debian's own kernels, old and new, in virtual machines, and the kernel tests inside each.

mod guest;
mod initramfs;
mod kernels;
mod matrix;
mod packages;
mod qemu;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub(crate) use self::guest::run as guest;
use self::guest::{HELD, HOOK, Plan, Round};
use self::initramfs::Archive;
use self::kernels::Kernel;
use self::matrix::Matrix;
pub(crate) use self::matrix::complaint as matrix_complaint;
use self::qemu::{Outcome, Qemu};
use crate::setup::{self, Purpose};
use crate::sys;

/// Machines at a time: two cores carry two.
const AT_ONCE: usize = 2;
/// The part of their traffic that tests send where the processor is emulated.
const EMULATED_SHARE: &str = "5";
/// Longest time for one machine.
const MACHINE_LIMIT: Duration = Duration::from_secs(1_200);
/// Longest time for one test, in seconds. Without KVM a machine is some ten times slower than its host.
const TEST_SECONDS: u64 = 240;
/// Tests that hold a time or a rate against the clock: without KVM they would tell of the emulator only.
const WITHOUT: &[&str] = &["sabotaged_objects", "an_idle_node_settles"];
/// Programs that tests call, as `cargo xtask setup` installs them.
const TOOLS: &[&str] = &[
    "ip", "tc", "bridge", "nft", "ethtool", "sysctl", "setpriv", "mount", "umount", "unshare", "nsenter", "kill",
    "sleep", "sh",
];
/// Files that those programs read.
const FILES: &[&str] = &["/etc/protocols", "/etc/services", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"];
/// What `cargo xtask test` runs in each machine, lest it take longer than all the rest: which hooks there are, exactness by
/// every tier, and DNS on its edges.
const IN_TESTS: [&str; 3] = ["each_form", "every_edge_by_every_tier", "every_query_answer"];
/// What runs in each machine otherwise: beside these, the tunnels' kinds.
const PLAIN: [&str; 4] = [IN_TESTS[0], IN_TESTS[1], IN_TESTS[2], "every_kind_of_tunnel"];
/// And these in each of the forms that the machine which wrote this refuses.
const FACTS: [&str; 2] = ["failures_are_on_their_edges", "drops_and_retransmits"];
const FORMS: [&str; 2] = ["kprobe", "fentry"];
/// The kinds of devices that all of Debian's kernels have as modules.
const KINDS: &str = "vxlan,geneve,ipip,gre,wireguard,vlan";
/// The test binaries: what the agent does, and which hooks there are.
const BINARIES: [&str; 2] = ["kernel", HOOKS];
/// The one that tries every form of hook.
const HOOKS: &str = "kernel_hooks";
/// Programs of ours that tests start.
const PROGRAMS: &[&str] = &["orrery-agent", "orrery-lab"];
/// Modules that the lab's networks and the device kinds beside them need; what a kernel has built in, or not at all, is
/// left out.
const MODULES: &[&str] = &[
    "veth",
    "bridge",
    "vxlan",
    "tun",
    "dummy",
    "macvlan",
    "ipvlan",
    "8021q",
    "geneve",
    "wireguard",
    "ipip",
    "sit",
    "ip_gre",
    "ip6_gre",
    "ip6_tunnel",
    "fou",
    "sctp",
    "nf_tables",
    "nft_numgen",
    "nft_counter",
    "nft_objref",
    "nft_ct",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_reject_inet",
    "nft_limit",
    "nft_log",
    "nf_conntrack",
    "sch_ingress",
    "sch_netem",
    "sch_tbf",
    "sch_htb",
    "sch_fq_codel",
    "sch_prio",
    "cls_bpf",
    "cls_u32",
    "cls_flower",
    "cls_matchall",
    "act_bpf",
    "act_gact",
    "act_mirred",
    "tcp_diag",
    "udp_diag",
    "inet_diag",
];

/// Options of `cargo xtask vm`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Kernel series: 5.10, 6.1, 6.12, 6.18, 7 (the newest 7.x); two of them when none is named
    series: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Only tests whose name contains this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Write the table of hooks by kernel into docs/kernel.md
    #[arg(long)]
    keep: bool,
    /// Look for newer kernels than those that are unpacked
    #[arg(long)]
    fresh: bool,
}

impl Args {
    /// A few tests on two kernels, for `cargo xtask test`.
    pub(crate) fn in_tests() -> Self {
        Self { only: IN_TESTS.map(str::to_owned).to_vec(), ..Self::default() }
    }
}

/// What one kernel did.
struct Row {
    kernel: Kernel,
    outcome: anyhow::Result<Outcome>,
}

/// Boots the kernels and runs the tests; an error when one of them failed. Gives the number of tests that passed.
pub(crate) fn run(args: &Args) -> anyhow::Result<u32> {
    setup::prepare(Purpose::Test)?;
    let names: &[&str] = if args.all { &kernels::SERIES } else { &kernels::DEFAULT };
    let series =
        if args.series.is_empty() { names.iter().map(ToString::to_string).collect() } else { args.series.clone() };
    let qemu = Qemu::ensure()?;
    let kernels = kernels::ensure(&series, args.fresh)?;
    let started = Instant::now();
    let binaries = test_binaries()?;
    let base = base(&binaries, &args.only, &qemu)?;
    println!("{} kernels, {AT_ONCE} at a time, {}", kernels.len(), qemu.accelerator());

    let waiting = Mutex::new(kernels);
    let rows = Mutex::new(Vec::new());
    let next = || {
        let mut waiting = waiting.lock().expect("nobody panics with it");
        if waiting.is_empty() { None } else { Some(waiting.remove(0)) }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(kernel) = next() {
                    let outcome = boot(&qemu, &kernel, &base);
                    let row = Row { kernel, outcome };
                    show(&row);
                    rows.lock().expect("nobody panics with it").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("nobody panicked with it");
    rows.sort_by_key(|row| series.iter().position(|series| *series == row.kernel.series));
    println!("\nall kernels: {:.0} s", started.elapsed().as_secs_f64());
    let verdict = verdict(&rows);
    tables(args, &binaries, &rows)?;
    verdict
}

/// Prints which kernel grants which form of hook, where the machines were asked, and what the tests held; keeps both where
/// that is wanted.
fn tables(args: &Args, binaries: &[PathBuf], rows: &[Row]) -> anyhow::Result<()> {
    let said = |row: &Row| row.outcome.as_ref().map_or(String::new(), |outcome| outcome.said.clone());
    let mut matrices = Vec::new();
    if args.only.is_empty() || rows.iter().all(|row| said(row).contains(HOOK)) {
        let mut hooks = Matrix::of_hooks();
        let test = binaries.iter().find(|path| path.to_string_lossy().contains(HOOKS)).context("find the hook test")?;
        let release = sys::ask("uname", ["-r"]).unwrap_or_default();
        hooks.add(&format!("here ({release})"), &matrix::native(test)?);
        matrices.push(hooks);
    }
    if args.only.is_empty() || rows.iter().all(|row| said(row).contains(HELD)) {
        matrices.push(Matrix::of_tests());
    }
    for matrix in &mut matrices {
        for row in rows {
            matrix.add(row.kernel.release.trim_end_matches(kernels::FLAVOUR), &said(row));
        }
        println!("\n{}", matrix.table());
    }
    if matrices.iter().any(Matrix::has_blanks) {
        bail!("a table of kernels has blank cells");
    }
    if args.keep { matrices.iter().try_for_each(Matrix::keep) } else { Ok(()) }
}

/// The rounds of tests: those whose names are given, else all of the matrix.
fn rounds(only: &[String]) -> Vec<Round> {
    if !only.is_empty() {
        return vec![Round { only: only.to_vec(), ..Round::default() }];
    }
    let round = |tests: &[&str], environment: &[(&str, &str)]| Round {
        only: tests.iter().map(ToString::to_string).collect(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let facts = FORMS.iter().map(|form| round(&FACTS, &[("ORRERY_TEST_HOOK_FORM", *form)]));
    std::iter::once(round(&PLAIN, &[("ORRERY_TEST_KINDS", KINDS)])).chain(facts).collect()
}

/// The part of the file system that all kernels share.
fn base(binaries: &[PathBuf], only: &[String], qemu: &Qemu) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::new();
    let program = std::env::current_exe().context("find this program")?;
    let target = program.parent().context("this program lies in a folder")?;
    // Not by its name: what builds the tests may have put a newer one there.
    let me = target.join("xtask-guest");
    std::fs::copy("/proc/self/exe", &me).with_context(|| format!("copy this program to {}", me.display()))?;
    archive.program(&me)?;
    // The first process is this program, at a place that the kernel is told.
    archive.link(guest::PROGRAM, &me);
    for tool in TOOLS {
        let path = sys::which(tool).with_context(|| format!("find {tool}\nhint: cargo xtask setup installs it"))?;
        archive.program(&path)?;
    }
    for file in FILES.iter().map(Path::new).filter(|file| file.is_file()) {
        archive.copy(file)?;
    }
    for program in PROGRAMS.iter().map(|name| target.join(name)).chain(binaries.iter().cloned()) {
        archive.program(&program)?;
    }
    for object in ebpf_objects(target) {
        archive.copy(&object)?;
    }
    let mut environment = vec![
        ("ORRERY_REQUIRE_ROOT".to_owned(), "1".to_owned()),
        ("ORRERY_BIN_DIR".to_owned(), target.display().to_string()),
        ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
    ];
    if qemu.emulates() {
        environment.push(("ORRERY_TEST_SHARE".to_owned(), EMULATED_SHARE.to_owned()));
    }
    let plan = Plan {
        binaries: binaries.to_vec(),
        rounds: rounds(only),
        without: WITHOUT.iter().map(ToString::to_string).collect(),
        environment,
        test_seconds: TEST_SECONDS,
    };
    archive.write(guest::PLAN, &serde_json::to_vec(&plan).context("write the plan")?, 0o644);
    Ok(archive.finish())
}

/// The test binaries of the kernel tier that need nothing but a kernel.
fn test_binaries() -> anyhow::Result<Vec<PathBuf>> {
    let out = sys::cargo()
        .args(["test", "--no-run", "--locked", "--workspace", "--message-format", "json"])
        .args(BINARIES.iter().flat_map(|name| ["--test", name]))
        .output()
        .context("run cargo test --no-run")?;
    if !out.status.success() {
        bail!("cargo test --no-run failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    let found: Vec<PathBuf> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect();
    if found.len() != BINARIES.len() {
        bail!("cargo built {} test binaries in place of {}", found.len(), BINARIES.join(" "));
    }
    Ok(found)
}

/// The objects that tests load from the place where they were built.
fn ebpf_objects(target: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let builds = std::fs::read_dir(target.join("build")).into_iter().flatten().flatten();
    for build in builds.filter(|entry| entry.file_name().to_string_lossy().starts_with("orrery-agent-")) {
        for entry in std::fs::read_dir(build.path().join("out")).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn boot(qemu: &Qemu, kernel: &Kernel, base: &[u8]) -> anyhow::Result<Outcome> {
    let mut modules = Archive::new();
    modules.modules(&kernel.modules, MODULES)?;
    let path = packages::folder().join(format!("{}.cpio", kernel.series));
    // The kernel takes archives one after the other.
    std::fs::write(&path, [base, &modules.finish()].concat()).with_context(|| format!("write {}", path.display()))?;
    let outcome = qemu.run(kernel, &path, MACHINE_LIMIT);
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    outcome
}

/// What one machine said, at once when it is off.
fn show(row: &Row) {
    println!("\n── {} ({})", row.kernel.release, row.kernel.series);
    match &row.outcome {
        Err(error) => println!("error: {error:#}"),
        Ok(outcome) => {
            for line in outcome.said.lines().filter(|line| !line.starts_with(HOOK) && !line.starts_with(HELD)) {
                println!("{line}");
            }
            if outcome.verdict.is_err() {
                let lines: Vec<&str> = outcome.console.lines().collect();
                for line in &lines[lines.len().saturating_sub(25)..] {
                    println!("    console | {line}");
                }
            }
            println!("took {:.0} s", outcome.took.as_secs_f64());
        }
    }
}

fn verdict(rows: &[Row]) -> anyhow::Result<u32> {
    let (mut passed, mut failed) = (0, Vec::new());
    for row in rows {
        let (word, tests) = match &row.outcome {
            Ok(outcome) => {
                let tests =
                    outcome.said.lines().filter(|line| line.starts_with("test ") && line.contains(" ok ")).count();
                (outcome.verdict.clone().err(), tests)
            }
            Err(error) => (Some(format!("{error:#}")), 0),
        };
        passed += u32::try_from(tests).unwrap_or(u32::MAX);
        let took = row.outcome.as_ref().map_or(0.0, |outcome| outcome.took.as_secs_f64());
        println!("{:<28} {tests:>3} passed {took:>4.0} s  {}", row.kernel.release, word.as_deref().unwrap_or("ok"));
        failed.extend(word.map(|_| row.kernel.series.clone()));
    }
    if !failed.is_empty() {
        bail!("failed on kernels: {}", failed.join(" "));
    }
    Ok(passed)
}
