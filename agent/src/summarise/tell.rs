//! What the table tells, and when an edge leaves it.

use wire::v1::Edge as WireEdge;

use super::Table;
use crate::edge::Edge;

impl Table {
    /// Retires edges that have been silent for long enough and that no flow adds to. One that entered since the last
    /// report waits, so that its next life has another incarnation.
    pub fn retire(&mut self, now_ns: u64, next_seq: u64) {
        let asleep = |edge: &Edge| edge.flows == 0 && edge.incarnation < next_seq;
        let silent = |edge: &Edge| asleep(edge) && now_ns.saturating_sub(edge.active_ns) >= self.limits.retire_after_ns;
        let ids: Vec<_> = self.edges.iter().filter(|(_, edge)| silent(edge)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(mut edge) = self.edges.remove(&id) {
                if edge.guessed {
                    self.high_ports.leave(&id);
                }
                edge.pending = true;
                self.retiring.push((id, edge));
            }
        }
    }

    /// The edges for report `seq`: all when `full`, else those whose last change no acknowledgement covers.
    pub fn report(&mut self, seq: u64, acked_seq: u64, full: bool) -> Vec<WireEdge> {
        let mut rows = Vec::new();
        let live = self.edges.iter_mut().map(|(id, edge)| (*id, edge, false));
        let retiring = self.retiring.iter_mut().map(|(id, edge)| (*id, edge, true));
        for (id, edge, is_final) in live.chain(retiring) {
            if edge.pending {
                edge.pending = false;
                edge.told_seq = seq;
            }
            if full {
                edge.told_seq = seq;
            }
            if edge.told_seq > acked_seq {
                rows.push(edge.report(&id, is_final));
            }
        }
        rows
    }

    /// The collector has everything up to `seq`: final totals it has need not be kept.
    pub fn acknowledge(&mut self, seq: u64) {
        self.retiring.retain(|(_, edge)| edge.pending || edge.told_seq > seq);
    }
}
