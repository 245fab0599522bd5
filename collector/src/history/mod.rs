//! The last hour, in buckets of 15 seconds: what every edge did in each, who was there, and what happened. Pure.
//!
//! An edge is known by whose its ends were, not by addresses: whoever scrubs back sees the pods of then under their names of
//! then. Buckets are sealed and shared: a question costs the hub a few pointers, and is answered elsewhere.

mod ask;
pub mod bucket;
mod form;
mod onset;
pub mod pack;
mod roster;
mod still;
mod tracks;
mod watch;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::{
    bucket::{Bucket, Reasons, Sealed},
    onset::Onsets,
    pack::{FIELDS, Numbers, Record},
    roster::Roster,
    watch::Watch,
};
pub use self::{
    form::Mirror,
    onset::Onset,
    still::Still,
    tracks::{Tracks, TracksRow, Whose},
};
use crate::{
    merge::{Change, FlowId, Merge, key::Tunnel},
    names::{Names, Node, Owner, Pod, Service},
    project::{self, VertexKey},
    time::{MS, Ns, SECOND},
    view::{EventRow, NodeRow, View, ms},
};

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The length of a bucket.
    pub bucket: Ns,
    /// How many there are.
    pub buckets: usize,
    /// Bytes of all of them: beyond it the oldest leaves early.
    pub bytes: usize,
    /// Different edges in them.
    pub edges: usize,
}

impl Default for Span {
    fn default() -> Self {
        Self { bucket: 15 * SECOND, buckets: 240, bytes: 96 << 20, edges: 262_144 }
    }
}

/// States of pods, services and nodes: those over first leave beyond it.
pub const MAX_SPANS: usize = 65_536;
/// Events of the last hour: the oldest leaves beyond it.
pub const MAX_EVENTS: usize = 4_096;

/// Whose ends, which port: what the view by pod has as one edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in an edge by addresses")]
pub struct EdgeKey {
    pub client: Owner,
    pub server: Owner,
    pub port: u16,
    pub protocol: u8,
    pub tunnel: Option<Tunnel>,
}

impl EdgeKey {
    /// The id of the edge in the view by pod.
    #[must_use]
    pub fn id(&self, names: &Names) -> Arc<str> {
        let [client, server] = [&self.client, &self.server].map(|end| VertexKey::of(View::Pod, end, names).id());
        project::edge_id(&client, &server, self.port, self.protocol, self.tunnel).into()
    }
}

/// An edge that some bucket knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub key: EdgeKey,
    /// When its first packet passed.
    pub first_seen: Ns,
}

/// What is remembered, from when to when; nothing yet.
pub type Remembered = Option<(Ns, Ns)>;

/// What did not find room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/api.md describes the metrics")]
pub struct Evicted {
    pub buckets: u64,
    pub edges: u64,
    pub spans: u64,
    pub events: u64,
}

/// The last hour.
#[derive(Debug)]
pub struct History {
    span: Span,
    buckets: VecDeque<Sealed>,
    bytes: usize,
    edges: BTreeMap<u32, Arc<Known>>,
    ids: HashMap<EdgeKey, u32>,
    /// The last bucket that has the edge.
    used: HashMap<u32, i64>,
    next_edge: u32,
    pods: Roster<Arc<str>, Pod>,
    services: Roster<Arc<str>, Service>,
    nodes: Roster<Arc<str>, Node>,
    agents: Roster<Arc<str>, NodeRow>,
    dns: HashMap<IpAddr, Vec<Arc<str>>>,
    events: VecDeque<(u64, EventRow)>,
    next_event: u64,
    watch: Watch,
    onsets: Onsets,
    /// The bucket that is being filled.
    open: i64,
    evicted: Evicted,
}

impl History {
    /// Nothing yet.
    #[must_use]
    pub fn new(span: Span, now: Ns) -> Self {
        Self {
            span,
            buckets: VecDeque::new(),
            bytes: 0,
            edges: BTreeMap::new(),
            ids: HashMap::new(),
            used: HashMap::new(),
            next_edge: 1,
            pods: Roster::new(MAX_SPANS),
            services: Roster::new(MAX_SPANS),
            nodes: Roster::new(MAX_SPANS),
            agents: Roster::new(MAX_SPANS),
            dns: HashMap::new(),
            events: VecDeque::new(),
            next_event: 0,
            watch: Watch::new(now),
            onsets: Onsets::default(),
            open: now.div_euclid(span.bucket),
            evicted: Evicted::default(),
        }
    }

    /// Edges that changed since the last call.
    pub fn note(&mut self, changes: &[(FlowId, Change)]) {
        self.watch.note(changes);
    }

    /// What happened to the cluster.
    pub fn add_events(&mut self, events: &[EventRow]) {
        for event in events {
            self.events.push_back((self.next_event, event.clone()));
            self.next_event += 1;
        }
        while self.events.len() > MAX_EVENTS {
            self.events.pop_front();
            self.evicted.events += 1;
        }
    }

