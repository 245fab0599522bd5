//! Loss between the two sides of an edge, one way: pure, no clock.
//!
//! A packet that the sender's side counted up to `t` has, if it was not lost, reached the receiver's side by `t` plus the
//! transit, by a clock that may be off: `t + delta`. So for a receiver's sample at or after `t + delta`
//!
//! ```text
//! lost(t)  >=  sent(t) - received(t + delta) - surplus
//! ```
//!
//! where `surplus` is `sent - received` at a moment before which nothing can be compared: 0 where both sides watched from
//! the edge's first packet on, else the least of `sent(t0) - received(t0')` over pairs with `t0 >= t0' + delta`. Every pair
//! gives a lower bound, so the least surplus gives the best one, and traffic in flight, skewed clocks and late or missing
//! reports can only hide loss for a moment, never make it up. What is shown is the least bound of the last two seconds.
//!
//! The bound trails what was really lost by what is on the road within `delta`, and catches up whenever the traffic pauses:
//! a packet may be confirmed long after it was lost. So whether an edge loses packets *now* is told by another number, the
//! gap between both sides at one instant: it has to have grown within the last ten seconds by more than it wavers, and more
//! has to be confirmed than was in the gap when it last stood still.

use std::collections::VecDeque;

use crate::time::{MS, Ns, SECOND};

/// Time on the road between the two hooks, at the most, before a packet counts as lost.
pub const TRANSIT: Ns = 250 * MS;
/// The least of the bounds of this span is shown.
const CONFIRM: Ns = 2 * SECOND;
/// The ratio is taken over this span.
const RATIO_SPAN: Ns = 10 * SECOND;
/// The gap grows when it does by so many times what its means may be off by.
const WAVERS: f64 = 2.0;
/// Estimates kept per direction.
const MAX_ESTIMATES: usize = 64;
/// Estimates are this far apart at least.
const MIN_STEP: Ns = 180 * MS;

/// A cumulative count at an instant, by the collector's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// When the counter held this value.
    pub at: Ns,
    /// Wire segments.
    pub count: u64,
}

/// One side's counts of one direction: samples in order of time, the last one still true at `until`.
#[derive(Debug, Clone)]
pub struct Track {
    points: Vec<Point>,
    until: Ns,
}

impl Track {
    /// Samples in order of time, and the instant up to which the last is known to hold.
    #[must_use]
    pub fn new(points: Vec<Point>, until: Ns) -> Self {
        Self { points, until }
    }

    /// The count at the first instant at or after `at` that is known.
    fn at_or_after(&self, at: Ns) -> Option<Point> {
        let index = self.points.partition_point(|point| point.at < at);
        match self.points.get(index) {
            Some(point) => Some(*point),
            None if at <= self.until => self.points.last().map(|last| Point { at, count: last.count }),
            None => None,
        }
    }

    /// The count at the last instant at or before `at` that is known.
    fn at_or_before(&self, at: Ns) -> Option<Point> {
        let index = self.points.partition_point(|point| point.at <= at);
        self.points.get(index.checked_sub(1)?).copied()
    }

    /// The count at `at`, on a straight line between its neighbours.
    fn between(&self, at: Ns) -> Option<f64> {
        let after = self.at_or_after(at)?;
        let Some(before) = self.at_or_before(at) else { return Some(after.count as f64) };
        if after.at <= before.at {
            return Some(before.count as f64);
        }
        let share = (at as f64 - before.at as f64) / (after.at as f64 - before.at as f64);
        Some(before.count as f64 + share * (after.count as f64 - before.count as f64))
    }
}

#[derive(Debug, Clone, Copy)]
struct Estimate {
    at: Ns,
    /// Lower bound of what was lost up to `at`.
    bound: i64,
    /// Sent less received at `at` itself, the receiver's count interpolated: a guess of what was lost, surplus included.
    gap: f64,
    sent: u64,
}

/// The middle of some estimates.
struct Middle {
    at: f64,
    gap: f64,
    /// The variance of `gap`.
    variance: f64,
}

