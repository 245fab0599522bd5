//! Flows fold into edges: who is the client, what grows, what retires, and what happens at the bounds.

use agent::{
    edge::{Moment, WallClock},
    points::{Class, Place},
    ports::MAX_HIGH_PORTS,
    summarise::{Limits, Table},
};
use agent_ebpf::abi::{Direction, EVENT_ICMP_ERROR, Event, EventKind, FlowKey, FlowTotals, mapped, tcp_state};
use wire::v1::{Edge, Side};

const POD: [u8; 4] = [10, 1, 0, 2];
const PEER: [u8; 4] = [10, 2, 0, 3];
const SECOND_NS: u64 = 1_000_000_000;
const DEVICE: u64 = 4;
const AT: Place = Place { class: Class::Pod, device: DEVICE };

fn table(max_edges: usize) -> Table {
    Table::new(Limits { max_edges, retire_after_ns: 600 * SECOND_NS })
}

fn at(seconds: u64, next_seq: u64) -> Moment {
    Moment { now_ns: seconds * SECOND_NS, clock: WallClock { offset_ns: 1_000 }, next_seq }
}

/// What the pod (port `local`) sent to the peer (port `remote`).
fn sent(local: u16, remote: u16, protocol: u8) -> FlowKey {
    FlowKey {
        source: mapped(POD),
        destination: mapped(PEER),
        source_port: local,
        destination_port: remote,
        protocol,
        direction: Direction::Ingress as u8,
        ifindex: 7,
        reserved: [0; 2],
    }
}

fn totals(skbs: u64, state: u8, last_s: u64) -> FlowTotals {
    FlowTotals {
        skbs,
        segments: skbs,
        l3_bytes: skbs * 100,
        payload_bytes: skbs * 72,
        first_ns: SECOND_NS,
        last_ns: last_s * SECOND_NS,
        tcp_state: state,
        ..FlowTotals::default()
    }
}

fn unmapped(flags: u8) -> Event {
    let (key, kind) = (sent(50_000, 80, 17), EventKind::Unmapped as u8);
    Event { time_ns: SECOND_NS, key, l3_bytes: 128, payload_bytes: 100, segments: 1, kind, flags }
}

fn fold(table: &mut Table, readings: &[(FlowKey, FlowTotals)], moment: Moment) -> Vec<FlowKey> {
    table.fold(readings.iter().copied(), moment, |_| AT).ended
}

fn only(table: &mut Table, seq: u64) -> Edge {
    let mut edges = table.report(seq, 0, true);
    assert_eq!(edges.len(), 1, "{edges:#?}");
    edges.remove(0)
}

#[test]
fn both_ways_of_a_connection_are_one_edge_and_the_syn_tells_the_client() {
    let mut table = table(10);
    let out = sent(50_000, 40_000, 6);
    // The answer stands first in the batch: it must not guess.
    let readings = [(out.reversed(), totals(2, tcp_state::ACCEPTOR, 1)), (out, totals(3, tcp_state::OPENER, 1))];
    assert!(fold(&mut table, &readings, at(1, 1)).is_empty());
    let edge = only(&mut table, 1);
    assert_eq!((edge.client, edge.server, edge.server_port), (POD.to_vec(), PEER.to_vec(), 40_000));
    assert_eq!(edge.side, i32::from(Side::Client));
    assert!(!edge.guessed);
    assert_eq!((edge.forward.map(|way| way.skbs), edge.reverse.map(|way| way.skbs)), (Some(3), Some(2)));
    assert_eq!((edge.incarnation, edge.device, edge.first_seen_unix_ns), (1, DEVICE, SECOND_NS + 1_000));
}

#[test]
fn without_a_syn_the_lower_port_serves_and_it_says_so() {
    let mut table = table(10);
    let answer = FlowKey { direction: Direction::Egress as u8, ..sent(53, 50_000, 17) };
    fold(&mut table, &[(answer, totals(1, 0, 1))], at(1, 1));
    let edge = only(&mut table, 1);
    assert!(edge.guessed);
    assert_eq!((edge.server_port, edge.client), (53, PEER.to_vec()));
    assert_eq!(edge.reverse.map(|way| way.skbs), Some(1));
    assert_eq!(edge.side, i32::from(Side::Client), "what goes to the pod from the server: the pod is the client");
}

