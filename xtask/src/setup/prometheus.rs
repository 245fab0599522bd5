//! The real Prometheus and its promtool, which read our metrics in tests: Debian's package, unpacked below `target/`.
//! Installed, it would start a server that listens on every address.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::Apt;
use crate::{step, sys};

/// Makes sure that both programs are below `target/`.
pub(super) fn ensure(apt: &mut Apt) -> anyhow::Result<()> {
    let folder = sys::work_dir().join("prometheus");
    if folder.join("usr/bin/promtool").is_file() {
        step::say("prometheus", "present: prometheus promtool");
        return Ok(());
    }
    if !Apt::exists() {
        bail!("Prometheus is missing\nhint: put `prometheus` and `promtool` into {}", folder.join("usr/bin").display());
    }
    let scratch = folder.with_extension("new");
    std::fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    if fetch(&scratch).is_err() {
        // Lists older than the mirror name files that are gone from it; one update mends that.
        apt.update()?;
        fetch(&scratch)?;
    }
    let package = std::fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    step::run("prometheus", "unpack prometheus", Command::new("dpkg-deb").arg("-x").arg(&package).arg(&scratch))?;
    std::fs::remove_file(&package).with_context(|| format!("remove {}", package.display()))?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    std::fs::rename(&scratch, &folder).with_context(|| format!("move it to {}", folder.display()))
}

fn fetch(folder: &std::path::Path) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["download", "-q", "prometheus"]).current_dir(folder);
    step::run("prometheus", "apt-get download prometheus", &mut command)
}
