//! DNS messages become facts: what is counted, what is matched, what is believed, and what happens at the bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent::dns::{
    Address, Fact, MAX_NAMES, MAX_PENDING, MAX_QUESTIONS, MAX_REPORTED, NO_RCODE, NameMode, Names, Question,
    TIMEOUT_NS, Totals, Watch, What, parse,
};
use agent_ebpf::abi::{Direction, DnsHead, FlowKey, mapped};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, TXT},
    },
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

const MS: u64 = 1_000_000;

/// What a pod on port `port` sent to its name server.
fn asking(port: u16, protocol: u8) -> FlowKey {
    FlowKey {
        source: mapped([10, 1, 0, 2]),
        destination: mapped([10, 2, 0, 3]),
        source_port: port,
        destination_port: 53,
        protocol,
        direction: Direction::Ingress as u8,
        ifindex: 7,
        reserved: [0; 2],
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn query(id: u16, asked: &str) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(asked), RecordType::A));
    message
}

fn answer(id: u16, asked: &str, records: &[Record]) -> Message {
    let mut message = Message::response(id, OpCode::Query);
    message.add_query(Query::query(name(asked), RecordType::A));
    message.add_answers(records.iter().cloned());
    message
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(203, 0, 113, last))))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("it encodes")
}

fn head(key: FlowKey, time_ns: u64, payload: &[u8]) -> DnsHead {
    let length = u32::try_from(payload.len()).expect("short");
    DnsHead { time_ns, key, payload_bytes: length, taken: payload.len() as u16, ..DnsHead::default() }
}

fn take(watch: &mut Watch, key: FlowKey, time_ns: u64, message: &Message) {
    let payload = bytes(message);
    // At pods' devices, what comes in was sent by the pod.
    watch.take(&head(key, time_ns, &payload), &payload, key.direction == Direction::Ingress as u8);
}

fn kinds(facts: &[Fact]) -> Vec<&'static str> {
    let kind = |fact: &Fact| match fact.what {
        What::Query(_) => "query",
        What::Answer { .. } => "answer",
        What::Timeout(_) => "timeout",
        What::Unparsed => "unparsed",
    };
    facts.iter().map(kind).collect()
}

/// Latency and addresses of the only answer among the facts.
fn told(facts: &[Fact]) -> (Option<u64>, Vec<Address>) {
    let mut answers = facts.iter().filter_map(|fact| match &fact.what {
        What::Answer { latency_us, addresses, .. } => Some((*latency_us, addresses.clone())),
        _ => None,
    });
    let only = answers.next().expect("an answer");
    assert!(answers.next().is_none());
    only
}

fn v4(last: u8, ttl_s: u32) -> Address {
    Address { address: [203, 0, 113, last].into(), ttl_s }
}

#[test]
fn a_chain_of_aliases_gives_the_name_that_was_asked_for_and_its_shortest_life() {
    let (mut watch, key) = (Watch::new(NameMode::Full), asking(40_000, 17));
    take(&mut watch, key, MS, &query(7, "Shop.Example."));
    let records = [
        alias("shop.example.", 300, "edge.cdn.example."),
        alias("edge.cdn.example.", 20, "pop7.cdn.example."),
        a("pop7.cdn.example.", 60, 1),
        a("pop7.cdn.example.", 10, 2),
        a("elsewhere.example.", 60, 3),
        Record::from_rdata(name("pop7.cdn.example."), 60, RData::TXT(TXT::new(vec!["no address".to_owned()]))),
    ];
    // The name comes back in another case, as a resolver that mixes cases gets it (0x20).
    take(&mut watch, key.reversed(), 3 * MS + 500_000, &answer(7, "sHOP.example.", &records));
    let facts = watch.facts(4 * MS);
    assert_eq!(kinds(&facts), ["query", "answer"]);
    assert_eq!(told(&facts), (Some(2_500), vec![v4(1, 20), v4(2, 10)]), "no address that hangs on another name");
    let asked = Some(Question { name: "shop.example".to_owned(), rr_type: 1 });
    assert!(facts.iter().all(|fact| match &fact.what {
        What::Query(question) | What::Answer { question, .. } => *question == asked,
        _ => false,
    }));
    assert_eq!(watch.pending(), 0);
}

