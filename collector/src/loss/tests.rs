//! A simulated edge with two sides: skewed clocks, ragged ticks, missing reports, restarts. What was really lost is known.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};

use super::{Direction, Point, TRANSIT, Track};
use crate::time::{MS, Ns, SECOND};

/// One packet: when it was sent, and when it arrived, if it did.
#[derive(Debug, Clone, Copy)]
struct Packet {
    sent: Ns,
    arrived: Option<Ns>,
}

/// One side's reports: true instants of sampling, and by how much the corrected clock is off.
#[derive(Debug, Clone)]
struct Watch {
    ticks: Vec<Ns>,
    off: Ns,
    since: Ns,
}

impl Watch {
    fn every(tick: Ns, until: Ns, off: Ns, since: Ns) -> Self {
        let ticks = (0..).map(|index| since + 10 * MS + index * tick).take_while(|&at| at <= until).collect();
        Self { ticks, off, since }
    }

    fn track(&self, passed: &[Ns], now: Ns) -> Track {
        let known: Vec<Ns> = self.ticks.iter().copied().filter(|&at| at <= now).collect();
        let count = |at: Ns| passed.iter().filter(|&&when| when >= self.since && when <= at).count() as u64;
        let points: Vec<Point> = known
            .iter()
            .filter(|&&at| at > now - 6 * SECOND)
            .map(|&at| Point { at: at + self.off, count: count(at) })
            .collect();
        let until = known.last().map_or(0, |&at| at + self.off);
        Track::new(points, until)
    }
}

fn run(
    packets: &[Packet],
    sender: &Watch,
    receiver: &Watch,
    error: Ns,
    until: Ns,
    from_first: bool,
) -> Vec<(Ns, u64, f64)> {
    let sent: Vec<Ns> = packets.iter().map(|packet| packet.sent).collect();
    let arrived: Vec<Ns> = packets.iter().filter_map(|packet| packet.arrived).collect();
    let mut direction = Direction::default();
    let mut shown = Vec::new();
    let mut now = 0;
    while now <= until {
        direction.observe(&sender.track(&sent, now), &receiver.track(&arrived, now), error + TRANSIT, from_first);
        if let Some(loss) = direction.loss(now) {
            shown.push((now, loss.lost, loss.ratio()));
        }
        now += 100 * MS;
    }
    shown
}

fn stream(per_second: i64, until: Ns, drop_every: Option<usize>) -> Vec<Packet> {
    let gap = SECOND / per_second;
    (1..until / gap)
        .map(|index| {
            let lost = drop_every.is_some_and(|every| (index as usize).is_multiple_of(every));
            Packet { sent: index * gap, arrived: (!lost).then_some(index * gap + MS) }
        })
        .collect()
}

#[test]
fn a_lossless_edge_shows_zero_under_skew() {
    for off in [-500 * MS, 0, 500 * MS] {
        let packets = stream(1_000, 8 * SECOND, None);
        let sender = Watch::every(200 * MS, 12 * SECOND, off, 0);
        let receiver = Watch::every(210 * MS, 12 * SECOND, 0, 0);
        for from_first in [true, false] {
            for (at, lost, ratio) in run(&packets, &sender, &receiver, 500 * MS, 12 * SECOND, from_first) {
                assert_eq!((lost, ratio), (0, 0.0), "off {off} at {at}");
            }
        }
    }
}

/// The simulation can fail: a clock that is off by more than it says makes loss up.
#[test]
fn a_lie_about_the_clock_would_show() {
    let packets = stream(1_000, 8 * SECOND, None);
    let sender = Watch::every(200 * MS, 12 * SECOND, -500 * MS, 0);
    let receiver = Watch::every(210 * MS, 12 * SECOND, 0, 0);
    let shown =
        |error| run(&packets, &sender, &receiver, error, 12 * SECOND, true).iter().any(|(_, lost, _)| *lost > 0);
    assert!(shown(-500 * MS) || shown(0));
    assert!(!shown(500 * MS));
}

#[test]
fn loss_is_shown_soon_and_exact_once_quiet() {
    let packets = stream(100, 15 * SECOND, Some(8));
    let lost = packets.iter().filter(|packet| packet.arrived.is_none()).count() as u64;
    let sender = Watch::every(200 * MS, 25 * SECOND, 0, 0);
    let receiver = Watch::every(200 * MS, 25 * SECOND, 3 * MS, 0);
    let shown = run(&packets, &sender, &receiver, 5 * MS, 25 * SECOND, true);
    let first = shown.iter().find(|(_, lost, _)| *lost > 0).expect("loss is seen");
    assert!(first.0 < 8 * SECOND, "first shown at {}", first.0);
    let during = shown.iter().find(|(at, ..)| *at >= 14 * SECOND).expect("a later one");
    assert!((during.2 - 0.125).abs() < 0.02, "ratio {}", during.2);
    let end = shown.last().expect("the last one");
    assert_eq!(end.1, lost);
    assert_eq!(end.2, 0.0, "nothing moves any more");
}

