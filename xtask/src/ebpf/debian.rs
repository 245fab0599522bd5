//! A toolchain with `core` prebuilt for BPF, unpacked from Debian's packages of rustc. Nothing is installed, and no root
//! is needed beyond package lists that are up to date.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::setup::Apt;
use crate::{step, sys};

/// Packages that belong to Debian's C runtime: every machine that links Rust programs has them already.
const RUNTIME: &[&str] = &["libc6", "libgcc-s1", "libstdc++6", "libcrypt1", "gcc-12-base"];

/// Unpacks rustc, its libraries and the BPF core into `folder`, shaped like a toolchain of rustup's.
pub(super) fn unpack(apt: &mut Apt, folder: &Path) -> anyhow::Result<()> {
    let packages = match resolve() {
        Some(packages) => packages,
        None => {
            apt.update()?;
            resolve().context("Debian's package lists know no rustc-web with a BPF core")?
        }
    };
    step::say("ebpf", &format!("packages: {}", packages.join(" ")));

    let scratch = folder.with_extension("new");
    remove(&scratch)?;
    let unpacked = scratch.join("unpacked");
    std::fs::create_dir_all(&unpacked).with_context(|| format!("create {}", unpacked.display()))?;
    if fetch(&scratch, &unpacked, &packages).is_err() {
        // Lists older than the mirror name files that are gone from it; one update mends that.
        apt.update()?;
        fetch(&scratch, &unpacked, &packages)?;
    }
    let toolchain = scratch.join("toolchain");
    shape(&unpacked.join("usr"), &toolchain)?;
    complete(&scratch, &unpacked, &toolchain.join("lib"), &packages)?;

    remove(folder)?;
    std::fs::rename(&toolchain, folder).with_context(|| format!("move the toolchain to {}", folder.display()))?;
    remove(&scratch)
}

/// The packages to unpack, by the versions that the package lists know: rustc, its standard library, the BPF core
/// and the LLVM these were built with.
fn resolve() -> Option<Vec<String>> {
    let std_package = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = dependency(&std_package, "libllvm")?;
    // A list may name a package that has no candidate: `apt-cache show` fails then.
    sys::ask("apt-cache", ["show", "--no-all-versions", "libstd-rust-web-dev-bpf"])?;
    let fixed = ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-dev-bpf"].map(str::to_owned);
    Some(fixed.into_iter().chain([std_package, llvm]).collect())
}

/// The first dependency of `package` whose name starts with `prefix`.
fn dependency(package: &str, prefix: &str) -> Option<String> {
    let listed = sys::ask("apt-cache", ["depends", "--important", package])?;
    pick(&listed, prefix)
}

fn pick(listed: &str, prefix: &str) -> Option<String> {
    listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

/// Downloads packages into `scratch` and unpacks them.
fn fetch(scratch: &Path, unpacked: &Path, packages: &[String]) -> anyhow::Result<()> {
    let mut download = Command::new("apt-get");
    // apt's own download user may not write into a folder of ours.
    download.args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(packages).current_dir(scratch);
    step::run("ebpf", &format!("apt-get download {} packages", packages.len()), &mut download)?;
    step::say("ebpf", &format!("unpacking {} packages", packages.len()));
    for archive in files(scratch, |name| name.ends_with(".deb"))? {
        let status = Command::new("dpkg-deb").arg("-x").arg(&archive).arg(unpacked).status().context("run dpkg-deb")?;
        if !status.success() {
            bail!("dpkg-deb cannot unpack {} ({status})", archive.display());
        }
        std::fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    }
    Ok(())
}

/// Moves what a toolchain needs from Debian's tree (`usr`) to where rustup looks for it.
fn shape(usr: &Path, toolchain: &Path) -> anyhow::Result<()> {
    let (bin, lib, rustlib) = (toolchain.join("bin"), toolchain.join("lib"), toolchain.join("lib/rustlib"));
    for folder in [&bin, &rustlib] {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let into = |from: &Path, folder: &Path| -> anyhow::Result<()> {
        let name = from.file_name().context("a file has a name")?;
        std::fs::rename(from, folder.join(name)).with_context(|| format!("move {} into the toolchain", from.display()))
    };
    into(&usr.join("bin/rustc"), &bin)?;
    // Debian keeps libraries in a folder named after the machine, such as lib/x86_64-linux-gnu.
    for machine in files(&usr.join("lib"), |name| name.ends_with("-linux-gnu"))? {
        let wanted = |name: &str| {
            name.starts_with("libLLVM.so.") || (name.starts_with("librustc_driver-") && name.ends_with(".so"))
        };
        for library in files(&machine, wanted)? {
            into(&library, &lib)?;
        }
    }
    let targets = |name: &str| name == super::TARGET || name.ends_with("-linux-gnu");
    for target in files(&usr.join("lib/rustlib"), targets)? {
        into(&target, &rustlib)?;
    }
    Ok(())
}

/// Adds the libraries that LLVM wants and this machine lacks.
fn complete(scratch: &Path, unpacked: &Path, lib: &Path, packages: &[String]) -> anyhow::Result<()> {
    if missing(lib)?.is_empty() {
        return Ok(());
    }
    let listed = packages
        .last()
        .and_then(|llvm| sys::ask("apt-cache", ["depends", "--recurse", "--important", llvm]))
        .context("apt-cache lists no dependencies of LLVM")?;
    let wanted: Vec<String> = listed
        .lines()
        .filter(|line| !line.starts_with([' ', '<']) && !RUNTIME.contains(line) && !packages.iter().any(|p| p == line))
        .map(str::to_owned)
        .collect();
    fetch(scratch, unpacked, &wanted)?;
    // A library that was added may want further ones; the chain behind LLVM is short.
    for _ in 0..5 {
        let names = missing(lib)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if let Some(found) = search(unpacked, &name) {
                std::fs::copy(&found, lib.join(&name)).with_context(|| format!("copy {}", found.display()))?;
            }
        }
    }
    bail!("the toolchain lacks libraries: {}", missing(lib)?.join(" "))
}

/// The shared libraries that those in `lib` ask for and the dynamic linker does not find.
fn missing(lib: &Path) -> anyhow::Result<Vec<String>> {
    let libraries = files(lib, |name| name.contains(".so"))?;
    let out = Command::new("ldd").args(&libraries).env("LD_LIBRARY_PATH", lib).output().context("run ldd")?;
    let mut names: Vec<String> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| line.trim().strip_suffix(" => not found"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The file called `name` somewhere below `folder`, with links followed to the file itself.
fn search(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = search(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name && path.is_file() {
            return Some(path);
        }
    }
    None
}

/// What lies directly in `folder` under a name that is wanted.
fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries
        .flatten()
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect())
}

/// Removes a folder of ours, if it is there.
fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn a_dependency_is_picked_by_its_prefix() {
        let listed = "libstd-rust-web-1.96\n  Depends: libc6\n  Depends: libllvm22\n  Depends: libstdc++6\n";
        assert_eq!(pick(listed, "libllvm").as_deref(), Some("libllvm22"));
        assert_eq!(pick(listed, "libstd-rust"), None);
    }
}
