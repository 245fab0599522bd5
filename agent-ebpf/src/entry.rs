//! A flow's entry in the map, as narrow as exactness allows: 64 bytes, and what most packets change in its first half, so
//! that counting one touches the line of the key and one more.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::FlowTotals;

/// Nanoseconds of the unit that entries keep times in.
pub const TICK_NS: u64 = 1_000_000;
/// Beside a counter of 24 bits stands a byte of bits: what one is added as.
pub const ONE_ABOVE_BITS: u32 = 1 << 8;
/// A packet may be stamped later than the clock was read, so long at the most, in [`TICK_NS`]. What seems later is older
/// than 49 days in truth.
const AHEAD: u32 = 1 << 20;

/// Totals of a flow since its entry was made. They only grow, the narrow ones round and round: whoever reads the map does
/// so before one of them could come round twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowEntry {
    /// Socket buffers.
    pub skbs: u64,
    /// Bytes from the network header on.
    pub l3_bytes: u64,
    /// Bytes behind the transport header, by the IP header's own length (padding does not count).
    pub payload_bytes: u64,
    /// `CLOCK_MONOTONIC` of the last packet, by [`TICK_NS`].
    pub last: u32,
    /// TCP: connections that this side finished (FIN), above the bits of [`tcp_state`](crate::abi::tcp_state).
    pub closed_and_state: u32,
    /// `CLOCK_MONOTONIC` when the entry was made, by [`TICK_NS`]; tells two lives of one key apart.
    pub first: u32,
    /// Wire segments (`gso_segs`) beyond one for each buffer, so that most packets add nothing.
    pub more_segments: u32,
    /// TCP: connection attempts (SYN without ACK, distinct initial sequence numbers).
    pub opened: u32,
    /// TCP: completed handshakes.
    pub established: u32,
    /// TCP: RST segments.
    pub resets: u32,
    /// ICMP errors that quote a packet of the *opposite* flow, above the bit
    /// [`FLOW_LOCAL_SOCKET`](crate::abi::FLOW_LOCAL_SOCKET); not in the counters above.
    pub icmp_errors_and_flags: u32,
    /// TCP: initial sequence number of the newest attempt.
    pub initial_seq: u32,
    /// [`cgroup_number`](crate::facts::cgroup_number) of the socket that the first packet came straight from; 0 where it
    /// came from none, or through the node only.
    pub cgroup: u32,
}

/// A moment as entries keep it.
#[must_use]
#[inline(always)]
pub fn tick(monotonic_ns: u64) -> u32 {
    (monotonic_ns / TICK_NS) as u32
}

impl FlowEntry {
    /// As user space has it; `now_ns` is near the moment of the reading.
    #[must_use]
    pub fn whole(&self, now_ns: u64) -> FlowTotals {
        let now = now_ns / TICK_NS;
        let at = |then: u32| {
            let age = (now as u32).wrapping_sub(then);
            let ahead = age.wrapping_neg();
            let ticks =
                if age != 0 && ahead <= AHEAD { now + u64::from(ahead) } else { now.saturating_sub(age.into()) };
            ticks * TICK_NS
        };
        FlowTotals {
            skbs: self.skbs,
            segments: self.skbs + u64::from(self.more_segments),
            l3_bytes: self.l3_bytes,
            payload_bytes: self.payload_bytes,
            last_ns: at(self.last),
            first_ns: at(self.first),
            opened: self.opened,
            established: self.established,
            closed: self.closed_and_state >> 8,
            resets: self.resets,
            icmp_errors: self.icmp_errors_and_flags >> 8,
            initial_seq: self.initial_seq,
            tcp_state: self.closed_and_state as u8,
            flags: self.icmp_errors_and_flags as u8,
            cgroup: self.cgroup,
        }
    }
}

