//! The first process inside a virtual machine: mounts, loads modules, runs every test with a time limit, and writes what
//! came of it to the second serial line. The machine is its own, so nothing of it has to be undone.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use serde::{Deserialize, Serialize};

use super::initramfs::MODULES;

/// Where this program lies inside.
pub(super) const PROGRAM: &str = "/init";
/// What tells it that it is the first process of a machine.
pub(super) const ARGUMENT: &str = "vm-guest";
/// Where the plan lies inside.
pub(super) const PLAN: &str = "plan.json";
/// How the line with the verdict begins.
pub(super) const RESULT: &str = "result ";
/// The verdict when all is well.
pub(super) const PASSED: &str = "passed";
/// How a line about a hook begins; such lines of a test's output are handed on.
pub(super) const HOOK: &str = "hook\t";
/// How a line about something that a test held on this kernel begins; handed on as well.
pub(super) const HELD: &str = "held\t";

/// The second serial line.
const LINE: &str = "/dev/ttyS1";
/// How much of a failed test's output is shown.
const TAIL: usize = 40;

/// What there is to do inside.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Test binaries.
    pub(super) binaries: Vec<PathBuf>,
    /// What runs, one after the other.
    pub(super) rounds: Vec<Round>,
    /// Tests whose name contains one of these are left out.
    pub(super) without: Vec<String>,
    /// Variables for all tests.
    pub(super) environment: Vec<(String, String)>,
    /// Longest time for one test.
    pub(super) test_seconds: u64,
}

/// Tests that run with the same variables.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Round {
    /// Only tests whose name contains one of these; all when empty.
    pub(super) only: Vec<String>,
    /// Variables beside those of all tests.
    pub(super) environment: Vec<(String, String)>,
}

/// Does all of it, says what came of it, and switches the machine off.
pub(crate) fn run() -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("this is for the first process of a virtual machine; hint: cargo xtask vm");
    }
    let verdict = inside();
    let text = match &verdict {
        Ok(0) => PASSED.to_owned(),
        Ok(failed) => format!("{failed} tests failed"),
        Err(error) => format!("{error:#}").replace('\n', " "),
    };
    say(&format!("{RESULT}{text}"));
    // QEMU is told to end where the machine would start again.
    reboot(RebootMode::RB_AUTOBOOT).context("switch the machine off")?;
    Ok(())
}

fn say(line: &str) {
    let written = File::options().write(true).open(LINE).and_then(|mut serial| {
        serial.write_all(line.as_bytes())?;
        serial.write_all(b"\n")?;
        // The machine may be switched off right after this.
        nix::sys::termios::tcdrain(&serial).map_err(std::io::Error::from)
    });
    if let Err(error) = written {
        eprintln!("{line}\n{LINE}: {error}");
    }
}

/// How many tests failed.
fn inside() -> anyhow::Result<usize> {
    mounts()?;
    let plan = std::fs::read(Path::new("/").join(PLAN)).context("read the plan")?;
    let plan: Plan = serde_json::from_slice(&plan).context("understand the plan")?;
    modules()?;
    let (mut passed, mut failed) = (0, 0);
    for round in &plan.rounds {
        for (binary, test) in tests(&plan, round)? {
            if run_test(binary, &test, &plan, round)? {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    say(&format!("tests {passed} passed {failed} failed"));
    if passed + failed == 0 {
        bail!("no test ran");
    }
    Ok(failed)
}

/// The root lies in memory already.
fn mounts() -> anyhow::Result<()> {
    let places = [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("bpf", "/sys/fs/bpf", "bpf"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
        ("debugfs", "/sys/kernel/debug", "debugfs"),
        ("tracefs", "/sys/kernel/tracing", "tracefs"),
    ];
    for (source, target, kind) in places {
        mount(Some(source), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {kind} on {target}"))?;
    }
    Ok(())
}

/// Loads the modules in the order of their numbers.
fn modules() -> anyhow::Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new("/").join(MODULES))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        let module = File::open(&file).with_context(|| format!("open {}", file.display()))?;
        match finit_module(&module, &CString::default(), ModuleInitFlags::empty()) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            // What needs it says so; one that wants hardware that is not there is none of ours.
            Err(error) => say(&format!("module {}: {error}", file.display())),
        }
    }
    Ok(())
}

fn command(program: &Path, plan: &Plan, round: &Round) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin").env("HOME", "/root");
    command.envs(plan.environment.iter().chain(&round.environment).cloned());
    command.stdin(Stdio::null()).current_dir("/root");
    command
}

/// The tests of a round, with their binaries.
fn tests<'a>(plan: &'a Plan, round: &Round) -> anyhow::Result<Vec<(&'a Path, String)>> {
    let wanted = |name: &str| {
        (round.only.is_empty() || round.only.iter().any(|part| name.contains(part)))
            && !plan.without.iter().any(|part| name.contains(part))
    };
    let mut found = Vec::new();
    for binary in &plan.binaries {
        let out = command(binary, plan, round)
            .args(["--list", "--format", "terse"])
            .output()
            .with_context(|| format!("start {}", binary.display()))?;
        if !out.status.success() {
            bail!("{} lists no tests: {}", binary.display(), String::from_utf8_lossy(&out.stderr).trim());
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test")).filter(|name| wanted(name));
        found.extend(names.map(|name| (binary.as_path(), name.to_owned())));
    }
    Ok(found)
}

/// Runs one test by its name; says whether it passed.
fn run_test(binary: &Path, test: &str, plan: &Plan, round: &Round) -> anyhow::Result<bool> {
    let path = Path::new("/tmp/output");
    let output = File::create(path).context("make a file for the output")?;
    let started = Instant::now();
    let mut child = command(binary, plan, round)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .stdout(output.try_clone().context("share the output file")?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("start {}", binary.display()))?;
    let limit = Duration::from_secs(plan.test_seconds);
    let status = loop {
        if let Some(status) = child.try_wait().context("wait for a test")? {
            break Some(status);
        }
        if started.elapsed() > limit {
            child.kill().context("end a test")?;
            child.wait().context("wait for a test")?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    // The test harness writes a test's name without ending the line, so the first of them may stand behind it.
    for line in text.lines() {
        if let Some(at) = [HOOK, HELD].iter().find_map(|mark| line.find(mark)) {
            say(&line[at..]);
        }
    }
    let passed = status.is_some_and(|status| status.success());
    let word = if passed { "ok" } else { "FAILED" };
    let why = if status.is_none() { ", ended: it took too long" } else { "" };
    let with: String = round.environment.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    say(&format!("test {test} {word} {took:.1} s{why}{with}"));
    if !passed {
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            say(&format!("    | {line}"));
        }
    }
    Ok(passed)
}
