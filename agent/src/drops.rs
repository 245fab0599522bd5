//! Names what the kernel dropped and finds the edge it was on; what is on none belongs to the node. Pure. Drops explain
//! loss; they are never added to it.

use std::collections::HashMap;

use agent_ebpf::facts::{DropKey, DropTotals, MAX_REASONS, Tuple};
use wire::{limits, v1::Drop};

use crate::{edge::Moment, facts::add_drop, summarise::Table};

/// An entry without a drop for this long leaves the kernel's map.
pub const IDLE_AFTER_NS: u64 = 10_000_000_000;
/// So long a drop waits for its edge to enter the table.
pub const WAIT_NS: u64 = 1_000_000_000;
/// Names of reasons begin so in the kernel.
const PREFIX: &str = "SKB_DROP_REASON_";

/// Reasons that tell of no packet that anybody misses, with what they are:
const NOISE: [(&str, &str); 15] = [
    ("consumed", "handed on, not dropped"),
    ("otherhost", "another machine's frame, seen for a promiscuous device"),
    ("unhandled_proto", "a link protocol that nobody here speaks, such as LLDP"),
    ("unix_disconnect", "no network"),
    ("unix_skip_oob", "no network"),
    ("packet_sock_error", "a copy made for a capture"),
    ("tap_filter", "a copy made for a capture or a guest that did not want it"),
    ("tap_txfilter", "as before"),
    ("tcp_ofomerge", "the same bytes came twice; TCP kept one copy"),
    ("tcp_old_data", "the same bytes came twice; TCP kept one copy"),
    ("tcp_old_ack", "an acknowledgement that a newer one overtook"),
    ("tcp_too_old_ack", "as before"),
    ("not_specified", "freed by code that gives no reason; most of it had done its work, such as acknowledgements"),
    ("tcp_close", "what a socket had not read when it was closed"),
    ("queue_purge", "a queue emptied with the socket or device it belonged to"),
];

/// The kernel's reasons by number.
#[derive(Debug, Default)]
pub struct Reasons {
    names: HashMap<u32, String>,
}

impl Reasons {
    /// From the enumerators of `enum skb_drop_reason`; none before 5.17.
    #[must_use]
    pub fn new(enumerators: &[(String, u32)]) -> Self {
        let name = |text: &str| text.strip_prefix(PREFIX).or(text.strip_prefix("SKB_")).unwrap_or(text).to_lowercase();
        let fits = |name: &String| name.len() <= limits::MAX_REASON_BYTES;
        let named = enumerators.iter().map(|(text, number)| (*number, name(text))).filter(|(_, name)| fits(name));
        Self { names: named.collect() }
    }

    /// Numbers whose drops the kernel side should not count.
    pub fn noise(&self) -> impl Iterator<Item = u32> + '_ {
        let noisy = |name: &str| NOISE.iter().any(|(known, _)| *known == name);
        let numbers = self.names.iter().filter(move |(_, name)| noisy(name)).map(|(number, _)| *number);
        numbers.filter(|number| *number < MAX_REASONS)
    }

    /// A reason's name; subsystems (mac80211, openvswitch) number their own above 16 bits.
    #[must_use]
    pub fn name(&self, reason: u32) -> String {
        match self.names.get(&reason) {
            _ if reason == 0 => "unknown".to_owned(),
            Some(name) => name.clone(),
            None => format!("subsystem_{}_{}", reason >> 16, reason & 0xffff),
        }
    }
}

/// Whether a tc program decided, by a reason's name.
#[must_use]
pub fn by(reason: &str) -> &'static str {
    if reason.starts_with("tc_") { "tc" } else { "stack" }
}

struct Known {
    counted: DropTotals,
    waits_since_ns: u64,
}

/// Packets that were dropped since the last reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Whose packets.
    pub tuple: Tuple,
    /// When the last of them was dropped, monotonic nanoseconds.
    pub time_ns: u64,
    /// How many wire segments.
    pub segments: u64,
    /// Why.
    pub reason: String,
    /// Whether they ran from the client to the server, and whether this node's end is the server; `None` where no edge
    /// tells.
    pub edge: Option<(bool, bool)>,
}

