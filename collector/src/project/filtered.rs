//! What of a projection passes a filter. It lives on the projection's own deltas, so that a view is projected once however
//! many filters look at it, and a filter costs what changed.

use std::{collections::BTreeMap, sync::Arc};

use super::{Projection, Step};
use crate::{
    filter::{Noise, Wish, noise},
    graph::Identity,
    time::Ns,
    view::{Changes, Delta, EdgeRow, HiddenRow, NamesRow, Phase, Shared, Snapshot, VertexRow, View, ms},
};

/// What became of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It passes; the places of its ends.
    Shown([usize; 2]),
    Filtered,
    Noise(Noise),
}

/// One filter's part of a projection: which of its rows pass, by their places there. It holds no row itself.
#[derive(Debug)]
pub struct Filtered {
    wish: Wish,
    revision: u64,
    names: NamesRow,
    hidden: HiddenRow,
    fates: Vec<Option<Fate>>,
    /// How many shown edges lead to a vertex.
    ends: Vec<u32>,
    shown: Vec<bool>,
}

/// What one step brings.
#[derive(Default)]
struct News {
    edges: Changes<EdgeRow>,
    /// Vertices to look at: whether their rows changed.
    vertices: BTreeMap<usize, bool>,
}

fn slot<T: Clone + Default>(of: &mut Vec<T>, slot: usize) -> &mut T {
    if of.len() <= slot {
        of.resize(slot + 1, T::default());
    }
    &mut of[slot]
}

impl Filtered {
    /// What passes now. Revisions go on from `revision`.
    #[must_use]
    pub fn new(wish: Wish, revision: u64, base: &Projection) -> Self {
        let mut filtered = Self {
            wish,
            revision,
            names: base.graph.names().clone(),
            hidden: HiddenRow::default(),
            fates: Vec::new(),
            ends: Vec::new(),
            shown: Vec::new(),
        };
        let mut news = News::default();
        for row in base.graph.edges.rows() {
            filtered.judge(row, base.ends_of(row), base, &mut news);
        }
        news.vertices.extend(base.graph.vertices.rows().map(|row| (row.slot(), true)));
        filtered.show(news.vertices, base);
        filtered
    }

    /// Follows a step of the projection: the step to this view's next revision, if anything changed here.
    pub fn take(&mut self, step: &Step, base: &Projection) -> Option<Delta> {
        let told = &step.step.delta;
        let (mut news, hidden) = (News::default(), self.hidden);
        for (id, place) in told.edges.remove.iter().zip(&step.step.edge_slots) {
            let before = slot(&mut self.fates, *place).take();
            self.count(before, None);
            if let Some(Fate::Shown(ends)) = before {
                self.leave(ends, &mut news);
                news.edges.remove.push(Arc::clone(id));
            }
        }
        for (row, ends) in told.edges.upsert.iter().zip(&step.ends) {
            if self.judge(row, *ends, base, &mut news) {
                news.edges.upsert.push(row.clone());
            }
        }
        // Whether an edge passes hangs on its ends, too.
        for vertex in &told.vertices.upsert {
            news.vertices.insert(vertex.slot(), true);
            for row in base.edges_at(&vertex.id).filter_map(|id| base.graph.edges.get(id)) {
                let before = self.fates.get(row.slot()).copied().flatten();
                if self.judge(row, base.ends_of(row), base, &mut news) && !matches!(before, Some(Fate::Shown(_))) {
                    news.edges.upsert.push(row.clone());
                }
            }
        }
        let mut vertices = Changes::default();
        for (id, place) in told.vertices.remove.iter().zip(&step.step.vertex_slots) {
            if std::mem::take(slot(&mut self.shown, *place)) {
                vertices.remove.push(Arc::clone(id));
            }
            news.vertices.remove(place);
        }
        let (upsert, remove) = self.show(news.vertices, base);
        vertices.upsert = upsert;
        vertices.remove.extend(remove);
        let quiet = told.events.is_empty() && told.nodes.is_empty() && told.names == self.names;
        if quiet && hidden == self.hidden && news.edges.is_empty() && vertices.is_empty() {
            return None;
        }
        self.names.clone_from(&told.names);
        self.revision += 1;
        Some(Delta {
            revision: self.revision,
            base: self.revision - 1,
            run: told.run.clone(),
            time_ms: told.time_ms,
            names: told.names.clone(),
            hidden: self.hidden,
            nodes: told.nodes.clone(),
            vertices,
            edges: news.edges,
            events: told.events.clone(),
        })
    }

