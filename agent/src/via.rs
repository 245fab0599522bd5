//! Virtual addresses of services: what a pod sent to one is joined with what left for the backend after translation, by the
//! client's own port, before that is folded away. Pure.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use agent_ebpf::{abi::FlowKey, parse::protocol};

/// Clients' ports that are joined at the most; what comes after stays two edges.
pub const MAX_JOINS: usize = 65_536;
/// Virtual addresses with their ports that are known as such.
pub const MAX_VIRTUALS: usize = 4_096;

/// An address, IPv4 mapped, and a port.
pub type End = ([u8; 16], u16);

/// A client's socket, as the wire shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    end: End,
    protocol: u8,
}

impl Client {
    /// The sender of a flow, or its receiver. Nothing without ports has one.
    #[must_use]
    pub fn of(key: &FlowKey, is_source: bool) -> Option<Self> {
        const SCTP: u8 = 132;
        let ends = matches!(key.protocol, protocol::TCP | protocol::UDP | SCTP) && key.source_port != 0;
        let end = if is_source { source(key) } else { destination(key) };
        (ends && key.destination_port != 0).then_some(Self { end, protocol: key.protocol })
    }
}

/// Where a flow comes from.
#[must_use]
pub fn source(key: &FlowKey) -> End {
    (key.source, key.source_port)
}

/// Where a flow leads.
#[must_use]
pub fn destination(key: &FlowKey) -> End {
    (key.destination, key.destination_port)
}

#[derive(Debug)]
struct Join {
    backend: End,
    flows: u32,
}

/// What is joined.
#[derive(Debug, Default)]
pub struct Vias {
    /// By the client; of each its virtual addresses, which are few.
    joins: HashMap<Client, Vec<(End, Join)>>,
    held: usize,
    virtuals: HashSet<(End, u8)>,
    /// Clients of which more than one reading is possible.
    split: HashSet<Client>,
}

impl Vias {
    /// What this client sends to `virtual_end` goes to `backend`. False at the bound.
    pub fn join(&mut self, client: Client, virtual_end: End, backend: End) -> bool {
        if self.held >= MAX_JOINS {
            return false;
        }
        let joins = self.joins.entry(client).or_default();
        let before = joins.len();
        joins.retain(|(end, _)| *end != virtual_end);
        joins.push((virtual_end, Join { backend, flows: 0 }));
        self.held += joins.len() - before;
        if self.virtuals.len() < MAX_VIRTUALS {
            self.virtuals.insert((virtual_end, client.protocol));
        }
        true
    }

    /// What this client sends cannot be told apart after translation.
    pub fn split(&mut self, client: Client) {
        if self.split.len() < MAX_JOINS {
            self.split.insert(client);
        }
    }

    /// Whether it cannot.
    #[must_use]
    pub fn is_split(&self, client: Client) -> bool {
        self.split.contains(&client)
    }

    /// Somebody was seen to be translated from here to a backend.
    #[must_use]
    pub fn is_virtual(&self, end: End, protocol: u8) -> bool {
        self.virtuals.contains(&(end, protocol))
    }

    /// A pod's flow as it is after translation, and the virtual address; `None` for what is not translated.
    #[must_use]
    pub fn translate(&self, key: &FlowKey, from_client: bool) -> Option<(FlowKey, End)> {
        let (client, end) = self.ends(key, from_client)?;
        let (_, join) = self.joins.get(&client)?.iter().find(|(virtual_end, _)| *virtual_end == end)?;
        let (address, port) = join.backend;
        let key = if from_client {
            FlowKey { destination: address, destination_port: port, ..*key }
        } else {
            FlowKey { source: address, source_port: port, ..*key }
        };
        Some((key, end))
    }

    /// Whether this client is joined, and with another backend than the one that is seen here.
    #[must_use]
    pub fn goes_elsewhere(&self, client: Client, to: End) -> bool {
        self.joins.get(&client).is_some_and(|joins| joins.iter().all(|(_, join)| join.backend != to))
    }

    fn ends(&self, key: &FlowKey, from_client: bool) -> Option<(Client, End)> {
        // Where nothing is translated, as with sockets that are, this costs nothing.
        if self.joins.is_empty() {
            return None;
        }
        let end = if from_client { destination(key) } else { source(key) };
        Some((Client::of(key, from_client)?, end))
    }

    fn of(&mut self, (client, end): (Client, End)) -> Option<&mut Join> {
        self.joins.get_mut(&client)?.iter_mut().find(|(virtual_end, _)| *virtual_end == end).map(|(_, join)| join)
    }

    /// A flow of a join entered the table.
    pub fn enter(&mut self, key: &FlowKey, from_client: bool) {
        if let Some(join) = self.ends(key, from_client).and_then(|ends| self.of(ends)) {
            join.flows += 1;
        }
    }

    /// A flow left the table: with the last one its join goes, too.
    pub fn leave(&mut self, key: &FlowKey, from_client: bool) {
        if let Some(client) = Client::of(key, from_client) {
            self.split.remove(&client);
        }
        let Some(ends) = self.ends(key, from_client) else { return };
        let Some(join) = self.of(ends) else { return };
        join.flows = join.flows.saturating_sub(1);
        if join.flows > 0 {
            return;
        }
        self.held -= 1;
        if let Entry::Occupied(mut joins) = self.joins.entry(ends.0) {
            joins.get_mut().retain(|(end, _)| *end != ends.1);
            if joins.get().is_empty() {
                joins.remove();
            }
        }
    }

    /// Joins held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}
