//! The edges that facts belong to: by a socket's ends, by a dropped packet's five-tuple.

use std::collections::HashMap;

use agent_ebpf::facts::Tuple;

use super::{Flow, Table, Target, pod_end};
use crate::{
    dns,
    edge::{Edge, EdgeId, Moment, edge_id, has_own_ends},
    facts::{EdgeFacts, Whose},
    home::UNKNOWN_NS,
    points::{Class, HOLD_NS, Place},
};

/// A socket as an end of an edge.
#[derive(Debug, Clone, Copy)]
pub struct SocketEnd {
    /// Who opened, IPv4 mapped.
    pub client: [u8; 16],
    /// Who serves.
    pub server: [u8; 16],
    /// The server's port.
    pub server_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// The socket is the server's.
    pub server_side: bool,
    /// Who opened was guessed.
    pub guessed: bool,
    /// The socket's cgroup if it is under the node's own address; 0 for others, and where unknown.
    pub cgroup: u32,
}

/// A DNS message of a flow that is not decided yet waits this long at the most: a lesser hook's flow is decided before.
const EARLY_NS: u64 = UNKNOWN_NS + 10 * HOLD_NS;

/// Who was told of a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This edge.
    Edge(EdgeId),
    /// Nobody: another hook tells the same.
    Nobody,
    /// Nobody yet: ask again with the next reading.
    Early,
}

/// What tells edges apart but for the local end's device and cgroup.
type Ends = ([u8; 16], [u8; 16], u16, u8);

impl Table {
    /// Whether an edge is in the table and not on its way out.
    #[must_use]
    pub fn holds(&self, id: &EdgeId) -> bool {
        self.edges.contains_key(id)
    }

    /// The edges that sockets are an end of; of several lives of a device, the newest one's.
    #[must_use]
    pub fn edges_of_sockets(&self, sockets: &[SocketEnd]) -> Vec<Option<EdgeId>> {
        let ends = |end: &SocketEnd| ((end.client, end.server, end.server_port, end.protocol), end.cgroup);
        let sides = self.sides(sockets.iter().map(ends));
        sockets.iter().map(|end| sides.get(&ends(end))?[usize::from(end.server_side)]).collect()
    }

    /// Both sides of the edges wanted, of a cgroup or of any (0): one pass over the table for all, since a flood must not cost
    /// a pass each.
    fn sides(&self, wanted: impl Iterator<Item = (Ends, u32)>) -> HashMap<(Ends, u32), [Option<EdgeId>; 2]> {
        let mut sides: HashMap<_, [Option<EdgeId>; 2]> = wanted.map(|wanted| (wanted, [None; 2])).collect();
        if sides.is_empty() {
            return sides;
        }
        // By a virtual address that was named instead of the server; more than one backend is none.
        let mut by_via: HashMap<Ends, Option<EdgeId>> = HashMap::new();
        for (id, edge) in &self.edges {
            for (address, port) in edge.vias.iter().filter(|_| !id.server_side) {
                let ends = (id.client, *address, *port, id.protocol);
                if sides.contains_key(&(ends, 0)) {
                    by_via.entry(ends).and_modify(|known| *known = None).or_insert(Some(*id));
                }
            }
            let ends = (id.client, id.server, id.server_port, id.protocol);
            let cgroups = if id.cgroup == 0 { [Some(0), None] } else { [Some(0), Some(id.cgroup)] };
            for cgroup in cgroups.into_iter().flatten() {
                if let Some(sides) = sides.get_mut(&(ends, cgroup)) {
                    let side = &mut sides[usize::from(id.server_side)];
                    if side.is_none_or(|known| known.device < id.device) {
                        *side = Some(*id);
                    }
                }
            }
        }
        for (ends, id) in by_via {
            if let Some([client, _]) = sides.get_mut(&(ends, 0)) {
                *client = client.or(id);
            }
        }
        sides
    }

    /// Makes an edge of a socket whose packets no hook saw, if there is room.
    pub fn enter_socket(&mut self, end: &SocketEnd, moment: Moment) -> Option<EdgeId> {
        let local = if end.server_side { end.server } else { end.client };
        let id = EdgeId {
            client: end.client,
            server: end.server,
            server_port: end.server_port,
            protocol: end.protocol,
            server_side: end.server_side,
            device: if self.home.addresses.contains(&local) { self.home.device } else { 0 },
            tunnel: None,
            cgroup: end.cgroup,
        };
        if self.edges.contains_key(&id) {
            return Some(id);
        }
        if self.held() >= self.limits.max_edges {
            self.refused += 1;
            return None;
        }
        let edge = Edge {
            incarnation: moment.next_seq,
            guessed: end.guessed,
            socket: true,
            own: has_own_ends(self.own, &id),
            first_seen_unix_ns: moment.clock.packet_unix_ns(moment.now_ns),
            active_ns: moment.now_ns,
            pending: true,
            ..Edge::default()
        };
        if end.guessed {
            self.high_ports.enter(&id);
        }
        self.edges.insert(id, edge);
        Some(id)
    }

