//! What the agent knows of its talk with the collector: sequence, mark, run, clock offset, when to try again. Pure.

use std::time::Duration;

use wire::v1::{Ack, ClockOffset};

/// The shortest and the longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Round trips remembered for the clock offset; the shortest tells best (RFC 5905 §10).
const CLOCK_SAMPLES: usize = 16;

/// One talk with the collector, over all its runs.
#[derive(Debug)]
pub struct Session {
    /// Sequence number of the report made last.
    pub seq: u64,
    /// The mark.
    pub acked_seq: u64,
    /// The collector's run; 0 before the first answer.
    pub collector_run: u64,
    /// The next report carries everything.
    pub full: bool,
    failures: u32,
    not_before_ns: u64,
    clock_samples: Vec<(u64, i64)>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            seq: 0,
            acked_seq: 0,
            collector_run: 0,
            full: true,
            failures: 0,
            not_before_ns: 0,
            clock_samples: Vec::new(),
        }
    }
}

impl Session {
    /// Whether a report may be sent now.
    #[must_use]
    pub fn may_send(&self, now_ns: u64) -> bool {
        now_ns >= self.not_before_ns
    }

    /// Takes an acknowledgement of the report that left at `sent_unix_ns` and was answered at `received_unix_ns`, both
    /// by our own clock.
    pub fn acknowledged(&mut self, ack: &Ack, sent_unix_ns: u64, received_unix_ns: u64) {
        self.failures = 0;
        self.not_before_ns = 0;
        // A new run, or one that asks for it, gets everything next.
        self.full = ack.resync;
        self.collector_run = ack.collector_run;
        if ack.seq <= self.seq {
            self.acked_seq = self.acked_seq.max(ack.seq);
        }
        let round_trip = received_unix_ns.saturating_sub(sent_unix_ns);
        let middle = sent_unix_ns + round_trip / 2;
        let offset = ack.server_unix_ns.cast_signed().wrapping_sub(middle.cast_signed());
        if self.clock_samples.len() == CLOCK_SAMPLES {
            self.clock_samples.remove(0);
        }
        self.clock_samples.push((round_trip / 2 + 1, offset));
    }

    /// Notes a failure and waits longer each time: doubled, with up to a half taken off by `jitter` (any number).
    pub fn failed(&mut self, now_ns: u64, jitter: u64) -> Duration {
        let (shortest, longest) = BACK_OFF;
        let doubled = shortest.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let taken = doubled.as_millis() as u64 / 2;
        let wait = doubled - Duration::from_millis(if taken == 0 { 0 } else { jitter % taken });
        self.wait(now_ns, wait);
        wait
    }

    /// Sends nothing for so long.
    pub fn wait(&mut self, now_ns: u64, wait: Duration) {
        self.not_before_ns = now_ns + u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2);
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The collector's clock minus ours, by the shortest round trip of late.
    #[must_use]
    pub fn clock(&self) -> Option<ClockOffset> {
        let (error_ns, offset_ns) = self.clock_samples.iter().min_by_key(|(error, _)| *error)?;
        Some(ClockOffset { offset_ns: *offset_ns, error_ns: *error_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::{Ack, Duration, Session};

    #[test]
    fn the_shortest_round_trip_tells_the_offset() {
        let mut session = Session { seq: 9, ..Session::default() };
        let ack = |seq, server_unix_ns| Ack { collector_run: 7, seq, server_unix_ns, ..Ack::default() };
        session.acknowledged(&ack(1, 1_500), 1_000, 1_010);
        session.acknowledged(&ack(2, 9_000), 2_000, 4_000);
        let clock = session.clock().expect("two samples");
        assert_eq!((clock.offset_ns, clock.error_ns), (495, 6));
        assert_eq!((session.acked_seq, session.collector_run, session.full), (2, 7, false));
        session.acknowledged(&ack(99, 1), 0, 0);
        assert_eq!(session.acked_seq, 2, "an answer to a report that was never sent moves no mark");
    }

    #[test]
    fn waits_grow_to_a_bound_and_end_with_success() {
        let mut session = Session::default();
        let waits: Vec<_> = (0..20).map(|_| session.failed(0, 0)).collect();
        assert_eq!(waits[0], Duration::from_millis(200));
        assert_eq!(waits[19], Duration::from_secs(10));
        assert!(!session.may_send(1) && session.may_send(10_000_000_000));
        session.acknowledged(&Ack::default(), 0, 1);
        assert!(session.may_send(0));
        assert!(session.failed(0, 99) >= Duration::from_millis(100));
    }
}
