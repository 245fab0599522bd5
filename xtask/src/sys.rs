//! The machine as xtask sees it: where the project is, which commands exist, and how to ask one a question.
//! It starts nothing that takes long: that is `step`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

/// The project's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lives in a folder of the project's root")
}

/// Where xtask keeps logs, stamps and unpacked tools: below `target/`, so that `cargo clean` forgets them too.
pub(crate) fn work_dir() -> PathBuf {
    root().join("target/xtask")
}

/// The first `name` on PATH, or in the sbin folders that an ordinary user's PATH leaves out on Debian.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Standard output of a command, trimmed; `None` when it is missing or fails.
pub(crate) fn ask<I, S>(program: impl AsRef<OsStr>, args: I) -> Option<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let out = Command::new(program)
        .args(args)
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// A cargo command in the project's root.
///
/// `cargo run` puts its own library folders into LD_LIBRARY_PATH; they are taken out again, because bpf-linker opens
/// the first libLLVM it finds there. What it says of xtask itself is taken out, too: ring's build script asks to be run again
/// whenever `CARGO_MANIFEST_DIR` changes, so each step from `cargo xtask` to a plain `cargo build` or back would build it and
/// all that speaks TLS anew, the collector included.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).env_remove("LD_LIBRARY_PATH");
    let of_xtask = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_xtask)) {
        command.env_remove(name);
    }
    command
}

/// Whether this process may do everything (effective user 0).
pub(crate) fn is_root() -> bool {
    ask("id", ["-u"]).as_deref() == Some("0")
}

/// A command that runs `program` as root: directly when we are root, through sudo when there is one.
pub(crate) fn as_root(program: &str) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    let mut command = Command::new(which("sudo")?);
    command.arg(program);
    Some(command)
}

/// Set for a copy of this program that another one started: everything is set up and built.
const PREPARED: &str = "ORRERY_PREPARED";

/// Whether the program that started us has set everything up.
pub(crate) fn is_prepared() -> bool {
    std::env::var_os(PREPARED).is_some()
}

/// This program with other arguments, as root; it takes for granted that everything is set up.
pub(crate) fn self_as_root<I, S>(args: I) -> anyhow::Result<Command>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = std::env::current_exe().context("find this program")?;
    let mut command = as_root("env").context("this needs root, and there is no sudo")?;
    // sudo clears the environment, so what matters of it is handed on by hand; an ordinary user's PATH lacks the
    // folders with the tools that only root uses.
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg(format!("PATH={path}:/usr/sbin:/sbin")).arg(format!("{PREPARED}=1")).arg(program).args(args);
    command.current_dir(root());
    Ok(command)
}

/// The folder for things shared by all clones of one user: `${XDG_DATA_HOME:-~/.local/share}/orrery`.
pub(crate) fn data_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(base.join("orrery"))
}

/// The first two numbers of a version such as `v20.20.2`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// 64-bit FNV-1a: enough to notice that a file changed, the same on every run and Rust version.
pub(crate) fn fingerprint(bytes: &[u8], seed: u64) -> u64 {
    bytes
        .iter()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Processor time of a process, user and system.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("read stat of {pid}"))?;
    let ticks = stat_ticks(&stat).with_context(|| format!("understand stat of {pid}"))?;
    // The kernel tells it in hundredths of a second, whatever its own clock (USER_HZ).
    Ok(Duration::from_millis(10 * ticks))
}

/// The name may have spaces and ends with the last parenthesis; utime and stime are the 12th and 13th field behind it.
fn stat_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// A line of `/proc/PID/status`, such as `VmRSS`, in KiB.
pub(crate) fn memory_kib(pid: u32, name: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.with_context(|| format!("find {name} in {path}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{cargo, fingerprint, memory_kib, processor_time, stat_ticks, version};

    #[test]
    fn what_the_kernel_tells_of_a_process_is_understood() {
        assert_eq!(stat_ticks("7 (a) b) S 1 1 1 0 -1 4 5 6 7 8 300 45 0 0 20"), Some(345));
        let own = std::process::id();
        assert!(processor_time(own).is_ok() && memory_kib(own, "VmRSS").is_ok_and(|kib| kib > 100));
        let error = memory_kib(own, "VmR").expect_err("no such line");
        assert!(error.to_string().contains("VmR"), "{error}");
    }

    #[test]
    fn an_inner_cargo_is_not_told_of_the_outer_ones_package() {
        let command = cargo();
        // The test itself runs under a cargo that tells.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(std::env::var_os(name).is_some(), "{name}");
            assert!(command.get_envs().any(|(key, value)| key == OsStr::new(name) && value.is_none()), "{name}");
        }
    }

    #[test]
    fn versions_are_read_from_what_tools_print() {
        assert_eq!(version("v20.20.2"), Some((20, 20)));
        assert_eq!(version("22.1.8"), Some((22, 1)));
        assert_eq!(version("nightly"), None);
    }

    #[test]
    fn a_fingerprint_depends_on_every_byte_and_on_the_seed() {
        assert_ne!(fingerprint(b"ab", 0), fingerprint(b"ba", 0));
        assert_ne!(fingerprint(b"ab", 0), fingerprint(b"ab", 1));
        assert_eq!(fingerprint(b"ab", 7), fingerprint(b"ab", 7));
    }
}
