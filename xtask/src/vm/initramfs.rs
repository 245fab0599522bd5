//! The machine's whole file system: a newc cpio (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)
//! of programs with their libraries, and of kernel modules in the order in which they load.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::packages::folder;

/// Where the modules lie inside, numbered in load order.
pub(super) const MODULES: &str = "modules";

const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_600;

/// A cpio in the making.
pub(super) struct Archive {
    bytes: Vec<u8>,
    made: BTreeSet<String>,
    number: u32,
}

impl Archive {
    /// With the folders and links that every program expects.
    pub(super) fn new() -> Self {
        let mut archive = Self { bytes: Vec::new(), made: BTreeSet::new(), number: 0 };
        for folder in
            ["dev", "proc", "sys", "tmp", "run", "etc", "root", "mnt", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]
        {
            archive.folders(&format!("{folder}/x"));
        }
        for (name, to) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            archive.entry(name, LINK, to.as_bytes(), (0, 0));
        }
        archive.entry("dev/console", CHARACTER, &[], (5, 1));
        archive.entry("dev/null", CHARACTER | 0o066, &[], (1, 3));
        archive
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        if !self.made.insert(name.to_owned()) {
            return;
        }
        self.number += 1;
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let (major, minor) = device;
        let fields = [self.number, mode, 0, 0, 1, 0, length, 0, 0, major, minor, name_length, 0];
        let head: String = fields.iter().map(|field| format!("{field:08X}")).collect();
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The folders above `path`.
    fn folders(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entry(&path[..at], DIRECTORY, &[], (0, 0));
        }
    }

    /// A file with these bytes.
    pub(super) fn write(&mut self, path: &str, data: &[u8], mode: u32) {
        self.folders(path);
        self.entry(path, REGULAR | mode, data, (0, 0));
    }

    /// A link to a file of this machine.
    pub(super) fn link(&mut self, path: &str, to: &Path) {
        let to = format!("/{}", inside(to));
        self.entry(path.trim_start_matches('/'), LINK, to.as_bytes(), (0, 0));
    }

    /// A file of this machine, at the place where it is here.
    pub(super) fn copy(&mut self, path: &Path) -> anyhow::Result<()> {
        let data = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        self.write(&inside(path), &data, 0o755);
        Ok(())
    }

    /// A program of this machine with the shared libraries it asks for, without what only a debugger reads.
    pub(super) fn program(&mut self, path: &Path) -> anyhow::Result<()> {
        self.write(&inside(path), &stripped(path)?, 0o755);
        for library in libraries(path)? {
            let data = std::fs::read(&library).with_context(|| format!("read {}", library.display()))?;
            self.write(&inside(&library), &data, 0o755);
        }
        Ok(())
    }

    /// The modules `wanted` of a kernel, and before each what it depends on. A module that this kernel does not have is
    /// left out, as one that is built in: whoever needs it says so.
    pub(super) fn modules(&mut self, root: &Path, wanted: &[&str]) -> anyhow::Result<()> {
        let files = module_files(root);
        let mut order = Vec::new();
        let mut unpacked = HashMap::new();
        for name in wanted {
            visit(name, &files, &mut order, &mut unpacked)?;
        }
        for (position, name) in order.iter().enumerate() {
            if let Some(data) = unpacked.get(name) {
                self.write(&format!("{MODULES}/{position:03}-{name}.ko"), data, 0o644);
            }
        }
        Ok(())
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

/// Where a file of this machine lies inside: the old folders are links there as they are here.
fn inside(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_start_matches('/');
    match text.split_once('/') {
        Some((first @ ("bin" | "sbin" | "lib" | "lib64"), rest)) => format!("usr/{first}/{rest}"),
        _ => text.to_owned(),
    }
}

fn stripped(path: &Path) -> anyhow::Result<Vec<u8>> {
    let thin = folder().join("stripped");
    let status = Command::new("strip").args(["--strip-debug", "-o"]).arg(&thin).arg(path).status();
    // Without binutils the whole program does as well.
    let file = if status.is_ok_and(|status| status.success()) { &thin } else { path };
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// The shared libraries of a program, as the dynamic linker finds them here; none for a static one.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let out = Command::new("ldd").arg(program).env_remove("LD_LIBRARY_PATH").output().context("run ldd")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} asks for a library that is not here: {}", program.display(), missing.trim());
    }
    Ok(text.lines().filter_map(library).collect())
}

