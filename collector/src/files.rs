//! A value made of files, made anew when they change: certificates and tokens are exchanged without a restart. Files that
//! cannot be used leave the last good value in place.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::metrics::counter::Counter;

/// Why files make no value. It never says what stands in them.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not there, or not ours to read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{path}: {what}; hint: {hint}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: &'static str,
    },
}

/// The most that is read of such a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file of certificates, keys or tokens.
///
/// # Errors
/// When it cannot be read, or is larger than any such file is.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        let what = format!("{bytes} bytes are no certificate, key or token");
        return Err(FileError::Content { path: path.to_owned(), what, hint: "another file" });
    }
    fs::read(path).map_err(failed)
}

/// What tells one state of a file from another.
type Stamp = Vec<Option<(u64, u64, i64, i64, i64, i64)>>;

fn stamp(paths: &[PathBuf]) -> Stamp {
    let of = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
    };
    paths.iter().map(of).collect()
}

type Make<T> = Box<dyn Fn() -> Result<T, FileError> + Send + Sync>;

/// A value, and the files it is made of.
pub struct Reread<T> {
    paths: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<(Stamp, Arc<T>)>,
    failures: Counter,
}

impl<T> std::fmt::Debug for Reread<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the value: it is a secret.
        f.debug_struct("Reread").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T> Reread<T> {
    /// Makes the value for the first time; `failures` counts the later times that did not succeed.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub fn new(
        paths: Vec<PathBuf>,
        failures: Counter,
        make: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        // Taken before reading: what changes meanwhile is read once more.
        let stamp = stamp(&paths);
        let value = Arc::new(make()?);
        Ok(Self { paths, make: Box::new(make), state: Mutex::new((stamp, value)), failures })
    }

    /// The value by the files as they are now, as far as they can be used.
    pub fn current(&self) -> Arc<T> {
        let now = stamp(&self.paths);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != now {
            // Also where it fails: each state of the files is tried, and told, once.
            state.0 = now;
            match (self.make)() {
                Ok(value) => {
                    state.1 = Arc::new(value);
                    tracing::info!(files = ?self.paths, "read again");
                }
                Err(error) => {
                    self.failures.inc();
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, files = ?self.paths, "changed and cannot be used: what was read before stays");
                }
            }
        }
        Arc::clone(&state.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, FileError, Reread, read};

    #[test]
    fn a_change_is_seen_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("n");
        std::fs::write(&path, "1").expect("write");
        let failures = Counter::default();
        let from = path.clone();
        let made = Reread::new(vec![path.clone()], failures.clone(), move || {
            let text = String::from_utf8(read(&from)?).expect("text");
            text.parse::<u32>().map_err(|_| FileError::Content {
                path: from.clone(),
                what: "odd".to_owned(),
                hint: "-",
            })
        });
        let number = made.expect("made");
        assert_eq!(*number.current(), 1);
        std::fs::write(&path, "22").expect("write");
        assert_eq!(*number.current(), 22);
        std::fs::write(&path, "x").expect("write");
        assert_eq!((*number.current(), *number.current(), failures.get()), (22, 22, 1));
        std::fs::remove_file(&path).expect("remove");
        assert_eq!((*number.current(), failures.get()), (22, 2));
        std::fs::write(&path, "333").expect("write");
        assert_eq!(*number.current(), 333);
        std::fs::write(&path, vec![b'1'; 2 << 20]).expect("write");
        assert_eq!((*number.current(), failures.get()), (333, 3));
    }
}
