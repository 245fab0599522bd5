//! One view's graph: its rows, its revision, and the deltas between revisions. Pure.
//!
//! It holds what browsers were told. Whoever projects the merged state into a view puts whole rows here; what really
//! changed becomes the next delta.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    hash::HashMap,
    view::{Changes, Delta, EdgeRow, EventRow, HiddenRow, NamesRow, NodeRow, Shared, Snapshot, VertexRow, View},
};

/// Events a snapshot holds, and a delta brings at the most.
pub const MAX_EVENTS: usize = 256;

/// A row that is known by an id.
pub trait Row: Clone + PartialEq {
    /// The id, unique in its table.
    fn id(&self) -> &Arc<str>;
}

impl Row for NodeRow {
    fn id(&self) -> &Arc<str> {
        &self.name
    }
}

impl Row for VertexRow {
    fn id(&self) -> &Arc<str> {
        &self.id
    }
}

impl Row for EdgeRow {
    fn id(&self) -> &Arc<str> {
        &self.id
    }
}

/// Rows by id, each at a place of its own, and which of them changed since the last delta.
#[derive(Debug, Clone)]
pub struct Table<R> {
    places: Vec<Option<Shared<R>>>,
    by_id: HashMap<Arc<str>, usize>,
    free: Vec<usize>,
    /// Places whose row came or changed, and a mark at each of them.
    changed: Vec<usize>,
    is_changed: Vec<bool>,
    /// Rows that went: their places are free after the next step, so that none has two rows in one step.
    removed: BTreeMap<Arc<str>, usize>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            by_id: HashMap::default(),
            free: Vec::new(),
            changed: Vec::new(),
            is_changed: Vec::new(),
            removed: BTreeMap::new(),
        }
    }
}

impl<R: Row> Table<R> {
    /// Puts a row in, if it says anything new.
    pub fn upsert(&mut self, row: R) {
        let slot = match self.by_id.get(row.id()) {
            Some(&slot) => {
                if self.places[slot].as_deref() == Some(&row) {
                    return;
                }
                slot
            }
            None => self.place(row.id()),
        };
        if !std::mem::replace(&mut self.is_changed[slot], true) {
            self.changed.push(slot);
        }
        self.places[slot] = Some(Shared::new(row, slot));
    }

    fn place(&mut self, id: &Arc<str>) -> usize {
        // A row that went and comes back within a step was not away.
        let slot = self.removed.remove(id).or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.places.push(None);
            self.is_changed.push(false);
            self.places.len() - 1
        });
        self.by_id.insert(Arc::clone(id), slot);
        slot
    }

    /// Takes a row out.
    pub fn remove(&mut self, id: &Arc<str>) {
        if let Some(slot) = self.by_id.remove(id) {
            self.places[slot] = None;
            self.removed.insert(Arc::clone(id), slot);
        }
    }

    /// A row by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Shared<R>> {
        self.places.get(*self.by_id.get(id)?)?.as_ref()
    }

    /// The row at a place.
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<&Shared<R>> {
        self.places.get(slot)?.as_ref()
    }

    /// The rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Shared<R>> {
        self.places.iter().flatten()
    }

    /// The rows that pass, in order of their ids.
    #[must_use]
    pub fn sorted(&self, passes: impl Fn(&Shared<R>) -> bool) -> Vec<Shared<R>> {
        let mut rows: Vec<Shared<R>> = self.rows().filter(|row| passes(row)).cloned().collect();
        rows.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        rows
    }

    /// There is a row of this id.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn dirty(&self) -> bool {
        !self.changed.is_empty() || !self.removed.is_empty()
    }

    /// What changed, and the places of the rows that went.
    fn take(&mut self) -> (Changes<R>, Vec<usize>) {
        let mut upsert = Vec::with_capacity(self.changed.len());
        for slot in self.changed.drain(..) {
            self.is_changed[slot] = false;
            upsert.extend(self.places[slot].clone());
        }
        let (remove, slots): (Vec<_>, Vec<_>) = std::mem::take(&mut self.removed).into_iter().unzip();
        self.free.extend(&slots);
        (Changes { upsert, remove }, slots)
    }

    fn apply(&mut self, changes: &Changes<R>) {
        for id in &changes.remove {
            self.remove(id);
        }
        for row in &changes.upsert {
            self.upsert(R::clone(row));
        }
        self.take();
    }
}

/// What stays the same for a collector's whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// This run, as sixteen hexadecimal digits.
    pub run: String,
    /// The cluster's name.
    pub cluster: String,
    /// Since when totals count, in milliseconds.
    pub since_ms: i64,
}

/// A step to the next revision, and where the rows stood that went.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What everybody is told.
    pub delta: Delta,
    /// Places of the vertices in `delta.vertices.remove`.
    pub vertex_slots: Vec<usize>,
    /// Places of the edges in `delta.edges.remove`.
    pub edge_slots: Vec<usize>,
}

