//! Which network namespaces are this agent's, where it is not the only one on its kernel: those that stand as files under
//! given names (`ip netns` puts them at /run/netns).

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};

/// Names of namespaces.
#[derive(Debug, Clone)]
pub struct Scope {
    names: Vec<(PathBuf, GlobMatcher)>,
}

impl Scope {
    /// From globs of whole paths whose folder is named plainly. `None` for one that is not understood.
    #[must_use]
    pub fn new(globs: &[String]) -> Option<Self> {
        let name = |glob: &String| {
            let folder = Path::new(glob).parent().filter(|folder| folder.is_absolute())?;
            let plain = !folder.to_string_lossy().contains(['*', '?', '[', '{']);
            let matcher = GlobBuilder::new(glob).literal_separator(true).build().ok()?.compile_matcher();
            plain.then(|| (folder.to_owned(), matcher))
        };
        Some(Self { names: globs.iter().map(name).collect::<Option<_>>()? })
    }

    /// Inodes of the namespaces that are there now, at most `limit`.
    #[must_use]
    pub fn inodes(&self, limit: usize) -> HashSet<u32> {
        let files = |(folder, matcher): &(PathBuf, GlobMatcher)| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            entries.filter(|path| matcher.is_match(path)).collect::<Vec<_>>()
        };
        let inode = |path: PathBuf| u32::try_from(fs::metadata(path).ok()?.ino()).ok();
        self.names.iter().flat_map(files).filter_map(inode).take(limit).collect()
    }
}

/// Inode of the calling thread's own network namespace; 0 if it cannot be known.
#[must_use]
pub fn own_netns() -> u32 {
    fs::metadata("/proc/thread-self/ns/net").ok().and_then(|file| u32::try_from(file.ino()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Scope;
    use std::{fs, os::unix::fs::MetadataExt as _};

    #[test]
    fn names_choose_files_of_one_folder() {
        let folder = std::env::temp_dir().join(format!("orrery-scope-{}", std::process::id()));
        fs::create_dir_all(folder.join("n1-deeper")).expect("a folder");
        for name in ["n1", "n1-a", "n10", "n2-a", "n1-deeper/x"] {
            fs::write(folder.join(name), "").expect("a file");
        }
        let globs = ["n1", "n1-?"].map(|name| folder.join(name).to_string_lossy().into_owned());
        let scope = Scope::new(&globs).expect("understood");
        let expect = ["n1", "n1-a"].map(|name| fs::metadata(folder.join(name)).expect("there").ino() as u32);
        assert_eq!(scope.inodes(9), expect.into());
        assert_eq!(scope.inodes(1).len(), 1);
        assert!(Scope::new(&["relative/*".to_owned()]).is_none());
        assert!(Scope::new(&["/run/*/x".to_owned()]).is_none());
        assert!(Scope::new(&["/run/netns/a[".to_owned()]).is_none());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
