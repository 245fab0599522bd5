//! Laws of the merge, over reports of a model agent: a table that fills, edges that expire and return, an agent that is
//! killed, a network that loses, doubles and reorders. What was counted is known from the model's own ledger.

use std::collections::{BTreeMap, HashMap};

use collector::{
    merge::{Bounds, EPOCH_FOLDS_AFTER, Merge, Verdict, flow::Side, key::FlowKey},
    time::{MS, Ns},
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use wire::v1::{ClockOffset, Counters, Edge, Report};

const EDGES: u8 = 6;
const TABLE: usize = 4;
const START: Ns = 1_795_000_000_000_000_000;

#[derive(Debug, Clone)]
enum Step {
    Traffic {
        edge: u8,
        packets: u64,
    },
    Expire {
        edge: u8,
    },
    /// A tick whose report arrives and is acknowledged, arrives with its answer lost, or is lost itself.
    Tick(Delivery),
    /// A report of the past arrives once more.
    Again {
        which: prop::sample::Index,
    },
    /// The agent is killed and started again.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Delivery {
    Acked,
    AnswerLost,
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    let edge = 0..EDGES;
    prop_oneof![
        6 => (edge.clone(), 1u64..50).prop_map(|(edge, packets)| Step::Traffic { edge, packets }),
        2 => edge.prop_map(|edge| Step::Expire { edge }),
        6 => prop_oneof![4 => Just(Delivery::Acked), 1 => Just(Delivery::AnswerLost), 1 => Just(Delivery::Lost)]
            .prop_map(Step::Tick),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Again { which }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Debug, Clone, Default)]
struct Entry {
    incarnation: u64,
    packets: u64,
    changed: u64,
    expiring: bool,
}

/// An agent as the wire's contract describes it.
#[derive(Debug, Clone)]
struct Agent {
    epoch: u64,
    seq: u64,
    acked: u64,
    table: BTreeMap<u8, Entry>,
    /// What really passed and was counted in edges, in this epoch.
    truth: BTreeMap<u8, u64>,
    other: u64,
    /// The truth as of each report, so that what a killed agent never said is not expected.
    at: HashMap<u64, (BTreeMap<u8, u64>, u64)>,
}

impl Agent {
    fn new(epoch: u64) -> Self {
        Self { epoch, seq: 0, acked: 0, table: BTreeMap::new(), truth: BTreeMap::new(), other: 0, at: HashMap::new() }
    }

    fn traffic(&mut self, edge: u8, packets: u64) {
        if !self.table.contains_key(&edge) && self.table.len() >= TABLE {
            self.other += packets;
            return;
        }
        let next = self.seq + 1;
        let entry = self.table.entry(edge).or_insert_with(|| Entry { incarnation: next, ..Entry::default() });
        entry.packets += packets;
        entry.changed = next;
        entry.expiring = false;
        *self.truth.entry(edge).or_default() += packets;
    }

    fn report(&mut self) -> Report {
        self.seq += 1;
        self.at.insert(self.seq, (self.truth.clone(), self.other));
        let edges = self.table.iter().filter(|(_, entry)| entry.changed > self.acked || entry.expiring);
        let edges = edges.map(|(edge, entry)| wire_edge(*edge, entry)).collect();
        Report {
            version: wire::VERSION,
            node: "n1".to_owned(),
            epoch: self.epoch,
            seq: self.seq,
            acked_seq: self.acked,
            complete: true,
            clock: Some(ClockOffset { offset_ns: 0, error_ns: 0 }),
            next_tick_ms: 200,
            other: Some(Counters { skbs: self.other, ..Counters::default() }),
            edges,
            ..Report::default()
        }
    }

    fn acknowledged(&mut self, report: &Report) {
        self.acked = self.acked.max(report.seq);
        let ended: Vec<u64> = report.edges.iter().filter(|edge| edge.r#final).map(|edge| edge.incarnation).collect();
        self.table.retain(|_, entry| !(entry.expiring && ended.contains(&entry.incarnation)));
    }
}

fn wire_edge(edge: u8, entry: &Entry) -> Edge {
    let packets = entry.packets;
    Edge {
        client: vec![10, 0, 0, 1],
        server: vec![10, 0, 1, edge],
        server_port: 80,
        protocol: 6,
        side: 1,
        device: 1,
        incarnation: entry.incarnation,
        r#final: entry.expiring,
        forward: Some(Counters {
            skbs: packets,
            segments: packets,
            l3_bytes: packets * 60,
            payload_bytes: packets * 20,
        }),
        ..Edge::default()
    }
}

fn key(edge: u8) -> FlowKey {
    FlowKey { client: [10, 0, 0, 1].into(), server: [10, 0, 1, edge].into(), port: 80, protocol: 6, tunnel: None }
}

fn merged(merge: &Merge, edge: u8) -> u64 {
    let flow = merge.flow_by_key(&key(edge));
    flow.and_then(|(_, flow)| flow.side_sum(Side::Client)).map_or(0, |totals| totals.forward.skbs)
}

fn totals(merge: &Merge) -> Vec<u64> {
    (0..EDGES).map(|edge| merged(merge, edge)).collect()
}

/// Runs the steps against a merge. Returns it, all reports that were made, and what the ledger says it must hold.
fn run(steps: &[Step]) -> (Merge, Vec<Report>, Vec<u64>, u64) {
    let mut merge = Merge::new(Bounds::default(), START);
    let mut agent = Agent::new(1);
    let mut made: Vec<Report> = Vec::new();
    let mut heard: HashMap<u64, u64> = HashMap::new();
    let mut agents = Vec::new();
    let mut now = START;
    for step in steps.iter().chain(&[Step::Tick(Delivery::Acked)]) {
        now += 200 * MS;
        match step {
            Step::Traffic { edge, packets } => agent.traffic(*edge, *packets),
            Step::Expire { edge } => {
                if let Some(entry) = agent.table.get_mut(edge) {
                    entry.expiring = true;
                }
            }
            Step::Tick(delivery) => {
                let report = agent.report();
                made.push(report.clone());
                if *delivery != Delivery::Lost {
                    let verdict = merge.accept(&report, now);
                    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
                    let known = heard.entry(report.epoch).or_default();
                    *known = (*known).max(report.seq);
                }
                if *delivery == Delivery::Acked {
                    agent.acknowledged(&report);
                }
            }
            Step::Again { which } => {
                if !made.is_empty() {
                    let report = which.get(&made);
                    if let Verdict::Accepted { .. } = merge.accept(report, now) {
                        let known = heard.entry(report.epoch).or_default();
                        *known = (*known).max(report.seq);
                    }
                }
            }
            Step::Restart => {
                let next = Agent::new(agent.epoch + 1);
                agents.push(std::mem::replace(&mut agent, next));
            }
        }
    }
    agents.push(agent);
    let mut expected = vec![0; usize::from(EDGES)];
    let mut other = 0;
    for agent in &agents {
        if let Some((truth, full)) = heard.get(&agent.epoch).and_then(|seq| agent.at.get(seq)) {
            truth.iter().for_each(|(edge, packets)| expected[usize::from(*edge)] += packets);
            other += full;
        }
    }
    (merge, made, expected, other)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the network did, the totals are the ledger's, and nothing is counted twice or forgotten.
    #[test]
    fn totals_equal_the_ledger(steps in prop::collection::vec(step(), 1..120)) {
        let (mut merge, made, expected, other) = run(&steps);
        prop_assert_eq!(totals(&merge), expected.clone());
        prop_assert_eq!(merge.nodes().next().expect("a node").other().skbs, other);
        // Reports of epochs that ended are refused once these are folded, and change nothing.
        let later = START + EPOCH_FOLDS_AFTER + 1_000_000 * MS;
        merge.refresh(later);
        let folded = merge.nodes().next().expect("a node").folded_through;
        let before = totals(&merge);
        for report in made.iter().filter(|report| report.epoch <= folded) {
            prop_assert_eq!(merge.accept(report, later), Verdict::Folded);
        }
        prop_assert_eq!(before, totals(&merge));
    }

    /// Commutative and associative: any order and grouping of the same reports gives the same totals. (Without marks:
    /// a mark is a promise that what is at or below it has arrived.)
    #[test]
    fn order_does_not_matter(
        steps in prop::collection::vec(step(), 1..60),
        order in any::<prop::sample::Index>(),
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (_, mut made, ..) = run(&steps);
        made.iter_mut().for_each(|report| report.acked_seq = 0);
        let deliver = |reports: &[&Report]| {
            let mut merge = Merge::new(Bounds::default(), START);
            for report in reports {
                merge.accept(report, START);
            }
            totals(&merge)
        };
        let straight: Vec<&Report> = made.iter().collect();
        let mut rotated = straight.clone();
        rotated.rotate_left(order.index(made.len().max(1)));
        rotated.reverse();
        let mut doubled = rotated.clone();
        doubled.extend(twice.iter().map(|which| which.get(&straight)));
        let expected = deliver(&straight);
        prop_assert_eq!(deliver(&rotated), expected.clone());
        prop_assert_eq!(deliver(&doubled), expected);
    }

    /// Idempotent: everything once more changes nothing.
    #[test]
    fn again_changes_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let (mut merge, made, ..) = run(&steps);
        let before = totals(&merge);
        for report in &made {
            merge.accept(report, START);
        }
        // What was lost on the way may come now for the first time; a second round cannot add anything.
        let once = totals(&merge);
        for report in &made {
            merge.accept(report, START);
        }
        prop_assert_eq!(totals(&merge), once.clone());
        prop_assert_eq!(before.iter().zip(&once).filter(|(before, once)| before > once).count(), 0);
    }
    /// Whatever the bytes, decoding says so and does not panic.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2_000), flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)) {
        let _ = wire::codec::decode_report(&bytes);
        let good = Report { version: wire::VERSION, node: "n".to_owned(), epoch: 1, seq: 1, edges: vec![wire_edge(1, &Entry { incarnation: 1, ..Entry::default() })], ..Report::default() };
        let mut damaged = wire::codec::encode_report(&good).expect("encode");
        for (at, with) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= with;
        }
        if let Ok(report) = wire::codec::decode_report(&damaged) {
            Merge::new(Bounds::default(), START).accept(&report, START);
        }
    }
}
