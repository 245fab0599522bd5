//! Flow events as reports have them. What was told counts as told when the report is acknowledged.

use std::net::{IpAddr, Ipv6Addr};

use wire::{
    limits::{MAX_DEVICE_BYTES, MAX_FLOW_ADDRESSES, MAX_FLOW_EVENTS, MAX_REASON_BYTES},
    v1::{FlowDns, FlowEvent, FlowEventKind, FlowEvents, FlowRing, Side},
};

use super::{Entry, Events, What, ask::octets};
use crate::{drops::by, edge::WallClock};

/// An ask gets at least so many events of a report, however many others there are.
const LEAST_ROOM: usize = MAX_FLOW_EVENTS / wire::limits::MAX_ASKS;

impl Events {
    /// What the next report tells: at most [`MAX_FLOW_EVENTS`], shared among the asks. `device` names an interface index.
    pub fn tell(
        &mut self,
        seq: u64,
        now_ns: u64,
        clock: WallClock,
        device: impl Fn(u32) -> Option<String>,
    ) -> Vec<FlowEvents> {
        let mut asks = self.asks.clone();
        let mut parts = Vec::new();
        let room = (MAX_FLOW_EVENTS / asks.len().max(1)).max(LEAST_ROOM);
        for ask in &mut asks {
            let (hungry, lost) = (ask.hungry(), ask.lost);
            let taken = ask.take(self, room, now_ns);
            if hungry || !taken.is_empty() || ask.lost > lost {
                let events = taken.into_iter().map(|entry| wire_event(entry, clock, &device)).collect();
                parts.push(FlowEvents { ask: ask.id, events, caught_up: ask.caught_up, lost: ask.lost });
            }
        }
        self.sent = Some((seq, asks));
        parts
    }

    /// The collector has report `seq`: what it told was told.
    pub fn acknowledged(&mut self, seq: u64) {
        if let Some((_, told)) = self.sent.take_if(|(sent, _)| *sent == seq) {
            for ask in &mut self.asks {
                if let Some(told) = told.iter().find(|told| told.id == ask.id) {
                    let lost = ask.lost.max(told.lost);
                    told.clone_into(ask);
                    ask.lost = lost;
                }
            }
        }
    }

    /// The ring, for the collector's status.
    #[must_use]
    pub fn row(&self) -> FlowRing {
        let (held, seen) = self.counts();
        FlowRing { held, seen }
    }
}

fn wire_event(entry: &Entry, clock: WallClock, device: &impl Fn(u32) -> Option<String>) -> FlowEvent {
    let Entry { number, happened, seen } = entry;
    let (key, seen_or_none) = (&happened.key, seen.unwrap_or_default());
    let end = |address: [u8; 16]| octets(IpAddr::from(Ipv6Addr::from(address)).to_canonical());
    let (kind, reason, dns) = match &happened.what {
        What::First => (FlowEventKind::First, "", None),
        What::Open => (FlowEventKind::Open, "", None),
        What::Close => (FlowEventKind::Close, "", None),
        What::Reset => (FlowEventKind::Reset, "", None),
        What::Drop(reason) => (FlowEventKind::Drop, reason.as_str(), None),
        What::Query(question) => (FlowEventKind::DnsQuery, "", Some(dns_message(question.as_ref()))),
        What::Answer { question, rcode, latency_us, addresses } => {
            let answer = FlowDns {
                rcode: u32::from(*rcode),
                latency_us: latency_us.unwrap_or(0),
                addresses: addresses.iter().take(MAX_FLOW_ADDRESSES).map(|one| octets(one.address)).collect(),
                ttl_s: addresses.iter().map(|one| one.ttl_s).min().unwrap_or(0),
                ..dns_message(question.as_ref())
            };
            (FlowEventKind::DnsAnswer, "", Some(answer))
        }
    };
    let server_side = seen_or_none.local_is_source != seen_or_none.forward;
    let side = match seen {
        None => Side::Unspecified,
        Some(_) if server_side => Side::Server,
        Some(_) => Side::Client,
    };
    let dropped = matches!(happened.what, What::Drop(_));
    let name = if dropped { None } else { device(key.ifindex) };
    FlowEvent {
        number: *number,
        unix_ns: clock.unix_ns(happened.time_ns),
        kind: kind.into(),
        source: end(key.source),
        destination: end(key.destination),
        source_port: u32::from(key.source_port),
        destination_port: u32::from(key.destination_port),
        protocol: u32::from(key.protocol),
        tcp_flags: u32::from(happened.tcp_flags),
        reply: seen.is_some() && !seen_or_none.forward,
        guessed: seen_or_none.guessed,
        side: side.into(),
        point: if dropped { 0 } else { seen_or_none.class.point().into() },
        ifindex: key.ifindex,
        device: name.filter(|name| name.len() <= MAX_DEVICE_BYTES).unwrap_or_default(),
        segments: happened.segments,
        l3_bytes: happened.l3_bytes,
        flow_segments: seen_or_none.flow_segments,
        flow_bytes: seen_or_none.flow_bytes,
        by: if dropped { by(reason).to_owned() } else { String::new() },
        reason: reason.get(..MAX_REASON_BYTES).unwrap_or(reason).to_owned(),
        dns,
        rtt_us: seen_or_none.rtt_us,
        retransmitted: seen_or_none.retransmitted,
    }
}

fn dns_message(question: Option<&crate::dns::Question>) -> FlowDns {
    question.map_or_else(FlowDns::default, |question| FlowDns {
        name: question.name.clone(),
        r#type: u32::from(question.rr_type),
        ..FlowDns::default()
    })
}
