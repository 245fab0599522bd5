//! One packet passes several hooks and counts once: which class owns a flow, who waits for whom, and what is in no edge.

use agent::{
    dns::{Fact, What},
    edge::{Moment, WallClock},
    facts::Whose,
    home::{Home, MAX_POD_ADDRESSES, PodAddresses, TunnelKind, UNKNOWN_NS},
    points::{Class, HOLD_NS, Place, Rest, SILENT_NS},
    summarise::{Limits, MAX_UNMAPPED, Table, Told},
};
use agent_ebpf::abi::{Direction, Event, EventKind, FLOW_LOCAL_SOCKET, FlowKey, FlowTotals, mapped, tcp_state};
use wire::v1::{Edge, Owner, Point, Side};

const POD: [u8; 4] = [10, 1, 0, 2];
const PEER: [u8; 4] = [10, 2, 0, 3];
const NODE: [u8; 4] = [172, 30, 1, 2];
const OTHER_NODE: [u8; 4] = [172, 30, 2, 2];
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Interface indexes.
const VETH: u32 = 7;
const TUNNEL: u32 = 8;
const UPLINK: u32 = 9;
const UPLINK_2: u32 = 10;

fn place(ifindex: u32) -> Place {
    let class = match ifindex {
        0 => Class::Cgroup,
        TUNNEL => Class::Tunnel,
        UPLINK | UPLINK_2 => Class::Uplink,
        _ => Class::Pod,
    };
    Place { class, device: u64::from(ifindex) }
}

fn at(now_ns: u64) -> Moment {
    Moment { now_ns, clock: WallClock { offset_ns: 0 }, next_seq: 1 }
}

fn table() -> Table {
    let mut table = Table::new(Limits { max_edges: 100, retire_after_ns: 600 * SECOND });
    let home = Home { addresses: [mapped(NODE)].into(), device: u64::from(UPLINK), tunnel_ports: Vec::new() };
    table.set_home(home);
    table
}

/// A UDP flow from one address to the other's port 80, as a device sees it.
fn flow(from: [u8; 4], to: [u8; 4], ifindex: u32, direction: Direction) -> FlowKey {
    FlowKey {
        source: mapped(from),
        destination: mapped(to),
        source_port: 50_000,
        destination_port: 80,
        protocol: 17,
        direction: direction as u8,
        ifindex,
        reserved: [0; 2],
    }
}

/// What the pod sent, at the class of hook that this device makes.
fn out(ifindex: u32) -> FlowKey {
    let sends =
        if matches!(place(ifindex).class, Class::Pod | Class::Cgroup) { Direction::Ingress } else { Direction::Egress };
    flow(POD, PEER, ifindex, sends)
}

fn totals(skbs: u64, first_ns: u64, last_ns: u64) -> FlowTotals {
    let (l3_bytes, payload_bytes) = (skbs * 100, skbs * 72);
    FlowTotals { skbs, segments: skbs, l3_bytes, payload_bytes, first_ns, last_ns, ..FlowTotals::default() }
}

fn fold(table: &mut Table, now_ns: u64, readings: &[(FlowKey, FlowTotals)]) {
    table.fold(readings.iter().copied(), at(now_ns), place);
}

fn edges(table: &mut Table) -> Vec<Edge> {
    table.report(1, 0, true)
}

fn only(table: &mut Table) -> Edge {
    let mut edges = edges(table);
    assert_eq!(edges.len(), 1, "{edges:#?}");
    edges.remove(0)
}

fn forward(edge: &Edge) -> u64 {
    edge.forward.expect("always told").skbs
}

/// Everything a device saw is in an edge or in one of the rests.
fn rest(table: &Table, ifindex: u32, direction: Direction) -> (u64, Rest) {
    (table.folded(ifindex)[direction as usize], table.rest(ifindex)[direction as usize])
}

