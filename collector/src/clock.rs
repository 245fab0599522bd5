//! The only place that reads the clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::time::Ns;

/// Nanoseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
#[must_use]
pub fn now() -> Ns {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ns::try_from(since.as_nanos()).unwrap_or(Ns::MAX)
}

/// The monotonic clock, for timers.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}
