//! Joins of counters: what "cumulative, and only grows" means in code.

use crate::v1::Counters;

impl Counters {
    /// The join of two readings of the same counters: the greater of each. Commutative, associative, idempotent.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            skbs: self.skbs.max(other.skbs),
            segments: self.segments.max(other.segments),
            l3_bytes: self.l3_bytes.max(other.l3_bytes),
            payload_bytes: self.payload_bytes.max(other.payload_bytes),
        }
    }

    /// The sum of two *different* counters (two incarnations of an edge, or two edges in one view).
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            skbs: self.skbs.saturating_add(other.skbs),
            segments: self.segments.saturating_add(other.segments),
            l3_bytes: self.l3_bytes.saturating_add(other.l3_bytes),
            payload_bytes: self.payload_bytes.saturating_add(other.payload_bytes),
        }
    }
}
