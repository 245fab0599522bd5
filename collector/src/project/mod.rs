//! The merged state seen by pod, workload, namespace or node: which edges belong together, and their rows. Pure.
//!
//! Only what changed is projected again: an edge by addresses is a member of one group (one row of the view), or of two
//! when an address changed hands; a change of it makes its groups dirty, and nothing else.

pub(crate) mod ends;
mod facts;
mod filtered;
mod loss;
mod node;
mod row;
mod vertex;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) use self::row::{protocol_name, round};
pub(crate) use self::vertex::{VertexKey, row as vertex_row};
use self::world::World;
use crate::{
    graph::{self, Graph, Identity},
    hash::{HashMap, HashSet},
    merge::{
        Bounds, Change, FlowId, Merge,
        flow::Flow,
        key::{FlowKey, Tunnel},
    },
    names::{Names, Owner, Pod, Touched},
    time::Ns,
    view::{EdgeRow, EventRow, NamesRow, NodeRow, Shared, Snapshot, View, ms},
};

/// How an edge by addresses belongs to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    /// Its client is the group's server: it was guessed the wrong way round, between equal ports.
    swapped: bool,
    /// All its rows belong here; else only those whose ends resolve to the group's.
    whole: bool,
}

/// All edges that are one row of the view.
#[derive(Debug)]
struct Group {
    client: VertexKey,
    server: VertexKey,
    client_id: Arc<str>,
    server_id: Arc<str>,
    port: u16,
    protocol: u8,
    tunnel: Option<Tunnel>,
    members: BTreeMap<FlowId, Member>,
}

/// A step of a projection, and what its filters need to follow it.
#[derive(Debug)]
pub struct Step {
    /// Of the graph.
    pub step: graph::Step,
    /// The places of the ends of each edge in `step.delta.edges.upsert`: looked up once for all filters.
    ends: Vec<Option<[usize; 2]>>,
}

/// One view of the merged state.
#[derive(Debug)]
pub struct Projection {
    view: View,
    graph: Graph,
    groups: HashMap<Arc<str>, Group>,
    groups_of: HashMap<FlowId, (FlowKey, Vec<Arc<str>>)>,
    /// Flows whose ends could not be told at once.
    shaky: HashMap<FlowId, u32>,
    ambiguous: u64,
    /// Vertices that edges lead to, each with its groups.
    referenced: HashMap<Arc<str>, (VertexKey, HashSet<Arc<str>>)>,
    /// Living pods by the vertex they are part of.
    members: HashMap<VertexKey, BTreeSet<Arc<str>>>,
    vertex_of: HashMap<Arc<str>, VertexKey>,
    world: World,
    dirty: HashSet<Arc<str>>,
    dirty_vertices: HashSet<VertexKey>,
    external_revision: u64,
}

impl Projection {
    /// A view of everything there is. Revisions go on from `revision`.
    #[must_use]
    pub fn new(view: View, revision: u64, merge: &Merge, names: &Names, names_row: &NamesRow) -> Self {
        let mut projection = Self {
            view,
            graph: Graph::new(view, revision, names_row.clone()),
            groups: HashMap::default(),
            groups_of: HashMap::default(),
            shaky: HashMap::default(),
            ambiguous: 0,
            referenced: HashMap::default(),
            members: HashMap::default(),
            vertex_of: HashMap::default(),
            world: World::default(),
            dirty: HashSet::default(),
            dirty_vertices: HashSet::default(),
            external_revision: names.external().revision(),
        };
        names.pods().for_each(|(key, _)| projection.place_pod(key, names));
        match view {
            View::Node => {
                let listed = names.nodes().map(|node| &node.name).chain(merge.nodes().map(|node| &node.name));
                projection.dirty_vertices.extend(listed.map(|name| VertexKey::Node(Arc::clone(name))));
            }
            View::Namespace => {
                projection.dirty_vertices.extend(names.namespaces().cloned().map(VertexKey::Namespace));
            }
            View::Pod | View::Workload => {}
        }
        for (id, flow) in merge.flows() {
            projection.attach(id, flow, merge, names);
        }
        projection
    }

