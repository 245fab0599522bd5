//! What of a projection passes a filter. It lives on the projection's own deltas, so that a view is projected once however
//! many filters look at it, and a filter costs what changed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::Projection;
use crate::{
    filter::{Noise, Wish, noise},
    graph::{Graph, Identity},
    time::Ns,
    view::{Delta, EdgeRow, HiddenRow, Phase, Snapshot, VertexRow, View, ms},
};

/// What became of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shown,
    Filtered,
    Noise(Noise),
}

/// One filter's part of a projection.
#[derive(Debug)]
pub struct Filtered {
    wish: Wish,
    graph: Graph,
    fates: HashMap<Arc<str>, Fate>,
    /// How many shown edges lead to a vertex.
    ends: HashMap<Arc<str>, usize>,
    hidden: HiddenRow,
}

impl Filtered {
    /// What passes now. Revisions go on from `revision`.
    #[must_use]
    pub fn new(wish: Wish, revision: u64, base: &Projection) -> Self {
        let mut filtered = Self {
            graph: Graph::new(wish.view, revision, base.graph.names().clone()),
            wish,
            fates: HashMap::new(),
            ends: HashMap::new(),
            hidden: HiddenRow::default(),
        };
        filtered.graph.begin_with_events(base.graph.events());
        for row in base.graph.nodes.rows() {
            filtered.graph.nodes.upsert(row.clone());
        }
        let vertices = base.graph.vertices.rows().map(|row| Arc::clone(&row.id)).collect();
        filtered.review(base.graph.edges.rows().map(|row| Arc::clone(&row.id)).collect(), vertices, base);
        filtered
    }

    /// Takes in what a step of the projection changed.
    pub fn take(&mut self, delta: &Delta, base: &Projection) {
        self.graph.set_names(&delta.names);
        self.graph.add_events(&delta.events);
        for name in &delta.nodes.remove {
            self.graph.nodes.remove(name);
        }
        for row in &delta.nodes.upsert {
            self.graph.nodes.upsert(row.clone());
        }
        let mut vertices: BTreeSet<Arc<str>> = delta.vertices.remove.iter().cloned().collect();
        vertices.extend(delta.vertices.upsert.iter().map(|row| Arc::clone(&row.id)));
        let mut edges: BTreeSet<Arc<str>> = delta.edges.remove.iter().cloned().collect();
        edges.extend(delta.edges.upsert.iter().map(|row| Arc::clone(&row.id)));
        // Whether an edge passes hangs on its ends, too.
        edges.extend(vertices.iter().flat_map(|vertex| base.edges_at(vertex)).cloned());
        self.review(edges, vertices, base);
    }

    /// The step to the next revision, if anything changed.
    pub fn step(&mut self, identity: &Identity, now: Ns) -> Option<Delta> {
        self.graph.step(identity, ms(now))
    }

    /// The whole of it as of the last step.
    #[must_use]
    pub fn snapshot(&self, identity: &Identity, now: Ns) -> Snapshot {
        self.graph.snapshot(identity, ms(now))
    }

    /// The revision of the last step.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.graph.revision()
    }

    fn review(&mut self, edges: BTreeSet<Arc<str>>, mut vertices: BTreeSet<Arc<str>>, base: &Projection) {
        for id in edges {
            let row = base.graph.edges.get(&id);
            let fate = row.map(|row| self.fate(row, base));
            let before = match fate {
                Some(fate) => self.fates.insert(Arc::clone(&id), fate),
                None => self.fates.remove(&id),
            };
            if before != fate {
                self.count(before, fate);
            }
            let old = self.graph.edges.get(&id).map(|row| [Arc::clone(&row.client), Arc::clone(&row.server)]);
            match row {
                Some(row) if fate == Some(Fate::Shown) => {
                    if old.is_none() {
                        for end in [&row.client, &row.server] {
                            *self.ends.entry(Arc::clone(end)).or_default() += 1;
                            vertices.insert(Arc::clone(end));
                        }
                    }
                    self.graph.edges.upsert(row.clone());
                }
                _ => {
                    for end in old.into_iter().flatten() {
                        self.leave(&end);
                        vertices.insert(end);
                    }
                    self.graph.edges.remove(&id);
                }
            }
        }
        for id in vertices {
            match base.graph.vertices.get(&id) {
                Some(row) if self.ends.contains_key(&id) || self.passes(row) => self.graph.vertices.upsert(row.clone()),
                _ => self.graph.vertices.remove(&id),
            }
        }
        self.hidden.vertices = (base.graph.vertices.len() - self.graph.vertices.len()) as u64;
        self.graph.set_hidden(self.hidden);
    }

    fn fate(&self, row: &EdgeRow, base: &Projection) -> Fate {
        let end = |id: &Arc<str>| base.graph.vertices.get(id);
        // Both ends of a projected edge are projected; if one were not, nothing could be told of it.
        let (Some(client), Some(server)) = (end(&row.client), end(&row.server)) else { return Fate::Filtered };
        if !self.wish.filter.edge(row, [client, server]) {
            return Fate::Filtered;
        }
        let noise = if self.wish.hide_noise { noise(row, [client, server]) } else { None };
        noise.map_or(Fate::Shown, Fate::Noise)
    }

    /// Without an edge only what the cluster lists is shown: addresses and remembered pods come with their edges.
    fn passes(&self, row: &VertexRow) -> bool {
        let listed = match row.kind.as_str() {
            "external" | "service" => false,
            "node" => self.wish.view == View::Node,
            _ => row.phase != Phase::Gone,
        };
        listed && self.wish.filter.vertex(row)
    }

    fn leave(&mut self, end: &Arc<str>) {
        if let Some(count) = self.ends.get_mut(end) {
            *count -= 1;
            if *count == 0 {
                self.ends.remove(end);
            }
        }
    }

    fn count(&mut self, before: Option<Fate>, after: Option<Fate>) {
        let noise = &mut self.hidden.noise;
        let mut slot = |fate: Option<Fate>, by: i64| {
            let slot = match fate {
                Some(Fate::Filtered) => &mut self.hidden.edges,
                Some(Fate::Noise(Noise::Own)) => &mut noise.own,
                Some(Fate::Noise(Noise::Dns)) => &mut noise.dns,
                Some(Fate::Noise(Noise::Scrape)) => &mut noise.scrapes,
                Some(Fate::Noise(Noise::Probe)) => &mut noise.probes,
                Some(Fate::Noise(Noise::KubeSystem)) => &mut noise.kube_system,
                Some(Fate::Shown) | None => return,
            };
            *slot = slot.saturating_add_signed(by);
        };
        slot(before, -1);
        slot(after, 1);
    }
}