    /// Adds what a DNS message told to the edge of its flow, if the table has it. A hook that does not own the flow has
    /// nothing to tell: the owner saw the same message.
    pub fn dns(&mut self, fact: &dns::Fact, moment: Moment, place: impl Fn(u32) -> Place) -> Told {
        let at = place(fact.key.ifindex);
        let early = moment.now_ns.saturating_sub(fact.time_ns) < EARLY_NS;
        let id = match self.flows.get(&fact.key) {
            Some(Flow { target: Target::Edge(id), .. }) => *id,
            Some(Flow { waits: Some(_), .. }) if early => return Told::Early,
            None if self.waits(&fact.key) => return Told::Early,
            None if at.class == Class::Pod => {
                let local = pod_end(&fact.key, at);
                edge_id(&self.as_counted(&fact.key, at).0, self.orientation_of_new(&fact.key, local), local)
            }
            None if early => return Told::Early,
            _ => return Told::Nobody,
        };
        let Some(edge) = self.edges.get_mut(&id) else { return Told::Nobody };
        edge.dns.get_or_insert_default().add(&fact.what, moment.clock.unix_ns(fact.time_ns));
        edge.pending = true;
        Told::Edge(id)
    }

    /// Adds to what an edge knows.
    pub fn note(&mut self, id: &EdgeId, moment: Moment, add: impl FnOnce(&mut EdgeFacts)) {
        if let Some(edge) = self.edges.get_mut(id) {
            add(&mut edge.facts);
            edge.active_ns = moment.now_ns;
            edge.pending = true;
        }
    }

    /// Gives new edges of a cgroup their owner, where no socket has told it. What cannot be told yet is asked again.
    pub fn own_cgroups(&mut self, moment: Moment, mut whose: impl FnMut(u32) -> Whose) {
        for id in std::mem::take(&mut self.unowned) {
            let told = |edge: &Edge| !edge.facts.owners.is_empty();
            if self.edges.get(&id).is_none_or(told) {
                continue;
            }
            match whose(id.cgroup) {
                Whose::Ours(owner) if owner.container.is_empty() && owner.pod_uid.is_empty() => {}
                Whose::Ours(owner) => self.note(&id, moment, |facts| facts.add_owner(owner)),
                Whose::NotOurs => {}
                Whose::Unknown => self.unowned.push(id),
            }
        }
    }

    /// Adds what a socket tells; one that knows who opened makes a guess certain. Says whether it is news: what our own
    /// reports' socket tells must not make another report.
    pub fn note_socket(
        &mut self,
        id: &EdgeId,
        end: &SocketEnd,
        moment: Moment,
        add: impl FnOnce(&mut EdgeFacts),
    ) -> bool {
        self.note(id, moment, add);
        let Some(edge) = self.edges.get_mut(id) else { return false };
        if edge.guessed && !end.guessed {
            edge.guessed = false;
            self.high_ports.leave(id);
        }
        edge.wakes(id)
    }

    /// The edges of five-tuples, and whether each runs from the client to the server. Where both ends of an edge are this
    /// node's, the sender's side has the drop.
    #[must_use]
    pub fn edges_of_tuples(&self, tuples: &[Tuple]) -> Vec<Option<(EdgeId, bool)>> {
        // An edge of many high ports goes under port 0.
        let ways = [(true, true), (false, true), (true, false), (false, false)];
        // Only what is under the node's own address is told apart by cgroup; beside Cilium pods' sockets are seen as well.
        let cgroup = |tuple: &Tuple| {
            let own = [&tuple.source, &tuple.destination].iter().any(|end| self.home.addresses.contains(*end));
            if own { self.paths.cgroup(tuple) } else { 0 }
        };
        let wanted = tuples.iter().flat_map(|tuple| {
            let cgroup = cgroup(tuple);
            ways.map(|(forward, ports)| (ends(tuple, forward, ports), cgroup))
        });
        let sides = self.sides(wanted);
        let find = |tuple: &Tuple| {
            let cgroup = cgroup(tuple);
            ways.into_iter().find_map(|(forward, ports)| {
                let [client, server] = sides.get(&(ends(tuple, forward, ports), cgroup))?;
                let id = if forward { client.or(*server) } else { server.or(*client) };
                id.map(|id| (id, forward))
            })
        };
        tuples.iter().map(find).collect()
    }
}

/// The edge's ends if the tuple runs forward, or back; without ports if `ports` is false.
fn ends(tuple: &Tuple, forward: bool, ports: bool) -> Ends {
    let (client, server, port) = if forward {
        (tuple.source, tuple.destination, tuple.destination_port)
    } else {
        (tuple.destination, tuple.source, tuple.source_port)
    };
    (client, server, if ports { port } else { 0 }, tuple.protocol)
}