/// What folding found.
#[derive(Debug, Default)]
pub struct Folded {
    /// Something was added to an edge.
    pub active: bool,
    /// What was dropped.
    pub dropped: Vec<Dropped>,
    /// Entries to be taken from the kernel.
    pub idle: Vec<DropKey>,
}

/// The kernel's drops, as far as they were folded.
#[derive(Default)]
pub struct Drops {
    reasons: Reasons,
    known: HashMap<DropKey, Known>,
    unattributed: Vec<Drop>,
}

impl Drops {
    /// Nothing dropped yet.
    #[must_use]
    pub fn new(reasons: Reasons) -> Self {
        Self { reasons, ..Self::default() }
    }

    /// What belongs to no edge.
    #[must_use]
    pub fn unattributed(&self) -> &[Drop] {
        &self.unattributed
    }

    /// Folds current readings.
    pub fn fold(&mut self, readings: &[(DropKey, DropTotals)], moment: Moment, table: &mut Table) -> Folded {
        let mut folded = Folded::default();
        let mut grown = Vec::new();
        for (key, totals) in readings {
            let fresh = DropTotals { segments: 0, ..*totals };
            let known = self.known.entry(*key).or_insert(Known { counted: fresh, waits_since_ns: moment.now_ns });
            if known.counted.first_ns != totals.first_ns {
                known.counted = fresh;
            }
            let segments = totals.segments.saturating_sub(known.counted.segments);
            if segments > 0 {
                grown.push((*key, *totals, segments));
            } else if moment.now_ns.saturating_sub(totals.last_ns) > IDLE_AFTER_NS {
                folded.idle.push(*key);
            }
        }
        let tuples: Vec<_> = grown.iter().map(|(key, ..)| key.tuple).collect();
        for ((key, totals, segments), found) in grown.into_iter().zip(table.edges_of_tuples(&tuples)) {
            let Some(known) = self.known.get_mut(&key) else { continue };
            let waited = moment.now_ns.saturating_sub(known.waits_since_ns) >= WAIT_NS;
            if found.is_none() && !waited {
                continue;
            }
            known.counted = totals;
            known.waits_since_ns = moment.now_ns;
            let reason = self.reasons.name(key.reason);
            let by = by(&reason).to_owned();
            folded.dropped.push(Dropped {
                tuple: key.tuple,
                time_ns: totals.last_ns,
                segments,
                reason: reason.clone(),
                edge: found.map(|(id, forward)| (forward, id.server_side)),
            });
            match found {
                Some((id, forward)) => {
                    folded.active = true;
                    table.note(&id, moment, |facts| facts.add_drop(Drop { reason, by, forward, segments }));
                }
                None => {
                    let drop = Drop { reason, by, forward: false, segments };
                    add_drop(&mut self.unattributed, drop, limits::MAX_NODE_DROPS);
                }
            }
        }
        for key in &folded.idle {
            self.known.remove(key);
        }
        folded
    }
}

#[cfg(test)]
mod tests {
    use super::{Reasons, by};

    #[test]
    fn reasons_have_the_kernels_names() {
        let enumerators =
            [("SKB_CONSUMED", 1), ("SKB_DROP_REASON_NOT_SPECIFIED", 2), ("SKB_DROP_REASON_TC_INGRESS", 9)];
        let reasons = Reasons::new(&enumerators.map(|(name, number)| (name.to_owned(), number)));
        assert_eq!(reasons.name(2), "not_specified");
        assert_eq!(reasons.name(9), "tc_ingress");
        assert_eq!(reasons.name(0), "unknown");
        assert_eq!(reasons.name(3 << 16 | 5), "subsystem_3_5");
        assert_eq!((by("tc_egress"), by("tcp_flags"), by("netfilter_drop")), ("tc", "stack", "stack"));
        let mut noise: Vec<_> = reasons.noise().collect();
        noise.sort_unstable();
        assert_eq!(noise, [1, 2]);
        assert_eq!(Reasons::default().name(7), "subsystem_0_7");
    }
}
