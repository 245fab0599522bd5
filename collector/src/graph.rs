//! One view's graph: its rows, its revision, and the deltas between revisions. Pure.
//!
//! It holds what browsers were told. Whoever projects the merged state into a view puts whole rows here; what really
//! changed becomes the next delta.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::view::{Changes, Delta, EdgeRow, EventRow, HiddenRow, NamesRow, NodeRow, Snapshot, VertexRow, View};

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

/// Rows by id, and which of them changed since the last delta.
#[derive(Debug, Clone)]
pub struct Table<R> {
    rows: BTreeMap<Arc<str>, R>,
    changed: BTreeSet<Arc<str>>,
    removed: BTreeSet<Arc<str>>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), changed: BTreeSet::new(), removed: BTreeSet::new() }
    }
}

impl<R: Row> Table<R> {
    /// Puts a row in, if it says anything new.
    pub fn upsert(&mut self, row: R) {
        let id = Arc::clone(row.id());
        if self.rows.get(&id) == Some(&row) {
            return;
        }
        self.removed.remove(&id);
        self.changed.insert(Arc::clone(&id));
        self.rows.insert(id, row);
    }

    /// Takes a row out.
    pub fn remove(&mut self, id: &Arc<str>) {
        if self.rows.remove(id).is_some() {
            self.changed.remove(id);
            self.removed.insert(Arc::clone(id));
        }
    }

    /// A row by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&R> {
        self.rows.get(id)
    }

    /// The rows in order of their ids.
    pub fn rows(&self) -> impl Iterator<Item = &R> {
        self.rows.values()
    }

    /// There is a row of this id.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn dirty(&self) -> bool {
        !self.changed.is_empty() || !self.removed.is_empty()
    }

    fn take(&mut self) -> Changes<R> {
        let changed = std::mem::take(&mut self.changed);
        let removed = std::mem::take(&mut self.removed);
        Changes {
            upsert: changed.iter().filter_map(|id| self.rows.get(id)).cloned().collect(),
            remove: removed.into_iter().collect(),
        }
    }

    fn apply(&mut self, changes: &Changes<R>) {
        for id in &changes.remove {
            self.rows.remove(id);
        }
        for row in &changes.upsert {
            self.rows.insert(Arc::clone(row.id()), row.clone());
        }
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

    /// Sets what is left out.
    pub fn set_hidden(&mut self, hidden: HiddenRow) {
        self.head_changed |= self.hidden != hidden;
        self.hidden = hidden;
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
    pub fn step(&mut self, identity: &Identity, time_ms: i64) -> Option<Delta> {
        let news = self.head_changed || self.untold > 0;
        if !news && !self.nodes.dirty() && !self.vertices.dirty() && !self.edges.dirty() {
            return None;
        }
        self.head_changed = false;
        let base = self.revision;
        self.revision += 1;
        Some(Delta {
            run: identity.run.clone(),
            revision: self.revision,
            base,
            time_ms,
            names: self.names.clone(),
            hidden: self.hidden,
            nodes: self.nodes.take(),
            vertices: self.vertices.take(),
            edges: self.edges.take(),
            events: self.events.range(self.events.len() - std::mem::take(&mut self.untold)..).cloned().collect(),
        })
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
            nodes: self.nodes.rows().cloned().collect(),
            vertices: self.vertices.rows().cloned().collect(),
            edges: self.edges.rows().cloned().collect(),
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
