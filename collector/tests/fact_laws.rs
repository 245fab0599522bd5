//! Laws of what edges and nodes know beside packets: joins of readings are idempotent and free of order, incarnations and
//! epochs add up, folded or not, and tunnels and cgroups are kept apart.

use collector::{
    merge::{
        Bounds, EPOCH_FOLDS_AFTER, Merge,
        facts::{Drops, Facts},
        flow::Side,
        key::{FlowKey, Tunnel},
    },
    time::{MS, Ns, SECOND},
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, proptest};
use wire::v1::{
    ClockOffset, Counters, Dns, DnsQuestion, Drop, Edge, Histogram, Owner, Point, RcodeCount, Report, Sockets,
};

const START: Ns = 1_795_000_000_000_000_000;

fn histogram() -> impl Strategy<Value = Option<Histogram>> {
    let some = (prop::collection::vec(0u64..9, 0..8), 0u64..100)
        .prop_map(|(buckets, sum_us)| Some(Histogram { buckets, sum_us }));
    proptest::prop_oneof![Just(None), some]
}

fn sockets() -> impl Strategy<Value = Option<Sockets>> {
    (prop::array::uniform8(0u64..9), histogram(), any::<bool>()).prop_map(|(n, rtt, there)| {
        there.then(|| Sockets {
            attempts: n[0],
            established: n[1],
            refused: n[2],
            timed_out: n[3],
            unreachable: n[4],
            failed_otherwise: n[5],
            retransmitted: n[6],
            aborted: n[7],
            rtt,
        })
    })
}

fn dns() -> impl Strategy<Value = Option<Dns>> {
    let question = (0u8..24, 0u64..5, 0u64..3, 0u64..6).prop_map(|(name, queries, failures, at)| DnsQuestion {
        name: format!("q{name}.example"),
        r#type: 1,
        queries,
        failures,
        last_rcode: 3,
        last_unix_ns: START.unsigned_abs() + at,
    });
    let rcode = (0u32..30, 0u64..9).prop_map(|(rcode, count)| RcodeCount { rcode, count });
    let questions = prop::collection::vec(question, 0..16);
    let rcodes = prop::collection::vec(rcode, 0..24);
    (prop::array::uniform4(0u64..9), rcodes, histogram(), questions, any::<bool>()).prop_map(
        |([queries, answers, timeouts, unparsed], rcodes, latency, questions, there)| {
            there.then_some(Dns { queries, answers, timeouts, rcodes, latency, questions, unparsed })
        },
    )
}

/// Readings of one row, with more names than the bounds hold.
fn reading() -> impl Strategy<Value = Edge> {
    let owner = (0u8..8, 0u64..3, any::<bool>()).prop_map(|(process, cgroup, known)| Owner {
        process: format!("p{process}"),
        cgroup,
        container: if known { format!("c{cgroup}") } else { String::new() },
        pod_uid: if known { format!("uid{cgroup}") } else { String::new() },
    });
    let drop = (0u8..24, any::<bool>(), 0u64..9).prop_map(|(reason, forward, segments)| Drop {
        reason: format!("r{reason:02}"),
        by: "stack".to_owned(),
        forward,
        segments,
    });
    let lists = (prop::collection::vec(owner, 0..4), prop::collection::vec(drop, 0..16));
    (sockets(), dns(), lists).prop_map(|(sockets, dns, (owners, drops))| Edge {
        sockets,
        dns,
        owners,
        drops,
        ..Edge::default()
    })
}

fn joined<'a>(readings: impl Iterator<Item = &'a Edge>) -> Facts {
    let mut all = Facts::default();
    for edge in readings {
        if let Some(facts) = Facts::of(edge, |ns| i64::try_from(ns).unwrap_or(i64::MAX)) {
            all.join(&facts);
        }
    }
    all
}

