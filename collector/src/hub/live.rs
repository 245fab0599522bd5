//! One view that somebody looks at: what of a projection it shows, and the events that tell its subscribers.

use bytes::Bytes;
use serde::Serialize;

use super::{
    Subscription,
    feed::{Feed, LAG},
};
use crate::{
    filter::Wish,
    graph::Identity,
    metrics::Metrics,
    project::{Filtered, Projection, Step},
    time::{Ns, SECOND},
    view::{Delta, View},
};

/// A snapshot is written once for all who come within this time; who comes late gets the deltas since as well.
const SNAPSHOT_SERVES: Ns = SECOND;

#[derive(Debug)]
struct Written {
    revision: u64,
    at: Ns,
    json: Bytes,
}

#[derive(Debug)]
pub(super) struct LiveView {
    view: View,
    /// `None`: the whole projection.
    filtered: Option<Filtered>,
    run: String,
    revision: u64,
    snapshot: Option<Written>,
    feed: Feed,
    used: Ns,
    stepped: Ns,
    /// The last delta's length: the next one's is much the same.
    length: usize,
}

impl LiveView {
    /// As of the projection's last step. Revisions of a filtered view go on from `revision`.
    pub(super) fn new(wish: &Wish, revision: u64, base: &Projection, identity: &Identity, now: Ns) -> Self {
        let filtered = (!wish.is_whole()).then(|| Filtered::new(wish.clone(), revision, base));
        let revision = filtered.as_ref().map_or(base.revision(), Filtered::revision);
        Self {
            view: wish.view,
            filtered,
            run: identity.run.clone(),
            revision,
            snapshot: None,
            feed: Feed::new(revision),
            used: now,
            stepped: now,
            length: 0,
        }
    }

    pub(super) fn touch(&mut self, now: Ns) {
        self.used = now;
    }

    pub(super) fn used(&self) -> Ns {
        self.used
    }

    pub(super) fn clients(&self) -> usize {
        self.feed.clients()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Follows a step of the projection and tells all subscribers what changed here: one buffer for everybody. `most` bytes
    /// of past deltas are kept.
    pub(super) fn take(&mut self, step: &Step, base: &Projection, now: Ns, most: usize, metrics: &Metrics) {
        self.stepped = now;
        self.snapshot.take_if(|written| now.saturating_sub(written.at) > SNAPSHOT_SERVES);
        match &mut self.filtered {
            None => self.send(&step.step.delta, most, metrics),
            Some(filtered) => {
                if let Some(delta) = filtered.take(step, base) {
                    self.send(&delta, most, metrics);
                }
            }
        }
    }

    fn send(&mut self, delta: &Delta, most: usize, metrics: &Metrics) {
        self.revision = delta.revision;
        let bytes = event("delta", &self.run, delta.revision, delta, self.length + self.length / 8);
        self.length = bytes.len();
        let label = [("view", self.view.label())];
        metrics.deltas.get_or_create(&label).inc();
        metrics.delta_bytes.get_or_create(&label).inc_by(bytes.len() as u64);
        self.feed.push(delta.revision, bytes, most);
    }

    pub(super) fn subscribe(
        &mut self,
        last: Option<(String, u64)>,
        base: &Projection,
        identity: &Identity,
    ) -> Subscription {
        let live = self.feed.follow(self.revision);
        let missed = last.filter(|(run, _)| *run == self.run).and_then(|(_, revision)| self.feed.since(revision));
        let first = missed.unwrap_or_else(|| self.beginning(base, identity));
        Subscription { first, live }
    }

    /// The snapshot that was written last with what happened since, or a new one. Its JSON is shared, not copied.
    fn beginning(&mut self, base: &Projection, identity: &Identity) -> Vec<Bytes> {
        let old = self.snapshot.as_ref().filter(|written| self.revision - written.revision <= LAG);
        let since = old.and_then(|written| self.feed.since(written.revision));
        if since.is_none() {
            self.snapshot_json(base, identity);
        }
        let Some(written) = &self.snapshot else { return Vec::new() };
        let head = format!("id: {}-{}\nevent: snapshot\ndata: ", self.run, written.revision);
        let snapshot = [head.into(), written.json.clone(), Bytes::from_static(b"\n\n")];
        snapshot.into_iter().chain(since.into_iter().flatten()).collect()
    }

    /// The whole as of the last step.
    pub(super) fn snapshot_json(&mut self, base: &Projection, identity: &Identity) -> Bytes {
        if let Some(written) = self.snapshot.as_ref().filter(|written| written.revision == self.revision) {
            return written.json.clone();
        }
        let snapshot = match &self.filtered {
            None => base.snapshot(identity, self.stepped),
            Some(filtered) => filtered.snapshot(base, identity, self.stepped),
        };
        let json = Bytes::from(serde_json::to_vec(&snapshot).unwrap_or_default());
        self.snapshot = Some(Written { revision: self.revision, at: self.stepped, json: json.clone() });
        json
    }
}

/// One server-sent event, of which some `room` bytes are expected. JSON has no line breaks, so one data line carries it.
fn event(name: &str, run: &str, revision: u64, data: &impl Serialize, room: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(room.max(512));
    bytes.extend_from_slice(format!("id: {run}-{revision}\nevent: {name}\ndata: ").as_bytes());
    // These types have string keys and finite numbers only: serialising them cannot fail.
    let _ = serde_json::to_writer(&mut bytes, data);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
