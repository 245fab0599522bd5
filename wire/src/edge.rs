//! Joins of counters: what "cumulative, and only grows" means in code.

use crate::v1::{Counters, Histogram, Sockets};

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

impl Histogram {
    /// The join of two readings of the same histogram: the greater of each bucket.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        self.with(other, u64::max)
    }

    /// The sum of two different histograms.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn with(&self, other: &Self, both: impl Fn(u64, u64) -> u64) -> Self {
        let at = |of: &Self, index: usize| of.buckets.get(index).copied().unwrap_or(0);
        let count = self.buckets.len().max(other.buckets.len());
        Self {
            buckets: (0..count).map(|index| both(at(self, index), at(other, index))).collect(),
            sum_us: both(self.sum_us, other.sum_us),
        }
    }
}

impl Sockets {
    /// The join of two readings of the same sockets: the greater of each.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        self.with(other, u64::max, Histogram::join)
    }

    /// The sum of two different edges' sockets.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add, Histogram::plus)
    }

    fn with(
        &self,
        other: &Self,
        both: impl Fn(u64, u64) -> u64,
        histograms: impl Fn(&Histogram, &Histogram) -> Histogram,
    ) -> Self {
        Self {
            attempts: both(self.attempts, other.attempts),
            established: both(self.established, other.established),
            refused: both(self.refused, other.refused),
            timed_out: both(self.timed_out, other.timed_out),
            unreachable: both(self.unreachable, other.unreachable),
            failed_otherwise: both(self.failed_otherwise, other.failed_otherwise),
            retransmitted: both(self.retransmitted, other.retransmitted),
            rtt: match (&self.rtt, &other.rtt) {
                (Some(a), Some(b)) => Some(histograms(a, b)),
                (a, b) => a.clone().or_else(|| b.clone()),
            },
            aborted: both(self.aborted, other.aborted),
        }
    }
}
