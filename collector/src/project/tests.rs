//! The browser's contract, and the law of the stream: snapshot + deltas = next snapshot, in every view.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use wire::v1::{ClockOffset, Counters, Edge, Report, Via};

use super::{Filtered, Projection, node_rows};
use crate::{
    filter::Wish,
    graph::{Graph, Identity},
    merge::{Bounds, Merge},
    names::{Inventory, Names, file},
    time::{MINUTE, MS, Ns, SECOND},
    view::{Delta, EdgeState, LossStatus, NamesRow, Snapshot, View},
};

const START: Ns = 1_795_000_000 * SECOND;

/// Decoding refuses unknown fields and missing ones; encoding gives the same JSON back.
#[test]
fn the_fixtures_are_ours() {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let text = include_str!("../../../ui/fixtures/snapshot.json");
    let snapshot: Snapshot = serde_json::from_str(text).expect("a snapshot");
    assert_eq!(serde_json::to_value(&snapshot).expect("JSON"), value(text));
    let text = include_str!("../../../ui/fixtures/delta.json");
    let delta: Delta = serde_json::from_str(text).expect("a delta");
    assert_eq!(serde_json::to_value(&delta).expect("JSON"), value(text));
    assert!(Graph::from_snapshot(&snapshot).apply(&delta), "the one follows the other");
}

fn identity() -> Identity {
    Identity { run: "1".to_owned(), cluster: "test".to_owned(), since_ms: 0 }
}

fn names_row() -> NamesRow {
    NamesRow { source: "file".to_owned(), state: "fresh".to_owned(), error: None, read_ms: None, ambiguous: 0 }
}

/// Pods of three workloads on two nodes; `which` says who is there.
fn inventory(which: u8) -> Inventory {
    let pods: Vec<String> = (0..6u8)
        .filter(|index| which & (1 << index) != 0)
        .map(|index| {
            format!(
                r#"{{"kind":"Pod","metadata":{{"name":"w{}-{index}","namespace":"ns{}","uid":"{index}",
                "ownerReferences":[{{"kind":"StatefulSet","name":"w{}"}}]}},"spec":{{"nodeName":"n{}"}},
                "status":{{"phase":"Running","podIP":"10.0.0.{}"}}}}"#,
                index % 3,
                index % 2,
                index % 3,
                index % 2 + 1,
                index / 2 + 1
            )
        })
        .collect();
    let text = format!(r#"{{"items":[{},{{"kind":"Node","metadata":{{"name":"n3"}}}}]}}"#, pods.join(","));
    file::parse(text.replace("[,", "[").as_bytes()).expect("a list")
}

#[derive(Debug, Clone)]
enum Step {
    Report { node: u8, edges: Vec<(u8, u8, bool, bool, bool)> },
    Names(u8),
    Time(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let edge = (1u8..5, 1u8..5, any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        6 => (1u8..4, prop::collection::vec(edge, 0..6)).prop_map(|(node, edges)| Step::Report { node, edges }),
        1 => any::<u8>().prop_map(Step::Names),
        2 => prop_oneof![Just(200), Just(2_000), Just(20_000), Just(700_000)].prop_map(Step::Time),
    ]
}

struct World {
    merge: Merge,
    names: Names,
    now: Ns,
    seq: [u64; 4],
    /// Clients go by a virtual address, and what they send does not all go to the backend that is told.
    astray: bool,
}

impl World {
    fn new() -> Self {
        let merge = Merge::new(Bounds::default(), START);
        Self { merge, names: Names::default(), now: START, seq: [0; 4], astray: false }
    }

    fn apply(&mut self, step: &Step) {
        self.now += 100 * MS;
        match step {
            Step::Report { node, edges } => self.report(*node, edges),
            Step::Names(which) => self.names.read(inventory(*which), self.now),
            Step::Time(ms) => self.now += ms * MS,
        }
        self.merge.refresh(self.now);
    }

