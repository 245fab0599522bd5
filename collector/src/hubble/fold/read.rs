//! One flow, as far as a fold looks at it.

use std::{net::IpAddr, sync::Arc};

use super::edge::{End, Key, is_pods};
use crate::{
    hubble::{
        print::EVENT_POLICY,
        proto::flow::{
            DropReason, Endpoint, Flow, FlowType, Policy, Service, SocketTranslationPoint, TcpFlags,
            TraceObservationPoint, Verdict, layer4::Protocol,
        },
    },
    time::{Ns, SECOND},
};

/// What a flow is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Of an edge.
    Packet(Packet),
    /// A socket's translation, before or after it.
    Socket(Packet),
    /// How hosts find each other.
    Neighbours,
    /// No two addresses, or no protocol.
    Unreadable,
}

/// An observation of a packet, client first where that is known.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) time: Ns,
    pub(super) node: Arc<str>,
    pub(super) ends: [End; 2],
    pub(super) addresses: [IpAddr; 2],
    pub(super) ports: [u16; 2],
    pub(super) protocol: u8,
    pub(super) tcp: bool,
    /// The end is the node that told of it.
    pub(super) host: [bool; 2],
    /// The service that has the end's address, as `NAMESPACE/NAME`.
    pub(super) services: [Option<Arc<str>>; 2],
    /// The source's identity.
    pub(super) identity: u32,
    /// The identity of the pod in whose name a node sent it.
    pub(super) masqueraded: Option<u32>,
    /// It was turned round: source and destination are server and client.
    pub(super) turned: bool,
    /// Which way it went is known.
    pub(super) certain: bool,
    /// The first packet of a connection.
    pub(super) begins: bool,
    /// The last one, or nearly so.
    pub(super) ends_it: bool,
    /// An ICMP error.
    pub(super) error: bool,
    pub(super) dropped: Option<bool>,
    pub(super) policy_verdict: bool,
    pub(super) reason: String,
    pub(super) policies: Vec<String>,
    pub(super) aggregated: bool,
}

impl Packet {
    pub(super) fn key(&self) -> Key {
        let [client, server] = self.ends.clone();
        Key { client, server, port: self.ports[1], protocol: self.protocol }
    }

    pub(super) fn turn(&mut self) {
        self.ends.reverse();
        self.addresses.reverse();
        self.ports.reverse();
        self.host.reverse();
        self.services.reverse();
        self.turned = !self.turned;
        self.begins = false;
    }
}

/// What a protocol's header says.
struct Header {
    number: u8,
    ports: [u32; 2],
    /// `Some(true)`: an answer.
    answers: Option<bool>,
    begins: bool,
    ends: bool,
    error: bool,
}

fn header(protocol: &Protocol) -> Header {
    let plain = |number, ports| Header { number, ports, answers: None, begins: true, ends: false, error: false };
    match protocol {
        Protocol::Tcp(tcp) => {
            let TcpFlags { fin, syn, rst, ack, .. } = tcp.flags.unwrap_or_default();
            let answers = syn.then_some(ack);
            let header = plain(6, [tcp.source_port, tcp.destination_port]);
            Header { answers, begins: syn && !ack, ends: fin || rst, ..header }
        }
        Protocol::Udp(udp) => plain(17, [udp.source_port, udp.destination_port]),
        Protocol::Sctp(sctp) => plain(132, [sctp.source_port, sctp.destination_port]),
        Protocol::IcmPv4(icmp) => Header {
            answers: match icmp.r#type {
                8 => Some(false),
                0 => Some(true),
                _ => None,
            },
            error: matches!(icmp.r#type, 3 | 4 | 5 | 11 | 12),
            ..plain(1, [0, 0])
        },
        Protocol::IcmPv6(icmp) => Header {
            answers: match icmp.r#type {
                128 => Some(false),
                129 => Some(true),
                _ => None,
            },
            error: (1..=4).contains(&icmp.r#type),
            ..plain(58, [0, 0])
        },
    }
}

