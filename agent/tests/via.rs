//! Virtual addresses: what a pod sent to one and what left for the backend are one edge, and count once; what cannot be
//! joined stays two, and says so.

use agent::{
    edge::{Moment, WallClock},
    home::Home,
    points::{Class, HOLD_NS, Place},
    summarise::{Limits, Table},
    via::{Client, MAX_JOINS, Vias},
};
use agent_ebpf::abi::{Direction, FlowKey, FlowTotals, mapped, tcp_state};
use wire::v1::{Edge, Point, Side, Via};

const POD: [u8; 4] = [10, 1, 0, 2];
const VIRTUAL: [u8; 4] = [10, 96, 0, 1];
const OTHER_VIRTUAL: [u8; 4] = [10, 96, 0, 2];
const BACKEND: [u8; 4] = [10, 2, 0, 3];
const OTHER_BACKEND: [u8; 4] = [10, 2, 0, 4];
const NODE: [u8; 4] = [172, 30, 1, 2];
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const VETH: u32 = 7;
const UPLINK: u32 = 9;
const NEIGHBOUR: u32 = 11;
const TCP: u8 = 6;
const UDP: u8 = 17;

fn place(ifindex: u32) -> Place {
    Place { class: if ifindex == UPLINK { Class::Uplink } else { Class::Pod }, device: u64::from(ifindex) }
}

fn table() -> Table {
    let mut table = Table::new(Limits { max_edges: 100, retire_after_ns: 600 * SECOND });
    let home = Home { addresses: [mapped(NODE)].into(), device: u64::from(UPLINK), tunnel_ports: Vec::new() };
    table.set_home(home);
    table
}

fn flow(to: ([u8; 4], u16), protocol: u8, ifindex: u32) -> FlowKey {
    FlowKey {
        source: mapped(POD),
        destination: mapped(to.0),
        source_port: 50_000,
        destination_port: to.1,
        protocol,
        // What a pod sends comes in at its own device, and goes out everywhere else.
        direction: if ifindex == VETH { Direction::Ingress } else { Direction::Egress } as u8,
        ifindex,
        reserved: [0; 2],
    }
}

/// So many packets since `first_ms`; of TCP with the connection's beginning and its number.
fn totals(skbs: u64, first_ms: u64, opening: Option<u32>) -> FlowTotals {
    FlowTotals {
        skbs,
        segments: skbs,
        payload_bytes: skbs * 10,
        first_ns: first_ms * MS,
        last_ns: first_ms * MS + skbs,
        tcp_state: if opening.is_some() { tcp_state::OPENER } else { 0 },
        initial_seq: opening.unwrap_or(0),
        ..FlowTotals::default()
    }
}

fn fold(table: &mut Table, now_ms: u64, readings: &[(FlowKey, FlowTotals)]) {
    let moment = Moment { now_ns: now_ms * MS, clock: WallClock { offset_ns: 0 }, next_seq: 1 };
    table.fold(readings.iter().copied(), moment, place);
}

fn edges(table: &mut Table) -> Vec<Edge> {
    let mut edges = table.report(1, 0, true);
    edges.sort_by_key(|edge| (edge.server.clone(), edge.side));
    edges
}

fn via(address: [u8; 4], port: u32) -> Vec<Via> {
    vec![Via { address: address.to_vec(), port }]
}

fn sent(edge: &Edge) -> (Vec<u8>, u32, u64) {
    (edge.server.clone(), edge.server_port, edge.forward.map_or(0, |way| way.skbs))
}

#[test]
fn one_that_vanished_and_one_that_appeared_are_one_edge_at_the_pods_device() {
    for (protocol, opening) in [(UDP, None), (TCP, Some(77))] {
        let mut table = table();
        let (before, after) = (flow((VIRTUAL, 80), protocol, VETH), flow((BACKEND, 8080), protocol, UPLINK));
        fold(&mut table, 5, &[(before, totals(3, 1, opening)), (after, totals(3, 1, opening))]);
        // And back: the answer comes from the backend, and reaches the pod in the virtual address' name.
        let back = [(before.reversed(), totals(2, 2, None)), (after.reversed(), totals(2, 2, None))];
        fold(&mut table, 300, &[back[1], (after, totals(4, 1, opening)), back[0], (before, totals(4, 1, opening))]);
        let edges = edges(&mut table);
        let [edge] = &edges[..] else { panic!("{edges:#?}") };
        assert_eq!(sent(edge), (BACKEND.to_vec(), 8080, 4));
        assert_eq!(edge.reverse.map(|way| way.skbs), Some(2));
        assert_eq!((edge.side, edge.point), (i32::from(Side::Client), i32::from(Point::Pod)));
        assert_eq!((edge.vias.clone(), edge.translated), (via(VIRTUAL, 80), false));
    }
}