fn edge(incarnation: u64, change: impl FnOnce(&mut Edge)) -> Edge {
    let mut edge = Edge {
        client: vec![10, 9, 0, 1],
        server: vec![10, 0, 1, 1],
        server_port: 80,
        protocol: 6,
        side: 1,
        device: 1,
        incarnation,
        forward: Some(Counters { skbs: 1, segments: 1, l3_bytes: 60, payload_bytes: 0 }),
        first_seen_unix_ns: START.unsigned_abs(),
        ..Edge::default()
    };
    change(&mut edge);
    edge
}

fn report(epoch: u64, seq: u64, acked: u64, edges: Vec<Edge>) -> Report {
    Report {
        version: wire::VERSION,
        node: "n1".to_owned(),
        epoch,
        seq,
        acked_seq: acked,
        complete: true,
        sampled_unix_ns: (START + seq.cast_signed() * SECOND).unsigned_abs(),
        clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
        next_tick_ms: 200,
        edges,
        ..Report::default()
    }
}

fn key(tunnel: Option<Tunnel>) -> FlowKey {
    FlowKey { client: [10, 9, 0, 1].into(), server: [10, 0, 1, 1].into(), port: 80, protocol: 6, tunnel }
}

/// All rows of the plain edge added up.
fn sum(merge: &Merge) -> Facts {
    let mut all = Facts::default();
    let flow = merge.flow_by_key(&key(None)).expect("the edge").1;
    flow.rows.iter().filter_map(|row| row.facts.as_deref()).for_each(|facts| all.add(facts));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order, and however often a reading comes: the same facts, within the bounds.
    #[test]
    fn law_readings_join_in_any_order_and_number(
        (given, shuffled) in prop::collection::vec(reading(), 1..9)
            .prop_flat_map(|given| (Just(given.clone()), Just(given).prop_shuffle())),
        again in any::<prop::sample::Index>(),
    ) {
        let once = joined(given.iter());
        prop_assert_eq!(&once, &joined(shuffled.iter()));
        prop_assert_eq!(&once, &joined(given.iter().chain([again.get(&given)])));
        // In two halves, as two reports that were merged elsewhere would be.
        let (left, right) = given.split_at(again.index(given.len()));
        let mut halves = joined(left.iter());
        halves.join(&joined(right.iter()));
        prop_assert_eq!(&once, &halves);
        assert!(once.owners.0.len() <= 4 && once.drops.0.len() <= 16);
        assert!(once.dns.is_none_or(|dns| dns.questions.len() <= 16 && dns.rcodes.len() <= 24));
    }

    /// Incarnations and runs of the agent are added up, whether they are folded yet or not.
    #[test]
    fn law_different_rows_add_up_folded_or_not(counts in prop::collection::vec((1u64..50, 1u64..50, any::<bool>()), 1..8)) {
        let bounds = Bounds { retention: 10 * EPOCH_FOLDS_AFTER, ..Bounds::default() };
        let mut merge = Merge::new(bounds, START);
        let (mut now, mut epoch, mut seq) = (START, 1, 0);
        for (attempts, segments, restart) in &counts {
            if *restart {
                (epoch, seq) = (epoch + 1, 0);
            }
            now += 200 * MS;
            let told = |edge: &mut Edge| {
                edge.r#final = true;
                edge.sockets = Some(Sockets { attempts: *attempts, ..Sockets::default() });
                edge.drops = vec![Drop { reason: "no_socket".into(), segments: *segments, ..Drop::default() }];
                edge.dns = Some(Dns { queries: *attempts, ..Dns::default() });
            };
            merge.accept(&report(epoch, seq + 1, seq, vec![edge(seq + 1, told)]), now);
            seq += 2;
            merge.accept(&report(epoch, seq, seq - 1, vec![]), now);
        }
        let wanted = |of: &dyn Fn(&(u64, u64, bool)) -> u64| counts.iter().map(of).sum::<u64>();
        for _ in 0..2 {
            let facts = sum(&merge);
            prop_assert_eq!(facts.sockets.map(|sockets| sockets.attempts), Some(wanted(&|count| count.0)));
            prop_assert_eq!(facts.dns.map(|dns| dns.queries), Some(wanted(&|count| count.0)));
            prop_assert_eq!(facts.drops.0.values().sum::<u64>(), wanted(&|count| count.1));
            now += EPOCH_FOLDS_AFTER;
            merge.refresh(now);
        }
    }

    /// What no edge takes: readings join, runs of the agent add up.
    #[test]
    fn law_a_nodes_drops_join_and_add_up(segments in prop::collection::vec(1u64..50, 1..9), again in any::<prop::sample::Index>()) {
        let drop = |segments| vec![Drop { reason: "no_socket".into(), by: "stack".into(), forward: false, segments }];
        let of = |epoch: u64, segments| Report { drops: drop(segments), ..report(epoch, 1, 0, vec![]) };
        let mut merge = Merge::new(Bounds::default(), START);
        for (index, count) in segments.iter().enumerate() {
            merge.accept(&of(index as u64 + 1, *count), START);
        }
        let index = again.index(segments.len());
        merge.accept(&of(index as u64 + 1, segments[index]), START);
        for now in [START, START + EPOCH_FOLDS_AFTER] {
            merge.refresh(now);
            let drops = merge.node_named("n1").expect("the node").drops();
            prop_assert_eq!(drops.0.values().sum::<u64>(), segments.iter().sum::<u64>());
        }
    }
}

