//! One edge as the wire has it (by addresses), and all that was reported of it: rows that join, sides that are kept apart.

use std::{collections::VecDeque, net::IpAddr};

use wire::v1::{Counters, Edge};

use super::{evaluate::Evaluation, node::NodeId};
use crate::{
    loss::{Direction, Point, Track},
    rate::Reading,
    time::{self, MS, Ns, SECOND},
};

/// Samples older than this are of no use to rates and loss.
const SAMPLE_SPAN: Ns = 6 * SECOND;
/// Samples kept per side.
const MAX_SAMPLES: usize = 40;

/// Client, server, port, protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Who opened.
    pub client: IpAddr,
    /// Who answered.
    pub server: IpAddr,
    /// The server's port; 0 where the protocol has none.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// The key of a reported edge. `None` when the codec's checks were skipped and an address is no address.
    #[must_use]
    pub fn of(edge: &Edge) -> Option<Self> {
        Some(Self {
            client: address(&edge.client)?,
            server: address(&edge.server)?,
            port: u16::try_from(edge.server_port).ok()?,
            protocol: u8::try_from(edge.protocol).ok()?,
        })
    }

    /// The same ends the other way round, on the same port.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self { client: self.server, server: self.client, ..*self }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_canonical()),
        _ => None,
    }
}

/// Which end saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The client's node.
    Client,
    /// The server's node.
    Server,
}

impl Side {
    /// The side of a reported edge.
    #[must_use]
    pub fn of(edge: &Edge) -> Option<Self> {
        match edge.side {
            1 => Some(Self::Client),
            2 => Some(Self::Server),
            _ => None,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Cumulative totals. Joining takes the greater of each; summing is for different incarnations only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the report's")]
pub struct Totals {
    pub forward: Counters,
    pub reverse: Counters,
    pub opened: u64,
    pub established: u64,
    pub closed: u64,
    pub resets: u64,
    pub icmp_errors: u64,
    /// By the agent's clock, plus its offset.
    pub forward_last: Ns,
    pub reverse_last: Ns,
}

impl Totals {
    /// The totals of a reported edge; `offset` is added to its times, which cannot be after `limit`.
    #[must_use]
    pub fn of(edge: &Edge, offset: Ns, limit: Ns) -> Self {
        let last = |ns: u64| if ns == 0 { 0 } else { time::from_wire(ns).saturating_add(offset).min(limit) };
        Self {
            forward: edge.forward.unwrap_or_default(),
            reverse: edge.reverse.unwrap_or_default(),
            opened: edge.opened,
            established: edge.established,
            closed: edge.closed,
            resets: edge.resets,
            icmp_errors: edge.icmp_errors,
            forward_last: last(edge.forward_last_unix_ns),
            reverse_last: last(edge.reverse_last_unix_ns),
        }
    }

    /// Two readings of the same counters.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            forward: self.forward.join(&other.forward),
            reverse: self.reverse.join(&other.reverse),
            ..self.with(other, u64::max)
        }
    }

    /// Two different counters.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let sum = self.with(other, u64::saturating_add);
        Self { forward: self.forward.plus(&other.forward), reverse: self.reverse.plus(&other.reverse), ..sum }
    }

    fn with(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            opened: join(self.opened, other.opened),
            established: join(self.established, other.established),
            closed: join(self.closed, other.closed),
            resets: join(self.resets, other.resets),
            icmp_errors: join(self.icmp_errors, other.icmp_errors),
            forward_last: self.forward_last.max(other.forward_last),
            reverse_last: self.reverse_last.max(other.reverse_last),
            ..*self
        }
    }

    /// The same seen from the other end.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self {
            forward: self.reverse,
            reverse: self.forward,
            forward_last: self.reverse_last,
            reverse_last: self.forward_last,
            ..*self
        }
    }
}

/// Who reports: one side of one device in one run of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the report's")]
pub struct Source {
    pub node: NodeId,
    pub epoch: u64,
    pub side: Side,
    pub device: u64,
}

/// What one source said of one incarnation of the edge; incarnation 0 is the sum of the folded ones.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who said it.
    pub source: Source,
    /// Which incarnation; 0 for the folded sum.
    pub incarnation: u64,
    /// The folded sum's tombstone: incarnations up to this one change nothing any more.
    pub through: u64,
    /// The sequence number of the latest report that spoke of it.
    pub stated: u64,
    /// That report said: this is its last word.
    pub finished: bool,
    /// Nobody saw who opened.
    pub guessed: bool,
    /// The agent's own reports.
    pub own: bool,
    /// When its first packet passed, by the collector's clock.
    pub first_seen: Ns,
    /// The totals.
    pub totals: Totals,
}

impl Row {
    /// Nothing more will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.incarnation == 0 || self.finished
    }
}

/// One source's totals at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When, by the collector's clock.
    pub at: Ns,
    /// What the source had counted.
    pub totals: Totals,
    /// Telemetry the source's node had lost by then: packets that may be missing from the totals.
    pub unseen: u64,
}

/// Telemetry a node had lost: at a sample, and by the instant at which all was known before it.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "said above")]
pub struct Unseen {
    pub now: u64,
    pub base: u64,
}

/// The newest source of a side, sampled.
#[derive(Debug, Clone)]
pub struct SideTrack {
    /// Who.
    pub source: Source,
    /// Samples in order of time.
    pub samples: VecDeque<Sample>,
    /// When the source's first packet passed.
    pub first_seen: Ns,
    /// Telemetry lost by `base_at`, before the first sample: of no concern to this edge.
    pub base: u64,
    /// When that was.
    pub base_at: Ns,
}

