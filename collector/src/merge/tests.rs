//! The merge beside its laws: bounds, loss between two skewed nodes, states, folding, device accounts.

use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest};
use wire::v1::{ClockOffset, Counters, Device, DeviceCounters, Edge, Loss, LossCause, Point, Report};

use super::{Bounds, Merge, Verdict, evaluate::Unmeasured, flow::Side};
use crate::{
    time::{MINUTE, MS, Ns, SECOND},
    view::NodeState,
};

const START: Ns = 1_795_000_000 * SECOND;

fn edge(side: Side, packets: u64, first: Ns, last: Ns) -> Edge {
    let counters = Counters { skbs: packets, segments: packets, l3_bytes: packets * 128, payload_bytes: packets * 100 };
    Edge {
        client: vec![10, 0, 0, 1],
        server: vec![10, 0, 1, 1],
        server_port: 80,
        protocol: 17,
        side: if side == Side::Client { 1 } else { 2 },
        device: 1,
        incarnation: 1,
        forward: Some(counters),
        first_seen_unix_ns: first.unsigned_abs(),
        forward_last_unix_ns: last.unsigned_abs(),
        ..Edge::default()
    }
}

fn report(node: &str, seq: u64, at: Ns, edges: Vec<Edge>) -> Report {
    Report {
        version: 1,
        node: node.to_owned(),
        epoch: 1,
        seq,
        sent_unix_ns: at.unsigned_abs(),
        sampled_unix_ns: at.unsigned_abs(),
        complete: true,
        next_tick_ms: 200,
        clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
        edges,
        ..Report::default()
    }
}

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
}

impl Watcher {
    fn new(name: &'static str, side: Side, skew: Ns, wrong: Ns, ticks: Vec<Ns>, covered: Ns) -> Self {
        Self { name, side, skew, wrong, ticks, tick_index: 0, due: covered, seq: 0, covered }
    }