#[test]
fn the_pods_device_owns_what_tunnel_and_uplink_see_as_well() {
    let mut table = table();
    for reading in 1..20 {
        let now = SECOND + reading * 200 * MS;
        let grown = |late: u64| totals(reading * 10, SECOND + late, now - MS + late);
        // The lesser ones stand first in the map.
        fold(&mut table, now, &[(out(UPLINK), grown(3)), (out(TUNNEL), grown(2)), (out(VETH), grown(1))]);
    }
    let edge = only(&mut table);
    assert_eq!((forward(&edge), edge.device, edge.point()), (190, u64::from(VETH), Point::Pod));
    assert!(!edge.path_changed && table.path_changes() == 0);
    for lesser in [TUNNEL, UPLINK] {
        let elsewhere = Rest { elsewhere: 190, ..Rest::default() };
        assert_eq!(rest(&table, lesser, Direction::Egress), (190, elsewhere));
    }
}

#[test]
fn a_lesser_class_waits_for_the_better_ones_entry() {
    let mut table = table();
    let node = flow(NODE, PEER, UPLINK, Direction::Egress);
    let socket = |skbs, last| FlowTotals { flags: FLOW_LOCAL_SOCKET, ..totals(skbs, SECOND, last) };
    fold(&mut table, SECOND + 1, &[(node, socket(1, SECOND))]);
    assert!(edges(&mut table).is_empty(), "a better class may be about to tell");
    fold(&mut table, SECOND + HOLD_NS, &[(node, socket(3, SECOND + 2))]);
    let edge = only(&mut table);
    assert_eq!((forward(&edge), edge.point(), edge.first_seen_unix_ns), (3, Point::Uplink, SECOND));
    fold(&mut table, SECOND + HOLD_NS + 1, &[(node, socket(4, SECOND + HOLD_NS))]);
    assert_eq!(forward(&only(&mut table)), 4, "an owner does not wait");
    assert!(!only(&mut table).path_changed);
}

#[test]
fn what_reaches_a_pod_past_its_device_joins_the_pods_own_edge() {
    let mut table = table();
    let answer = FlowKey { source_port: 80, destination_port: 50_000, ..flow(PEER, POD, TUNNEL, Direction::Ingress) };
    // Nobody knows the pod's address yet.
    fold(&mut table, SECOND + HOLD_NS, &[(answer, totals(2, SECOND, SECOND))]);
    assert!(edges(&mut table).is_empty());
    let sent = totals(5, SECOND, SECOND + 300 * MS);
    fold(&mut table, SECOND + 400 * MS, &[(out(VETH), sent), (answer, totals(6, SECOND, SECOND + 300 * MS))]);
    let edge = only(&mut table);
    assert_eq!((forward(&edge), edge.reverse.map(|way| way.skbs)), (5, Some(6)), "the whole of it, from the first on");
    assert_eq!((edge.side(), edge.device, edge.path_changed), (Side::Client, u64::from(VETH), false));
    assert_eq!(edge.point(), Point::Tunnel, "the least of the classes that counted it");
}

#[test]
fn an_owner_that_falls_silent_loses_the_flow_and_gets_it_back() {
    let mut table = table();
    let start = 10 * SECOND;
    let read = |table: &mut Table, now: u64, pod: (u64, u64), uplink: (u64, u64)| {
        let readings = [(out(UPLINK), totals(uplink.0, start, uplink.1)), (out(VETH), totals(pod.0, start, pod.1))];
        fold(table, now, &readings);
        (forward(&only(table)), only(table).path_changed)
    };
    assert_eq!(read(&mut table, start + 200 * MS, (10, start), (10, start)), (10, false));
    // The pod's hook is jumped over from now on.
    for second in 1..=2 {
        let now = start + second * SECOND;
        assert_eq!(read(&mut table, now + 1, (10, start), (10 + 10 * second, now)), (10, false));
    }
    let now = start + SILENT_NS + HOLD_NS;
    assert_eq!(read(&mut table, now + 1, (10, start), (31, now)), (31, true), "all since the owner's last packet");
    assert_eq!(read(&mut table, now + 2, (10, start), (35, now + 1)), (35, true));
    assert_eq!(table.path_changes(), 1);
    // And it is passed again.
    assert_eq!(read(&mut table, now + 200 * MS, (14, now + 9), (39, now + 9)), (39, true));
    assert_eq!(read(&mut table, now + 400 * MS, (19, now + 200 * MS), (44, now + 200 * MS)), (44, true));
    assert_eq!(table.path_changes(), 2);
    assert_eq!(rest(&table, UPLINK, Direction::Egress), (44, Rest { elsewhere: 10 + 9, ..Rest::default() }));
}

