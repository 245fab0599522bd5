//! One event of each kind, in Hubble's words.

use std::{net::IpAddr, sync::Arc};

use prost::Message as _;
use prost_types::{Struct, value::Kind};
use wire::v1::{FlowDns, FlowEvent, FlowEventKind, Point, Side};

use super::flow;
use crate::{
    flows::{End, Seen},
    hubble::proto::flow::{Flow, layer4::Protocol, layer7::Record},
    names::Owner,
};

fn end(address: [u8; 4], owner: Owner, here: bool) -> End {
    let (namespace, name): (Option<Arc<str>>, Option<Arc<str>>) = match &owner {
        Owner::Pod(key) | Owner::Service(key) => {
            let (namespace, name) = key.split_once('/').expect("a namespace");
            (Some(namespace.into()), Some(name.into()))
        }
        Owner::Node(name) => (None, Some(Arc::clone(name))),
        Owner::External(_) => (None, None),
    };
    let workload = matches!(owner, Owner::Pod(_)).then(|| ("Deployment".into(), "cart".into()));
    End { address: address.into(), owner, namespace, name, workload, here, world: Vec::new() }
}

/// From a pod here to `destination`.
fn told(destination: End, change: impl FnOnce(&mut FlowEvent)) -> Flow {
    let mut event = FlowEvent {
        number: 1,
        kind: FlowEventKind::First.into(),
        source_port: 40_000,
        destination_port: 8080,
        protocol: 6,
        tcp_flags: 2,
        side: Side::Client.into(),
        point: Point::Pod.into(),
        segments: 1,
        l3_bytes: 60,
        ..FlowEvent::default()
    };
    change(&mut event);
    let source = end([10, 1, 0, 2], Owner::Pod("shop/front-1".into()), true);
    flow(&Seen { node: "n1".into(), at: 1_500_000_000, event, source, destination }, "east")
}

fn pod() -> End {
    end([10, 2, 0, 3], Owner::Pod("data/cart-1".into()), false)
}

fn extension(flow: &Flow, key: &str) -> Option<Kind> {
    let any = flow.extensions.as_ref()?;
    assert_eq!(any.type_url, "type.googleapis.com/google.protobuf.Struct");
    Struct::decode(any.value.as_slice()).expect("a struct").fields.get(key)?.kind.clone()
}