impl SideTrack {
    /// Adds what the source counted at `sample.at`. `held_until` is the last instant at which the totals before held.
    pub fn push(&mut self, sample: Sample, held_until: Ns) {
        if let Some(&last) = self.samples.back() {
            if sample.at < last.at {
                return;
            }
            if sample.at == last.at {
                self.samples.pop_back();
            } else if held_until > last.at && held_until < sample.at {
                self.samples.push_back(Sample { at: held_until, ..last });
            }
        }
        self.samples.push_back(sample);
        while self.samples.len() > MAX_SAMPLES
            || (self.samples.len() > 2
                && self.samples.front().is_some_and(|old| old.at < sample.at.saturating_sub(SAMPLE_SPAN)))
        {
            self.samples.pop_front();
        }
    }

    /// One direction as the rates want it.
    pub fn readings(&self, forward: bool) -> impl DoubleEndedIterator<Item = Reading> + Clone {
        self.samples.iter().map(move |sample| {
            let totals = &sample.totals;
            let (counters, last) =
                if forward { (&totals.forward, totals.forward_last) } else { (&totals.reverse, totals.reverse_last) };
            let connections = if forward { totals.established } else { 0 };
            Reading { at: sample.at, last, skbs: counters.skbs, bytes: counters.l3_bytes, connections }
        })
    }

    /// One direction as the loss wants it. A receiver is given credit for what its node may have missed.
    #[must_use]
    pub fn track(&self, forward: bool, receiver: bool, until: Ns, unseen: u64) -> Track {
        let newest = self.samples.len().saturating_sub(1);
        let points = self.samples.iter().enumerate().map(|(index, sample)| {
            let segments = if forward { sample.totals.forward.segments } else { sample.totals.reverse.segments };
            let missed = if index == newest { sample.unseen.max(unseen) } else { sample.unseen };
            let missed = missed.saturating_sub(self.base);
            Point { at: sample.at, count: if receiver { segments.saturating_add(missed) } else { segments } }
        });
        Track::new(points.collect(), until)
    }
}

/// An edge by addresses.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its key.
    pub key: FlowKey,
    /// What was reported.
    pub rows: Vec<Row>,
    /// The client's side.
    pub client: Option<SideTrack>,
    /// The server's side.
    pub server: Option<SideTrack>,
    /// Loss client to server.
    pub forward: Direction,
    /// Loss server to client.
    pub reverse: Direction,
    /// Both sides' totals begin at the first packet; not known before both have reported.
    pub from_first: Option<bool>,
    /// When its last row was finished.
    pub ended: Option<Ns>,
    /// Rates and loss as of the last evaluation.
    pub evaluation: Evaluation,
}

impl Flow {
    /// An edge of which nothing is known yet.
    #[must_use]
    pub fn new(key: FlowKey) -> Self {
        Self {
            key,
            rows: Vec::new(),
            client: None,
            server: None,
            forward: Direction::default(),
            reverse: Direction::default(),
            from_first: None,
            ended: None,
            evaluation: Evaluation::default(),
        }
    }

    /// Nobody saw who opened.
    #[must_use]
    pub fn guessed(&self) -> bool {
        self.rows.iter().all(|row| row.guessed)
    }

    /// The sum over one source's incarnations.
    #[must_use]
    pub fn sum(&self, source: Source) -> Totals {
        let rows = self.rows.iter().filter(|row| row.source == source);
        rows.fold(Totals::default(), |sum, row| sum.plus(&row.totals))
    }

    /// The sum over one side: all nodes, epochs and incarnations.
    #[must_use]
    pub fn side_sum(&self, side: Side) -> Option<Totals> {
        let mut rows = self.rows.iter().filter(|row| row.source.side == side).peekable();
        rows.peek()?;
        Some(rows.fold(Totals::default(), |sum, row| sum.plus(&row.totals)))
    }

    /// The side's track.
    #[must_use]
    pub fn track(&self, side: Side) -> Option<&SideTrack> {
        match side {
            Side::Client => self.client.as_ref(),
            Side::Server => self.server.as_ref(),
        }
    }

    /// Adds a sample of `source`; a newer source takes the side over. False when an older one speaks.
    pub fn sample(&mut self, source: Source, at: Ns, held_until: Ns, unseen: Unseen) -> bool {
        let totals = self.sum(source);
        let rows = self.rows.iter().filter(|row| row.source == source);
        let Some(first_seen) = rows.map(|row| row.first_seen).min() else { return false };
        let sample = Sample { at, totals, unseen: unseen.now };
        let slot = match source.side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        match slot {
            Some(track) if track.source == source => {
                track.first_seen = first_seen;
                track.push(sample, held_until);
            }
            Some(track) if !newer(source, first_seen, track) => return false,
            _ => {
                if slot.is_some() {
                    self.from_first = Some(false);
                    self.forward.restart();
                    self.reverse.restart();
                }
                let samples = VecDeque::from([sample]);
                *slot = Some(SideTrack { source, samples, first_seen, base: unseen.base, base_at: held_until });
            }
        }
        true
    }
}

/// On one node a later epoch or device is newer; between nodes the one that saw its first packet later.
fn newer(source: Source, first_seen: Ns, track: &SideTrack) -> bool {
    if source.node == track.source.node {
        (source.epoch, source.device) > (track.source.epoch, track.source.device)
    } else {
        first_seen > track.first_seen.saturating_add(MS)
    }
}
