//! Filters of a request, or of `observe` on a file: which flows pass. What cannot be answered is refused by its field's name,
//! never passed over. Pure.

mod refuse;
mod value;

use std::net::IpAddr;

use wire::{
    limits::{MAX_TERM_PARTS, MAX_TERMS},
    v1::FlowTerm,
};

use self::{
    refuse::{refuse, unseen},
    value::{known_label, like, named, network, pattern, protocol, protocol_numbers, reserved},
};
use crate::hubble::proto::flow::{
    Endpoint, Flow, FlowFilter, IpVersion, Service, TcpFlags, TrafficDirection, Verdict, layer4::Protocol,
};

/// Filters of one list at the most.
pub const MAX_FILTERS: usize = 64;
/// Values of one field of a filter at the most.
pub const MAX_VALUES: usize = 256;

/// Why a filter cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter {field} cannot be answered: {why}")]
pub struct Refused {
    /// The field, as the API calls it.
    pub field: &'static str,
    /// In words.
    pub why: String,
}

type Check = Box<dyn Fn(&Flow) -> bool + Send + Sync>;

/// What passes: one of the whitelist, if it has any, and none of the blacklist. Within a filter every field must match,
/// of a field's values any.
pub struct Filters {
    white: Vec<Vec<Check>>,
    black: Vec<Vec<Check>>,
}

impl Filters {
    /// Reads both lists, for flows of ours.
    ///
    /// # Errors
    /// When a field cannot be answered.
    pub fn new(white: &[FlowFilter], black: &[FlowFilter]) -> Result<Self, Refused> {
        white.iter().chain(black).try_for_each(unseen)?;
        Self::of_hubble(white, black)
    }

    /// The same for flows that Hubble told, which sees what we do not.
    ///
    /// # Errors
    /// As [`Filters::new`].
    pub fn of_hubble(white: &[FlowFilter], black: &[FlowFilter]) -> Result<Self, Refused> {
        let compiled = |field, list: &[FlowFilter]| {
            if list.len() > MAX_FILTERS {
                return Err(Refused { field, why: format!("more than {MAX_FILTERS} filters") });
            }
            list.iter().map(compile).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { white: compiled("whitelist", white)?, black: compiled("blacklist", black)? })
    }

    /// Everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.white.is_empty() && self.black.is_empty()
    }

    /// Whether a flow passes.
    #[must_use]
    pub fn pass(&self, flow: &Flow) -> bool {
        let fits = |filter: &Vec<Check>| filter.iter().all(|check| check(flow));
        (self.white.is_empty() || self.white.iter().any(fits)) && !self.black.iter().any(fits)
    }
}

/// What of a whitelist the agents can judge by themselves: at least what passes it. None for everything.
#[must_use]
pub fn terms(white: &[FlowFilter]) -> Vec<FlowTerm> {
    let terms: Vec<FlowTerm> = white.iter().map(term).collect();
    let useless = terms.len() > MAX_TERMS || terms.contains(&FlowTerm::default());
    if useless { Vec::new() } else { terms }
}

