//! The Rust tests: which test binaries belong to which tier, and the runner that is there.
//!
//! All runs name `--workspace` and pick test binaries, never packages: with another set of packages cargo would unify
//! features anew and build dependencies a second time.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::count::Counts;
use super::watch;
use crate::sys;

/// Set for tests that need root: without it they may skip themselves, with it a skip is a failure.
const REQUIRE_ROOT: &str = "ORRERY_REQUIRE_ROOT";

/// Names of the test binaries (files in `tests/`), by what they need.
#[derive(Debug, Default, PartialEq, Eq)]
struct Binaries {
    plain: Vec<String>,
    kernel: Vec<String>,
}

/// Everything that needs nothing.
pub(super) fn unit() -> anyhow::Result<Counts> {
    let binaries = binaries()?;
    let mut command = runner();
    command.args(["--workspace", "--lib", "--bins"]);
    select(&mut command, &binaries.plain);
    let counts = watch("rust", &mut command)?;
    if counts.total() == 0 {
        bail!("no test ran");
    }
    Ok(counts)
}

/// Everything that needs the kernel's own part: root, namespaces, BPF. One at a time, because tests that measure exactly
/// want the machine for themselves.
pub(super) fn kernel() -> anyhow::Result<Counts> {
    let binaries = binaries()?;
    if binaries.kernel.is_empty() {
        bail!("no kernel tests found in agent/tests and xtask/lab/tests");
    }
    let mut command = runner();
    command.arg("--workspace");
    select(&mut command, &binaries.kernel);
    if nextest() {
        command.args(["--test-threads", "1"]);
    } else {
        command.args(["--", "--test-threads", "1"]);
    }
    command.env(REQUIRE_ROOT, "1");
    if !sys::is_root() {
        if sys::which("sudo").is_none() {
            bail!("kernel tests need root, and there is no sudo");
        }
        // Only the tests run as root; what is built stays the user's.
        command.env(runner_variable()?, "sudo -E");
    }
    let counts = watch("kernel", &mut command)?;
    if counts.total() == 0 {
        bail!("no test ran");
    }
    Ok(counts)
}

fn nextest() -> bool {
    sys::which("cargo-nextest").is_some()
}

/// cargo-nextest where it is there, else cargo's own; both take the same selection.
fn runner() -> Command {
    let mut command = sys::cargo();
    if nextest() {
        // One failure does not hide the next.
        command.args(["nextest", "run", "--no-fail-fast", "--locked"]);
    } else {
        command.args(["test", "--no-fail-fast", "--locked"]);
    }
    command
}

fn select(command: &mut Command, binaries: &[String]) {
    for binary in binaries {
        command.args(["--test", binary]);
    }
}

/// The variable by which cargo starts this machine's programs through another one.
fn runner_variable() -> anyhow::Result<String> {
    let verbose = sys::ask("rustc", ["-vV"]).context("run rustc")?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}

fn binaries() -> anyhow::Result<Binaries> {
    let out = sys::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("run cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    let metadata = serde_json::from_slice(&out.stdout).context("read cargo metadata")?;
    Ok(sort(&metadata))
}

/// Sorts the workspace's test binaries: the lab's, and those called `kernel…`, need the kernel.
fn sort(metadata: &serde_json::Value) -> Binaries {
    let mut sorted = Binaries::default();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            if !list(&target["kind"]).iter().any(|kind| kind == "test") {
                continue;
            }
            let name = target["name"].as_str().unwrap_or_default().to_owned();
            if package["name"] == "lab" || name.starts_with("kernel") {
                sorted.kernel.push(name);
            } else {
                sorted.plain.push(name);
            }
        }
    }
    for names in [&mut sorted.plain, &mut sorted.kernel] {
        names.sort();
        names.dedup();
    }
    sorted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Binaries, sort};

    #[test]
    fn binaries_are_sorted_by_what_they_need() {
        let test = |name: &str| json!({"name": name, "kind": ["test"]});
        let metadata = json!({"packages": [
            {"name": "lab", "targets": [{"name": "lab", "kind": ["lib"]}, test("exact")]},
            {"name": "orrery-agent", "targets": [test("kernel"), test("replay")]},
            {"name": "wire", "targets": [test("golden")]},
        ]});
        let expect = Binaries {
            plain: vec!["golden".to_owned(), "replay".to_owned()],
            kernel: vec!["exact".to_owned(), "kernel".to_owned()],
        };
        assert_eq!(sort(&metadata), expect);
    }
}