    /// A view of which nothing changes any more.
    #[must_use]
    pub fn still(graph: Graph) -> Self {
        let (view, names) = (graph.view(), graph.names().clone());
        let nothing = Merge::new(Bounds::default(), 0);
        Self { graph, ..Self::new(view, 0, &nothing, &Names::default(), &names) }
    }

    /// Takes in what changed.
    pub fn update(&mut self, changes: &[(FlowId, Change)], touched: &Touched, merge: &Merge, names: &Names) {
        self.update_names(touched, names);
        let renamed = touched.addresses.iter().flat_map(|address| merge.flows_at(*address));
        let doubtful: HashSet<FlowId> = renamed.chain(self.shaky.keys().copied()).collect();
        for id in doubtful {
            if let Some(flow) = merge.flow(id) {
                self.reattach(id, flow, merge, names);
            }
        }
        for &(id, change) in changes {
            match (change, merge.flow(id)) {
                (Change::Removed, _) | (_, None) => {
                    let twin = self.groups_of.get(&id).and_then(|(key, _)| merge.flow_by_key(&key.swapped()));
                    self.detach(id);
                    if let Some((twin, flow)) = twin {
                        self.reattach(twin, flow, merge, names);
                    }
                }
                (Change::Reshaped, Some(flow)) => {
                    self.reattach(id, flow, merge, names);
                    // Which way round the opposite edge belongs may hang on this one.
                    if let Some((twin, flow)) = merge.flow_by_key(&flow.key.swapped()) {
                        self.reattach(twin, flow, merge, names);
                    }
                }
                (Change::Touched | Change::Aged, Some(_)) => {
                    let groups = self.groups_of.get(&id);
                    self.dirty.extend(groups.into_iter().flat_map(|(_, ids)| ids).cloned());
                }
            }
        }
    }

    /// The step to the next revision, if anything changed.
    pub fn step(
        &mut self,
        merge: &Merge,
        names: &Names,
        names_row: &NamesRow,
        identity: &Identity,
        now: Ns,
    ) -> Option<Step> {
        for id in std::mem::take(&mut self.dirty) {
            match self.groups.get(&id) {
                Some(group) => self.graph.edges.upsert(row::edge_row(self.view, &id, group, merge, names, now)),
                None => self.graph.edges.remove(&id),
            }
        }
        for key in std::mem::take(&mut self.dirty_vertices) {
            self.project_vertex(&key, merge, names);
        }
        self.graph.set_names(&NamesRow { ambiguous: self.ambiguous, ..names_row.clone() });
        let step = self.graph.step(identity, ms(now))?;
        let ends = step.delta.edges.upsert.iter().map(|row| self.ends_of(row)).collect();
        Some(Step { step, ends })
    }

    /// The places of an edge's ends.
    fn ends_of(&self, row: &EdgeRow) -> Option<[usize; 2]> {
        let place = |id: &str| self.graph.vertices.get(id).map(Shared::slot);
        Some([place(&row.client)?, place(&row.server)?])
    }

    /// Puts the nodes' rows in.
    pub fn set_nodes(&mut self, rows: &[NodeRow]) {
        let names: HashSet<&str> = rows.iter().map(|row| &*row.name).collect();
        let gone = self.graph.nodes.rows().filter(|old| !names.contains(&*old.name));
        let gone: Vec<Arc<str>> = gone.map(|old| Arc::clone(&old.name)).collect();
        // In the view by node a node that begins to report is a vertex, too, until it is forgotten.
        let vertices = self.view == View::Node;
        for name in gone {
            self.graph.nodes.remove(&name);
            if vertices {
                self.dirty_vertices.insert(VertexKey::Node(name));
            }
        }
        for row in rows {
            if vertices && !self.graph.nodes.contains(&row.name) {
                self.dirty_vertices.insert(VertexKey::Node(Arc::clone(&row.name)));
            }
            self.graph.nodes.upsert(row.clone());
        }
    }

