//! When to read and report: fast while things change, slowly while nothing does, at once for a new edge. Pure.

use std::time::Duration;

/// Between two reports while things change.
pub const FAST_TICK: Duration = Duration::from_millis(200);
/// Between two reports while nothing does.
pub const SLOW_TICK: Duration = Duration::from_secs(2);
/// The same where the collector serves flow events: a wish for them comes with the next answer.
pub const HEEDFUL_TICK: Duration = Duration::from_secs(1);
/// How long nothing must have changed before the tick slows down.
const QUIET_AFTER: Duration = Duration::from_secs(2);
/// Reports made at once for a new edge, a second.
pub const FLUSHES_PER_SECOND: u32 = 20;

/// The pace of one agent. All times are monotonic nanoseconds.
#[derive(Debug)]
pub struct Pace {
    active_ns: u64,
    reported_ns: u64,
    flush_tokens: f64,
    flush_ns: u64,
    moved: u64,
    slow: Duration,
}

impl Pace {
    /// Starts fast.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        let flush_tokens = f64::from(FLUSHES_PER_SECOND);
        Self { active_ns: now_ns, reported_ns: 0, flush_tokens, flush_ns: now_ns, moved: 0, slow: SLOW_TICK }
    }

    /// Something changed.
    pub fn active(&mut self, now_ns: u64) {
        self.active_ns = now_ns;
    }

    /// A report was made.
    pub fn reported(&mut self, now_ns: u64) {
        self.reported_ns = now_ns;
    }

    /// Whether the collector may have wishes.
    pub fn heed(&mut self, heedful: bool) {
        self.slow = if heedful { HEEDFUL_TICK } else { SLOW_TICK };
    }

    /// Whether it may.
    #[must_use]
    pub fn heedful(&self) -> bool {
        self.slow == HEEDFUL_TICK
    }

    /// The tick of now.
    #[must_use]
    pub fn tick(&self, now_ns: u64) -> Duration {
        if now_ns.saturating_sub(self.active_ns) >= nanos(QUIET_AFTER) { self.slow } else { FAST_TICK }
    }

    /// Whether it is time to read the maps: when a report is due, or when `moved` (a sum over the devices that is cheap
    /// to read) is not what it was.
    pub fn look_due(&mut self, now_ns: u64, moved: impl FnOnce() -> u64) -> bool {
        if self.report_due(now_ns) {
            return true;
        }
        let moved = moved();
        std::mem::replace(&mut self.moved, moved) != moved
    }

    /// Whether what was read is worth a report: always while things change, else when the slow tick is over. What only
    /// our own reports moved must not make another one.
    #[must_use]
    pub fn report_due(&self, now_ns: u64) -> bool {
        self.tick(now_ns) == FAST_TICK || now_ns.saturating_sub(self.reported_ns) >= nanos(self.slow)
    }

    /// Whether a new edge may be told at once: [`FLUSHES_PER_SECOND`] of them, saved up for at most a second.
    pub fn may_flush(&mut self, now_ns: u64) -> bool {
        let most = f64::from(FLUSHES_PER_SECOND);
        let seconds = now_ns.saturating_sub(self.flush_ns) as f64 / 1e9;
        self.flush_ns = now_ns;
        self.flush_tokens = (self.flush_tokens + seconds * most).min(most);
        let may = self.flush_tokens >= 1.0;
        if may {
            self.flush_tokens -= 1.0;
        }
        may
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{FAST_TICK, FLUSHES_PER_SECOND, HEEDFUL_TICK, Pace, SLOW_TICK};

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn quiet_slows_it_down_and_movement_wakes_it() {
        let mut pace = Pace::new(0);
        assert_eq!((pace.tick(SECOND_NS), pace.tick(2 * SECOND_NS)), (FAST_TICK, SLOW_TICK));
        pace.reported(10 * SECOND_NS);
        let at = 10 * SECOND_NS + 1;
        pace.look_due(at, || 5);
        assert!(!pace.look_due(at, || 5));
        assert!(pace.look_due(at, || 6) && !pace.report_due(at), "something moved, perhaps only our own report");
        assert!(pace.look_due(12 * SECOND_NS, || 6) && pace.report_due(12 * SECOND_NS), "the slow tick is over");
        pace.active(at);
        assert!(pace.look_due(at, || 6) && pace.report_due(at));
    }

    #[test]
    fn who_heeds_a_collector_is_never_silent_for_longer_than_a_second() {
        let mut pace = Pace::new(0);
        pace.reported(10 * SECOND_NS);
        assert!(!pace.report_due(11 * SECOND_NS));
        pace.heed(true);
        assert!(pace.report_due(11 * SECOND_NS) && !pace.report_due(11 * SECOND_NS - 1));
        assert_eq!(pace.tick(11 * SECOND_NS), HEEDFUL_TICK);
        pace.heed(false);
        assert_eq!(pace.tick(11 * SECOND_NS), SLOW_TICK);
    }

    #[test]
    fn flushes_are_bounded() {
        let mut pace = Pace::new(0);
        let granted = (0..1_000).filter(|_| pace.may_flush(0)).count();
        assert_eq!(granted, FLUSHES_PER_SECOND as usize);
        assert!(pace.may_flush(SECOND_NS / 20 + 1) && !pace.may_flush(SECOND_NS / 20 + 2));
    }
}
