//! A flow event in Hubble's words. Pure. What Hubble has no field for stands in `extensions`, as a `Struct`, under the keys
//! that others use there.

use std::{collections::BTreeMap, net::IpAddr};

use prost::Message as _;
use prost_types::{Any, Struct, Timestamp, Value, value::Kind};
use wire::v1::{FlowDns, FlowEvent, FlowEventKind, Point, Side};

use crate::{
    flows::{End, Seen},
    hubble::{
        proto::flow::{
            CiliumEventType, Dns, DropReason, Emitter, Endpoint, Flow, FlowType, IcmPv4, IcmPv6, Ip, IpVersion,
            L7FlowType, Layer4, Layer7, NetworkInterface, Sctp, Service, Tcp, TcpFlags, TraceObservationPoint,
            TrafficDirection, Udp, Verdict, Workload, layer4::Protocol, layer7::Record,
        },
        text,
    },
    names::Owner,
    time::{Ns, SECOND},
};

/// Hubble's reserved identities that an address alone tells, with their labels.
pub const RESERVED: [(u32, &str); 3] = [(1, "reserved:host"), (2, "reserved:world"), (6, "reserved:remote-node")];
/// The type URL of a `Struct`.
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
/// Event types of Hubble's flows.
const TYPE_DROP: i32 = 1;
const TYPE_TRACE: i32 = 4;
const TYPE_L7: i32 = 129;
/// Bits of a TCP header's flags.
const FLAGS: [u32; 4] = [1, 2, 4, 16];

