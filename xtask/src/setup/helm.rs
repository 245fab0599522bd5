//! Helm's own engine, with which the chart is tested: a wheel from PyPI, unpacked below `target/`.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::Apt;
use crate::{step, sys};

/// Helm v4 as a Python package; no `helm` binary is packaged for Debian.
const WHEEL: &str = "helm-python-sdk==0.2.2";

/// Makes sure that the engine is below `target/`.
pub(super) fn ensure(apt: &mut Apt) -> anyhow::Result<()> {
    let folder = sys::work_dir().join("helm");
    if folder.join("helm_python").is_dir() {
        step::say("helm", "present: Helm's engine");
        return Ok(());
    }
    pip(apt)?;
    let mut install = Command::new("python3");
    install.args([
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--target",
    ]);
    step::run("helm", &format!("pip install {WHEEL}"), install.arg(&folder).arg(WHEEL))
        .context("hint: the chart's tests need PyPI once")
}

/// Makes sure of python3 with pip.
pub(super) fn pip(apt: &mut Apt) -> anyhow::Result<()> {
    if sys::ask("python3", ["-m", "pip", "--version"]).is_some() {
        return Ok(());
    }
    if !Apt::exists() {
        bail!("python3 with pip is missing");
    }
    apt.install(&["python3", "python3-pip"])
}