/// The path in one line of ldd's: `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld-linux.so.2 (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.rsplit("=> ").next()?.trim().split(' ').next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// All modules of a kernel by name, in the form in which the kernel names them.
fn module_files(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Some(name) = name.strip_suffix(".ko").or_else(|| name.strip_suffix(".ko.xz")) {
                files.insert(name.replace('-', "_"), path);
            }
        }
    }
    files
}

/// Puts `name` behind everything it depends on.
fn visit(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<String>,
    unpacked: &mut HashMap<String, Vec<u8>>,
) -> anyhow::Result<()> {
    let name = name.replace('-', "_");
    let Some(file) = files.get(&name).filter(|_| !unpacked.contains_key(&name)) else { return Ok(()) };
    let data = read_module(file)?;
    let wanted = dependencies(&data);
    unpacked.insert(name.clone(), data);
    for other in wanted {
        visit(&other, files, order, unpacked)?;
    }
    order.push(name);
    Ok(())
}

fn read_module(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return std::fs::read(file).with_context(|| format!("read {}", file.display()));
    }
    let out = Command::new("xz").arg("-dc").arg(file).stderr(Stdio::inherit()).output().context("run xz")?;
    if !out.status.success() {
        bail!("xz cannot unpack {}", file.display());
    }
    Ok(out.stdout)
}

/// What a module's `.modinfo` says it needs before it: NUL-terminated `key=value` texts.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for text in module.split(|byte| *byte == 0) {
        if let Some(list) = text.strip_prefix(b"depends=") {
            found.extend(String::from_utf8_lossy(list).split(',').map(str::to_owned));
        } else if let Some(list) = text.strip_prefix(b"softdep=pre: ") {
            found.extend(String::from_utf8_lossy(list).split(' ').map(str::to_owned));
        }
    }
    found.retain(|name| !name.is_empty() && !name.ends_with(':'));
    found
}

#[cfg(test)]
mod tests {
    use super::{Archive, dependencies, inside, library};
    use std::path::Path;

    #[test]
    fn an_archive_has_each_entry_once_and_is_aligned() {
        let mut archive = Archive::new();
        archive.write("a/b/c", b"one", 0o644);
        archive.write("a/b/c", b"two", 0o644);
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(bytes.windows(5).filter(|window| window == b"a/b/c").count(), 1);
        assert!(bytes.windows(3).any(|window| window == b"one"));
    }

    #[test]
    fn what_a_module_needs_and_where_a_library_is() {
        let module = b"junk\0depends=udp_tunnel,ip6_udp_tunnel\0softdep=pre: crc32c post: x\0depends=\0";
        assert_eq!(dependencies(module), ["udp_tunnel", "ip6_udp_tunnel", "crc32c", "x"]);
        assert_eq!(library("\tlibc.so.6 => /lib/x/libc.so.6 (0x1)").as_deref(), Some(Path::new("/lib/x/libc.so.6")));
        assert_eq!(library("\t/lib64/ld-linux.so.2 (0x1)").as_deref(), Some(Path::new("/lib64/ld-linux.so.2")));
        assert_eq!(library("\tlinux-vdso.so.1 (0x1)"), None);
        assert_eq!(inside(Path::new("/lib/x/libc.so.6")), "usr/lib/x/libc.so.6");
        assert_eq!(inside(Path::new("/opt/lib/x")), "opt/lib/x");
    }
}
