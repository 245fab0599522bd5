//! `cargo xtask bench merge`, `bench wire`: the steps of a report's road inside one process, in a release build.

use anyhow::{Context as _, bail};

use crate::{step, sys};

pub(super) fn run(what: &str) -> anyhow::Result<()> {
    let build = ["build", "--locked", "--release", "-p", "road"];
    step::run("bench", "build the road", sys::cargo().args(build))?;
    println!("{}", super::machine());
    let program = sys::root().join("target/release/road");
    let status = std::process::Command::new(&program).arg(what).status();
    let status = status.with_context(|| format!("start {}", program.display()))?;
    if status.success() { Ok(()) } else { bail!("a figure is missed") }
}
