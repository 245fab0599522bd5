//! What a process holds: memory and descriptors, over time.

use std::time::Duration;

use anyhow::Context as _;

use crate::sys;

/// Readings of one process, oldest first.
#[derive(Debug, Default)]
pub(super) struct Memory {
    readings: Vec<(Duration, u64)>,
}

impl Memory {
    /// Takes a reading; a process that is gone gives none.
    pub(super) fn read(&mut self, at: Duration, pid: u32) {
        if let Ok(kib) = sys::memory_kib(pid, "VmRSS") {
            self.readings.push((at, kib));
        }
    }

    /// The last reading, in KiB.
    pub(super) fn last(&self) -> u64 {
        self.readings.last().map_or(0, |(_, kib)| *kib)
    }

    /// The largest reading between two times, in KiB.
    pub(super) fn most(&self, from: Duration, until: Duration) -> u64 {
        let within = self.readings.iter().filter(|(at, _)| (from..=until).contains(at));
        within.map(|(_, kib)| *kib).max().unwrap_or(0)
    }

    /// By how much it grows in a minute, in KiB, from `from` on: the line with the least squares.
    pub(super) fn slope(&self, from: Duration) -> f64 {
        let points: Vec<(f64, f64)> = self
            .readings
            .iter()
            .filter(|(at, _)| *at >= from)
            .map(|(at, kib)| (at.as_secs_f64() / 60.0, *kib as f64))
            .collect();
        let count = points.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let (mut up, mut along) = (0.0, 0.0);
        for point in &points {
            up += (point.0 - x) * (point.1 - y);
            along += (point.0 - x).powi(2);
        }
        if along > 0.0 { up / along } else { 0.0 }
    }
}

/// How many descriptors a process has open.
pub(super) fn descriptors(pid: u32) -> anyhow::Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(std::fs::read_dir(&path).with_context(|| format!("read {path}"))?.count())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Memory, descriptors};

    #[test]
    fn memory_has_a_slope_and_a_peak() {
        let at = Duration::from_secs;
        let rising = Memory { readings: (0..10).map(|minute| (at(minute * 60), 1_000 + minute * 30)).collect() };
        assert!((rising.slope(at(0)) - 30.0).abs() < 1e-6, "{}", rising.slope(at(0)));
        assert_eq!((rising.most(at(0), at(120)), rising.most(at(5_000), at(6_000)), rising.last()), (1_060, 0, 1_270));
        assert!(Memory::default().slope(at(0)).abs() < f64::EPSILON);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let mut memory = Memory::default();
        memory.read(Duration::ZERO, std::process::id());
        assert!(memory.last() > 100 && descriptors(std::process::id()).expect("a folder") > 2);
    }
}