/// The graph of one view.
#[derive(Debug, Clone)]
pub struct Graph {
    view: View,
    revision: u64,
    names: NamesRow,
    hidden: HiddenRow,
    head_changed: bool,
    events: VecDeque<EventRow>,
    untold: usize,
    /// Agents' nodes.
    pub nodes: Table<NodeRow>,
    /// Vertices.
    pub vertices: Table<VertexRow>,
    /// Edges.
    pub edges: Table<EdgeRow>,
}

impl Graph {
    /// An empty graph. `revision` is where it goes on from, so that no two graphs of a run share one.
    #[must_use]
    pub fn new(view: View, revision: u64, names: NamesRow) -> Self {
        Self {
            view,
            revision,
            names,
            hidden: HiddenRow::default(),
            head_changed: false,
            events: VecDeque::new(),
            untold: 0,
            nodes: Table::default(),
            vertices: Table::default(),
            edges: Table::default(),
        }
    }

    /// How it is grouped.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// The revision that the last delta led to.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Where the names stand.
    #[must_use]
    pub fn names(&self) -> &NamesRow {
        &self.names
    }

    /// Sets where the names stand.
    pub fn set_names(&mut self, names: &NamesRow) {
        if self.names != *names {
            self.names = names.clone();
            self.head_changed = true;
        }
    }

    /// The newest events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &EventRow> {
        self.events.iter()
    }

    /// Begins with what is known to have happened: it is part of the snapshot, and of no delta.
    pub fn begin_with_events<'a>(&mut self, events: impl IntoIterator<Item = &'a EventRow>) {
        self.add_events(events);
        self.untold = 0;
    }

    /// Adds what happened; beyond the bound the oldest events go.
    pub fn add_events<'a>(&mut self, events: impl IntoIterator<Item = &'a EventRow>) {
        for event in events {
            self.events.push_back(event.clone());
            self.untold += 1;
        }
        let excess = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..excess);
        self.untold = self.untold.min(self.events.len());
    }

    /// What changed since the last call, as the step to the next revision; `None` if nothing did.
    pub fn step(&mut self, identity: &Identity, time_ms: i64) -> Option<Step> {
        let news = self.head_changed || self.untold > 0;
        if !news && !self.nodes.dirty() && !self.vertices.dirty() && !self.edges.dirty() {
            return None;
        }
        self.head_changed = false;
        let base = self.revision;
        self.revision += 1;
        let (nodes, _) = self.nodes.take();
        let (vertices, vertex_slots) = self.vertices.take();
        let (edges, edge_slots) = self.edges.take();
        let delta = Delta {
            run: identity.run.clone(),
            revision: self.revision,
            base,
            time_ms,
            names: self.names.clone(),
            hidden: self.hidden,
            nodes,
            vertices,
            edges,
            events: self.events.range(self.events.len() - std::mem::take(&mut self.untold)..).cloned().collect(),
        };
        Some(Step { delta, vertex_slots, edge_slots })
    }

    /// The whole graph. Call [`Graph::step`] first, or the next delta repeats what is in here already.
    #[must_use]
    pub fn snapshot(&self, identity: &Identity, time_ms: i64) -> Snapshot {
        Snapshot {
            run: identity.run.clone(),
            revision: self.revision,
            view: self.view,
            time_ms,
            since_ms: identity.since_ms,
            cluster: identity.cluster.clone(),
            names: self.names.clone(),
            hidden: self.hidden,
            nodes: self.nodes.sorted(|_| true),
            vertices: self.vertices.sorted(|_| true),
            edges: self.edges.sorted(|_| true),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// The graph that a snapshot describes.
    #[must_use]
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        let mut graph = Self::new(snapshot.view, snapshot.revision, snapshot.names.clone());
        graph.hidden = snapshot.hidden;
        graph.nodes.apply(&Changes { upsert: snapshot.nodes.clone(), remove: Vec::new() });
        graph.vertices.apply(&Changes { upsert: snapshot.vertices.clone(), remove: Vec::new() });
        graph.edges.apply(&Changes { upsert: snapshot.edges.clone(), remove: Vec::new() });
        graph.begin_with_events(&snapshot.events);
        graph
    }

    /// Takes a delta in, as a browser does. False when it does not follow this revision.
    pub fn apply(&mut self, delta: &Delta) -> bool {
        if delta.base != self.revision {
            return false;
        }
        self.revision = delta.revision;
        self.names = delta.names.clone();
        self.hidden = delta.hidden;
        self.nodes.apply(&delta.nodes);
        self.vertices.apply(&delta.vertices);
        self.edges.apply(&delta.edges);
        self.add_events(&delta.events);
        self.untold = 0;
        true
    }
}
