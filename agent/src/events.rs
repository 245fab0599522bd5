//! What happened lately: the node's last 4,095 flow events, each told once, by the hook that counts the flow. Pure; times
//! are monotonic nanoseconds.
//!
//! Nothing of it leaves the node until somebody asks ([`ask`]); then it is told in order and in parts ([`tell`]).

mod ask;
mod tell;

use std::collections::VecDeque;

use agent_ebpf::{
    abi::{EVENT_ICMP_ERROR, Event, EventKind, FlowKey, tcp_state},
    parse::{protocol, tcp_flags},
};

use self::ask::Ask;
use crate::{
    dns,
    drops::Dropped,
    summarise::{Seen, Sight},
};

/// Events in the ring: as many as Hubble keeps.
pub const RING: usize = 4_095;
/// Events that wait until it is known whose they are.
pub const MAX_WAITING: usize = 2 * RING;
/// So long an event waits; whose it is stays unknown then, and it is nobody's.
const WAIT_NS: u64 = 3_000_000_000;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A flow's first packet.
    First,
    /// A TCP handshake was completed.
    Open,
    /// A FIN.
    Close,
    /// An RST.
    Reset,
    /// The kernel dropped packets, for this reason.
    Drop(String),
    /// A DNS query; `None` where names are off.
    Query(Option<dns::Question>),
    /// A DNS answer.
    Answer {
        /// As it was asked.
        question: Option<dns::Question>,
        /// RFC 1035 §4.1.1.
        rcode: u16,
        /// From query to answer.
        latency_us: Option<u64>,
        /// What the name stands for.
        addresses: Vec<dns::Address>,
    },
}

/// Something that a hook saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub time_ns: u64,
    /// On which flow.
    pub key: FlowKey,
    /// What.
    pub what: What,
    /// Of the TCP header, as far as known.
    pub tcp_flags: u8,
    /// The packet's wire segments, or all that were dropped.
    pub segments: u64,
    /// The packet's bytes.
    pub l3_bytes: u64,
}

impl Happened {
    /// What an event of the kernel's ring tells; `None` for those that are about no packet of their flow, or about one of
    /// many (a packet that found no room in the flow map is no flow's first).
    #[must_use]
    pub fn of_event(event: &Event) -> Option<Self> {
        if event.flags & EVENT_ICMP_ERROR != 0 {
            return None;
        }
        let (what, flags) = match EventKind::from_number(event.kind)? {
            EventKind::FlowNew if event.flags & tcp_state::OPENER != 0 => (What::First, tcp_flags::SYN),
            EventKind::FlowNew if event.flags & tcp_state::ACCEPTOR != 0 => {
                (What::First, tcp_flags::SYN | tcp_flags::ACK)
            }
            EventKind::FlowNew => (What::First, tcp_flags::ACK),
            EventKind::TcpOpen => (What::Open, tcp_flags::ACK),
            EventKind::TcpClose => (What::Close, tcp_flags::FIN | tcp_flags::ACK),
            EventKind::TcpReset => (What::Reset, tcp_flags::RST),
            EventKind::Unmapped => return None,
        };
        Some(Self {
            time_ns: event.time_ns,
            key: event.key,
            what,
            tcp_flags: if event.key.protocol == protocol::TCP { flags } else { 0 },
            segments: u64::from(event.segments),
            l3_bytes: u64::from(event.l3_bytes),
        })
    }

    /// What a DNS message tells.
    #[must_use]
    pub fn of_dns(fact: &dns::Fact) -> Option<Self> {
        let what = match &fact.what {
            dns::What::Query(question) => What::Query(question.clone()),
            dns::What::Answer { question, rcode, latency_us, addresses } => What::Answer {
                question: question.clone(),
                rcode: *rcode,
                latency_us: *latency_us,
                addresses: addresses.clone(),
            },
            dns::What::Timeout(_) | dns::What::Unparsed => return None,
        };
        Some(Self { time_ns: fact.time_ns, key: fact.key, what, tcp_flags: 0, segments: 1, l3_bytes: 0 })
    }

    /// The bits of `tcp_state` that the packet alone tells.
    fn role(&self) -> u8 {
        match self.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) {
            tcp_flags::SYN => tcp_state::OPENER,
            0 | tcp_flags::ACK => 0,
            _ => tcp_state::ACCEPTOR,
        }
    }
}

/// An event in the ring.
#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    happened: Happened,
    /// `None`: a drop on no edge.
    seen: Option<Seen>,
}

/// What happened lately, and who wants to know.
#[derive(Debug, Default)]
pub struct Events {
    waiting: VecDeque<Happened>,
    ring: VecDeque<Entry>,
    /// Events that ever entered the ring: the number of the newest.
    seen: u64,
    asks: Vec<Ask>,
    /// The report that told last, and how far each ask is when it has arrived.
    sent: Option<(u64, Vec<Ask>)>,
}

impl Events {
    /// Something happened. Whose it is shows when the flows were read.
    pub fn note(&mut self, happened: Happened) {
        if self.waiting.len() >= MAX_WAITING {
            // More than the ring could hold came at once: the oldest would be overwritten anyway.
            self.waiting.pop_front();
            self.seen += 1;
            self.asks.iter_mut().for_each(|ask| ask.lost += 1);
        }
        self.waiting.push_back(happened);
    }

    /// The flows were read: `sight` says whose an event is, by its flow and the role that its packet tells.
    pub fn settle(&mut self, now_ns: u64, sight: impl Fn(&FlowKey, u8) -> Sight) {
        for happened in std::mem::take(&mut self.waiting) {
            match sight(&happened.key, happened.role()) {
                Sight::Own(seen) => self.enter(happened, Some(seen)),
                Sight::Unknown if now_ns.saturating_sub(happened.time_ns) < WAIT_NS => self.waiting.push_back(happened),
                Sight::Unknown | Sight::Elsewhere => {}
            }
        }
    }

    /// The kernel dropped packets. Those without addresses are no flow: the node counts them, and no event tells of them.
    pub fn dropped(&mut self, dropped: Dropped) {
        let Dropped { tuple, time_ns, segments, reason, edge } = dropped;
        if tuple.source == tuple.destination && tuple.source == [0; 16] {
            return;
        }
        let key = FlowKey {
            source: tuple.source,
            destination: tuple.destination,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
            protocol: tuple.protocol,
            ..FlowKey::default()
        };
        let what = What::Drop(reason);
        let seen = edge.map(|(forward, server_side)| Seen {
            forward,
            local_is_source: forward != server_side,
            ..Seen::default()
        });
        self.enter(Happened { time_ns, key, what, tcp_flags: 0, segments, l3_bytes: 0 }, seen);
    }

    fn enter(&mut self, happened: Happened, seen: Option<Seen>) {
        self.seen += 1;
        if self.ring.len() >= RING {
            self.ring.pop_front();
        }
        self.ring.push_back(Entry { number: self.seen, happened, seen });
    }

    /// Events in the ring, and those that ever came.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.ring.len() as u64, self.seen)
    }
}