#[test]
fn ipv6_addresses_count_as_well_and_loops_end() {
    let mut message = answer(1, "six.example.", &[]);
    message.add_answer(Record::from_rdata(name("six.example."), 9, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))));
    let parsed = parse(&bytes(&message)).expect("it parses");
    assert_eq!(parsed.addresses, [Address { address: IpAddr::V6(Ipv6Addr::LOCALHOST), ttl_s: 9 }]);
    let round = [alias("a.example.", 1, "b.example."), alias("b.example.", 1, "a.example.")];
    assert_eq!(parse(&bytes(&answer(1, "a.example.", &round))).expect("it parses").addresses, []);
}

#[test]
fn an_answer_that_nobody_asked_for_is_counted_and_not_believed() {
    let records = [a("bank.example.", 60, 66)];
    let forged = [
        ("another id", 8, "bank.example.", asking(40_000, 17)),
        ("another name", 7, "other.example.", asking(40_000, 17)),
        ("another port", 7, "bank.example.", asking(40_001, 17)),
        ("another device", 7, "bank.example.", FlowKey { ifindex: 8, ..asking(40_000, 17) }),
    ];
    for (what, id, asked, key) in forged {
        let mut watch = Watch::new(NameMode::Full);
        take(&mut watch, asking(40_000, 17), MS, &query(7, "bank.example."));
        take(&mut watch, key.reversed(), 2 * MS, &answer(id, asked, &records));
        let facts = watch.facts(3 * MS);
        assert_eq!(told(&facts), (None, Vec::new()), "{what}");
        assert_eq!(watch.pending(), 1, "{what}: the query still waits");
        take(&mut watch, asking(40_000, 17).reversed(), 4 * MS, &answer(7, "bank.example.", &records));
        assert_eq!(told(&watch.facts(5 * MS)), (Some(3_000), vec![v4(66, 60)]), "{what}");
    }
}

#[test]
fn a_query_times_out_once_and_a_late_answer_tells_no_name() {
    let (mut watch, key) = (Watch::new(NameMode::Full), asking(40_000, 17));
    take(&mut watch, key, 0, &query(7, "slow.example."));
    // A repetition waits no longer than the first.
    take(&mut watch, key, 1_000 * MS, &query(7, "slow.example."));
    assert_eq!(kinds(&watch.facts(TIMEOUT_NS)), ["query", "query"]);
    let facts = watch.facts(TIMEOUT_NS + 1);
    assert_eq!((kinds(&facts), facts[0].time_ns), (vec!["timeout"], TIMEOUT_NS));
    take(&mut watch, key.reversed(), TIMEOUT_NS + MS, &answer(7, "slow.example.", &[a("slow.example.", 60, 1)]));
    let facts = watch.facts(TIMEOUT_NS + 2 * MS);
    assert_eq!((kinds(&facts), told(&facts)), (vec!["answer"], (None, Vec::new())));
    // The same where the answer is read before anybody looked for timeouts.
    take(&mut watch, key, 0, &query(7, "slow.example."));
    take(&mut watch, key.reversed(), TIMEOUT_NS + 1, &answer(7, "slow.example.", &[a("slow.example.", 60, 1)]));
    let facts = watch.facts(TIMEOUT_NS + 1);
    assert_eq!((kinds(&facts), told(&facts)), (vec!["query", "timeout", "answer"], (None, Vec::new())));
    // An id that is used again for another question gives the first one up.
    take(&mut watch, key, 0, &query(9, "one.example."));
    take(&mut watch, key, MS, &query(9, "two.example."));
    assert_eq!(kinds(&watch.facts(2 * MS)), ["query", "query", "timeout"]);
}

