//! What goes wrong, and when: a list of steps that follows from a seed alone.

use std::time::Duration;

use super::road::Condition;

/// The node whose agent is never ended: what it tells has to be the ledger, to the packet and the byte.
pub(super) const SPARED: usize = 3;
/// All nodes.
pub(super) const NODES: usize = 3;

/// One thing that is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// A node's agent ends: as in a crash, or because it is asked to.
    AgentDown { node: usize, kill: bool },
    /// A node's agent starts, with a clock that is wrong by so much.
    AgentUp { node: usize, skew_ms: i64 },
    /// The collector ends.
    CollectorDown { kill: bool },
    /// It starts again.
    CollectorUp,
    /// A node's way to the collector changes.
    Road { node: usize, condition: Condition },
    /// The link under one edge drops so many of a hundred packets; 0: none any more.
    Link { percent: u8 },
    /// The disk of the collector's state is full, or no longer.
    Disk { full: bool },
    /// Nobody who runs then starts a thread, or everybody may again.
    Pids { scarce: bool },
}

/// A number that follows from the seed and from how many were asked for before.
struct Dice(u64);

impl Dice {
    /// At least `from`, below `to`.
    fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0 = lab::mix(self.0);
        from + self.0 % (to - from).max(1)
    }

    /// So many units, with thousandths.
    fn units(&mut self, from: u64, to: u64, unit: Duration) -> Duration {
        let share = self.between(from * 1_000, to * 1_000);
        unit.mul_f64(share as f64 / 1_000.0)
    }

    fn toss(&mut self) -> bool {
        self.between(0, 2) == 0
    }
}

