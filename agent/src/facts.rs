//! What an edge knows beside packets: what its local sockets did, whose they are, what was dropped. Pure.

use agent_ebpf::facts::{RTT_BUCKETS, SocketTotals};
use wire::{
    limits,
    v1::{Drop, Histogram, Owner, Sockets},
};

/// A thing that the agent wants to know of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Attempts, openings, failures, ends, and who opened.
    Connect,
    /// Segments sent again.
    Retransmit,
    /// Round-trip times in mid-life, and the processes of old sockets.
    Rtt,
    /// Packets that the kernel dropped.
    Drop,
    /// The cgroup of a socket.
    Owner,
}

impl Fact {
    /// All of them, as they are reported.
    pub const ALL: [Self; 5] = [Self::Connect, Self::Retransmit, Self::Rtt, Self::Drop, Self::Owner];

    /// A short constant name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Retransmit => "retransmit",
            Self::Rtt => "rtt",
            Self::Drop => "drop",
            Self::Owner => "owner",
        }
    }
}

/// A kind of hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Form {
    /// A tracepoint with typed arguments.
    TpBtf,
    /// A tracepoint's arguments as words.
    RawTracepoint,
    /// A tracepoint's record.
    Tracepoint,
    /// The entry of a kernel function, by trampoline.
    Fentry,
    /// The entry of a kernel function, by breakpoint.
    Kprobe,
}

impl Form {
    /// A short constant name, as reports have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTracepoint => "raw_tracepoint",
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}

/// Whose a socket is.
#[derive(Debug, Clone, PartialEq)]
pub enum Whose {
    /// One of this node's, as far as is known of it.
    Ours(Owner),
    /// Outside of what this agent watches.
    NotOurs,
    /// To be asked again.
    Unknown,
}

/// The facts of one edge. Numbers only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EdgeFacts {
    /// What its local sockets did.
    pub sockets: Option<Sockets>,
    /// Whose they are.
    pub owners: Vec<Owner>,
    /// What was dropped.
    pub drops: Vec<Drop>,
}

impl EdgeFacts {
    /// Adds what the sockets of one key did since they were last asked.
    pub fn add_sockets(&mut self, grown: &SocketTotals) {
        let sockets = self.sockets.get_or_insert_default();
        sockets.attempts += u64::from(grown.attempts);
        sockets.established += u64::from(grown.established);
        sockets.refused += u64::from(grown.refused);
        sockets.timed_out += u64::from(grown.timed_out);
        sockets.unreachable += u64::from(grown.unreachable);
        sockets.failed_otherwise += u64::from(grown.failed_otherwise);
        sockets.retransmitted += u64::from(grown.retransmitted);
        sockets.aborted += u64::from(grown.aborted);
        let used = grown.rtt.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        if used == 0 {
            return;
        }
        let histogram = sockets.rtt.get_or_insert_with(Histogram::default);
        let length = histogram.buckets.len().max(used);
        histogram.buckets.resize(length, 0);
        for (sum, count) in histogram.buckets.iter_mut().zip(grown.rtt) {
            *sum += u64::from(count);
        }
        histogram.sum_us += grown.rtt_sum_us;
    }

    /// Notes an owner; the newest stay.
    pub fn add_owner(&mut self, owner: Owner) {
        let same = |known: &&mut Owner| known.cgroup == owner.cgroup && known.container == owner.container;
        // A socket may be known before a process has used it.
        let unnamed = |known: &&mut Owner| same(known) && (known.process.is_empty() || owner.process.is_empty());
        if let Some(known) = self.owners.iter_mut().find(unnamed) {
            if known.process.is_empty() {
                *known = owner;
            }
            return;
        }
        if self.owners.contains(&owner) {
            return;
        }
        if self.owners.len() == limits::MAX_OWNERS {
            self.owners.remove(0);
        }
        self.owners.push(owner);
    }

    /// Adds dropped segments; what finds no place of its own is dropped for `other` reasons.
    pub fn add_drop(&mut self, drop: Drop) {
        add_drop(&mut self.drops, drop, limits::MAX_DROPS);
    }
}