/// Packets that are confirmed long after they were lost, as traffic that pauses or slows makes it happen, light nothing again.
#[test]
fn a_healed_edge_stays_healed() {
    let (from, healed, end) = (10 * SECOND, 25 * SECOND, 70 * SECOND);
    for (seed, drop_every) in [(1_u64, 2), (2, 8), (3, 8), (4, 12)] {
        let mut random = seed;
        let mut next = |below: i64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) as i64) % below
        };
        let mut packets = Vec::new();
        let mut at = 0;
        while at < end {
            at += next(20) * MS;
            if next(200) == 0 {
                at += 400 * MS;
            }
            let lost = (from..healed).contains(&at) && next(drop_every) == 0;
            packets.push(Packet { sent: at, arrived: (!lost).then_some(at + (1 + next(3)) * MS) });
        }
        let mut ragged = || {
            let steps: Vec<Ns> = (0..400).map(|_| (190 + next(60)) * MS).collect();
            let ticks = steps.iter().scan(0, |at, step| {
                *at += step;
                Some(*at)
            });
            Watch { ticks: ticks.take_while(|&at| at <= end).collect(), off: 0, since: 0 }
        };
        let (sender, receiver) = (ragged(), ragged());
        let shown = run(&packets, &sender, &receiver, 5 * MS, end, true);
        let losing: Vec<Ns> = shown.iter().filter(|(.., ratio)| *ratio > 0.0).map(|(at, ..)| *at).collect();
        let (Some(&first), Some(&last)) = (losing.first(), losing.last()) else { panic!("seed {seed}: nothing seen") };
        assert!(first > from && first < healed, "seed {seed}: first shown at {first}");
        // Ten seconds are looked back over, and the means at their ends are of two.
        assert!(last < healed + 14 * SECOND, "seed {seed}: losing still at {last}");
        let again = shown.windows(2).filter(|pair| pair[1].0 > healed && pair[0].2 == 0.0 && pair[1].2 > 0.0).count();
        assert_eq!(again, 0, "seed {seed}: lit again");
    }
}

#[test]
fn the_shown_count_never_exceeds_the_truth() {
    let packets = stream(1_000, 10 * SECOND, Some(50));
    let sender = Watch::every(200 * MS, 10 * SECOND, 100 * MS, 0);
    let receiver = Watch::every(2 * SECOND, 10 * SECOND, -100 * MS, 0);
    for (at, lost, _) in run(&packets, &sender, &receiver, 200 * MS, 10 * SECOND, true) {
        let truth = packets.iter().filter(|packet| packet.sent <= at && packet.arrived.is_none()).count() as u64;
        assert!(lost <= truth, "{lost} > {truth} at {at}");
    }
}

#[test]
fn a_restart_keeps_what_was_confirmed() {
    let packets = stream(100, 6 * SECOND, Some(10));
    let sent: Vec<Ns> = packets.iter().map(|packet| packet.sent).collect();
    let arrived: Vec<Ns> = packets.iter().filter_map(|packet| packet.arrived).collect();
    let watch = Watch::every(200 * MS, 12 * SECOND, 0, 0);
    let mut direction = Direction::default();
    for now in (0..=12 * SECOND).step_by(100_000_000) {
        direction.observe(&watch.track(&sent, now), &watch.track(&arrived, now), TRANSIT, true);
    }
    let before = direction.loss(12 * SECOND).expect("measured").lost;
    assert!(before > 0);
    direction.restart();
    assert!(direction.loss(12 * SECOND).is_none(), "settles again");
    direction.observe(&watch.track(&sent, 12 * SECOND), &watch.track(&arrived, 12 * SECOND), TRANSIT, false);
    assert_eq!(direction.loss(12 * SECOND).map(|loss| loss.lost), Some(before));
}

fn watch(until: Ns) -> impl Strategy<Value = Watch> {
    let ticks = prop::collection::vec(prop_oneof![4 => Just(200), 1 => 50i64..2_000], 10..40);
    (ticks, -500i64..=500, 0i64..2_000).prop_map(move |(steps, off, since)| {
        let mut at = since * MS;
        let mut ticks = Vec::new();
        for step in steps.iter().cycle() {
            at += step * MS;
            if at > until {
                break;
            }
            ticks.push(at);
        }
        Watch { ticks, off: off * MS, since: since * MS }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the clocks, ticks, missing reports and moments at which the sides began to watch: no false loss.
    #[test]
    fn never_more_than_was_lost(
        sender in watch(9 * SECOND),
        receiver in watch(9 * SECOND),
        gaps in prop::collection::vec((1i64..60, any::<bool>(), 0i64..240), 50..400),
        lossy in any::<bool>(),
    ) {
        let mut at = 0;
        let packets: Vec<Packet> = gaps.iter().map(|&(gap, lost, transit)| {
            at += gap * MS;
            Packet { sent: at, arrived: (!(lossy && lost)).then_some(at + transit * MS) }
        }).collect();
        // The clocks are off by up to 500 ms each, and each side says so.
        for (now, lost, _) in run(&packets, &sender, &receiver, 1_000 * MS, 9 * SECOND, false) {
            let truth = packets.iter().filter(|packet| packet.sent <= now && packet.arrived.is_none()).count() as u64;
            prop_assert!(lost <= truth, "{} > {} at {}", lost, truth, now);
        }
    }
}
