//! The graph as it was: one bucket's records under the names of then, in any view and through any filter. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Known,
    bucket::{Reasons, Sealed},
    pack::{self, Numbers, Record, flags},
};
use crate::{
    filter::Wish,
    graph::{Graph, Identity},
    merge::facts::DropKey,
    names::{Change, Names, Node, Owner, Pod, Service, external::Answer},
    project::{Filtered, Projection, VertexKey, edge_id, protocol_name, round, vertex_row},
    time::{MINUTE, Ns, SECOND},
    view::{
        CountersRow, DnsRow, DropRow, EdgeRow, EdgeState, EventRow, HistogramRow, LossBetweenRow, LossStatus, NamesRow,
        NodeRow, RateRow, RcodeRow, SideRow, Snapshot, SocketsRow, VertexRow, View, ms,
    },
};

/// What is needed to show one bucket.
#[derive(Debug)]
pub struct Still {
    pub(super) number: i64,
    pub(super) bucket: Ns,
    /// The bucket itself, last, and those before it whose edges are still shown.
    pub(super) near: Vec<Sealed>,
    pub(super) edges: BTreeMap<u32, Arc<Known>>,
    pub(super) pods: Vec<Arc<Pod>>,
    /// The pods that its edges lead to, there or not.
    pub(super) remembered: Vec<Arc<Pod>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) agents: Vec<Arc<NodeRow>>,
    pub(super) dns: HashMap<IpAddr, Vec<Arc<str>>>,
    pub(super) events: Vec<EventRow>,
}

/// An edge of the view, being added up.
struct Sum {
    client: Arc<str>,
    server: Arc<str>,
    known: Arc<Known>,
    flags: u8,
    numbers: Numbers,
    drops: BTreeMap<DropKey, u64>,
    sent: [u64; 2],
    measured: bool,
    first_seen: Ns,
    last_seen: Ns,
    nodes: [Vec<Arc<str>>; 2],
}

impl Still {
    /// The snapshot that a browser gets.
    #[must_use]
    pub fn snapshot(&self, wish: &Wish, names_row: &NamesRow, identity: &Identity) -> Snapshot {
        let from = self.number.saturating_mul(self.bucket);
        let until = from.saturating_add(self.bucket);
        let names = self.names(from);
        let mut graph = Graph::new(wish.view, 1, names_row.clone());
        let mut vertices: BTreeMap<VertexKey, Vec<&Pod>> = BTreeMap::new();
        for pod in &self.pods {
            vertices.entry(VertexKey::of_pod(wish.view, &pod.key(), pod)).or_default().push(pod);
        }
        if wish.view == View::Node {
            for name in self.nodes.iter().map(|node| &node.name).chain(self.agents.iter().map(|row| &row.name)) {
                vertices.entry(VertexKey::Node(Arc::clone(name))).or_default();
            }
        }
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        for bucket in &self.near {
            let now = bucket.number == self.number;
            for record in bucket.all() {
                let Some(known) = self.edges.get(&record.edge) else { continue };
                let ends = [&known.key.client, &known.key.server].map(|end| VertexKey::of(wish.view, end, &names));
                let [client, server] = ends.each_ref().map(VertexKey::id);
                ends.into_iter().for_each(|end| {
                    vertices.entry(end).or_default();
                });
                let id = edge_id(&client, &server, known.key.port, known.key.protocol, known.key.tunnel);
                let sum = sums.entry(id).or_insert_with(|| Sum::new(client, server, known));
                sum.last_seen = bucket.number.saturating_add(1).saturating_mul(self.bucket).min(until);
                sum.add(&record, known, bucket.drops.get(&record.edge), now, &names);
            }
        }
        for (key, members) in &vertices {
            graph.vertices.upsert(self.vertex(key, members, &names));
        }
        for (id, sum) in sums {
            graph.edges.upsert(sum.row(id.into(), self.bucket));
        }
        for row in &self.agents {
            graph.nodes.upsert(blank(row));
        }
        graph.begin_with_events(&self.events);
        let base = Projection::still(graph);
        if wish.is_whole() {
            return base.snapshot(identity, until);
        }
        Filtered::new(wish.clone(), 1, &base).snapshot(&base, identity, until)
    }