#[test]
fn a_reading_that_took_the_two_entries_at_different_instants_moves_nothing() {
    let mut table = table();
    // One packet every three seconds; each reading finds the uplink's entry after the packet and the pod's before it.
    for packet in 1..10 {
        let sent = 10 * SECOND + packet * 3 * SECOND;
        let before = totals(packet - 1, 10 * SECOND, sent - 3 * SECOND);
        let pod = if packet == 1 { vec![] } else { vec![(out(VETH), before)] };
        let uplink = (out(UPLINK), totals(packet, 13 * SECOND, sent));
        fold(&mut table, sent + MS, &[&pod[..], &[uplink]].concat());
        fold(&mut table, sent + 200 * MS, &[(out(VETH), totals(packet, 10 * SECOND, sent)), uplink]);
        assert_eq!(forward(&only(&mut table)), packet);
    }
    assert_eq!(table.path_changes(), 0);
}

#[test]
fn of_two_uplinks_that_see_the_same_packet_one_counts() {
    let mut table = table();
    let socket = |skbs, last| FlowTotals { flags: FLOW_LOCAL_SOCKET, ..totals(skbs, SECOND, last) };
    for reading in 1..10 {
        let now = SECOND + reading * 200 * MS;
        let seen =
            [UPLINK, UPLINK_2].map(|ifindex| (flow(NODE, PEER, ifindex, Direction::Egress), socket(reading, now - 1)));
        fold(&mut table, now, &seen);
    }
    let edge = only(&mut table);
    assert_eq!((forward(&edge), edge.device), (9, u64::from(UPLINK)));
}

#[test]
fn transit_and_translated_packets_make_no_edge_and_are_counted() {
    let mut table = table();
    let transit = flow([10, 8, 0, 1], [10, 9, 0, 1], UPLINK, Direction::Egress);
    let masqueraded = flow(NODE, [192, 0, 2, 10], UPLINK, Direction::Egress);
    let back = FlowKey { direction: Direction::Ingress as u8, ..masqueraded.reversed() };
    let read = |table: &mut Table, now: u64, skbs: u64| {
        let seen = totals(skbs, SECOND, now - 1);
        fold(table, now, &[transit, back, masqueraded].map(|key| (key, seen)));
        assert!(edges(table).is_empty(), "{:#?}", edges(table));
    };
    read(&mut table, SECOND + HOLD_NS + 1, 4);
    read(&mut table, SECOND + UNKNOWN_NS + 1, 9);
    read(&mut table, SECOND + UNKNOWN_NS + 2, 10);
    let counted = Rest { transit: 10, translated: 10, elsewhere: 0 };
    assert_eq!(rest(&table, UPLINK, Direction::Egress), (20, counted));
    assert_eq!(rest(&table, UPLINK, Direction::Ingress), (10, Rest { translated: 10, ..Rest::default() }));
}

#[test]
fn what_asks_the_node_itself_is_an_edge_of_the_node() {
    let mut table = table();
    let request = flow([192, 0, 2, 10], NODE, UPLINK, Direction::Ingress);
    let reply = FlowKey { direction: Direction::Egress as u8, ..request.reversed() };
    let from_socket = FlowTotals { flags: FLOW_LOCAL_SOCKET, ..totals(3, SECOND, SECOND) };
    let one_way = FlowKey { destination_port: 81, ..request };
    let readings = [(request, totals(3, SECOND, SECOND)), (reply, from_socket), (one_way, totals(1, SECOND, SECOND))];
    fold(&mut table, SECOND + HOLD_NS, &readings);
    let edges = edges(&mut table);
    assert_eq!(edges.len(), 2, "{edges:#?}");
    for edge in edges {
        assert_eq!((edge.side(), edge.device, edge.server), (Side::Server, u64::from(UPLINK), NODE.to_vec()));
    }
}

