//! Debian's packages for the virtual machines: kernels of several releases and QEMU, downloaded with apt options of our
//! own and unpacked below `target/`. Nothing is installed, and the machine's package sources stay as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{step, sys};

/// Debian's own mirrors: what the machine's sources name may lack the older and newer releases.
const SOURCES: &[(&str, &str)] = &[
    ("http://deb.debian.org/debian-security", "bullseye-security"),
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
    ("http://deb.debian.org/debian", "trixie"),
    ("http://deb.debian.org/debian-security", "trixie-security"),
    ("http://deb.debian.org/debian", "trixie-backports"),
];
/// Debian's keys, as its own package brings them.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where everything of the virtual machines is kept.
pub(super) fn folder() -> PathBuf {
    sys::root().join("target/vm")
}

/// An apt with lists, cache and sources of its own.
pub(super) struct PrivateApt {
    options: Vec<String>,
}

impl PrivateApt {
    /// Makes its folders, and brings its lists up to date.
    pub(super) fn open() -> anyhow::Result<Self> {
        let home = folder().join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = home.join(part);
            std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let sources = home.join("sources.list");
        let lines: String =
            SOURCES.iter().map(|(at, suite)| format!("deb [signed-by={KEYS}] {at} {suite} main\n")).collect();
        std::fs::write(&sources, lines).with_context(|| format!("write {}", sources.display()))?;
        let codename = std::fs::read_to_string("/etc/os-release")
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME=").map(str::to_owned))
            .unwrap_or_default();
        let home = home.display();
        let options = [
            format!("Dir::Etc::sourcelist={home}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={home}/lists"),
            format!("Dir::Cache={home}/cache"),
            format!("APT::Default-Release={codename}"),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ];
        let apt = Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() };
        step::run("vm", "apt-get update, in lists of our own", apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// All packages whose name matches.
    pub(super) fn names(&self, pattern: &str) -> anyhow::Result<Vec<String>> {
        let out = self.command("apt-cache").args(["pkgnames", "linux-"]).output().context("run apt-cache")?;
        if !out.status.success() {
            bail!("apt-cache pkgnames failed: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        Ok(text.lines().filter(|name| name.ends_with(pattern)).map(str::to_owned).collect())
    }

    /// Downloads packages and unpacks them below `into`.
    pub(super) fn unpack(&self, packages: &[String], into: &Path) -> anyhow::Result<()> {
        let scratch = into.with_extension("debs");
        std::fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).args(packages).current_dir(&scratch);
        step::run("vm", &format!("download {}", packages.join(" ")), &mut download)?;
        extract(&scratch, into)
    }

    /// Downloads what installing a package would install here, and unpacks that below `into`.
    pub(super) fn unpack_with_dependencies(&self, package: &str, into: &Path) -> anyhow::Result<()> {
        let scratch = into.with_extension("debs");
        let partial = scratch.join("partial");
        std::fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
        let mut download = self.command("apt-get");
        download.arg("-o").arg(format!("Dir::Cache::archives={}", scratch.display()));
        download.args(["-q", "-y", "--no-install-recommends", "--download-only", "install", package]);
        step::run("vm", &format!("download {package} and what it needs"), &mut download)?;
        extract(&scratch, into)
    }
}

/// Unpacks all packages of a folder below `into`, which appears only when it is whole; removes the folder.
fn extract(from: &Path, into: &Path) -> anyhow::Result<()> {
    let unfinished = into.with_extension("new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
    }
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))?.flatten() {
        let archive = entry.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            let status =
                Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unfinished).status().context("run dpkg-deb")?;
            if !status.success() {
                bail!("dpkg-deb cannot unpack {} ({status})", archive.display());
            }
        }
    }
    std::fs::rename(&unfinished, into).with_context(|| format!("move {} into place", into.display()))?;
    std::fs::remove_dir_all(from).with_context(|| format!("remove {}", from.display()))
}
