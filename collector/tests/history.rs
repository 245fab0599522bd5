//! The last hour, held against a ledger: what every bucket says adds up, under the names of then, in any view, within its
//! bounds.

use std::{collections::BTreeMap, sync::Arc};

use collector::{
    filter::Wish,
    graph::Identity,
    history::{History, Mirror, Onset, Span, Whose},
    keep::{Batch, Kept, Table},
    merge::{Bounds, Merge},
    names::{Names, file},
    project::Projection,
    time::{Ns, SECOND},
    view::{NamesRow, Snapshot, View},
};
use wire::v1::{ClockOffset, Counters, Drop, Edge, Report, Sockets};

const BUCKET: Ns = 15 * SECOND;
const START: Ns = 1_795_000_005 * SECOND;

struct World {
    merge: Merge,
    names: Names,
    history: History,
    now: Ns,
    seq: u64,
    /// Packets by (client, server, port), as the generator sent them.
    sent: BTreeMap<(u8, u8, u16), u64>,
    onsets: Vec<Onset>,
}

fn identity() -> Identity {
    Identity { run: "1".to_owned(), cluster: "test".to_owned(), since_ms: 0 }
}

fn names_row() -> NamesRow {
    NamesRow { source: "file".to_owned(), state: "fresh".to_owned(), error: None, read_ms: None, ambiguous: 0 }
}

impl World {
    fn new(span: Span) -> Self {
        Self {
            merge: Merge::new(Bounds::default(), START),
            names: Names::default(),
            history: History::new(span, START),
            now: START,
            seq: 0,
            sent: BTreeMap::new(),
            onsets: Vec::new(),
        }
    }

    /// Pods by (name, last byte of the address): all of workload `shop/cart`.
    fn read(&mut self, pods: &[(&str, u8)]) {
        let created = "2026-01-01T00:00:00Z";
        let items: Vec<String> = pods
            .iter()
            .map(|(name, address)| {
                format!(
                    r#"{{"kind":"Pod","metadata":{{"name":"{name}","namespace":"shop","uid":"{name}-{address}",
                    "creationTimestamp":"{created}","ownerReferences":[{{"kind":"StatefulSet","name":"cart"}}]}},
                    "spec":{{"nodeName":"n1"}},"status":{{"phase":"Running","podIP":"10.0.0.{address}"}}}}"#
                )
            })
            .collect();
        let list = file::parse(format!(r#"{{"items":[{}]}}"#, items.join(",")).as_bytes()).expect("a list");
        self.names.read(list, self.now);
    }

    /// More packets on some edges, with this many of them lost to the kernel and as many connects refused.
    fn traffic(&mut self, edges: &[(u8, u8, u16, u64)], trouble: u64) {
        self.seq += 1;
        let unix = |ns: Ns| u64::try_from(ns).expect("after 1970");
        let rows = edges.iter().map(|&(client, server, port, packets)| {
            let sum = self.sent.entry((client, server, port)).or_default();
            *sum += packets;
            let counters = Counters { skbs: *sum, segments: *sum, l3_bytes: *sum * 100, payload_bytes: *sum * 60 };
            let drop = |segments| Drop {
                reason: "NETFILTER_DROP".to_owned(),
                by: "stack".to_owned(),
                forward: true,
                segments,
            };
            Edge {
                client: vec![10, 0, 0, client],
                server: vec![10, 0, 0, server],
                server_port: u32::from(port),
                protocol: 6,
                side: 1,
                device: u64::from(client),
                incarnation: 1,
                forward: Some(counters),
                first_seen_unix_ns: unix(self.now),
                forward_last_unix_ns: unix(self.now),
                drops: if trouble > 0 { vec![drop(trouble)] } else { Vec::new() },
                sockets: Some(Sockets { attempts: *sum, established: *sum, ..Sockets::default() }),
                ..Edge::default()
            }
        });
        let report = Report {
            version: wire::VERSION,
            node: "n1".to_owned(),
            epoch: 7,
            seq: self.seq,
            acked_seq: self.seq - 1,
            sent_unix_ns: unix(self.now),
            sampled_unix_ns: unix(self.now),
            complete: true,
            next_tick_ms: 200,
            clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
            edges: rows.collect(),
            ..Report::default()
        };
        self.merge.accept(&report, self.now);
        self.flush();
    }

    fn flush(&mut self) {
        self.merge.evaluate_changed(self.now);
        self.history.note(&self.merge.take_changes());
        let onsets = self.history.advance(&self.merge, &self.names, self.now);
        self.onsets.extend(onsets.into_iter().flatten());
    }

    fn wait(&mut self, by: Ns) {
        self.now += by;
        self.flush();
    }

    fn then(&self, at: Ns, wish: &Wish) -> Snapshot {
        let still = self.history.still(at).unwrap_or_else(|span| panic!("{at} is not in {span:?}"));
        still.snapshot(wish, &names_row(), &identity())
    }

    fn ids(&self, at: Ns, view: View) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let then = self.then(at, &Wish::whole(view));
        (
            then.vertices.iter().map(|row| row.id.clone()).collect(),
            then.edges.iter().map(|row| row.id.clone()).collect(),
        )
    }
}

