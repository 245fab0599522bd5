//! Flows as `hubble observe` prints them, one line each. Pure; times are UTC.

use std::net::IpAddr;

use prost_types::Timestamp;

use super::{
    proto::{
        flow::{
            Endpoint, Flow, Layer4, LostEvent, LostEventSource, Service, SocketTranslationPoint, TraceObservationPoint,
            TrafficDirection, Verdict, layer4::Protocol, layer7::Record,
        },
        observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
        relay::{NodeState, NodeStatusEvent},
    },
    text,
};

/// `event_type.type` of a drop.
pub const EVENT_DROP: i32 = 1;
/// `event_type.type` of a captured packet.
const EVENT_CAPTURE: i32 = 3;
/// `event_type.type` of a traced packet.
pub const EVENT_TRACE: i32 = 4;
/// `event_type.type` of a policy's verdict.
pub const EVENT_POLICY: i32 = 5;
/// `event_type.type` of a socket's translation.
pub const EVENT_SOCKET: i32 = 7;

/// A response in one line, without its end; `None` where it holds nothing.
#[must_use]
pub fn compact(response: &GetFlowsResponse, with_node: bool) -> Option<String> {
    Some(match response.response_types.as_ref()? {
        ResponseTypes::Flow(flow) => flow_line(flow, with_node),
        ResponseTypes::NodeStatus(status) => status_line(status, response.time.as_ref()),
        ResponseTypes::LostEvents(lost) => lost_line(lost, &response.node_name),
    })
}

fn flow_line(flow: &Flow, with_node: bool) -> String {
    let time = time(flow.time.as_ref());
    let node = if with_node { format!(" [{}]", flow.node_name) } else { String::new() };
    let ip = flow.ip.as_ref();
    let [source_port, destination_port] = ports(flow.l4.as_ref());
    let address = |pick: fn(&super::proto::flow::Ip) -> &String| ip.map_or("", |ip| pick(ip).as_str());
    let mut source = end(
        address(|ip| &ip.source),
        source_port,
        flow.source.as_ref(),
        flow.source_service.as_ref(),
        &flow.source_names,
    );
    let mut destination = end(
        address(|ip| &ip.destination),
        destination_port,
        flow.destination.as_ref(),
        flow.destination_service.as_ref(),
        &flow.destination_names,
    );
    let arrow = match flow.is_reply {
        None => "<>",
        Some(false) => "->",
        Some(true) => {
            std::mem::swap(&mut source, &mut destination);
            "<-"
        }
    };
    let summary = if flow.summary.is_empty() { text::summary(flow) } else { flow.summary.clone() };
    format!("{time}{node}: {source} {arrow} {destination} {} {} ({summary})", kind(flow), verdict(flow))
}

/// A time as `hubble observe` has it: `Nov 21 02:12:44.403`.
#[must_use]
pub fn time(time: Option<&Timestamp>) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Some(time) = time else { return "N/A".to_owned() };
    // RFC 3339, in UTC.
    let text = Timestamp { seconds: time.seconds, nanos: 0 }.to_string();
    let parts = text.split_once('T').and_then(|(date, clock)| {
        let (month, day) = date.rsplit_once('-').and_then(|(date, day)| Some((date.rsplit_once('-')?.1, day)))?;
        let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some((month, day.parse::<u8>().ok()?, clock.get(..8)?))
    });
    let Some((month, day, clock)) = parts else { return text };
    format!("{month} {day:>2} {clock}.{:03}", time.nanos.clamp(0, 999_999_999) / 1_000_000)
}

/// Ports of both ends, 0 where there is none.
#[must_use]
pub fn ports(l4: Option<&Layer4>) -> [u32; 2] {
    match l4.and_then(|l4| l4.protocol.as_ref()) {
        Some(Protocol::Tcp(tcp)) => [tcp.source_port, tcp.destination_port],
        Some(Protocol::Udp(udp)) => [udp.source_port, udp.destination_port],
        Some(Protocol::Sctp(sctp)) => [sctp.source_port, sctp.destination_port],
        _ => [0, 0],
    }
}

fn end(ip: &str, port: u32, who: Option<&Endpoint>, service: Option<&Service>, names: &[String]) -> String {
    let named = |namespace: &str, name: &str| {
        if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
    };
    let pod = who.filter(|who| !who.pod_name.is_empty()).map(|who| named(&who.namespace, &who.pod_name));
    let service = service.filter(|service| !service.name.is_empty());
    let host = pod
        .or_else(|| service.map(|service| named(&service.namespace, &service.name)))
        .or_else(|| (!names.is_empty()).then(|| names.join(",")))
        .unwrap_or_else(|| ip.to_owned());
    let bracket = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    let host = match port {
        0 => host,
        port if bracket => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    };
    let identity = who.map_or(0, |who| who.identity);
    match text::reserved_identity(identity) {
        Some(name) => format!("{host} ({name})"),
        None => format!("{host} (ID:{identity})"),
    }
}

