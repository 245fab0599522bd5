//! A hash map whose values lie side by side. One that doubles is half empty as a rule, so its buckets hold a number each, in
//! place of a key and what it stands for, which are thirty times as large.

use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Values by key. Hashes are seeded for each map, several times as fast as the standard ones; where an attacker could gain by
/// collisions all the same, bounds elsewhere hold how many keys there are.
#[derive(Debug)]
pub struct Packed<K, V> {
    places: HashTable<u32>,
    /// A place that is free keeps its last key, and no value.
    held: Vec<(K, Option<V>)>,
    free: Vec<u32>,
    hasher: RandomState,
}

impl<K, V> Default for Packed<K, V> {
    fn default() -> Self {
        Self { places: HashTable::new(), held: Vec::new(), free: Vec::new(), hasher: RandomState::default() }
    }
}

impl<K: Hash + Eq, V> Packed<K, V> {
    /// Values held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// None is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn place(&self, key: &K) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let is = |place: &u32| self.held[*place as usize].0 == *key;
        self.places.find(self.hasher.hash_one(key), is).map(|place| *place as usize)
    }

    /// Whether a key is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_some()
    }

    /// A key's value.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.held[self.place(key)?].1.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        self.held[place].1.as_mut()
    }

    /// Puts a value in; says whether none had this key.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        if let Some(known) = self.get_mut(&key) {
            *known = value;
            return false;
        }
        let hash = self.hasher.hash_one(&key);
        let place = match self.free.pop() {
            Some(place) => {
                self.held[place as usize] = (key, Some(value));
                place
            }
            None => {
                self.held.push((key, Some(value)));
                // As many as the kernel's map holds and a few more: that map's size is a u32 itself.
                (self.held.len() - 1) as u32
            }
        };
        self.places.insert_unique(hash, place, |place| self.hasher.hash_one(&self.held[*place as usize].0));
        true
    }

    /// A key's value, which is made if there is none.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        K: Copy,
        V: Default,
    {
        let place = self.place(&key).unwrap_or_else(|| {
            self.insert(key, V::default());
            self.place(&key).unwrap_or_default()
        });
        self.held[place].1.get_or_insert_default()
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let is = |place: &u32| self.held[*place as usize].0 == *key;
        let found = self.places.find_entry(self.hasher.hash_one(key), is).ok()?;
        let (place, _) = found.remove();
        self.free.push(place);
        self.held[place as usize].1.take()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.held.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Packed;

    #[test]
    fn a_place_is_used_again_and_nobody_elses_value_is_found() {
        let mut packed = Packed::<u64, &str>::default();
        assert!(packed.get(&1).is_none() && packed.remove(&1).is_none());
        assert!(packed.insert(1, "one") && packed.insert(2, "two") && !packed.insert(1, "first"));
        assert_eq!((packed.remove(&1), packed.remove(&1)), (Some("first"), None));
        assert!(packed.insert(4, "four"));
        assert_eq!(packed.held.len(), 2, "one place for one, then the other");
        assert_eq!([1, 2, 4].map(|key| packed.get(&key).copied()), [None, Some("two"), Some("four")]);
        assert_eq!(packed.iter().count(), 2);
    }

    #[test]
    fn as_many_as_come_are_found_after_each_time_it_grew() {
        let mut packed = Packed::<u64, u64>::default();
        for key in 0..10_000 {
            *packed.get_or_default(key % 5_000) += 1;
        }
        assert_eq!(packed.len(), 5_000);
        assert!((0..5_000).all(|key| packed.get(&key) == Some(&2)) && packed.get(&5_000).is_none());
    }
}