fn term(filter: &FlowFilter) -> FlowTerm {
    // Of two ends that must both match, one is enough to ask for.
    let one = |a: &'_ [String], b: &'_ [String]| if a.is_empty() { b.to_vec() } else { a.to_vec() };
    let few = |values: Option<Vec<u32>>| values.filter(|values| values.len() <= MAX_TERM_PARTS).unwrap_or_default();
    let ports = one(&filter.source_port, &filter.destination_port);
    let addresses = one(&filter.source_ip, &filter.destination_ip).iter().map(|text| text.parse().ok()).collect();
    let addresses: Option<Vec<IpAddr>> = addresses;
    let addresses = addresses.filter(|addresses| addresses.len() <= MAX_TERM_PARTS).unwrap_or_default();
    let numbers = filter.protocol.iter().map(|name| protocol_numbers(name)).collect::<Option<Vec<_>>>();
    FlowTerm {
        addresses: addresses.into_iter().map(octets).collect(),
        ports: few(ports.iter().map(|text| text.parse().ok()).collect()),
        protocols: few(numbers.map(|numbers| numbers.concat())),
        dropped: filter.verdict == [i32::from(Verdict::Dropped)],
        dns: matches!(&filter.protocol[..], [name] if name.eq_ignore_ascii_case("dns")),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The two ends of a flow.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Side {
    fn endpoint(self, flow: &Flow) -> Option<&Endpoint> {
        match self {
            Self::Source => flow.source.as_ref(),
            Self::Destination => flow.destination.as_ref(),
        }
    }

    fn service(self, flow: &Flow) -> Option<&Service> {
        match self {
            Self::Source => flow.source_service.as_ref(),
            Self::Destination => flow.destination_service.as_ref(),
        }
    }

    fn names(self, flow: &Flow) -> &[String] {
        match self {
            Self::Source => &flow.source_names,
            Self::Destination => &flow.destination_names,
        }
    }

    fn address(self, flow: &Flow) -> Option<IpAddr> {
        let ip = flow.ip.as_ref()?;
        match self {
            Self::Source => ip.source.parse().ok(),
            Self::Destination => ip.destination.parse().ok(),
        }
    }

    fn port(self, flow: &Flow) -> Option<u32> {
        let (source, destination) = match flow.l4.as_ref()?.protocol.as_ref()? {
            Protocol::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
            Protocol::Udp(udp) => (udp.source_port, udp.destination_port),
            Protocol::Sctp(sctp) => (sctp.source_port, sctp.destination_port),
            Protocol::IcmPv4(_) | Protocol::IcmPv6(_) => return None,
        };
        Some(match self {
            Self::Source => source,
            Self::Destination => destination,
        })
    }
}

/// Builds the checks of one filter.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    /// Adds a check unless the field is empty; `read` makes each value what `fits` compares.
    fn add<T, W: Send + Sync + 'static>(
        &mut self,
        field: &'static str,
        values: &[T],
        read: impl Fn(&T) -> Result<W, String>,
        fits: impl Fn(&W, &Flow) -> bool + Send + Sync + 'static,
    ) -> Result<(), Refused> {
        if values.is_empty() {
            return Ok(());
        }
        if values.len() > MAX_VALUES {
            return Err(Refused { field, why: format!("more than {MAX_VALUES} values") });
        }
        let wanted = values.iter().map(read).collect::<Result<Vec<W>, _>>().map_err(|why| Refused { field, why })?;
        self.0.push(Box::new(move |flow| wanted.iter().any(|wanted| fits(wanted, flow))));
        Ok(())
    }
}

fn compile(filter: &FlowFilter) -> Result<Vec<Check>, Refused> {
    refuse(filter)?;
    let f = filter;
    let mut checks = Checks::default();
    let both = [
        (Side::Source, ["source_ip", "source_pod", "source_fqdn", "source_label", "source_port"]),
        (
            Side::Destination,
            ["destination_ip", "destination_pod", "destination_fqdn", "destination_label", "destination_port"],
        ),
    ];
    let values = [
        [&f.source_ip, &f.source_pod, &f.source_fqdn, &f.source_label, &f.source_port],
        [&f.destination_ip, &f.destination_pod, &f.destination_fqdn, &f.destination_label, &f.destination_port],
    ];
    for ((side, fields), [ip, pod, fqdn, label, port]) in both.into_iter().zip(values) {
        checks.add(
            fields[0],
            ip,
            |text| network(text),
            move |net, flow| side.address(flow).is_some_and(|at| net.has(at)),
        )?;
        checks.add(
            fields[1],
            pod,
            |text| named(text),
            move |wanted, flow| side.endpoint(flow).is_some_and(|end| wanted.fits(&end.namespace, &end.pod_name)),
        )?;
        checks.add(
            fields[2],
            fqdn,
            |text| pattern(text),
            move |wanted, flow| side.names(flow).iter().any(|name| like(wanted, name.trim_end_matches('.'))),
        )?;
        checks.add(
            fields[3],
            label,
            |text| known_label(text),
            move |wanted, flow| {
                side.endpoint(flow).is_some_and(|end| end.labels.iter().any(|label| wanted.fits(label)))
            },
        )?;
        checks.add(
            fields[4],
            port,
            |text| text.parse::<u16>().map_err(|_| format!("{text} is no port")),
            move |wanted, flow| side.port(flow) == Some(u32::from(*wanted)),
        )?;
    }
    for (side, service, workload, identity, cluster, fields) in [
        (
            Side::Source,
            &f.source_service,
            &f.source_workload,
            &f.source_identity,
            &f.source_cluster_name,
            ["source_service", "source_workload", "source_identity", "source_cluster_name"],
        ),
        (
            Side::Destination,
            &f.destination_service,
            &f.destination_workload,
            &f.destination_identity,
            &f.destination_cluster_name,
            ["destination_service", "destination_workload", "destination_identity", "destination_cluster_name"],
        ),
    ] {
        checks.add(
            fields[0],
            service,
            |text| named(text),
            move |wanted, flow| {
                side.service(flow).is_some_and(|service| wanted.fits(&service.namespace, &service.name))
            },
        )?;
        checks.add(
            fields[1],
            workload,
            |wanted| Ok(wanted.clone()),
            move |wanted, flow| {
                let fits = |wanted: &str, held: &str| wanted.is_empty() || wanted == held;
                side.endpoint(flow).is_some_and(|end| {
                    end.workloads.iter().any(|held| fits(&wanted.name, &held.name) && fits(&wanted.kind, &held.kind))
                })
            },
        )?;
        checks.add(
            fields[2],
            identity,
            |number| reserved(*number),
            move |wanted, flow| side.endpoint(flow).is_some_and(|end| end.identity == *wanted),
        )?;
        checks.add(
            fields[3],
            cluster,
            |text| pattern(text),
            move |wanted, flow| {
                side.endpoint(flow).is_some_and(|end| !end.cluster_name.is_empty() && like(wanted, &end.cluster_name))
            },
        )?;
    }
    of_packets(filter, &mut checks)?;
    Ok(checks.0)
}

