//! One view that somebody looks at: what of a projection it shows, its recent deltas, its subscribers.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::broadcast;

use super::Subscription;
use crate::{
    filter::Wish,
    graph::Identity,
    metrics::Metrics,
    project::{Filtered, Projection},
    time::Ns,
    view::{Delta, View},
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
    /// `None`: the whole projection.
    filtered: Option<Filtered>,
    run: String,
    revision: u64,
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
    snapshot: Option<(u64, Bytes)>,
    sender: broadcast::Sender<Bytes>,
    used: Ns,
    stepped: Ns,
}

impl LiveView {
    /// As of the projection's last step. Revisions of a filtered view go on from `revision`.
    pub(super) fn new(wish: &Wish, revision: u64, base: &Projection, identity: &Identity, now: Ns) -> Self {
        let mut filtered = (!wish.is_whole()).then(|| Filtered::new(wish.clone(), revision, base));
        if let Some(filtered) = &mut filtered {
            // Nobody can have the revision before: everybody begins with a snapshot.
            let _ = filtered.step(identity, now);
        }
        Self {
            view: wish.view,
            revision: filtered.as_ref().map_or(base.revision(), Filtered::revision),
            filtered,
            run: identity.run.clone(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            snapshot: None,
            sender: broadcast::Sender::new(LAG),
            used: now,
            stepped: now,
        }
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
        self.revision
    }

    /// Follows a step of the projection and sends what changed here to all subscribers: one buffer for everybody.
    pub(super) fn take(&mut self, delta: &Delta, base: &Projection, identity: &Identity, now: Ns, metrics: &Metrics) {
        self.stepped = now;
        match &mut self.filtered {
            None => self.send(delta, metrics),
            Some(filtered) => {
                filtered.take(delta, base);
                if let Some(delta) = filtered.step(identity, now) {
                    self.send(&delta, metrics);
                }
            }
        }
    }

    fn send(&mut self, delta: &Delta, metrics: &Metrics) {
        self.snapshot = None;
        self.revision = delta.revision;
        let bytes = event("delta", &self.run, delta.revision, delta);
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

    pub(super) fn subscribe(
        &mut self,
        last: Option<(String, u64)>,
        base: &Projection,
        identity: &Identity,
    ) -> Subscription {
        let live = self.sender.subscribe();
        let first = match last.and_then(|last| self.since(&last)) {
            Some(missed) => missed,
            None => vec![self.snapshot_event(base, identity)],
        };
        Subscription { first, live }
    }

    /// The deltas after the client's last event, if all of them are still here.
    fn since(&self, (run, revision): &(String, u64)) -> Option<Vec<Bytes>> {
        if *run != self.run || *revision > self.revision {
            return None;
        }
        let missed: Vec<Bytes> =
            self.recent.iter().filter(|(to, _)| to > revision).map(|(_, bytes)| bytes.clone()).collect();
        (missed.len() as u64 == self.revision - revision).then_some(missed)
    }

    pub(super) fn snapshot_json(&mut self, base: &Projection, identity: &Identity) -> Bytes {
        if let Some((revision, bytes)) = &self.snapshot
            && *revision == self.revision
        {
            return bytes.clone();
        }
        let snapshot = match &self.filtered {
            None => base.snapshot(identity, self.stepped),
            Some(filtered) => filtered.snapshot(identity, self.stepped),
        };
        let bytes = Bytes::from(serde_json::to_vec(&snapshot).unwrap_or_default());
        self.snapshot = Some((self.revision, bytes.clone()));
        bytes
    }

    fn snapshot_event(&mut self, base: &Projection, identity: &Identity) -> Bytes {
        let json = self.snapshot_json(base, identity);
        let head = format!("id: {}-{}\nevent: snapshot\ndata: ", self.run, self.revision);
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