/// A flow of the cluster `cluster`.
#[must_use]
pub fn flow(seen: &Seen, cluster: &str) -> Flow {
    let event = &seen.event;
    let dropped = event.kind() == FlowEventKind::Drop;
    let direction = match event.side() {
        // As Hubble has it: the connection's, as the local end sees it, whichever way this packet went.
        Side::Client => TrafficDirection::Egress,
        Side::Server => TrafficDirection::Ingress,
        Side::Unspecified => TrafficDirection::Unknown,
    };
    let known = event.side() != Side::Unspecified;
    let reason = if dropped { drop_reason(&event.reason) } else { DropReason::Unknown };
    let l7 = event.dns.as_ref().map(|dns| layer7(event, dns));
    let point = if dropped || l7.is_some() { TraceObservationPoint::UnknownPoint } else { observation(event) };
    let event_type = match (dropped, &l7) {
        (true, _) => CiliumEventType { r#type: TYPE_DROP, sub_type: reason.into() },
        (_, Some(_)) => CiliumEventType { r#type: TYPE_L7, sub_type: 0 },
        // The one sub-type that is not its point's number.
        _ if point == TraceObservationPoint::ToEndpoint => CiliumEventType { r#type: TYPE_TRACE, sub_type: 0 },
        _ => CiliumEventType { r#type: TYPE_TRACE, sub_type: point.into() },
    };
    let (source_service, destination_service) = (service(&seen.source), service(&seen.destination));
    let v4 = seen.source.address.is_ipv4();
    let mut flow = Flow {
        time: Some(timestamp(seen.at)),
        verdict: if dropped { Verdict::Dropped } else { Verdict::Forwarded }.into(),
        drop_reason: u32::try_from(i32::from(reason)).unwrap_or(0),
        drop_reason_desc: reason.into(),
        ip: Some(Ip {
            source: seen.source.address.to_string(),
            destination: seen.destination.address.to_string(),
            ip_version: if v4 { IpVersion::IPv4 } else { IpVersion::IPv6 }.into(),
            ..Ip::default()
        }),
        l4: layer4(event),
        source: Some(endpoint(&seen.source, cluster)),
        destination: Some(endpoint(&seen.destination, cluster)),
        r#type: if l7.is_some() { FlowType::L7 } else { FlowType::L3L4 }.into(),
        node_name: seen.node.to_string(),
        source_names: seen.source.world.iter().map(ToString::to_string).collect(),
        destination_names: seen.destination.world.iter().map(ToString::to_string).collect(),
        l7,
        reply: event.reply,
        is_reply: known.then_some(event.reply),
        event_type: Some(event_type),
        source_service,
        destination_service,
        traffic_direction: direction.into(),
        trace_observation_point: point.into(),
        interface: (event.ifindex != 0).then(|| NetworkInterface { index: event.ifindex, name: event.device.clone() }),
        emitter: Some(Emitter { name: "Orrery".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }),
        extensions: extensions(event),
        ..Flow::default()
    };
    flow.summary = text::summary(&flow);
    flow
}

/// A time as protobuf has it.
#[must_use]
pub fn timestamp(at: Ns) -> Timestamp {
    let nanos = i32::try_from(at.rem_euclid(SECOND)).unwrap_or(0);
    Timestamp { seconds: at.div_euclid(SECOND), nanos }
}

fn observation(event: &FlowEvent) -> TraceObservationPoint {
    use TraceObservationPoint as At;
    // The packet left the local end, or came to it.
    let leaves = (event.side() == Side::Server) == event.reply;
    match (event.point(), leaves) {
        (Point::Tunnel, true) => At::ToOverlay,
        (Point::Tunnel, false) => At::FromOverlay,
        (Point::Uplink, true) => At::ToNetwork,
        (Point::Uplink, false) => At::FromNetwork,
        (_, true) => At::FromEndpoint,
        (_, false) => At::ToEndpoint,
    }
}

fn endpoint(end: &End, cluster: &str) -> Endpoint {
    let reserved = |index: usize| {
        let (identity, label) = RESERVED[index];
        Endpoint { identity, labels: vec![label.to_owned()], ..Endpoint::default() }
    };
    match &end.owner {
        Owner::Pod(_) => {
            let namespace = end.namespace.as_deref().unwrap_or_default();
            Endpoint {
                namespace: namespace.to_owned(),
                labels: vec![
                    format!("k8s:io.cilium.k8s.policy.cluster={cluster}"),
                    format!("k8s:io.kubernetes.pod.namespace={namespace}"),
                ],
                pod_name: end.name.as_deref().unwrap_or_default().to_owned(),
                workloads: end
                    .workload
                    .iter()
                    .map(|(kind, name)| Workload { name: name.to_string(), kind: kind.to_string() })
                    .collect(),
                cluster_name: cluster.to_owned(),
                ..Endpoint::default()
            }
        }
        Owner::Node(_) if end.here => reserved(0),
        Owner::Node(_) => reserved(2),
        Owner::External(_) => reserved(1),
        Owner::Service(_) => Endpoint { cluster_name: cluster.to_owned(), ..Endpoint::default() },
    }
}

fn service(end: &End) -> Option<Service> {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    matches!(end.owner, Owner::Service(_)).then(|| Service { name: text(&end.name), namespace: text(&end.namespace) })
}

fn layer4(event: &FlowEvent) -> Option<Layer4> {
    let (source_port, destination_port) = (event.source_port, event.destination_port);
    // The request's type stands at the server's end; a reply has another.
    let (v4_type, v6_type) = if event.reply { (0, 129) } else { (8, 128) };
    let protocol = match event.protocol {
        6 => Protocol::Tcp(Tcp { source_port, destination_port, flags: tcp_flags(event.tcp_flags) }),
        17 => Protocol::Udp(Udp { source_port, destination_port }),
        132 => Protocol::Sctp(Sctp { source_port, destination_port, ..Sctp::default() }),
        1 if source_port != destination_port => Protocol::IcmPv4(IcmPv4 { r#type: v4_type, code: 0 }),
        58 if source_port != destination_port => Protocol::IcmPv6(IcmPv6 { r#type: v6_type, code: 0 }),
        _ => return None,
    };
    Some(Layer4 { protocol: Some(protocol) })
}

fn tcp_flags(bits: u32) -> Option<TcpFlags> {
    let [fin, syn, rst, ack] = FLAGS.map(|bit| bits & bit != 0);
    (bits != 0).then(|| TcpFlags { fin, syn, rst, ack, ..TcpFlags::default() })
}

fn layer7(event: &FlowEvent, dns: &FlowDns) -> Layer7 {
    let answer = event.kind() == FlowEventKind::DnsAnswer;
    let address = |octets: &Vec<u8>| {
        let v4 = <[u8; 4]>::try_from(octets.as_slice()).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(octets.as_slice()).map(IpAddr::from)).ok()
    };
    let ips: Vec<IpAddr> = dns.addresses.iter().filter_map(address).collect();
    let rr_type = |ip: &IpAddr| if ip.is_ipv4() { "A" } else { "AAAA" };
    let mut rr_types: Vec<_> = ips.iter().map(|ip| rr_type(ip).to_owned()).collect();
    rr_types.dedup();
    let record = Dns {
        // Absolute names, as Hubble tells them; none where the agents cut names off.
        query: if dns.name.is_empty() { String::new() } else { format!("{}.", dns.name) },
        ips: ips.iter().map(ToString::to_string).collect(),
        ttl: dns.ttl_s,
        observation_source: "orrery".to_owned(),
        rcode: dns.rcode,
        qtypes: vec![type_name(dns.r#type)],
        rrtypes: rr_types,
        ..Dns::default()
    };
    Layer7 {
        r#type: if answer { L7FlowType::Response } else { L7FlowType::Request }.into(),
        latency_ns: dns.latency_us.saturating_mul(1_000),
        record: Some(Record::Dns(record)),
    }
}

/// The name of an RR type (IANA's registry), for those that are asked for; else as in RFC 3597 §5.
fn type_name(number: u32) -> String {
    let known = [
        (1, "A"),
        (2, "NS"),
        (5, "CNAME"),
        (6, "SOA"),
        (12, "PTR"),
        (15, "MX"),
        (16, "TXT"),
        (28, "AAAA"),
        (33, "SRV"),
        (35, "NAPTR"),
        (64, "SVCB"),
        (65, "HTTPS"),
        (255, "ANY"),
    ];
    let name = known.into_iter().find(|(known, _)| *known == number);
    name.map_or_else(|| format!("TYPE{number}"), |(_, name)| name.to_owned())
}

/// Hubble's nearest word for a reason of the kernel's, where there is one; the kernel's own word is in the extensions.
fn drop_reason(reason: &str) -> DropReason {
    match reason {
        "netfilter_drop" | "tc_ingress" | "tc_egress" | "socket_filter" | "bpf_cgroup_egress" | "xfrm_policy" => {
            DropReason::PolicyDenied
        }
        "ip_outnoroutes" | "ip_noroute" | "ip_rpfilter" | "ipv6_no_route" => DropReason::FibLookupFailed,
        "neigh_failed" | "neigh_queuefull" | "neigh_dead" | "neigh_createfail" => DropReason::UnknownL3TargetAddress,
        "no_socket" => DropReason::NoMatchingLocalContainerFound,
        "ip_ttl" | "icmp_ttl" | "ttl_exceeded" => DropReason::TtlExceeded,
        "qdisc_drop" | "qdisc_overlimit" | "full_ring" | "cpu_backlog" => DropReason::DropRateLimited,
        "pkt_too_small" | "ip_inhdr" | "hdr_trunc" | "tcp_csum" | "udp_csum" | "ip_csum" | "skb_csum" => {
            DropReason::InvalidPacketDropped
        }
        _ => DropReason::Unknown,
    }
}

/// What has no field of its own. `bytes`, `drop_reason`, `dns_type`, `num_responses` and `previously_observed_*` are
/// others' keys.
fn extensions(event: &FlowEvent) -> Option<Any> {
    let mut fields = BTreeMap::new();
    let mut number = |key: &str, value: u64| {
        if value != 0 {
            fields.insert(key.to_owned(), Value { kind: Some(Kind::NumberValue(value as f64)) });
        }
    };
    number("bytes", event.l3_bytes);
    number("packets", event.segments);
    number("previously_observed_packets", event.flow_segments);
    number("previously_observed_bytes", event.flow_bytes);
    number("rtt_us", event.rtt_us);
    number("retransmits", event.retransmitted);
    if event.kind() == FlowEventKind::DnsAnswer {
        number("num_responses", event.dns.as_ref().map_or(0, |dns| dns.addresses.len() as u64));
    }
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            fields.insert(key.to_owned(), Value { kind: Some(Kind::StringValue(value.to_owned())) });
        }
    };
    text("drop_reason", &event.reason);
    text("drop_by", &event.by);
    match event.kind() {
        FlowEventKind::DnsQuery => text("dns_type", "QUERY"),
        FlowEventKind::DnsAnswer => text("dns_type", "RESPONSE"),
        _ => {}
    }
    text("opened_by", if event.guessed { "guess" } else { "" });
    let value = Struct { fields };
    (!value.fields.is_empty()).then(|| Any { type_url: STRUCT.to_owned(), value: value.encode_to_vec() })
}

#[cfg(test)]
mod tests;
