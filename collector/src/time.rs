//! Time as a number: nanoseconds since the Unix epoch, as an argument everywhere but in `lib.rs`.

/// Nanoseconds since the Unix epoch, or a span of them.
pub type Ns = i64;

/// One millisecond.
pub const MS: Ns = 1_000_000;
/// One second.
pub const SECOND: Ns = 1_000 * MS;
/// One minute.
pub const MINUTE: Ns = 60 * SECOND;

/// A time off the wire: unsigned there, clamped to what fits here.
#[must_use]
pub fn from_wire(ns: u64) -> Ns {
    Ns::try_from(ns).unwrap_or(Ns::MAX)
}
