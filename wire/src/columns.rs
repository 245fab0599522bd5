//! Edges side by side: the wire's form of a report's edges, which `columns.proto` writes down. Between [`fold`] and [`unfold`]
//! nothing is lost but the order of the edges.

mod bits;
mod code;
mod column;
mod fold;
mod pack;
mod unfold;

pub(crate) use fold::fold;
pub(crate) use unfold::unfold;

use crate::v1::{Counters, Edge, Side};

/// A total by a unit: the nearest quotient, and the rest, which may be negative.
fn by(total: u64, unit: u64) -> [u64; 2] {
    let unit = unit.max(1);
    let quotient = total.saturating_add(unit / 2) / unit;
    [quotient, total.wrapping_sub(quotient.wrapping_mul(unit))]
}

/// What [`by`] was made from.
fn total([quotient, rest]: [u64; 2], unit: u64) -> u64 {
    quotient.wrapping_mul(unit.max(1)).wrapping_add(rest)
}

/// The ends of an edge: the local one, the other.
fn ends(edge: &Edge) -> [&Vec<u8>; 2] {
    let ends = [&edge.client, &edge.server];
    if edge.side() == Side::Server { [ends[1], ends[0]] } else { ends }
}

/// What an edge's segments are told by: packets of connections are alike, and each is answered.
fn segments_unit(opened: u64, forward: Option<&Counters>) -> u64 {
    match forward {
        Some(forward) if opened <= 1 => forward.segments,
        _ => opened,
    }
}

/// Samples of a histogram.
fn samples(buckets: &[u64]) -> u64 {
    buckets.iter().fold(0, |sum, bucket| sum.wrapping_add(*bucket))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{by, total};

    #[test]
    fn what_is_nearly_a_multiple_has_a_small_rest() {
        let minus_1 = u64::MAX;
        assert_eq!([by(1_000, 100), by(999, 100), by(1_001, 100), by(7, 0)], [[10, 0], [10, minus_1], [10, 1], [7, 0]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(number in any::<u64>(), unit in any::<u64>(), small in 0..9u64) {
            prop_assert_eq!(total(by(number, unit), unit), number);
            prop_assert_eq!(total(by(number, small), small), number);
        }
    }
}
