//! How much a report may hold. Parts are counted on the encoded bytes, before memory is taken for any of them: two bytes on the
//! wire are a whole edge in memory, and an edge's own parts are bounded for each edge and over all edges of the report.

use prost::{
    bytes::Buf,
    encoding::{self, WireType},
};

use crate::{
    codec::DecodeError,
    v1::{Dns, Drop, Edge, Report},
};

/// Edges in one report at the most: the agent's whole table.
pub const MAX_EDGES: usize = 65_536;

/// Devices in one report at the most: four times what an agent watches, so that those it could not attach to and those
/// that are just gone find room.
pub const MAX_DEVICES: usize = 16_384;

/// Causes of loss in one report at the most: later versions may know more of them.
pub const MAX_LOSSES: usize = 64;

/// Refused hooks in one report at the most.
pub const MAX_REFUSED_HOOKS: usize = 64;

/// Facts with their hooks in one report at the most.
pub const MAX_HOOKS: usize = 32;

/// Drops that belong to no edge, in one report at the most: by reason, origin and direction.
pub const MAX_NODE_DROPS: usize = 256;

/// Names of addresses in one report at the most.
pub const MAX_NAMES: usize = 1_024;

/// Owners of one edge at the most.
pub const MAX_OWNERS: usize = 4;

/// Virtual addresses of one edge at the most.
pub const MAX_VIAS: usize = 4;

/// Drops of one edge at the most: by reason, direction and origin.
pub const MAX_DROPS: usize = 16;

/// DNS questions of one edge at the most.
pub const MAX_QUESTIONS: usize = 16;

/// DNS response codes of one edge at the most: RFC 6895 §2.3 knows 23 of them.
pub const MAX_RCODES: usize = 24;

/// Buckets of one histogram at the most.
pub const MAX_BUCKETS: usize = 32;

/// Owners, virtual addresses, drops, questions and response codes over all edges of one report, each at the most. A part of a split report has
/// 16,384 edges: with 16 questions each it is just as many.
pub const MAX_EDGE_PARTS: usize = 262_144;

/// Histogram buckets over all edges of one report at the most: 32 for each edge of a full table.
pub const MAX_ALL_BUCKETS: usize = 2_097_152;

/// The longest text in a report, in bytes; those below are shorter.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// The longest DNS name (RFC 1035 §2.3.4), in bytes.
pub const MAX_DNS_NAME_BYTES: usize = 255;

/// The longest command name, in bytes.
pub const MAX_PROCESS_BYTES: usize = 64;

/// The longest container id, in bytes.
pub const MAX_CONTAINER_BYTES: usize = 128;

/// The longest UID of a pod, in bytes.
pub const MAX_POD_UID_BYTES: usize = 64;

/// The longest name of a drop's reason or origin, of a fact or of a hook's form, in bytes.
pub const MAX_REASON_BYTES: usize = 64;

/// The longest name of a tunnel's kind, in bytes.
pub const MAX_TUNNEL_BYTES: usize = 16;

/// Asks for flow events that are open at once, and parts of a report that answer them.
pub const MAX_ASKS: usize = 16;

/// Flow events in one report at the most, over all asks.
pub const MAX_FLOW_EVENTS: usize = 1_024;

/// Addresses of one DNS answer in a flow event at the most.
pub const MAX_FLOW_ADDRESSES: usize = 16;

/// Terms of one ask at the most.
pub const MAX_TERMS: usize = 4;

/// Addresses, ports and protocols of one term, each at the most: with them an acknowledgement stays below 16 KiB.
pub const MAX_TERM_PARTS: usize = 8;

/// The longest name of a device in a flow event, in bytes (`IFNAMSIZ` is 16).
pub const MAX_DEVICE_BYTES: usize = 64;

type Checked = Result<(), DecodeError>;

fn invalid(reason: &'static str) -> Checked {
    Err(DecodeError::Invalid { reason })
}

