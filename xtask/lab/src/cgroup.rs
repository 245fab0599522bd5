//! A subtree of cgroup v2 per node, shaped like the kubelet's, so that what reads cgroups finds what it knows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context, Result};
use crate::sys::wait_for;

/// Where the v2 hierarchy is mounted, if it is.
pub(crate) fn hierarchy() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// A lab's subtree; `None` where the machine has no v2 hierarchy.
fn root(id: &str) -> Option<PathBuf> {
    Some(hierarchy()?.join(format!("orrery-lab-{id}")))
}

/// A node's subtree: all that its pods' processes are in.
pub(crate) fn node(id: &str, node: &str) -> Option<PathBuf> {
    Some(root(id)?.join(node))
}

/// Makes a pod's cgroup and gives its path.
pub(crate) fn pod(id: &str, node: &str, uid: &str) -> Result<Option<PathBuf>> {
    let Some(node) = self::node(id, node) else {
        return Ok(None);
    };
    // An id of its own, as long as a real one's.
    let container = uid.replace('-', "").repeat(2);
    let uid = uid.replace('-', "_");
    let path = node
        .join("kubepods.slice/kubepods-burstable.slice")
        .join(format!("kubepods-burstable-pod{uid}.slice"))
        .join(format!("cri-containerd-{container}.scope"));
    std::fs::create_dir_all(&path).context(|| format!("make cgroup {}", path.display()))?;
    Ok(Some(path))
}

/// Removes a lab's subtree, or one pod's branch of it, deepest first.
pub(crate) fn remove(id: &str) {
    if let Some(root) = root(id).filter(|root| root.exists()) {
        remove_tree(&root);
    }
}

/// Removes a cgroup and those below it. A process that just ended may hold its cgroup for a moment.
pub(crate) fn remove_tree(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = wait_for("a cgroup to empty", Duration::from_secs(1), || std::fs::remove_dir(path).is_ok().then_some(()));
}