    fn report(&mut self, node: u8, edges: &[(u8, u8, bool, bool, bool)]) {
        let astray = self.astray;
        let seq = &mut self.seq[usize::from(node)];
        *seq += 1;
        let time = self.now.unsigned_abs();
        let edges = edges.iter().map(|&(client, server, at_client, guessed, last)| Edge {
            client: vec![10, 0, 0, client],
            server: vec![10, 0, 0, server],
            server_port: 80,
            protocol: 6,
            side: if at_client { 1 } else { 2 },
            incarnation: 1,
            guessed,
            r#final: last,
            forward: Some(Counters { skbs: *seq, segments: *seq, l3_bytes: *seq * 60, payload_bytes: 0 }),
            first_seen_unix_ns: time,
            forward_last_unix_ns: time,
            translated: astray && at_client,
            vias: (astray && at_client).then(|| Via { address: vec![10, 96, 0, 1], port: 80 }).into_iter().collect(),
            ..Edge::default()
        });
        let report = Report {
            version: wire::VERSION,
            node: format!("n{node}"),
            epoch: 1,
            seq: *seq,
            sent_unix_ns: time,
            sampled_unix_ns: time,
            complete: true,
            next_tick_ms: 200,
            clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
            edges: edges.collect(),
            ..Report::default()
        };
        self.merge.accept(&report, self.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every view: the deltas lead a browser to what a newcomer gets, and what changed bit by bit equals what is
    /// projected afresh.
    #[test]
    fn snapshot_and_deltas_are_the_next_snapshot(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        let mut projections = View::ALL.map(|view| Projection::new(view, 0, &world.merge, &world.names, &names_row()));
        let mut browsers = View::ALL.map(|view| Graph::new(view, 0, names_row()));
        let mut filtered = wishes().map(|wish| Filtered::new(wish, 0, &projections[0]));
        let mut filtered_browsers = wishes().map(|wish| Graph::new(wish.view, 0, names_row()));
        for step in &steps {
            world.apply(step);
            let changes = world.merge.take_changes();
            for (id, _) in &changes {
                world.merge.evaluate(*id, world.now);
            }
            let touched = world.names.take_touched();
            let nodes = node_rows(&world.merge, &world.names, world.now);
            for (projection, browser) in projections.iter_mut().zip(&mut browsers) {
                projection.update(&changes, &touched, &world.merge, &world.names);
                projection.set_nodes(&nodes);
                if let Some(step) = projection.step(&world.merge, &world.names, &names_row(), &identity(), world.now) {
                    prop_assert!(browser.apply(&step.step.delta));
                    let of_pods = filtered.iter_mut().zip(&mut filtered_browsers);
                    let of_pods = of_pods.filter(|_| projection.view == View::Pod);
                    for (filtered, browser) in of_pods {
                        if let Some(delta) = filtered.take(&step, projection) {
                            prop_assert!(browser.apply(&delta));
                        }
                    }
                }
                let told = browser.snapshot(&identity(), crate::view::ms(world.now));
                prop_assert_eq!(&told, &projection.snapshot(&identity(), world.now));
                let mut afresh = Projection::new(told.view, told.revision, &world.merge, &world.names, &names_row());
                afresh.set_nodes(&nodes);
                afresh.step(&world.merge, &world.names, &names_row(), &identity(), world.now);
                let afresh = afresh.snapshot(&identity(), world.now);
                prop_assert_eq!(&told.edges, &afresh.edges);
                prop_assert_eq!(&told.vertices, &afresh.vertices);
            }
            for ((filtered, browser), wish) in filtered.iter_mut().zip(&mut filtered_browsers).zip(wishes()) {
                let told = browser.snapshot(&identity(), crate::view::ms(world.now));
                prop_assert_eq!(&told, &filtered.snapshot(&projections[0], &identity(), world.now));
                let afresh = Filtered::new(wish, 0, &projections[0]).snapshot(&projections[0], &identity(), world.now);
                prop_assert_eq!(&told.edges, &afresh.edges);
                prop_assert_eq!(&told.vertices, &afresh.vertices);
                prop_assert_eq!((&told.nodes, told.hidden), (&afresh.nodes, afresh.hidden));
                prop_assert_eq!(told.names, afresh.names);
            }
        }
    }
}

/// Filters by what stays of an edge, by what changes, and by noise.
fn wishes() -> [Wish; 5] {
    let wish = |filter: &str, hide_noise| Wish {
        filter: filter.parse().expect("a filter"),
        hide_noise,
        ..Wish::whole(View::Pod)
    };
    [
        wish("ns:ns0 -pod:w2-*", false),
        wish("workload:w1", false),
        wish("kind:external port:80", true),
        wish("verdict:dropped", false),
        wish("", true),
    ]
}

fn edges(world: &World, view: View) -> Snapshot {
    let mut projection = Projection::new(view, 0, &world.merge, &world.names, &names_row());
    projection.step(&world.merge, &world.names, &names_row(), &identity(), world.now);
    projection.snapshot(&identity(), world.now)
}

#[test]
fn views_group_and_name() {
    let mut world = World::new();
    world.apply(&Step::Names(0b0000_0101));
    world.apply(&Step::Report { node: 1, edges: vec![(1, 2, true, false, false)] });
    let ids = |view| edges(&world, view).edges.iter().map(|edge| edge.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(View::Pod), ["pod:ns0/w0-0>pod:ns0/w2-2:80/tcp"]);
    assert_eq!(ids(View::Workload), ["workload:ns0/StatefulSet/w0>workload:ns0/StatefulSet/w2:80/tcp"]);
    assert_eq!(ids(View::Namespace), ["namespace:ns0>namespace:ns0:80/tcp"]);
    assert_eq!(ids(View::Node), ["node:n1>node:n1:80/tcp"]);
}

#[test]
fn a_filter_says_what_it_hides() {
    let mut world = World::new();
    world.apply(&Step::Names(0b0000_0101));
    world.apply(&Step::Report { node: 1, edges: vec![(1, 2, true, false, false), (2, 4, true, false, false)] });
    let mut projection = Projection::new(View::Pod, 0, &world.merge, &world.names, &names_row());
    projection.step(&world.merge, &world.names, &names_row(), &identity(), world.now);
    let shown = |text: &str| {
        let wish = Wish { filter: text.parse().expect("a filter"), ..Wish::whole(View::Pod) };
        let snapshot = Filtered::new(wish, 0, &projection).snapshot(&projection, &identity(), world.now);
        let vertices: Vec<String> = snapshot.vertices.iter().map(|row| row.id.to_string()).collect();
        (vertices, snapshot.edges.len(), snapshot.hidden.edges, snapshot.hidden.vertices)
    };
    // The pod's own edge takes its other end along; the address nobody listed comes with its edge only.
    assert_eq!(shown("pod:w0-0"), (vec!["pod:ns0/w0-0".to_owned(), "pod:ns0/w2-2".to_owned()], 1, 1, 1));
    assert_eq!(shown("kind:external").0, ["external:10.0.0.4", "pod:ns0/w2-2"]);
    assert_eq!(shown("-kind:external").0, ["pod:ns0/w0-0", "pod:ns0/w2-2"]);
    assert_eq!(shown("port:443"), (vec![], 0, 2, 3));
}

#[test]
fn a_group_says_how_many_of_its_links_are_not_measured() {
    let mut world = World::new();
    world.apply(&Step::Names(0b0000_0101));
    for _ in 0..50 {
        world.apply(&Step::Report { node: 1, edges: vec![(1, 2, true, false, false), (1, 4, true, false, false)] });
        world.apply(&Step::Report { node: 2, edges: vec![(1, 2, false, false, false)] });
        for (id, _) in world.merge.take_changes() {
            world.merge.evaluate(id, world.now);
        }
    }
    // 10.0.0.1 to 10.0.0.2 is inside of ns0, and measured.
    let loss = |world: &World, view| edges(world, view).edges.iter().map(|edge| edge.loss.clone()).collect::<Vec<_>>();
    let separate = loss(&world, View::Namespace);
    assert!(separate.iter().any(|loss| loss.status == LossStatus::Measured && loss.why.is_none()), "{separate:?}");
    // 10.0.0.4 belongs to nobody; once a pod of ns0 holds it, its link is one of two in the group.
    let list = r#"{"items":[
        {"kind":"Pod","metadata":{"name":"a","namespace":"ns0"},"status":{"podIPs":[{"ip":"10.0.0.1"}]}},
        {"kind":"Pod","metadata":{"name":"b","namespace":"ns0"},"status":{"podIPs":[{"ip":"10.0.0.2"}]}},
        {"kind":"Pod","metadata":{"name":"c","namespace":"ns0"},"spec":{"nodeName":"n9"},
         "status":{"podIPs":[{"ip":"10.0.0.4"}]}}]}"#;
    let mut world = World { names: Names::default(), ..world };
    world.names.read(file::parse(list.as_bytes()).expect("a list"), START);
    let group = loss(&world, View::Namespace);
    assert_eq!(group.len(), 1);
    assert_eq!((group[0].status, group[0].forward_lost), (LossStatus::Measured, Some(0)));
    assert_eq!(group[0].why.as_deref(), Some("1 of 2 links is not measured: no agent reports from node n9"));
}

#[test]
fn what_was_sent_on_to_another_backend_is_not_called_lost() {
    for astray in [false, true] {
        let mut world = World { astray, ..World::new() };
        world.apply(&Step::Names(0b0000_0101));
        for _ in 0..50 {
            world.apply(&Step::Report { node: 1, edges: vec![(1, 2, true, false, false)] });
            world.apply(&Step::Report { node: 2, edges: vec![(1, 2, false, false, false)] });
            for (id, _) in world.merge.take_changes() {
                world.merge.evaluate(id, world.now);
            }
        }
        let loss = edges(&world, View::Pod).edges[0].loss.clone();
        let (status, why) =
            if astray { (LossStatus::OneSided, Some("another backend")) } else { (LossStatus::Measured, None) };
        assert_eq!((loss.status, loss.forward_lost.is_some()), (status, !astray), "{loss:?}");
        assert!(why.is_none_or(|why| loss.why.as_deref().is_some_and(|said| said.contains(why))), "{loss:?}");
    }
}

#[test]
fn a_killed_agent_leaves_stale_edges() {
    let mut world = World::new();
    world.apply(&Step::Report { node: 1, edges: vec![(1, 2, true, false, false), (1, 3, true, false, false)] });
    world.apply(&Step::Time(20_000));
    let snapshot = edges(&world, View::Pod);
    let states: Vec<EdgeState> = snapshot.edges.iter().map(|edge| edge.state).collect();
    assert_eq!(states, [EdgeState::Stale, EdgeState::Stale]);
    assert!(snapshot.edges.iter().all(|edge| edge.client_side.as_ref().is_some_and(|side| side.stale)));
    world.apply(&Step::Report { node: 1, edges: vec![] });
    assert!(edges(&world, View::Pod).edges.iter().all(|edge| edge.state == EdgeState::Live));
}

/// Both ports are the same here (as of two time servers), or the guess would name the other port and be another edge.
#[test]
fn between_equal_ports_a_guessed_direction_gives_way_to_a_known_one() {
    let mut world = World::new();
    world.apply(&Step::Report { node: 1, edges: vec![(1, 2, true, false, false)] });
    // The other node saw no SYN and took 10.0.0.1 for the server.
    world.apply(&Step::Report { node: 2, edges: vec![(2, 1, true, true, false)] });
    let snapshot = edges(&world, View::Pod);
    assert_eq!(snapshot.edges.len(), 1, "joined, not doubled");
    let edge = &snapshot.edges[0];
    assert!(!edge.guessed && edge.client.ends_with("10.0.0.1"));
    assert_eq!(edge.server_side.as_ref().map(|side| side.reverse.skbs), Some(1), "seen from its other end");
    assert_eq!(edge.client_side.as_ref().map(|side| side.forward.skbs), Some(1), "never added up");
}

#[test]
fn a_reused_address_is_two_edges() {
    let mut world = World::new();
    world.apply(&Step::Names(0b0000_0001));
    world.apply(&Step::Report { node: 1, edges: vec![(1, 4, true, false, false)] });
    world.now += MINUTE;
    // Pod 1 holds 10.0.0.1 now; its device is another one.
    world.apply(&Step::Names(0b0000_0010));
    world.now += MINUTE;
    let time = world.now.unsigned_abs();
    let edge = Edge {
        client: vec![10, 0, 0, 1],
        server: vec![10, 0, 0, 4],
        server_port: 80,
        protocol: 6,
        side: 1,
        device: 2,
        incarnation: 1,
        forward: Some(Counters { skbs: 5, ..Counters::default() }),
        first_seen_unix_ns: time,
        ..Edge::default()
    };
    let report = Report {
        node: "n1".to_owned(),
        epoch: 1,
        seq: 9,
        clock: Some(ClockOffset::default()),
        edges: vec![edge],
        ..Report::default()
    };
    world.merge.accept(&report, world.now);
    let clients: Vec<String> = edges(&world, View::Pod).edges.iter().map(|edge| edge.client.to_string()).collect();
    assert_eq!(clients, ["pod:ns0/w0-0", "pod:ns1/w1-1"]);
}
