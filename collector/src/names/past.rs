//! Pods that are gone, kept for the edges that remember them. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::Pod;
use crate::time::{MINUTE, Ns};

/// Pods that are gone, kept at the most: beyond it the first to go is forgotten.
pub const MAX_GONE: usize = 16_384;
/// A gone pod is kept for this long even if no edge remembers it: reports of its last packets may come late.
const KEPT: Ns = 2 * MINUTE;

/// Gone pods by their key, in the order they went.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    pods: HashMap<Arc<str>, (u64, Ns, Pod)>,
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
}

impl Past {
    /// Adds one; at the bound the oldest is pushed out and returned.
    pub(super) fn put(&mut self, key: Arc<str>, pod: Pod, now: Ns) -> Option<Arc<str>> {
        self.pods.insert(Arc::clone(&key), (self.next, now, pod));
        self.order.push_back((self.next, key));
        self.next += 1;
        if self.pods.len() <= MAX_GONE {
            return None;
        }
        loop {
            let (number, key) = self.order.pop_front()?;
            // Entries of pods that came back are passed over.
            if self.pods.get(&key).is_some_and(|(known, ..)| *known == number) {
                self.pods.remove(&key);
                return Some(key);
            }
        }
    }

    /// One that came back.
    pub(super) fn take(&mut self, key: &str) -> Option<Pod> {
        let taken = self.pods.remove(key).map(|(.., pod)| pod);
        if self.order.len() > 2 * MAX_GONE {
            let pods = &self.pods;
            self.order.retain(|(number, key)| pods.get(key).is_some_and(|(known, ..)| known == number));
        }
        taken
    }

    pub(super) fn get(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key).map(|(.., pod)| pod)
    }

    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// Takes those out that nobody uses and that went long ago.
    pub(super) fn unused(&mut self, used: &HashSet<Arc<str>>, now: Ns) -> Vec<Arc<str>> {
        let stale = |key: &Arc<str>, went: Ns| !used.contains(key) && now.saturating_sub(went) >= KEPT;
        let keys: Vec<Arc<str>> =
            self.pods.iter().filter(|(key, (_, went, _))| stale(key, *went)).map(|(key, _)| Arc::clone(key)).collect();
        for key in &keys {
            self.pods.remove(key);
        }
        let pods = &self.pods;
        self.order.retain(|(number, key)| pods.get(key).is_some_and(|(known, ..)| known == number));
        keys
    }
}