    /// The whole of it as of the last step.
    #[must_use]
    pub fn snapshot(&self, base: &Projection, identity: &Identity, now: Ns) -> Snapshot {
        let graph = &base.graph;
        let passes = |row: &Shared<EdgeRow>| matches!(self.fates.get(row.slot()), Some(Some(Fate::Shown(_))));
        Snapshot {
            run: identity.run.clone(),
            revision: self.revision,
            view: self.wish.view,
            time_ms: ms(now),
            since_ms: identity.since_ms,
            cluster: identity.cluster.clone(),
            names: self.names.clone(),
            hidden: self.hidden,
            nodes: graph.nodes.sorted(|_| true),
            vertices: graph.vertices.sorted(|row| self.shown.get(row.slot()) == Some(&true)),
            edges: graph.edges.sorted(passes),
            events: graph.events().cloned().collect(),
        }
    }

    /// The revision of the last step.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Decides on an edge; true when it is shown.
    fn judge(&mut self, row: &Shared<EdgeRow>, ends: Option<[usize; 2]>, base: &Projection, news: &mut News) -> bool {
        let fate = self.fate(row, ends, base);
        let before = slot(&mut self.fates, row.slot()).replace(fate);
        if before == Some(fate) {
            return matches!(fate, Fate::Shown(_));
        }
        self.count(before, Some(fate));
        if let Some(Fate::Shown(ends)) = before {
            self.leave(ends, news);
        }
        match fate {
            Fate::Shown(ends) => {
                for end in ends {
                    *slot(&mut self.ends, end) += 1;
                    news.vertices.entry(end).or_insert(false);
                }
            }
            Fate::Filtered | Fate::Noise(_) if matches!(before, Some(Fate::Shown(_))) => {
                news.edges.remove.push(Arc::clone(&row.id));
            }
            Fate::Filtered | Fate::Noise(_) => {}
        }
        matches!(fate, Fate::Shown(_))
    }

    /// Decides on vertices: rows that came or changed, and ids of those that went.
    fn show(&mut self, vertices: BTreeMap<usize, bool>, base: &Projection) -> (Vec<Shared<VertexRow>>, Vec<Arc<str>>) {
        let (mut upsert, mut remove) = (Vec::new(), Vec::new());
        for (place, changed) in vertices {
            let Some(row) = base.graph.vertices.at(place) else { continue };
            let shows = *slot(&mut self.ends, place) > 0 || self.passes(row);
            let showed = std::mem::replace(slot(&mut self.shown, place), shows);
            if shows && (changed || !showed) {
                upsert.push(row.clone());
            } else if showed && !shows {
                remove.push(Arc::clone(&row.id));
            }
        }
        let shown = self.shown.iter().filter(|shown| **shown).count();
        self.hidden.vertices = base.graph.vertices.len().saturating_sub(shown) as u64;
        (upsert, remove)
    }

    fn fate(&self, row: &EdgeRow, ends: Option<[usize; 2]>, base: &Projection) -> Fate {
        // Both ends of a projected edge are projected; if one were not, nothing could be told of it.
        let Some(ends) = ends else { return Fate::Filtered };
        let [client, server] = ends.map(|end| base.graph.vertices.at(end));
        let (Some(client), Some(server)) = (client, server) else { return Fate::Filtered };
        if !self.wish.filter.edge(row, [client, server]) {
            return Fate::Filtered;
        }
        let noise = if self.wish.hide_noise { noise(row, [client, server]) } else { None };
        noise.map_or(Fate::Shown(ends), Fate::Noise)
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

    fn leave(&mut self, ends: [usize; 2], news: &mut News) {
        for end in ends {
            let count = slot(&mut self.ends, end);
            *count = count.saturating_sub(1);
            news.vertices.entry(end).or_insert(false);
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
                Some(Fate::Shown(_)) | None => return,
            };
            *slot = slot.saturating_add_signed(by);
        };
        slot(before, -1);
        slot(after, 1);
    }
}
