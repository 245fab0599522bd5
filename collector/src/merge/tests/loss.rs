//! Loss between two sides: whatever clocks, ticks and reports do, none shows that was none, and none that is too large.

use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest};
use wire::v1::{ClockOffset, Counters, Device, Edge, Loss, LossCause, Point, Report};

use super::{START, edge, report};
use crate::{
    merge::{Bounds, Merge, Verdict, evaluate::Unmeasured, flow::Side},
    time::{MS, Ns, SECOND},
};

/// A constant stream seen by one node whose clock is off.
#[derive(Debug, Clone)]
struct Watcher {
    name: &'static str,
    side: Side,
    /// What the node's clock shows beyond the true time.
    skew: Ns,
    /// By how much its own estimate of that is wrong; it claims this error.
    wrong: Ns,
    ticks: Vec<Ns>,
    tick_index: usize,
    due: Ns,
    seq: u64,
    covered: Ns,
    /// Reports from one to another are off by so much beside, and say so: an estimate over a bad road.
    rough: (u64, u64, Ns),
    /// Reports take so long.
    road: Ns,
    /// At this report the agent starts anew, with another clock of which it knows nothing at first; the report takes long.
    restart: Option<(u64, Ns)>,
    epoch: u64,
}

impl Watcher {
    fn new(name: &'static str, side: Side, skew: Ns, wrong: Ns, ticks: Vec<Ns>, covered: Ns) -> Self {
        let (rough, road, restart) = ((0, 0, 0), MS, None);
        Self {
            name,
            side,
            skew,
            wrong,
            ticks,
            tick_index: 0,
            due: covered,
            seq: 0,
            covered,
            rough,
            road,
            restart,
            epoch: 1,
        }
    }

    /// The report of the tick at true time `at`, of a stream whose packet number n passes at `first + n * gap`.
    fn report(&mut self, at: Ns, count: impl Fn(Ns) -> u64, first: Ns, last: Ns) -> Report {
        self.seq += 1;
        let again = self.restart.take_if(|(seq, _)| *seq == self.seq);
        if let Some((_, skew)) = again {
            (self.skew, self.epoch, self.seq, self.covered) = (skew, self.epoch + 1, 1, at - SECOND / 2);
        }
        let (from, to, off) = self.rough;
        let rough = if (from..=to).contains(&self.seq) { off } else { 0 };
        let clock = ClockOffset {
            offset_ns: -self.skew + self.wrong + rough,
            error_ns: self.wrong.unsigned_abs() + rough.unsigned_abs(),
        };
        let seen = count(at) - count(self.covered.min(at));
        let local = |time: Ns| time + self.skew;
        let first = local(first.max(self.covered));
        let edges = if seen > 0 { vec![edge(self.side, seen, first, local(last))] } else { vec![] };
        Report {
            clock: again.is_none().then_some(clock),
            epoch: self.epoch,
            devices: vec![Device {
                name: "veth1".to_owned(),
                ifindex: 1,
                incarnation: 1,
                tier: 1,
                covered_since_unix_ns: local(self.covered).unsigned_abs(),
                ..Device::default()
            }],
            ..report(self.name, self.seq, local(at), edges)
        }
    }
}

/// Plays two watchers of one stream for `span` and hands every evaluation to `check`.
fn play(
    watchers: &mut [Watcher; 2],
    per_second: i64,
    lost: impl Fn(u64) -> u64,
    stop: Ns,
    span: Ns,
    mut check: impl FnMut(Ns, &Result<(crate::loss::Loss, crate::loss::Loss), Unmeasured>),
) -> Merge {
    let gap = SECOND / per_second;
    let first = START + 100 * MS;
    let sent = |at: Ns| u64::try_from((at.min(stop) - first).div_euclid(gap) + 1).unwrap_or(0);
    let mut merge = Merge::new(Bounds::default(), START);
    let mut now = START;
    let mut on_the_road: Vec<(Ns, Report)> = Vec::new();
    while now < START + span {
        now += 50 * MS;
        on_the_road.sort_by_key(|(due, _)| *due);
        for (due, report) in on_the_road.extract_if(.., |(due, _)| *due <= now) {
            assert!(matches!(merge.accept(&report, due), Verdict::Accepted { .. }));
        }
        for watcher in watchers.iter_mut() {
            if now < watcher.due {
                continue;
            }
            watcher.due = now + watcher.ticks[watcher.tick_index % watcher.ticks.len()];
            watcher.tick_index += 1;
            let side = watcher.side;
            let count = |at: Ns| match side {
                Side::Client => sent(at),
                // Half a millisecond on the road.
                Side::Server => sent(at - MS / 2) - lost(sent(at - MS / 2)),
            };
            let passed = sent(now);
            let last = first + (i64::try_from(passed).unwrap_or(1) - 1).max(0) * gap;
            let report = watcher.report(now, count, first, last);
            let road = if report.clock.is_none() { 5 * SECOND } else { watcher.road };
            if report.clock.is_none() {
                watcher.due = now + road;
            }
            if road > MS {
                on_the_road.push((now + road, report));
            } else {
                assert!(matches!(merge.accept(&report, now + MS), Verdict::Accepted { .. }));
            }
        }
        let Some((id, _)) = merge.flows().next() else { continue };
        merge.evaluate(id, now);
        check(now, &merge.flow(id).expect("there").evaluation.loss);
    }
    merge
}

