//! `cargo xtask image`: the two images of the chart, each one static program on nothing; with `--check`, both are run.

mod check;
mod container;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{setup, step, sys};

/// The programs; an image is named by what stands behind the dash.
const PROGRAMS: [&str; 2] = ["orrery-agent", "orrery-collector"];
/// What the images are built for: the machine's own kind, linked without any library. glibc 2.34 and newer find names without
/// one, too; the linker, which warns of `getaddrinfo`, does not know that, and the check shows it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Options of `cargo xtask image`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where the images belong
    #[arg(long, default_value = "ghcr.io/orrery")]
    registry: String,
    /// The images' tag; the project's version otherwise
    #[arg(long)]
    tag: Option<String>,
    /// Run both in containers, with what the manifest grants and nothing else, on real traffic of the lab
    #[arg(long)]
    check: bool,
}

impl Args {
    fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"))
    }

    fn name(&self, program: &str) -> String {
        format!("{}/{}:{}", self.registry, short(program), self.tag())
    }
}

fn short(program: &str) -> &str {
    program.trim_start_matches("orrery-")
}

/// Builds, and checks where asked to.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::images()?;
    let programs = programs()?;
    for program in PROGRAMS {
        build(args, program, &programs)?;
    }
    if args.check { check::run(args) } else { Ok(()) }
}

/// Builds both programs, static, and says where they are.
fn programs() -> anyhow::Result<PathBuf> {
    let mut cargo = sys::cargo();
    cargo.args(["build", "--locked", "--release", "--target", TARGET]);
    PROGRAMS.iter().for_each(|program| _ = cargo.args(["-p", program]));
    // Only for the target: build scripts and macros of the host stay as they are.
    cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
    step::run("image", "build static programs", &mut cargo)?;
    let folder = sys::root().join("target").join(TARGET).join("release");
    for program in PROGRAMS {
        let path = folder.join(program);
        let headers =
            sys::ask("readelf", ["-l".as_ref(), path.as_os_str()]).context("readelf, of binutils, is missing")?;
        ensure!(!headers.contains("INTERP"), "{} wants a loader: it is not static", path.display());
        let bytes = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
        println!("{program}: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    }
    Ok(folder)
}

fn build(args: &Args, program: &str, programs: &Path) -> anyhow::Result<()> {
    // The context holds the program alone: nothing else can slip in.
    let context = sys::work_dir().join("image").join(program);
    std::fs::create_dir_all(&context).with_context(|| format!("create {}", context.display()))?;
    let copy = context.join(program);
    std::fs::copy(programs.join(program), &copy).with_context(|| format!("copy {program} to {}", copy.display()))?;
    let file = sys::root().join("deploy/images").join(format!("{}.Dockerfile", short(program)));
    let revision = sys::ask("git", ["rev-parse", "HEAD"]).unwrap_or_default();
    let name = args.name(program);
    let mut buildah = sys::as_root("buildah").context("buildah needs root, and there is no sudo")?;
    buildah
        .args(["bud", "--isolation", "chroot", "--platform", "linux/amd64", "--tag", &name, "--file"])
        .arg(file)
        .args(["--build-arg", &format!("VERSION={}", args.tag())])
        .args(["--build-arg", &format!("REVISION={revision}")])
        .arg(&context);
    step::run("image", &format!("build {name}"), &mut buildah)?;
    let archive = sys::work_dir().join("image").join(format!("{}.tar", short(program)));
    // An archive that is there already would be added to.
    if archive.exists() {
        std::fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    }
    let mut push = sys::as_root("buildah").context("buildah needs root, and there is no sudo")?;
    push.args(["push", "--quiet", &name, &format!("docker-archive:{}:{name}", archive.display())]);
    step::run("image", &format!("write {}", archive.display()), &mut push)?;
    let bytes = std::fs::metadata(&archive).with_context(|| format!("look at {}", archive.display()))?.len();
    println!("{name}: {} MiB, {}", bytes >> 20, archive.display());
    Ok(())
}

/// `podman`, as it runs in containers and on hosts of both kinds of cgroups.
fn podman() -> anyhow::Result<Command> {
    let mut podman = sys::as_root("podman").context("podman needs root, and there is no sudo")?;
    podman.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
    Ok(podman)
}
