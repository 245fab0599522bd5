//! Rates from cumulative counters: pure, no clock.
//!
//! Packets are divided by the time *between packets* (their last-seen stamps), not between samples: so one packet a
//! second and ten thousand both come out exactly, whatever the reporting tick.

use crate::time::{MS, Ns, SECOND};

/// Packets that are averaged over: the newest and all back to this far before it.
pub const WINDOW: Ns = 1_200 * MS;
/// How far the window may stretch back to find a second packet.
pub const MAX_WINDOW: Ns = 5 * SECOND;
/// The shortest time a rate is taken over: a burst on a new edge is not a rate.
const FLOOR: Ns = SECOND;
/// After this long without a packet the rate is 0, whatever it was.
const MAX_SILENCE: Ns = 2_500 * MS;

/// One direction of an edge at one moment, as one side saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// When the counters held these values.
    pub at: Ns,
    /// When the last of the packets passed.
    pub last: Ns,
    /// Buffers.
    pub skbs: u64,
    /// Bytes from the network header on.
    pub bytes: u64,
    /// Completed handshakes.
    pub connections: u64,
}

/// Per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Buffers.
    pub skbs: f64,
    /// Bytes.
    pub bytes: f64,
    /// Completed handshakes.
    pub connections: f64,
}

/// The rate at `now`. `readings` are ordered by time, the newest still true at `until`; `first_seen` is when the edge's
/// first packet passed.
#[must_use]
pub fn rate(readings: impl DoubleEndedIterator<Item = Reading> + Clone, first_seen: Ns, until: Ns, now: Ns) -> Rate {
    let all = readings.clone();
    let Some(newest) = readings.clone().next_back() else { return Rate::default() };
    if newest.skbs == 0 {
        return Rate::default();
    }
    let before = newest.last.saturating_sub(WINDOW);
    let base = readings.rev().find(|reading| reading.last <= before && reading.skbs < newest.skbs);
    let base = match base {
        Some(base) => base,
        // Without an older reading the edge began inside the window: its first packet opens the interval.
        None if first_seen >= newest.last.saturating_sub(MAX_WINDOW) => {
            Reading { at: first_seen, last: first_seen, skbs: 1, bytes: 0, connections: 0 }
        }
        // Or it is old and was heard of only now: its total is no rate, and what it grew by since may be one.
        None => match all.clone().next() {
            Some(oldest) if oldest.skbs < newest.skbs => oldest,
            _ => return Rate::default(),
        },
    };
    let packets = newest.skbs.saturating_sub(base.skbs);
    if packets == 0 {
        return lone(&newest, until, now);
    }
    // After a long pause the interval begins where the pause was last known to hold.
    let start = if newest.last.saturating_sub(base.last) > MAX_WINDOW {
        base.at.max(newest.last.saturating_sub(MAX_WINDOW)).min(newest.last)
    } else {
        base.last
    };
    let span = newest.last.saturating_sub(start).max(FLOOR);
    if silent(&newest, until, now, mean_gap(all, &base, span)) {
        return Rate::default();
    }
    let seconds = span as f64 / SECOND as f64;
    Rate {
        skbs: packets as f64 / seconds,
        bytes: newest.bytes.saturating_sub(base.bytes) as f64 / seconds,
        connections: newest.connections.saturating_sub(base.connections) as f64 / seconds,
    }
}

/// A first packet alone: one in the shortest span, until it is old.
fn lone(newest: &Reading, until: Ns, now: Ns) -> Rate {
    if silent(newest, until, now, 0) {
        return Rate::default();
    }
    Rate { skbs: newest.skbs as f64, bytes: newest.bytes as f64, connections: newest.connections as f64 }
}

/// The mean gap between bursts, as far as readings can tell them apart: what comes in pairs is not silent between two pairs.
fn mean_gap(readings: impl DoubleEndedIterator<Item = Reading>, base: &Reading, span: Ns) -> Ns {
    let mut bursts = 0;
    let mut last = base.last;
    for reading in readings.filter(|reading| reading.last > base.last) {
        bursts += Ns::from(reading.last > last);
        last = reading.last;
    }
    span / bursts.max(1)
}

/// Silence is what was seen to be silent: up to `until`. What came after that is not known yet, for a while.
fn silent(newest: &Reading, until: Ns, now: Ns, mean_gap: Ns) -> bool {
    let patience = mean_gap.saturating_mul(5).saturating_div(2).clamp(WINDOW, MAX_SILENCE);
    until.saturating_sub(newest.last) > patience || now.saturating_sub(newest.last) > MAX_SILENCE
}

#[cfg(test)]
mod tests {
    use super::{MS, Ns, Reading, SECOND, rate};

