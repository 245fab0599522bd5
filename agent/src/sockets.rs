//! Folds what sockets did into the edges they are an end of. Pure; `now` is an argument.

use std::collections::HashMap;

use agent_ebpf::{
    facts::{SocketKey, SocketTotals, cgroup_number, role},
    parse::protocol,
};
use wire::v1::Owner;

use crate::{
    edge::{EdgeId, Moment},
    facts::{Whose, socket_growth},
    summarise::{SocketEnd, Table},
};

/// So long a socket's facts wait for the packets of its edge, which a hook may have seen: only then do they make one.
pub const WAIT_NS: u64 = 1_000_000_000;
/// An entry without a change for this long leaves the kernel's map.
pub const IDLE_AFTER_NS: u64 = 120_000_000_000;

/// What was folded of one kernel entry.
struct Known {
    counted: SocketTotals,
    edge: Option<EdgeId>,
    /// What no edge has yet, since when.
    waits_since_ns: Option<u64>,
}

/// What folding found.
#[derive(Debug, Default)]
pub struct Folded {
    /// Something was added to an edge.
    pub active: bool,
    /// Entries to be taken from the kernel.
    pub idle: Vec<SocketKey>,
}

/// The kernel's socket entries, as far as they were folded.
pub struct Sockets {
    /// Sockets in this namespace share the node's address: their cgroups tell them apart.
    own_netns: u32,
    known: HashMap<SocketKey, Known>,
}

impl Sockets {
    /// None yet, on a node whose own network namespace has this inode.
    #[must_use]
    pub fn new(own_netns: u32) -> Self {
        Self { own_netns, known: HashMap::new() }
    }

    /// Folds current readings. `owner` says whose the sockets of an entry are.
    pub fn fold(
        &mut self,
        readings: &[(SocketKey, SocketTotals)],
        moment: Moment,
        table: &mut Table,
        mut owner: impl FnMut(&SocketKey, &SocketTotals) -> Whose,
    ) -> Folded {
        let mut folded = Folded::default();
        let own_netns = self.own_netns;
        let mut grown = Vec::new();
        for (key, totals) in readings {
            let fresh = SocketTotals { first_ns: totals.first_ns, ..SocketTotals::EMPTY };
            let known = self.known.entry(*key).or_insert(Known { counted: fresh, edge: None, waits_since_ns: None });
            let same = (totals.first_ns, totals.last_ns) == (known.counted.first_ns, known.counted.last_ns);
            if !same {
                match owner(key, totals) {
                    Whose::Ours(owner) => grown.push((key, totals, owner)),
                    Whose::NotOurs => known.counted = *totals,
                    Whose::Unknown => {}
                }
            } else if moment.now_ns.saturating_sub(totals.last_ns) > IDLE_AFTER_NS {
                folded.idle.push(*key);
            }
        }
        // Edges that are known need no search.
        let homeless =
            |key: &SocketKey| self.known.get(key).and_then(|known| known.edge).is_none_or(|id| !table.holds(&id));
        let wanted: Vec<_> =
            grown.iter().filter(|(key, ..)| homeless(key)).map(|(key, ..)| end(key, own_netns)).collect();
        let mut found = table.edges_of_sockets(&wanted).into_iter();
        for (key, totals, owner) in grown {
            let Some(known) = self.known.get_mut(key) else { continue };
            let end = end(key, own_netns);
            let held = known.edge.filter(|id| table.holds(id));
            let id = held.or_else(|| found.next().flatten()).or_else(|| {
                let since = *known.waits_since_ns.get_or_insert(moment.now_ns);
                let waited = moment.now_ns.saturating_sub(since) >= WAIT_NS;
                if waited { table.enter_socket(&end, moment) } else { None }
            });
            let Some(id) = id else { continue };
            let growth = socket_growth(totals, &known.counted);
            *known = Known { counted: *totals, edge: Some(id), waits_since_ns: None };
            folded.active |= table.note_socket(&id, &end, moment, |facts| {
                facts.add_sockets(&growth);
                if owner != Owner::default() {
                    facts.add_owner(owner);
                }
            });
        }
        for key in &folded.idle {
            self.known.remove(key);
        }
        folded
    }
}

/// A kernel entry as an end of an edge.
fn end(key: &SocketKey, own_netns: u32) -> SocketEnd {
    let server_side = key.role & role::SERVER != 0;
    let (client, server) = if server_side { (key.remote, key.local) } else { (key.local, key.remote) };
    SocketEnd {
        client,
        server,
        server_port: key.server_port,
        protocol: protocol::TCP,
        server_side,
        guessed: key.role & role::GUESSED != 0,
        cgroup: if key.netns == own_netns { cgroup_number(key.cgroup) } else { 0 },
    }
}