/// Adds to the row of the same reason, origin and direction; the last place of a full list is for all others.
pub fn add_drop(drops: &mut Vec<Drop>, drop: Drop, limit: usize) {
    let same = |known: &&mut Drop, reason: &str| {
        known.reason == reason && known.by == drop.by && known.forward == drop.forward
    };
    if let Some(known) = drops.iter_mut().find(|known| same(known, &drop.reason)) {
        known.segments += drop.segments;
    } else if drops.len() + 1 < limit {
        drops.push(drop);
    } else if let Some(last) = drops.iter_mut().find(|known| known.reason == OTHER) {
        last.segments += drop.segments;
    } else {
        drops.push(Drop { reason: OTHER.to_owned(), ..drop });
    }
}

/// The reason of drops that found their list full.
const OTHER: &str = "other";

/// What sockets did between two readings of the same entry; the whole of it if the entry is a new one.
#[must_use]
pub fn socket_growth(now: &SocketTotals, before: &SocketTotals) -> SocketTotals {
    if now.first_ns != before.first_ns {
        return *now;
    }
    let mut rtt = [0; RTT_BUCKETS];
    for (grown, (now, before)) in rtt.iter_mut().zip(now.rtt.iter().zip(before.rtt)) {
        *grown = now.wrapping_sub(before);
    }
    SocketTotals {
        rtt,
        rtt_sum_us: now.rtt_sum_us.saturating_sub(before.rtt_sum_us),
        // 32 bits may come round on a busy edge; the difference is right all the same.
        attempts: now.attempts.wrapping_sub(before.attempts),
        established: now.established.wrapping_sub(before.established),
        refused: now.refused.wrapping_sub(before.refused),
        timed_out: now.timed_out.wrapping_sub(before.timed_out),
        unreachable: now.unreachable.wrapping_sub(before.unreachable),
        failed_otherwise: now.failed_otherwise.wrapping_sub(before.failed_otherwise),
        aborted: now.aborted.wrapping_sub(before.aborted),
        retransmitted: now.retransmitted.wrapping_sub(before.retransmitted),
        ..*now
    }
}

#[cfg(test)]
mod tests {
    use super::{EdgeFacts, socket_growth};
    use agent_ebpf::facts::SocketTotals;
    use wire::{
        limits,
        v1::{Drop, Owner},
    };

    #[test]
    fn sockets_grow_and_come_round() {
        let before = SocketTotals { first_ns: 1, attempts: u32::MAX, rtt_sum_us: 10, ..SocketTotals::EMPTY };
        let mut now = SocketTotals { attempts: 1, rtt_sum_us: 74, ..before };
        now.rtt[6] = 1;
        let grown = socket_growth(&now, &before);
        assert_eq!((grown.attempts, grown.rtt_sum_us), (2, 64));
        let mut facts = EdgeFacts::default();
        facts.add_sockets(&grown);
        facts.add_sockets(&SocketTotals { refused: 3, ..SocketTotals::EMPTY });
        let sockets = facts.sockets.expect("some");
        assert_eq!((sockets.attempts, sockets.refused), (2, 3));
        let rtt = sockets.rtt.expect("samples");
        assert_eq!((rtt.buckets, rtt.sum_us), (vec![0, 0, 0, 0, 0, 0, 1], 64));
        let another = SocketTotals { first_ns: 2, attempts: 5, ..SocketTotals::EMPTY };
        assert_eq!(socket_growth(&another, &now).attempts, 5, "another life of the entry counts whole");
    }

    #[test]
    fn owners_and_drops_keep_to_their_bounds() {
        let mut facts = EdgeFacts::default();
        for index in 0..20_u64 {
            for _ in 0..2 {
                facts.add_owner(Owner { cgroup: index, ..Owner::default() });
                facts.add_drop(Drop { reason: format!("r{index}"), by: "stack".into(), forward: true, segments: 1 });
            }
        }
        let owners: Vec<_> = facts.owners.iter().map(|owner| owner.cgroup).collect();
        assert_eq!(owners, [16, 17, 18, 19]);
        assert_eq!(facts.drops.len(), limits::MAX_DROPS);
        assert_eq!(facts.drops.iter().map(|drop| drop.segments).sum::<u64>(), 40, "none is lost");
        assert_eq!(facts.drops.last().map(|drop| drop.reason.as_str()), Some("other"));
    }
}
