//! A row that is made once for all who look at it. No logic.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// A row, and its JSON, which is written when it is first sent and copied from then on: sixty-four views of the same edges
/// cost one writing of each.
#[derive(Debug)]
pub struct Shared<R>(Arc<Inner<R>>);

#[derive(Debug)]
struct Inner<R> {
    row: R,
    /// The row's place in its table.
    slot: usize,
    json: OnceLock<Option<Box<RawValue>>>,
}

impl<R> Shared<R> {
    /// A row that stands at `slot` of its table.
    #[must_use]
    pub fn new(row: R, slot: usize) -> Self {
        Self(Arc::new(Inner { row, slot, json: OnceLock::new() }))
    }

    /// Its place in the table it came from: dense, and another row's only when this one was removed a step ago.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.0.slot
    }
}

impl<R> Deref for Shared<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.0.row
    }
}

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: PartialEq> PartialEq for Shared<R> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.row == other.0.row
    }
}

impl<R: Serialize> Serialize for Shared<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.json.get_or_init(|| to_raw_value(&self.0.row).ok()) {
            Some(json) => json.serialize(serializer),
            None => self.0.row.serialize(serializer),
        }
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Shared<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        R::deserialize(deserializer).map(|row| Self::new(row, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::Shared;
    use crate::view::CountersRow;

    #[test]
    fn a_shared_row_is_written_as_the_row_itself() {
        let row = CountersRow { skbs: 1, segments: 2, l3_bytes: 3, payload_bytes: 4 };
        let shared = Shared::new(row, 7);
        let plain = serde_json::to_string(&[row, row]).expect("JSON");
        for _ in 0..2 {
            assert_eq!(serde_json::to_string(&[&shared, &shared]).expect("JSON"), plain);
        }
        let back: Vec<Shared<CountersRow>> = serde_json::from_str(&plain).expect("rows");
        assert_eq!((back[0].clone(), shared.slot()), (shared, 7));
    }
}