    /// Who was who.
    fn names(&self, at: Ns) -> Names {
        let mut names = Names::default();
        for node in &self.nodes {
            names.apply(Change::Node(Node::clone(node)), at);
        }
        for service in &self.services {
            names.apply(Change::Service(Service::clone(service)), at);
        }
        let there: std::collections::HashSet<Arc<str>> = self.pods.iter().map(|pod| pod.key()).collect();
        for pod in self.remembered.iter().filter(|pod| !there.contains(&pod.key())) {
            names.apply(Change::Pod(Box::new(Pod::clone(pod))), at);
            names.apply(Change::PodGone(pod.key(), None), at);
        }
        for pod in &self.pods {
            names.apply(Change::Pod(Box::new(Pod::clone(pod))), at);
        }
        let of_edges = self.edges.values().flat_map(|known| [&known.key.client, &known.key.server]);
        for address in of_edges.filter_map(|end| if let Owner::External(address) = end { Some(*address) } else { None })
        {
            // The first shown came up last.
            for (index, name) in self.dns.get(&address).into_iter().flatten().enumerate() {
                let at = at.saturating_sub(Ns::try_from(index).unwrap_or(0));
                names.learn(Answer {
                    client: address,
                    address,
                    name: Arc::clone(name),
                    node: "".into(),
                    at,
                    ttl: MINUTE,
                });
            }
        }
        names
    }

    fn vertex(&self, key: &VertexKey, members: &[&Pod], names: &Names) -> VertexRow {
        vertex_row(key, key.id(), members, names)
    }
}

impl Sum {
    fn new(client: Arc<str>, server: Arc<str>, known: &Arc<Known>) -> Self {
        Self {
            client,
            server,
            known: Arc::clone(known),
            flags: flags::GUESSED | flags::OWN,
            numbers: [0; pack::FIELDS],
            drops: BTreeMap::new(),
            sent: [0; 2],
            measured: false,
            first_seen: known.first_seen,
            last_seen: 0,
            nodes: [Vec::new(), Vec::new()],
        }
    }

