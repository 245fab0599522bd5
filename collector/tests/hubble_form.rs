//! Hubble's own output, recorded from a real cluster: read, written again and printed, it stays what it was.

use collector::hubble::{
    json::Response,
    print,
    proto::observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
    text,
};
use prost::Message as _;
use serde_json::{Value, json};

const TWO_NODES: (&str, &str) = (include_str!("hubble/observe-2node.jsonpb"), include_str!("hubble/observe-2node.txt"));
const DNS: (&str, &str) = (include_str!("hubble/l7dns.jsonpb"), include_str!("hubble/l7dns.txt"));

fn round_trip(line: &str) -> Value {
    let response = Response::from_json(line).unwrap_or_else(|error| panic!("{error:?}: {line}"));
    response.to_json().expect("it can be written")
}

#[test]
fn recorded_flows_are_written_again_field_for_field() {
    let mut lines = 0;
    for line in TWO_NODES.0.lines().chain(DNS.0.lines()) {
        let value: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(round_trip(line), value);
        // By way of the binary form: nothing of a recorded flow is unknown to our definitions.
        let message = Response::from_json(line).expect("a response").message;
        let again = GetFlowsResponse::decode(message.encode_to_vec().as_slice()).expect("its own bytes");
        assert_eq!(message, again);
        assert_eq!(Response::from(again).to_json().expect("it can be written"), value);
        lines += 1;
    }
    assert_eq!(lines, 96);
}

#[test]
fn recorded_flows_are_printed_line_for_line() {
    for (flows, expected) in [TWO_NODES, DNS] {
        let printed = flows.lines().map(|line| {
            let response = Response::from_json(line).expect("a response");
            print::compact(&response.message, false).expect("a flow")
        });
        let printed: Vec<String> = printed.collect();
        assert_eq!(printed, expected.lines().collect::<Vec<_>>());
    }
}

#[test]
fn summaries_are_those_that_hubble_makes() {
    for line in TWO_NODES.0.lines().chain(DNS.0.lines()) {
        let response = Response::from_json(line).expect("a response");
        let Some(ResponseTypes::Flow(flow)) = response.message.response_types else { panic!("no flow: {line}") };
        assert_eq!(text::summary(&flow), flow.summary);
    }
}

#[test]
fn what_a_newer_server_writes_is_kept() {
    let newer = json!({
        "flow": {
            "verdict": "QUARANTINED", "time": "2026-11-21T02:12:44.403047299Z",
            "IP": { "source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4", "zone": { "id": 7 } },
            "source": { "workloads": [{ "name": "web", "kind": "Deployment", "revision": 3 }, { "name": "db" }] },
            "drop_reason_desc": 999, "new_list": [1, 2], "is_reply": false, "node_name": "",
            "extensions": { "@type": "type.googleapis.com/some.Thing", "depth": 4 },
        },
        "node_name": "n1", "hint": "new",
    });
    assert_eq!(round_trip(&newer.to_string()), newer);
    let known = json!({ "flow": { "extensions": {
        "@type": "type.googleapis.com/google.protobuf.Struct", "value": { "bytes": 1500.0 },
    } } });
    assert_eq!(round_trip(&known.to_string()), known);
}

#[test]
fn numbers_and_extensions_that_only_a_newer_server_knows_survive_the_binary_form() {
    let line = r#"{"flow":{"verdict":77,"trace_observation_point":500},"node_name":"n1"}"#;
    let mut message = Response::from_json(line).expect("a response").message;
    let again = GetFlowsResponse::decode(message.encode_to_vec().as_slice()).expect("its own bytes");
    assert_eq!(Response::from(again).to_json().expect("written"), serde_json::from_str::<Value>(line).expect("JSON"));
    assert!(print::compact(&message, false).expect("a line").contains(" 77 "));
    let Some(ResponseTypes::Flow(flow)) = &mut message.response_types else { panic!("a flow") };
    let url = "type.googleapis.com/some.Thing".to_owned();
    flow.extensions = Some(prost_types::Any { type_url: url.clone(), value: vec![1, 2, 3] });
    let written = Response::from(message).to_json().expect("written");
    assert_eq!(written["flow"]["extensions"], json!({ "@type": url, "value": "AQID" }));
    assert_eq!(written["flow"]["verdict"], 77);
}

#[test]
fn fields_go_by_either_name_and_old_lines_are_the_flow_itself() {
    let line = r#"{"flow":{"nodeName":"n1","isReply":true},"nodeName":"n1"}"#;
    let first = json!({ "flow": { "node_name": "n1", "is_reply": true }, "node_name": "n1" });
    assert_eq!(round_trip(line), first);
    assert_eq!(round_trip(r#"{"verdict":"DROPPED"}"#), json!({ "flow": { "verdict": "DROPPED" } }));
}

#[test]
fn what_is_no_response_is_said() {
    for (line, words) in [
        ("", "no JSON"),
        ("Nov 21 02:12:44.403: shop/client", "no JSON"),
        ("{}", "none of a response's fields"),
        ("[]", "no GetFlowsResponse"),
        ("7", "no GetFlowsResponse"),
        (r#"{"flow":7}"#, "no GetFlowsResponse"),
        (r#"{"flow":{"time":"soon"}}"#, "no GetFlowsResponse"),
    ] {
        let error = Response::from_json(line).expect_err(line);
        assert!(error.to_string().contains(words), "{line}: {error}");
    }
}

#[test]
fn a_cluster_tells_of_its_nodes_and_of_what_it_lost() {
    for (line, expected) in [
        (
            r#"{"node_status":{"state_change":"NODE_UNAVAILABLE","node_names":["n1","n2"],"message":"gone"},"time":"2026-01-02T03:04:05.6Z"}"#,
            "Jan  2 03:04:05.600: NODE_UNAVAILABLE: n1, n2 (gone)",
        ),
        (
            r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"12","cpu":3},"node_name":"n1"}"#,
            "EVENTS LOST: [n1] HUBBLE_RING_BUFFER CPU(3) 12",
        ),
        (r#"{"flow":{}}"#, "N/A:  (unknown) <>  (unknown) UNKNOWN VERDICT_UNKNOWN ()"),
    ] {
        let response = Response::from_json(line).expect("a response");
        assert_eq!(print::compact(&response.message, false).expect("a line"), expected);
    }
}
