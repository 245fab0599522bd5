//! Questions to the past: what is needed to answer them is handed out, shared and not copied. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{History, Remembered, Still, Tracks, bucket::Sealed};
use crate::{
    graph,
    names::Owner,
    time::{MINUTE, Ns},
    view::{EventRow, ms},
};

/// A quiet edge is shown for this long after its last packet.
const QUIET: Ns = MINUTE;

impl History {
    /// When a bucket begins.
    pub(super) fn time(&self, number: i64) -> Ns {
        number.saturating_mul(self.span.bucket)
    }

    /// What the graph was in the bucket of this instant, or in the last one that is sealed.
    ///
    /// # Errors
    /// The span that is remembered, where the instant is outside of it.
    pub fn still(&self, at: Ns) -> Result<Still, Remembered> {
        let (Some(first), Some(last)) = (self.buckets.front(), self.buckets.back()) else { return Err(None) };
        let known = (self.time(first.number), self.time(last.number + 1));
        // The bucket that is open is not over yet: the one before is as good as now.
        let number = at.div_euclid(self.span.bucket).min(last.number);
        if number < first.number || at > self.time(self.open + 1) {
            return Err(Some(known));
        }
        let quiet = number - QUIET.div_euclid(self.span.bucket).max(1);
        let near = self.buckets.iter().filter(|bucket| quiet < bucket.number && bucket.number <= number);
        let until = self.time(number + 1);
        let mut events: VecDeque<EventRow> = VecDeque::new();
        for (_, event) in self.events.iter().filter(|(_, event)| event.time_ms < ms(until)) {
            events.push_back(event.clone());
            if events.len() > graph::MAX_EVENTS {
                events.pop_front();
            }
        }
        let near: Vec<Sealed> = near.cloned().collect();
        let mut edges = BTreeMap::new();
        for record in near.iter().flat_map(|bucket| bucket.all().collect::<Vec<_>>()) {
            if let Some(known) = self.edges.get(&record.edge) {
                edges.entry(record.edge).or_insert_with(|| Arc::clone(known));
            }
        }
        let mut gone = BTreeMap::new();
        for end in edges.values().flat_map(|known| [&known.key.client, &known.key.server]) {
            if let Owner::Pod(key) = end
                && let Some(pod) = self.pods.about(key, number)
            {
                gone.insert(Arc::clone(key), Arc::clone(pod));
            }
        }
        Ok(Still {
            number,
            bucket: self.span.bucket,
            near,
            edges,
            pods: self.pods.at(number),
            remembered: gone.into_values().collect(),
            services: self.services.at(number),
            nodes: self.nodes.at(number),
            agents: self.agents.at(number),
            dns: self.dns.clone(),
            events: events.into(),
        })
    }

    /// All buckets and edges, for questions about their course.
    #[must_use]
    pub fn tracks(&self) -> Tracks {
        Tracks {
            bucket: self.span.bucket,
            buckets: self.buckets.iter().cloned().collect(),
            edges: self.edges.clone(),
            pods: self.pods.spans().map(|(key, span)| (Arc::clone(key), Arc::clone(&span.what))).collect(),
        }
    }

    /// The events that are remembered, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &EventRow> {
        self.events.iter().map(|(_, event)| event)
    }
}
