//! Recordings: every accepted report and every pod list, with its time of arrival, in one bounded file; and their replay,
//! shifted to now.
//!
//! The file is `ORRYREC1`, then frames: kind (1 byte: 1 report, 2 pod list), arrival (8 bytes, nanoseconds since the Unix
//! epoch), length (4 bytes), payload; numbers little-endian. A frame cut short by a crash ends the recording.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    sync::{mpsc, watch},
};
use wire::codec::MAX_BODY_BYTES;

use crate::{metrics::Metrics, time::Ns};

const MAGIC: &[u8; 8] = b"ORRYREC1";
const FRAME_HEAD_BYTES: usize = 13;
/// Frames that wait for the disk.
const QUEUE: usize = 256;
/// The largest pod list that is read, and so the largest in a recording.
pub const MAX_LIST_BYTES: usize = 256 << 20;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be made.
    #[error("create recording {path}")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("open recording {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a recording.
    #[error("no recording: {path}; hint: record one with --record")]
    NotOne {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read on.
    #[error("read recording")]
    Read(#[source] io::Error),
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A report's body as posted.
    Report,
    /// A pod list's JSON as read.
    PodList,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// When it came.
    pub arrived: Ns,
    /// The bytes.
    pub payload: Bytes,
}

/// The way to the writer: never waits.
#[derive(Debug, Clone)]
pub struct Recorder {
    frames: mpsc::Sender<Frame>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// Makes the file, and the writer's task, which ends on `shutdown` with everything written.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn create(
        path: &Path,
        max_bytes: u64,
        metrics: Arc<Metrics>,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), RecordError> {
        let create = |source| RecordError::Create { path: path.to_owned(), source };
        let mut file = BufWriter::new(File::create(path).await.map_err(create)?);
        file.write_all(MAGIC).await.map_err(create)?;
        file.flush().await.map_err(create)?;
        let (frames, queue) = mpsc::channel(QUEUE);
        let task = write(file, queue, max_bytes, Arc::clone(&metrics), shutdown);
        Ok((Self { frames, metrics }, task))
    }

    /// Keeps a report.
    pub fn report(&self, arrived: Ns, payload: Bytes) {
        self.put(Frame { kind: Kind::Report, arrived, payload });
    }

    /// Keeps a pod list.
    pub fn pod_list(&self, arrived: Ns, payload: Bytes) {
        self.put(Frame { kind: Kind::PodList, arrived, payload });
    }

    fn put(&self, frame: Frame) {
        if self.frames.try_send(frame).is_err() {
            self.metrics.unrecorded_reports.inc();
        }
    }
}

async fn write(
    mut file: BufWriter<File>,
    mut queue: mpsc::Receiver<Frame>,
    max_bytes: u64,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut written = MAGIC.len() as u64;
    let mut open = true;
    loop {
        let frame = tokio::select! {
            biased;
            frame = queue.recv() => frame,
            _ = shutdown.wait_for(|over| *over) => None,
        };
        let Some(frame) = frame else { break };
        let bytes = (FRAME_HEAD_BYTES + frame.payload.len()) as u64;
        if !open || written + bytes > max_bytes {
            if open {
                tracing::warn!(max_bytes, "recording is full: what comes now is not recorded");
            }
            open = false;
            metrics.unrecorded_reports.inc();
            continue;
        }
        let result = write_frame(&mut file, &frame).await;
        // Whoever kills us between two frames finds all of them.
        let result = if queue.is_empty() { result.and(file.flush().await) } else { result };
        if let Err(error) = result {
            tracing::error!(%error, "recording failed: what comes now is not recorded");
            open = false;
            continue;
        }
        written += bytes;
        metrics.recorded_bytes.inc_by(bytes);
    }
    if let Err(error) = file.flush().await {
        tracing::error!(%error, "recording may lack its end");
    }
}

async fn write_frame(file: &mut BufWriter<File>, frame: &Frame) -> io::Result<()> {
    let kind: u8 = match frame.kind {
        Kind::Report => 1,
        Kind::PodList => 2,
    };
    let length = u32::try_from(frame.payload.len()).map_err(io::Error::other)?;
    file.write_u8(kind).await?;
    file.write_i64_le(frame.arrived).await?;
    file.write_u32_le(length).await?;
    file.write_all(&frame.payload).await
}

/// A recording being read.
#[derive(Debug)]
pub struct Recording {
    file: BufReader<File>,
}

impl Recording {
    /// Opens a recording.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(path: &Path) -> Result<Self, RecordError> {
        let open = |source| RecordError::Open { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).await.map_err(open)?);
        let mut magic = [0; 8];
        match file.read_exact(&mut magic).await {
            Ok(_) if &magic == MAGIC => Ok(Self { file }),
            _ => Err(RecordError::NotOne { path: path.to_owned() }),
        }
    }

    /// The next frame; `None` at the end, and where the file was cut short.
    ///
    /// # Errors
    /// When the file cannot be read on, or a length is beyond what a recorder writes.
    pub async fn next(&mut self) -> Result<Option<Frame>, RecordError> {
        match self.read().await {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(RecordError::Read(error)),
        }
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let (kind, limit) = match self.file.read_u8().await? {
            1 => (Kind::Report, MAX_BODY_BYTES),
            2 => (Kind::PodList, MAX_LIST_BYTES),
            other => return Err(io::Error::other(format!("frame of unknown kind: {other}"))),
        };
        let arrived = self.file.read_i64_le().await?;
        let length = self.file.read_u32_le().await? as usize;
        if length > limit {
            return Err(io::Error::other(format!("frame too long: {length}")));
        }
        let mut payload = vec![0; length];
        self.file.read_exact(&mut payload).await?;
        Ok(Frame { kind, arrived, payload: payload.into() })
    }
}

/// How long to wait before a frame that arrived at `arrived` is due, `shift` later than it was.
#[must_use]
pub fn due_in(arrived: Ns, shift: Ns, now: Ns) -> Duration {
    let wait = arrived.saturating_add(shift).saturating_sub(now);
    Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
}
