//! From a socket's cgroup and process to container and pod, by the cgroup file system. It reads directory names only, and
//! a process's own list where those tell nothing.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirEntryExt as _,
    path::{Path, PathBuf},
};

use agent_ebpf::facts::{SocketKey, SocketTotals, cgroup_number};
use wire::v1::Owner;

use crate::{
    cgroup::{self, Place},
    facts::Whose,
};

/// Cgroups remembered at the most; a machine has a few hundred.
const MAX_CGROUPS: usize = 16_384;
/// Processes remembered at the most, for as long as [`PROCESS_NS`].
const MAX_PROCESSES: usize = 4_096;
/// The hierarchy is walked again this often at the most, and only for a cgroup that is not known.
const WALK_EVERY_NS: u64 = 1_000_000_000;
/// A process id may be another's after this long.
const PROCESS_NS: u64 = 60_000_000_000;

/// The cgroups of this machine, as far as they were asked for.
#[derive(Debug)]
pub struct Owners {
    root: Option<PathBuf>,
    /// Only what lies below `root` is ours.
    scoped: bool,
    places: HashMap<u32, Place>,
    processes: HashMap<u32, (Place, u64)>,
    walked_ns: Option<u64>,
}

/// Where the v2 hierarchy is mounted: on hybrid machines that is not `/sys/fs/cgroup`.
#[must_use]
pub fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

impl Owners {
    /// Below `scope`, or in the whole v2 hierarchy.
    #[must_use]
    pub fn new(scope: Option<&Path>) -> Self {
        Self {
            root: scope.map(Path::to_owned).or_else(hierarchy),
            scoped: scope.is_some(),
            places: HashMap::new(),
            processes: HashMap::new(),
            walked_ns: None,
        }
    }

    /// Whose the sockets of an entry are.
    pub fn whose(&mut self, key: &SocketKey, totals: &SocketTotals, now_ns: u64) -> Whose {
        let owner = match self.of_cgroup(cgroup_number(key.cgroup), now_ns) {
            Whose::Ours(owner) => owner,
            other => return other,
        };
        let place = if owner.container.is_empty() && owner.pod_uid.is_empty() {
            self.of_process(totals.pid, now_ns)
        } else {
            Place { container: owner.container, pod_uid: owner.pod_uid }
        };
        let process = totals.process.split(|byte| *byte == 0).next().unwrap_or_default();
        Whose::Ours(Owner {
            process: String::from_utf8_lossy(process).into_owned(),
            cgroup: owner.cgroup,
            container: place.container,
            pod_uid: place.pod_uid,
        })
    }

    /// Whose a cgroup is, by its place in the hierarchy alone.
    pub fn of_cgroup(&mut self, cgroup: u32, now_ns: u64) -> Whose {
        let known = self.places.get(&cgroup).cloned();
        let place = match known {
            Some(place) => place,
            None if cgroup == 0 => Place::default(),
            None => {
                let due = self.walked_ns.is_none_or(|walked| now_ns.saturating_sub(walked) >= WALK_EVERY_NS);
                if !due {
                    return Whose::Unknown;
                }
                self.walk(now_ns);
                match self.places.get(&cgroup).cloned() {
                    Some(place) => place,
                    None if self.scoped => return Whose::NotOurs,
                    // It is gone already, or we see another part of the hierarchy: nothing more will be known.
                    None => self.places.entry(cgroup).or_default().clone(),
                }
            }
        };
        let Place { container, pod_uid } = place;
        Whose::Ours(Owner { process: String::new(), cgroup: cgroup.into(), container, pod_uid })
    }

    fn walk(&mut self, now_ns: u64) {
        self.walked_ns = Some(now_ns);
        self.places.clear();
        let Some(root) = self.root.clone() else { return };
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if self.places.len() >= MAX_CGROUPS {
                    return;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = entry.path();
                    // A cgroup's id is its directory's inode.
                    self.places.insert(cgroup_number(entry.ino()), cgroup::place(&path.to_string_lossy()));
                    folders.push(path);
                }
            }
        }
    }

    /// Where v1 hierarchies hold the containers, a process's own list tells.
    fn of_process(&mut self, pid: u32, now_ns: u64) -> Place {
        if pid == 0 {
            return Place::default();
        }
        if let Some((place, read_ns)) = self.processes.get(&pid)
            && now_ns.saturating_sub(*read_ns) < PROCESS_NS
        {
            return place.clone();
        }
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let place = cgroup::of_process(&text).map(cgroup::place).unwrap_or_default();
        self.processes.insert(pid, (place.clone(), now_ns));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::{Owners, WALK_EVERY_NS};
    use crate::facts::Whose;
    use agent_ebpf::facts::{SocketKey, SocketTotals};
    use std::{fs, os::unix::fs::MetadataExt as _};

    #[test]
    fn what_is_below_the_scope_is_ours_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("orrery-owners-{}", std::process::id()));
        let uid = "12345678-9abc-4def-8123-456789abcdef";
        let pod = root.join("ours/kubepods").join(format!("pod{uid}"));
        let (ours, other) = (pod.join("a".repeat(64)), root.join("other"));
        for folder in [&ours, &other] {
            fs::create_dir_all(folder).expect("a folder");
        }
        let key = |path: &std::path::Path| SocketKey {
            cgroup: fs::metadata(path).expect("it is there").ino(),
            ..SocketKey::default()
        };
        let mut process = [0; 16];
        process[..4].copy_from_slice(b"curl");
        let totals = SocketTotals { process, ..SocketTotals::EMPTY };
        let mut owners = Owners::new(Some(&root.join("ours")));
        let Whose::Ours(owner) = owners.whose(&key(&ours), &totals, 1) else { panic!("ours") };
        assert_eq!((owner.process.as_str(), owner.pod_uid.as_str(), owner.container.len()), ("curl", uid, 64));
        assert_eq!(owners.whose(&key(&other), &totals, 2), Whose::Unknown, "the walk is not repeated at once");
        assert_eq!(owners.whose(&key(&other), &totals, 2 + WALK_EVERY_NS), Whose::NotOurs);
        let mut all = Owners::new(None);
        assert!(
            matches!(all.whose(&SocketKey::default(), &totals, 1), Whose::Ours(owner) if owner.container.is_empty())
        );
        fs::remove_dir_all(&root).expect("removed");
    }
}
