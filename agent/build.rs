//! Builds the BPF object with `aya-build`, by the first toolchain that can:
//! `$EBPF_TOOLCHAIN`, else `nightly` with rust-src, else the linked toolchain `ebpf` (`cargo xtask setup`).
//!
//! With none of them, without bpf-linker, or with `AYA_BUILD_SKIP=1`, an empty object is embedded, so that the workspace
//! checks on plain stable; the agent then says so when it starts.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "agent-ebpf-programs";
/// The crates that need unstable features; naming them keeps a toolchain's prebuilt `core` in use.
const UNSTABLE_CRATES: &str =
    "aya_ebpf,agent_ebpf_programs,sabotage_skip,sabotage_double,sabotage_sides,bench_noop,bench_floor";

/// What a toolchain can take `core` for BPF from.
#[derive(Clone, Copy)]
enum Core {
    Prebuilt,
    Source { nightly: bool },
}

fn main() -> Result<()> {
    for variable in ["EBPF_TOOLCHAIN", "AYA_BUILD_SKIP", "PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    if env::var_os("AYA_BUILD_SKIP").is_some_and(|value| value == "1") {
        return embed_nothing(&out, "AYA_BUILD_SKIP=1");
    }
    if !on_path("bpf-linker") {
        return embed_nothing(&out, "no bpf-linker on PATH; hint: cargo xtask setup");
    }
    let wanted = env::var("EBPF_TOOLCHAIN").ok();
    let candidates = wanted.as_deref().map_or(vec!["nightly", "ebpf"], |toolchain| vec![toolchain]);
    let found = candidates.iter().find_map(|toolchain| Some((*toolchain, core_of(toolchain)?)));
    let Some((toolchain, core)) = found else {
        if let Some(toolchain) = wanted {
            bail!(
                "build eBPF: EBPF_TOOLCHAIN={toolchain} has neither rust-src nor a prebuilt core for {TARGET}; \
                 hint: cargo xtask setup, or rustup toolchain install nightly -c rust-src"
            );
        }
        return embed_nothing(&out, "no toolchain can build eBPF; hint: cargo xtask setup");
    };
    let bootstrap = match core {
        Core::Prebuilt => Some(UNSTABLE_CRATES),
        // aya-build then adds -Z build-std itself.
        Core::Source { nightly: false } => Some("1"),
        Core::Source { nightly: true } => None,
    };
    if let Some(value) = bootstrap {
        // SAFETY: a build script has one thread.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", value) }
    }
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-ebpf");
    // Objects that are wrong on purpose, for the tests; a release has none.
    let features: &[&str] =
        if env::var("PROFILE").is_ok_and(|profile| profile == "debug") { &["sabotage"] } else { &[] };
    let package = Package { name: "agent-ebpf", root_dir, features, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(toolchain))
}

fn embed_nothing(out: &Path, why: &str) -> Result<()> {
    println!("cargo:warning=the agent embeds no eBPF programs: {why}");
    fs::write(out.join(OBJECT), []).context("write the empty object")
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn core_of(toolchain: &str) -> Option<Core> {
    let sysroot = rustc(toolchain, &["--print", "sysroot"])?;
    let prebuilt = rustc(toolchain, &["--print", "target-libdir", "--target", TARGET])
        .and_then(|folder| fs::read_dir(folder).ok())
        .is_some_and(|folder| folder.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-")));
    if prebuilt {
        return Some(Core::Prebuilt);
    }
    Path::new(&sysroot)
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .exists()
        .then(|| Core::Source { nightly: rustc(toolchain, &["-V"]).is_some_and(|version| version.contains("nightly")) })
}

/// What `rustc ARGUMENTS` of a rustup toolchain prints, or of the one on `PATH` where there is no rustup.
fn rustc(toolchain: &str, arguments: &[&str]) -> Option<String> {
    let run = |command: &mut Command| command.args(arguments).stderr(Stdio::null()).output();
    let output = match run(Command::new("rustup").args(["run", toolchain, "rustc"])) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => run(&mut Command::new("rustc")),
        outcome => outcome,
    };
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
