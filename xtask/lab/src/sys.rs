//! The few system calls the lab is made of: entering a network namespace, running a tool, knowing a process again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::error::{Context, LabError, Result};

/// Fails with a hint unless we are root.
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

/// A named network namespace that exists.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Opens a namespace that `ip netns add` made.
    pub fn open(name: &str) -> Result<Self> {
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).context(|| format!("open {}", path.display()))?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The open namespace file, for a child that is to live in it.
    pub(crate) fn file(&self) -> Result<File> {
        self.file.try_clone().context(|| format!("duplicate the handle of {}", self.name))
    }

    /// Runs `work` inside the namespace, on a thread of its own: the caller stays where it is.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).context(|| format!("enter {}", self.name))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes sysctls of this namespace (`/proc/sys/net` shows the reader's own).
    pub(crate) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/net/{name}");
                std::fs::write(&path, value).context(|| format!("write {value} to {path}"))?;
            }
            Ok(())
        })?
    }
}

/// Runs a tool to its end, with `input` on its stdin, and gives what it printed.
pub(crate) fn tool(command: &mut Command, input: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("start {name}; hint: cargo xtask setup installs it"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails early closes its end; its exit code tells, not this write.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().context(|| format!("wait for {name}"))?;
    if !output.status.success() {
        return Err(LabError::Tool { tool: name, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `ip -batch` in a namespace (or where we are).
pub(crate) fn ip_batch(netns: Option<&str>, lines: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    if let Some(netns) = netns {
        ip.args(["-n", netns]);
    }
    tool(ip.args(["-batch", "-"]), lines).map(drop)
}

/// `nft -f` in a namespace.
pub(crate) fn nft(netns: &str, script: &str) -> Result<()> {
    tool(Command::new("ip").args(["netns", "exec", netns, "nft", "-f", "-"]), script).map(drop)
}

/// State letter and start time of a process: together with the pid they name it for ever.
pub(crate) fn process(pid: u32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything, brackets too.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Asks every 10 ms until `ready` gives something, and at most `bound` long.
pub fn wait_for<T>(what: &str, bound: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if start.elapsed() > bound {
            return Err(LabError::Timeout { after: bound, what: what.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where one of our binaries is: `ORRERY_BIN_DIR`, else beside the running one (tests run from `deps/` below it).
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("ORRERY_BIN_DIR") {
        let path = PathBuf::from(dir).join(name);
        return if path.is_file() { Ok(path) } else { Err(LabError::NoBinary { path }) };
    }
    let exe = std::env::current_exe().context(|| "find the running binary".to_owned())?;
    exe.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| LabError::NoBinary { path: exe.with_file_name(name) })
}

/// An object that is built beside the agent's own: wrong on purpose, or for measuring. Builds for development have them,
/// whichever agent is used; the newest counts.
///
/// # Errors
/// When there is none.
pub fn ebpf_object(name: &str) -> Result<PathBuf> {
    let agent = binary("orrery-agent")?;
    let builds = agent.with_file_name("../debug/build");
    let entries = std::fs::read_dir(&builds).context(|| format!("read {}", builds.display()))?;
    let objects = entries.flatten().map(|entry| entry.path().join("out").join(name));
    let newest =
        objects.filter(|path| path.is_file()).max_by_key(|path| path.metadata().and_then(|of| of.modified()).ok());
    newest.ok_or_else(|| LabError::NoBinary { path: builds.join(name) })
}

#[cfg(test)]
mod tests {
    use super::process;

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let (state, start) = process(std::process::id()).expect("we exist");
        assert!("RSD".contains(state));
        assert!(start > 0);
        assert_eq!(process(0), None);
    }
}