#[test]
fn a_first_packet() {
    let flow = told(pod(), |_| {});
    let time = flow.time.expect("a time");
    assert_eq!((time.seconds, time.nanos), (1, 500_000_000));
    assert_eq!((flow.verdict, flow.r#type, flow.traffic_direction, flow.is_reply), (1, 1, 2, Some(false)));
    let source = flow.source.as_ref().expect("a source");
    assert_eq!((source.namespace.as_str(), source.pod_name.as_str()), ("shop", "front-1"));
    assert_eq!((source.workloads[0].kind.as_str(), source.cluster_name.as_str()), ("Deployment", "east"));
    assert_eq!(source.identity, 0, "no identity is made up");
    let event_type = flow.event_type.expect("a type");
    assert_eq!((event_type.r#type, event_type.sub_type, flow.trace_observation_point), (4, 5, 5));
    assert_eq!(flow.summary, "TCP Flags: SYN");
    assert_eq!(extension(&flow, "bytes"), Some(Kind::NumberValue(60.0)));
    assert_eq!(extension(&flow, "retransmits"), None, "what is not known is not there");
}

#[test]
fn the_connections_direction_is_kept_by_its_replies() {
    // The same connection at the server's node: its first packet arrives, its answer leaves.
    let arrives = told(pod(), |event| event.side = Side::Server.into());
    assert_eq!((arrives.traffic_direction, arrives.trace_observation_point), (1, 101));
    assert_eq!(arrives.event_type.map(|one| one.sub_type), Some(0));
    let reply = |side: Side| {
        told(pod(), |event| {
            event.reply = true;
            event.side = side.into();
            event.tcp_flags = 0x12;
        })
    };
    let leaves = reply(Side::Server);
    assert_eq!((leaves.traffic_direction, leaves.trace_observation_point, leaves.is_reply), (1, 5, Some(true)));
    assert_eq!(leaves.summary, "TCP Flags: SYN, ACK");
    assert_eq!(reply(Side::Client).trace_observation_point, 101);
    let overlay = told(pod(), |event| event.point = Point::Tunnel.into());
    assert_eq!(overlay.trace_observation_point, 4);
}

#[test]
fn what_an_address_alone_tells() {
    let world = End {
        world: vec!["api.example.com".into()],
        ..end([192, 0, 2, 1], Owner::External([192, 0, 2, 1].into()), false)
    };
    let flow = told(world, |_| {});
    let identity = |flow: &Flow| flow.destination.as_ref().map(|end| (end.identity, end.labels.join(",")));
    assert_eq!(identity(&flow), Some((2, "reserved:world".to_owned())));
    assert_eq!(flow.destination_names, ["api.example.com"]);
    let node = |here| told(end([10, 0, 0, 9], Owner::Node("n9".into()), here), |_| {});
    assert_eq!(identity(&node(false)), Some((6, "reserved:remote-node".to_owned())));
    assert_eq!(identity(&node(true)), Some((1, "reserved:host".to_owned())));
    let service = told(end([10, 96, 0, 1], Owner::Service("data/cart".into()), false), |_| {});
    assert_eq!(service.destination_service.map(|one| (one.namespace, one.name)), Some(("data".into(), "cart".into())));
}

#[test]
fn a_drop() {
    let dropped = |reason: &str, side: Side| {
        told(pod(), |event| {
            event.kind = FlowEventKind::Drop.into();
            event.reason = reason.to_owned();
            event.by = "stack".to_owned();
            event.segments = 3;
            event.side = side.into();
            event.point = 0;
        })
    };
    let flow = dropped("netfilter_drop", Side::Client);
    assert_eq!((flow.verdict, flow.drop_reason, flow.drop_reason_desc), (2, 133, 133));
    assert_eq!(flow.event_type.map(|one| (one.r#type, one.sub_type)), Some((1, 133)));
    assert_eq!(extension(&flow, "drop_reason"), Some(Kind::StringValue("netfilter_drop".into())));
    assert_eq!(extension(&flow, "packets"), Some(Kind::NumberValue(3.0)));
    let odd = dropped("subsystem_3_5", Side::Unspecified);
    assert_eq!((odd.drop_reason_desc, odd.traffic_direction, odd.is_reply), (0, 0, None));
}

#[test]
fn dns() {
    let message = |kind: FlowEventKind| {
        told(end([10, 0, 0, 53], Owner::Pod("kube-system/dns-1".into()), false), |event| {
            event.kind = kind.into();
            event.protocol = 17;
            event.destination_port = 53;
            event.reply = kind == FlowEventKind::DnsAnswer;
            event.dns = Some(FlowDns {
                name: "api.example.com".to_owned(),
                r#type: 28,
                rcode: 0,
                latency_us: 812,
                addresses: vec![vec![192, 0, 2, 1], vec![192, 0, 2, 2]],
                ttl_s: 30,
            });
        })
    };
    let answer = message(FlowEventKind::DnsAnswer);
    assert_eq!((answer.r#type, answer.event_type.map(|one| one.r#type)), (2, Some(129)));
    let l7 = answer.l7.as_ref().expect("layer 7");
    assert_eq!((l7.r#type, l7.latency_ns), (2, 812_000));
    let Some(Record::Dns(dns)) = &l7.record else { panic!("{l7:?}") };
    assert_eq!((dns.query.as_str(), dns.qtypes[0].as_str(), dns.ttl), ("api.example.com.", "AAAA", 30));
    assert_eq!((dns.ips.len(), dns.rrtypes.as_slice()), (2, &["A".to_owned()][..]));
    assert_eq!(extension(&answer, "num_responses"), Some(Kind::NumberValue(2.0)));
    let said = format!("DNS Answer {:?} TTL: 30 (api.example.com. AAAA)", dns.ips.join(","));
    assert_eq!(answer.summary, said);
    let query = message(FlowEventKind::DnsQuery);
    assert_eq!((query.l7.map(|l7| l7.r#type), query.summary.as_str()), (Some(1), "DNS Query api.example.com. AAAA"));
}

#[test]
fn a_ping() {
    let flow = |reply: bool| {
        told(pod(), |event| {
            event.protocol = 1;
            (event.source_port, event.destination_port) = if reply { (8, 0) } else { (0, 8) };
            event.reply = reply;
            event.tcp_flags = 0;
        })
    };
    let of_type = |flow: Flow| match flow.l4.and_then(|l4| l4.protocol) {
        Some(Protocol::IcmPv4(icmp)) => (icmp.r#type, flow.summary),
        other => panic!("{other:?}"),
    };
    assert_eq!(of_type(flow(false)), (8, "ICMPv4 EchoRequest".to_owned()));
    assert_eq!(of_type(flow(true)), (0, "ICMPv4 EchoReply".to_owned()));
    let addresses: [IpAddr; 2] = [[10, 1, 0, 2].into(), [10, 2, 0, 3].into()];
    let ip = flow(false).ip.expect("addresses");
    assert_eq!([ip.source, ip.destination], addresses.map(|address| address.to_string()));
}