    /// Seals the bucket that is over, if one is. Returns edges that fell ill in it, or are well again.
    pub fn advance(&mut self, merge: &Merge, names: &Names, now: Ns) -> Option<Vec<Onset>> {
        let number = now.div_euclid(self.span.bucket);
        if number <= self.open {
            return None;
        }
        let sealed = std::mem::replace(&mut self.open, number);
        let mut gathered: BTreeMap<u32, Record> = BTreeMap::new();
        let mut drops: BTreeMap<u32, Reasons> = BTreeMap::new();
        for growth in self.watch.gather(merge, names, now) {
            self.place(growth, sealed, names, &mut gathered, &mut drops);
        }
        let mut totals: Numbers = [0; FIELDS];
        for record in gathered.values() {
            if self.edges.get(&record.edge).is_some_and(|known| known.key.tunnel.is_none()) {
                bucket::add(&mut totals, &record.numbers);
            }
        }
        let onsets = self.onsets.take(&gathered, &drops, &self.edges, sealed, self.time(sealed + 1) - MS);
        self.see(merge, names, sealed, now);
        self.push(Arc::new(Bucket::seal(sealed, &gathered, drops, totals)));
        self.forget();
        Some(onsets)
    }

    fn place(
        &mut self,
        growth: watch::Growth,
        at: i64,
        names: &Names,
        gathered: &mut BTreeMap<u32, Record>,
        drops: &mut BTreeMap<u32, Reasons>,
    ) {
        let Some(edge) = self.edge(&growth.key, growth.first_seen) else { return };
        self.used.insert(edge, at);
        for end in [&growth.key.client, &growth.key.server] {
            if let Owner::External(address) = end {
                let shown = names.external().shown(*address);
                if !shown.is_empty() && self.dns.get(address) != Some(&shown) {
                    self.dns.insert(*address, shown);
                }
            }
        }
        let record = gathered.entry(edge).or_insert(Record { edge, flags: pack::flags::GUESSED, numbers: [0; FIELDS] });
        let guessed = record.flags & growth.flags & pack::flags::GUESSED;
        record.flags = (record.flags | growth.flags) & !pack::flags::GUESSED | guessed;
        bucket::add(&mut record.numbers, &growth.numbers);
        if !growth.drops.is_empty() {
            let reasons = drops.entry(edge).or_default();
            for (key, count) in growth.drops {
                match reasons.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, sum)) => *sum = sum.saturating_add(count),
                    None => reasons.push((key, count)),
                }
            }
        }
    }

    fn edge(&mut self, key: &EdgeKey, first_seen: Ns) -> Option<u32> {
        if let Some(id) = self.ids.get(key) {
            return Some(*id);
        }
        if self.edges.len() >= self.span.edges {
            self.evicted.edges += 1;
            return None;
        }
        while self.edges.contains_key(&self.next_edge) || self.next_edge == 0 {
            self.next_edge = self.next_edge.wrapping_add(1);
        }
        let id = self.next_edge;
        self.next_edge = id.wrapping_add(1);
        self.ids.insert(key.clone(), id);
        self.edges.insert(id, Arc::new(Known { key: key.clone(), first_seen }));
        Some(id)
    }

    /// Who is there.
    fn see(&mut self, merge: &Merge, names: &Names, at: i64, now: Ns) {
        for (key, pod) in names.pods() {
            self.pods.see(key, pod, at, PartialEq::eq);
        }
        for service in names.services() {
            self.services.see(&service.key(), service, at, PartialEq::eq);
        }
        for node in names.nodes() {
            self.nodes.see(&node.name, node, at, PartialEq::eq);
        }
        for row in project::node_rows(merge, names, now) {
            let same = |a: &NodeRow, b: &NodeRow| a.state == b.state && a.tiers == b.tiers && a.epoch_ms == b.epoch_ms;
            self.agents.see(&Arc::clone(&row.name), &row, at, same);
        }
    }

    fn push(&mut self, bucket: Sealed) {
        self.bytes += bucket.bytes();
        self.buckets.push_back(bucket);
    }

    /// Lets go of what is older than the span, or beyond a bound.
    fn forget(&mut self) {
        let oldest = self.open - i64::try_from(self.span.buckets).unwrap_or(i64::MAX);
        while let Some(first) = self.buckets.front() {
            let old = first.number < oldest;
            if !old && self.bytes <= self.span.bytes {
                break;
            }
            self.evicted.buckets += u64::from(!old);
            self.bytes -= first.bytes();
            self.buckets.pop_front();
        }
        let first = self.buckets.front().map_or(self.open, |bucket| bucket.number);
        let (edges, ids) = (&mut self.edges, &mut self.ids);
        self.used.retain(|edge, last| {
            if *last >= first {
                return true;
            }
            if let Some(known) = edges.remove(edge) {
                ids.remove(&known.key);
            }
            false
        });
        self.pods.forget(first);
        self.services.forget(first);
        self.nodes.forget(first);
        self.agents.forget(first);
        let since = ms(self.time(first));
        while self.events.front().is_some_and(|(_, event)| event.time_ms < since) {
            self.events.pop_front();
        }
        if self.dns.len() > 2 * self.edges.len() + 64 {
            let ends = |known: &Arc<Known>| [known.key.client.clone(), known.key.server.clone()];
            let used: std::collections::HashSet<Owner> = self.edges.values().flat_map(ends).collect();
            self.dns.retain(|address, _| used.contains(&Owner::External(*address)));
        }
    }

    /// What found no room so far.
    #[must_use]
    pub fn evicted(&self) -> Evicted {
        let spans = self.pods.evicted() + self.services.evicted() + self.nodes.evicted() + self.agents.evicted();
        Evicted { spans, ..self.evicted }
    }

    /// Bytes of all buckets, and how many there are.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.bytes, self.buckets.len())
    }
}
