//! Watches the pod file: read again whenever it changes, off the event loop. A broken file is said, and changes nothing.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    hub::{Command, HubHandle, NamesUpdate},
    metrics::Metrics,
    names::{Inventory, file},
    record::{MAX_LIST_BYTES, Recorder},
    time::Ns,
};

/// The file is looked at this often.
const POLL: Duration = Duration::from_millis(500);

/// Why the file could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("read {name}: {source}; hint: kubectl get pods,services,nodes -A -o json > {name}")]
    Read { name: String, source: std::io::Error },
    #[error("pod file too large: {name}: {bytes} bytes")]
    TooLarge { name: String, bytes: u64 },
    #[error("{name}: {source}")]
    Parse { name: String, source: file::ParseError },
}

/// What identifies a version of the file without reading it.
type Stamp = (u64, i64, i64, u64);

/// The watcher.
#[derive(Debug)]
pub struct PodFile {
    /// The file.
    pub path: PathBuf,
    /// The way to the hub.
    pub hub: HubHandle,
    /// Keeps what was read, if asked to.
    pub recorder: Option<Recorder>,
    /// Set once it was read.
    pub ready: Arc<AtomicBool>,
    /// The collector's own numbers.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: fn() -> Ns,
}

impl PodFile {
    /// Watches until `shutdown` turns true.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        // Nothing was looked at yet, which differs from "not there".
        let mut seen: Option<Option<Stamp>> = None;
        let mut broken = false;
        loop {
            let path = self.path.clone();
            let before = seen;
            let looked = tokio::task::spawn_blocking(move || look(&path, before)).await;
            if let Ok((stamp, Some(result))) = looked {
                seen = Some(stamp);
                let failed = result.is_err();
                if self.tell(result, broken).await.is_none() {
                    return;
                }
                broken = failed;
            }
            tokio::select! {
                _ = shutdown.wait_for(|over| *over) => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn tell(&self, result: Result<(Inventory, Bytes), ReadError>, was_broken: bool) -> Option<()> {
        let update = match result {
            Ok((inventory, bytes)) => {
                self.metrics.names_read.inc();
                if was_broken {
                    tracing::info!("the pod file can be read again");
                }
                if let Some(recorder) = &self.recorder {
                    recorder.pod_list((self.clock)(), bytes);
                }
                NamesUpdate::Read { inventory, source: "file" }
            }
            Err(error) => {
                self.metrics.names_failed.inc();
                if !was_broken {
                    tracing::warn!(%error, "the pod file cannot be read: the last good one stays");
                }
                NamesUpdate::Failed { error: error.to_string() }
            }
        };
        let good = matches!(update, NamesUpdate::Read { .. });
        self.hub.commands.send(Command::Names(update)).await.ok()?;
        if good {
            self.ready.store(true, Ordering::Release);
        }
        Some(())
    }
}

type Look = (Option<Stamp>, Option<Result<(Inventory, Bytes), ReadError>>);

/// The file's stamp, and its content if that differs from what was seen.
fn look(path: &Path, seen: Option<Option<Stamp>>) -> Look {
    let name =
        || path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(source) => {
            let news = (seen != Some(None)).then(|| Err(ReadError::Read { name: name(), source }));
            return (None, news);
        }
    };
    let stamp = Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()));
    if seen == Some(stamp) {
        return (stamp, None);
    }
    if metadata.len() > MAX_LIST_BYTES as u64 {
        return (stamp, Some(Err(ReadError::TooLarge { name: name(), bytes: metadata.len() })));
    }
    let read = std::fs::read(path).map_err(|source| ReadError::Read { name: name(), source });
    let parsed = read.and_then(|bytes| {
        let inventory = file::parse(&bytes).map_err(|source| ReadError::Parse { name: name(), source })?;
        Ok((inventory, Bytes::from(bytes)))
    });
    (stamp, Some(parsed))
}
