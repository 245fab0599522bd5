//! Hash tables for what every report looks up: seeded for each table, and several times as fast as the standard ones. Where an
//! attacker who sees no answer times could still gain by collisions, bounds elsewhere hold how many keys there are. Pure.

use std::collections;

use foldhash::fast::RandomState;

/// A table of values by key.
pub type HashMap<K, V> = collections::HashMap<K, V, RandomState>;
/// A set.
pub type HashSet<K> = collections::HashSet<K, RandomState>;
