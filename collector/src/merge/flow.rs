//! One edge as the wire has it (by addresses), and all that was reported of it: rows that join, sides that are kept apart.

use std::{collections::VecDeque, sync::Arc};

use wire::v1::{Counters, Edge};

use super::{
    evaluate::Evaluation,
    facts::Facts,
    key::FlowKey,
    node::NodeId,
    points::Points,
    track::{Sample, SideTrack, Unseen},
};
use crate::{
    loss::Direction,
    time::{self, MS, Ns},
};

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
        let (forward_last, reverse_last) = (self.reverse_last, self.forward_last);
        Self { forward: self.reverse, reverse: self.forward, forward_last, reverse_last, ..*self }
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
    /// Which socket's cgroup, where the local end is the node's own address; else 0.
    pub cgroup: u64,
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
    /// Where its packets were counted.
    pub points: Points,
    /// They took another way past the hooks in mid-life.
    pub path_changed: bool,
    /// What is known beside packets.
    pub facts: Option<Box<Facts>>,
}

impl Row {
    /// Nothing more will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.incarnation == 0 || self.finished
    }

    /// What one source counted for one cgroup: incarnations of the same are added up.
    #[must_use]
    pub fn series(&self) -> (Source, u64) {
        (self.source, self.cgroup)
    }

    /// The pods that own its sockets, where the address does not say: the node's own, shared by many.
    pub fn pod_uids(&self) -> impl Iterator<Item = &Arc<str>> {
        let facts = self.facts.as_deref().filter(|_| self.cgroup != 0);
        facts.into_iter().flat_map(|facts| facts.pod_uids(self.cgroup))
    }

    /// Another reading of the same row. True when its packets took another way than before.
    pub fn join(&mut self, totals: &Totals, edge: &Edge, facts: Option<Box<Facts>>) -> bool {
        self.totals = self.totals.join(totals);
        self.own |= edge.own;
        let points = self.points.with(edge.point);
        let turned = (edge.path_changed && !self.path_changed) || (points != self.points && !self.points.is_empty());
        (self.points, self.path_changed) = (points, self.path_changed | edge.path_changed);
        match (&mut self.facts, facts) {
            (Some(known), Some(facts)) => known.join(&facts),
            (known @ None, facts) => *known = facts,
            (Some(_), None) => {}
        }
        turned
    }

    /// Adds another row to a sum.
    pub fn fold(&mut self, other: &Self) {
        self.totals = self.totals.plus(&other.totals);
        self.guessed &= other.guessed;
        self.own |= other.own;
        self.first_seen = self.first_seen.min(other.first_seen);
        self.points = self.points.and(other.points);
        self.path_changed |= other.path_changed;
        if let Some(facts) = &other.facts {
            self.facts.get_or_insert_default().fold(facts);
        }
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
    /// What each cgroup of the node's own address counted, beside the side's sum.
    pub cgroups: Vec<(Side, u64, SideTrack)>,
    /// Loss client to server.
    pub forward: Direction,
    /// Loss server to client.
    pub reverse: Direction,
    /// Both sides' totals begin at the first packet; not known before both have reported.
    pub from_first: Option<bool>,
    /// When packets last took another way past the hooks of a node.
    pub turned: Option<(Ns, NodeId)>,
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
            cgroups: Vec::new(),
            forward: Direction::default(),
            reverse: Direction::default(),
            from_first: None,
            turned: None,
            ended: None,
            evaluation: Evaluation::default(),
        }
    }

    /// Nobody saw who opened.
    #[must_use]
    pub fn guessed(&self) -> bool {
        self.rows.iter().all(|row| row.guessed)
    }

    /// Whether the side's newest source counts packets at all.
    #[must_use]
    pub fn is_blind(&self, track: &SideTrack) -> bool {
        let mut rows = self.rows.iter().filter(|row| row.source == track.source).peekable();
        rows.peek().is_some() && rows.all(|row| row.points.is_blind())
    }

    /// Where the side's newest source counts the edge's packets.
    #[must_use]
    pub fn points(&self, track: &SideTrack) -> Points {
        let rows = self.rows.iter().filter(|row| row.source == track.source);
        rows.fold(Points::default(), |points, row| points.and(row.points))
    }

    /// A node's hooks see the packets elsewhere from now on: what the sides counted can be compared only from here.
    pub fn turn(&mut self, node: NodeId, now: Ns) {
        self.turned = Some((now, node));
        self.from_first = Some(false);
        self.forward.restart();
        self.reverse.restart();
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

    /// Adds a sample of a source and cgroup; a newer source takes the side over. False when an older one speaks.
    pub fn sample(&mut self, series: (Source, u64), at: Ns, held_until: Ns, unseen: Unseen) -> bool {
        let (source, cgroup) = series;
        let sampled = |rows: &mut dyn Iterator<Item = &Row>| {
            let mut first_seen = None;
            let totals = rows.fold(Totals::default(), |sum, row| {
                first_seen = Some(first_seen.map_or(row.first_seen, |first: Ns| first.min(row.first_seen)));
                sum.plus(&row.totals)
            });
            Some((Sample { at, totals, unseen: unseen.now }, first_seen?))
        };
        let begun = |sample, first_seen| SideTrack {
            source,
            samples: VecDeque::from([sample]),
            first_seen,
            base: unseen.base,
            base_at: held_until,
        };
        if cgroup != 0
            && let Some((sample, first_seen)) = sampled(&mut self.rows.iter().filter(|row| row.series() == series))
        {
            match self.cgroups.iter_mut().find(|(side, id, _)| (*side, *id) == (source.side, cgroup)) {
                Some((_, _, track)) if track.source == source => track.push(sample, held_until),
                Some((_, _, track)) => *track = begun(sample, first_seen),
                None => self.cgroups.push((source.side, cgroup, begun(sample, first_seen))),
            }
        }
        let rows = &mut self.rows.iter().filter(|row| row.source == source);
        let Some((sample, first_seen)) = sampled(rows) else { return false };
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
                *slot = Some(begun(sample, first_seen));
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
