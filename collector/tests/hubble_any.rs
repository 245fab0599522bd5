//! Whatever bytes or JSON come, nothing panics, and nothing grows beyond its bounds.

use collector::hubble::{
    fold::{Bounds, Fold},
    json::Response,
    print,
    proto::{
        flow::FlowFilter,
        observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
    },
    server::filter::Filters,
};
use proptest::prelude::*;
use prost::Message as _;

const BOUNDS: Bounds = Bounds { edges: 8, connections: 16, nodes: 4, waiting: 4 };

/// All that is ever done with a response.
fn take(fold: &mut Fold, response: &Response, arrived: Option<i64>) {
    let _ = print::compact(&response.message, true);
    let _ = response.to_json();
    if let Some(ResponseTypes::Flow(flow)) = &response.message.response_types {
        let filter = FlowFilter { source_ip: vec!["10.0.0.0/8".to_owned()], ..FlowFilter::default() };
        let _ = Filters::of_hubble(&[filter], &[]).expect("a filter").pass(flow);
    }
    fold.add(&response.message, arrived);
}

fn check(responses: &[Response], arrived: Option<i64>) {
    let mut fold = Fold::new(BOUNDS);
    for response in responses {
        take(&mut fold, response, arrived);
    }
    fold.settle();
    assert!(fold.edges().count() <= BOUNDS.edges && fold.nodes().len() <= BOUNDS.nodes);
}

/// A recorded line, some of whose bytes are others.
fn broken_line() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = include_str!("hubble/observe-2node.jsonpb")
        .lines()
        .chain(include_str!("hubble/l7dns.jsonpb").lines())
        .collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0x20u8..0x7f), 0..12);
    (prop::sample::select(lines), changes).prop_map(|(line, changes)| {
        let mut bytes = line.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        String::from_utf8(bytes).expect("it is ASCII")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn broken_lines_are_lines_or_errors(lines in prop::collection::vec(broken_line(), 1..8), arrived in any::<Option<i64>>()) {
        let read: Vec<Response> = lines.iter().filter_map(|line| Response::from_json(line).ok()).collect();
        check(&read, arrived);
    }

    #[test]
    fn any_text_is_a_line_or_an_error(text in "\\PC{0,80}") {
        if let Ok(response) = Response::from_json(&text) {
            check(&[response], None);
        }
    }

    #[test]
    fn broken_bytes_are_messages_or_errors(
        line in broken_line(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        arrived in any::<Option<i64>>(),
    ) {
        let Ok(response) = Response::from_json(&line) else { return Ok(()) };
        let mut bytes = response.message.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = GetFlowsResponse::decode(bytes.as_slice()) {
            check(&[message.into()], arrived);
        }
    }

    #[test]
    fn any_bytes_are_messages_or_errors(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(message) = GetFlowsResponse::decode(bytes.as_slice()) {
            check(&[message.into()], Some(0));
        }
    }
}
