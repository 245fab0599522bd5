//! What the newest source of an edge's side had counted at a few instants: what rates and loss are made of. Pure.

use std::collections::VecDeque;

use super::flow::{Source, Totals};
use crate::{
    loss::{Point, Track},
    rate::Reading,
    time::{Ns, SECOND},
};

/// Samples older than this are of no use to rates and loss.
const SAMPLE_SPAN: Ns = 6 * SECOND;
/// Samples kept per side.
const MAX_SAMPLES: usize = 40;

/// One source's totals at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When, by the collector's clock.
    pub at: Ns,
    /// What the source had counted.
    pub totals: Totals,
    /// Telemetry the source's node had lost by then: packets that may be missing from the totals.
    pub unseen: u64,
}

/// Telemetry a node had lost: at a sample, and by the instant at which all was known before it.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "said above")]
pub struct Unseen {
    pub now: u64,
    pub base: u64,
}

/// The newest source of a side, sampled.
#[derive(Debug, Clone)]
pub struct SideTrack {
    /// Who.
    pub source: Source,
    /// Samples in order of time.
    pub samples: VecDeque<Sample>,
    /// When the source's first packet passed.
    pub first_seen: Ns,
    /// Telemetry lost by `base_at`, before the first sample: of no concern to this edge.
    pub base: u64,
    /// When that was.
    pub base_at: Ns,
}

impl SideTrack {
    /// Adds what the source counted at `sample.at`. `held_until` is the last instant at which the totals before held.
    pub fn push(&mut self, sample: Sample, held_until: Ns) {
        if let Some(&last) = self.samples.back() {
            if sample.at < last.at {
                return;
            }
            if sample.at == last.at {
                self.samples.pop_back();
            } else if held_until > last.at && held_until < sample.at {
                self.samples.push_back(Sample { at: held_until, ..last });
            }
        }
        self.samples.push_back(sample);
        while self.samples.len() > MAX_SAMPLES
            || (self.samples.len() > 2
                && self.samples.front().is_some_and(|old| old.at < sample.at.saturating_sub(SAMPLE_SPAN)))
        {
            self.samples.pop_front();
        }
    }

    /// One direction as the rates want it.
    pub fn readings(&self, forward: bool) -> impl DoubleEndedIterator<Item = Reading> + Clone {
        self.samples.iter().map(move |sample| {
            let totals = &sample.totals;
            let (counters, last) =
                if forward { (&totals.forward, totals.forward_last) } else { (&totals.reverse, totals.reverse_last) };
            let connections = if forward { totals.established } else { 0 };
            Reading { at: sample.at, last, skbs: counters.skbs, bytes: counters.l3_bytes, connections }
        })
    }

    /// One direction as the loss wants it. A receiver is given credit for what its node may have missed.
    #[must_use]
    pub fn track(&self, forward: bool, receiver: bool, until: Ns, unseen: u64) -> Track {
        let newest = self.samples.len().saturating_sub(1);
        let points = self.samples.iter().enumerate().map(|(index, sample)| {
            let segments = if forward { sample.totals.forward.segments } else { sample.totals.reverse.segments };
            let missed = if index == newest { sample.unseen.max(unseen) } else { sample.unseen };
            let missed = missed.saturating_sub(self.base);
            Point { at: sample.at, count: if receiver { segments.saturating_add(missed) } else { segments } }
        });
        Track::new(points.collect(), until)
    }
}
