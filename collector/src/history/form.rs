//! The past as it is kept from one run to the next. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    EdgeKey, History, Known, Span,
    bucket::{Bucket, Reasons},
    pack::{FIELDS, Numbers},
    roster::{self, Roster},
};
use crate::{
    keep::{Batch, Damaged, Kept, Table},
    merge::facts::DropKey,
    time::Ns,
    view::EventRow,
};

/// Where the length of a bucket is kept.
const BUCKET: &[u8] = b"bucket";

#[derive(Clone, PartialEq, Message)]
struct KeptDrop {
    #[prost(uint32, tag = "1")]
    edge: u32,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(string, tag = "3")]
    by: String,
    #[prost(bool, tag = "4")]
    forward: bool,
    #[prost(uint64, tag = "5")]
    segments: u64,
}

#[derive(Clone, PartialEq, Message)]
struct KeptBucket {
    #[prost(bytes = "vec", tag = "1")]
    records: Vec<u8>,
    #[prost(uint64, repeated, tag = "2")]
    totals: Vec<u64>,
    #[prost(message, repeated, tag = "3")]
    drops: Vec<KeptDrop>,
}

/// What is already kept, so that only what differs is written.
#[derive(Debug, Default)]
pub struct Mirror {
    head: bool,
    buckets: BTreeSet<i64>,
    edges: HashSet<u32>,
    /// Spans, each with whether it still went on.
    spans: [HashMap<u64, bool>; 4],
    dns: HashMap<IpAddr, Vec<Arc<str>>>,
    events: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
struct KeptSpan<K, T> {
    key: K,
    what: T,
    from: i64,
    /// `None`: it went on when this was written.
    to: Option<i64>,
}

impl History {
    /// Writes what differs from `mirror`, which then has it.
    pub fn keep(&self, mirror: &mut Mirror, batch: &mut Batch) {
        if !std::mem::replace(&mut mirror.head, true) {
            batch.put(Table::Head, BUCKET, self.span.bucket.to_be_bytes().to_vec());
        }
        let numbers: BTreeSet<i64> = self.buckets.iter().map(|bucket| bucket.number).collect();
        for bucket in self.buckets.iter().filter(|bucket| !mirror.buckets.contains(&bucket.number)) {
            batch.put(Table::Buckets, bucket.number.to_be_bytes(), kept_bucket(bucket).encode_to_vec());
        }
        for gone in mirror.buckets.difference(&numbers) {
            batch.delete(Table::Buckets, gone.to_be_bytes());
        }
        mirror.buckets = numbers;
        for (id, known) in self.edges.iter().filter(|(id, _)| !mirror.edges.contains(id)) {
            put_json(batch, Table::Edges, id.to_be_bytes().to_vec(), &(&known.key, known.first_seen));
        }
        for gone in mirror.edges.iter().filter(|id| !self.edges.contains_key(id)) {
            batch.delete(Table::Edges, gone.to_be_bytes());
        }
        mirror.edges = self.edges.keys().copied().collect();
        let at = self.open - 1;
        let [pods, services, nodes, agents] = &mut mirror.spans;
        keep_spans(Table::Pods, &self.pods, at, pods, batch);
        keep_spans(Table::Services, &self.services, at, services, batch);
        keep_spans(Table::Hosts, &self.nodes, at, nodes, batch);
        keep_spans(Table::Agents, &self.agents, at, agents, batch);
        for (address, names) in self.dns.iter().filter(|(address, names)| mirror.dns.get(address) != Some(names)) {
            put_json(batch, Table::Names, address.to_string().into_bytes(), names);
        }
        for gone in mirror.dns.keys().filter(|address| !self.dns.contains_key(address)) {
            batch.delete(Table::Names, gone.to_string());
        }
        mirror.dns.clone_from(&self.dns);
        let events: BTreeSet<u64> = self.events.iter().map(|(id, _)| *id).collect();
        for (id, event) in self.events.iter().filter(|(id, _)| !mirror.events.contains(id)) {
            put_json(batch, Table::Events, id.to_be_bytes().to_vec(), event);
        }
        for gone in mirror.events.difference(&events) {
            batch.delete(Table::Events, gone.to_be_bytes());
        }
        mirror.events = events;
    }

