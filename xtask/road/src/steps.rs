//! The road's steps, each a function that is not inlined, so that it can be timed and its instructions counted by its name.

use agent::{
    edge::{Moment, WallClock},
    points::{Class, Place},
    summarise::{Limits, Table},
};
use agent_ebpf::abi::{Direction, FlowKey, FlowTotals, mapped};
use collector::{
    graph::Identity,
    merge::{Bounds, Change, FlowId, Merge},
    names::{Names, Touched},
    project::{Projection, Step},
    time::{self, Ns},
    view::{NamesRow, View},
};
use wire::{
    codec,
    v1::{Edge, Report},
};

use crate::cluster::Random;

const SECOND: u64 = 1_000_000_000;

/// A body becomes a report.
#[inline(never)]
pub(crate) fn decode(body: &[u8]) -> Report {
    codec::decode_report(body).unwrap_or_default()
}

/// A report becomes a body.
#[inline(never)]
pub(crate) fn encode(report: &Report) -> Vec<u8> {
    codec::encode_report(report).unwrap_or_default()
}

/// The collector's state with one view.
pub(crate) struct Collector {
    merge: Merge,
    names: Names,
    names_row: NamesRow,
    identity: Identity,
    projection: Projection,
}

impl Collector {
    pub(crate) fn new(now: u64) -> Self {
        let (merge, names) = (Merge::new(Bounds::default(), time::from_wire(now)), Names::default());
        let names_row =
            NamesRow { source: "none".to_owned(), state: "none".to_owned(), error: None, read_ms: None, ambiguous: 0 };
        let projection = Projection::new(View::Pod, 1, &merge, &names, &names_row);
        let identity = Identity { run: "0".repeat(16), cluster: "road".to_owned(), since_ms: 0 };
        Self { merge, names, names_row, identity, projection }
    }

    pub(crate) fn edges(&self) -> usize {
        self.merge.flow_count()
    }

    /// A report is joined.
    #[inline(never)]
    pub(crate) fn join(&mut self, report: &Report, now: Ns) {
        self.merge.accept(report, now);
    }

    /// What changed is evaluated.
    #[inline(never)]
    pub(crate) fn evaluate(&mut self, now: Ns) -> Vec<(FlowId, Change)> {
        self.merge.evaluate_changed(now);
        self.merge.take_changes()
    }

    /// What changed becomes rows.
    #[inline(never)]
    pub(crate) fn project(&mut self, changes: &[(FlowId, Change)], now: Ns) -> Option<Step> {
        self.projection.update(changes, &Touched::default(), &self.merge, &self.names);
        self.projection.step(&self.merge, &self.names, &self.names_row, &self.identity, now)
    }
}

/// Rows become an event's text. Returns its length.
#[inline(never)]
pub(crate) fn write(step: &Step) -> usize {
    serde_json::to_vec(&step.step.delta).unwrap_or_default().len()
}

/// An agent's table, and flows for it.
pub(crate) struct Agent {
    table: Table,
    flows: Vec<(FlowKey, FlowTotals)>,
}

impl Agent {
    /// Both ways of so many connections to so many servers.
    pub(crate) fn new(connections: u64, servers: u64) -> Self {
        let mut random = Random(0x2545_F491_4F6C_DD1D);
        let mut flows = Vec::new();
        for number in 0..connections {
            let server = number % servers;
            let key = FlowKey {
                source: mapped([10, 64, 0, 1 + (server % 50) as u8]),
                destination: mapped([10, 65, (server / 250) as u8, 1 + (server % 250) as u8]),
                source_port: 32_768 + (number % 28_000) as u16,
                destination_port: 8_080,
                protocol: 6,
                direction: Direction::Ingress as u8,
                ifindex: 7,
                reserved: [0; 2],
            };
            let totals = |skbs: u64| FlowTotals {
                skbs,
                segments: skbs,
                l3_bytes: skbs * 140,
                payload_bytes: skbs * 100,
                first_ns: SECOND,
                last_ns: 2 * SECOND,
                ..FlowTotals::default()
            };
            let sent = 1 + random.below(1_000);
            flows.push((key, totals(sent)));
            flows.push((key.reversed(), totals(sent * 9 / 10 + 1)));
        }
        Self { table: Table::new(Limits { max_edges: 65_536, retire_after_ns: 600 * SECOND }), flows }
    }

    pub(crate) fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Flows are folded into edges.
    #[inline(never)]
    pub(crate) fn fold(&mut self, seq: u64) {
        let moment = Moment { now_ns: (1 + seq) * SECOND, clock: WallClock { offset_ns: 1_000 }, next_seq: seq };
        for (_, totals) in &mut self.flows {
            totals.skbs += 1;
            totals.segments += 1;
            totals.l3_bytes += 140;
            totals.payload_bytes += 100;
            totals.last_ns = moment.now_ns;
        }
        self.table.fold(self.flows.iter().copied(), moment, |_| Place { class: Class::Pod, device: 4 });
    }

    /// The edges that changed, for a report.
    pub(crate) fn edges(&mut self, seq: u64) -> Vec<Edge> {
        self.table.report(seq, 0, true)
    }
}
