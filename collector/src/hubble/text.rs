//! Words for what Hubble's flows hold in numbers: who an identity is, what a packet was, why it was dropped. Pure.

use super::proto::flow::{DropReason, Flow, L7FlowType, Layer4, Layer7, TcpFlags, layer4::Protocol, layer7::Record};

/// The name of a reserved identity, which is no pod's.
#[must_use]
pub const fn reserved_identity(identity: u32) -> Option<&'static str> {
    Some(match identity {
        0 => "unknown",
        1 => "host",
        2 => "world",
        3 => "unmanaged",
        4 => "health",
        5 => "init",
        6 => "remote-node",
        7 => "kube-apiserver",
        8 => "ingress",
        9 => "world-ipv4",
        10 => "world-ipv6",
        11 => "overlay-to-host",
        _ => return None,
    })
}

/// What a flow's line says in brackets.
#[must_use]
pub fn summary(flow: &Flow) -> String {
    match (&flow.l7, &flow.l4) {
        (Some(Layer7 { record: Some(record), latency_ns, r#type, .. }), _) => {
            let reply = flow.is_reply == Some(true) || *r#type == i32::from(L7FlowType::Response);
            l7(record, *latency_ns, reply)
        }
        (_, Some(Layer4 { protocol: Some(protocol) })) => l4(protocol),
        _ => String::new(),
    }
}

fn l7(record: &Record, latency_ns: u64, reply: bool) -> String {
    match record {
        Record::Dns(dns) => {
            let types = dns.qtypes.join(",");
            let source = if dns.observation_source == "proxy" { "Proxy " } else { "" };
            let query = format!("{source}{} {types}", dns.query);
            if !reply {
                return format!("DNS Query {} {types}", dns.query);
            }
            let mut answer = Vec::new();
            if dns.rcode != 0 {
                answer.push(format!("RCode: {}", rcode(dns.rcode)));
            } else {
                answer.extend((!dns.ips.is_empty()).then(|| format!("{:?}", dns.ips.join(","))));
                answer.extend((!dns.cnames.is_empty()).then(|| format!("CNAMEs: {:?}", dns.cnames.join(","))));
            }
            answer.push(format!("TTL: {} ({query})", dns.ttl));
            format!("DNS Answer {}", answer.join(" "))
        }
        Record::Http(http) if reply => {
            let ms = latency_ns / 1_000_000;
            format!("{} {} {ms}ms ({} {})", http.protocol, http.code, http.method, http.url)
        }
        Record::Http(http) => format!("{} {} {}", http.protocol, http.method, http.url),
    }
}

/// The response codes of RFC 1035 in words, as DNS servers log them.
fn rcode(rcode: u32) -> String {
    match rcode {
        1 => "Format Error",
        2 => "Server Failure",
        3 => "Non-Existent Domain",
        4 => "Not Implemented",
        5 => "Query Refused",
        other => return other.to_string(),
    }
    .to_owned()
}

fn l4(protocol: &Protocol) -> String {
    match protocol {
        Protocol::Tcp(tcp) => match tcp.flags.as_ref().map(flags) {
            Some(flags) if !flags.is_empty() => format!("TCP Flags: {flags}"),
            _ => "TCP".to_owned(),
        },
        Protocol::Udp(_) => "UDP".to_owned(),
        Protocol::Sctp(_) => "SCTP".to_owned(),
        Protocol::IcmPv4(icmp) => format!("ICMPv4 {}", icmpv4(icmp.r#type, icmp.code)),
        Protocol::IcmPv6(icmp) => format!("ICMPv6 {}", icmpv6(icmp.r#type, icmp.code)),
    }
}

/// The flags that are set, with commas.
#[must_use]
pub fn flags(flags: &TcpFlags) -> String {
    let all = [
        (flags.syn, "SYN"),
        (flags.ack, "ACK"),
        (flags.rst, "RST"),
        (flags.fin, "FIN"),
        (flags.psh, "PSH"),
        (flags.urg, "URG"),
        (flags.ece, "ECE"),
        (flags.cwr, "CWR"),
        (flags.ns, "NS"),
    ];
    all.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// RFC 792.
fn icmpv4(kind: u32, code: u32) -> String {
    let name = match kind {
        0 => "EchoReply",
        3 => {
            let code = match code {
                0 => "Net",
                1 => "Host",
                2 => "Protocol",
                3 => "Port",
                4 => "FragmentationNeeded",
                5 => "SourceRouteFailed",
                9 => "NetAdminProhibited",
                10 => "HostAdminProhibited",
                13 => "CommAdminProhibited",
                _ => return format!("DestinationUnreachable({code})"),
            };
            return format!("DestinationUnreachable({code})");
        }
        4 => "SourceQuench",
        5 => "Redirect",
        8 => "EchoRequest",
        9 => "RouterAdvertisement",
        10 => "RouterSolicitation",
        11 => {
            return format!(
                "TimeExceeded({})",
                if code == 0 { "TTLExceeded" } else { "FragmentReassemblyTimeExceeded" }
            );
        }
        12 => "ParameterProblem",
        13 => "TimestampRequest",
        14 => "TimestampReply",
        _ => return format!("{kind}({code})"),
    };
    name.to_owned()
}

/// RFC 4443, RFC 4861.
fn icmpv6(kind: u32, code: u32) -> String {
    let name = match kind {
        1 => return format!("DestinationUnreachable({code})"),
        2 => "PacketTooBig",
        3 => return format!("TimeExceeded({code})"),
        4 => "ParameterProblem",
        128 => "EchoRequest",
        129 => "EchoReply",
        130 => "MLDv1MulticastListenerQueryMessage",
        131 => "MLDv1MulticastListenerReportMessage",
        132 => "MLDv1MulticastListenerDoneMessage",
        133 => "RouterSolicitation",
        134 => "RouterAdvertisement",
        135 => "NeighborSolicitation",
        136 => "NeighborAdvertisement",
        137 => "Redirect",
        _ => return format!("{kind}({code})"),
    };
    name.to_owned()
}

/// A drop's reason in words: those of its name, in small letters but for what is written otherwise.
#[must_use]
pub fn drop_reason(number: i32) -> String {
    let Ok(reason) = DropReason::try_from(number) else { return number.to_string() };
    let mut text = String::new();
    for word in reason.as_str_name().split('_') {
        if !text.is_empty() {
            text.push(' ');
        }
        match word {
            "L2" | "L3" | "L4" | "IP" | "TCP" | "ACK" | "CT" | "NAT" | "SNAT" | "FIB" | "VLAN" | "VNI" | "TC"
            | "SID" | "DSR" | "TTL" | "ID" | "EDT" | "IGMP" | "LB" => text.push_str(word),
            "ICMPV4" => text.push_str("ICMPv4"),
            "ICMPV6" => text.push_str("ICMPv6"),
            "IPV6" => text.push_str("IPv6"),
            "SRV6" => text.push_str("SRv6"),
            "GENEVE" => text.push_str("Geneve"),
            _ if text.is_empty() => {
                text.push_str(&word[..1]);
                text.push_str(&word[1..].to_ascii_lowercase());
            }
            _ => text.push_str(&word.to_ascii_lowercase()),
        }
    }
    text
}
