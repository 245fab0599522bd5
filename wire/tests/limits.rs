//! Each bound of an edge's and a node's facts at its bound, and over it: for one edge, and for a report as a whole.

use proptest::prelude::{any, prop, proptest};
use prost::{Message as _, encoding};
use wire::{
    codec::{DecodeError, decode_report, encode_report},
    limits::{MAX_EDGE_PARTS, MAX_EDGES},
    v1::{
        Device, Dns, DnsQuestion, Drop, Edge, FlowDns, FlowEvent, FlowEvents, Histogram, Hook, Owner, RcodeCount,
        Report, ResolvedName, Side, Sockets,
    },
};

fn edge(change: impl FnOnce(&mut Edge)) -> Edge {
    let mut edge = Edge {
        client: vec![10, 0, 0, 1],
        server: vec![10, 0, 0, 2],
        side: Side::Client.into(),
        incarnation: 1,
        ..Edge::default()
    };
    change(&mut edge);
    edge
}

fn report(edges: Vec<Edge>) -> Report {
    Report { version: wire::VERSION, node: "n".into(), epoch: 1, seq: 1, edges, ..Report::default() }
}

fn verdict(report: &Report) -> String {
    match decode_report(&encode_report(report).expect("encode")) {
        Ok(decoded) => {
            assert_eq!(decoded, *report);
            "ok".to_owned()
        }
        Err(error) => error.to_string().trim_start_matches("report invalid: ").to_owned(),
    }
}

fn of_edge(change: impl FnOnce(&mut Edge)) -> String {
    verdict(&report(vec![edge(change)]))
}

fn of_report(change: impl FnOnce(&mut Report)) -> String {
    let mut report = report(Vec::new());
    change(&mut report);
    verdict(&report)
}

fn dns(change: impl FnOnce(&mut Dns)) -> Option<Dns> {
    let mut dns = Dns::default();
    change(&mut dns);
    Some(dns)
}

fn buckets(count: usize) -> Option<Histogram> {
    Some(Histogram { buckets: vec![300; count], sum_us: 1 })
}

#[test]
fn the_parts_of_an_edge_are_bounded() {
    assert_eq!(of_edge(|edge| edge.owners = vec![Owner::default(); 4]), "ok");
    assert_eq!(of_edge(|edge| edge.owners = vec![Owner::default(); 5]), "more than 4 owners of an edge");
    assert_eq!(of_edge(|edge| edge.drops = vec![Drop::default(); 16]), "ok");
    assert_eq!(of_edge(|edge| edge.drops = vec![Drop::default(); 17]), "more than 16 drops of an edge");
    let questions =
        |count| move |edge: &mut Edge| edge.dns = dns(|dns| dns.questions = vec![DnsQuestion::default(); count]);
    assert_eq!(of_edge(questions(16)), "ok");
    assert_eq!(of_edge(questions(17)), "more than 16 questions of an edge");
    let rcodes = |count| move |edge: &mut Edge| edge.dns = dns(|dns| dns.rcodes = vec![RcodeCount::default(); count]);
    assert_eq!(of_edge(rcodes(24)), "ok");
    assert_eq!(of_edge(rcodes(25)), "more than 24 response codes of an edge");
    let latency = |count| move |edge: &mut Edge| edge.dns = dns(|dns| dns.latency = buckets(count));
    assert_eq!(of_edge(latency(32)), "ok");
    assert_eq!(of_edge(latency(33)), "more than 32 buckets of a histogram");
    let rtt = |count| move |edge: &mut Edge| edge.sockets = Some(Sockets { rtt: buckets(count), ..Sockets::default() });
    assert_eq!(of_edge(rtt(32)), "ok");
    assert_eq!(of_edge(rtt(33)), "more than 32 buckets of a histogram");
}

#[test]
fn the_parts_of_a_node_are_bounded() {
    let name = || ResolvedName { client: vec![10, 0, 0, 1], address: vec![0xfd; 16], ..ResolvedName::default() };
    assert_eq!(of_report(|report| report.hooks = vec![Hook::default(); 32]), "ok");
    assert_eq!(of_report(|report| report.hooks = vec![Hook::default(); 33]), "more than 32 hooks");
    assert_eq!(of_report(|report| report.drops = vec![Drop::default(); 256]), "ok");
    assert_eq!(of_report(|report| report.drops = vec![Drop::default(); 257]), "more than 256 drops without an edge");
    assert_eq!(of_report(|report| report.names = vec![name(); 1_024]), "ok");
    assert_eq!(of_report(|report| report.names = vec![name(); 1_025]), "more than 1,024 names");
}

