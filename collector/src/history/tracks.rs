//! The course of an edge, of a vertex, or of everything, bucket by bucket. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Known,
    bucket::{self, Sealed},
    pack::{self, FIELDS, Numbers},
};
use crate::{
    names::{Change, Names, Owner, Pod},
    project::{VertexKey, edge_id},
    time::Ns,
    view::{View, ms},
};

/// Whose course is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everything together.
    All,
    /// An edge of the view, by its id.
    Edge(View, String),
    /// All edges of a vertex of the view, by its id.
    Vertex(View, String),
}

/// Buckets and edges, to be read by whoever asked.
#[derive(Debug)]
pub struct Tracks {
    pub(super) bucket: Ns,
    pub(super) buckets: Vec<Sealed>,
    pub(super) edges: BTreeMap<u32, Arc<Known>>,
    pub(super) pods: Vec<(Arc<str>, Arc<Pod>)>,
}

/// One number a bucket, oldest first. Buckets in which nothing was watched are missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "docs/api.md describes every field of the JSON")]
pub struct TracksRow {
    pub bucket_ms: i64,
    /// The edges it was made of.
    pub edges: usize,
    pub at_ms: Vec<i64>,
    pub skbs: Vec<u64>,
    pub bytes: Vec<u64>,
    pub segments: Vec<u64>,
    pub lost: Vec<u64>,
    pub dropped: Vec<u64>,
    pub opened: Vec<u64>,
    pub failed: Vec<u64>,
    pub retransmitted: Vec<u64>,
    pub queries: Vec<u64>,
    pub unanswered: Vec<u64>,
}

impl Tracks {
    /// The course.
    #[must_use]
    pub fn row(&self, whose: &Whose) -> TracksRow {
        let wanted = match whose {
            Whose::All => None,
            Whose::Edge(view, id) => Some(self.edges_that(*view, |ids| edge_of(ids) == *id)),
            Whose::Vertex(view, id) => {
                Some(self.edges_that(*view, |(client, server, _)| **client == **id || **server == **id))
            }
        };
        let mut row = TracksRow {
            bucket_ms: ms(self.bucket),
            edges: wanted.as_ref().map_or(self.edges.len(), Vec::len),
            at_ms: Vec::new(),
            skbs: Vec::new(),
            bytes: Vec::new(),
            segments: Vec::new(),
            lost: Vec::new(),
            dropped: Vec::new(),
            opened: Vec::new(),
            failed: Vec::new(),
            retransmitted: Vec::new(),
            queries: Vec::new(),
            unanswered: Vec::new(),
        };
        let tunnels: HashSet<u32> = match wanted {
            // What carries other traffic would count it twice, but where it alone is asked for.
            Some(ref wanted) if matches!(whose, Whose::Vertex(..)) => {
                let carries = |edge: &&u32| self.edges.get(edge).is_some_and(|known| known.key.tunnel.is_some());
                wanted.iter().filter(carries).copied().collect()
            }
            _ => HashSet::new(),
        };
        for bucket in &self.buckets {
            let (mut sum, mut dropped): (Numbers, u64) = ([0; FIELDS], 0);
            match &wanted {
                None => {
                    sum = bucket.totals;
                    dropped = bucket.drops.values().flatten().map(|(_, count)| count).sum();
                }
                Some(wanted) => {
                    for record in bucket.of(wanted).iter().filter(|record| !tunnels.contains(&record.edge)) {
                        bucket::add(&mut sum, &record.numbers);
                        let reasons = bucket.drops.get(&record.edge).into_iter().flatten();
                        dropped = reasons.fold(dropped, |sum, (_, count)| sum.saturating_add(*count));
                    }
                }
            }
            row.at_ms.push(ms(bucket.number.saturating_mul(self.bucket)));
            let [there, back] = [0, 3].map(|way| {
                // Either end may be watched by nobody: of each number the greater side's is nearer the truth.
                [0, 1, 2].map(|index| sum[pack::CLIENT + way + index].max(sum[pack::SERVER + way + index]))
            });
            row.skbs.push(there[0].saturating_add(back[0]));
            row.segments.push(there[1].saturating_add(back[1]));
            row.bytes.push(there[2].saturating_add(back[2]));
            row.lost.push(sum[pack::LOST].saturating_add(sum[pack::LOST + 1]));
            row.dropped.push(dropped);
            row.opened.push(sum[pack::ESTABLISHED]);
            row.failed.push(sum[pack::REFUSED..pack::RETRANSMITTED].iter().sum());
            row.retransmitted.push(sum[pack::RETRANSMITTED]);
            row.queries.push(sum[pack::QUERIES]);
            row.unanswered.push(sum[pack::TIMEOUTS].saturating_add(sum[pack::BAD_ANSWERS]));
        }
        row
    }

    /// Edges by what their ids in a view are: (client, server, rest).
    fn edges_that(&self, view: View, fits: impl Fn((&Arc<str>, &Arc<str>, &Known)) -> bool) -> Vec<u32> {
        let mut names = Names::default();
        for (_, pod) in &self.pods {
            names.apply(Change::Pod(Box::new(Pod::clone(pod))), 0);
        }
        let mut ids: HashMap<&Owner, Arc<str>> = HashMap::new();
        for end in self.edges.values().flat_map(|known| [&known.key.client, &known.key.server]) {
            ids.entry(end).or_insert_with(|| VertexKey::of(view, end, &names).id());
        }
        let of = |known: &Arc<Known>| fits((&ids[&known.key.client], &ids[&known.key.server], known));
        self.edges.iter().filter(|(_, known)| of(known)).map(|(id, _)| *id).collect()
    }
}

fn edge_of((client, server, known): (&Arc<str>, &Arc<str>, &Known)) -> String {
    edge_id(client, server, known.key.port, known.key.protocol, known.key.tunnel)
}
