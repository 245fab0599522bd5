//! The merge beside its laws: bounds, states, folding, device accounts; loss between two nodes has a file of its own.

mod loss;

use wire::v1::{ClockOffset, Counters, Device, DeviceCounters, Edge, Loss, LossCause, Report};

use super::{Bounds, Merge, Verdict, flow::Side};
use crate::{
    time::{MINUTE, Ns, SECOND},
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
        version: wire::VERSION,
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

/// The same node name on a new machine: counters of the kernel begin at 0, devices have the old names. Its account is the new
/// machine's, its edges go on, and nothing is lost in between.
#[test]
fn a_node_made_anew_goes_on_with_its_edges_and_begins_its_accounts() {
    let with = |epoch, ingress, packets, at| Report {
        epoch,
        devices: vec![Device {
            name: "eth0".to_owned(),
            ifindex: 2,
            tier: 1,
            ingress: Some(ingress),
            ..Device::default()
        }],
        ..report("n1", 1, at, vec![edge(Side::Client, packets, at, at)])
    };
    let old = DeviceCounters {
        seen_skbs: 900,
        attach_gap_skbs: 100,
        carried_skbs: 1_000,
        link_control_skbs: 40,
        malformed_skbs: 3,
        ..DeviceCounters::default()
    };
    let new = DeviceCounters {
        seen_skbs: 15,
        attach_gap_skbs: 5,
        carried_skbs: 20,
        link_control_skbs: 1,
        ..DeviceCounters::default()
    };
    let mut merge = Merge::new(Bounds::default(), START);
    merge.accept(&with(1, old, 50, START), START);
    let later = START + 5 * MINUTE;
    merge.accept(&with(later.unsigned_abs(), new, 7, later), later);
    for now in [later, later + super::EPOCH_FOLDS_AFTER] {
        merge.refresh(now);
        let node = merge.node_named("n1").expect("known");
        let account = node.devices.values().next().expect("a device").account(0);
        assert_eq!((account.seen_skbs, account.unseen_skbs, account.carried_skbs), (15, 5, 20));
        assert_eq!((account.link_control_skbs, account.malformed_skbs), (1, 0));
        let (_, flow) = merge.flows().next().expect("an edge");
        assert_eq!(flow.side_sum(Side::Client).map(|totals| totals.forward.skbs), Some(57));
        assert!(node.losses().is_empty());
    }
    assert_eq!(merge.node_named("n1").expect("known").state(later), (NodeState::Live, None));
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

#[test]
fn two_agents_of_one_name_are_told_and_a_restart_is_not() {
    let mut merge = Merge::new(Bounds::default(), 0);
    let mut heard = |epoch: u64, seconds: Ns| {
        let now = START + seconds * SECOND;
        let report = Report { epoch, ..report("n1", seconds.unsigned_abs() + 1, now, vec![]) };
        assert!(matches!(merge.accept(&report, now), Verdict::Accepted { .. }));
        merge.node_named("n1").expect("known").state(now).1
    };
    assert_eq!((0..10).find_map(|second| heard(1, second)), None);
    // The old run's last words come after the new one's first.
    assert_eq!((10..30).step_by(2).find_map(|second| heard(2, second).or(heard(1, second + 1))), None);
    let told = heard(1, 32).expect("it goes on");
    assert!(told.contains("two agents"), "{told}");
    // It ended at last: after a while nothing is told any more.
    assert_eq!(heard(2, 46), Some(told));
    assert_eq!(heard(2, 48), None);
}
