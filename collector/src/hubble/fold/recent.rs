//! A bounded map that forgets what was not touched for longest, in two halves.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// What was touched of late: at least half of `bound`, never more than it.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
    /// How many were forgotten.
    pub(super) forgotten: u64,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (bound / 2).max(1), forgotten: 0 }
    }

    /// The value, which counts as touched.
    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.put(key, value);
        }
        self.young.get_mut(key)
    }

    /// The value, untouched.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Puts a value in; the older half goes when there is no room.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            let gone = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.forgotten += gone.len() as u64;
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn what_is_touched_stays_and_the_bound_holds() {
        let mut recent = Recent::new(8);
        recent.put(0, "kept");
        for key in 1..1_000 {
            recent.put(key, "other");
            assert_eq!(recent.get(&0), Some(&mut "kept"));
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&1), None);
        assert!(recent.forgotten > 900);
    }
}
