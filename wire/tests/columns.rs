//! Edges in columns: whatever a report says, it says the same when it has been read; and what no agent writes is refused.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use prost::{Message as _, encoding};
use wire::{
    codec::{decode_report, encode_report},
    v1::{
        Counters, Dns, Drop, Edge, EdgeColumns, EdgeKind, Histogram, LocalColumns, Owner, Owners, Report, Sockets, Via,
    },
};

/// Numbers of all sizes, most of them small.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..4u64, 2 => 0..100_000u64, 1 => any::<u64>()]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 4 => (0..90_000u64).prop_map(|ms| 1_795_000_000_000_000_123 + ms * 1_000_000), 1 => any::<u64>()]
}

fn address() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![(0..9u8).prop_map(|last| vec![10, 0, 0, last]), prop::collection::vec(any::<u8>(), 4)]
}

fn ends() -> impl Strategy<Value = [Vec<u8>; 2]> {
    let long = prop_oneof![
        (0..9u8).prop_map(|last| [vec![0xfd; 15], vec![last]].concat()),
        prop::collection::vec(any::<u8>(), 16)
    ];
    prop_oneof![3 => [address(), address()], 1 => prop::array::uniform2(long)]
}

fn counters() -> impl Strategy<Value = Option<Counters>> {
    let counted = [number(), number(), number(), number()]
        .prop_map(|[skbs, segments, l3_bytes, payload_bytes]| Counters { skbs, segments, l3_bytes, payload_bytes });
    prop::option::of(counted)
}

fn sockets() -> impl Strategy<Value = Sockets> {
    let rtt = (prop::collection::vec(number(), 0..=32), number());
    let rtt = prop::option::of(rtt.prop_map(|(buckets, sum_us)| Histogram { buckets, sum_us }));
    (prop::array::uniform8(number()), rtt).prop_map(|(counts, rtt)| {
        let [attempts, established, refused, timed_out, unreachable, failed_otherwise, retransmitted, aborted] = counts;
        Sockets {
            attempts,
            established,
            refused,
            timed_out,
            unreachable,
            failed_otherwise,
            retransmitted,
            rtt,
            aborted,
        }
    })
}

fn owner() -> impl Strategy<Value = Owner> {
    ("[a-c]{0,2}", 0..3u64).prop_map(|(process, cgroup)| Owner { process, cgroup, ..Owner::default() })
}