#[test]
fn a_connection_that_slept_is_not_guessed_anew() {
    let mut table = table(10);
    // A server on a higher port than its client's: the rule alone would turn it round.
    let out = sent(45_000, 50_051, 6);
    fold(&mut table, &[(out, totals(1, tcp_state::OPENER, 1))], at(1, 1));
    table.finish(&out, None, at(40, 2), |_| AT);
    let began = |key| Event { key, ..unmapped(0) };
    assert!(table.knows(&began(out), AT) && table.knows(&began(out.reversed()), AT));
    assert!(!table.knows(&began(sent(45_000, 50_052, 6)), AT), "another port is another edge");
    let awake = FlowTotals { first_ns: 50 * SECOND_NS, ..totals(4, 0, 50) };
    fold(&mut table, &[(out.reversed(), awake)], at(50, 3));
    let edge = only(&mut table, 3);
    assert_eq!((edge.server_port, edge.guessed, edge.reverse.map(|way| way.skbs)), (50_051, false, Some(4)));
}

#[test]
fn a_guess_that_a_syn_confirms_is_none_any_more() {
    let mut table = table(10);
    fold(&mut table, &[(sent(50_000, 80, 6), totals(1, 0, 1))], at(1, 1));
    assert!(only(&mut table, 1).guessed);
    fold(&mut table, &[(sent(50_001, 80, 6), totals(1, tcp_state::OPENER, 2))], at(2, 2));
    assert!(!only(&mut table, 2).guessed);
}

#[test]
fn an_entry_that_grows_adds_its_growth_and_one_that_was_made_anew_adds_all() {
    let mut table = table(10);
    let key = sent(50_000, 80, 17);
    fold(&mut table, &[(key, totals(5, 0, 1))], at(1, 1));
    fold(&mut table, &[(key, totals(9, 0, 2))], at(2, 2));
    assert_eq!(only(&mut table, 2).forward.map(|way| way.payload_bytes), Some(9 * 72));
    let anew = FlowTotals { first_ns: 3 * SECOND_NS, ..totals(2, 0, 3) };
    fold(&mut table, &[(key, anew)], at(3, 3));
    assert_eq!(only(&mut table, 3).forward.map(|way| way.skbs), Some(11));
    assert_eq!(table.folded(7), [11, 0]);
}

#[test]
fn closed_flows_end_after_five_seconds_idle_ones_after_thirty() {
    let mut table = table(10);
    let (open, closed) = (sent(50_000, 80, 6), sent(50_001, 80, 6));
    let readings =
        [(open, totals(1, tcp_state::OPENER, 1)), (closed, totals(1, tcp_state::OPENER | tcp_state::FIN, 1))];
    assert!(fold(&mut table, &readings, at(5, 1)).is_empty());
    assert_eq!(fold(&mut table, &readings, at(7, 1)), [closed]);
    table.finish(&closed, Some(&totals(4, tcp_state::OPENER | tcp_state::FIN, 7)), at(7, 1), |_| AT);
    assert_eq!(only(&mut table, 1).forward.map(|way| way.skbs), Some(5), "the last packets count");
    assert_eq!(fold(&mut table, &readings[..1], at(32, 2)), [open]);
}

