//! The only place that reads the clocks.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::edge::WallClock;

/// `CLOCK_MONOTONIC` in nanoseconds: what `bpf_ktime_get_ns` gives the kernel side.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// The wall clock as of now, shifted by `skew_ns`.
#[must_use]
pub fn wall(skew_ns: i64) -> WallClock {
    let offset_ns = read(ClockId::CLOCK_REALTIME).cast_signed() - monotonic_ns().cast_signed() + skew_ns;
    WallClock { offset_ns }
}

/// An instant for the runtime's timers, so far from now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
pub fn timer(after: Duration) -> Instant {
    Instant::now() + after
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id).expect("both clocks are there on every Linux");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}