/// A CNI may lead answers past the pod's device, straight from the tunnel into the pod: the query at the device is then
/// answered all the same. What answers at the other end of the same connection answers nothing here.
#[test]
fn an_answer_at_another_hook_of_the_same_side_ends_the_wait() {
    let (mut watch, key) = (Watch::new(NameMode::Full), asking(40_000, 17));
    // Out by a tunnel is egress there, and in is ingress.
    let tunnel = FlowKey { ifindex: 9, direction: Direction::Egress as u8, ..key };
    let give = |watch: &mut Watch, key: FlowKey, time_ns, message: &Message, local_is_source| {
        let payload = bytes(message);
        watch.take(&head(key, time_ns, &payload), &payload, local_is_source);
    };
    let (asked, answered) = (query(7, "far.example."), answer(7, "far.example.", &[a("far.example.", 60, 5)]));
    give(&mut watch, key, 0, &asked, true);
    give(&mut watch, tunnel, MS, &asked, true);
    give(&mut watch, tunnel.reversed(), 4 * MS, &answered, false);
    let facts = watch.facts(5 * MS);
    assert_eq!((kinds(&facts), told(&facts)), (vec!["query", "query", "answer"], (Some(3_000), vec![v4(5, 60)])));
    assert_eq!(kinds(&watch.facts(2 * TIMEOUT_NS)), Vec::<&str>::new(), "nothing timed out");
    assert_eq!(watch.pending(), 0);
    // Where both ends are of this node, what the server sent is not what the client got.
    let server = FlowKey { ifindex: 8, direction: Direction::Egress as u8, ..key };
    give(&mut watch, key, 0, &asked, true);
    give(&mut watch, server, MS, &asked, false);
    give(&mut watch, server.reversed(), 2 * MS, &answered, true);
    assert_eq!(kinds(&watch.facts(3 * MS)), ["query", "query", "answer"]);
    assert_eq!(kinds(&watch.facts(2 * TIMEOUT_NS)), ["timeout"], "the client waited in vain");
}

#[test]
fn over_tcp_whole_messages_of_one_segment_are_read() {
    let framed = |messages: &[Message]| -> Vec<u8> {
        let frame = |message| {
            let body = bytes(message);
            [&u16::try_from(body.len()).expect("short").to_be_bytes()[..], &body].concat()
        };
        messages.iter().flat_map(frame).collect()
    };
    let (mut watch, key) = (Watch::new(NameMode::Full), asking(40_000, 6));
    let two = framed(&[query(1, "one.example."), query(2, "two.example.")]);
    watch.take(&head(key, MS, &two), &two, true);
    let back = framed(&[answer(2, "two.example.", &[a("two.example.", 5, 2)])]);
    watch.take(&head(key.reversed(), 2 * MS, &back), &back, false);
    let facts = watch.facts(3 * MS);
    assert_eq!((kinds(&facts), told(&facts)), (vec!["query", "query", "answer"], (Some(1_000), vec![v4(2, 5)])));
    for cut in [1, 2, 20, two.len() - 1] {
        watch.take(&head(key, MS, &two[..cut]), &two[..cut], true);
        assert_eq!(kinds(&watch.facts(3 * MS)), ["unparsed"], "{cut} bytes");
    }
}

#[test]
fn a_message_that_is_cut_off_counts_and_gives_the_addresses_that_are_there() {
    let (mut watch, key) = (Watch::new(NameMode::Full), asking(40_000, 17));
    take(&mut watch, key, 0, &query(7, "many.example."));
    let records: Vec<_> = (1..=40).map(|last| a("many.example.", 30, last)).collect();
    let whole = bytes(&answer(7, "many.example.", &records));
    let cut = &whole[..whole.len() - 1];
    watch.take(&DnsHead { payload_bytes: whole.len() as u32, ..head(key.reversed(), MS, cut) }, cut, false);
    let (latency, addresses) = told(&watch.facts(2 * MS));
    assert_eq!((latency, addresses.len()), (Some(1_000), 39));
    watch.take(&head(key, 0, &whole[..20]), &whole[..20], true);
    assert_eq!(kinds(&watch.facts(2 * MS)), ["unparsed"], "not even the question is whole");
}

