//! Keeps a rate: says how many sends are due, and sleeps at most a millisecond at a time.

use std::time::{Duration, Instant};

/// Longest sleep while sends are due at a high rate: bursts stay this short.
const STEP: Duration = Duration::from_millis(1);
/// Most sends in one burst, also after the machine stalled: a device's backlog holds 1,000.
const BURST: u64 = 64;

/// A rate that can be changed while it runs.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    since: Instant,
    done: u64,
}

impl Pace {
    pub(super) fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, since: now, done: 0 }
    }

    /// Changes the rate from now on. What was due and is not out yet is forgotten.
    pub(super) fn set(&mut self, per_second: f64, now: Instant) {
        if per_second.to_bits() != self.per_second.to_bits() {
            *self = Self::new(per_second, now);
        }
    }

    /// How many sends are due; they count as done.
    pub(super) fn due(&mut self, now: Instant) -> u64 {
        if self.per_second <= 0.0 {
            return 0;
        }
        // The first is due at once, so that one packet a second starts with a packet.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds times a rate is far from 2^53"
        )]
        let target = ((now - self.since).as_secs_f64() * self.per_second) as u64 + 1;
        let due = target.saturating_sub(self.done).min(BURST);
        self.done += due;
        due
    }

    /// How long to sleep before asking again.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        if self.per_second <= 0.0 {
            return 20 * STEP;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of sends is far from 2^53")]
        let next = Duration::from_secs_f64(self.done as f64 / self.per_second);
        // Waking every 20 ms at least lets a new rate, or the end, take hold.
        next.saturating_sub(now - self.since).clamp(STEP, 20 * STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::{Duration, Instant};

    fn sent_in(per_second: f64, seconds: u64) -> u64 {
        let start = Instant::now();
        let (mut pace, mut now, mut sent) = (Pace::new(per_second, start), start, 0);
        while now < start + Duration::from_secs(seconds) {
            sent += pace.due(now);
            now += pace.rest(now);
        }
        sent
    }

    #[test]
    fn rates_hold() {
        for (rate, seconds) in [(1.0, 5), (100.0, 2), (10_000.0, 1)] {
            let (sent, wanted) = (sent_in(rate, seconds), rate * seconds as f64);
            assert!((sent as f64 - wanted).abs() <= wanted / 100.0 + 1.0, "{sent} sent, {wanted} wanted");
        }
        assert_eq!(sent_in(0.0, 1), 0);
    }

    #[test]
    fn a_stall_does_not_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(10_000.0, start);
        assert_eq!(pace.due(start + Duration::from_secs(2)), 64);
        pace.set(1.0, start + Duration::from_secs(3));
        assert_eq!(pace.due(start + Duration::from_secs(3)), 1);
    }
}