/// Reads a flow. Its node is not in it yet: the stream may name it beside.
pub(super) fn packet(flow: &Flow) -> Kind {
    let addresses = flow.ip.as_ref().and_then(|ip| Some([ip.source.parse().ok()?, ip.destination.parse().ok()?]));
    let protocol = flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref());
    let (Some(addresses), Some(protocol)) = (addresses, protocol) else { return Kind::Unreadable };
    let addresses: [IpAddr; 2] = addresses;
    if is_neighbours(protocol) {
        return Kind::Neighbours;
    }
    let header = header(protocol);
    let [Ok(from), Ok(to)] = header.ports.map(u16::try_from) else { return Kind::Unreadable };
    let who = [flow.source.as_ref(), flow.destination.as_ref()];
    let identity = flow.source.as_ref().map_or(0, |source| source.identity);
    let at = TraceObservationPoint::try_from(flow.trace_observation_point);
    let unnamed = flow.source.as_ref().is_none_or(|source| source.pod_name.is_empty());
    let masqueraded = at == Ok(TraceObservationPoint::ToNetwork) && unnamed && is_pods(identity);
    let event = flow.event_type.unwrap_or_default();
    // A drop knows no direction, and says so by leaving it out; what a packet is in itself comes before that.
    let answers = flow.is_reply.or(header.answers);
    let mut packet = Packet {
        time: time(flow),
        node: "".into(),
        ends: [end(who[0], addresses[0]), end(who[1], addresses[1])],
        addresses,
        ports: [from, to],
        protocol: header.number,
        tcp: header.number == 6,
        services: [flow.source_service.as_ref(), flow.destination_service.as_ref()].map(service),
        host: who.map(|who| who.is_some_and(|who| who.identity == 1)),
        identity,
        masqueraded: masqueraded.then_some(identity),
        turned: false,
        certain: answers.is_some(),
        begins: header.begins,
        ends_it: header.ends,
        error: header.error,
        dropped: match Verdict::try_from(flow.verdict) {
            Ok(Verdict::Dropped | Verdict::Error) => Some(true),
            Ok(Verdict::Forwarded | Verdict::Redirected | Verdict::Audit) => Some(false),
            _ => None,
        },
        policy_verdict: event.r#type == EVENT_POLICY,
        reason: reason(flow),
        policies: policies(flow),
        aggregated: flow.aggregate.is_some(),
    };
    if !packet.error && answers == Some(true) {
        packet.turn();
    }
    if flow.r#type() == FlowType::Sock { Kind::Socket(packet) } else { Kind::Packet(packet) }
}

fn service(service: Option<&Service>) -> Option<Arc<str>> {
    let service = service.filter(|service| !service.name.is_empty())?;
    Some(format!("{}/{}", service.namespace, service.name).into())
}

/// Whether a socket's event is of the time after its translation.
pub(super) fn translated(flow: &Flow) -> bool {
    flow.sock_xlate_point() == SocketTranslationPoint::SockXlatePointPostDirectionFwd
}

fn end(who: Option<&Endpoint>, address: IpAddr) -> End {
    match who {
        Some(who) if !who.pod_name.is_empty() => End::Pod(format!("{}/{}", who.namespace, who.pod_name).into()),
        _ => End::Address(address),
    }
}

/// Router and neighbour discovery (RFC 4861), multicast listeners (RFC 2710, RFC 3810).
fn is_neighbours(protocol: &Protocol) -> bool {
    matches!(protocol, Protocol::IcmPv6(icmp) if matches!(icmp.r#type, 130..=137 | 143))
}

fn time(flow: &Flow) -> Ns {
    let time = flow.time.unwrap_or_default();
    time.seconds.saturating_mul(SECOND).saturating_add(i64::from(time.nanos))
}

fn reason(flow: &Flow) -> String {
    match DropReason::try_from(flow.drop_reason_desc) {
        Ok(DropReason::Unknown) if flow.drop_reason != 0 => flow.drop_reason.to_string(),
        Ok(reason) => reason.as_str_name().to_owned(),
        Err(_) => flow.drop_reason_desc.to_string(),
    }
}

fn policies(flow: &Flow) -> Vec<String> {
    let all = [&flow.egress_denied_by, &flow.ingress_denied_by, &flow.egress_allowed_by, &flow.ingress_allowed_by];
    let name = |policy: &Policy| {
        if policy.namespace.is_empty() { policy.name.clone() } else { format!("{}/{}", policy.namespace, policy.name) }
    };
    all.into_iter().flatten().map(name).collect()
}
