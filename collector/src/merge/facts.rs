//! What a row knows beside its counters: sockets, owners, drops, DNS. Pure.
//!
//! Two readings of the same row are joined, key by key; different rows are added up. Every list is bounded, and what a bound
//! keeps depends on what was read and not on the order: a join keeps the least keys (of questions, the newest).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use wire::{
    limits::{MAX_DROPS, MAX_OWNERS, MAX_QUESTIONS, MAX_RCODES, MAX_VIAS},
    v1::{self, Edge, Histogram, Sockets},
};

use super::key::address;
use crate::time::Ns;

/// Reasons that sums keep apart; the rest of a sum goes by the name [`OTHER`].
const MAX_SUMMED_DROPS: usize = 64;
/// The name of what has no room under its own.
pub const OTHER: &str = "other";

/// Why, where and which way the kernel dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropKey {
    /// The kernel's name of the reason.
    pub reason: Arc<str>,
    /// `stack` or `tc`.
    pub by: Arc<str>,
    /// From client to server.
    pub forward: bool,
}

/// Dropped segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops(pub BTreeMap<DropKey, u64>);

impl Drops {
    /// What a report says.
    #[must_use]
    pub fn of(drops: &[v1::Drop]) -> Self {
        let mut all = Self::default();
        for drop in drops {
            let key =
                DropKey { reason: drop.reason.as_str().into(), by: drop.by.as_str().into(), forward: drop.forward };
            let known = all.0.entry(key).or_default();
            *known = (*known).max(drop.segments);
        }
        all
    }

    /// Two readings of the same counters: of more than `bound` reasons the first by name.
    pub fn join(&mut self, other: &Self, bound: usize) {
        join_counts(&mut self.0, &other.0, bound);
    }

    /// Different counters.
    pub fn add(&mut self, other: &Self) {
        for (key, segments) in &other.0 {
            let room = self.0.len() < MAX_SUMMED_DROPS || self.0.contains_key(key);
            let key = if room { key.clone() } else { DropKey { reason: OTHER.into(), ..key.clone() } };
            let sum = self.0.entry(key).or_default();
            *sum = sum.saturating_add(*segments);
        }
    }

    /// The same seen from the other end.
    #[must_use]
    pub fn swapped(&self) -> Self {
        let turned = self.0.iter().map(|(key, count)| (DropKey { forward: !key.forward, ..key.clone() }, *count));
        Self(turned.collect())
    }
}

/// A process in its cgroup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerKey {
    /// The command name.
    pub process: Arc<str>,
    /// The cgroup's id; 0 where unknown.
    pub cgroup: u64,
}

/// What that cgroup is; either may become known later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Home {
    /// The container's id, or empty.
    pub container: Arc<str>,
    /// The pod's UID, or empty.
    pub pod_uid: Arc<str>,
}

/// Whose sockets they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners(pub BTreeMap<OwnerKey, Home>);

impl Owners {
    fn of(owners: &[v1::Owner]) -> Self {
        let mut all = Self::default();
        for owner in owners {
            let key = OwnerKey { process: owner.process.as_str().into(), cgroup: owner.cgroup };
            let home = Home { container: owner.container.as_str().into(), pod_uid: owner.pod_uid.as_str().into() };
            all.join(&Self(BTreeMap::from([(key, home)])));
        }
        all
    }

    /// All of both, or the first four by name.
    pub fn join(&mut self, other: &Self) {
        for (key, home) in &other.0 {
            match self.0.get_mut(key) {
                Some(known) => {
                    known.container = Arc::clone((&known.container).max(&home.container));
                    known.pod_uid = Arc::clone((&known.pod_uid).max(&home.pod_uid));
                }
                None => {
                    self.0.insert(key.clone(), home.clone());
                }
            }
        }
        keep_first(&mut self.0, MAX_OWNERS);
    }
}

/// What became of a question: the later reading wins as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// When it was asked last, by the collector's clock.
    pub last: Ns,
    /// How often it was asked.
    pub queries: u64,
    /// How often in vain.
    pub failures: u64,
    /// The newest answer's response code.
    pub last_rcode: u32,
}

/// DNS messages.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the report's")]
pub struct Dns {
    pub queries: u64,
    pub answers: u64,
    pub timeouts: u64,
    pub unparsed: u64,
    pub rcodes: BTreeMap<u32, u64>,
    pub latency: Histogram,
    /// By name and type.
    pub questions: BTreeMap<(Arc<str>, u32), Asked>,
}