#[test]
fn a_dns_message_waits_for_its_flow_to_be_decided() {
    let mut table = table();
    let asks = flow(NODE, PEER, UPLINK, Direction::Egress);
    let told = |table: &mut Table, key: FlowKey, now: u64| {
        table.dns(&Fact { key, time_ns: SECOND, what: What::Query(None) }, at(now), place)
    };
    let socket = |skbs| FlowTotals { flags: FLOW_LOCAL_SOCKET, ..totals(skbs, SECOND, SECOND) };
    assert_eq!(told(&mut table, asks, SECOND), Told::Early, "its flow is not read yet");
    fold(&mut table, SECOND + 1, &[(asks, socket(1))]);
    assert_eq!(told(&mut table, asks, SECOND + 1), Told::Early, "a better class may be about to tell");
    fold(&mut table, SECOND + HOLD_NS, &[(asks, socket(1))]);
    assert!(matches!(told(&mut table, asks, SECOND + HOLD_NS), Told::Edge(_)));
    assert_eq!(only(&mut table).dns.map(|dns| dns.queries), Some(1), "counted once");
    // Where a better class counts the flow it tells of the message, too.
    let covered = [(out(VETH), totals(1, SECOND, SECOND)), (out(UPLINK), totals(1, SECOND, SECOND))];
    fold(&mut table, SECOND + HOLD_NS, &covered);
    assert_eq!(told(&mut table, out(UPLINK), SECOND + HOLD_NS), Told::Nobody);
    assert!(matches!(told(&mut table, out(VETH), SECOND + HOLD_NS), Told::Edge(_)));
    // Nobody waits for ever.
    let unknown = flow([10, 8, 0, 1], [10, 9, 0, 1], UPLINK, Direction::Egress);
    assert_eq!(told(&mut table, unknown, SECOND + UNKNOWN_NS + 10 * HOLD_NS), Told::Nobody);
}

#[test]
fn sockets_under_the_nodes_address_are_told_apart_by_their_cgroup() {
    let mut table = table();
    let asks = |port| FlowKey { source_port: port, ..flow(NODE, PEER, UPLINK, Direction::Egress) };
    let answers = |port| FlowKey { direction: Direction::Ingress as u8, ..asks(port).reversed() };
    let socket = |skbs, cgroup| FlowTotals { flags: FLOW_LOCAL_SOCKET, cgroup, ..totals(skbs, SECOND, SECOND) };
    let asked = [(50_000, 7), (50_001, 8), (50_002, 0), (50_003, 0)];
    let readings: Vec<_> = asked
        .into_iter()
        .zip(1..)
        .flat_map(|((port, cgroup), skbs)| {
            [(asks(port), socket(skbs, cgroup)), (answers(port), totals(10 * skbs, SECOND, SECOND))]
        })
        .collect();
    fold(&mut table, SECOND + HOLD_NS, &readings);
    let told = |table: &mut Table| {
        let mut told: Vec<_> = edges(table)
            .iter()
            .map(|edge| (edge.cgroup, forward(edge), edge.reverse.map_or(0, |way| way.skbs), edge.path_changed))
            .collect();
        told.sort_unstable();
        told
    };
    assert_eq!(told(&mut table), [(0, 7, 70, false), (7, 1, 10, false), (8, 2, 20, false)]);
    // Whose they are is asked once it is known, and where it tells a container.
    let ours = |cgroup: u32, pod_uid: &str| {
        Whose::Ours(Owner { cgroup: cgroup.into(), pod_uid: pod_uid.to_owned(), ..Owner::default() })
    };
    table.own_cgroups(at(SECOND), |_| Whose::Unknown);
    table.own_cgroups(at(SECOND), |cgroup| ours(cgroup, if cgroup == 7 { "uid" } else { "" }));
    table.own_cgroups(at(SECOND), |_| panic!("asked again"));
    let owners = edges(&mut table).into_iter().map(|edge| (edge.cgroup, edge.owners.len()));
    assert_eq!(owners.collect::<std::collections::BTreeMap<_, _>>(), [(0, 0), (7, 1), (8, 0)].into());
    // A server is told by what it answers: what came before that stays the node's, and nothing counts twice.
    let request = FlowKey { destination_port: 81, ..flow(PEER, NODE, UPLINK, Direction::Ingress) };
    let reply = FlowKey { direction: Direction::Egress as u8, ..request.reversed() };
    let at_server = |table: &mut Table| {
        let served = edges(table).into_iter().filter(|edge| edge.side() == Side::Server);
        let mut told: Vec<_> =
            served.map(|edge| (edge.cgroup, forward(&edge), edge.reverse.map_or(0, |way| way.skbs))).collect();
        told.sort_unstable();
        told
    };
    fold(&mut table, SECOND + HOLD_NS, &[(request, totals(3, SECOND, SECOND))]);
    assert_eq!(at_server(&mut table), [(0, 3, 0)]);
    let later = totals(5, SECOND, 2 * SECOND);
    fold(&mut table, 2 * SECOND, &[(request, later), (reply, socket(2, 9))]);
    fold(&mut table, 3 * SECOND, &[(request, later), (reply, socket(2, 9))]);
    assert_eq!(at_server(&mut table), [(0, 3, 0), (9, 2, 2)]);
}