#[test]
fn the_buckets_add_up_to_what_was_sent() {
    let mut world = World::new(Span::default());
    world.read(&[("cart-0", 1), ("cart-1", 2), ("cart-2", 3)]);
    let mut random: u64 = 12_345;
    for _ in 0..400 {
        let mut edges = BTreeMap::new();
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (client, server) = ((random >> 33) as u8 % 3 + 1, (random >> 40) as u8 % 3 + 1);
            edges.insert((client, server, 80 + (random >> 50) as u16 % 2), (random >> 20) % 1_000);
        }
        let edges: Vec<_> = edges.into_iter().map(|((a, b, port), packets)| (a, b, port, packets)).collect();
        world.traffic(&edges, 0);
        world.wait(SECOND * ((random >> 60) as Ns + 1));
    }
    world.wait(BUCKET);
    let tracks = world.history.tracks();
    let all: u64 = tracks.row(&Whose::All).skbs.iter().sum();
    assert_eq!(all, world.sent.values().sum::<u64>());
    for ((client, server, port), sent) in &world.sent {
        let pod = |address: &u8| format!("pod:shop/cart-{}", address - 1);
        let id = format!("{}>{}:{port}/tcp", pod(client), pod(server));
        let row = tracks.row(&Whose::Edge(View::Pod, id.clone()));
        assert_eq!((row.edges, row.skbs.iter().sum::<u64>()), (1, *sent), "{id}");
        assert_eq!(row.opened.iter().sum::<u64>(), 0, "no handshake was counted");
    }
    let of = |whose| tracks.row(&whose).skbs.iter().sum::<u64>();
    assert_eq!(of(Whose::Vertex(View::Workload, "workload:shop/StatefulSet/cart".to_owned())), all);
    assert_eq!(of(Whose::Vertex(View::Node, "node:n1".to_owned())), all);
    let touching = world.sent.iter().filter(|((a, b, _), _)| *a == 1 || *b == 1).map(|(_, sent)| sent).sum::<u64>();
    assert_eq!(of(Whose::Vertex(View::Pod, "pod:shop/cart-0".to_owned())), touching);
}

#[test]
fn pods_are_those_of_then_under_their_names_of_then() {
    let mut world = World::new(Span::default());
    world.read(&[("cart-0", 1), ("cart-1", 2)]);
    world.traffic(&[(1, 2, 80, 30)], 0);
    world.wait(BUCKET);
    let early = world.now - BUCKET;
    // Scaled up, and later an address goes to another pod.
    world.read(&[("cart-0", 1), ("cart-1", 2), ("cart-2", 3), ("cart-3", 4)]);
    world.traffic(&[(3, 4, 80, 30)], 0);
    world.wait(5 * BUCKET);
    world.read(&[("cart-0", 1), ("cart-9", 2)]);
    world.wait(BUCKET);
    let ids = |ids: &[&str]| ids.iter().map(|id| Arc::from(*id)).collect::<Vec<Arc<str>>>();
    let (vertices, edges) = world.ids(early, View::Pod);
    assert_eq!(vertices, ids(&["pod:shop/cart-0", "pod:shop/cart-1"]));
    assert_eq!(edges, ids(&["pod:shop/cart-0>pod:shop/cart-1:80/tcp"]));
    let (vertices, edges) = world.ids(early + BUCKET, View::Pod);
    assert_eq!(vertices.len(), 4);
    assert_eq!(edges.len(), 2, "an edge is shown for a minute after its last packet: {edges:?}");
    let (vertices, edges) = world.ids(world.now, View::Pod);
    assert_eq!((vertices, edges), (ids(&["pod:shop/cart-0", "pod:shop/cart-9"]), vec![]));
    let rate = |at| world.then(at, &Wish::whole(View::Pod)).edges[0].rate.forward_skbs;
    assert_eq!((rate(early), rate(early + BUCKET)), (2.0, 0.0), "30 packets in 15 s, then none");
}