#[test]
fn a_silent_edge_leaves_only_after_its_final_total_was_acknowledged_and_returns_as_another() {
    let mut table = table(10);
    let key = sent(50_000, 80, 17);
    fold(&mut table, &[(key, totals(5, 0, 1))], at(1, 1));
    table.report(1, 0, false);
    table.finish(&key, None, at(40, 2), |_| AT);
    table.retire(601 * SECOND_NS, 2);
    let told = table.report(2, 1, false);
    assert!(told.len() == 1 && told[0].r#final);
    table.acknowledge(1);
    assert_eq!(table.held(), 1, "the final total is not acknowledged yet");
    fold(&mut table, &[(key, FlowTotals { first_ns: 700 * SECOND_NS, ..totals(2, 0, 700) })], at(700, 3));
    let told = table.report(3, 1, false);
    let incarnations: Vec<_> = told.iter().map(|edge| (edge.incarnation, edge.r#final)).collect();
    assert!(incarnations.contains(&(1, true)) && incarnations.contains(&(3, false)), "{incarnations:?}");
    table.acknowledge(3);
    assert_eq!(table.held(), 1);
    assert_eq!(only(&mut table, 4).forward.map(|way| way.skbs), Some(2));
}

#[test]
fn reports_carry_what_changed_since_the_mark() {
    let mut table = table(10);
    let (one, two) = (sent(50_000, 80, 17), sent(50_000, 81, 17));
    fold(&mut table, &[(one, totals(1, 0, 1)), (two, totals(1, 0, 1))], at(1, 1));
    assert_eq!(table.report(1, 0, false).len(), 2);
    assert_eq!(table.report(2, 0, false).len(), 2, "nothing was acknowledged");
    assert_eq!(table.report(3, 2, false).len(), 0);
    fold(&mut table, &[(one, totals(2, 0, 2)), (two, totals(1, 0, 1))], at(2, 4));
    assert_eq!(table.report(4, 2, false).len(), 1);
    assert_eq!(table.report(5, 4, true).len(), 2, "full is full");
}

#[test]
fn a_full_table_counts_new_edges_into_other() {
    let mut table = table(2);
    let readings: Vec<_> = (80..84).map(|port| (sent(50_000, port, 17), totals(10, 0, 1))).collect();
    fold(&mut table, &readings, at(1, 1));
    assert_eq!((table.held(), table.refused(), table.other().skbs), (2, 2, 20));
    let grown: Vec<_> = (80..84).map(|port| (sent(50_000, port, 17), totals(15, 0, 2))).collect();
    fold(&mut table, &grown, at(2, 2));
    assert_eq!((table.refused(), table.other().skbs), (2, 30));
    assert_eq!(table.folded(7), [60, 0], "no packet goes uncounted");
}

#[test]
fn pairs_of_high_ports_fold_under_a_cap() {
    let mut table = table(1_000);
    let readings: Vec<_> = (0..200).map(|port| (sent(60_000, 40_000 + port, 17), totals(1, 0, 1))).collect();
    fold(&mut table, &readings, at(1, 1));
    assert_eq!(table.held(), MAX_HIGH_PORTS as usize + 1);
    let rest = table.report(1, 0, true).into_iter().find(|edge| edge.server_port == 0).expect("the rest");
    assert_eq!(rest.forward.map(|way| way.skbs), Some(200 - u64::from(MAX_HIGH_PORTS)));
}

#[test]
fn icmp_echo_and_errors() {
    let mut table = table(10);
    let request = sent(0, 8, 1);
    fold(&mut table, &[(request, totals(3, 0, 1)), (request.reversed(), totals(3, 0, 1))], at(1, 1));
    let edge = only(&mut table, 1);
    assert_eq!((edge.client, edge.server_port, edge.guessed), (POD.to_vec(), 8, false));
    let udp = sent(50_000, 9, 17);
    let error = FlowTotals { skbs: 0, segments: 0, icmp_errors: 2, ..totals(0, 0, 1) };
    fold(&mut table, &[(udp, totals(2, 0, 1)), (udp.reversed(), error)], at(1, 2));
    let edge = table.report(2, 0, true).into_iter().find(|edge| edge.protocol == 17).expect("the UDP edge");
    assert_eq!((edge.icmp_errors, edge.reverse.map(|way| way.skbs)), (2, Some(0)));
}

#[test]
fn a_packet_that_found_no_room_in_the_map_counts_all_the_same() {
    let mut table = table(10);
    let event = unmapped(0);
    table.fold_unmapped(&event, at(1, 1), |_| AT);
    table.fold_unmapped(&event, at(1, 1), |_| AT);
    assert_eq!(only(&mut table, 1).forward.map(|way| (way.skbs, way.payload_bytes)), Some((2, 200)));
    // An ICMP error that quotes the flow is no packet of it.
    table.fold_unmapped(&unmapped(EVENT_ICMP_ERROR), at(1, 1), |_| AT);
    let edge = only(&mut table, 1);
    assert_eq!((edge.icmp_errors, edge.forward.map(|way| way.skbs)), (1, Some(2)));
}

#[test]
fn our_own_reports_are_marked_and_wake_nobody() {
    let (node, collector) = ("10.1.0.2:50000".parse(), "10.2.0.3:7381".parse());
    let own = node.ok().zip(collector.ok());
    // Known only after its first packets were folded.
    let mut late = table(10);
    let key = sent(50_000, 7381, 6);
    fold(&mut late, &[(key, totals(1, tcp_state::OPENER, 1))], at(1, 1));
    late.set_own(own);
    assert!(only(&mut late, 1).own);
    assert!(!late.fold([(key, totals(2, tcp_state::OPENER, 2))].into_iter(), at(2, 2), |_| AT).active);
    // Known before.
    let mut table = table(10);
    table.set_own(own);
    let folded = table.fold([(sent(50_000, 7381, 6), totals(1, tcp_state::OPENER, 1))].into_iter(), at(1, 1), |_| AT);
    assert!(!folded.active && folded.edges_new == 0);
    assert!(only(&mut table, 1).own);
}
