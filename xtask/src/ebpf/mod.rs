//! Which toolchain builds the kernel side: chosen by what it can do, not by its name.
//!
//! The order, the same as in `agent/build.rs`: `$EBPF_TOOLCHAIN`, a nightly that has rust-src, the linked toolchain
//! `ebpf`, and where there is none of these, one unpacked from Debian's packages and linked under that name.

mod debian;
mod linker;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::setup::Apt;
use crate::{step, sys};

/// The target that BPF programs are compiled for on every machine Orrery runs on today (little-endian).
const TARGET: &str = "bpfel-unknown-none";

/// Where a toolchain is looked for and made; only tests of the set-up itself change it.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Name of the rustup toolchain to link. With another name than `ebpf`, only that one is looked for
    #[arg(long, hide = true, default_value = "ebpf")]
    ebpf_name: String,
    /// Folder to unpack the toolchain into
    #[arg(long, hide = true)]
    ebpf_dir: Option<PathBuf>,
    /// Folder that `bpf-linker` is installed below, and the only one it is looked for in
    #[arg(long, hide = true)]
    ebpf_linker_root: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ebpf_name: "ebpf".to_owned(), ebpf_dir: None, ebpf_linker_root: None }
    }
}

/// What a toolchain can take `core` for BPF from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    /// A library that came with it.
    Prebuilt,
    /// Its sources, which a build compiles anew.
    Source,
}

/// A toolchain that can build the kernel side.
struct Toolchain {
    name: String,
    core: Core,
    /// The major version of its LLVM, which the linker has to match.
    llvm: u32,
}

/// Makes sure that the kernel side can be built, setting up what is missing.
pub(crate) fn ensure(apt: &mut Apt, options: &Options) -> anyhow::Result<()> {
    if sys::which("rustup").is_none() {
        bail!(
            "rustup is missing\nhint: install it from https://rustup.rs, or Debian's package rustup where there is one"
        );
    }
    let toolchain = match find(options)? {
        Some(toolchain) => toolchain,
        None => set_up(apt, options)?,
    };
    let from = match toolchain.core {
        Core::Prebuilt => "a prebuilt core",
        Core::Source => "the sources of core",
    };
    step::say("ebpf", &format!("toolchain {} builds for BPF, with {from} and LLVM {}", toolchain.name, toolchain.llvm));
    linker::ensure(apt, &toolchain, options.ebpf_linker_root.as_deref())
}

/// The first toolchain at hand that can build for BPF.
fn find(options: &Options) -> anyhow::Result<Option<Toolchain>> {
    if let Ok(name) = std::env::var("EBPF_TOOLCHAIN") {
        let toolchain = inspect(&name).with_context(|| {
            format!("EBPF_TOOLCHAIN names a toolchain with neither rust-src nor a prebuilt core for {TARGET}: {name}")
        })?;
        return Ok(Some(toolchain));
    }
    let names: &[&str] = match options.ebpf_name.as_str() {
        "ebpf" => &["nightly", "ebpf"],
        other => &[other],
    };
    Ok(names.iter().find_map(|name| inspect(name)))
}

/// What the toolchain `name` can do; `None` when it is not there or cannot build for BPF.
fn inspect(name: &str) -> Option<Toolchain> {
    let rustc = |args: &[&str]| sys::ask("rustup", [&["run", name, "rustc"], args].concat());
    let verbose = rustc(&["-vV"])?;
    let llvm = llvm_major(&verbose)?;
    let library = rustc(&["--print", "target-libdir", "--target", TARGET]);
    let prebuilt = library
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .is_some_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-")));
    let core = if prebuilt {
        Core::Prebuilt
    } else {
        let sysroot = rustc(&["--print", "sysroot"])?;
        let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
        sources.is_file().then_some(Core::Source)?
    };
    Some(Toolchain { name: name.to_owned(), core, llvm })
}

/// Unpacks a toolchain from Debian's packages and links it.
fn set_up(apt: &mut Apt, options: &Options) -> anyhow::Result<Toolchain> {
    /// What a person does where we can do nothing.
    const BY_HAND: &str = "hint: rustup toolchain install nightly --component rust-src";
    if !Apt::exists() {
        bail!("no toolchain here can build for BPF, and without apt none can be set up\n{BY_HAND}");
    }
    let folder = match &options.ebpf_dir {
        Some(folder) => folder.clone(),
        None => sys::data_dir().context("neither XDG_DATA_HOME nor HOME is set")?.join("ebpf-toolchain"),
    };
    step::say("ebpf", &format!("no toolchain here can build for BPF; unpacking Debian's into {}", folder.display()));
    debian::unpack(apt, &folder).context(BY_HAND)?;
    let name = options.ebpf_name.as_str();
    let folder_text = folder.to_string_lossy();
    step::run(
        "ebpf",
        &format!("rustup toolchain link {name}"),
        std::process::Command::new("rustup").args(["toolchain", "link", name, folder_text.as_ref()]),
    )?;
    inspect(name)
        .with_context(|| format!("the toolchain unpacked into {} cannot build for BPF\n{BY_HAND}", folder.display()))
}

/// The major LLVM version in the output of `rustc -vV`.
fn llvm_major(verbose: &str) -> Option<u32> {
    let line = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some(sys::version(line)?.0)
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_version_is_read_from_rustc() {
        assert_eq!(llvm_major("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