    /// Takes back what a run before had kept. Buckets of another length are none of ours.
    ///
    /// # Errors
    /// When a row of it cannot be read.
    pub fn restore(span: Span, now: Ns, kept: &Kept) -> Result<Self, Damaged> {
        let mut history = Self::new(span, now);
        if kept.get(Table::Head, BUCKET) != Some(&span.bucket.to_be_bytes()[..]) {
            return Ok(history);
        }
        for (key, value) in kept.rows(Table::Buckets) {
            let damaged = || Damaged::row(Table::Buckets);
            let number = i64::from_be_bytes(key.as_slice().try_into().map_err(|_| damaged())?);
            let bucket = KeptBucket::decode(value.as_slice()).ok().and_then(|kept| bucket_of(number, kept));
            // A clock that was set back has no buckets of the future.
            if number < history.open {
                history.push(Arc::new(bucket.ok_or_else(damaged)?));
            }
        }
        for (key, value) in kept.rows(Table::Edges) {
            let id = u32::from_be_bytes(key.as_slice().try_into().map_err(|_| Damaged::row(Table::Edges))?);
            let (key, first_seen): (EdgeKey, Ns) = of_json(Table::Edges, value)?;
            history.ids.insert(key.clone(), id);
            history.edges.insert(id, Arc::new(Known { key, first_seen }));
            history.next_edge = history.next_edge.max(id.saturating_add(1));
        }
        let last = history.buckets.back().map_or(history.open, |bucket| bucket.number);
        for bucket in &history.buckets {
            for record in bucket.all() {
                history.used.insert(record.edge, bucket.number);
            }
        }
        let (edges, ids, used) = (&mut history.edges, &mut history.ids, &history.used);
        edges.retain(|id, _| used.contains_key(id));
        ids.retain(|_, id| used.contains_key(id));
        restore_spans(Table::Pods, &mut history.pods, last, kept)?;
        restore_spans(Table::Services, &mut history.services, last, kept)?;
        restore_spans(Table::Hosts, &mut history.nodes, last, kept)?;
        // What later versions tell of an agent is no reason to forget the rest.
        let _ = restore_spans(Table::Agents, &mut history.agents, last, kept);
        for (key, value) in kept.rows(Table::Names) {
            let address = std::str::from_utf8(key).ok().and_then(|text| text.parse().ok());
            let address: IpAddr = address.ok_or_else(|| Damaged::row(Table::Names))?;
            history.dns.insert(address, of_json(Table::Names, value)?);
        }
        for (_, value) in kept.rows(Table::Events) {
            let event: EventRow = of_json(Table::Events, value)?;
            history.add_events(&[event]);
        }
        history.forget();
        Ok(history)
    }
}

fn put_json(batch: &mut Batch, table: Table, key: Vec<u8>, value: &impl Serialize) {
    // These types have string keys and finite numbers only: serialising them cannot fail.
    batch.put(table, key, serde_json::to_vec(value).unwrap_or_default());
}

fn of_json<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, Damaged> {
    serde_json::from_slice(value).map_err(|_| Damaged::row(table))
}

fn kept_bucket(bucket: &Bucket) -> KeptBucket {
    let drops = bucket.drops.iter().flat_map(|(edge, reasons)| reasons.iter().map(move |reason| (*edge, reason)));
    let drop = |(edge, (key, segments)): (u32, &(DropKey, u64))| KeptDrop {
        edge,
        reason: key.reason.to_string(),
        by: key.by.to_string(),
        forward: key.forward,
        segments: *segments,
    };
    KeptBucket { records: bucket.records.clone(), totals: bucket.totals.to_vec(), drops: drops.map(drop).collect() }
}

fn bucket_of(number: i64, kept: KeptBucket) -> Option<Bucket> {
    let mut totals: Numbers = [0; FIELDS];
    totals.iter_mut().zip(kept.totals).for_each(|(number, kept)| *number = kept);
    let mut drops: BTreeMap<u32, Reasons> = BTreeMap::new();
    for drop in kept.drops {
        let key = DropKey { reason: drop.reason.into(), by: drop.by.into(), forward: drop.forward };
        drops.entry(drop.edge).or_default().push((key, drop.segments));
    }
    Bucket::restore(number, kept.records, drops, totals)
}

fn keep_spans<K: Clone + Eq + Hash + Ord + Serialize, T: PartialEq + Serialize>(
    table: Table,
    roster: &Roster<K, T>,
    at: i64,
    kept: &mut HashMap<u64, bool>,
    batch: &mut Batch,
) {
    let mut there = HashMap::new();
    for (key, span) in roster.spans() {
        let open = span.to >= at;
        there.insert(span.id, open);
        if kept.get(&span.id) != Some(&open) {
            let row = KeptSpan { key, what: &*span.what, from: span.from, to: (!open).then_some(span.to) };
            put_json(batch, table, span.id.to_be_bytes().to_vec(), &row);
        }
    }
    for gone in kept.keys().filter(|id| !there.contains_key(id)) {
        batch.delete(table, gone.to_be_bytes());
    }
    *kept = there;
}

fn restore_spans<K: Clone + Eq + Hash + Ord + DeserializeOwned, T: PartialEq + DeserializeOwned>(
    table: Table,
    roster: &mut Roster<K, T>,
    last: i64,
    kept: &Kept,
) -> Result<(), Damaged> {
    for (id, value) in kept.rows(table) {
        let id = u64::from_be_bytes(id.as_slice().try_into().map_err(|_| Damaged::row(table))?);
        let KeptSpan::<K, T> { key, what, from, to } = of_json(table, value)?;
        roster.restore(key, roster::Span { id, what: Arc::new(what), from, to: to.unwrap_or(last.max(from)) });
    }
    Ok(())
}
