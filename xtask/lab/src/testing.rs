//! What tests that need the lab share: whether they may run here.

use crate::error::Result;
use crate::lab::Lab;
use crate::spec::LabSpec;
use crate::sys::require_root;

/// Whether this machine lets us build a lab. A skip says why; `ORRERY_REQUIRE_ROOT=1` turns it into a failure.
///
/// # Panics
/// When root was promised and is not there.
#[must_use]
pub fn may_run() -> bool {
    match require_root() {
        Ok(()) => true,
        Err(why) => {
            assert!(
                std::env::var_os("ORRERY_REQUIRE_ROOT").is_none_or(|value| value != "1"),
                "ORRERY_REQUIRE_ROOT=1, but {why}"
            );
            println!("skipped: {why}");
            false
        }
    }
}

/// A lab, or `None` where the test has to be skipped.
pub fn lab_or_skip(spec: LabSpec) -> Result<Option<Lab>> {
    if may_run() { Lab::up(spec).map(Some) } else { Ok(None) }
}

/// Whether this kernel is of this version or newer.
#[must_use]
pub fn kernel_since(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