    /// The report of the tick at true time `at`, of a stream whose packet number n passes at `first + n * gap`.
    fn report(&mut self, at: Ns, count: impl Fn(Ns) -> u64, first: Ns, last: Ns) -> Report {
        self.seq += 1;
        let seen = count(at) - count(self.covered.min(at));
        let local = |time: Ns| time + self.skew;
        let first = local(first.max(self.covered));
        let edges = if seen > 0 { vec![edge(self.side, seen, first, local(last))] } else { vec![] };
        Report {
            clock: Some(ClockOffset { offset_ns: -self.skew + self.wrong, error_ns: self.wrong.unsigned_abs() }),
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
    while now < START + span {
        now += 50 * MS;
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
            assert!(matches!(merge.accept(&report, now + MS), Verdict::Accepted { .. }));
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

#[test]
fn the_row_bound_holds_and_is_counted() {
    let mut merge = Merge::new(Bounds { rows: 3, ..Bounds::default() }, START);
    let edges = (0..5).map(|index| Edge { server_port: index, ..edge(Side::Client, 1, START, START) }).collect();
    merge.accept(&report("n1", 1, START, edges), START);
    assert_eq!((merge.row_count(), merge.refusals().rows), (3, 2));
    // What is there goes on counting.
    merge.accept(&report("n1", 2, START, vec![Edge { server_port: 0, ..edge(Side::Client, 9, START, START) }]), START);
    assert_eq!(merge.refusals().rows, 2);
}

/// What finds no room is on no edge and in the node's loss; once there is room it is on the edge alone.
#[test]
fn a_shed_row_counts_once_wherever_it_is() {
    let mut merge = Merge::new(Bounds { rows: 2, ..Bounds::default() }, START);
    let three =
        |packets| (0..3).map(move |port| Edge { server_port: port, ..edge(Side::Client, packets, START, START) });
    let on_edges = |merge: &Merge| {
        merge.flows().filter_map(|(_, flow)| flow.side_sum(Side::Client)).map(|sum| sum.forward.segments).sum::<u64>()
    };
    let shed = |merge: &Merge| {
        let losses = merge.node_named("n1").expect("reports").losses();
        losses.iter().find(|row| row.cause == "collector_full").map_or(0, |row| row.count)
    };
    // Re-sent and reordered, it is the same.
    for (seq, packets) in [(1, 5), (2, 7), (3, 7), (2, 5)] {
        merge.accept(&report("n1", seq, START, three(packets).collect()), START);
    }
    assert_eq!((on_edges(&merge), shed(&merge), merge.tombstones()), (14, 7, 1));
    assert!(
        matches!(merge.node_named("n1").expect("reports").state(START), (NodeState::Lossy, Some(why)) if why.contains("collector full: 7"))
    );
    // The first edge ends, and leaves early as there is no room; the third takes its place with all it has counted.
    let last = three(9).next().map(|edge| Edge { r#final: true, ..edge });
    merge.accept(&report("n1", 4, START, last.into_iter().collect()), START);
    merge.accept(&report("n1", 5, START, three(10).skip(1).collect()), START);
    assert_eq!((on_edges(&merge), shed(&merge), merge.tombstones()), (20, 0, 0));
    assert_eq!(merge.refusals().ended_early, 1);
    // A tombstone goes with its epoch; what it counted stays counted.
    merge.accept(&report("n1", 6, START, three(11).collect()), START);
    assert_eq!((shed(&merge), merge.tombstones()), (11, 1));
    merge.accept(&Report { epoch: 2, ..report("n1", 1, START, vec![]) }, START);
    merge.refresh(START + super::EPOCH_FOLDS_AFTER);
    assert_eq!((shed(&merge), merge.tombstones()), (11, 0));
}

#[test]
fn the_device_bound_holds_and_is_counted() {
    let mut merge = Merge::new(Bounds { devices: 2, ..Bounds::default() }, START);
    let devices = (0..5).map(|index| Device { name: format!("veth{index}"), ..Device::default() }).collect();
    merge.accept(&Report { devices, ..report("n1", 1, START, vec![]) }, START);
    assert_eq!(merge.refusals().devices, 3);
    assert_eq!(merge.node_named("n1").map(|node| node.devices.len()), Some(2));
}

/// With a thousand nodes one turns at nearly every look: what only others tell of is left alone.
#[test]
fn a_node_that_turns_touches_what_it_tells_of_and_what_lacks_a_side() {
    let mut merge = Merge::new(Bounds::default(), START);
    let to = |side, port| Edge { server_port: port, ..edge(side, 5, START, START) };
    for (node, edges) in [
        ("n1", vec![to(Side::Client, 1)]),
        ("n2", vec![to(Side::Server, 1)]),
        ("n3", vec![to(Side::Client, 2), to(Side::Client, 3)]),
        ("n4", vec![to(Side::Server, 2)]),
    ] {
        merge.accept(&report(node, 1, START, edges), START);
    }
    // No edge moves any more: none is looked at again for its own sake.
    for (seq, at, nodes) in [(2, 30 * SECOND, &["n1", "n2", "n3", "n4"][..]), (3, 50 * SECOND, &["n2", "n3", "n4"])] {
        merge.take_changes();
        for node in nodes {
            merge.accept(&report(node, seq, START + at, vec![]), START + at);
        }
        merge.take_changes();
        merge.refresh(START + at);
    }
    let changed: Vec<_> = merge.take_changes().into_iter().map(|(id, _)| id).collect();
    let mut ports: Vec<u16> =
        merge.flows().filter(|(id, _)| changed.contains(id)).map(|(_, flow)| flow.key.port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [1, 3], "n1 is lost");
}

#[test]
fn a_silent_node_is_late_then_lost_and_removes_nothing() {
    let mut merge = Merge::new(Bounds::default(), START);
    merge.accept(&report("n1", 1, START, vec![edge(Side::Client, 5, START, START)]), START);
    let state = |merge: &Merge, now| merge.node_named("n1").expect("known").state(now).0;
    assert_eq!(state(&merge, START + SECOND), NodeState::Live);
    assert_eq!(state(&merge, START + 2 * SECOND), NodeState::Late);
    assert_eq!(state(&merge, START + 16 * SECOND), NodeState::Lost);
    for minute in 1..120 {
        merge.refresh(START + minute * MINUTE);
    }
    assert_eq!(merge.flows().count(), 1);
}

#[test]
fn a_node_that_left_is_forgotten_with_its_edges_and_its_place_is_free() {
    let mut merge = Merge::new(Bounds { nodes: 2, ..Bounds::default() }, START);
    let far = |port| Edge { server_port: port, ..edge(Side::Server, 5, START, START) };
    merge.accept(&report("n1", 1, START, vec![edge(Side::Client, 5, START, START)]), START);
    merge.accept(&report("n2", 1, START, vec![far(80), far(81)]), START);
    let live = |merge: &mut Merge, seq, now| {
        merge.accept(&report("n1", seq, now, vec![edge(Side::Client, 5 * seq, START, now)]), now);
        merge.refresh(now);
    };
    let nodes = |merge: &Merge| merge.nodes().map(|node| node.name.to_string()).collect::<Vec<_>>();
    let now = START + 61 * MINUTE;
    live(&mut merge, 2, now);
    merge.forget_nodes(now, |name| name == "n2");
    assert!(merge.flows().all(|(_, flow)| flow.ended.is_none()), "silent, but listed");
    merge.forget_nodes(now, |_| false);
    assert_eq!(merge.flows().filter(|(_, flow)| flow.ended.is_some()).count(), 1, "its own edge; the other has n1");
    let now = START + 72 * MINUTE;
    live(&mut merge, 3, now);
    assert_eq!((merge.flows().count(), nodes(&merge).len()), (1, 2));
    merge.forget_nodes(now, |_| false);
    assert_eq!((merge.row_count(), nodes(&merge)), (1, vec!["n1".to_owned()]));
    let (id, flow) = merge.flows().next().expect("n1's edge");
    assert!(flow.server.is_none() && flow.side_sum(Side::Client).is_some_and(|totals| totals.forward.skbs == 15));
    // Another node takes the place and is not taken for it.
    assert!(matches!(merge.accept(&report("n3", 1, now, vec![far(80)]), now), Verdict::Accepted { .. }));
    assert_eq!(merge.accept(&report("n4", 1, now, vec![]), now), Verdict::TooManyNodes);
    assert_eq!(nodes(&merge), ["n1", "n3"]);
    merge.evaluate(id, now);
    assert_eq!(merge.flow(id).map(|flow| flow.rows.len()), Some(2));
}

#[test]
fn lost_telemetry_shows_for_a_minute() {
    let mut merge = Merge::new(Bounds::default(), START);
    let losses = vec![Loss { cause: LossCause::RingFull as i32, count: 17 }];
    merge.accept(&Report { losses, ..report("n1", 1, START, vec![]) }, START);
    let (state, why) = merge.node_named("n1").expect("known").state(START + SECOND);
    assert_eq!((state, why.as_deref()), (NodeState::Lossy, Some("event ring full: 17 lost in the last minute")));
    merge.accept(&report("n1", 2, START + 61 * SECOND, vec![]), START + 61 * SECOND);
    assert_eq!(merge.node_named("n1").expect("known").state(START + 61 * SECOND).0, NodeState::Live);
}

#[test]
fn a_final_edge_ends_and_leaves_after_its_retention() {
    let mut merge = Merge::new(Bounds::default(), START);
    let last = Edge { r#final: true, ..edge(Side::Client, 5, START, START) };
    merge.accept(&report("n1", 1, START, vec![last]), START);
    assert!(merge.flows().next().is_some_and(|(_, flow)| flow.ended.is_some()));
    merge.refresh(START + 9 * MINUTE);
    assert_eq!(merge.flows().count(), 1);
    merge.refresh(START + 11 * MINUTE);
    assert_eq!((merge.flows().count(), merge.row_count()), (0, 0));
}

#[test]
fn a_final_that_was_taken_back_is_not_folded() {
    let mut merge = Merge::new(Bounds::default(), START);
    let last = Edge { r#final: true, ..edge(Side::Client, 5, START, START) };
    merge.accept(&report("n1", 1, START, vec![last]), START);
    // The answer was lost and the edge came back to life before it was acknowledged.
    merge.accept(&report("n1", 2, START, vec![edge(Side::Client, 7, START, START)]), START);
    let next = Report { acked_seq: 2, ..report("n1", 3, START, vec![edge(Side::Client, 9, START, START)]) };
    merge.accept(&next, START);
    let (_, flow) = merge.flows().next().expect("an edge");
    assert_eq!(flow.side_sum(Side::Client).map(|totals| totals.forward.skbs), Some(9));
    assert_eq!(merge.refusals().tombstoned_rows, 0);
}

#[test]
fn a_device_account_closes_over_a_restart() {
    let counters = |seen, gap, carried| DeviceCounters {
        seen_skbs: seen,
        attach_gap_skbs: gap,
        carried_skbs: carried,
        ..DeviceCounters::default()
    };
    let with = |epoch, seq, ingress| Report {
        epoch,
        devices: vec![Device {
            name: "veth1".to_owned(),
            ifindex: 3,
            incarnation: 1,
            tier: 1,
            ingress: Some(ingress),
            ..Device::default()
        }],
        ..report("n1", seq, START, vec![])
    };
    let mut merge = Merge::new(Bounds::default(), START);
    merge.accept(&with(1, 1, counters(90, 10, 100)), START);
    merge.accept(&with(2, 1, counters(50, 130, 180)), START);
    let account = merge.node_named("n1").expect("known").devices.values().next().expect("a device").account(0);
    // 10 before the first run, 30 between the runs.
    assert_eq!((account.seen_skbs, account.unseen_skbs, account.carried_skbs), (140, 40, 180));
}

#[test]
fn wild_numbers_do_not_overflow() {
    let mut merge = Merge::new(Bounds::default(), START);
    let max = Counters { skbs: u64::MAX, segments: u64::MAX, l3_bytes: u64::MAX, payload_bytes: u64::MAX };
    for (seq, offset) in [(1, i64::MAX), (2, i64::MIN), (3, 0)] {
        for side in [Side::Client, Side::Server] {
            let wild = Edge {
                forward: Some(max),
                reverse: Some(max),
                first_seen_unix_ns: u64::MAX,
                forward_last_unix_ns: u64::MAX,
                incarnation: seq,
                ..edge(side, 1, START, START)
            };
            let report = Report {
                seq,
                sampled_unix_ns: u64::MAX,
                sent_unix_ns: u64::MAX,
                next_tick_ms: u32::MAX,
                clock: Some(ClockOffset { offset_ns: offset, error_ns: u64::MAX }),
                devices: vec![Device {
                    covered_since_unix_ns: u64::MAX,
                    ingress: Some(DeviceCounters { seen_skbs: u64::MAX, carried_skbs: 1, ..DeviceCounters::default() }),
                    ..Device::default()
                }],
                ..report(if side == Side::Client { "n1" } else { "n2" }, seq, START, vec![wild])
            };
            merge.accept(&report, START);
            merge.refresh(START + SECOND);
        }
    }
    assert_eq!(merge.flows().count(), 1);
}
