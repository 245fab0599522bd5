//! What runs out for a while: room on the collector's disk, and processes.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The disk's size: room for far more than an hour of the soak's few edges.
const DISK_MIB: usize = 32;

/// A disk of the collector's own, which can be full.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Mounts it at `dir`, until it is dropped.
    pub(super) fn mount(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "none"]).arg(dir);
        let status = command.status().context("start mount")?;
        if !status.success() {
            bail!("mount a small disk at {}: {status}", dir.display());
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Takes all the room that is left.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        let path = self.ballast();
        let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let zeros = vec![0; 64 << 10];
        // More than the disk has never fits.
        for _ in 0..=(DISK_MIB << 20) / zeros.len() {
            match file.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("write {}", path.display())),
            }
        }
        bail!("{} does not get full", self.dir.display())
    }

    /// Gives it back.
    pub(super) fn free(&self) -> anyhow::Result<()> {
        let path = self.ballast();
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still writes there keeps it for as long.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

/// A cgroup in which no thread can be started, for a while.
#[derive(Debug)]
pub(super) struct Pids {
    dir: PathBuf,
}

impl Pids {
    /// Makes it; none where the kernel has no such controller to give.
    pub(super) fn open() -> anyhow::Result<Option<Self>> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        let Some(root) = controller(&mounts, |root| {
            let file = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
            // Handed down by the root, or not to be had.
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+pids");
            file("cgroup.subtree_control").split_whitespace().any(|name| name == "pids")
        }) else {
            return Ok(None);
        };
        let dir = root.join(format!("orrery-soak-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("make cgroup {}", dir.display()))?;
        Ok(Some(Self { dir }))
    }

    /// From now on none of these starts a thread or a process.
    pub(super) fn limit(&self, pids: impl Iterator<Item = u32>) -> anyhow::Result<()> {
        for pid in pids {
            self.write("cgroup.procs", &pid.to_string())?;
        }
        self.write("pids.max", "1")
    }

    /// From now on they do again.
    pub(super) fn lift(&self) -> anyhow::Result<()> {
        self.write("pids.max", "max")
    }

    /// How often it was refused.
    pub(super) fn refused(&self) -> u64 {
        let events = std::fs::read_to_string(self.dir.join("pids.events")).unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok()).unwrap_or(0)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {text} to {}", path.display()))
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        // Its processes have ended, or end with the lab: an empty one more is no harm.
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// Where cgroups that count processes are made: a hierarchy of version 1, or of version 2 where it has the controller.
fn controller(mounts: &str, has: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let all = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut kind = right.split(' ');
        Some((PathBuf::from(left.split(' ').nth(4)?), kind.next()?, kind.next_back()?))
    });
    let (first, second): (Vec<_>, Vec<_>) =
        all.filter(|(_, kind, _)| kind.starts_with("cgroup")).partition(|(_, kind, _)| *kind == "cgroup");
    let first = first.into_iter().find(|(_, _, options)| options.split(',').any(|option| option == "pids"));
    first.or_else(|| second.into_iter().find(|(root, _, _)| has(root))).map(|(root, _, _)| root)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::controller;

    #[test]
    fn either_version_of_cgroups_may_count_processes() {
        let both = "30 29 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    31 29 0:2 / /sys/fs/cgroup/pids rw shared:1 - cgroup cgroup rw,pids\n\
                    32 29 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(controller(both, |_| false), Some(PathBuf::from("/sys/fs/cgroup/pids")));
        let second = "32 29 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate";
        assert_eq!(controller(second, |_| true), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(controller(second, |_| false), None);
    }
}
