//! The only place that reads the clocks.

use nix::time::{ClockId, clock_gettime};

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

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id).expect("both clocks are there on every Linux");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}
