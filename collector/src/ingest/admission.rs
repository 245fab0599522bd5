//! How much is let in at once: by bytes, by reports, by node. What finds no room is told to come again, and holds nothing.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Bodies unpacked at once: each may be 32 MiB then.
const MAX_DECODING: usize = 8;
/// Bytes of bodies held at once, packed.
const MAX_READING_BYTES: usize = 64 << 20;
/// Bytes of reports that wait for the hub, as they were unpacked; in memory they are some five times that.
const MAX_QUEUED_BYTES: usize = 128 << 20;
/// A body waits no longer than this for its turn, nor a report for its place in the queue.
pub(super) const TURN: Duration = Duration::from_secs(2);
/// A body may take this long to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// What may be under way.
#[derive(Debug)]
pub struct Admission {
    /// Turns at unpacking.
    pub turns: Arc<Semaphore>,
    /// Bytes being read.
    pub reading: Arc<Semaphore>,
    /// Bytes that wait.
    pub queued: Arc<Semaphore>,
    /// How long a body may take.
    pub patience: Duration,
    /// Nodes of which a report waits.
    pub waiting: Mutex<HashSet<String>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MAX_DECODING)),
            reading: Arc::new(Semaphore::new(MAX_READING_BYTES)),
            queued: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            patience: PATIENCE,
            waiting: Mutex::default(),
        }
    }
}

/// A node's place, until its report was answered.
pub(super) struct Place<'a> {
    admission: &'a Admission,
    node: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.node);
    }
}

impl Admission {
    pub(super) fn reading(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        take(&self.reading, bytes)
    }

    pub(super) fn queued(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        take(&self.queued, bytes)
    }

    pub(super) fn node(&self, node: &str) -> Result<Place<'_>, Refusal> {
        let new = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned());
        if new { Ok(Place { admission: self, node: node.to_owned() }) } else { Err(Refusal::NodeWaits) }
    }
}

fn take(of: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let bytes = u32::try_from(bytes).map_err(|_| Refusal::Bytes)?;
    Arc::clone(of).try_acquire_many_owned(bytes).map_err(|_| Refusal::Bytes)
}
