//! Wishes for flow events: from where in the ring each goes on, what it wants of it, and how fast.

use std::net::IpAddr;

use agent_ebpf::abi::mapped;
use wire::{
    limits::{MAX_ASKS, MAX_TERMS},
    v1::{FlowAsk, FlowDirective, FlowTerm},
};

use super::{Entry, Events, RING, What};

/// What one term wants: all that is set must fit.
#[derive(Debug, Clone, Default)]
struct Term {
    addresses: Vec<[u8; 16]>,
    ports: Vec<u32>,
    protocols: Vec<u32>,
    dropped: bool,
    dns: bool,
}

impl Term {
    fn new(term: &FlowTerm) -> Self {
        Self {
            addresses: term.addresses.iter().filter_map(|octets| address(octets)).collect(),
            ports: term.ports.clone(),
            protocols: term.protocols.clone(),
            dropped: term.dropped,
            dns: term.dns,
        }
    }

    fn fits(&self, entry: &Entry) -> bool {
        let (key, what) = (&entry.happened.key, &entry.happened.what);
        let any = |wanted: &[u32], held: &[u32]| wanted.is_empty() || held.iter().any(|one| wanted.contains(one));
        let addresses = &self.addresses;
        (addresses.is_empty() || addresses.contains(&key.source) || addresses.contains(&key.destination))
            && any(&self.ports, &[u32::from(key.source_port), u32::from(key.destination_port)])
            && any(&self.protocols, &[u32::from(key.protocol)])
            && (!self.dropped || matches!(what, What::Drop(_)))
            && (!self.dns || matches!(what, What::Query(_) | What::Answer { .. }))
    }
}

fn address(octets: &[u8]) -> Option<[u8; 16]> {
    let v4 = <[u8; 4]>::try_from(octets).map(mapped);
    v4.or_else(|_| <[u8; 16]>::try_from(octets)).ok()
}

/// A wish, and how far it was served.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) id: u64,
    since_ns: u64,
    until_ns: u64,
    limit: usize,
    oldest: bool,
    follow: bool,
    terms: Vec<Term>,
    per_second: f64,
    /// Number of the next entry to look at; 0 before the first look.
    cursor: u64,
    /// History ends before this one, unless the wish goes on.
    end: u64,
    /// How many more it takes of the oldest.
    left: Option<usize>,
    /// Overwritten before they were told.
    pub(super) lost: u64,
    /// It was told that there is no more.
    pub(super) caught_up: bool,
    tokens: f64,
    refilled_ns: u64,
}

impl Ask {
    fn new(ask: &FlowAsk, now_ns: u64, monotonic_ns: impl Fn(u64) -> u64) -> Self {
        let until_ns = if ask.until_unix_ns == 0 { u64::MAX } else { monotonic_ns(ask.until_unix_ns) };
        Self {
            id: ask.id,
            since_ns: if ask.since_unix_ns == 0 { 0 } else { monotonic_ns(ask.since_unix_ns) },
            until_ns,
            limit: usize::try_from(ask.limit).unwrap_or(usize::MAX),
            oldest: ask.oldest,
            follow: ask.follow,
            terms: ask.terms.iter().take(MAX_TERMS).map(Term::new).collect(),
            per_second: f64::from(ask.max_per_second),
            cursor: 0,
            end: 0,
            left: None,
            lost: 0,
            caught_up: false,
            tokens: RING as f64,
            refilled_ns: now_ns,
        }
    }

    fn wants(&self, entry: &Entry) -> bool {
        (self.since_ns..=self.until_ns).contains(&entry.happened.time_ns)
            && (self.terms.is_empty() || self.terms.iter().any(|term| term.fits(entry)))
    }

    /// Something is left of the history.
    pub(super) fn hungry(&self) -> bool {
        !self.caught_up
    }

    /// Takes the next entries that it wants, at most `room`.
    pub(super) fn take<'a>(&mut self, events: &'a Events, room: usize, now_ns: u64) -> Vec<&'a Entry> {
        self.begin(events);
        let oldest = events.oldest();
        if self.cursor < oldest {
            // Those that it did not want are among them: whoever overwrites does not ask.
            self.lost += oldest - self.cursor;
            self.cursor = oldest;
        }
        let seconds = now_ns.saturating_sub(self.refilled_ns) as f64 / 1e9;
        self.tokens = (self.tokens + seconds * self.per_second).min(RING as f64);
        self.refilled_ns = now_ns;
        let end = if self.follow { events.seen + 1 } else { self.end.min(events.seen + 1) };
        let first = events.ring.partition_point(|entry| entry.number < self.cursor);
        let mut taken = Vec::new();
        let mut stopped = false;
        for entry in events.ring.range(first..) {
            if entry.number >= end || self.left == Some(0) {
                break;
            }
            if self.wants(entry) {
                if taken.len() >= room || self.tokens < 1.0 {
                    stopped = true;
                    break;
                }
                self.tokens -= 1.0;
                self.left = self.left.map(|left| left - 1);
                taken.push(entry);
            }
            self.cursor = entry.number + 1;
        }
        if !stopped {
            self.cursor = self.cursor.max(end);
            self.caught_up = true;
        }
        taken
    }

    /// Finds where in the ring it begins.
    fn begin(&mut self, events: &Events) {
        if self.cursor != 0 {
            return;
        }
        self.cursor = events.oldest();
        self.end = events.seen + 1;
        if self.limit == 0 {
            return;
        }
        if self.oldest {
            self.left = Some(self.limit);
        } else {
            let mut wanted = events.ring.iter().rev().filter(|entry| self.wants(entry)).take(self.limit);
            let nth = wanted.by_ref().last().map(|entry| entry.number);
            self.cursor = nth.unwrap_or(self.end);
        }
    }
}

impl Events {
    /// The number of the ring's oldest event, or of the next one if it is empty.
    pub(super) fn oldest(&self) -> u64 {
        self.ring.front().map_or(self.seen + 1, |entry| entry.number)
    }

    /// Hears what the collector wants. `monotonic_ns` turns the collector's time into ours.
    pub fn direct(&mut self, directive: Option<&FlowDirective>, now_ns: u64, monotonic_ns: impl Fn(u64) -> u64) {
        let wanted = directive.map_or(&[][..], |directive| &directive.asks);
        let wanted = &wanted[..wanted.len().min(MAX_ASKS)];
        self.asks.retain(|ask| wanted.iter().any(|wanted| wanted.id == ask.id));
        for ask in wanted {
            if !self.asks.iter().any(|known| known.id == ask.id) {
                self.asks.push(Ask::new(ask, now_ns, &monotonic_ns));
            }
        }
    }

    /// An ask waits for history.
    #[must_use]
    pub fn hungry(&self) -> bool {
        self.asks.iter().any(Ask::hungry)
    }
}

/// An address of an answer, as the wire has it.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
