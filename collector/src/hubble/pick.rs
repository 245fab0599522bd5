//! Which flows are meant: the filters of Hubble's API, as far as `observe` makes them, for flows that come from a file.
//! Pure.

use std::net::IpAddr;

use super::{
    print,
    proto::flow::{Endpoint, Flow, FlowFilter, Layer4, layer4::Protocol, layer7::Record},
};

/// A flow passes that fits one of `white`, where there are any, and none of `black`.
#[must_use]
pub fn passes(flow: &Flow, white: &[FlowFilter], black: &[FlowFilter]) -> bool {
    (white.is_empty() || white.iter().any(|filter| fits(flow, filter)))
        && !black.iter().any(|filter| fits(flow, filter))
}

/// Whether all fields that are set fit; of a field with several values, one must.
fn fits(flow: &Flow, filter: &FlowFilter) -> bool {
    let ip = flow.ip.as_ref();
    let [source, destination] = [ip.map_or("", |ip| &ip.source), ip.map_or("", |ip| &ip.destination)];
    let ports = print::ports(flow.l4.as_ref());
    let any =
        |values: &[String], fits: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|value| fits(value));
    let port = |port: u32| move |value: &str| value.parse() == Ok(port) && port != 0;
    any(&filter.source_ip, &|value| in_network(source, value))
        && any(&filter.destination_ip, &|value| in_network(destination, value))
        && any(&filter.source_pod, &|value| is_pod(flow.source.as_ref(), value))
        && any(&filter.destination_pod, &|value| is_pod(flow.destination.as_ref(), value))
        && any(&filter.source_port, &port(ports[0]))
        && any(&filter.destination_port, &port(ports[1]))
        && any(&filter.protocol, &|value| is_protocol(flow, value))
        && any(&filter.node_name, &|value| glob(value.as_bytes(), flow.node_name.as_bytes()))
        && (filter.verdict.is_empty() || filter.verdict.contains(&flow.verdict))
}

/// `ADDRESS` or `ADDRESS/BITS`.
fn in_network(address: &str, network: &str) -> bool {
    let (base, bits) = network.split_once('/').map_or((network, None), |(base, bits)| (base, Some(bits)));
    let (Ok(address), Ok(base)) = (address.parse::<IpAddr>(), base.parse::<IpAddr>()) else { return false };
    let all = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, width), (base, of)) = (all(address), all(base));
    let bits = bits.map_or(Some(width), |bits| bits.parse().ok().filter(|bits| *bits <= width));
    width == of && bits.is_some_and(|bits: u32| bits == 0 || (address ^ base) >> (128 - bits) == 0)
}

/// `NAMESPACE/PREFIX`, `NAMESPACE/` or `PREFIX` of any namespace.
fn is_pod(end: Option<&Endpoint>, value: &str) -> bool {
    let Some(end) = end else { return false };
    match value.split_once('/') {
        Some((namespace, prefix)) => end.namespace == namespace && end.pod_name.starts_with(prefix),
        None => !end.pod_name.is_empty() && end.pod_name.starts_with(value),
    }
}

fn is_protocol(flow: &Flow, value: &str) -> bool {
    let l4 = flow.l4.as_ref().and_then(|Layer4 { protocol }| protocol.as_ref());
    let record = flow.l7.as_ref().and_then(|l7| l7.record.as_ref());
    match value.to_ascii_lowercase().as_str() {
        "tcp" => matches!(l4, Some(Protocol::Tcp(_))),
        "udp" => matches!(l4, Some(Protocol::Udp(_))),
        "sctp" => matches!(l4, Some(Protocol::Sctp(_))),
        "icmp" => matches!(l4, Some(Protocol::IcmPv4(_) | Protocol::IcmPv6(_))),
        "icmpv4" => matches!(l4, Some(Protocol::IcmPv4(_))),
        "icmpv6" => matches!(l4, Some(Protocol::IcmPv6(_))),
        "dns" => matches!(record, Some(Record::Dns(_))),
        "http" => matches!(record, Some(Record::Http(_))),
        _ => false,
    }
}

/// `*` stands for any text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        Some((letter, rest)) => text.first() == Some(letter) && glob(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::{glob, in_network};

    #[test]
    fn networks_hold_their_addresses() {
        for (address, network, expected) in [
            ("10.0.1.7", "10.0.1.7", true),
            ("10.0.1.8", "10.0.1.7", false),
            ("10.0.1.8", "10.0.0.0/8", true),
            ("11.0.1.8", "10.0.0.0/8", false),
            ("11.0.1.8", "0.0.0.0/0", true),
            ("fd00::1", "fd00::/64", true),
            ("fd00:1::1", "fd00::/64", false),
            ("10.0.1.8", "fd00::/0", false),
            ("10.0.1.8", "10.0.0.0/33", false),
            ("", "10.0.0.0/8", false),
            ("10.0.1.8", "x", false),
        ] {
            assert_eq!(in_network(address, network), expected, "{address} in {network}");
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in
            [("n1", "n1", true), ("n*", "n1", true), ("*", "", true), ("*1", "n12", false), ("k*/n*", "kind/n1", true)]
        {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
