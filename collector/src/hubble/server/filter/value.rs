//! Values of filters, as the client's arguments write them.

use std::net::IpAddr;

use crate::hubble::{
    proto::flow::{Flow, layer4::Protocol, layer7::Record},
    server::flow,
};

/// `namespace/prefix`; without a namespace it is `default`, with an empty one any.
pub(super) struct Named {
    namespace: String,
    prefix: String,
}

impl Named {
    pub(super) fn fits(&self, namespace: &str, name: &str) -> bool {
        let some = !namespace.is_empty() || !name.is_empty();
        some && (self.namespace.is_empty() || self.namespace == namespace) && name.starts_with(&self.prefix)
    }
}

pub(super) fn named(text: &str) -> Result<Named, String> {
    match text.split_once('/') {
        Some((namespace, prefix)) => Ok(Named { namespace: namespace.to_owned(), prefix: prefix.to_owned() }),
        None if text.is_empty() => Err("an empty name; hint: [namespace/][prefix of the name]".to_owned()),
        None => Ok(Named { namespace: "default".to_owned(), prefix: text.to_owned() }),
    }
}

/// An address, or a network as in CIDR.
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let prefix = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()).checked_shr(32 - self.bits).unwrap_or(0),
            IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - self.bits).unwrap_or(0),
        };
        address.is_ipv4() == self.address.is_ipv4() && prefix(address) == prefix(self.address)
    }
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    let wrong = || format!("{text} is no address and no network; hint: 10.1.2.3 or 10.1.0.0/16");
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
    if bits > most { Err(wrong()) } else { Ok(Network { address, bits }) }
}

pub(super) fn pattern(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('.').to_lowercase();
    if text.is_empty() { Err("an empty pattern".to_owned()) } else { Ok(text) }
}

/// Whether a text is like a pattern in lower case, in which `*` stands for anything.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// A label that flows here can have: a reserved one, or the pod's namespace or cluster.
pub(super) struct Label {
    key: String,
    value: Option<String>,
}

impl Label {
    pub(super) fn fits(&self, label: &str) -> bool {
        let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
        key == self.key && (self.value.is_none() || self.value.as_deref() == value)
    }
}

pub(super) fn known_label(text: &str) -> Result<Label, String> {
    const KEPT: [&str; 2] = ["k8s:io.kubernetes.pod.namespace", "k8s:io.cilium.k8s.policy.cluster"];
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
    let simple = !text.contains([' ', '!', '(', ',']);
    let key = if key.contains(':') { key.to_owned() } else { format!("k8s:{key}") };
    if simple && (KEPT.contains(&key.as_str()) || key.starts_with("reserved:")) {
        return Ok(Label { key, value });
    }
    Err(format!(
        "{text}: labels of pods are not kept; hint: reserved:world, k8s:io.kubernetes.pod.namespace=…, or --pod and --workload"
    ))
}

/// Of identities only Hubble's reserved ones for the host, the world and other nodes are known.
pub(super) fn reserved(number: u32) -> Result<u32, String> {
    if flow::RESERVED.iter().any(|(reserved, _)| *reserved == number) {
        return Ok(number);
    }
    Err(format!("{number}: security identities are Cilium's; here are 1 (host), 2 (world) and 6 (remote-node)"))
}

pub(super) enum Wanted {
    Numbers(Vec<u32>),
    Dns,
    Http,
}

impl Wanted {
    pub(super) fn fits(&self, flow: &Flow) -> bool {
        match self {
            Self::Dns => flow.l7.as_ref().is_some_and(|l7| matches!(l7.record, Some(Record::Dns(_)))),
            Self::Http => flow.l7.as_ref().is_some_and(|l7| matches!(l7.record, Some(Record::Http(_)))),
            Self::Numbers(numbers) => {
                let held = match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
                    Some(Protocol::Tcp(_)) => 6,
                    Some(Protocol::Udp(_)) => 17,
                    Some(Protocol::Sctp(_)) => 132,
                    Some(Protocol::IcmPv4(_)) => 1,
                    Some(Protocol::IcmPv6(_)) => 58,
                    None => return false,
                };
                numbers.contains(&held)
            }
        }
    }
}

pub(super) fn protocol(name: &str) -> Result<Wanted, String> {
    match protocol_numbers(name) {
        Some(numbers) => Ok(Wanted::Numbers(numbers)),
        None if name.eq_ignore_ascii_case("dns") => Ok(Wanted::Dns),
        None if name.eq_ignore_ascii_case("http") => Ok(Wanted::Http),
        None => Err(format!("{name} is no protocol; hint: tcp, udp, sctp, icmp, icmpv4, icmpv6, dns or http")),
    }
}

pub(super) fn protocol_numbers(name: &str) -> Option<Vec<u32>> {
    Some(match name.to_ascii_lowercase().as_str() {
        "tcp" => vec![6],
        "udp" => vec![17],
        "sctp" => vec![132],
        "icmp" => vec![1, 58],
        "icmpv4" => vec![1],
        "icmpv6" => vec![58],
        _ => return None,
    })
}