/// All steps within `time`, in order. At its end everything stands again.
pub(super) fn plan(seed: u64, time: Duration) -> Vec<(Duration, Step)> {
    let unit = (time / 60).clamp(Duration::from_millis(500), Duration::from_secs(10));
    let mut steps = Vec::new();
    for node in (1..=NODES).filter(|node| *node != SPARED) {
        let mut dice = Dice(lab::mix(seed ^ node as u64));
        // The first ends early: in a short run, too, each kind of end has its turn.
        let mut kill = dice.toss();
        lane(&mut dice, [6, 14], [0, 3], unit, time, |dice, down, up| {
            kill = !kill;
            steps.push((down, Step::AgentDown { node, kill }));
            let skew_ms = i64::try_from(dice.between(0, 1_001)).unwrap_or(0) - 500;
            steps.push((up, Step::AgentUp { node, skew_ms }));
        });
    }
    for node in 1..=NODES {
        let mut dice = Dice(lab::mix(seed ^ 100 ^ node as u64));
        let mut turn = dice.between(0, 3);
        lane(&mut dice, [4, 12], [1, 6], unit, time, |_, bad, good| {
            turn += 1;
            let condition = [Condition::Cut, Condition::Throttled, Condition::Stalled][(turn % 3) as usize];
            steps.push((bad, Step::Road { node, condition }));
            steps.push((good, Step::Road { node, condition: Condition::Open }));
        });
    }
    let mut dice = Dice(lab::mix(seed ^ 200));
    lane(&mut dice, [3, 8], [2, 6], unit, time, |dice, bad, good| {
        let percent = u8::try_from(dice.between(5, 41)).unwrap_or(5);
        steps.push((bad, Step::Link { percent }));
        steps.push((good, Step::Link { percent: 0 }));
    });
    collector(&mut Dice(lab::mix(seed ^ 300)), unit, time, &mut steps);
    lane(&mut Dice(lab::mix(seed ^ 400)), [4, 10], [2, 8], unit, time, |_, bad, good| {
        steps.push((bad, Step::Disk { full: true }));
        steps.push((good, Step::Disk { full: false }));
    });
    lane(&mut Dice(lab::mix(seed ^ 500)), [5, 11], [2, 8], unit, time, |_, bad, good| {
        steps.push((bad, Step::Pids { scarce: true }));
        steps.push((good, Step::Pids { scarce: false }));
    });
    // Stable: of two steps at one time the one that was planned first goes first.
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// Calm and trouble in turn; none begins that could not end in time.
fn lane(
    dice: &mut Dice,
    calm: [u64; 2],
    trouble: [u64; 2],
    unit: Duration,
    time: Duration,
    mut add: impl FnMut(&mut Dice, Duration, Duration),
) {
    let mut now = Duration::ZERO;
    loop {
        let from = now + dice.units(calm[0], calm[1], unit);
        let until = from + dice.units(trouble[0], trouble[1], unit);
        if until > time {
            return;
        }
        add(dice, from, until);
        now = until;
    }
}

/// It restarts a few times, and in the middle it is away for a third of the time.
fn collector(dice: &mut Dice, unit: Duration, time: Duration, steps: &mut Vec<(Duration, Step)>) {
    let third = time / 3;
    let mut kill = dice.toss();
    let mut restart = |down: Duration, up: Duration, steps: &mut Vec<(Duration, Step)>| {
        kill = !kill;
        steps.push((down, Step::CollectorDown { kill }));
        steps.push((up, Step::CollectorUp));
    };
    for part in 0..3 {
        let begin = third * part;
        if part == 1 {
            restart(begin, begin + third, steps);
            continue;
        }
        lane(dice, [5, 9], [0, 2], unit, third, |_, down, up| restart(begin + down, begin + up, steps));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Condition, SPARED, Step, plan};

    #[test]
    fn a_plan_follows_from_its_seed() {
        let minute = Duration::from_secs(60);
        assert_eq!(plan(7, minute), plan(7, minute));
        assert_ne!(plan(7, minute), plan(8, minute));
    }

    #[test]
    fn everything_has_its_turn_and_stands_again_at_the_end() {
        for (seed, seconds) in (0..50).flat_map(|seed| [(seed, 60), (seed, 1_800)]) {
            let time = Duration::from_secs(seconds);
            let steps = plan(seed, time);
            assert!(steps.is_sorted_by_key(|(at, _)| *at) && steps.iter().all(|(at, _)| *at <= time));
            let count = |wanted: &dyn Fn(&Step) -> bool| steps.iter().filter(|(_, step)| wanted(step)).count();
            let down = |killed: bool| count(&|step| matches!(step, Step::AgentDown { kill, .. } if *kill == killed));
            assert!(down(true) > 0 && down(false) > 0, "{seed} {seconds}: {steps:?}");
            let up = count(&|step| matches!(step, Step::AgentUp { .. }));
            assert_eq!(down(true) + down(false), up);
            assert_eq!(count(&|step| matches!(step, Step::AgentDown { node, .. } if *node == SPARED)), 0);
            let of = |wanted| count(&|step| matches!(step, Step::Road { condition, .. } if *condition == wanted));
            let bad = [Condition::Cut, Condition::Throttled, Condition::Stalled].map(of);
            assert!(bad.iter().all(|count| *count > 0), "{seed} {seconds}: {bad:?}");
            assert_eq!(of(Condition::Open), bad.iter().sum::<usize>());
            let link = |dropping| count(&|step| matches!(step, Step::Link { percent } if (*percent > 0) == dropping));
            assert!(link(true) > 0 && link(true) == link(false));
            let disk = |wanted| count(&|step| *step == Step::Disk { full: wanted });
            assert!(disk(true) > 0 && disk(true) == disk(false));
            let pids = |wanted| count(&|step| *step == Step::Pids { scarce: wanted });
            assert!(pids(true) > 0 && pids(true) == pids(false));
        }
    }

    #[test]
    fn the_collector_is_away_for_a_third_of_the_time() {
        let time = Duration::from_secs(1_800);
        let steps = plan(7, time);
        let only: Vec<_> =
            steps.iter().filter(|(_, step)| matches!(step, Step::CollectorDown { .. } | Step::CollectorUp)).collect();
        assert!(only.chunks(2).all(|pair| matches!(pair, [(_, Step::CollectorDown { .. }), (_, Step::CollectorUp)])));
        let away = only.chunks(2).map(|pair| pair[1].0 - pair[0].0).max();
        assert_eq!(away, Some(Duration::from_secs(600)));
    }
}