#[test]
fn the_table_of_waiting_queries_is_bounded_and_what_finds_no_room_is_counted() {
    let mut watch = Watch::new(NameMode::Full);
    for index in 0..MAX_PENDING + 100 {
        let port = 1_024 + u16::try_from(index / 1_000).expect("few");
        take(&mut watch, asking(port, 17), MS, &query((index % 1_000) as u16, "flood.example."));
    }
    assert_eq!((watch.pending(), watch.refused()), (MAX_PENDING, 100));
    let facts = watch.facts(2 * MS);
    assert_eq!(facts.len(), MAX_PENDING + 100, "each is counted as a query all the same");
    assert_eq!(watch.facts(2 * TIMEOUT_NS).len(), MAX_PENDING, "and those that waited time out");
    assert_eq!(watch.pending(), 0);
}

#[test]
fn names_are_cut_down_as_asked() {
    let suffix = |name| NameMode::Suffix.cut(name).expect("something is left");
    for (whole, left) in [
        ("www.shop.example", "shop.example"),
        ("a.b.c.d.example", "d.example"),
        ("example", "example"),
        (".", "."),
        ("cart.shop.svc.cluster.local", "svc.cluster.local"),
        ("10-1-0-2.shop.pod.cluster.local", "pod.cluster.local"),
        ("svc.cluster.local", "svc.cluster.local"),
    ] {
        assert_eq!(suffix(whole), left);
        assert_eq!(NameMode::Full.cut(whole).as_deref(), Some(whole));
        assert_eq!(NameMode::Off.cut(whole), None);
    }
    let mut watch = Watch::new(NameMode::Off);
    take(&mut watch, asking(40_000, 17), 0, &query(7, "secret.example."));
    take(&mut watch, asking(40_000, 17).reversed(), MS, &answer(7, "secret.example.", &[]));
    let facts = watch.facts(2 * MS);
    assert!(!format!("{facts:?}").contains("secret"), "{facts:?}");
    assert_eq!(told(&facts).0, Some(1_000), "counts stay");
}

