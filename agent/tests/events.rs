//! The ring of flow events: whose an event is, who asks for it, and each bound at its bound.

use std::collections::BTreeSet;

use agent::{
    drops::Dropped,
    edge::{Moment, WallClock},
    events::{Events, Happened, MAX_WAITING, RING},
    points::{Class, Place},
    summarise::{Limits, Seen, Sight, Table},
};
use agent_ebpf::{
    abi::{Direction, EVENT_ICMP_ERROR, Event, EventKind, FlowKey, FlowTotals, mapped, tcp_state},
    facts::Tuple,
};
use wire::{
    limits::{MAX_ASKS, MAX_FLOW_EVENTS},
    v1::{FlowAsk, FlowDirective, FlowEventKind, FlowEvents, FlowTerm, Side},
};

const CLOCK: WallClock = WallClock { offset_ns: 1_000_000 };
const SECOND_NS: u64 = 1_000_000_000;

fn event(number: u16, time_ns: u64) -> Event {
    let key = FlowKey {
        source: mapped([10, 0, 0, 1]),
        destination: mapped([10, 0, 0, 2]),
        ifindex: 3,
        source_port: number,
        destination_port: 80,
        protocol: 6,
        ..FlowKey::default()
    };
    Event {
        time_ns,
        key,
        l3_bytes: 60,
        payload_bytes: 0,
        segments: 1,
        kind: EventKind::FlowNew as u8,
        flags: tcp_state::OPENER,
    }
}

fn note(events: &mut Events, event: &Event) {
    events.note(Happened::of_event(event).expect("told"));
    events.settle(event.time_ns, |_, _| Sight::Own(Seen { forward: true, local_is_source: true, ..Seen::default() }));
}

fn filled(count: u64) -> Events {
    let mut events = Events::default();
    for number in 1..=count {
        note(&mut events, &event(number as u16, number * 1_000));
    }
    events
}

fn ask(events: &mut Events, asks: &[FlowAsk]) {
    events.direct(Some(&FlowDirective { asks: asks.to_vec() }), 0, |unix_ns| unix_ns - 1_000_000);
}

fn tell(events: &mut Events, seq: u64) -> Vec<FlowEvents> {
    events.tell(seq, 0, CLOCK, |ifindex| Some(format!("veth{ifindex}")))
}

/// Everything that one ask gets, report by report, until there is no more; and how many reports that took.
fn all(events: &mut Events) -> (Vec<u64>, usize) {
    let mut numbers = Vec::new();
    for seq in 1..100 {
        let parts = tell(events, seq);
        assert_eq!(parts.len(), 1);
        numbers.extend(parts[0].events.iter().map(|event| event.number));
        events.acknowledged(seq);
        if parts[0].caught_up {
            return (numbers, seq as usize);
        }
    }
    panic!("no end");
}

fn one(change: impl FnOnce(&mut FlowAsk)) -> FlowAsk {
    let mut ask = FlowAsk { id: 1, max_per_second: 1_000, ..FlowAsk::default() };
    change(&mut ask);
    ask
}

#[test]
fn the_ring_holds_the_newest_and_counts_the_rest() {
    let mut events = filled(RING as u64 + 10);
    let row = events.row();
    assert_eq!((row.held, row.seen), (RING as u64, RING as u64 + 10));
    ask(&mut events, &[one(|_| {})]);
    assert!(events.hungry());
    let (numbers, reports) = all(&mut events);
    assert_eq!(numbers, (11..=RING as u64 + 10).collect::<Vec<_>>());
    assert_eq!(reports, RING.div_ceil(MAX_FLOW_EVENTS));
    assert!(!events.hungry() && tell(&mut events, 200).is_empty(), "once");
}

#[test]
fn nobody_asks_nothing_is_told() {
    let mut events = filled(20);
    assert!(tell(&mut events, 1).is_empty());
    ask(&mut events, &[one(|ask| ask.follow = true)]);
    assert_eq!(tell(&mut events, 2).len(), 1);
    events.direct(None, 0, |unix_ns| unix_ns);
    assert!(tell(&mut events, 3).is_empty(), "the ask is over");
}