fn rare() -> impl Strategy<Value = Edge> {
    let drop = number().prop_map(|segments| Drop { reason: "no_socket".into(), segments, ..Drop::default() });
    let dns = prop::option::of(number().prop_map(|queries| Dns { queries, ..Dns::default() }));
    let via = address().prop_map(|address| Via { address, port: 53 });
    let tunnel = prop_oneof![4 => Just(String::new()), 1 => Just("vxlan".to_owned())];
    let lists =
        (prop::collection::vec(drop, 0..2), prop::collection::vec(via, 0..2), prop::collection::vec(owner(), 0..3));
    (lists, dns, prop::option::of(sockets()), tunnel, any::<[bool; 5]>(), 0..7i32).prop_map(
        |((drops, vias, owners), dns, sockets, tunnel, [r#final, guessed, own, path_changed, translated], point)| {
            Edge {
                drops,
                vias,
                owners,
                dns,
                sockets,
                tunnel,
                r#final,
                guessed,
                own,
                path_changed,
                translated,
                point,
                ..Edge::default()
            }
        },
    )
}

fn edge() -> impl Strategy<Value = Edge> {
    let identity = (ends(), any::<u16>(), any::<u8>(), 1..=2i32, number(), 1..=u64::MAX, number());
    (identity, [counters(), counters()], prop::array::uniform5(number()), prop::array::uniform3(time()), rare())
        .prop_map(|(identity, [forward, reverse], counts, times, rare)| {
            let ([client, server], port, protocol, side, device, incarnation, cgroup) = identity;
            let [opened, established, closed, resets, icmp_errors] = counts;
            let [first_seen_unix_ns, forward_last_unix_ns, reverse_last_unix_ns] = times;
            Edge {
                client,
                server,
                server_port: port.into(),
                protocol: protocol.into(),
                side,
                device,
                incarnation,
                cgroup,
                forward,
                reverse,
                opened,
                established,
                closed,
                resets,
                icmp_errors,
                first_seen_unix_ns,
                forward_last_unix_ns,
                reverse_last_unix_ns,
                ..rare
            }
        })
}

fn report(edges: Vec<Edge>) -> Report {
    Report { version: wire::VERSION, node: "n".into(), epoch: 1, seq: u64::MAX, edges, ..Report::default() }
}

fn sorted(mut report: Report) -> Report {
    report.edges.sort_by_key(prost::Message::encode_to_vec);
    report
}

proptest! {
    #[test]
    fn reports_survive_the_trip(edges in prop::collection::vec(edge(), 0..40)) {
        let report = sorted(report(edges));
        let bytes = encode_report(&report).expect("encode");
        let read = decode_report(&bytes).expect("decode");
        prop_assert_eq!(&encode_report(&read).expect("encode again"), &bytes, "the order is one that stays");
        prop_assert_eq!(sorted(read), report);
    }

    /// A byte that is another, anywhere in the columns: an answer, and no panic.
    #[test]
    fn bent_columns_never_panic(
        edges in prop::collection::vec(edge(), 1..9),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let body = encode_report(&report(edges)).expect("encode");
        let mut bytes = zstd::bulk::decompress(&body, 1 << 20).expect("decompress");
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decode_report(&zstd::bulk::compress(&bytes, 1).expect("compress"));
    }
}

/// What edges of one kind have in common is told once.
#[test]
fn edges_that_are_alike_take_a_few_bytes_each() {
    let edge = |n: u8| Edge {
        client: vec![10, 0, 0, 1],
        server: vec![10, 0, 1, n],
        server_port: 443,
        protocol: 6,
        side: 1,
        incarnation: 1,
        forward: Some(Counters { skbs: 9, segments: 10, l3_bytes: 5_520, payload_bytes: 5_000 }),
        first_seen_unix_ns: 1_795_000_000_000_000_000,
        forward_last_unix_ns: 1_795_000_000_500_000_000,
        owners: vec![Owner { container: "9f".repeat(32), ..Owner::default() }],
        ..Edge::default()
    };
    let bytes = encode_report(&report((0..200).map(edge).collect())).expect("encode");
    assert!(bytes.len() < 400, "{} bytes", bytes.len());
}

/// Columns of one edge, as they would be written by hand.
fn columns() -> EdgeColumns {
    EdgeColumns {
        kinds: vec![EdgeKind { side: 1, ..EdgeKind::default() }],
        v4_count: 2,
        locals: Some(LocalColumns { count: 1, ..LocalColumns::default() }),
        incarnation: ONE.to_vec(),
        ..EdgeColumns::default()
    }
}

/// 1 in each row.
const ONE: [u8; 1] = [0b00_1000];

fn raw(report: &Report) -> String {
    let body = zstd::bulk::compress(&report.encode_to_vec(), 1).expect("compress");
    match decode_report(&body) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string().trim_start_matches("report invalid: ").to_owned(),
    }
}

fn verdict(change: impl FnOnce(&mut EdgeColumns)) -> String {
    let mut columns = columns();
    change(&mut columns);
    raw(&Report { edge_columns: Some(columns), ..report(Vec::new()) })
}

