//! What outlives this run: what changed goes to the writer in batches, and a batch that was lost is made up for.

use std::{sync::atomic::Ordering, time::Duration};

use super::Hub;
use crate::{
    hash::{HashMap, HashSet},
    history::{History, Mirror, Span},
    keep::{Batch, Damaged, Kept, Table},
    merge::{Bounds, Change, FlowId, Merge, keep::key_bytes},
    state::Writer,
    time::Ns,
};

/// Edges of one batch: a batch is made between two reports.
const MAX_FLOWS: usize = 1_024;
/// Nodes are written every this many refreshes.
const NODES_EVERY: u32 = 20;
/// After a batch that was lost, so many refreshes pass before all of it is written anew.
const REST: u32 = 20;
/// The last batch waits no longer than this for the disk.
const LAST: Duration = Duration::from_secs(3);
/// Since when totals count.
const SINCE: &[u8] = b"since";

/// What a run before had kept.
#[derive(Debug)]
pub struct Restored {
    /// Totals, marks and tombstones.
    pub merge: Merge,
    /// The last hour.
    pub history: History,
    /// Since when totals count.
    pub since_ms: i64,
}

impl Restored {
    /// Reads what was kept; `None` where that is nothing.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn of(kept: &Kept, bounds: Bounds, span: Span, now: Ns) -> Result<Option<Self>, Damaged> {
        let Some(since) = kept.get(Table::Head, SINCE) else { return Ok(None) };
        let since = <[u8; 8]>::try_from(since).map_err(|_| Damaged::row(Table::Head))?;
        Ok(Some(Self {
            merge: Merge::restore(bounds, now, kept)?,
            history: History::restore(span, now, kept)?,
            since_ms: i64::from_be_bytes(since),
        }))
    }
}

/// What the writer does not have yet.
#[derive(Debug)]
pub(super) struct Keeping {
    writer: Writer,
    seen_lost: u64,
    /// All of it has to be written.
    anew: bool,
    flows: HashSet<FlowId>,
    keys: HashMap<FlowId, Vec<u8>>,
    gone: Vec<Vec<u8>>,
    mirror: Mirror,
    sealed: bool,
    folded: u64,
    rest: u32,
    ticks: u32,
}

impl Keeping {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer,
            seen_lost: 0,
            anew: true,
            flows: HashSet::default(),
            keys: HashMap::default(),
            gone: Vec::new(),
            mirror: Mirror::default(),
            sealed: false,
            folded: 0,
            rest: 0,
            ticks: 0,
        }
    }

    pub(super) fn note(&mut self, changes: &[(FlowId, Change)]) {
        for (id, change) in changes {
            if *change == Change::Removed {
                self.flows.remove(id);
                self.gone.extend(self.keys.remove(id));
            } else {
                self.flows.insert(*id);
            }
        }
    }

    /// A bucket was sealed.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
    }
}

impl Hub {
    /// Hands what changed to the writer, if it is ready for more. Call it at each refresh.
    pub(super) fn keep(&mut self) {
        let Some(mut keeping) = self.keeping.take() else { return };
        let lost = keeping.writer.lost.load(Ordering::Acquire);
        if lost != keeping.seen_lost {
            // What was in it is not known any more: everything once more, in a while.
            (keeping.seen_lost, keeping.anew, keeping.rest) = (lost, true, REST);
        }
        if keeping.rest > 0 {
            keeping.rest -= 1;
        } else if keeping.writer.batches.capacity() > 0 {
            let batch = self.batch(&mut keeping, false);
            if !batch.is_empty() && keeping.writer.batches.try_send(batch).is_err() {
                keeping.anew = true;
            }
        } else {
            self.metrics.state_waits.inc();
        }
        self.keeping = Some(keeping);
    }

    /// Writes everything once more and closes the way to the writer.
    pub(super) async fn keep_last(mut self) {
        let now = (self.clock)();
        self.merge.evaluate_changed(now);
        let mut changes = self.merge.take_changes();
        // What waited as there was a crowd is written, too.
        changes.extend(self.merge.take_changes());
        let Some(mut keeping) = self.keeping.take() else { return };
        keeping.note(&changes);
        keeping.anew |= keeping.writer.lost.load(Ordering::Acquire) != keeping.seen_lost;
        let batch = Batch { last: true, ..self.batch(&mut keeping, true) };
        if tokio::time::timeout(LAST, keeping.writer.batches.send(batch)).await.is_err() {
            tracing::warn!("the last state was not written: the disk did not keep up");
        }
    }

    fn batch(&self, keeping: &mut Keeping, all: bool) -> Batch {
        let mut batch = Batch::default();
        let anew = std::mem::take(&mut keeping.anew);
        if anew {
            (keeping.mirror, keeping.keys) = (Mirror::default(), HashMap::default());
            keeping.gone.clear();
            keeping.flows = self.merge.flows().map(|(id, _)| id).collect();
            batch.anew = true;
            batch.put(Table::Head, SINCE, self.identity.since_ms.to_be_bytes().to_vec());
        }
        // An edge's folded rows and their node's folded epochs must be written in one step.
        let folded = self.merge.nodes().fold(0_u64, |sum, node| sum.wrapping_add(node.folded_through));
        let folds = std::mem::replace(&mut keeping.folded, folded) != folded;
        let limit = if anew || all || folds { usize::MAX } else { MAX_FLOWS };
        let some: Vec<FlowId> = keeping.flows.iter().copied().take(limit).collect();
        for id in some {
            keeping.flows.remove(&id);
            if let Some(flow) = self.merge.flow(id) {
                self.merge.keep_flow(id, &mut batch);
                keeping.keys.entry(id).or_insert_with(|| key_bytes(&flow.key));
            }
        }
        for key in keeping.gone.drain(..) {
            batch.delete(Table::Flows, key);
        }
        keeping.ticks = keeping.ticks.wrapping_add(1);
        if anew || all || folds || keeping.ticks.is_multiple_of(NODES_EVERY) {
            self.merge.keep_nodes(&mut batch);
        }
        if anew || all || std::mem::take(&mut keeping.sealed) {
            self.history.keep(&mut keeping.mirror, &mut batch);
        }
        batch
    }
}
