//! One span of the past, sealed: what every edge did in it, packed and in order. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::pack::{self, FIELDS, Numbers, Record};
use crate::merge::facts::DropKey;

/// One record in so many can be found without reading those before it.
const STRIDE: usize = 64;
/// Edges of a bucket whose drops are kept by reason.
pub const MAX_DROPPING: usize = 1_024;
/// Reasons kept of one edge.
const MAX_REASONS: usize = 4;

/// Drops of an edge by reason.
pub type Reasons = Vec<(DropKey, u64)>;

/// What happened between two instants.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Its number: its time divided by its length.
    pub number: i64,
    /// The records, packed, in the order of their edges.
    pub records: Vec<u8>,
    /// Drops by reason, of the edges that had any.
    pub drops: BTreeMap<u32, Reasons>,
    /// All edges added up but those that carry others' traffic.
    pub totals: Numbers,
    /// How many edges are in it.
    pub edges: u32,
    /// (edge before, offset) of every [`STRIDE`]th record.
    index: Vec<(u32, u32)>,
}

impl Bucket {
    /// Seals what was gathered.
    #[must_use]
    pub fn seal(number: i64, gathered: &BTreeMap<u32, Record>, drops: BTreeMap<u32, Reasons>, totals: Numbers) -> Self {
        let mut bucket = Self { number, records: Vec::new(), drops, totals, edges: 0, index: Vec::new() };
        let mut before = 0;
        for record in gathered.values() {
            bucket.mark(before);
            pack::write(&mut bucket.records, record, before);
            before = record.edge;
        }
        bucket.records.shrink_to_fit();
        for reasons in bucket.drops.values_mut() {
            reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            reasons.truncate(MAX_REASONS);
        }
        while bucket.drops.len() > MAX_DROPPING {
            bucket.drops.pop_last();
        }
        bucket
    }

    /// A bucket that was kept elsewhere; `None` where its records are damaged.
    #[must_use]
    pub fn restore(number: i64, records: Vec<u8>, drops: BTreeMap<u32, Reasons>, totals: Numbers) -> Option<Self> {
        let mut bucket = Self { number, records: Vec::new(), drops, totals, edges: 0, index: Vec::new() };
        let (mut at, mut before) = (0, 0);
        while at < records.len() {
            bucket.index_at(before, at);
            before = pack::read(&records, &mut at, before)?.edge;
        }
        bucket.records = records;
        Some(bucket)
    }

    fn mark(&mut self, before: u32) {
        self.index_at(before, self.records.len());
    }

    fn index_at(&mut self, before: u32, offset: usize) {
        if (self.edges as usize).is_multiple_of(STRIDE) {
            self.index.push((before, u32::try_from(offset).unwrap_or(u32::MAX)));
        }
        self.edges += 1;
    }

    /// Every record, in the order of their edges.
    pub fn all(&self) -> impl Iterator<Item = Record> {
        self.from(0, 0)
    }

    fn from(&self, edge: u32, offset: usize) -> impl Iterator<Item = Record> {
        let (mut before, mut at) = (edge, offset);
        std::iter::from_fn(move || {
            let record = pack::read(&self.records, &mut at, before)?;
            before = record.edge;
            Some(record)
        })
    }

    /// The records of these edges; `wanted` is in order.
    pub fn of(&self, wanted: &[u32]) -> Vec<Record> {
        let mut found = Vec::new();
        let mut rest = wanted;
        while let Some(&first) = rest.first() {
            // The last mark whose records begin at or before the first that is wanted.
            let mark = self.index.partition_point(|(before, _)| *before < first).saturating_sub(1);
            let Some(&(before, offset)) = self.index.get(mark) else { break };
            let mut past_any = false;
            for record in self.from(before, offset as usize).take(STRIDE) {
                while rest.first().is_some_and(|edge| *edge < record.edge) {
                    rest = &rest[1..];
                    past_any = true;
                }
                if rest.first() == Some(&record.edge) {
                    found.push(record);
                    rest = &rest[1..];
                    past_any = true;
                }
            }
            if !past_any {
                // Nothing of it is in this stretch: it is in none.
                rest = &rest[1..];
            }
        }
        found
    }

    /// Bytes it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let reasons: usize = self.drops.values().map(|reasons| 48 + reasons.len() * 48).sum();
        size_of::<Self>() + self.records.len() + self.index.len() * 8 + reasons
    }
}

/// Buckets are shared by those who read them.
pub type Sealed = Arc<Bucket>;

/// Adds numbers up.
pub fn add(sum: &mut Numbers, more: &Numbers) {
    for index in 0..FIELDS {
        sum[index] = sum[index].saturating_add(more[index]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Bucket, FIELDS, Record};

    fn bucket(edges: &[u32]) -> Bucket {
        let record = |edge: u32| {
            let mut numbers = [0; FIELDS];
            numbers[0] = u64::from(edge);
            (edge, Record { edge, flags: 1, numbers })
        };
        Bucket::seal(9, &edges.iter().map(|edge| record(*edge)).collect(), BTreeMap::new(), [0; FIELDS])
    }

    #[test]
    fn any_edge_is_found_and_none_that_is_not_there() {
        let there: Vec<u32> = (0..1_000).map(|index| 3 + index * 7).collect();
        let bucket = bucket(&there);
        assert_eq!(bucket.all().map(|record| record.edge).collect::<Vec<_>>(), there);
        for edge in 0..7_100 {
            let found = bucket.of(&[edge]);
            assert_eq!(found.len(), usize::from(there.contains(&edge)), "{edge}");
            assert!(found.iter().all(|record| record.numbers[0] == u64::from(edge)));
        }
        let every: Vec<u32> = (0..8_000).collect();
        assert_eq!(bucket.of(&every).len(), 1_000);
        assert_eq!(bucket.of(&[1, 2, 3, 500, 6_996, 9_999]).len(), 3);
    }

    #[test]
    fn what_is_kept_elsewhere_comes_back_and_damage_is_told() {
        let whole = bucket(&(1..500).collect::<Vec<u32>>());
        let again = Bucket::restore(9, whole.records.clone(), BTreeMap::new(), [0; FIELDS]);
        assert_eq!(again.as_ref(), Some(&whole));
        let cut = whole.records[..whole.records.len() - 1].to_vec();
        assert!(Bucket::restore(9, cut, BTreeMap::new(), [0; FIELDS]).is_none());
    }
}
