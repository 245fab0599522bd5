//! One view that somebody looks at: its projection, its recent deltas, its subscribers.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::broadcast;

use super::Subscription;
use crate::{
    graph::Identity,
    merge::{Change, FlowId, Merge},
    metrics::Metrics,
    names::Names,
    project::Projection,
    time::Ns,
    view::{NamesRow, NodeRow, View},
};

/// Deltas kept for clients that come back.
const RECENT: usize = 256;
/// And this many bytes of them at the most.
const RECENT_BYTES: usize = 16 << 20;
/// Events a client may be behind before it is given a fresh snapshot.
const LAG: usize = 32;

#[derive(Debug)]
pub(super) struct LiveView {
    view: View,
    projection: Projection,
    identity: Option<Identity>,
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
    snapshot: Option<(u64, Bytes)>,
    sender: broadcast::Sender<Bytes>,
    used: Ns,
    stepped: Ns,
}

impl LiveView {
    pub(super) fn new(view: View, revision: u64, merge: &Merge, names: &Names, names_row: &NamesRow) -> Self {
        Self {
            view,
            projection: Projection::new(view, revision, merge, names, names_row),
            identity: None,
            recent: VecDeque::new(),
            recent_bytes: 0,
            snapshot: None,
            sender: broadcast::Sender::new(LAG),
            used: 0,
            stepped: 0,
        }
    }

    /// Nothing was told yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.identity.is_none()
    }

    pub(super) fn touch(&mut self, now: Ns) {
        self.used = now;
    }

    pub(super) fn used(&self) -> Ns {
        self.used
    }

    pub(super) fn clients(&self) -> usize {
        self.sender.receiver_count()
    }

    pub(super) fn revision(&self) -> u64 {
        self.projection.revision()
    }

    pub(super) fn set_nodes(&mut self, rows: &[NodeRow]) {
        self.projection.set_nodes(rows);
    }

    pub(super) fn update(&mut self, changes: &[(FlowId, Change)], merge: &Merge, names: &Names) {
        self.projection.update(changes, merge, names);
    }

    /// Makes the next delta and sends it to all subscribers: one buffer for everybody.
    pub(super) fn step(
        &mut self,
        merge: &Merge,
        names: &Names,
        names_row: &NamesRow,
        identity: &Identity,
        now: Ns,
        metrics: &Metrics,
    ) {
        self.stepped = now;
        let first = self.identity.is_none();
        self.identity.get_or_insert_with(|| identity.clone());
        let Some(delta) = self.projection.step(merge, names, names_row, identity, now) else { return };
        self.snapshot = None;
        if first {
            // Nobody can have the revision before: everybody begins with a snapshot.
            return;
        }
        let bytes = event("delta", &identity.run, delta.revision, &delta);
        let label = [("view", self.view.label())];
        metrics.deltas.get_or_create(&label).inc();
        metrics.delta_bytes.get_or_create(&label).inc_by(bytes.len() as u64);
        self.recent_bytes += bytes.len();
        self.recent.push_back((delta.revision, bytes.clone()));
        while self.recent.len() > RECENT || self.recent_bytes > RECENT_BYTES {
            match self.recent.pop_front() {
                Some((_, old)) => self.recent_bytes -= old.len(),
                None => break,
            }
        }
        // No subscriber is no error.
        let _ = self.sender.send(bytes);
    }

    pub(super) fn subscribe(&mut self, last: Option<(String, u64)>) -> Subscription {
        let live = self.sender.subscribe();
        let first = match last.and_then(|last| self.since(&last)) {
            Some(missed) => missed,
            None => vec![self.snapshot_event()],
        };
        Subscription { first, live }
    }

    /// The deltas after the client's last event, if all of them are still here.
    fn since(&self, (run, revision): &(String, u64)) -> Option<Vec<Bytes>> {
        let identity = self.identity.as_ref()?;
        if *run != identity.run || *revision > self.revision() {
            return None;
        }
        let missed: Vec<Bytes> =
            self.recent.iter().filter(|(to, _)| to > revision).map(|(_, bytes)| bytes.clone()).collect();
        (missed.len() as u64 == self.revision() - revision).then_some(missed)
    }

    pub(super) fn snapshot_json(&mut self) -> Bytes {
        if let Some((revision, bytes)) = &self.snapshot
            && *revision == self.revision()
        {
            return bytes.clone();
        }
        let Some(identity) = &self.identity else { return Bytes::new() };
        let snapshot = self.projection.snapshot(identity, self.stepped);
        let bytes = Bytes::from(serde_json::to_vec(&snapshot).unwrap_or_default());
        self.snapshot = Some((self.revision(), bytes.clone()));
        bytes
    }

    fn snapshot_event(&mut self) -> Bytes {
        let json = self.snapshot_json();
        let run = self.identity.as_ref().map_or("", |identity| identity.run.as_str());
        let head = format!("id: {run}-{}\nevent: snapshot\ndata: ", self.projection.revision());
        [head.as_bytes(), &json, b"\n\n"].concat().into()
    }
}

/// One server-sent event. JSON has no line breaks, so one data line carries it.
fn event(name: &str, run: &str, revision: u64, data: &impl Serialize) -> Bytes {
    let mut bytes = format!("id: {run}-{revision}\nevent: {name}\ndata: ").into_bytes();
    // These types have string keys and finite numbers only: serialising them cannot fail.
    let _ = serde_json::to_writer(&mut bytes, data);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