    /// Begins with what is known to have happened.
    pub fn begin_with_events<'a>(&mut self, events: impl IntoIterator<Item = &'a EventRow>) {
        self.graph.begin_with_events(events);
    }

    /// Adds what happened to the cluster.
    pub fn add_events<'a>(&mut self, events: impl IntoIterator<Item = &'a EventRow>) {
        self.graph.add_events(events);
    }

    /// Ends of edges that nothing could tell.
    #[must_use]
    pub fn ambiguous(&self) -> u64 {
        self.ambiguous
    }

    /// The whole graph as of the last step.
    #[must_use]
    pub fn snapshot(&self, identity: &Identity, now: Ns) -> Snapshot {
        self.graph.snapshot(identity, ms(now))
    }

    /// The revision of the last step.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.graph.revision()
    }

    /// The ids of the edges that lead to a vertex.
    fn edges_at(&self, vertex: &str) -> impl Iterator<Item = &Arc<str>> {
        self.referenced.get(vertex).into_iter().flat_map(|(_, groups)| groups)
    }

    fn reattach(&mut self, id: FlowId, flow: &Flow, merge: &Merge, names: &Names) {
        self.detach(id);
        self.attach(id, flow, merge, names);
    }

    fn detach(&mut self, id: FlowId) {
        self.ambiguous -= u64::from(self.shaky.remove(&id).unwrap_or(0));
        let Some((_, group_ids)) = self.groups_of.remove(&id) else { return };
        for group_id in group_ids {
            let Some(group) = self.groups.get_mut(&group_id) else { continue };
            group.members.remove(&id);
            self.dirty.insert(Arc::clone(&group_id));
            if group.members.is_empty() {
                let Some(group) = self.groups.remove(&group_id) else { continue };
                self.unreference(group.client, &group.client_id, &group_id);
                self.unreference(group.server, &group.server_id, &group_id);
            }
        }
    }

    fn attach(&mut self, id: FlowId, flow: &Flow, merge: &Merge, names: &Names) {
        let swapped = flow.guessed()
            && merge.flow_by_key(&flow.key.swapped()).is_some_and(|(twin, flow)| twin != id && !flow.guessed());
        let mut ends: Vec<(VertexKey, VertexKey)> = Vec::new();
        let (mut ambiguous, mut shaky) = (0, false);
        for row in &flow.rows {
            let owners = ends::of_row(flow, row, merge, names);
            (ambiguous, shaky) = (ambiguous + owners.ambiguous, shaky || owners.shaky);
            let (client, server) = row::vertices(self.view, &owners, swapped, names);
            let pair = (self.world.place(client), self.world.place(server));
            if !ends.contains(&pair) {
                ends.push(pair);
            }
        }
        if shaky {
            self.shaky.insert(id, ambiguous);
            self.ambiguous += u64::from(ambiguous);
        }
        let whole = ends.len() == 1;
        let mut group_ids = Vec::with_capacity(ends.len());
        for (client, server) in ends {
            let group_id = self.group(client, server, &flow.key);
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.members.insert(id, Member { swapped, whole });
            }
            self.dirty.insert(Arc::clone(&group_id));
            group_ids.push(group_id);
        }
        self.groups_of.insert(id, (flow.key, group_ids));
    }

    fn group(&mut self, client: VertexKey, server: VertexKey, key: &FlowKey) -> Arc<str> {
        let &FlowKey { port, protocol, tunnel, .. } = key;
        let (client_id, server_id) = (client.id(), server.id());
        let id: Arc<str> = edge_id(&client_id, &server_id, port, protocol, tunnel).into();
        if !self.groups.contains_key(&id) {
            self.reference(&client, &client_id, &id);
            self.reference(&server, &server_id, &id);
            let members = BTreeMap::new();
            let group = Group { client, server, client_id, server_id, port, protocol, tunnel, members };
            self.groups.insert(Arc::clone(&id), group);
        }
        id
    }

    fn reference(&mut self, key: &VertexKey, id: &Arc<str>, group_id: &Arc<str>) {
        let (_, groups) = self.referenced.entry(Arc::clone(id)).or_insert_with(|| (key.clone(), HashSet::default()));
        if groups.is_empty() {
            self.dirty_vertices.insert(key.clone());
        }
        groups.insert(Arc::clone(group_id));
    }

    fn unreference(&mut self, key: VertexKey, id: &Arc<str>, group_id: &Arc<str>) {
        if let Some((_, groups)) = self.referenced.get_mut(id) {
            groups.remove(group_id);
            if groups.is_empty() {
                self.referenced.remove(id);
                self.world.leave(&key);
                self.dirty_vertices.insert(key);
            }
        }
    }

    fn update_names(&mut self, touched: &Touched, names: &Names) {
        touched.pods.iter().for_each(|key| self.place_pod(key, names));
        self.dirty_vertices.extend(touched.nodes.iter().cloned().map(VertexKey::Node));
        self.dirty_vertices.extend(touched.services.iter().cloned().map(VertexKey::Service));
        self.dirty_vertices.extend(touched.namespaces.iter().cloned().map(VertexKey::Namespace));
        if self.external_revision != names.external().revision() {
            self.external_revision = names.external().revision();
            let world = self.referenced.values().map(|(key, _)| key);
            self.dirty_vertices.extend(world.filter(|key| matches!(key, VertexKey::External(_))).cloned());
        }
    }

    /// Puts a pod where it belongs now; both its old and its new vertex are shown anew.
    fn place_pod(&mut self, key: &Arc<str>, names: &Names) {
        let now = names.live_pod(key).map(|pod| VertexKey::of_pod(self.view, key, pod));
        if let Some(before) = self.vertex_of.remove(key) {
            if let Some(pods) = self.members.get_mut(&before) {
                pods.remove(key);
                if pods.is_empty() {
                    self.members.remove(&before);
                }
            }
            self.dirty_vertices.insert(before);
        }
        self.dirty_vertices.insert(VertexKey::of(self.view, &Owner::Pod(Arc::clone(key)), names));
        if let Some(now) = now {
            self.members.entry(now.clone()).or_default().insert(Arc::clone(key));
            self.vertex_of.insert(Arc::clone(key), now);
        }
    }

    fn project_vertex(&mut self, key: &VertexKey, merge: &Merge, names: &Names) {
        let id = key.id();
        let members = self.members.get(key);
        let listed = match (self.view, key) {
            (View::Node, VertexKey::Node(name)) => names.node(name).is_some() || merge.node_named(name).is_some(),
            (View::Namespace, VertexKey::Namespace(name)) => names.namespace(name),
            _ => false,
        };
        if members.is_none() && !listed && !self.referenced.contains_key(&id) {
            self.graph.vertices.remove(&id);
            return;
        }
        let members: Vec<&Pod> = members.into_iter().flatten().filter_map(|key| names.live_pod(key)).collect();
        self.graph.vertices.upsert(vertex::row(key, id, &members, names));
    }
}

/// An edge's id: stable, and unique in its view.
pub(crate) fn edge_id(client: &str, server: &str, port: u16, protocol: u8, tunnel: Option<Tunnel>) -> String {
    let layer = tunnel.map_or_else(String::new, |tunnel| format!("/{}", tunnel.label()));
    format!("{client}>{server}:{port}/{}{layer}", protocol_name(protocol))
}

pub use filtered::Filtered;
pub use node::{device_rows, node_rows};

#[cfg(test)]
mod tests;
