//! Pinned links: they keep our programs in place from one run of the agent to the next, so that no packet passes unseen.
//!
//! A run has a folder by node, layout version and network namespace; only links are pinned, since a link holds its
//! program and that its maps. The later run replaces the programs of the links it finds, and is their owner from then on.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use agent_ebpf::abi::Direction;
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::hook::{Hook, Program, Target};

/// Where pins go unless told otherwise.
pub const DEFAULT: &str = "/sys/fs/bpf/orrery";
/// What the names in the folder mean; another number, another folder.
const LAYOUT: u32 = 1;
/// A symbolic link whose target is the owner's epoch: a BPF file system takes no plain files.
const OWNER: &str = "owner";

/// One agent's pins.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder under `base` and takes ownership of what is in it.
    ///
    /// # Errors
    /// When `base` is on no BPF file system, or cannot be written to.
    pub fn own(base: &Path, node: &str, epoch: u64) -> io::Result<Self> {
        let pins = Self { folder: folder(base, node)? };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pins.folder)?;
        let next = pins.folder.join("owner-next");
        // What a crash between the two lines below left.
        let _ = fs::remove_file(&next);
        symlink(epoch.to_string(), &next)?;
        fs::rename(&next, pins.folder.join(OWNER))?;
        Ok(pins)
    }

    /// Whether no later run has taken ownership.
    #[must_use]
    pub fn owned_by(&self, epoch: u64) -> bool {
        fs::read_link(self.folder.join(OWNER)).is_ok_and(|owner| owner.as_os_str() == epoch.to_string().as_str())
    }

    /// Nobody else takes over or lets go while this lives.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn lock(&self) -> io::Result<Flock<File>> {
        Flock::lock(File::open(&self.folder)?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    /// A device's pin.
    #[must_use]
    pub fn device(ifindex: u32, way: Direction) -> String {
        format!("tcx-{ifindex}-{}", word(way))
    }

    /// The cgroup's pin.
    #[must_use]
    pub fn cgroup(way: Direction) -> String {
        format!("cgroup-{}", word(way))
    }

    /// Takes over the link of this name if it is still on `target`, else makes one by `put` and pins it.
    ///
    /// # Errors
    /// What the kernel answered to `put` or to the pinning.
    pub fn take_or(
        &self,
        name: &str,
        target: Target,
        program: &Program,
        put: impl FnOnce() -> io::Result<Hook>,
    ) -> io::Result<Hook> {
        let path = self.folder.join(name);
        if let Ok(hook) = Hook::open(&path)
            && hook.info().is_ok_and(|(on, _)| on == target)
            && hook.update(program).is_ok()
        {
            return Ok(hook);
        }
        // A link that is on nothing any more holds nothing but memory.
        self.remove(name);
        let hook = put()?;
        hook.pin(&path)?;
        Ok(hook)
    }

    /// Removes a pin: with its last reference the link's program is off.
    pub fn remove(&self, name: &str) {
        // Gone already is as good.
        let _ = fs::remove_file(self.folder.join(name));
    }

    /// Removes every pin that `keep` does not name, and gives their names.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn sweep(&self, keep: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let mut gone = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != OWNER && !keep(&name) {
                self.remove(&name);
                gone.push(name);
            }
        }
        Ok(gone)
    }

    /// Removes the folder, and those above it that are empty then. Nothing may be pinned in it any more.
    pub fn close(&self) {
        let _ = fs::remove_file(self.folder.join(OWNER));
        remove_empty(&self.folder);
    }
}

/// Removes all that agents pinned under `base` for this network namespace, and says what it was.
///
/// # Errors
/// When something is there that cannot be removed.
pub fn clean(base: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    let Ok(nodes) = fs::read_dir(base) else { return Ok(removed) };
    for node in nodes {
        let node = node?.path();
        let Ok(runs) = fs::read_dir(&node) else { continue };
        for run in runs {
            let run = run?;
            if !run.file_name().to_string_lossy().ends_with(&format!("-{}", namespace()?)) {
                continue;
            }
            for pin in fs::read_dir(run.path())? {
                let pin = pin?;
                fs::remove_file(pin.path())?;
                if pin.file_name() != OWNER {
                    removed.push(pin.path());
                }
            }
            remove_empty(&run.path());
        }
    }
    Ok(removed)
}

/// Whether a path, or the nearest folder above it that is there, is on a BPF file system.
#[must_use]
pub fn on_bpffs(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists());
    there.is_some_and(|path| statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC))
}

/// A node's folder. Names in a BPF file system have no dots; pins of one network namespace are of no use in another,
/// whose devices have the same numbers.
fn folder(base: &Path, node: &str) -> io::Result<PathBuf> {
    let node: String = node.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    Ok(base.join(node).join(format!("v{LAYOUT}-{}", namespace()?)))
}

/// The number of our network namespace.
fn namespace() -> io::Result<u64> {
    fs::metadata("/proc/thread-self/ns/net").map(|found| found.ino())
}

fn remove_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
    if let Some(node) = folder.parent() {
        let _ = fs::remove_dir(node);
    }
}

fn word(way: Direction) -> &'static str {
    match way {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