#[test]
fn a_backend_on_the_same_node_has_both_sides() {
    let mut table = table();
    let (before, after) = (flow((VIRTUAL, 80), TCP, VETH), flow((BACKEND, 8080), TCP, NEIGHBOUR));
    fold(&mut table, 5, &[(after, totals(3, 1, Some(5))), (before, totals(3, 1, Some(5)))]);
    let edges = edges(&mut table);
    let sides: Vec<_> = edges.iter().map(|edge| (edge.side, sent(edge), edge.vias.len())).collect();
    let there = (BACKEND.to_vec(), 8080, 3);
    assert_eq!(sides, [(1, there.clone(), 1), (2, there, 0)]);
}

#[test]
fn a_flow_not_seen_further_on_waits_a_moment_and_its_device_accounts_for_it() {
    let mut table = table();
    let before = flow((VIRTUAL, 80), UDP, VETH);
    fold(&mut table, 5, &[(before, totals(3, 1, None))]);
    assert!(table.waits(&before) && edges(&mut table).is_empty());
    assert_eq!(table.folded(VETH), [3, 0], "what waits was read");
    // The reading in which it appears.
    let after = flow((BACKEND, 80), UDP, UPLINK);
    fold(&mut table, 50, &[(before, totals(5, 1, None)), (after, totals(5, 1, None))]);
    assert_eq!(edges(&mut table).iter().map(sent).collect::<Vec<_>>(), [(BACKEND.to_vec(), 80, 5)]);
    assert_eq!(table.folded(VETH), [5, 0]);
    // Nothing ever appears: it was dropped, or is for nobody.
    let lost = flow((OTHER_VIRTUAL, 80), UDP, VETH);
    fold(&mut table, 200, &[(before, totals(5, 1, None)), (after, totals(5, 1, None)), (lost, totals(1, 150, None))]);
    assert!(table.waits(&lost));
    let late = 150 + HOLD_NS / MS;
    fold(&mut table, late, &[(before, totals(5, 1, None)), (after, totals(5, 1, None)), (lost, totals(1, 150, None))]);
    let counted = edges(&mut table);
    assert_eq!(counted.iter().map(sent).collect::<Vec<_>>()[1], (OTHER_VIRTUAL.to_vec(), 80, 1));
    assert!(counted.iter().all(|edge| !edge.translated));
}

#[test]
fn who_talks_to_the_one_he_names_does_not_wait() {
    let mut table = table();
    let direct = flow((BACKEND, 80), UDP, VETH);
    fold(&mut table, 5, &[(direct, totals(3, 1, None)), (flow((BACKEND, 80), UDP, UPLINK), totals(3, 1, None))]);
    assert_eq!(edges(&mut table).iter().map(sent).collect::<Vec<_>>(), [(BACKEND.to_vec(), 80, 3)]);
    // The node itself, and what it masquerades.
    let node = flow((NODE, 22), TCP, VETH);
    let world = flow(([192, 0, 2, 10], 443), TCP, VETH);
    let masqueraded = FlowKey { source: mapped(NODE), ..flow(([192, 0, 2, 10], 443), TCP, UPLINK) };
    let readings = [node, world, masqueraded].map(|key| (key, totals(1, 10, Some(1))));
    fold(&mut table, 11, &readings);
    assert!(!table.waits(&node) && !table.waits(&world));
    assert!(edges(&mut table).iter().all(|edge| edge.vias.is_empty()));
}

