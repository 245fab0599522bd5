//! Containers of the check, and what the manifest says of the one that each stands for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::podman;
use crate::sys;

const WAIT: Duration = Duration::from_secs(60);

/// A container that ends with the check.
pub(super) struct Container(String);

impl Container {
    /// `podman run` with these arguments: a read-only root, no capability, and no way to gain one.
    pub(super) fn start(name: String, arguments: &[String]) -> anyhow::Result<Self> {
        let out = podman()?
            .args(["run", "--detach", "--name", &name, "--read-only", "--cap-drop", "ALL"])
            .args(["--security-opt", "no-new-privileges"])
            .args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"])
            .args(arguments)
            .output()
            .context("start podman")?;
        let container = Self(name);
        ensure!(out.status.success(), "podman run {}: {}", container.0, String::from_utf8_lossy(&out.stderr).trim());
        Ok(container)
    }

    /// `podman exec` in it, by the image's own program.
    pub(super) fn exec(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.ask("exec", arguments)
    }

    fn ask(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = podman()?;
        command.arg(verb);
        // What `inspect` is to show comes before whom; what `exec` is to run comes behind.
        if verb == "exec" {
            command.arg(&self.0).args(arguments)
        } else {
            command.args(arguments).arg(&self.0)
        };
        let out = command.output().context("start podman")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(out.status.success(), "podman {verb} {}: {} {}", self.0, text(&out.stdout), text(&out.stderr));
        Ok(text(&out.stdout))
    }

    fn log(&self) -> String {
        let out = podman().ok().and_then(|mut podman| podman.args(["logs", "--tail", "20", &self.0]).output().ok());
        out.map_or_else(String::new, |out| {
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
        })
    }

    /// Its process has so many capabilities, and no way to more.
    pub(super) fn powers(&self, count: usize) -> anyhow::Result<()> {
        let pid = self.ask("inspect", &["--format", "{{.State.Pid}}"])?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        for set in ["CapEff:", "CapBnd:"] {
            let bits = u64::from_str_radix(&field(set), 16).with_context(|| format!("{set} of process {pid}"))?;
            ensure!(bits.count_ones() as usize == count, "{} has other capabilities: {set} {bits:x}", self.0);
        }
        ensure!(field("NoNewPrivs:") == "1", "{} may gain privileges", self.0);
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(mut podman) = podman() {
            // It may have ended by itself.
            let _ = podman.args(["rm", "--force", "--time", "5", &self.0]).output();
        }
    }
}

/// Asks until it is so; then, or when it took too long, it says what the containers said.
pub(super) fn wait(
    what: &str,
    containers: &[&Container],
    mut ready: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let trouble = match ready() {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(error) => format!("{error:#}\n"),
        };
        if start.elapsed() > WAIT {
            let logs: String = containers.iter().map(|container| container.log()).collect();
            bail!("{what}: not within {} s\n{trouble}{logs}", WAIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One workload of the manifest, in its own words.
pub(super) struct Manifest(String);

impl Manifest {
    /// The object of this kind.
    pub(super) fn of(kind: &str) -> anyhow::Result<Self> {
        let path = sys::root().join("deploy/kubernetes/orrery.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let is = |object: &&str| object.lines().any(|line| line.strip_prefix("kind: ") == Some(kind));
        let object = text.split("\n---\n").find(is).with_context(|| format!("no {kind} in {}", path.display()))?;
        Ok(Self(object.to_owned()))
    }

    /// The capabilities that are added.
    pub(super) fn capabilities(&self) -> anyhow::Result<Vec<String>> {
        let mut lines = self.0.lines().filter_map(|line| line.trim().strip_prefix("add: "));
        lines.next().map_or_else(|| Ok(Vec::new()), |names| serde_json::from_str(names).context("the capabilities"))
    }

    /// Variables of the environment that have a value, but for those whose name begins with one of `without`.
    pub(super) fn environment(&self, without: &[&str]) -> Vec<String> {
        let lines: Vec<&str> = self.0.lines().map(str::trim).collect();
        let pairs = lines.windows(2).filter_map(|pair| {
            let name = pair[0].strip_prefix("- name: ").filter(|name| name.starts_with("ORRERY_"))?;
            let value = pair[1].strip_prefix("value: ")?.trim_matches('"');
            without.iter().all(|prefix| !name.starts_with(prefix)).then(|| format!("{name}={value}"))
        });
        pairs.flat_map(|variable| ["--env".to_owned(), variable]).collect()
    }
}
