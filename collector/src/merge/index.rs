//! Ways to find edges, and when a device was seen at work. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    FlowId, Merge,
    flow::{Row, Source},
    key::FlowKey,
    node::NodeId,
};
use crate::{
    hash::HashMap,
    time::{MINUTE, Ns},
};

/// What a device did longer ago tells nobody apart any more.
const SPAN_KEPT: Ns = 10 * MINUTE;

/// Beside the edges themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    by_address: HashMap<IpAddr, BTreeSet<FlowId>>,
    spans: HashMap<(NodeId, u64, u64), (Ns, Ns)>,
}

impl Index {
    pub(super) fn add(&mut self, key: &FlowKey, id: FlowId) {
        for address in [key.client, key.server] {
            self.by_address.entry(address).or_default().insert(id);
        }
    }

    pub(super) fn remove(&mut self, key: &FlowKey, id: FlowId) {
        for address in [key.client, key.server] {
            if let Some(ids) = self.by_address.get_mut(&address) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    /// A pod's device was at work from the row's first packet to its last.
    pub(super) fn see(&mut self, row: &Row) {
        let Source { node, epoch, device, .. } = row.source;
        let last = row.last_seen();
        let span = self.spans.entry((node, epoch, device)).or_insert((row.first_seen, last));
        *span = (span.0.min(row.first_seen), span.1.max(last));
    }

    pub(super) fn forget_spans(&mut self, now: Ns) {
        self.spans.retain(|_, (_, last)| now.saturating_sub(*last) < SPAN_KEPT);
    }
}

impl Row {
    /// When its last packet passed, by the collector's clock.
    #[must_use]
    pub fn last_seen(&self) -> Ns {
        self.first_seen.max(self.totals.forward_last).max(self.totals.reverse_last)
    }
}

impl Merge {
    /// The edges that begin or end at `address`.
    pub fn flows_at(&self, address: IpAddr) -> impl Iterator<Item = FlowId> {
        self.index.by_address.get(&address).into_iter().flatten().copied()
    }

    /// From when to when a source's device was at work, if it is a pod's and that is not long ago. A device belongs to one pod.
    #[must_use]
    pub fn span(&self, source: Source) -> Option<(Ns, Ns)> {
        self.index.spans.get(&(source.node, source.epoch, source.device)).copied()
    }

    /// Lets go of devices that have been silent for long.
    pub fn forget_spans(&mut self, now: Ns) {
        self.index.forget_spans(now);
    }
}