#[test]
fn what_did_not_arrive_is_told_again() {
    let mut events = filled(3);
    ask(&mut events, &[one(|ask| ask.follow = true)]);
    let first = tell(&mut events, 1);
    let again = tell(&mut events, 2);
    assert_eq!(first, again, "report 1 was not acknowledged");
    events.acknowledged(1);
    assert_eq!(tell(&mut events, 3), first, "an answer that is late means an older report");
    events.acknowledged(3);
    assert!(tell(&mut events, 4).is_empty());
    note(&mut events, &event(9, 9_000));
    let live = tell(&mut events, 5);
    assert_eq!(live[0].events.iter().map(|event| event.number).collect::<Vec<_>>(), [4]);
}

#[test]
fn spans_numbers_and_terms() {
    let numbers = |change: fn(&mut FlowAsk)| {
        let mut events = filled(50);
        ask(&mut events, &[one(change)]);
        all(&mut events).0
    };
    assert_eq!(numbers(|ask| ask.limit = 2), [49, 50]);
    assert_eq!(numbers(|ask| (ask.limit, ask.oldest) = (2, true)), [1, 2]);
    assert_eq!(numbers(|ask| (ask.since_unix_ns, ask.until_unix_ns) = (1_010_000, 1_012_000)), [10, 11, 12]);
    assert_eq!(numbers(|ask| ask.terms = vec![FlowTerm { ports: vec![7, 9], ..FlowTerm::default() }]), [7, 9]);
    assert_eq!(numbers(|ask| ask.terms = vec![FlowTerm { dropped: true, ..FlowTerm::default() }]), [0; 0]);
    assert_eq!(
        numbers(|ask| {
            let other = FlowTerm { protocols: vec![17], ..FlowTerm::default() };
            let address = FlowTerm { addresses: vec![vec![10, 0, 0, 2]], ports: vec![5], ..FlowTerm::default() };
            ask.terms = vec![other, address];
        }),
        [5]
    );
    let history = |follow| {
        let mut events = filled(5);
        ask(&mut events, &[one(|ask| ask.follow = follow)]);
        let past = tell(&mut events, 1);
        events.acknowledged(1);
        note(&mut events, &event(6, 6_000));
        let more = tell(&mut events, 2);
        past.iter().chain(&more).map(|part| part.events.len()).sum::<usize>()
    };
    assert_eq!((history(false), history(true)), (5, 6), "the past ends where it was asked for");
}

#[test]
fn a_follower_that_is_overtaken_hears_how_many_it_lost() {
    let mut events = filled(10);
    ask(&mut events, &[one(|ask| ask.follow = true)]);
    tell(&mut events, 1);
    events.acknowledged(1);
    for number in 0..RING as u64 + 7 {
        note(&mut events, &event(number as u16, 1_000_000 + number));
    }
    let parts = tell(&mut events, 2);
    assert_eq!((parts[0].lost, parts[0].events[0].number), (7, 18));
}

#[test]
fn a_rate_beyond_a_ring_is_kept() {
    let mut events = filled(RING as u64);
    ask(&mut events, &[one(|ask| (ask.follow, ask.max_per_second) = (true, 10))]);
    all(&mut events);
    for number in 0..100 {
        note(&mut events, &event(number, 9_000_000));
    }
    assert!(tell(&mut events, 200).is_empty(), "the ring's worth is spent");
    let later = events.tell(201, 5 * SECOND_NS, CLOCK, |_| None);
    assert_eq!(later[0].events.len(), 50, "ten a second");
}

#[test]
fn asks_and_what_a_report_tells_are_bounded() {
    let mut events = filled(2_000);
    let asks: Vec<_> = (0..MAX_ASKS as u64 + 3).map(|id| one(|ask| ask.id = id)).collect();
    ask(&mut events, &asks);
    let parts = tell(&mut events, 1);
    assert_eq!(parts.len(), MAX_ASKS);
    assert_eq!(parts.iter().map(|part| part.events.len()).sum::<usize>(), MAX_FLOW_EVENTS);
}

#[test]
fn what_waits_is_bounded_and_then_nobodys() {
    let mut events = Events::default();
    let happened = Happened::of_event(&event(1, 0)).expect("told");
    for _ in 0..MAX_WAITING + 5 {
        events.note(happened.clone());
    }
    assert_eq!(events.row().seen, 5, "as if the ring had overwritten them");
    events.settle(SECOND_NS, |_, _| Sight::Unknown);
    events.settle(4 * SECOND_NS, |_, _| Sight::Unknown);
    events.settle(4 * SECOND_NS, |_, _| panic!("nothing waits any more"));
    assert_eq!(events.row().held, 0);
}