impl Middle {
    fn of<'a>(estimates: impl Iterator<Item = &'a Estimate> + Clone) -> Option<Self> {
        let first = estimates.clone().next()?.at;
        let count = estimates.clone().count() as f64;
        let mean = |value: &dyn Fn(&Estimate) -> f64| estimates.clone().map(value).sum::<f64>() / count;
        let gap = mean(&|estimate| estimate.gap);
        let variance = mean(&|estimate| (estimate.gap - gap).powi(2)) / count;
        Some(Self { at: first as f64 + mean(&|estimate| (estimate.at - first) as f64), gap, variance })
    }
}

/// How the gap between both sides grew over the estimates at hand.
struct Growth {
    /// By so many packets.
    packets: f64,
    /// They are more than the gap wavers by.
    certain: bool,
    /// The gap at the end, from and to.
    gap: [f64; 2],
}

/// What is known of the loss in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Packets lost between the sides: confirmed, never less than before unless both sides are quiet.
    pub lost: u64,
    /// Packets lost in the last ten seconds.
    pub recent_lost: f64,
    /// Packets sent in the last ten seconds.
    pub recent_sent: f64,
}

impl Loss {
    /// The share of the packets of the last ten seconds that was lost, 0 when nothing moved.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.recent_sent > 0.0 { (self.recent_lost / self.recent_sent).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// One direction of one edge.
#[derive(Debug, Clone, Default)]
pub struct Direction {
    /// What earlier generations (before an agent restarted, say) had confirmed.
    carried: u64,
    shown: u64,
    surplus: Option<i64>,
    estimates: VecDeque<Estimate>,
    paired_to: Option<Ns>,
    /// It loses packets now.
    losing: bool,
    /// The packets by which the gap grew over the estimates at hand.
    grown: f64,
    /// The gap when it last stood still: what is confirmed up to here was lost before.
    settled: f64,
}

impl Direction {
    /// One of the sides changed (another agent run, another device): what was confirmed stays, the rest starts anew.
    pub fn restart(&mut self) {
        *self = Self { carried: self.carried.saturating_add(self.shown), ..Self::default() };
    }

    /// What was confirmed so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.carried.saturating_add(self.shown)
    }

    /// An earlier run had confirmed this much.
    pub fn resume(&mut self, lost: u64) {
        *self = Self { carried: lost, ..Self::default() };
    }

    /// Takes in what both sides know by now. `from_first` says that both watched from the first packet on.
    pub fn observe(&mut self, sender: &Track, receiver: &Track, delta: Ns, from_first: bool) {
        let mut newest = self.estimates.back().map(|estimate| estimate.at);
        for &point in &sender.points {
            if newest.is_none_or(|newest| point.at >= newest.saturating_add(MIN_STEP)) {
                self.step(point, receiver, delta, from_first);
                newest = self.estimates.back().map(|estimate| estimate.at).or(newest);
            }
        }
        // Since its last sample the sender's count stands still: any instant up to `until` will do.
        if let Some(&last) = sender.points.last() {
            let at = sender.until.min(receiver.until.saturating_sub(delta));
            if at > last.at && newest.is_none_or(|newest| at >= newest.saturating_add(MIN_STEP)) {
                self.step(Point { at, count: last.count }, receiver, delta, from_first);
            }
        }
    }

    fn step(&mut self, sent: Point, receiver: &Track, delta: Ns, from_first: bool) {
        if from_first {
            self.surplus = Some(0);
        } else if self.paired_to.is_none_or(|paired_to| sent.at > paired_to) {
            if let Some(before) = receiver.at_or_before(sent.at.saturating_sub(delta)) {
                let surplus = difference(sent.count, before.count);
                self.surplus = Some(self.surplus.map_or(surplus, |known| known.min(surplus)));
            }
            self.paired_to = Some(sent.at);
        }
        let due = sent.at.saturating_add(delta);
        let (Some(surplus), Some(got), Some(between)) =
            (self.surplus, receiver.at_or_after(due), receiver.between(sent.at))
        else {
            return;
        };
        let bound = difference(sent.count, got.count).saturating_sub(surplus);
        if self.estimates.is_empty() {
            self.settled = surplus as f64;
        }
        let gap = sent.count as f64 - between;
        self.estimates.push_back(Estimate { at: sent.at, bound, gap, sent: sent.count });
        self.confirm(sent.at);
        self.judge(surplus);
    }