/// What kind of observation it was.
fn kind(flow: &Flow) -> String {
    if let Some(l7) = &flow.l7 {
        let protocol = match &l7.record {
            Some(Record::Dns(_)) => "dns",
            Some(Record::Http(_)) => "http",
            None => "l7",
        };
        let proxy = match &l7.record {
            Some(Record::Dns(dns)) if !dns.observation_source.is_empty() => format!(" {}", dns.observation_source),
            _ => String::new(),
        };
        return format!("{protocol}-{}{proxy}", l7.r#type().as_str_name().to_ascii_lowercase());
    }
    let event = flow.event_type.unwrap_or_default();
    match event.r#type {
        EVENT_DROP => text::drop_reason(flow.drop_reason_desc),
        EVENT_CAPTURE => dashed(flow.debug_capture_point().as_str_name(), "DBG_CAPTURE_"),
        EVENT_TRACE => match TraceObservationPoint::try_from(flow.trace_observation_point) {
            Ok(TraceObservationPoint::UnknownPoint) => trace_point(event.sub_type),
            Ok(point) => dashed(point.as_str_name(), ""),
            Err(_) => flow.trace_observation_point.to_string(),
        },
        EVENT_POLICY => {
            let direction = match flow.traffic_direction() {
                TrafficDirection::Unknown => "UNKNOWN",
                direction => direction.as_str_name(),
            };
            format!("policy-verdict:{} {direction}", policy_match(flow.policy_match_type))
        }
        EVENT_SOCKET => match SocketTranslationPoint::try_from(flow.sock_xlate_point) {
            Ok(SocketTranslationPoint::SockXlatePointPreDirectionFwd) => "pre-xlate-fwd".to_owned(),
            Ok(SocketTranslationPoint::SockXlatePointPostDirectionFwd) => "post-xlate-fwd".to_owned(),
            Ok(SocketTranslationPoint::SockXlatePointPreDirectionRev) => "pre-xlate-rev".to_owned(),
            Ok(SocketTranslationPoint::SockXlatePointPostDirectionRev) => "post-xlate-rev".to_owned(),
            _ => flow.sock_xlate_point.to_string(),
        },
        _ => "UNKNOWN".to_owned(),
    }
}

/// A traced packet of an old server: the sub-type is the point, but for the first, which the enumeration has last.
fn trace_point(sub_type: i32) -> String {
    match TraceObservationPoint::try_from(if sub_type == 0 { 101 } else { sub_type }) {
        Ok(point) => dashed(point.as_str_name(), ""),
        Err(_) => sub_type.to_string(),
    }
}

fn dashed(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

fn policy_match(kind: u32) -> String {
    match kind {
        0 => "none",
        1 => "L3-Only",
        2 => "L3-L4",
        3 => "L4-Only",
        4 => "all",
        5 => "L3-Proto",
        6 => "Proto-Only",
        other => return other.to_string(),
    }
    .to_owned()
}

fn verdict(flow: &Flow) -> String {
    let policy = flow.event_type.is_some_and(|event| event.r#type == EVENT_POLICY);
    match Verdict::try_from(flow.verdict) {
        Ok(Verdict::Forwarded | Verdict::Redirected) if policy => "ALLOWED".to_owned(),
        Ok(Verdict::Dropped | Verdict::Error) if policy => "DENIED".to_owned(),
        Ok(Verdict::Audit) if policy => "AUDITED".to_owned(),
        Ok(verdict) => verdict.as_str_name().to_owned(),
        Err(_) => flow.verdict.to_string(),
    }
}

fn status_line(status: &NodeStatusEvent, at: Option<&Timestamp>) -> String {
    let state = NodeState::try_from(status.state_change);
    let state = state.map_or_else(|_| status.state_change.to_string(), |state| state.as_str_name().to_owned());
    let message = if status.message.is_empty() { String::new() } else { format!(" ({})", status.message) };
    format!("{}: {state}: {}{message}", time(at), status.node_names.join(", "))
}

fn lost_line(lost: &LostEvent, node: &str) -> String {
    let source = LostEventSource::try_from(lost.source);
    let source = source.map_or_else(|_| lost.source.to_string(), |source| source.as_str_name().to_owned());
    let cpu = lost.cpu.map_or_else(String::new, |cpu| format!(" CPU({cpu})"));
    let node = if node.is_empty() { String::new() } else { format!(" [{node}]") };
    format!("EVENTS LOST:{node} {source}{cpu} {}", lost.num_events_lost)
}