fn ticks(step: Ns) -> Vec<Ns> {
    vec![step; 3]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// A lossless edge at 10,000 packets a second between clocks half a second apart never shows a lost packet.
    #[test]
    fn lossless_is_zero(
        skews in prop::array::uniform2(-500i64..=500),
        wrongs in prop::array::uniform2(-40i64..=40),
        steps in prop::array::uniform2(prop::collection::vec((50i64..2_000).prop_map(|ms| ms * MS), 3..9)),
        covered in prop::array::uniform2(0i64..3_000),
    ) {
        let [a, b] = steps;
        let mut watchers = [
            Watcher::new("n1", Side::Client, skews[0] * MS, wrongs[0] * MS, a, START + covered[0] * MS),
            Watcher::new("n2", Side::Server, skews[1] * MS, wrongs[1] * MS, b, START + covered[1] * MS),
        ];
        let mut false_loss = None;
        play(&mut watchers, 10_000, |_| 0, START + 20 * SECOND, 20 * SECOND, |now, loss| {
            if let Ok((forward, _)) = loss && (forward.lost > 0 || forward.ratio() > 0.0) {
                false_loss.get_or_insert((now, *forward));
            }
        });
        prop_assert_eq!(false_loss, None);
    }

    /// Whatever is lost, at most that is shown; once all is quiet, exactly that.
    #[test]
    fn loss_is_exact_once_quiet(every in 4u64..40, skew in -500i64..=500) {
        let mut watchers = [
            Watcher::new("n1", Side::Client, skew * MS, 5 * MS, ticks(200 * MS), START - 5 * SECOND),
            Watcher::new("n2", Side::Server, 0, 2 * MS, ticks(200 * MS), START - 5 * SECOND),
        ];
        let mut last = 0;
        let mut early = true;
        play(&mut watchers, 100, |sent| sent / every, START + 8 * SECOND, 16 * SECOND, |now, loss| {
            if let Ok((forward, reverse)) = loss {
                early &= forward.lost <= 800 / every + 1 && reverse.lost == 0;
                if now > START + 8 * SECOND { last = forward.lost; }
            }
        });
        prop_assert!(early);
        let sent = 791; // From 100 ms to 8 s, one each 10 ms.
        prop_assert_eq!(last, sent / every);
    }
}

/// A node whose clock is known badly for a while, or not at all after a start: nothing is made of where its samples seemed to lie.
#[test]
fn a_clock_that_becomes_known_makes_no_loss() {
    let watcher = |side, name, covered| Watcher::new(name, side, 0, 0, ticks(200 * MS), covered);
    let late = 700 * MS;
    for (rough, restart, road) in [
        ((1, 12, 4 * SECOND), None, MS),
        ((1, 12, -4 * SECOND), None, MS),
        ((10, 40, 1_500 * MS), None, late),
        ((10, 40, -1_500 * MS), None, late),
        ((0, 0, 0), Some((20, 900 * MS)), MS),
    ] {
        for changed in [0, 1] {
            // The server's side watches from later on: what both saw at some moment is what they are compared by.
            let mut both = [watcher(Side::Client, "n1", START), watcher(Side::Server, "n2", START + SECOND)];
            both[changed].rough = rough;
            both[changed].restart = restart;
            both[1 - changed].road = road;
            let mut measured = 0;
            play(
                &mut both,
                500,
                |_| 0,
                START + 20 * SECOND,
                25 * SECOND,
                |now, loss| {
                    if let Ok((forward, reverse)) = loss {
                        assert_eq!(
                            (forward.lost, reverse.lost),
                            (0, 0),
                            "{rough:?} {restart:?} {changed} at {}",
                            now - START
                        );
                        measured += 1;
                    }
                },
            );
            assert!(measured > 100, "it was compared in the end");
        }
    }
}