#[test]
fn outer_packets_between_nodes_are_a_layer_of_their_own() {
    let mut table = table();
    let outer = |from, to, direction, source_port, port| FlowKey {
        source_port,
        destination_port: port,
        ..flow(from, to, UPLINK, direction)
    };
    let seen = totals(2, SECOND, SECOND);
    let mut readings: Vec<_> = (40_000..40_010)
        .flat_map(|port| {
            [
                (outer(NODE, OTHER_NODE, Direction::Egress, port, 8_472), seen),
                (outer(OTHER_NODE, NODE, Direction::Ingress, port, 8_472), seen),
            ]
        })
        .collect();
    readings.push((FlowKey { protocol: 50, ..outer(NODE, OTHER_NODE, Direction::Egress, 0, 0) }, seen));
    // Through a pod's device the same packets would be the pod's own business.
    readings.push((outer(POD, PEER, Direction::Ingress, 40_000, 8_472), seen));
    readings.last_mut().expect("just pushed").0.ifindex = VETH;
    let folded = table.fold(readings.iter().copied(), at(SECOND + HOLD_NS), place);
    assert_eq!(folded.edges_new, 1, "a tunnel moves with what it carries and hurries nobody");
    let mut edges = edges(&mut table);
    edges.sort_by_key(|edge| edge.tunnel.clone());
    let told: Vec<_> = edges.iter().map(|edge| (edge.tunnel.as_str(), edge.server_port, forward(edge))).collect();
    assert_eq!(told, [("", 8_472, 2), ("ipsec", 0, 2), ("vxlan", 8_472, 20)]);
    let vxlan = &edges[2];
    assert_eq!((&vxlan.client[..], vxlan.reverse.map(|way| way.skbs)), (&NODE[..], Some(20)));
    assert_eq!((vxlan.side(), vxlan.guessed), (Side::Client, false));
}

/// Before Linux 5.14 what arrives at a GRE device still has its outer headers there.
#[test]
fn what_a_tunnels_device_shows_as_it_came_is_that_layers_too_and_counts_once() {
    let mut table = table();
    let outer = |from, to, ifindex, direction| FlowKey {
        protocol: 47,
        source_port: 0,
        destination_port: 0,
        ..flow(from, to, ifindex, direction)
    };
    let seen = totals(3, SECOND, SECOND);
    let readings = [
        (outer(NODE, OTHER_NODE, UPLINK, Direction::Egress), seen),
        (outer(OTHER_NODE, NODE, UPLINK, Direction::Ingress), seen),
        (outer(OTHER_NODE, NODE, TUNNEL, Direction::Ingress), seen),
    ];
    fold(&mut table, SECOND + HOLD_NS, &readings);
    let edge = only(&mut table);
    let ways = (forward(&edge), edge.reverse.map(|way| way.skbs));
    assert_eq!((edge.tunnel.as_str(), ways), ("gre", (3, Some(3))));
}