impl FlowTotals {
    /// What a flow grew by since it was read as `before`; the whole of it if the entry is a new one. Narrow counters may
    /// have come round.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if tick(self.first_ns) != tick(before.first_ns) {
            return *self;
        }
        let narrow = |now: u32, before: u32, bits: u32| now.wrapping_sub(before) & (u32::MAX >> (32 - bits));
        let more = |totals: &Self| totals.segments.wrapping_sub(totals.skbs) as u32;
        let skbs = self.skbs.saturating_sub(before.skbs);
        Self {
            skbs,
            segments: skbs + u64::from(narrow(more(self), more(before), 32)),
            l3_bytes: self.l3_bytes.saturating_sub(before.l3_bytes),
            payload_bytes: self.payload_bytes.saturating_sub(before.payload_bytes),
            opened: narrow(self.opened, before.opened, 32),
            established: narrow(self.established, before.established, 32),
            closed: narrow(self.closed, before.closed, 24),
            resets: narrow(self.resets, before.resets, 32),
            icmp_errors: narrow(self.icmp_errors, before.icmp_errors, 24),
            ..*self
        }
    }
}

// The layout both sides rely on, frozen. With the kernel's own 48 bytes and the key it is 160: at whichever of its two
// alignments, key and first half lie in two cache lines.
const _: () = assert!(size_of::<FlowEntry>() == 64);

#[cfg(test)]
mod tests {
    use super::{FlowEntry, ONE_ABOVE_BITS, TICK_NS, tick};
    use crate::abi::{FLOW_LOCAL_SOCKET, FlowTotals, tcp_state};

    #[test]
    fn what_shares_a_word_is_told_apart() {
        let entry = FlowEntry {
            skbs: 5,
            more_segments: 7,
            closed_and_state: 3 * ONE_ABOVE_BITS + u32::from(tcp_state::FIN),
            icmp_errors_and_flags: 2 * ONE_ABOVE_BITS + u32::from(FLOW_LOCAL_SOCKET),
            ..FlowEntry::default()
        };
        let whole = entry.whole(0);
        assert_eq!((whole.segments, whole.closed, whole.tcp_state), (12, 3, tcp_state::FIN));
        assert_eq!((whole.icmp_errors, whole.flags), (2, FLOW_LOCAL_SOCKET));
    }

    /// A machine that is up for a day less, and a day more, than the times go round in.
    #[test]
    fn times_are_near_the_reading_however_long_the_machine_is_up() {
        const DAY_NS: u64 = 86_400 * 1_000_000_000;
        for now_ns in [DAY_NS, 49 * DAY_NS, 50 * DAY_NS, 150 * DAY_NS] {
            for then_ns in [now_ns - 7 * TICK_NS, now_ns, now_ns + 3 * TICK_NS, now_ns - DAY_NS / 2] {
                let entry = FlowEntry { first: tick(then_ns), last: tick(then_ns), ..FlowEntry::default() };
                let whole = entry.whole(now_ns);
                assert_eq!((whole.first_ns, whole.last_ns), (then_ns, then_ns), "{now_ns}");
            }
        }
    }

    #[test]
    fn a_counter_that_came_round_grew_by_what_it_grew() {
        let before = FlowEntry {
            skbs: 10,
            more_segments: u32::MAX,
            opened: u32::MAX - 1,
            closed_and_state: !0xff,
            icmp_errors_and_flags: !0xff,
            ..FlowEntry::default()
        };
        let now = FlowEntry {
            skbs: 12,
            more_segments: 4,
            opened: 1,
            closed_and_state: 2 * ONE_ABOVE_BITS,
            icmp_errors_and_flags: 0,
            ..before
        };
        let grown = now.whole(0).since(&before.whole(0));
        let wanted = FlowTotals { skbs: 2, segments: 7, opened: 3, closed: 3, icmp_errors: 1, ..FlowTotals::default() };
        assert_eq!(grown, wanted);
    }

    /// The same key twice: of the second life nothing was counted. A life of more than 49 days is still one.
    #[test]
    fn another_life_counts_whole_and_a_long_one_once() {
        let life = |first_ns| FlowTotals { skbs: 4, segments: 4, first_ns, ..FlowTotals::default() };
        assert_eq!(life(5 * TICK_NS).since(&life(0)).skbs, 4);
        let round = (u64::from(u32::MAX) + 1) * TICK_NS;
        assert_eq!(life(round + 5 * TICK_NS).since(&life(5 * TICK_NS)).skbs, 0);
    }
}