#[test]
fn one_side_is_one_sided() {
    let mut merge = Merge::new(Bounds::default(), START);
    merge.accept(&report("n1", 1, START, vec![edge(Side::Client, 5, START, START)]), START);
    let (id, _) = merge.flows().next().expect("an edge");
    merge.evaluate(id, START);
    let loss = &merge.flow(id).expect("there").evaluation.loss;
    assert_eq!(loss, &Err(Unmeasured::NotReported(Side::Server)));
}

/// Two nodes count one edge for four seconds: (sent, got) packets a tick from the client, then from the server.
fn exchange(forward: (u64, u64), reverse: (u64, u64), tcp: Edge) -> Result<(u64, u64), Unmeasured> {
    exchange_at(forward, reverse, tcp, [Point::Pod; 2], false)
}

/// The same, with the points at which client's and server's node count; packets reach the server's pods past their devices.
fn exchange_at(
    forward: (u64, u64),
    reverse: (u64, u64),
    tcp: Edge,
    points: [Point; 2],
    bypassed: bool,
) -> Result<(u64, u64), Unmeasured> {
    let mut merge = Merge::new(Bounds::default(), START);
    for tick in 1..=20u64 {
        let now = START + tick.cast_signed() * 200 * MS;
        let counters = |count: u64| (count > 0).then(|| Counters { segments: tick * count, ..Counters::default() });
        for (node, side, forward, reverse) in
            [("n1", Side::Client, forward.0, reverse.1), ("n2", Side::Server, forward.1, reverse.0)]
        {
            let seen = Edge { forward: counters(forward), reverse: counters(reverse), ..edge(side, 0, START, now) };
            let point = points[usize::from(side == Side::Server)].into();
            let seen = Edge { opened: tcp.opened, established: tcp.established, point, ..seen };
            let device = Device { name: "lxc1".to_owned(), bypassed: bypassed && node == "n2", ..Device::default() };
            merge.accept(&Report { devices: vec![device], ..report(node, tick, now, vec![seen]) }, now);
        }
        let (id, _) = merge.flows().next().expect("an edge");
        merge.evaluate(id, now);
    }
    let (_, flow) = merge.flows().next().expect("an edge");
    flow.evaluation.loss.clone().map(|(forward, reverse)| (forward.lost, reverse.lost))
}

#[test]
fn who_answers_what_he_never_got_is_unobserved_and_not_a_loss() {
    let tcp = |established| Edge { opened: 1, established, ..Edge::default() };
    let loss = exchange((10, 0), (10, 10), tcp(1));
    assert!(matches!(loss, Err(Unmeasured::Unobserved(Side::Server, 1))), "{loss:?}");
    let loss = exchange((10, 10), (10, 0), tcp(1));
    assert!(matches!(loss, Err(Unmeasured::Unobserved(Side::Client, 0))), "{loss:?}");
    assert_eq!(exchange((10, 10), (10, 10), tcp(1)), Ok((0, 0)));
    // The answers to a handshake that never completes are lost, all of them.
    let loss = exchange((10, 10), (10, 0), tcp(0));
    assert!(matches!(loss, Ok((0, 1..))), "{loss:?}");
}

#[test]
fn arrivals_past_a_device_or_at_sockets_are_no_measure_of_loss() {
    let at = |client, server, bypassed| {
        exchange_at(
            (10, 5),
            (10, 10),
            Edge { opened: 1, established: 1, ..Edge::default() },
            [client, server],
            bypassed,
        )
    };
    let unobserved = |loss: &Result<_, _>| matches!(loss, Err(Unmeasured::Unobserved(Side::Server, 1)));
    let watched = at(Point::Pod, Point::Pod, false);
    assert!(matches!(watched, Ok((1.., 0))), "{watched:?}");
    let past = at(Point::Pod, Point::Pod, true);
    assert!(unobserved(&past), "{past:?}");
    let sockets = at(Point::Pod, Point::Cgroup, false);
    assert!(unobserved(&sockets), "{sockets:?}");
    // The tunnel sees every packet that comes from another node.
    assert!(matches!(at(Point::Pod, Point::Tunnel, true), Ok((1.., 0))));
    // The same unit on both sides.
    assert!(matches!(at(Point::Cgroup, Point::Cgroup, false), Ok((1.., 0))));
}