#[test]
fn texts_and_numbers_of_facts_are_bounded() {
    let text = |bytes| "x".repeat(bytes);
    let owner = |process, container, pod_uid| {
        of_edge(|edge| {
            edge.owners =
                vec![Owner { process: text(process), container: text(container), pod_uid: text(pod_uid), cgroup: 1 }];
        })
    };
    let too_long = "an owner's process is over 64 bytes, its container over 128 or its pod UID over 64";
    assert_eq!(owner(64, 128, 64), "ok");
    assert_eq!([owner(65, 0, 0), owner(0, 129, 0), owner(0, 0, 65)], [too_long; 3]);
    let drop = |reason, by| vec![Drop { reason: text(reason), by: text(by), ..Drop::default() }];
    let too_long = "a drop's reason or origin is over 64 bytes";
    assert_eq!(of_edge(|edge| edge.drops = drop(64, 64)), "ok");
    assert_eq!(of_edge(|edge| edge.drops = drop(65, 0)), too_long);
    assert_eq!(of_report(|report| report.drops = drop(0, 65)), too_long);
    assert_eq!(of_edge(|edge| edge.tunnel = text(16)), "ok");
    assert_eq!(of_edge(|edge| edge.tunnel = text(17)), "a tunnel's kind is over 16 bytes");
    let device = Device { tunnel: text(17), ..Device::default() };
    assert_eq!(of_report(|report| report.devices = vec![device]), "a tunnel's kind is over 16 bytes");
    let hook = |fact, refused| vec![Hook { fact: text(fact), form: text(64), refused: text(refused) }];
    assert_eq!(of_report(|report| report.hooks = hook(64, 1_024)), "ok");
    assert_eq!(of_report(|report| report.hooks = hook(65, 0)), "a hook's fact or form is over 64 bytes");
    assert_eq!(of_report(|report| report.hooks = hook(0, 1_025)), "a text is over 1,024 bytes");
    let question = |name, r#type, last_rcode| {
        let question = DnsQuestion { name: text(name), r#type, last_rcode, ..DnsQuestion::default() };
        of_edge(|edge| edge.dns = dns(|dns| dns.questions = vec![question]))
    };
    assert_eq!(question(255, 65_535, 65_535), "ok");
    assert_eq!(question(256, 1, 0), "a DNS name is over 255 bytes");
    let numbers = "a DNS type or response code is over 65,535";
    assert_eq!([question(0, 65_536, 0), question(0, 0, 65_536)], [numbers; 2]);
    let rcode = RcodeCount { rcode: 65_536, count: 1 };
    let of_rcode = of_edge(|edge| edge.dns = dns(|dns| dns.rcodes = vec![rcode]));
    assert_eq!(of_rcode, "a DNS response code is over 65,535");
    let name = |bytes, client: usize, address: usize| {
        let name = ResolvedName {
            client: vec![1; client],
            address: vec![1; address],
            name: text(bytes),
            ..ResolvedName::default()
        };
        of_report(|report| report.names = vec![name])
    };
    assert_eq!(name(255, 4, 16), "ok");
    assert_eq!(name(256, 4, 4), "a DNS name is over 255 bytes");
    let address = "a name's client or address is not 4 or 16 bytes";
    assert_eq!([name(1, 0, 4), name(1, 4, 5)], [address; 2]);
}

const OVER_ALL: &str = "more than 262,144 parts of one kind, or 2,097,152 buckets, over all edges";

/// Sixteen questions on each of 65,536 edges would be a million strings: the report as a whole has its own bound.
#[test]
fn the_parts_of_all_edges_are_bounded() {
    let full = MAX_EDGE_PARTS / 16;
    let with = |edges: usize, change: &dyn Fn(&mut Edge)| verdict(&report(vec![edge(change); edges]));
    for change in [
        &(|edge: &mut Edge| edge.drops = vec![Drop::default(); 16]) as &dyn Fn(&mut Edge),
        &|edge| edge.dns = dns(|dns| dns.questions = vec![DnsQuestion::default(); 16]),
        &|edge| edge.dns = dns(|dns| dns.rcodes = vec![RcodeCount::default(); 16]),
    ] {
        assert_eq!(with(full, change), "ok");
        assert_eq!(with(full + 1, change), OVER_ALL);
    }
    assert_eq!(with(MAX_EDGES, &|edge| edge.owners = vec![Owner::default(); 4]), "ok");
    let rtt = |edge: &mut Edge| edge.sockets = Some(Sockets { rtt: buckets(32), ..Sockets::default() });
    let both = |edge: &mut Edge| {
        rtt(edge);
        edge.dns = dns(|dns| dns.latency = buckets(1));
    };
    assert_eq!(with(MAX_EDGES, &rtt), "ok");
    assert_eq!(with(MAX_EDGES, &both), OVER_ALL);
}