#[test]
fn ports_tell_what_carries() {
    let home = Home { tunnel_ports: vec![(9_999, TunnelKind::Vxlan)], ..Home::default() };
    let udp = |source_port, destination_port| FlowKey { source_port, destination_port, ..out(UPLINK) };
    let kind = |key: FlowKey| home.carrier(&key).map(|(kind, _)| kind);
    assert_eq!(home.carrier(&udp(0, 9_999)), Some((TunnelKind::Vxlan, 9_999)));
    assert_eq!(kind(udp(0, 6_081)), Some(TunnelKind::Geneve));
    assert_eq!(kind(udp(51_871, 51_871)), Some(TunnelKind::Wireguard));
    assert_eq!(kind(udp(53, 51_820)), None, "an answer to a client that drew this port");
    assert_eq!(kind(udp(4_500, 33_333)), Some(TunnelKind::Ipsec));
    assert_eq!(kind(udp(50_000, 80)), None);
    let proto = |protocol| kind(FlowKey { protocol, ..udp(0, 0) });
    assert_eq!(
        [4, 41, 47, 50, 6].map(proto),
        [Some(TunnelKind::Ipip), Some(TunnelKind::Ipip), Some(TunnelKind::Gre), Some(TunnelKind::Ipsec), None]
    );
}

#[test]
fn packets_without_a_flow_count_once_as_well() {
    let mut table = table();
    let event = |key, time_ns| Event {
        time_ns,
        key,
        l3_bytes: 100,
        payload_bytes: 72,
        segments: 1,
        kind: EventKind::Unmapped as u8,
        flags: 0,
    };
    for packet in 0..50 {
        let sent = SECOND + packet * 20 * MS;
        for key in [out(UPLINK), out(VETH)] {
            table.fold_unmapped(&event(key, sent), at(sent), place);
        }
        fold(&mut table, sent + MS, &[]);
    }
    fold(&mut table, 3 * SECOND, &[]);
    assert_eq!(forward(&only(&mut table)), 50);
    assert_eq!(rest(&table, UPLINK, Direction::Egress), (50, Rest { elsewhere: 50, ..Rest::default() }));
    // Where none of the better hooks saw it, the lesser one's counts.
    let request = flow([192, 0, 2, 10], NODE, UPLINK, Direction::Ingress);
    for _ in 0..MAX_UNMAPPED + 5 {
        table.fold_unmapped(&event(request, 4 * SECOND), at(4 * SECOND), place);
    }
    assert_eq!(table.unheld(), 5, "what finds no place to wait is in no edge, and counted");
    fold(&mut table, 4 * SECOND + HOLD_NS, &[]);
    let told = edges(&mut table).into_iter().find(|edge| edge.side() == Side::Server).expect("the node's edge");
    assert_eq!(forward(&told), MAX_UNMAPPED as u64);
}

#[test]
fn a_syn_seen_by_one_hook_tells_who_opened_what_another_sees() {
    let mut table = table();
    let tcp = |key| FlowKey { protocol: 6, source_port: 40_000, destination_port: 50_051, ..key };
    let opened = FlowTotals { tcp_state: tcp_state::OPENER, ..totals(1, SECOND, SECOND) };
    let (sent, through) = (tcp(out(VETH)), tcp(out(TUNNEL)));
    let answer = FlowKey { direction: Direction::Ingress as u8, ..through.reversed() };
    fold(&mut table, 2 * SECOND, &[(answer, totals(1, SECOND, SECOND)), (sent, opened)]);
    let edge = only(&mut table);
    assert_eq!((edge.server_port, edge.guessed, edge.reverse.map(|way| way.skbs)), (50_051, false, Some(1)));
}