    /// Readings every `tick` of packets at the given times, thinned as the collector does.
    fn readings(packets: &[Ns], tick: Ns, until: Ns) -> Vec<Reading> {
        let mut out: Vec<Reading> = Vec::new();
        let mut at = 0;
        while at <= until {
            let passed = packets.iter().filter(|&&packet| packet <= at).count();
            if passed > 0 {
                let last = packets[passed - 1];
                out.push(Reading { at, last, skbs: passed as u64, bytes: passed as u64 * 128, connections: 0 });
            }
            at += tick;
        }
        out.retain(|reading| reading.at >= until - 6 * SECOND);
        out
    }

    fn periodic(from: Ns, to: Ns, per_second: i64) -> Vec<Ns> {
        let gap = SECOND / per_second;
        (0..(to - from) / gap).map(|index| from + index * gap).collect()
    }

    fn at(packets: &[Ns], tick: Ns, now: Ns) -> f64 {
        let readings = readings(packets, tick, now / tick * tick);
        rate(readings.iter().copied(), packets[0], now / tick * tick, now).skbs
    }

    #[test]
    fn periodic_traffic_is_exact_at_any_tick() {
        for per_second in [1, 100, 10_000] {
            let packets = periodic(37 * MS, 12 * SECOND, per_second);
            for tick in [200 * MS, 2 * SECOND] {
                for now in [5 * SECOND, 7 * SECOND + 300 * MS, 10 * SECOND] {
                    let measured = at(&packets, tick, now);
                    let error = (measured / per_second as f64 - 1.0).abs();
                    assert!(error < 0.02, "{per_second}/s, tick {tick}, at {now}: {measured}");
                }
            }
        }
    }

    #[test]
    fn a_step_is_followed_within_two_seconds() {
        for (before, after) in [(100, 10_000), (10_000, 100), (1, 100), (100, 1)] {
            let mut packets = periodic(0, 6 * SECOND, before);
            packets.extend(periodic(6 * SECOND, 14 * SECOND, after));
            for late in [2_000, 2_500, 4_000] {
                let measured = at(&packets, 200 * MS, 6 * SECOND + late * MS);
                assert!((measured / after as f64 - 1.0).abs() < 0.1, "{before} -> {after} after {late} ms: {measured}");
            }
        }
    }

    #[test]
    fn a_stop_is_shown_soon_and_not_at_once() {
        let packets = periodic(0, 6 * SECOND, 100);
        assert!(at(&packets, 200 * MS, 6 * SECOND + 800 * MS) > 90.0);
        assert_eq!(at(&packets, 200 * MS, 6 * SECOND + 1_400 * MS), 0.0);
        let slow = periodic(0, 6 * SECOND, 1);
        assert!(at(&slow, 200 * MS, 7 * SECOND) > 0.9, "one a second is not silent between two packets");
        assert_eq!(at(&slow, 200 * MS, 5 * SECOND + 2_600 * MS), 0.0);
    }

    #[test]
    fn bursts_are_not_silent_in_between() {
        // Four packets at once, every 1.4 s.
        let packets: Vec<Ns> =
            (0..8).flat_map(|burst| [0, 1, 2, 3].map(|index| (burst * 1_400 + 37 + index) * MS)).collect();
        for now in (5_000..9_000).step_by(100) {
            let measured = at(&packets, 200 * MS, now * MS);
            assert!((measured / (4.0 / 1.4) - 1.0).abs() < 0.1, "at {now}: {measured}");
        }
    }

    #[test]
    fn an_edge_that_wakes_up_is_not_averaged_over_its_sleep() {
        let mut packets = vec![0];
        packets.extend(periodic(60 * SECOND, 64 * SECOND, 100));
        let measured = at(&packets, 200 * MS, 61 * SECOND + 400 * MS);
        assert!((measured - 100.0).abs() < 20.0, "{measured}");
    }

    #[test]
    fn the_total_of_an_old_edge_is_no_rate() {
        // An hour of 100 a second, heard of for the first time now, as after a restart of the collector.
        let packets = periodic(0, 3_600 * SECOND, 100);
        let now = 3_590 * SECOND;
        let all = readings(&packets, 200 * MS, now);
        for known in 1..=all.len() {
            let measured = rate(all[all.len() - known..].iter().copied(), 0, now, now).skbs;
            assert!(measured <= 110.0, "{known} readings: {measured}");
        }
    }

    #[test]
    fn nothing_and_a_single_packet() {
        assert_eq!(rate(std::iter::empty(), 0, SECOND, SECOND).skbs, 0.0);
        assert_eq!(at(&[0], 200 * MS, 400 * MS), 1.0);
        assert_eq!(at(&[0], 200 * MS, 4 * SECOND), 0.0);
    }
}