    /// Of an edge that was quiet by then only its being there is told.
    fn add(&mut self, record: &Record, known: &Known, drops: Option<&Reasons>, now: bool, names: &Names) {
        let both = flags::GUESSED | flags::OWN;
        let all = self.flags & record.flags & both;
        self.flags = (self.flags | record.flags) & !both | all;
        self.first_seen = self.first_seen.min(known.first_seen);
        for (at, end) in [(0, &known.key.client), (1, &known.key.server)] {
            let node = match end {
                Owner::Pod(key) => names.pod(key).and_then(|pod| pod.node.clone()),
                Owner::Node(name) => Some(Arc::clone(name)),
                Owner::Service(_) | Owner::External(_) => None,
            };
            if let Some(node) = node
                && !self.nodes[at].contains(&node)
            {
                self.nodes[at].push(node);
                self.nodes[at].sort();
            }
        }
        if !now {
            return;
        }
        super::bucket::add(&mut self.numbers, &record.numbers);
        if record.flags & flags::MEASURED != 0 {
            self.measured = true;
            self.sent[0] = self.sent[0].saturating_add(record.numbers[pack::CLIENT + 1]);
            self.sent[1] = self.sent[1].saturating_add(record.numbers[pack::SERVER + 4]);
        }
        for (key, count) in drops.into_iter().flatten() {
            let sum = self.drops.entry(key.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    fn row(self, id: Arc<str>, bucket: Ns) -> EdgeRow {
        let has = |flag| self.flags & flag != 0;
        let seconds = bucket as f64 / SECOND as f64;
        // The sender's side tells the rate, as in the live graph.
        let [client, server] = [(flags::CLIENT, pack::CLIENT), (flags::SERVER, pack::SERVER)];
        let first = if has(client.0) { client.1 } else { server.1 };
        let second = if has(server.0) { server.1 } else { client.1 };
        let per = |index: usize, scale| round(self.numbers[index] as f64 / seconds, scale);
        let rate = RateRow {
            forward_skbs: per(first, 1e3),
            reverse_skbs: per(second + 3, 1e3),
            forward_bytes: per(first + 2, 1e1),
            reverse_bytes: per(second + 5, 1e1),
            connections: per(pack::ESTABLISHED, 1e3),
        };
        let drops = self.drops.iter().map(|(key, segments)| DropRow {
            reason: key.reason.to_string(),
            by: key.by.to_string(),
            forward: key.forward,
            segments: *segments,
            nodes: Vec::new(),
        });
        let mut drops: Vec<DropRow> = drops.collect();
        drops.sort_by_key(|drop| std::cmp::Reverse(drop.segments));
        let side = |flag, at| has(flag).then(|| self.side(at, has(flags::CLIENT)));
        EdgeRow {
            id,
            client: Arc::clone(&self.client),
            server: Arc::clone(&self.server),
            port: self.known.key.port,
            protocol: protocol_name(self.known.key.protocol),
            tunnel: self.known.key.tunnel.map(|tunnel| tunnel.label().to_owned()),
            via: Vec::new(),
            translated: false,
            guessed: has(flags::GUESSED),
            own: has(flags::OWN),
            state: EdgeState::Live,
            first_seen_ms: ms(self.first_seen),
            last_seen_ms: ms(self.last_seen),
            client_side: side(flags::CLIENT, 0),
            server_side: side(flags::SERVER, 1),
            rate,
            loss: self.loss(),
            drops,
            dns: self.dns(),
        }
    }

    fn side(&self, at: usize, client_told: bool) -> SideRow {
        let numbers = &self.numbers;
        let counters = |from: usize| CountersRow {
            skbs: numbers[from],
            segments: numbers[from + 1],
            l3_bytes: numbers[from + 2],
            payload_bytes: 0,
        };
        let from = [pack::CLIENT, pack::SERVER][at];
        // Connections were kept once: of the client's side, where there was one.
        let told = (at == 0) == client_told;
        let count = |index: usize| if told { numbers[index] } else { 0 };
        let sockets = SocketsRow {
            attempts: count(pack::ATTEMPTS),
            established: count(pack::ESTABLISHED),
            refused: count(pack::REFUSED),
            timed_out: count(pack::REFUSED + 1),
            unreachable: count(pack::REFUSED + 2),
            failed_otherwise: count(pack::REFUSED + 3),
            retransmitted: count(pack::RETRANSMITTED),
            aborted: 0,
            rtt: HistogramRow::default(),
        };
        let any = sockets.attempts > 0 || numbers[pack::REFUSED..=pack::RETRANSMITTED].iter().any(|count| *count > 0);
        SideRow {
            nodes: self.nodes[at].clone(),
            stale: false,
            points: Vec::new(),
            path_changed: false,
            forward: counters(from),
            reverse: counters(from + 3),
            opened: count(pack::OPENED),
            established: count(pack::ESTABLISHED),
            closed: count(pack::CLOSED),
            resets: count(pack::RESETS),
            icmp_errors: 0,
            sockets: (told && any).then_some(sockets),
            owners: Vec::new(),
        }
    }

    fn loss(&self) -> LossBetweenRow {
        let lost = [self.numbers[pack::LOST], self.numbers[pack::LOST + 1]];
        if self.measured {
            let ratio = |way: usize| {
                let sent = self.sent[way].max(lost[way]).max(1);
                Some(round(lost[way] as f64 / sent as f64, 1e4))
            };
            return LossBetweenRow {
                status: LossStatus::Measured,
                why: None,
                forward_lost: Some(lost[0]),
                reverse_lost: Some(lost[1]),
                forward_ratio: ratio(0),
                reverse_ratio: ratio(1),
            };
        }
        let (status, why) = if self.flags & flags::SETTLING != 0 {
            (LossStatus::Settling, "both sides had not reported for long enough")
        } else {
            (LossStatus::OneSided, "the two sides could not be compared then")
        };
        let why = Some(why.to_owned());
        LossBetweenRow { status, why, forward_lost: None, reverse_lost: None, forward_ratio: None, reverse_ratio: None }
    }

    fn dns(&self) -> Option<DnsRow> {
        let numbers = &self.numbers;
        if numbers[pack::QUERIES..].iter().all(|count| *count == 0) {
            return None;
        }
        let good = numbers[pack::ANSWERS].saturating_sub(numbers[pack::NAMELESS] + numbers[pack::BAD_ANSWERS]);
        let rcodes = [("NOERROR", good), ("NXDOMAIN", numbers[pack::NAMELESS]), ("other", numbers[pack::BAD_ANSWERS])];
        let rcode = |(rcode, count): (&str, u64)| (count > 0).then(|| RcodeRow { rcode: rcode.to_owned(), count });
        Some(DnsRow {
            queries: numbers[pack::QUERIES],
            answers: numbers[pack::ANSWERS],
            timeouts: numbers[pack::TIMEOUTS],
            rcodes: rcodes.into_iter().filter_map(rcode).collect(),
            ..DnsRow::default()
        })
    }
}

/// How a node stood. Its totals of then are not kept, and those of now would be another time's.
fn blank(row: &NodeRow) -> NodeRow {
    NodeRow {
        last_report_ms: None,
        clock_offset_ms: None,
        clock_error_ms: None,
        reattached: 0,
        drops: Vec::new(),
        seen_skbs: 0,
        unseen_skbs: 0,
        unaccounted_skbs: 0,
        other_skbs: 0,
        losses: Vec::new(),
        ..row.clone()
    }
}