/// One in ten packets is lost on an edge of three seconds, then all is quiet; the receiver's node lost telemetry before it began, and during.
fn lost_beside(before: (LossCause, u64), during: (LossCause, u64), first: Ns) -> u64 {
    let mut merge = Merge::new(Bounds::default(), START);
    let loss = |(cause, count)| Loss { cause: cause as i32, count };
    let device = Device {
        incarnation: 1,
        tier: 1,
        covered_since_unix_ns: (START - 5 * SECOND).unsigned_abs(),
        ..Device::default()
    };
    for tick in 0..=35u64 {
        let now = START + SECOND + tick.cast_signed() * 200 * MS;
        let sent = tick.min(15);
        let mut losses = vec![loss(before)];
        if tick >= 5 {
            losses.push(loss(during));
        }
        for (node, side, count) in [("n1", Side::Client, sent * 10), ("n2", Side::Server, sent * 9)] {
            let edges = if tick > 0 { vec![edge(side, count, first, START + 4 * SECOND)] } else { vec![] };
            let losses = if node == "n2" { losses.clone() } else { vec![] };
            merge.accept(&Report { devices: vec![device.clone()], losses, ..report(node, tick + 1, now, edges) }, now);
        }
        let Some((id, _)) = merge.flows().next() else { continue };
        merge.evaluate(id, now);
    }
    let (_, flow) = merge.flows().next().expect("an edge");
    assert_eq!(flow.from_first, Some(first > START + SECOND));
    flow.evaluation.loss.as_ref().expect("measured").0.lost
}

#[test]
fn only_packets_lost_to_the_edges_while_it_lived_are_credited() {
    let first = START + 1_150 * MS;
    let none = (LossCause::Fragment, 0);
    let plain = lost_beside(none, none, first);
    assert_eq!(plain, 15);
    assert_eq!(lost_beside((LossCause::MapFull, 500), none, first), plain, "before it began");
    assert_eq!(lost_beside(none, (LossCause::MapFull, 500), first), 0, "may have been this edge's");
    assert_eq!(lost_beside(none, (LossCause::RingFull, 500), first), plain, "the packets are in the map");
    assert_eq!(lost_beside(none, (LossCause::TableFull, 500), first), plain, "the packets are in `other`");
    // It was there when telemetry was lost: what it had lost by then is not known.
    lost_beside((LossCause::MapFull, 500), none, START + 900 * MS);
}

#[test]
fn a_device_that_is_gone_ends_the_comparison() {
    let mut watchers = [
        Watcher::new("n1", Side::Client, 0, MS, ticks(200 * MS), START - 5 * SECOND),
        Watcher::new("n2", Side::Server, 0, MS, ticks(200 * MS), START - 5 * SECOND),
    ];
    let mut merge = play(&mut watchers, 100, |_| 0, START + 8 * SECOND, 8 * SECOND, |_, _| {});
    let (id, _) = merge.flows().next().expect("an edge");
    assert!(merge.flow(id).is_some_and(|flow| flow.evaluation.loss.is_ok()));
    // The server's pod goes; the client goes on sending, to nobody.
    let now = START + 9 * SECOND;
    let device = merge.flow(id).and_then(|flow| flow.server.as_ref()).expect("both sides").source.device;
    let gone = Device { name: "veth1".to_owned(), ifindex: 3, incarnation: device, gone: true, ..Device::default() };
    merge.accept(&Report { devices: vec![gone], ..report("n2", 1_000, now, vec![]) }, now);
    merge.accept(&report("n1", 1_000, now, vec![edge(Side::Client, 5_000, START, now)]), now);
    merge.evaluate(id, now);
    let loss = &merge.flow(id).expect("there").evaluation.loss;
    assert!(matches!(loss, Err(Unmeasured::DeviceGone(Side::Server, _))), "{loss:?}");
}