impl Dns {
    fn of(dns: &v1::Dns, at: impl Fn(u64) -> Ns) -> Self {
        let mut rcodes = BTreeMap::new();
        for rcode in &dns.rcodes {
            join_counts(&mut rcodes, &BTreeMap::from([(rcode.rcode, rcode.count)]), MAX_RCODES);
        }
        let mut of = Self {
            queries: dns.queries,
            answers: dns.answers,
            timeouts: dns.timeouts,
            unparsed: dns.unparsed,
            rcodes,
            latency: dns.latency.clone().unwrap_or_default(),
            questions: BTreeMap::new(),
        };
        for question in &dns.questions {
            let asked = Asked {
                last: at(question.last_unix_ns),
                queries: question.queries,
                failures: question.failures,
                last_rcode: question.last_rcode,
            };
            of.ask((question.name.as_str().into(), question.r#type), asked, Ord::max);
        }
        of
    }

    fn ask(&mut self, question: (Arc<str>, u32), asked: Asked, both: impl Fn(Asked, Asked) -> Asked) {
        self.questions.entry(question).and_modify(|known| *known = both(*known, asked)).or_insert(asked);
    }

    fn join(&mut self, other: &Self) {
        self.queries = self.queries.max(other.queries);
        self.answers = self.answers.max(other.answers);
        self.timeouts = self.timeouts.max(other.timeouts);
        self.unparsed = self.unparsed.max(other.unparsed);
        join_counts(&mut self.rcodes, &other.rcodes, MAX_RCODES);
        self.latency = self.latency.join(&other.latency);
        for (question, asked) in &other.questions {
            self.ask(question.clone(), *asked, Ord::max);
        }
        self.keep_newest();
    }

    /// Different edges' messages.
    pub fn add(&mut self, other: &Self) {
        self.queries = self.queries.saturating_add(other.queries);
        self.answers = self.answers.saturating_add(other.answers);
        self.timeouts = self.timeouts.saturating_add(other.timeouts);
        self.unparsed = self.unparsed.saturating_add(other.unparsed);
        for (rcode, count) in &other.rcodes {
            let sum = self.rcodes.entry(*rcode).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.latency = self.latency.plus(&other.latency);
        for (question, asked) in &other.questions {
            self.ask(question.clone(), *asked, |a, b| Asked {
                queries: a.queries.saturating_add(b.queries),
                failures: a.failures.saturating_add(b.failures),
                ..a.max(b)
            });
        }
    }

    /// Lets go of the oldest questions beyond the bound.
    fn keep_newest(&mut self) {
        while self.questions.len() > MAX_QUESTIONS {
            let oldest = self.questions.iter().min_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0))).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.questions.remove(&key));
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// What sockets told.
    pub sockets: Option<Sockets>,
    /// Whose they are.
    pub owners: Owners,
    /// What the kernel dropped.
    pub drops: Drops,
    /// DNS messages.
    pub dns: Option<Dns>,
    /// Virtual addresses and their ports that clients named instead of the server.
    pub vias: Vias,
    /// Counted before and after a translation, on two edges that could not be joined.
    pub translated: bool,
}

/// Virtual addresses with their ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vias(pub BTreeSet<(IpAddr, u16)>);

impl Vias {
    fn of(vias: &[v1::Via]) -> Self {
        Self(vias.iter().filter_map(|via| Some((address(&via.address)?, u16::try_from(via.port).ok()?))).collect())
    }

    /// All of both, or the first by address.
    fn join(&mut self, other: &Self) {
        self.0.extend(&other.0);
        while self.0.len() > MAX_VIAS {
            self.0.pop_last();
        }
    }
}

impl Facts {
    /// The facts of a reported edge, if it has any; `at` makes its times the collector's.
    #[must_use]
    pub fn of(edge: &Edge, at: impl Fn(u64) -> Ns) -> Option<Box<Self>> {
        let counted = edge.sockets.is_none() && edge.owners.is_empty() && edge.drops.is_empty() && edge.dns.is_none();
        if counted && edge.vias.is_empty() && !edge.translated {
            return None;
        }
        Some(Box::new(Self {
            sockets: edge.sockets.clone(),
            owners: Owners::of(&edge.owners),
            drops: Drops::of(&edge.drops),
            dns: edge.dns.as_ref().map(|dns| Dns::of(dns, at)),
            vias: Vias::of(&edge.vias),
            translated: edge.translated,
        }))
    }

    /// Another reading of the same row.
    pub fn join(&mut self, other: &Self) {
        merge(&mut self.sockets, other.sockets.as_ref(), |a, b| *a = a.join(b));
        self.owners.join(&other.owners);
        self.drops.join(&other.drops, MAX_DROPS);
        merge(&mut self.dns, other.dns.as_ref(), Dns::join);
        self.vias.join(&other.vias);
        self.translated |= other.translated;
    }

    /// Another row.
    pub fn add(&mut self, other: &Self) {
        merge(&mut self.sockets, other.sockets.as_ref(), |a, b| *a = a.plus(b));
        self.owners.join(&other.owners);
        self.drops.add(&other.drops);
        merge(&mut self.dns, other.dns.as_ref(), Dns::add);
        self.vias.join(&other.vias);
        self.translated |= other.translated;
    }

    /// Another row, folded into this one for good: questions stay bounded.
    pub fn fold(&mut self, other: &Self) {
        self.add(other);
        self.dns.iter_mut().for_each(Dns::keep_newest);
    }

    /// The pods that own the sockets of a cgroup.
    pub fn pod_uids(&self, cgroup: u64) -> impl Iterator<Item = &Arc<str>> {
        let here = self.owners.0.iter().filter(move |(key, _)| key.cgroup == cgroup);
        here.map(|(_, home)| &home.pod_uid).filter(|uid| !uid.is_empty())
    }
}

/// Joins or adds what may be missing on either side.
fn merge<T: Clone>(slot: &mut Option<T>, other: Option<&T>, both: impl FnOnce(&mut T, &T)) {
    match (slot, other) {
        (Some(known), Some(other)) => both(known, other),
        (slot @ None, Some(other)) => *slot = Some(other.clone()),
        (_, None) => {}
    }
}

/// The greater of each, of the first `bound` keys.
fn join_counts<K: Ord + Clone>(counts: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>, bound: usize) {
    for (key, count) in other {
        let known = counts.entry(key.clone()).or_default();
        *known = (*known).max(*count);
    }
    keep_first(counts, bound);
}

fn keep_first<K: Ord, V>(map: &mut BTreeMap<K, V>, bound: usize) {
    while map.len() > bound {
        map.pop_last();
    }
}