#[test]
fn places_that_do_not_exist_are_refused() {
    assert_eq!(verdict(|_| {}), "ok");
    assert_eq!(verdict(|columns| columns.kind = ONE.to_vec()), "an edge is of no kind");
    assert_eq!(verdict(|columns| columns.remote = ONE.to_vec()), "ok");
    columns_refused("an end has no address", |columns| columns.remote = vec![0b01_0100]);
    columns_refused("an end has no address", |columns| columns.v4_count = 0);
    columns_refused("more addresses than edges have", |columns| columns.v4_count = 3);
    columns_refused("more addresses than edges have", |columns| columns.v6_count = 3);
    columns_refused("more addresses than edges have", |columns| columns.locals = None);
    columns_refused("an edge's owners are in no list", |columns| columns.owners = ONE.to_vec());
    columns_refused("what is beside the columns is of no edge", |columns| columns.rest = vec![Edge::default(); 2]);
    columns_refused("a column is broken, or shorter than its rows", |columns| columns.opened = vec![0b10]);
    // 2^40.
    columns_refused("an address is beyond 4 bytes", |columns| columns.v4 = vec![0b0100_1100, 1, 0, 0, 0, 0, 0]);
    columns_refused("port or protocol out of range", |columns| columns.server_port = vec![0b1000_1100, 0, 0, 0]);
    columns_refused("a tunnel's kind is over 16 bytes", |columns| columns.kinds[0].tunnel = "x".repeat(17));
}

fn columns_refused(why: &str, change: impl FnOnce(&mut EdgeColumns)) {
    assert_eq!(verdict(change), why);
}

/// A few bytes are 65,536 edges, and no more.
#[test]
fn columns_are_bounded() {
    let many = |rows: u32, columns: &mut EdgeColumns| {
        // Of the one local end, in the form of a number.
        let length = 64 - u64::from(rows - 1).leading_zeros();
        let below = u64::from(rows - 1) & !(1 << (length - 1));
        let word = (below << 10) | (u64::from(length) << 3) | 0b100;
        columns.locals.get_or_insert_default().rows = word.to_le_bytes().to_vec();
    };
    assert_eq!(verdict(|columns| many(65_536, columns)), "ok");
    columns_refused("more than 65,536 edges", |columns| many(65_537, columns));
    columns_refused("more than 65,536 edges", |columns| columns.locals.get_or_insert_default().count = u32::MAX);
    let mut both = Report { edge_columns: Some(columns()), ..report(Vec::new()) };
    let plain = decode_report(&encode_report(&report(vec![plain()])).expect("encode")).expect("decode");
    both.edges = vec![plain.edges[0].clone(); 65_535];
    assert_eq!(raw(&both), "ok");
    both.edges.push(plain.edges[0].clone());
    assert_eq!(raw(&both), "more than 65,536 edges");
    columns_refused("more than 65,536 kinds of edges", |columns| columns.kinds = vec![EdgeKind::default(); 65_537]);
    columns_refused("more than 65,536 lists of owners", |columns| {
        columns.owner_lists = vec![Owners::default(); 65_537]
    });
    let list = |count| Owners { owners: vec![Owner::default(); count] };
    assert_eq!(verdict(|columns| columns.owner_lists = vec![list(4)]), "ok");
    columns_refused("more than 4 owners of an edge", |columns| columns.owner_lists = vec![list(5)]);
    columns_refused("more than 16 drops of an edge", |columns| {
        columns.rest = vec![Edge { drops: vec![Drop::default(); 17], ..Edge::default() }];
    });
    // A long list is told once, and would be 64 MiB in the edges.
    let long = Owners { owners: vec![Owner { process: "x".repeat(1_024), ..Owner::default() }] };
    columns_refused("report unpacks to more than 33554432 bytes", |columns| {
        many(65_536, columns);
        columns.owner_lists = vec![long];
        columns.owners = ONE.to_vec();
    });
}

fn plain() -> Edge {
    Edge { client: vec![1; 4], server: vec![2; 4], side: 1, incarnation: 1, ..Edge::default() }
}

/// A field that stands twice is merged: what is counted are all of them.
#[test]
fn columns_in_pieces_count_together() {
    let mut piece = EdgeColumns { kinds: vec![EdgeKind::default(); 40_000], ..EdgeColumns::default() }.encode_to_vec();
    let mut field = Vec::new();
    encoding::encode_key(24, encoding::WireType::LengthDelimited, &mut field);
    encoding::encode_varint(piece.len() as u64, &mut field);
    field.append(&mut piece);
    let error = decode_report(&zstd::bulk::compress(&field.repeat(2), 3).expect("compress")).expect_err("refused");
    assert_eq!(error.to_string(), "report invalid: more than 65,536 kinds of edges");
}
