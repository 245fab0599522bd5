//! Everything that takes bytes from somebody we do not trust, as functions of bytes. They fail by panicking: on a crash of the
//! code under test, and where what came out breaks a rule that holds for all inputs.

use agent_ebpf::{
    abi::LinkType,
    parse::{Packet, Parsed, parse},
};
use axum::{extract::Query, http::Uri};
use collector::{
    filter::Filter,
    hubble::{fold::Fold, json::Response, proto::observer::GetFlowsResponse},
    merge::{Bounds, Merge, Verdict},
    names,
    stream::ViewQuery,
};
use prost::Message as _;
use wire::{
    codec,
    v1::{Edge, Report},
};

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder below `corpus/`.
    pub name: &'static str,
    /// What is done with an input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "packet", run: packet },
    Target { name: "dns", run: dns },
    Target { name: "report", run: report },
    Target { name: "kubectl", run: kubectl },
    Target { name: "hubble-json", run: hubble_json },
    Target { name: "hubble-flows", run: hubble_flows },
    Target { name: "filter", run: filter },
    Target { name: "query", run: query },
];

struct Bytes<'a>(&'a [u8]);

impl Packet for Bytes<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// A packet off a wire; the first byte says of which kind the link is.
fn packet(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let link = if first & 1 == 0 { LinkType::Ethernet } else { LinkType::RawIp };
    let mut parsed = Parsed::default();
    if parse(&Bytes(rest), link, &mut parsed).is_ok() {
        assert!(parsed.l3_bytes as usize <= rest.len(), "more bytes than the packet has");
        assert!(parsed.payload_bytes <= parsed.l3_bytes, "more payload than packet");
    }
}

/// A DNS message that passed a device.
fn dns(data: &[u8]) {
    if let Some(message) = agent::dns::message::parse(data) {
        let name = message.question.map_or(0, |question| question.name.len());
        assert!(name <= wire::limits::MAX_DNS_NAME_BYTES, "a name beyond the bound");
    }
}

/// A report, as it comes, and as what it would be behind a good compression.
fn report(data: &[u8]) {
    let Ok(packed) = zstd::bulk::compress(data, 1) else { return };
    for body in [data, &packed] {
        let Ok(report) = codec::decode_report(body) else { continue };
        let report = Report { version: wire::VERSION, ..report };
        let again = codec::encode_report(&report).expect("what was decoded is encoded");
        assert_eq!(by_content(codec::decode_report(&again).expect("and decoded")), by_content(report.clone()));
        let mut merge = Merge::new(Bounds::default(), 0);
        let first = merge.accept(&report, 1);
        // The same again changes nothing but freshness, whatever it was.
        let flows = merge.flows().count();
        let again = merge.accept(&report, 2);
        let taken = |verdict| matches!(verdict, Verdict::Accepted { .. });
        assert_eq!((taken(again), merge.flows().count()), (taken(first), flows));
    }
}

/// The order of its edges means nothing.
fn by_content(mut report: Report) -> Report {
    report.edges.sort_by_cached_key(Edge::encode_to_vec);
    report
}

/// What `kubectl get -o json` wrote, or somebody else.
fn kubectl(data: &[u8]) {
    // An error is an answer.
    drop(names::file::parse(data));
}

/// A line of `hubble observe -o jsonpb`.
fn hubble_json(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    let Ok(response) = Response::from_json(line) else { return };
    let written = response.to_json().expect("what was read is written").to_string();
    let again = Response::from_json(&written).expect("and read");
    assert_eq!(again.to_json().expect("written again").to_string(), written);
    fold([response.message]);
}

/// Flows from a relay: messages one behind the other, each with its length.
fn hubble_flows(mut data: &[u8]) {
    let mut flows = Vec::new();
    while let Ok(flow) = GetFlowsResponse::decode_length_delimited(&mut data) {
        flows.push(flow);
        if data.is_empty() {
            break;
        }
    }
    fold(flows);
}

fn fold(flows: impl IntoIterator<Item = GetFlowsResponse>) {
    let mut fold = Fold::default();
    for (at, flow) in flows.into_iter().enumerate() {
        fold.add(&flow, (at % 2 == 0).then_some(1));
    }
    fold.settle();
    fold.forget(1);
    fold.edges().for_each(drop);
}

/// A filter of a browser's: its short form means the same.
fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(filter) = text.parse::<Filter>() else { return };
    let short = filter.to_string();
    let again: Filter = short.parse().unwrap_or_else(|error| panic!("{short:?} of {text:?}: {error:?}"));
    assert_eq!(again.to_string(), short);
}

/// What stands behind the question mark of `/api/v1/graph`.
fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = format!("/api/v1/graph?{text}").parse::<Uri>() else { return };
    if let Ok(Query(query)) = Query::<ViewQuery>::try_from_uri(&uri) {
        drop(query.wish());
    }
}