#[test]
fn a_picture_of_the_past_has_the_ids_of_the_live_one_in_every_view() {
    let mut world = World::new(Span::default());
    world.read(&[("cart-0", 1), ("cart-1", 2), ("cart-2", 3)]);
    world.traffic(&[(1, 2, 80, 30), (2, 3, 443, 10), (1, 99, 53, 5)], 0);
    world.wait(BUCKET);
    let at = world.now - BUCKET;
    for view in View::ALL {
        let mut live = Projection::new(view, 1, &world.merge, &world.names, &names_row());
        live.set_nodes(&collector::project::node_rows(&world.merge, &world.names, world.now));
        let _ = live.step(&world.merge, &world.names, &names_row(), &identity(), world.now);
        let live = live.snapshot(&identity(), world.now);
        let then = world.then(at, &Wish::whole(view));
        let ids = |of: &Snapshot| of.edges.iter().map(|row| Arc::clone(&row.id)).collect::<Vec<_>>();
        assert_eq!(ids(&then), ids(&live), "{view:?}");
        assert_eq!(then.vertices, live.vertices, "{view:?}");
        assert_eq!(then.nodes.len(), live.nodes.len());
    }
    let wish = Wish { view: View::Pod, filter: "port:443".parse().expect("a filter"), hide_noise: false };
    let filtered = world.then(at, &wish);
    assert_eq!((filtered.edges.len(), filtered.edges[0].port, filtered.hidden.edges), (1, 443, 2));
}

#[test]
fn an_edge_that_falls_ill_is_told_once_and_so_is_that_it_is_well() {
    let mut world = World::new(Span::default());
    world.read(&[("cart-0", 1), ("cart-1", 2)]);
    for _ in 0..4 {
        world.traffic(&[(1, 2, 80, 100)], 0);
        world.wait(BUCKET);
    }
    assert_eq!(world.onsets, []);
    for step in 1..=3 {
        world.traffic(&[(1, 2, 80, 100)], step * 10);
        world.wait(BUCKET);
    }
    assert_eq!(world.onsets.iter().map(|onset| onset.kind).collect::<Vec<_>>(), ["edge-dropping"]);
    assert!(world.onsets[0].text.contains("NETFILTER_DROP"), "{:?}", world.onsets);
    let at = world.onsets[0].at;
    let then = world.then(at, &Wish::whole(View::Pod));
    assert_eq!(then.edges[0].drops[0].segments, 10, "the marker leads to the bucket that shows it");
    for _ in 0..6 {
        world.traffic(&[(1, 2, 80, 100)], 30);
        world.wait(BUCKET);
    }
    assert_eq!(world.onsets.iter().map(|onset| onset.kind).collect::<Vec<_>>(), ["edge-dropping", "edge-recovered"]);
}

#[test]
fn what_went_before_the_start_is_in_no_bucket() {
    let mut world = World::new(Span::default());
    world.read(&[("cart-0", 1), ("cart-1", 2)]);
    // An edge that is an hour old when the collector first hears of it.
    world.now -= 3_600 * SECOND;
    let mut old = World { now: world.now, ..World::new(Span::default()) };
    old.read(&[("cart-0", 1), ("cart-1", 2)]);
    old.traffic(&[(1, 2, 80, 1_000_000)], 0);
    old.now = START + SECOND;
    old.traffic(&[(1, 2, 80, 10)], 0);
    old.wait(BUCKET);
    old.traffic(&[(1, 2, 80, 10)], 0);
    old.wait(BUCKET);
    let told = old.history.tracks().row(&Whose::All).skbs;
    assert_eq!(told.iter().sum::<u64>(), 10, "{told:?}");
}

#[test]
fn outside_of_the_hour_the_span_is_told_and_the_oldest_leaves() {
    let mut world = World::new(Span { buckets: 8, ..Span::default() });
    assert!(matches!(world.history.still(world.now), Err(None)));
    world.read(&[("cart-0", 1), ("cart-1", 2)]);
    for _ in 0..20 {
        world.traffic(&[(1, 2, 80, 10)], 0);
        world.wait(BUCKET);
    }
    let (_, buckets) = world.history.size();
    assert_eq!(buckets, 8);
    let Err(Some((from, until))) = world.history.still(START) else { panic!("the start is gone") };
    assert_eq!(until - from, 8 * BUCKET);
    assert!(world.history.still(from).is_ok() && world.history.still(from - 1).is_err());
    assert!(world.history.still(world.now).is_ok(), "now is the last bucket");
    assert!(world.history.still(world.now + 3_600 * SECOND).is_err());
    assert_eq!(world.history.evicted().buckets, 0, "what was old did not leave early");
}