/// What is counted: inside of one edge, or over all of them.
#[derive(Default)]
struct Parts {
    owners: usize,
    vias: usize,
    drops: usize,
    questions: usize,
    rcodes: usize,
    buckets: usize,
}

/// Counts the parts of an encoded report.
pub(crate) fn check_lengths(mut report: &[u8]) -> Checked {
    let (mut edges, mut devices, mut losses, mut refused) = (0, 0, 0, 0);
    let (mut hooks, mut drops, mut names) = (0, 0, 0);
    let (mut answers, mut events) = (0, 0);
    let (mut kinds, mut lists) = (0, 0);
    let mut all = Parts::default();
    fields(&mut report, &mut |tag, body| {
        let (count, limit, reason) = match tag {
            13 => (&mut edges, MAX_EDGES, "more than 65,536 edges"),
            14 => (&mut devices, MAX_DEVICES, "more than 16,384 devices"),
            15 => (&mut losses, MAX_LOSSES, "more than 64 causes of loss"),
            17 => (&mut refused, MAX_REFUSED_HOOKS, "more than 64 refused hooks"),
            19 => (&mut hooks, MAX_HOOKS, "more than 32 hooks"),
            20 => (&mut drops, MAX_NODE_DROPS, "more than 256 drops without an edge"),
            21 => (&mut names, MAX_NAMES, "more than 1,024 names"),
            23 => (&mut answers, MAX_ASKS, "flow events of more than 16 asks"),
            24 => return column_lengths(body, &mut kinds, &mut lists, &mut edges, &mut all),
            _ => return Ok(()),
        };
        *count += 1;
        if *count > limit {
            return invalid(reason);
        }
        match tag {
            13 => edge_lengths(body, &mut all),
            23 => event_lengths(body, &mut events),
            _ => Ok(()),
        }
    })
}

/// Counts what stands in columns' dictionaries, and the parts of edges beside the columns; how many edges there are is seen once
/// the columns are decoded.
fn column_lengths(
    mut columns: &[u8],
    kinds: &mut usize,
    lists: &mut usize,
    edges: &mut usize,
    all: &mut Parts,
) -> Checked {
    fields(&mut columns, &mut |tag, mut body| match tag {
        2 => add(kinds, MAX_EDGES, "more than 65,536 kinds of edges"),
        16 => {
            add(lists, MAX_EDGES, "more than 65,536 lists of owners")?;
            let mut owners = 0;
            fields(&mut body, &mut |tag, _| match tag {
                1 => add(&mut owners, MAX_OWNERS, "more than 4 owners of an edge"),
                _ => Ok(()),
            })
        }
        17 => {
            add(edges, MAX_EDGES, "more than 65,536 edges")?;
            edge_lengths(body, all)
        }
        _ => Ok(()),
    })
}