/// Flow events are counted over all asks, whatever ask they answer.
#[test]
fn flow_events_are_bounded() {
    let event = FlowEvent { source: vec![10, 0, 0, 1], destination: vec![10, 0, 0, 2], ..FlowEvent::default() };
    let part = |count: usize| FlowEvents { events: vec![event.clone(); count], ..FlowEvents::default() };
    assert_eq!(of_report(|report| report.flow_events = vec![part(1_000), part(24)]), "ok");
    assert_eq!(of_report(|report| report.flow_events = vec![part(1_000), part(25)]), "more than 1,024 flow events");
    assert_eq!(of_report(|report| report.flow_events = vec![part(0); 16]), "ok");
    assert_eq!(of_report(|report| report.flow_events = vec![part(0); 17]), "flow events of more than 16 asks");
    let with = |change: &dyn Fn(&mut FlowEvent)| {
        let mut event = event.clone();
        change(&mut event);
        of_report(|report| report.flow_events = vec![FlowEvents { events: vec![event], ..FlowEvents::default() }])
    };
    let answer = |count: usize, name: usize| FlowDns {
        addresses: vec![vec![10, 0, 0, 3]; count],
        name: "x".repeat(name),
        ..FlowDns::default()
    };
    assert_eq!(with(&|event| event.dns = Some(answer(16, 255))), "ok");
    assert_eq!(with(&|event| event.dns = Some(answer(17, 1))), "more than 16 addresses of a flow event");
    let name = "a flow event's DNS name is over 255 bytes, or an address is not 4 or 16";
    assert_eq!(with(&|event| event.dns = Some(answer(1, 256))), name);
    let ends = "a flow event's address is not 4 or 16 bytes, or its ends differ in family";
    assert_eq!(with(&|event| event.source = vec![1; 16]), ends);
    assert_eq!(with(&|event| event.protocol = 256), "a flow event's port or protocol is out of range");
    let texts = "a flow event's device, reason or origin is over 64 bytes";
    assert_eq!(with(&|event| event.device = "x".repeat(64)), "ok");
    assert_eq!(with(&|event| event.device = "x".repeat(65)), texts);
    assert_eq!(with(&|event| event.reason = "x".repeat(65)), texts);
}

fn field(tag: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encoding::encode_key(tag, encoding::WireType::LengthDelimited, &mut out);
    encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

fn raw(bytes: &[u8]) -> Result<Report, DecodeError> {
    decode_report(&zstd::bulk::compress(bytes, 3).expect("compress"))
}

/// A message that stands twice is merged, and its lists are joined: the parts count together, in whatever pieces they come.
#[test]
fn parts_in_pieces_count_together() {
    let refused = |edge: &[u8]| raw(&field(13, edge)).expect_err("refused").to_string();
    let nine_questions = field(28, &field(6, &[]).repeat(9)).repeat(2);
    assert_eq!(refused(&nine_questions), "report invalid: more than 16 questions of an edge");
    let packed = field(8, &field(1, &[0x80, 0x01].repeat(17)));
    assert_eq!(refused(&field(25, &packed).repeat(2)), "report invalid: more than 32 buckets of a histogram");
    let unpacked = field(8, &[1 << 3, 7].repeat(33));
    assert_eq!(refused(&field(25, &unpacked)), "report invalid: more than 32 buckets of a histogram");
    let long = [13 << 3 | 2, 5, 1];
    assert_eq!(raw(&long).expect_err("refused").to_string(), "report invalid: a part is longer than what holds it");
}

/// Thirty-two megabytes of empty owners would be gigabytes once made: they are counted first.
#[test]
fn small_parts_of_one_edge_are_refused_unmade() {
    let owners = [0xd2, 0x01, 0].repeat(10 << 20);
    let error = raw(&field(13, &owners)).expect_err("refused");
    assert_eq!(error.to_string(), "report invalid: more than 4 owners of an edge");
}

proptest! {
    /// What the counting walks through, bent anywhere.
    #[test]
    fn bent_facts_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let full = edge(|edge| {
            edge.sockets = Some(Sockets { rtt: buckets(9), attempts: 1, ..Sockets::default() });
            edge.owners = vec![Owner { process: "curl".into(), ..Owner::default() }; 2];
            edge.drops = vec![Drop { reason: "netfilter_drop".into(), ..Drop::default() }];
            edge.dns = dns(|dns| {
                dns.latency = buckets(3);
                dns.rcodes = vec![RcodeCount { rcode: 3, count: 1 }];
                dns.questions = vec![DnsQuestion { name: "cart".into(), ..DnsQuestion::default() }; 3];
            });
        });
        let mut bytes = report(vec![full]).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = raw(&bytes);
    }
}