#[test]
fn an_hour_of_twelve_thousand_edges_has_room_and_beyond_the_bound_the_oldest_leaves_early() {
    let mut world = World::new(Span::default());
    // 12,000 edges that all move in every bucket: 4 of 240 buckets tell what one takes.
    for round in 0..4_u64 {
        for chunk in 0..12_u16 {
            let edges: Vec<_> = (0..1_000_u16)
                .map(|index| {
                    ((index % 100) as u8, (100 + index / 100) as u8, 1_000 + chunk, 500 + u64::from(index) + round)
                })
                .collect();
            world.traffic(&edges, 0);
        }
        world.wait(BUCKET);
    }
    let (bytes, buckets) = world.history.size();
    let each = bytes as f64 / buckets as f64 / 12_000.0;
    println!("{each:.1} bytes an edge and bucket: {:.1} MiB an hour", each * 12_000.0 * 240.0 / 1_048_576.0);
    assert!(each * 12_000.0 * 240.0 <= Span::default().bytes as f64, "{each}");
    // A twentieth of the room holds a twentieth of the past.
    let mut small = World::new(Span { bytes: 4_096, edges: 50, ..Span::default() });
    for _ in 0..40 {
        small.traffic(&(0..60_u8).map(|index| (index, 200, 80, 500)).collect::<Vec<_>>(), 0);
        small.wait(BUCKET);
    }
    let (bytes, buckets) = small.history.size();
    let evicted = small.history.evicted();
    assert!(bytes <= 4_096 && buckets > 0, "{bytes} bytes in {buckets} buckets");
    assert_eq!(evicted.buckets, 40 - buckets as u64);
    assert!(evicted.edges >= 10, "{evicted:?}");
}

/// What a store makes of a batch.
fn write(kept: &mut Kept, batch: Batch) {
    for (table, key) in batch.deletes {
        assert!(kept.0.entry(table).or_default().remove(&key).is_some(), "{table:?}: what goes was there");
    }
    for (table, key, value) in batch.puts {
        kept.0.entry(table).or_default().insert(key, value);
    }
}

#[test]
fn what_is_kept_bit_by_bit_is_the_same_hour() {
    let span = Span { buckets: 6, ..Span::default() };
    let mut world = World::new(span);
    let (mut kept, mut mirror) = (Kept::default(), Mirror::default());
    world.read(&[("cart-0", 1), ("cart-1", 2)]);
    for round in 0..12_u8 {
        if round == 5 {
            world.read(&[("cart-0", 1), ("cart-1", 2), ("cart-2", 3)]);
        }
        // Edges come and go, some of them ill.
        world.traffic(
            &[(1, 2, 80, 100), (2, 1, 1_000 + u16::from(round), 5), (1, 100 + round, 443, 7)],
            u64::from(round) * 5,
        );
        world.wait(BUCKET);
        let mut batch = Batch::default();
        world.history.keep(&mut mirror, &mut batch);
        write(&mut kept, batch);
        let again = History::restore(span, world.now, &kept).expect("it can be read");
        for whose in [Whose::All, Whose::Vertex(View::Workload, "workload:shop/StatefulSet/cart".to_owned())] {
            assert_eq!(again.tracks().row(&whose), world.history.tracks().row(&whose), "round {round}, {whose:?}");
        }
        let at = world.now - BUCKET;
        for view in View::ALL {
            let then =
                again.still(at).expect("it is remembered").snapshot(&Wish::whole(view), &names_row(), &identity());
            assert_eq!(then, world.then(at, &Wish::whole(view)), "round {round}, {view:?}");
        }
    }
    let mut nothing = Batch::default();
    world.history.keep(&mut mirror, &mut nothing);
    assert!(nothing.is_empty(), "what is kept is not written again");
    // Buckets of another length are none of ours; a row that is damaged is said.
    let other = History::restore(Span { bucket: SECOND, ..span }, world.now, &kept).expect("it can be read");
    assert_eq!(other.size().1, 0);
    for rows in kept.0.iter_mut().filter(|(table, _)| **table == Table::Edges).map(|(_, rows)| rows) {
        rows.values_mut().for_each(|row| row.truncate(3));
    }
    assert!(History::restore(span, world.now, &kept).is_err());
}
