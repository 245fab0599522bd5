//! `orrery-agent cleanup`: takes away what an agent left that did not end by itself. Only what is ours by place or name.

use std::{io, path::Path};

use anyhow::Context as _;

use crate::{
    config::PinPath,
    source::kernel::{attach, pins},
};

/// Removes pins and filters of ours in this network namespace, and tells `out` what they were.
///
/// # Errors
/// When something is there that cannot be removed.
pub fn run(place: &PinPath, out: &mut impl io::Write) -> anyhow::Result<()> {
    let base = match place {
        PinPath::Off => None,
        PinPath::Auto => Some(Path::new(pins::DEFAULT)),
        PinPath::At(path) => Some(path.as_path()),
    };
    let pinned = match base {
        Some(base) => pins::clean(base).with_context(|| format!("remove pins: {}", base.display()))?,
        None => Vec::new(),
    };
    for pin in &pinned {
        writeln!(out, "removed pin {}", pin.display())?;
    }
    let filters = attach::remove_filters(|_| true).context("remove filters; hint: this needs CAP_NET_ADMIN")?;
    for (ifindex, filter) in &filters {
        writeln!(out, "removed filter {} of device {ifindex}, priority {}", filter.name, filter.priority)?;
    }
    if pinned.is_empty() && filters.is_empty() {
        writeln!(out, "nothing was left")?;
    }
    Ok(())
}