#[test]
fn sums_of_very_many_reasons_keep_their_total() {
    let many = |from: usize| {
        let drop = |index| Drop { reason: format!("r{index:03}"), segments: 2, ..Drop::default() };
        Drops::of(&(from..from + 50).map(drop).collect::<Vec<_>>())
    };
    let mut sum = Drops::default();
    (0..4).for_each(|round| sum.add(&many(round * 50)));
    assert_eq!((sum.0.len(), sum.0.values().sum::<u64>()), (65, 400));
    assert_eq!(sum.0.iter().find(|(key, _)| &*key.reason == "other").map(|(_, segments)| *segments), Some(136 * 2));
}

#[test]
fn underlay_and_plain_traffic_of_the_same_ends_are_two_edges() {
    let mut merge = Merge::new(Bounds::default(), START);
    let kinds = ["", "vxlan", "geneve", "tomorrows"];
    let edges = kinds.map(|kind| edge(1, |edge| edge.tunnel = kind.to_owned()));
    merge.accept(&report(1, 1, 0, edges.to_vec()), START);
    for tunnel in [None, Some(Tunnel::Vxlan), Some(Tunnel::Geneve), Some(Tunnel::Other)] {
        let (_, flow) = merge.flow_by_key(&key(tunnel)).expect("an edge of its own");
        assert_eq!(flow.side_sum(Side::Client).map(|totals| totals.forward.skbs), Some(1));
    }
}

#[test]
fn cgroups_of_one_address_are_rows_of_their_own_and_one_side_for_the_loss() {
    let mut merge = Merge::new(Bounds::default(), START);
    for seq in 1..5 {
        let of = |cgroup: u64, skbs: u64| {
            edge(1, |edge| {
                edge.cgroup = cgroup;
                edge.forward = Some(Counters { skbs, segments: skbs, ..Counters::default() });
                edge.point = Point::Uplink.into();
            })
        };
        merge.accept(&report(1, seq, 0, vec![of(7, 10 * seq), of(9, seq)]), START + seq.cast_signed() * SECOND);
    }
    let (_, flow) = merge.flow_by_key(&key(None)).expect("the edge");
    let cgroups: Vec<_> = flow.rows.iter().map(|row| (row.cgroup, row.totals.forward.skbs)).collect();
    assert_eq!(cgroups, [(7, 40), (9, 4)]);
    let newest = flow.client.as_ref().and_then(|track| track.samples.back()).expect("a sample");
    assert_eq!(newest.totals.forward.skbs, 44, "the server's side sees the address, and both");
    let each: Vec<_> = flow.cgroups.iter().map(|(_, id, track)| (*id, track.samples.len())).collect();
    assert_eq!(each, [(7, 4), (9, 4)]);
}
