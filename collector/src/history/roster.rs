//! Who was there, from when to when: pods, services, nodes. Pure.

use std::{collections::HashMap, hash::Hash, sync::Arc};

/// One state of something, and the buckets in which it held.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span<T> {
    /// A number of its own.
    pub(super) id: u64,
    /// What.
    pub(super) what: Arc<T>,
    /// The first bucket.
    pub(super) from: i64,
    /// The last one.
    pub(super) to: i64,
}

/// Spans of many things, each known by a key.
#[derive(Debug, Clone)]
pub(super) struct Roster<K, T> {
    spans: HashMap<K, Vec<Span<T>>>,
    count: usize,
    bound: usize,
    next: u64,
    evicted: u64,
}

impl<K: Clone + Eq + Hash + Ord, T: PartialEq> Roster<K, T> {
    /// Room for `bound` spans.
    #[must_use]
    pub(super) fn new(bound: usize) -> Self {
        Self { spans: HashMap::new(), count: 0, bound, next: 0, evicted: 0 }
    }

    /// It is there in bucket `at`, in this state. `same` says whether a state is still the one before.
    pub(super) fn see(&mut self, key: &K, what: &T, at: i64, same: impl Fn(&T, &T) -> bool)
    where
        T: Clone,
    {
        let spans = self.spans.entry(key.clone()).or_default();
        if let Some(last) = spans.last_mut()
            && same(&last.what, what)
            && at - last.to <= 1
        {
            last.to = at;
            return;
        }
        // Two states within one bucket: the later one is what is remembered of it.
        if let Some(last) = spans.last_mut()
            && last.from == at
        {
            (last.what, last.to) = (Arc::new(what.clone()), at);
            return;
        }
        spans.push(Span { id: self.next, what: Arc::new(what.clone()), from: at, to: at });
        (self.next, self.count) = (self.next + 1, self.count + 1);
    }

    /// Takes back a span that was kept elsewhere.
    pub(super) fn restore(&mut self, key: K, span: Span<T>) {
        self.next = self.next.max(span.id + 1);
        self.count += 1;
        let spans = self.spans.entry(key).or_default();
        spans.push(span);
        spans.sort_by_key(|span| (span.from, span.id));
    }

    /// Lets go of what was over before bucket `oldest`, and beyond the bound of what was over first.
    pub(super) fn forget(&mut self, oldest: i64) {
        self.retain(|span| span.to >= oldest);
        if self.count <= self.bound {
            return;
        }
        let mut ends: Vec<(i64, u64)> = self.spans.values().flatten().map(|span| (span.to, span.id)).collect();
        ends.sort_unstable();
        let excess = self.count - self.bound;
        let last = ends[excess - 1];
        self.evicted += excess as u64;
        self.retain(|span| (span.to, span.id) > last);
    }

    fn retain(&mut self, keep: impl Fn(&Span<T>) -> bool) {
        let mut count = 0;
        self.spans.retain(|_, spans| {
            spans.retain(&keep);
            count += spans.len();
            !spans.is_empty()
        });
        self.count = count;
    }

    /// What was there in bucket `at`, in the order of the keys.
    #[must_use]
    pub(super) fn at(&self, at: i64) -> Vec<Arc<T>> {
        let mut all: Vec<(&K, &Span<T>)> = self
            .spans
            .iter()
            .filter_map(|(key, spans)| Some((key, spans.iter().rfind(|span| span.from <= at && at <= span.to)?)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(b.0));
        all.into_iter().map(|(_, span)| Arc::clone(&span.what)).collect()
    }

    /// The state of one at bucket `at`, or the last before it, or the first after.
    #[must_use]
    pub(super) fn about(&self, key: &K, at: i64) -> Option<&Arc<T>> {
        let spans = self.spans.get(key)?;
        spans.iter().rfind(|span| span.from <= at).or_else(|| spans.first()).map(|span| &span.what)
    }

    /// Spans that are held, each with its key.
    pub(super) fn spans(&self) -> impl Iterator<Item = (&K, &Span<T>)> {
        self.spans.iter().flat_map(|(key, spans)| spans.iter().map(move |span| (key, span)))
    }

    /// Spans that found no room.
    #[must_use]
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::Roster;

    #[test]
    fn a_state_lasts_until_it_changes_or_is_not_seen() {
        let mut roster: Roster<&str, u8> = Roster::new(100);
        for at in [1, 2, 3] {
            roster.see(&"a", &7, at, |a, b| a == b);
        }
        roster.see(&"a", &8, 4, |a, b| a == b);
        roster.see(&"a", &8, 7, |a, b| a == b);
        let at = |at| roster.at(at).iter().map(|what| **what).collect::<Vec<u8>>();
        assert_eq!((at(0), at(1), at(3), at(4)), (vec![], vec![7], vec![7], vec![8]));
        assert_eq!((at(5), at(7)), (vec![], vec![8]), "it was not seen in between");
        assert_eq!(roster.about(&"a", 5).map(|what| **what), Some(8));
    }

    #[test]
    fn the_first_to_go_leaves_at_the_bound() {
        let mut roster: Roster<u32, u32> = Roster::new(10);
        for key in 0..30 {
            roster.see(&key, &key, i64::from(key), |a, b| a == b);
        }
        roster.forget(0);
        assert_eq!((roster.spans().count(), roster.evicted()), (10, 20));
        assert!(roster.at(5).is_empty() && roster.at(25).len() == 1);
        roster.forget(28);
        assert_eq!(roster.spans().count(), 2);
    }
}