/// What is not about an end.
fn of_packets(f: &FlowFilter, checks: &mut Checks) -> Result<(), Refused> {
    checks.add("verdict", &f.verdict, |number| Ok(*number), |wanted, flow| flow.verdict == *wanted)?;
    checks.add(
        "drop_reason_desc",
        &f.drop_reason_desc,
        |number| Ok(*number),
        |wanted, flow| flow.verdict == i32::from(Verdict::Dropped) && flow.drop_reason_desc == *wanted,
    )?;
    checks.add(
        "event_type",
        &f.event_type,
        |wanted| Ok(*wanted),
        |wanted, flow| {
            flow.event_type.is_some_and(|held| {
                held.r#type == wanted.r#type && (!wanted.match_sub_type || held.sub_type == wanted.sub_type)
            })
        },
    )?;
    checks.add("protocol", &f.protocol, |name| protocol(name), |wanted, flow| wanted.fits(flow))?;
    checks.add("reply", &f.reply, |wanted| Ok(*wanted), |wanted, flow| flow.is_reply == Some(*wanted))?;
    checks.add(
        "tcp_flags",
        &f.tcp_flags,
        |wanted| Ok(*wanted),
        |wanted, flow| {
            let held = match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
                Some(Protocol::Tcp(tcp)) => tcp.flags,
                _ => None,
            };
            held.is_some_and(|held| includes(&held, wanted))
        },
    )?;
    checks.add(
        "node_name",
        &f.node_name,
        |text| pattern(text),
        |wanted, flow| {
            // Either may begin with the cluster's name.
            let (cluster, node) =
                wanted.rsplit_once('/').map_or((None, wanted.as_str()), |(of, node)| (Some(of), node));
            let name = flow.node_name.as_str();
            let (held, name) = name.rsplit_once('/').map_or((None, name), |(of, name)| (Some(of), name));
            (node.is_empty() || like(node, name)) && cluster.zip(held).is_none_or(|(wanted, held)| like(wanted, held))
        },
    )?;
    checks.add(
        "ip_version",
        &f.ip_version,
        |number| Ok(*number),
        |wanted, flow| {
            let held = flow.ip.as_ref().map_or(i32::from(IpVersion::IpNotUsed), |ip| ip.ip_version);
            held == *wanted
        },
    )?;
    checks.add(
        "traffic_direction",
        &f.traffic_direction,
        |number| Ok(*number),
        |wanted, flow| flow.traffic_direction == *wanted && *wanted != i32::from(TrafficDirection::Unknown),
    )?;
    checks.add(
        "interface",
        &f.interface,
        |wanted| Ok(wanted.clone()),
        |wanted, flow| {
            flow.interface.as_ref().is_some_and(|held| {
                (wanted.name.is_empty() || wanted.name == held.name)
                    && (wanted.index == 0 || wanted.index == held.index)
            })
        },
    )
}

fn includes(held: &TcpFlags, wanted: &TcpFlags) -> bool {
    let bits = |f: &TcpFlags| [f.fin, f.syn, f.rst, f.psh, f.ack, f.urg, f.ece, f.cwr, f.ns];
    bits(held).into_iter().zip(bits(wanted)).all(|(held, wanted)| held || !wanted)
}

#[cfg(test)]
mod tests;