#[test]
fn a_pods_address_is_its_devices_until_that_is_gone_and_there_is_room_for_so_many() {
    let mut pods = PodAddresses::default();
    pods.learn(mapped(POD), VETH, 1);
    pods.learn(mapped(POD), TUNNEL, 2);
    assert_eq!(pods.device(&mapped(POD)), Some(1), "a pod that forwards for another does not take its address");
    pods.forget(VETH);
    pods.learn(mapped(POD), TUNNEL, 2);
    assert_eq!(pods.device(&mapped(POD)), Some(2));
    for address in 0..2 * MAX_POD_ADDRESSES as u128 {
        pods.learn(address.to_be_bytes(), 3, 3);
    }
    assert_eq!(pods.held(), MAX_POD_ADDRESSES);
}

#[test]
fn nothing_is_kept_of_flows_that_ended() {
    let mut table = table();
    let keys = [out(VETH), out(TUNNEL), out(UPLINK)];
    fold(&mut table, 2 * SECOND, &keys.map(|key| (key, totals(1, SECOND, SECOND))));
    for key in keys {
        table.finish(&key, Some(&totals(2, SECOND, SECOND + 1)), at(40 * SECOND), place);
    }
    assert_eq!(forward(&only(&mut table)), 2);
    assert_eq!(table.paths_held(), 0);
    assert_eq!(rest(&table, UPLINK, Direction::Egress), (2, Rest { elsewhere: 2, ..Rest::default() }));
}

#[test]
fn the_cgroup_counts_what_no_device_saw_and_the_node_knows_that_packets_pass_by() {
    let mut table = table();
    let arrives = out(0).reversed();
    let mut now = SECOND;
    for reading in 1..=3 {
        now = SECOND + reading * 200 * MS;
        let grown = totals(reading * 5, SECOND, now - MS);
        fold(&mut table, now, &[(arrives, grown), (out(0), grown), (out(VETH), grown)]);
        // Too few could be an accident of a device that just came.
        assert!(!table.bypassed(now));
    }
    now += 200 * MS;
    fold(&mut table, now, &[(arrives, totals(20, SECOND, now - MS)), (out(VETH), totals(20, SECOND, now - MS))]);
    let edge = only(&mut table);
    assert_eq!((forward(&edge), edge.reverse.map(|way| way.skbs), edge.point()), (20, Some(20), Point::Cgroup));
    assert!(table.bypassed(now) && !table.bypassed(now + 600 * SECOND));
    // What its device sees as well was not past it.
    for reading in 5..=8 {
        now += 200 * MS;
        let grown = totals(reading * 5, SECOND, now - MS);
        fold(&mut table, now, &[(arrives, grown), (out(VETH).reversed(), grown), (out(VETH), grown)]);
    }
    assert!(!table.bypassed(now));
}

/// A pod that sends nothing: the uplink cannot know it, its socket does.
#[test]
fn what_an_uplink_cannot_place_is_the_cgroup_s() {
    let mut table = table();
    let at = |ifindex, direction| flow(PEER, POD, ifindex, direction);
    let mut now = SECOND;
    for reading in 1..=20 {
        now = SECOND + reading * 200 * MS;
        let grown = totals(reading * 5, SECOND, now - MS);
        fold(&mut table, now, &[(at(UPLINK, Direction::Ingress), grown), (at(0, Direction::Egress), grown)]);
    }
    let edge = only(&mut table);
    assert_eq!((forward(&edge), edge.point(), edge.path_changed), (100, Point::Cgroup, false));
    let elsewhere = Rest { elsewhere: 100, ..Rest::default() };
    assert_eq!(rest(&table, UPLINK, Direction::Ingress), (100, elsewhere));
    // It answers: now the uplink knows, and sees more than the socket.
    let answers = at(VETH, Direction::Egress).reversed();
    for reading in 1..=3 {
        let later = now + reading * 200 * MS;
        let grown = totals(100 + reading * 5, SECOND, later - MS);
        let sent = (answers, totals(reading, now, later - MS));
        fold(&mut table, later, &[(at(UPLINK, Direction::Ingress), grown), (at(0, Direction::Egress), grown), sent]);
    }
    let sum: u64 = edges(&mut table).iter().map(forward).sum();
    assert_eq!(sum, 115, "counted once at the change, too");
}