    fn confirm(&mut self, newest: Ns) {
        while self.estimates.len() > MAX_ESTIMATES
            || self.estimates.get(1).is_some_and(|second| second.at <= newest.saturating_sub(RATIO_SPAN))
        {
            self.estimates.pop_front();
        }
        // Bounds are confirmed by two seconds of them, or by the whole of a shorter life.
        let window = self.estimates.iter().filter(|estimate| estimate.at > newest.saturating_sub(CONFIRM));
        let least = window.clone().map(|estimate| estimate.bound).min().unwrap_or(0);
        let spans = self.estimates.front().is_some_and(|first| first.at <= newest.saturating_sub(CONFIRM));
        let quiet = window.map(|estimate| estimate.sent).min() == self.estimates.back().map(|newest| newest.sent);
        let least = u64::try_from(least).unwrap_or(0);
        if spans && quiet {
            self.shown = least;
        } else if spans {
            self.shown = self.shown.max(least);
        }
    }

    /// Decides whether packets are being lost now.
    fn judge(&mut self, surplus: i64) {
        let growth = self.growth();
        self.grown = growth.as_ref().map_or(0.0, |growth| growth.packets);
        let Some(Growth { certain, gap: [least, most], .. }) = growth else { return };
        if !certain {
            // Once it ceased, what comes to be confirmed must be beyond doubt to be new; else slow loss must not hide.
            self.settled = if self.losing { most } else { self.settled.max(least) };
        }
        self.losing = certain && (self.losing || self.shown as f64 + surplus as f64 > self.settled);
    }

    /// How the gap grew, by the means of its first and its last two seconds.
    fn growth(&self) -> Option<Growth> {
        let (first, last) = (self.estimates.front()?.at, self.estimates.back()?.at);
        let part = CONFIRM.min((last - first) / 3);
        let early = Middle::of(self.estimates.iter().filter(|estimate| estimate.at <= first + part))?;
        let late = Middle::of(self.estimates.iter().filter(|estimate| estimate.at >= last - part))?;
        if late.at <= early.at {
            return None;
        }
        // Between the two middles is less than the whole span.
        let whole = (last - first) as f64 / (late.at - early.at);
        let grown = late.gap - early.gap;
        let unsure = (WAVERS * (early.variance + late.variance).sqrt()).max(0.5);
        let gap = [late.gap - unsure, late.gap + unsure];
        Some(Growth { packets: grown * whole, certain: grown > unsure, gap })
    }

    /// The newest estimate's time: `None` before the first.
    #[must_use]
    pub fn measured_to(&self) -> Option<Ns> {
        self.estimates.back().map(|estimate| estimate.at)
    }

    /// What is known at `now`; `None` while it settles.
    #[must_use]
    pub fn loss(&self, now: Ns) -> Option<Loss> {
        let last = self.estimates.back()?;
        let lost = self.lost();
        let calm = Loss { lost, recent_lost: 0.0, recent_sent: 0.0 };
        let moved = self
            .estimates
            .iter()
            .any(|estimate| estimate.at > last.at.saturating_sub(CONFIRM) && estimate.sent != last.sent);
        if !moved || last.at < now.saturating_sub(RATIO_SPAN) {
            return Some(calm);
        }
        let first =
            self.estimates.iter().find(|estimate| estimate.at >= last.at.saturating_sub(RATIO_SPAN)).unwrap_or(last);
        let recent_sent = last.sent.saturating_sub(first.sent) as f64;
        let recent_lost = if self.losing { self.grown.clamp(0.0, recent_sent) } else { 0.0 };
        Some(Loss { lost, recent_lost, recent_sent })
    }
}

fn difference(a: u64, b: u64) -> i64 {
    let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    clamp(a).saturating_sub(clamp(b))
}

#[cfg(test)]
mod tests;
