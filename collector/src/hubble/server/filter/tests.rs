//! Every field that is answered, on a flow it takes and on one it does not; every other is refused by its name.

use super::{Filters, MAX_FILTERS, MAX_VALUES, terms, value::like};
use crate::hubble::proto::flow::{
    CiliumEventType, Endpoint, EventTypeFilter, Flow, FlowFilter, Http, HttpHeader, Ip, Layer4, Layer7,
    NetworkInterface, Service, Tcp, TcpFlags, Udp, Workload, flow_filter::Experimental, layer4::Protocol,
    layer7::Record,
};

fn end(pod: &str, kind: &str) -> Option<Endpoint> {
    let (namespace, pod_name) = pod.split_once('/').expect("a namespace");
    Some(Endpoint {
        namespace: namespace.into(),
        pod_name: pod_name.into(),
        labels: vec![format!("k8s:io.kubernetes.pod.namespace={namespace}")],
        workloads: vec![Workload { name: pod_name.trim_end_matches("-1").into(), kind: kind.into() }],
        cluster_name: "east".into(),
        ..Endpoint::default()
    })
}

/// A SYN from a pod to another.
fn syn() -> Flow {
    let flags = Some(TcpFlags { syn: true, ..TcpFlags::default() });
    Flow {
        verdict: 1,
        ip: Some(Ip { source: "10.1.0.2".into(), destination: "10.2.0.3".into(), ip_version: 1, ..Ip::default() }),
        l4: Some(Layer4 { protocol: Some(Protocol::Tcp(Tcp { source_port: 40_000, destination_port: 8080, flags })) }),
        source: end("shop/front-1", "Deployment"),
        destination: end("data/cart-1", "StatefulSet"),
        destination_service: Some(Service { name: "cart".into(), namespace: "data".into() }),
        node_name: "n1".into(),
        event_type: Some(CiliumEventType { r#type: 4, sub_type: 5 }),
        traffic_direction: 2,
        is_reply: Some(false),
        interface: Some(NetworkInterface { index: 7, name: "veth7".into() }),
        ..Flow::default()
    }
}

/// A dropped query of a pod to a name server of the world, over IPv6.
fn query() -> Flow {
    Flow {
        verdict: 2,
        drop_reason_desc: 133,
        ip: Some(Ip { source: "fd00::2".into(), destination: "2001:db8::53".into(), ip_version: 2, ..Ip::default() }),
        l4: Some(Layer4 { protocol: Some(Protocol::Udp(Udp { source_port: 40_001, destination_port: 53 })) }),
        l7: Some(Layer7 { record: Some(Record::Dns(crate::hubble::proto::flow::Dns::default())), ..Layer7::default() }),
        source: end("shop/other-1", "Deployment"),
        destination: Some(Endpoint { identity: 2, labels: vec!["reserved:world".into()], ..Endpoint::default() }),
        destination_names: vec!["dns.example.com".into()],
        node_name: "n2".into(),
        event_type: Some(CiliumEventType { r#type: 129, sub_type: 0 }),
        is_reply: Some(true),
        ..Flow::default()
    }
}

/// Whether each of the two passes.
fn check(change: impl Fn(&mut FlowFilter), wanted: [bool; 2]) {
    let mut filter = FlowFilter::default();
    change(&mut filter);
    let list = [filter.clone()];
    let white = Filters::new(&list, &[]).expect("an answer");
    assert_eq!([syn(), query()].map(|flow| white.pass(&flow)), wanted, "{filter:?}");
    let black = Filters::new(&[], &list).expect("an answer");
    assert_eq!([syn(), query()].map(|flow| black.pass(&flow)), wanted.map(|pass| !pass), "not {filter:?}");
}

#[test]
fn every_field_that_is_answered() {
    const FIRST: [bool; 2] = [true, false];
    const SECOND: [bool; 2] = [false, true];
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    check(|f| f.source_ip = texts(&["10.9.9.9", "10.1.0.2"]), FIRST);
    check(|f| f.source_ip = texts(&["10.0.0.0/8"]), FIRST);
    check(|f| f.source_ip = texts(&["0.0.0.0/0"]), FIRST);
    check(|f| f.destination_ip = texts(&["2001:db8::/32"]), SECOND);
    check(|f| f.source_pod = texts(&["shop/"]), [true, true]);
    check(|f| f.source_pod = texts(&["shop/fro"]), FIRST);
    check(|f| f.source_pod = texts(&["/other"]), SECOND);
    check(|f| f.source_pod = texts(&["front"]), [false, false]);
    check(|f| f.destination_pod = texts(&["/"]), FIRST);
    check(|f| f.destination_service = texts(&["data/cart"]), FIRST);
    check(|f| f.source_service = texts(&["data/cart"]), [false, false]);
    check(|f| f.destination_fqdn = texts(&["*.example.com."]), SECOND);
    check(|f| f.source_fqdn = texts(&["*"]), [false, false]);
    check(|f| f.source_label = texts(&["k8s:io.kubernetes.pod.namespace=shop"]), [true, true]);
    check(|f| f.destination_label = texts(&["io.kubernetes.pod.namespace"]), FIRST);
    check(|f| f.destination_label = texts(&["reserved:world"]), SECOND);
    check(|f| f.source_port = texts(&["40000"]), FIRST);
    check(|f| f.destination_port = texts(&["53", "5353"]), SECOND);
    check(|f| f.source_workload = vec![Workload { name: "front".into(), kind: String::new() }], FIRST);
    check(|f| f.destination_workload = vec![Workload { name: "cart".into(), kind: "Deployment".into() }], [false; 2]);
    check(|f| f.destination_identity = vec![2], SECOND);
    check(|f| f.source_identity = vec![1], [false, false]);
    check(|f| f.destination_cluster_name = texts(&["ea*"]), FIRST);
    check(|f| f.source_cluster_name = texts(&["west"]), [false, false]);
    check(|f| f.verdict = vec![2], SECOND);
    check(|f| f.drop_reason_desc = vec![133], SECOND);
    check(|f| f.drop_reason_desc = vec![0], [false, false]);
    let of_type = |r#type, match_sub_type, sub_type| vec![EventTypeFilter { r#type, match_sub_type, sub_type }];
    check(|f| f.event_type = of_type(4, false, 0), FIRST);
    check(|f| f.event_type = of_type(4, true, 5), FIRST);
    check(|f| f.event_type = of_type(4, true, 0), [false, false]);
    check(|f| f.protocol = texts(&["TCP"]), FIRST);
    check(|f| f.protocol = texts(&["dns", "icmp"]), SECOND);
    check(|f| f.reply = vec![false], FIRST);
    check(|f| f.tcp_flags = vec![TcpFlags { syn: true, ..TcpFlags::default() }], FIRST);
    check(|f| f.tcp_flags = vec![TcpFlags { syn: true, ack: true, ..TcpFlags::default() }], [false, false]);
    check(|f| f.node_name = texts(&["n1"]), FIRST);
    check(|f| f.node_name = texts(&["east/n*"]), [true, true]);
    check(|f| f.ip_version = vec![2], SECOND);
    check(|f| f.traffic_direction = vec![2], FIRST);
    check(|f| f.traffic_direction = vec![0], [false, false]);
    check(|f| f.interface = vec![NetworkInterface { index: 0, name: "veth7".into() }], FIRST);
    // Fields together: all must match.
    check(
        |f| {
            f.verdict = vec![1, 2];
            f.source_pod = texts(&["shop/"]);
            f.destination_port = texts(&["8080"]);
        },
        FIRST,
    );
}

fn refusal(change: impl Fn(&mut FlowFilter)) -> String {
    let mut filter = FlowFilter::default();
    change(&mut filter);
    match Filters::new(&[], &[filter]) {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.field.to_owned(),
    }
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let text = || vec!["x".to_owned()];
    assert_eq!(refusal(|f| f.http_status_code = text()), "http_status_code");
    assert_eq!(refusal(|f| f.http_method = text()), "http_method");
    assert_eq!(refusal(|f| f.http_path = text()), "http_path");
    assert_eq!(refusal(|f| f.http_url = text()), "http_url");
    assert_eq!(refusal(|f| f.http_header = vec![HttpHeader::default()]), "http_header");
    assert_eq!(refusal(|f| f.dns_query = text()), "dns_query");
    assert_eq!(refusal(|f| f.trace_id = text()), "trace_id");
    assert_eq!(refusal(|f| f.ip_trace_id = vec![1]), "ip_trace_id");
    assert_eq!(refusal(|f| f.uuid = text()), "uuid");
    assert_eq!(refusal(|f| f.source_ip_xlated = text()), "source_ip_xlated");
    assert_eq!(refusal(|f| f.node_labels = text()), "node_labels");
    assert_eq!(refusal(|f| f.encrypted = vec![true]), "encrypted");
    assert_eq!(refusal(|f| f.experimental = Some(Experimental { cel_expression: text() })), "experimental");
    // Fields that are answered, with values that make no sense, or that nothing here could have.
    assert_eq!(refusal(|f| f.source_ip = text()), "source_ip");
    assert_eq!(refusal(|f| f.destination_ip = vec!["10.0.0.0/33".into()]), "destination_ip");
    assert_eq!(refusal(|f| f.source_port = text()), "source_port");
    assert_eq!(refusal(|f| f.destination_label = vec!["app=cart".into()]), "destination_label");
    assert_eq!(refusal(|f| f.source_label = vec!["reserved:world in (a, b)".into()]), "source_label");
    assert_eq!(refusal(|f| f.source_identity = vec![4711]), "source_identity");
    assert_eq!(refusal(|f| f.protocol = vec!["http".into()]), "protocol");
    assert_eq!(refusal(|f| f.source_pod = vec![String::new()]), "source_pod");
}

#[test]
fn lists_are_bounded() {
    let filters = |count| vec![FlowFilter { reply: vec![true], ..FlowFilter::default() }; count];
    assert!(Filters::new(&filters(MAX_FILTERS), &[]).is_ok());
    assert_eq!(Filters::new(&filters(MAX_FILTERS + 1), &[]).err().expect("refused").field, "whitelist");
    let values = |count| FlowFilter { verdict: vec![1; count], ..FlowFilter::default() };
    assert!(Filters::new(&[], &[values(MAX_VALUES)]).is_ok());
    assert_eq!(Filters::new(&[], &[values(MAX_VALUES + 1)]).err().expect("refused").field, "verdict");
}

#[test]
fn agents_judge_what_they_can_and_no_more() {
    let port = |port: &str| FlowFilter { destination_port: vec![port.to_owned()], ..FlowFilter::default() };
    let asked = terms(&[port("53"), FlowFilter { verdict: vec![2], ..FlowFilter::default() }]);
    assert_eq!(
        asked.iter().map(|term| (term.ports.clone(), term.dropped)).collect::<Vec<_>>(),
        [(vec![53], false), (vec![], true)]
    );
    let pod = FlowFilter { source_pod: vec!["shop/".into()], ..FlowFilter::default() };
    assert!(terms(&[port("53"), pod]).is_empty(), "one that only names can decide asks for everything");
    assert!(terms(&vec![port("1"); 5]).is_empty(), "more than the wire takes");
    let nets = FlowFilter { source_ip: vec!["10.0.0.0/8".into()], ..FlowFilter::default() };
    assert!(terms(&[nets]).is_empty());
    let dns = FlowFilter { protocol: vec!["dns".into()], ..FlowFilter::default() };
    assert!(terms(&[dns])[0].dns);
}

#[test]
fn patterns() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("n1", "N1", true),
        ("n1", "n12", false),
        ("*.example.*", "api.example.com", true),
        ("*.example.*", "example.com", false),
        ("a*b*c", "a-b-b-c", true),
        ("ab*bc", "abc", false),
    ] {
        assert_eq!(like(pattern, text), fits, "{pattern} {text}");
    }
}

#[test]
fn what_hubble_sees_and_we_do_not_is_asked_of_its_flows_alone() {
    let of = |name: &str| [FlowFilter { protocol: vec![name.to_owned()], ..FlowFilter::default() }];
    let http = Layer7 { record: Some(Record::Http(Http::default())), ..Layer7::default() };
    let flow = Flow { l7: Some(http), node_name: "kind/worker-1".to_owned(), ..syn() };
    assert!(Filters::of_hubble(&of("HTTP"), &[]).expect("filters").pass(&flow));
    assert!(!Filters::of_hubble(&of("dns"), &[]).expect("filters").pass(&flow));
    assert!(Filters::new(&of("http"), &[]).is_err() && Filters::new(&[], &of("http")).is_err());
    for (pattern, fits) in [("worker-*", true), ("kind/worker-1", true), ("k*/", true), ("other/worker-1", false)] {
        let filter = [FlowFilter { node_name: vec![pattern.to_owned()], ..FlowFilter::default() }];
        assert_eq!(Filters::new(&filter, &[]).expect("filters").pass(&flow), fits, "{pattern}");
    }
}