#[test]
fn connections_are_told_apart_by_their_numbers_and_datagrams_are_not() {
    // The same client port, to two services at once.
    let ends = [(VIRTUAL, BACKEND, 11), (OTHER_VIRTUAL, OTHER_BACKEND, 22)];
    let mut connections = table();
    let readings = ends.map(|(to, backend, number)| {
        [(flow((to, 80), TCP, VETH), number), (flow((backend, 80), TCP, UPLINK), number)]
            .map(|(key, number)| (key, totals(2, 1, Some(number))))
    });
    fold(&mut connections, 5, readings.as_flattened());
    let joined: Vec<_> = edges(&mut connections).into_iter().map(|edge| (edge.server, edge.vias)).collect();
    assert_eq!(joined, [(BACKEND.to_vec(), via(VIRTUAL, 80)), (OTHER_BACKEND.to_vec(), via(OTHER_VIRTUAL, 80))]);

    let mut datagrams = table();
    let readings = ends.map(|(to, backend, _)| {
        [flow((to, 80), UDP, VETH), flow((backend, 80), UDP, UPLINK)].map(|key| (key, totals(2, 1, None)))
    });
    fold(&mut datagrams, 5, readings.as_flattened());
    fold(&mut datagrams, 300, readings.as_flattened());
    let told: Vec<_> =
        edges(&mut datagrams).into_iter().map(|edge| (sent(&edge).2, edge.translated, edge.vias)).collect();
    assert_eq!(told, vec![(2, true, Vec::new()); 4], "four edges, and each says that another counts the same");
}

#[test]
fn a_backend_that_changes_in_mid_flow_is_told_on_both_edges() {
    let (before, after) = (flow((VIRTUAL, 80), UDP, VETH), flow((BACKEND, 8080), UDP, UPLINK));
    let other = flow((OTHER_BACKEND, 8080), UDP, UPLINK);
    let joined = || {
        let mut table = table();
        fold(&mut table, 5, &[(before, totals(3, 1, None)), (after, totals(3, 1, None))]);
        table
    };
    let told = |table: &mut Table| -> Vec<_> {
        edges(table).iter().map(|edge| (sent(edge), edge.translated, edge.vias.clone())).collect()
    };
    let mut changed = joined();
    for now in [300, 600] {
        let now_there = [(before, totals(5, 1, None)), (after, totals(3, 1, None)), (other, totals(2, 290, None))];
        fold(&mut changed, now, &now_there);
    }
    let former = ((BACKEND.to_vec(), 8080, 5), true, via(VIRTUAL, 80));
    assert_eq!(told(&mut changed), [former, ((OTHER_BACKEND.to_vec(), 8080, 2), true, Vec::new())]);

    // Who speaks to another one by its own address as well is not astray.
    let mut speaks = joined();
    let direct = flow((OTHER_BACKEND, 8080), UDP, VETH);
    for now in [300, 600] {
        let both = [(other, totals(2, 290, None)), (direct, totals(2, 290, None))];
        fold(&mut speaks, now, &[both[0], (before, totals(3, 1, None)), (after, totals(3, 1, None)), both[1]]);
    }
    assert!(told(&mut speaks).iter().all(|(_, translated, _)| !translated), "{:?}", told(&mut speaks));
    assert_eq!(edges(&mut speaks).len(), 2);
}

#[test]
fn joins_end_with_their_flows_and_are_bounded() {
    let mut vias = Vias::default();
    let key = |port: u16| FlowKey { source_port: port, ..flow((VIRTUAL, 80), UDP, VETH) };
    let backend = (mapped(BACKEND), 8080);
    let client = |key: &FlowKey| Client::of(key, true).expect("a client");
    assert!(vias.join(client(&key(1)), (mapped(VIRTUAL), 80), backend));
    vias.enter(&key(1), true);
    vias.enter(&key(1).reversed(), false);
    let translated = vias.translate(&key(1).reversed(), false).expect("the way back, too").0;
    assert_eq!((translated.source, translated.source_port), backend);
    vias.leave(&key(1), true);
    assert_eq!(vias.held(), 1);
    vias.leave(&key(1).reversed(), false);
    assert_eq!(vias.held(), 0);
    for number in 0..=u32::try_from(MAX_JOINS).expect("small") {
        let address = mapped(number.to_be_bytes());
        let room = vias.join(client(&FlowKey { source: address, ..key(1) }), (mapped(VIRTUAL), 80), backend);
        assert_eq!(room, (number as usize) < MAX_JOINS);
    }
    assert_eq!(vias.held(), MAX_JOINS);
}
