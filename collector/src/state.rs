//! The state directory: one file of tables, written in batches beside the hub. What is wrong with it is said, set aside or
//! counted, and never stops the collector from showing what is live.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    clock,
    keep::{Batch, Kept, Table, VERSION},
    metrics::Metrics,
};

/// The file's name.
const FILE: &str = "orrery.redb";
/// What could not be read is kept under this name; one that was there goes.
const ASIDE: &str = "orrery.redb.set-aside";
/// Where the version is kept.
const VERSION_KEY: &[u8] = b"version";
/// Batches that wait for the disk.
const QUEUE: usize = 2;
/// A file that could not be opened or written is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Memory for pages of the file.
const CACHE: usize = 16 << 20;

/// Why the state directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, read or written.
    #[error("use the state directory {path}: {source}; hint: --state-dir needs a directory that this user may write to", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("{path} is in use by another collector; hint: every collector needs a --state-dir of its own", path = path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// How a load went wrong.
enum Failure {
    InUse,
    Io(io::Error),
    Damaged(String),
}

/// The open file.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    database: Option<Database>,
    max_bytes: u64,
    tried: Instant,
    failing: bool,
    metrics: Arc<Metrics>,
}

/// The way to the writer.
#[derive(Debug)]
pub struct Writer {
    /// For batches.
    pub batches: mpsc::Sender<Batch>,
    /// Batches that were not written: what was in them has to be written anew.
    pub lost: Arc<AtomicU64>,
}

impl State {
    /// Opens or makes the file in `dir` and reads all of it. What cannot be read is set aside.
    ///
    /// # Errors
    /// When the directory cannot be used, or another collector uses it.
    pub fn open(dir: &Path, max_bytes: u64, metrics: Arc<Metrics>) -> Result<(Self, Kept), StateError> {
        let path = dir.join(FILE);
        let directory = |source| StateError::Directory { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(directory)?;
        let mut state = Self { path, database: None, max_bytes, tried: clock::instant(), failing: false, metrics };
        let loaded = catch_unwind(AssertUnwindSafe(|| load(&state.path)))
            .unwrap_or_else(|_| Err(Failure::Damaged("its pages contradict each other".to_owned())));
        match loaded {
            Ok((database, kept)) => {
                state.database = Some(database);
                Ok((state, kept))
            }
            Err(Failure::InUse) => Err(StateError::InUse { path: state.path }),
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(%error, path = %state.path.display(), "the disk is full: nothing is kept for now");
                state.metrics.state_failures.inc();
                Ok((state, Kept::default()))
            }
            Err(Failure::Io(error)) => Err(directory(error)),
            Err(Failure::Damaged(why)) => {
                state.set_aside(&why).map_err(directory)?;
                Ok((state, Kept::default()))
            }
        }
    }

    /// Puts the file out of the way and begins another.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(&mut self, why: &str) -> io::Result<()> {
        self.database = None;
        let aside = self.path.with_file_name(ASIDE);
        tracing::error!(
            why,
            file = %self.path.display(),
            aside = %aside.display(),
            "the kept state cannot be used: it is set aside, and totals count from now; hint: a collector of the version that wrote it can read it"
        );
        self.metrics.state_set_aside.inc();
        fs::rename(&self.path, aside)?;
        self.database = create(&self.path).ok();
        Ok(())
    }

    /// The way to the writer, and the writer: it runs until the way is closed, and blocks.
    pub fn writer(mut self) -> (Writer, impl FnOnce() + Send + 'static) {
        let (batches, mut receiver) = mpsc::channel::<Batch>(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let work = move || {
            while let Some(batch) = receiver.blocking_recv() {
                if let Err(error) = self.write(&batch) {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(error, path = %self.path.display(), "the state could not be written; it is tried again");
                    }
                    self.metrics.state_failures.inc();
                    counter.fetch_add(1, Ordering::Release);
                } else if std::mem::replace(&mut self.failing, false) {
                    tracing::info!(path = %self.path.display(), "the state is written again");
                }
            }
        };
        (Writer { batches, lost }, work)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), String> {
        if self.database.is_none() {
            if !batch.last && self.tried.elapsed() < RETRY {
                return Err("it could not be opened".to_owned());
            }
            self.tried = clock::instant();
            self.database = Some(create(&self.path).map_err(|error| error.to_string())?);
        }
        let size = || fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if size() > self.max_bytes {
            // Pages that are free are at its end after this.
            let compacted = self.database.as_mut().map(Database::compact);
            if !matches!(compacted, Some(Ok(_))) || size() > self.max_bytes {
                return Err(format!("it is larger than {} bytes; hint: --state-max", self.max_bytes));
            }
        }
        let Some(database) = &self.database else { return Err("it is not open".to_owned()) };
        let written = commit(database, batch);
        self.metrics.state_bytes.set(i64::try_from(size()).unwrap_or(i64::MAX));
        if let Err(error) = written {
            // After an error of the disk the file has to be opened anew.
            self.database = None;
            self.tried = clock::instant();
            return Err(error.to_string());
        }
        self.metrics.state_batches.inc();
        Ok(())
    }
}

const fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn create(path: &Path) -> Result<Database, DatabaseError> {
    let existed = path.exists();
    let made = Database::builder().set_cache_size(CACHE).create(path);
    if made.is_err() && !existed {
        // Half a file would be taken for a damaged one.
        let _ = fs::remove_file(path);
    }
    made
}

/// What a batch does to one table.
#[derive(Default)]
struct Changes<'a> {
    deletes: Vec<&'a [u8]>,
    puts: Vec<(&'a [u8], &'a [u8])>,
}

fn commit(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    if batch.anew {
        for table in Table::ALL {
            transaction.delete_table(definition(table))?;
        }
    }
    let version = VERSION.to_be_bytes();
    let mut by_table: BTreeMap<Table, Changes<'_>> = BTreeMap::new();
    for (table, key) in &batch.deletes {
        by_table.entry(*table).or_default().deletes.push(key);
    }
    for (table, key, value) in &batch.puts {
        by_table.entry(*table).or_default().puts.push((key, value));
    }
    by_table.entry(Table::Head).or_default().puts.push((VERSION_KEY, &version));
    for (table, Changes { deletes, puts }) in by_table {
        let mut table = transaction.open_table(definition(table))?;
        for key in deletes {
            table.remove(key)?;
        }
        for (key, value) in puts {
            table.insert(key, value)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn load(path: &Path) -> Result<(Database, Kept), Failure> {
    let mut database = create(path).map_err(of_database)?;
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => tracing::warn!(path = %path.display(), "the state was not closed well and was repaired"),
        Err(error) => return Err(of_database(error)),
    }
    let kept = read(&database).map_err(|error| Failure::Damaged(error.to_string()))?;
    let Some(version) = kept.get(Table::Head, VERSION_KEY) else {
        let empty = kept.0.values().all(BTreeMap::is_empty);
        let ours = || foreign(&database).map_err(|error| Failure::Damaged(error.to_string()));
        return if empty && !ours()? {
            Ok((database, kept))
        } else {
            Err(Failure::Damaged("it is not Orrery's".to_owned()))
        };
    };
    match <[u8; 4]>::try_from(version).map(u32::from_be_bytes) {
        Ok(VERSION) => Ok((database, kept)),
        Ok(other) => {
            Err(Failure::Damaged(format!("it has version {other}, and this collector reads version {VERSION}")))
        }
        Err(_) => Err(Failure::Damaged("its version is no number".to_owned())),
    }
}

/// It has tables that are none of ours.
fn foreign(database: &Database) -> Result<bool, redb::Error> {
    use redb::TableHandle as _;
    let transaction = database.begin_read()?;
    Ok(transaction.list_tables()?.any(|table| Table::ALL.iter().all(|ours| ours.name() != table.name())))
}

fn read(database: &Database) -> Result<Kept, redb::Error> {
    let transaction = database.begin_read()?;
    let mut kept = Kept::default();
    for name in Table::ALL {
        let table = match transaction.open_table(definition(name)) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let rows = kept.0.entry(name).or_default();
        for row in table.iter()? {
            let (key, value) = row?;
            rows.insert(key.value().to_vec(), value.value().to_vec());
        }
    }
    Ok(kept)
}

/// No fault of the file's content.
fn of_the_disk(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    matches!(kind, IsADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem | StorageFull)
}

fn of_database(error: DatabaseError) -> Failure {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Failure::InUse,
        DatabaseError::Storage(StorageError::Io(error)) if of_the_disk(error.kind()) => Failure::Io(error),
        other => Failure::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Metrics, RETRY, State};
    use crate::{
        clock,
        keep::{Batch, Table},
    };

    /// The disk may have room again by the time a collector ends: what it writes last does not wait for the next try.
    #[test]
    fn the_last_batch_is_tried_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut state, _) = State::open(dir.path(), 1 << 20, Arc::new(Metrics::default())).expect("it opens");
        (state.database, state.tried) = (None, clock::instant());
        let batch = |last| {
            let mut batch = Batch { last, ..Batch::default() };
            batch.put(Table::Head, b"key".as_slice(), b"value".to_vec());
            batch
        };
        assert!(RETRY.as_secs() > 1 && state.write(&batch(false)).is_err(), "a file that failed rests");
        state.write(&batch(true)).expect("there is room");
        drop(state);
        let (_, kept) = State::open(dir.path(), 1 << 20, Arc::new(Metrics::default())).expect("it opens");
        assert_eq!(kept.get(Table::Head, b"key").map(<[u8]>::to_vec), Some(b"value".to_vec()));
    }
}