#[test]
fn an_edge_adds_up_and_keeps_its_newest_questions() {
    let mut totals = Totals::default();
    let question = |index: usize| Some(Question { name: format!("{index}.example"), rr_type: 28 });
    let answered =
        |index, rcode, latency_us| What::Answer { question: question(index), rcode, latency_us, addresses: vec![] };
    for index in 0..MAX_QUESTIONS + 4 {
        totals.add(&What::Query(question(index)), index as u64 + 1);
    }
    totals.add(&answered(19, 3, Some(0)), 30);
    totals.add(&answered(19, 0, Some(1_023)), 31);
    totals.add(&answered(18, 2, None), 32);
    totals.add(&What::Timeout(question(17)), 33);
    totals.add(&What::Unparsed, 34);
    let dns = totals.report();
    assert_eq!((dns.queries, dns.answers, dns.timeouts, dns.unparsed), (20, 3, 1, 1));
    assert_eq!(dns.rcodes.iter().map(|row| (row.rcode, row.count)).collect::<Vec<_>>(), [(0, 1), (2, 1), (3, 1)]);
    let latency = dns.latency.expect("two answers were matched");
    assert_eq!((latency.buckets, latency.sum_us), (vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 1], 1_023));
    assert_eq!(dns.questions.len(), MAX_QUESTIONS);
    assert!(dns.questions.iter().all(|asked| asked.last_unix_ns >= 5), "the oldest four went");
    let of = |name: &str| dns.questions.iter().find(|asked| asked.name == name).expect("kept");
    assert_eq!((of("19.example").failures, of("19.example").last_rcode), (1, 0));
    assert_eq!((of("17.example").failures, of("17.example").last_rcode), (1, NO_RCODE));
    assert_eq!((of("16.example").queries, of("16.example").last_rcode, of("16.example").r#type), (1, NO_RCODE, 28));
}

#[test]
fn names_are_told_until_acknowledged_within_their_bounds() {
    let (client, mut names) = (IpAddr::from([10, 1, 0, 2]), Names::default());
    let address = |index: usize| IpAddr::from(Ipv4Addr::from_bits(u32::try_from(index).expect("small")));
    for index in 0..MAX_NAMES + 10 {
        names.add(client, address(index), 60, "cdn.example", 1);
    }
    assert_eq!(names.refused(), 10);
    let first = names.report(1);
    assert_eq!(first.len(), MAX_REPORTED);
    assert_eq!(names.report(2), first, "the first was not acknowledged");
    names.acknowledge(1);
    assert_eq!(names.report(3), first, "an answer to an older report says nothing of this one");
    names.acknowledge(3);
    for seq in 4..4 + (MAX_NAMES / MAX_REPORTED) as u64 - 1 {
        assert_eq!(names.report(seq).len(), MAX_REPORTED);
        names.acknowledge(seq);
    }
    assert_eq!(names.report(100), []);
    // A name that is answered again is told again, but not with every answer.
    names.add(client, address(0), 60, "cdn.example", 29_000 * MS);
    assert_eq!(names.report(101), []);
    names.add(client, address(0), 7, "cdn.example", 31_000 * MS);
    let again = names.report(102);
    assert_eq!(again.iter().map(|name| (name.ttl_s, name.unix_ns)).collect::<Vec<_>>(), [(7, 31_000 * MS)]);
    // A collector that starts anew hears all of them, in as many reports as it takes.
    names.tell_all();
    let mut told = 0;
    for seq in 103..120 {
        told += names.report(seq).len();
        names.acknowledge(seq);
    }
    assert_eq!(told, MAX_NAMES);
    // Later the old ones make room.
    names.add(client, address(MAX_NAMES + 1), 60, "new.example", 700_000 * MS);
    assert_eq!((names.refused(), names.report(200).len()), (10, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the bytes: no panic, one fact a datagram, and no name.
    #[test]
    fn law_any_bytes_are_one_fact(payload in proptest::collection::vec(any::<u8>(), 0..600), tcp in any::<bool>()) {
        let mut watch = Watch::new(NameMode::Full);
        let key = asking(40_000, if tcp { 6 } else { 17 });
        watch.take(&head(key, MS, &payload), &payload, true);
        let facts = watch.facts(2 * MS);
        if !tcp {
            prop_assert_eq!(facts.len(), 1);
        }
        for fact in facts {
            if let What::Answer { addresses, .. } = fact.what {
                prop_assert!(addresses.is_empty());
            }
        }
    }

    /// A real message with any bytes changed, or cut anywhere, does no harm either, and no question grows beyond the
    /// bound of a report's text.
    #[test]
    fn law_damaged_messages_are_one_fact(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let records = [alias("shop.example.", 300, "edge.example."), a("edge.example.", 60, 1)];
        let mut payload = bytes(&answer(7, "shop.example.", &records));
        for (at, value) in changes {
            let at = at.index(payload.len());
            payload[at] = value;
        }
        payload.truncate(cut.index(payload.len()) + 1);
        let mut watch = Watch::new(NameMode::Full);
        watch.take(&head(asking(40_000, 17).reversed(), MS, &payload), &payload, false);
        let facts = watch.facts(2 * MS);
        prop_assert_eq!(facts.len(), 1);
        if let Some(Fact { what: What::Query(Some(question)) | What::Answer { question: Some(question), .. }, .. }) = facts.first() {
            prop_assert!(question.name.len() <= wire::limits::MAX_DNS_NAME_BYTES);
        }
    }
}
