//! bpf-linker in the version and with the features that a toolchain's LLVM wants.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{Core, TARGET, Toolchain};
use crate::setup::Apt;
use crate::{step, sys};

/// The last version that loads the toolchain's own libLLVM, so that no LLVM has to be installed beside it.
const BORROWING: &str = "0.10.4";
/// The LLVM versions it can load.
const BORROWED_LLVM: std::ops::RangeInclusive<u32> = 20..=22;
/// The version that links an installed LLVM, for toolchains whose own is too new to borrow.
const LINKING: &str = "0.13.0";
/// The LLVM versions it can link.
const LINKED_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// The smallest program that goes through the linker.
const PROBE: &str = "#![no_std]\n#![no_main]\n\
    #[panic_handler]\nfn panic(_: &core::panic::PanicInfo) -> ! { loop {} }\n\
    #[unsafe(no_mangle)]\npub extern \"C\" fn probe() -> u32 { 0 }\n";

/// How bpf-linker is built for an LLVM version.
#[derive(Debug, PartialEq, Eq)]
struct Recipe {
    version: &'static str,
    feature: String,
    /// The Debian package with the LLVM it links, when it does not borrow the toolchain's.
    package: Option<String>,
}

/// Makes sure that a bpf-linker is there and, where that can be tried cheaply, that it links for `toolchain`.
pub(super) fn ensure(apt: &mut Apt, toolchain: &Toolchain, root: Option<&Path>) -> anyhow::Result<()> {
    if locate(root).is_none() {
        install(apt, toolchain, root)?;
    }
    let linker = locate(root)
        .context("bpf-linker was installed but is not on PATH\nhint: add cargo's bin folder (~/.cargo/bin) to PATH")?;
    let version = sys::ask(&linker, ["--version"]).unwrap_or_default();
    // With the sources of core, trying means compiling core: the agent's build script does that anyway.
    if toolchain.core == Core::Prebuilt {
        probe(toolchain, &linker).with_context(|| {
            let recipe = recipe(toolchain.llvm);
            let flags = recipe.map_or_else(String::new, |recipe| format!(" {}", arguments(&recipe).join(" ")));
            format!(
                "{version} at {} does not link for toolchain {} (LLVM {})\nhint: cargo install --force bpf-linker{flags}",
                linker.display(),
                toolchain.name,
                toolchain.llvm
            )
        })?;
    }
    step::say("ebpf", &format!("{version} at {}", linker.display()));
    Ok(())
}

/// Where bpf-linker is: below `root` alone when given, else on PATH.
fn locate(root: Option<&Path>) -> Option<PathBuf> {
    match root {
        Some(root) => Some(root.join("bin/bpf-linker")).filter(|file| file.is_file()),
        None => sys::which("bpf-linker"),
    }
}

/// The recipe for an LLVM version, if there is one.
fn recipe(llvm: u32) -> Option<Recipe> {
    if BORROWED_LLVM.contains(&llvm) {
        Some(Recipe { version: BORROWING, feature: format!("rust-llvm-{llvm}"), package: None })
    } else if LINKED_LLVM.contains(&llvm) {
        Some(Recipe { version: LINKING, feature: format!("llvm-{llvm}"), package: Some(format!("llvm-{llvm}-dev")) })
    } else {
        None
    }
}

/// The recipe as arguments of `cargo install bpf-linker`.
fn arguments(recipe: &Recipe) -> Vec<String> {
    ["--version", recipe.version, "--locked", "--no-default-features", "--features", &recipe.feature]
        .map(str::to_owned)
        .to_vec()
}

fn install(apt: &mut Apt, toolchain: &Toolchain, root: Option<&Path>) -> anyhow::Result<()> {
    let Some(recipe) = recipe(toolchain.llvm) else {
        bail!(
            "no known bpf-linker links for LLVM {} (toolchain {})\nhint: set EBPF_TOOLCHAIN to a toolchain with LLVM {} to {}",
            toolchain.llvm,
            toolchain.name,
            BORROWED_LLVM.start(),
            LINKED_LLVM.end()
        );
    };
    let mut command = sys::cargo();
    command.args(["install", "bpf-linker"]).args(arguments(&recipe));
    // Below target/, so that a set-up that was interrupted goes on where it stopped.
    command.env("CARGO_TARGET_DIR", sys::work_dir().join("bpf-linker"));
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    if let Some(package) = &recipe.package {
        step::say("ebpf", &format!("LLVM {} is too new to be borrowed: {package} is needed", toolchain.llvm));
        if !Apt::exists() {
            bail!("bpf-linker needs LLVM {}'s development files, and there is no apt", toolchain.llvm);
        }
        // bpf-linker's build compiles a little C++ of its own.
        apt.install(&[package.as_str(), "g++"])?;
        command.env("LLVM_PREFIX", format!("/usr/lib/llvm-{}", toolchain.llvm));
    }
    let label = format!("cargo install bpf-linker {} with {}", recipe.version, recipe.feature);
    step::run("ebpf", &label, &mut command)
}

/// Compiles and links the smallest BPF program.
fn probe(toolchain: &Toolchain, linker: &Path) -> anyhow::Result<()> {
    let folder = sys::work_dir().join("probe");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let source = folder.join("probe.rs");
    std::fs::write(&source, PROBE).with_context(|| format!("write {}", source.display()))?;
    let out = Command::new("rustup")
        .args(["run", &toolchain.name, "rustc", "--edition", "2024", "--crate-type", "bin"])
        .args(["--target", TARGET, "-C", "panic=abort", "-C"])
        .arg(format!("linker={}", linker.display()))
        .arg("-o")
        .arg(folder.join("probe.o"))
        .arg(&source)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .context("run rustc")?;
    if !out.status.success() {
        bail!("{}", String::from_utf8_lossy(&out.stderr).trim().to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::recipe;

    #[test]
    fn an_llvm_that_can_be_borrowed_needs_no_package() {
        let recipe = recipe(22).unwrap();
        assert_eq!((recipe.version, recipe.feature.as_str()), ("0.10.4", "rust-llvm-22"));
        assert_eq!(recipe.package, None);
    }

    #[test]
    fn a_newer_llvm_is_linked_from_its_package() {
        let recipe = recipe(23).unwrap();
        assert_eq!((recipe.version, recipe.feature.as_str()), ("0.13.0", "llvm-23"));
        assert_eq!(recipe.package.as_deref(), Some("llvm-23-dev"));
    }

    #[test]
    fn an_unknown_llvm_has_no_recipe() {
        assert_eq!(recipe(19), None);
        assert_eq!(recipe(24), None);
    }
}