/// Counts the events of one ask's part, and the addresses of each.
fn event_lengths(mut part: &[u8], events: &mut usize) -> Checked {
    fields(&mut part, &mut |tag, mut event| {
        if tag != 2 {
            return Ok(());
        }
        add(events, MAX_FLOW_EVENTS, "more than 1,024 flow events")?;
        let mut addresses = 0;
        fields(&mut event, &mut |tag, mut dns| match tag {
            22 => fields(&mut dns, &mut |tag, _| match tag {
                5 => add(&mut addresses, MAX_FLOW_ADDRESSES, "more than 16 addresses of a flow event"),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    })
}

/// Counts the parts of one edge. A message that stands twice is merged when decoded, so what counts is the edge as a whole.
fn edge_lengths(mut edge: &[u8], all: &mut Parts) -> Checked {
    let mut own = Parts::default();
    let (mut round_trips, mut latencies) = (0, 0);
    fields(&mut edge, &mut |tag, mut body| match tag {
        25 => fields(&mut body, &mut |tag, body| if tag == 8 { count_buckets(body, &mut round_trips) } else { Ok(()) }),
        26 => add(&mut own.owners, MAX_OWNERS, "more than 4 owners of an edge"),
        27 => add(&mut own.drops, MAX_DROPS, "more than 16 drops of an edge"),
        28 => fields(&mut body, &mut |tag, body| match tag {
            4 => add(&mut own.rcodes, MAX_RCODES, "more than 24 response codes of an edge"),
            5 => count_buckets(body, &mut latencies),
            6 => add(&mut own.questions, MAX_QUESTIONS, "more than 16 questions of an edge"),
            _ => Ok(()),
        }),
        40 => add(&mut own.vias, MAX_VIAS, "more than 4 virtual addresses of an edge"),
        _ => Ok(()),
    })?;
    own.buckets = round_trips + latencies;
    for (sum, own, limit) in [
        (&mut all.owners, own.owners, MAX_EDGE_PARTS),
        (&mut all.vias, own.vias, MAX_EDGE_PARTS),
        (&mut all.drops, own.drops, MAX_EDGE_PARTS),
        (&mut all.questions, own.questions, MAX_EDGE_PARTS),
        (&mut all.rcodes, own.rcodes, MAX_EDGE_PARTS),
        (&mut all.buckets, own.buckets, MAX_ALL_BUCKETS),
    ] {
        *sum += own;
        if *sum > limit {
            return invalid(TOO_MANY_PARTS);
        }
    }
    Ok(())
}

const TOO_MANY_PARTS: &str = "more than 262,144 parts of one kind, or 2,097,152 buckets, over all edges";

/// Counts the buckets of all edges, of which some were in columns.
pub(crate) fn check_buckets(edges: &[Edge]) -> Checked {
    let rtt = edges.iter().filter_map(|edge| edge.sockets.as_ref()?.rtt.as_ref());
    let latency = edges.iter().filter_map(|edge| edge.dns.as_ref()?.latency.as_ref());
    let buckets: usize = rtt.chain(latency).map(|histogram| histogram.buckets.len()).sum();
    if buckets > MAX_ALL_BUCKETS { invalid(TOO_MANY_PARTS) } else { Ok(()) }
}

fn add(count: &mut usize, limit: usize, reason: &'static str) -> Checked {
    *count += 1;
    if *count > limit { invalid(reason) } else { Ok(()) }
}

/// Counts a histogram's buckets, packed or not.
fn count_buckets(mut histogram: &[u8], count: &mut usize) -> Checked {
    while !histogram.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut histogram)?;
        *count += match (tag, wire_type) {
            // A varint's last byte has no continuation bit.
            (1, WireType::LengthDelimited) => body_of(&mut histogram)?.iter().filter(|byte| **byte < 0x80).count(),
            _ => {
                encoding::skip_field(wire_type, tag, &mut histogram, encoding::DecodeContext::default())?;
                usize::from(tag == 1)
            }
        };
        if *count > MAX_BUCKETS {
            return invalid("more than 32 buckets of a histogram");
        }
    }
    Ok(())
}

/// Hands every field's tag, and its body where it has a length, to `each`.
fn fields(message: &mut &[u8], each: &mut dyn FnMut(u32, &[u8]) -> Checked) -> Checked {
    while !message.is_empty() {
        let (tag, wire_type) = encoding::decode_key(message)?;
        let body = if wire_type == WireType::LengthDelimited {
            body_of(message)?
        } else {
            encoding::skip_field(wire_type, tag, message, encoding::DecodeContext::default())?;
            &[]
        };
        each(tag, body)?;
    }
    Ok(())
}

fn body_of<'a>(message: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = encoding::decode_varint(message)?;
    let body = usize::try_from(length).ok().and_then(|length| message.get(..length));
    let Some(body) = body else {
        return Err(DecodeError::Invalid { reason: "a part is longer than what holds it" });
    };
    message.advance(body.len());
    Ok(body)
}

/// Checks the lengths of all texts.
pub(crate) fn check_texts(report: &Report) -> Checked {
    let device_texts = report.devices.iter().flat_map(|device| [&device.name, &device.blind_spot]);
    let hook_texts = report.hooks.iter().map(|hook| &hook.refused);
    let mut texts = report.refused_hooks.iter().chain([&report.agent_version]).chain(device_texts).chain(hook_texts);
    if texts.any(|text| text.len() > MAX_TEXT_BYTES) {
        return invalid("a text is over 1,024 bytes");
    }
    let words = |drops: &[Drop]| drops.iter().any(|drop| drop.reason.len().max(drop.by.len()) > MAX_REASON_BYTES);
    if report.hooks.iter().any(|hook| hook.fact.len().max(hook.form.len()) > MAX_REASON_BYTES) {
        return invalid("a hook's fact or form is over 64 bytes");
    }
    if words(&report.drops) || report.edges.iter().any(|edge| words(&edge.drops)) {
        return invalid("a drop's reason or origin is over 64 bytes");
    }
    if report.devices.iter().any(|device| device.tunnel.len() > MAX_TUNNEL_BYTES) {
        return invalid("a tunnel's kind is over 16 bytes");
    }
    for name in &report.names {
        if name.name.len() > MAX_DNS_NAME_BYTES {
            return invalid("a DNS name is over 255 bytes");
        }
        if ![&name.client, &name.address].iter().all(|address| matches!(address.len(), 4 | 16)) {
            return invalid("a name's client or address is not 4 or 16 bytes");
        }
    }
    Ok(())
}

/// Checks the addresses, texts and numbers of flow events.
pub(crate) fn check_events(report: &Report) -> Checked {
    for event in report.flow_events.iter().flat_map(|part| &part.events) {
        if !matches!(event.source.len(), 4 | 16) || event.source.len() != event.destination.len() {
            return invalid("a flow event's address is not 4 or 16 bytes, or its ends differ in family");
        }
        let ports = [event.source_port, event.destination_port];
        if ports.iter().any(|port| *port > u32::from(u16::MAX)) || event.protocol > u32::from(u8::MAX) {
            return invalid("a flow event's port or protocol is out of range");
        }
        if event.device.len() > MAX_DEVICE_BYTES || event.reason.len().max(event.by.len()) > MAX_REASON_BYTES {
            return invalid("a flow event's device, reason or origin is over 64 bytes");
        }
        let Some(dns) = &event.dns else { continue };
        if dns.name.len() > MAX_DNS_NAME_BYTES || !dns.addresses.iter().all(|address| matches!(address.len(), 4 | 16)) {
            return invalid("a flow event's DNS name is over 255 bytes, or an address is not 4 or 16");
        }
    }
    Ok(())
}

/// Checks the texts and numbers of what an edge knows beside its counters.
pub(crate) fn check_facts(edge: &Edge) -> Checked {
    if edge.tunnel.len() > MAX_TUNNEL_BYTES {
        return invalid("a tunnel's kind is over 16 bytes");
    }
    for owner in &edge.owners {
        if owner.process.len() > MAX_PROCESS_BYTES
            || owner.container.len() > MAX_CONTAINER_BYTES
            || owner.pod_uid.len() > MAX_POD_UID_BYTES
        {
            return invalid("an owner's process is over 64 bytes, its container over 128 or its pod UID over 64");
        }
    }
    for via in &edge.vias {
        if !matches!(via.address.len(), 4 | 16) || via.port > u32::from(u16::MAX) {
            return invalid("a virtual address is not 4 or 16 bytes, or its port is over 65,535");
        }
    }
    edge.dns.as_ref().map_or(Ok(()), check_dns)
}

fn check_dns(dns: &Dns) -> Checked {
    let number = |value: u32| value <= u32::from(u16::MAX);
    if !dns.rcodes.iter().all(|count| number(count.rcode)) {
        return invalid("a DNS response code is over 65,535");
    }
    for question in &dns.questions {
        if question.name.len() > MAX_DNS_NAME_BYTES {
            return invalid("a DNS name is over 255 bytes");
        }
        if !number(question.r#type) || !number(question.last_rcode) {
            return invalid("a DNS type or response code is over 65,535");
        }
    }
    Ok(())
}