#[test]
fn events_in_words() {
    let told = |kind: EventKind, flags: u8| {
        Happened::of_event(&Event { kind: kind as u8, flags, ..event(1, 5) }).map(|happened| happened.tcp_flags)
    };
    assert_eq!(told(EventKind::FlowNew, tcp_state::OPENER), Some(0x02));
    assert_eq!(told(EventKind::FlowNew, tcp_state::ACCEPTOR), Some(0x12));
    assert_eq!(told(EventKind::TcpOpen, 0), Some(0x10));
    assert_eq!(told(EventKind::TcpClose, 0), Some(0x11));
    assert_eq!(told(EventKind::TcpReset, 0), Some(0x04));
    assert_eq!(told(EventKind::Unmapped, 0), None, "one packet of many");
    assert_eq!(told(EventKind::FlowNew, EVENT_ICMP_ERROR), None, "it only quotes its flow");
    let mut events = Events::default();
    let tuple =
        Tuple { source: mapped([10, 0, 0, 1]), destination: mapped([10, 0, 0, 2]), protocol: 17, ..Tuple::default() };
    let dropped = |edge| Dropped { tuple, time_ns: 7, segments: 3, reason: "netfilter_drop".to_owned(), edge };
    events.dropped(dropped(Some((false, true))));
    events.dropped(dropped(None));
    ask(&mut events, &[one(|_| {})]);
    let parts = tell(&mut events, 1);
    let [on_edge, loose] = &parts[0].events[..] else { panic!("{parts:?}") };
    assert_eq!((on_edge.kind(), on_edge.side(), on_edge.reply), (FlowEventKind::Drop, Side::Server, true));
    assert_eq!((on_edge.segments, on_edge.by.as_str(), on_edge.unix_ns), (3, "stack", 1_000_007));
    assert_eq!((loose.side(), loose.reply, loose.source.clone()), (Side::Unspecified, false, vec![10, 0, 0, 1]));
}

/// One connection from a pod to another node, seen at the pod's device and at the uplink: of both hooks' events one is told.
#[test]
fn of_several_hooks_the_one_that_counts_tells() {
    const POD: u32 = 3;
    const UPLINK: u32 = 2;
    let place = |ifindex| match ifindex {
        POD => Place { class: Class::Pod, device: 1 },
        _ => Place { class: Class::Uplink, device: 2 },
    };
    let (pod, uplink) = (event(40_000, 1_000), {
        let mut event = event(40_000, 1_001);
        event.key.ifindex = UPLINK;
        event.key.direction = Direction::Egress as u8;
        event
    });
    let mut table = Table::new(Limits { max_edges: 100, retire_after_ns: u64::MAX });
    let mut events = Events::default();
    for event in [&uplink, &pod] {
        events.note(Happened::of_event(event).expect("told"));
    }
    let totals = |time_ns| FlowTotals {
        skbs: 1,
        segments: 1,
        l3_bytes: 60,
        first_ns: time_ns,
        last_ns: time_ns,
        opened: 1,
        tcp_state: tcp_state::OPENER,
        ..FlowTotals::default()
    };
    let readings = [(uplink.key, totals(1_001)), (pod.key, totals(1_000))];
    let moment = |now_ns| Moment { now_ns, clock: CLOCK, next_seq: 1 };
    table.fold(readings.into_iter(), moment(2_000), place);
    events.settle(2_000, |key, role| table.sight(key, role, place(key.ifindex)));
    table.fold(readings.into_iter(), moment(SECOND_NS), place);
    events.settle(SECOND_NS, |key, role| table.sight(key, role, place(key.ifindex)));
    ask(&mut events, &[one(|_| {})]);
    let parts = tell(&mut events, 1);
    let told: BTreeSet<_> = parts[0].events.iter().map(|event| (event.ifindex, event.device.clone())).collect();
    assert_eq!(told, BTreeSet::from([(POD, "veth3".to_owned())]));
    assert_eq!(parts[0].events[0].side(), Side::Client);
    assert_eq!((parts[0].events[0].flow_segments, parts[0].events[0].flow_bytes), (1, 60));
}
