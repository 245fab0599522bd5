//! Edges that fall ill, and get well: what of the past is worth an event. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Known,
    bucket::Reasons,
    pack::{self, Record},
};
use crate::{merge::facts::DropKey, time::Ns};

/// Told of one bucket at the most; the rest is counted in one line.
const MAX_TOLD: usize = 16;
/// An edge is well again after so many buckets without trouble.
const CALM: i64 = 4;
/// Fewer lost or dropped segments, or unanswered queries, are nobody's concern.
const FEW: u64 = 3;
/// Nor is a lesser share of the segments lost, …
const LOST_PERCENT: u64 = 1;
/// … or of the connects and queries that failed.
const FAILED_PERCENT: u64 = 5;

/// An edge's health changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onset {
    /// Which; `None` where it stands for further ones.
    pub edge: Option<Arc<Known>>,
    /// The event's kind.
    pub kind: &'static str,
    /// In words.
    pub text: String,
    /// When: within the bucket that shows it.
    pub at: Ns,
}

/// Edges that are ill, each with its last bad bucket.
#[derive(Debug, Default)]
pub(super) struct Onsets {
    ill: HashMap<u32, i64>,
}

impl Onsets {
    pub(super) fn take(
        &mut self,
        gathered: &BTreeMap<u32, Record>,
        drops: &BTreeMap<u32, Reasons>,
        edges: &BTreeMap<u32, Arc<Known>>,
        at: i64,
        time: Ns,
    ) -> Vec<Onset> {
        let mut told = Vec::new();
        for record in gathered.values() {
            let reasons = drops.get(&record.edge).map_or(&[][..], Vec::as_slice);
            let Some((kind, text)) = trouble(record, reasons) else { continue };
            if self.ill.insert(record.edge, at).is_none() {
                told.push(Onset { edge: edges.get(&record.edge).cloned(), kind, text, at: time });
            }
        }
        let well: Vec<u32> = self.ill.iter().filter(|(_, last)| at - **last >= CALM).map(|(edge, _)| *edge).collect();
        for edge in well {
            self.ill.remove(&edge);
            if let Some(known) = edges.get(&edge) {
                let text = "no trouble for a minute".to_owned();
                told.push(Onset { edge: Some(Arc::clone(known)), kind: "edge-recovered", text, at: time });
            }
        }
        if told.len() > MAX_TOLD {
            let more = told.len() - MAX_TOLD;
            told.truncate(MAX_TOLD);
            let text = format!("{more} more links fell ill or got well");
            told.push(Onset { edge: None, kind: "edges-changed", text, at: time });
        }
        told
    }
}

/// What is wrong with an edge, the worst first: kind and words.
fn trouble(record: &Record, reasons: &[(DropKey, u64)]) -> Option<(&'static str, String)> {
    let numbers = &record.numbers;
    let side = if record.flags & pack::flags::CLIENT != 0 { pack::CLIENT } else { pack::SERVER };
    let segments = numbers[side + 1].saturating_add(numbers[side + 4]);
    let lost = numbers[pack::LOST].saturating_add(numbers[pack::LOST + 1]);
    let enough =
        |count: u64, of: u64, percent: u64| count >= FEW && count.saturating_mul(100) >= of.saturating_mul(percent);
    if enough(lost, segments, LOST_PERCENT) {
        return Some(("edge-dropping", format!("{lost} of {segments} segments were lost between the two ends")));
    }
    let dropped = reasons.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    if enough(dropped, segments, LOST_PERCENT) {
        let why = reasons.iter().max_by_key(|(_, count)| *count).map_or("", |(key, _)| &*key.reason);
        return Some(("edge-dropping", format!("the kernel dropped {dropped} segments: {why}")));
    }
    let failed = numbers[pack::REFUSED..pack::RETRANSMITTED].iter().fold(0_u64, |sum, more| sum.saturating_add(*more));
    let attempts = numbers[pack::ATTEMPTS].max(failed);
    if failed >= 2 && enough(failed.max(FEW), attempts, FAILED_PERCENT) {
        return Some(("edge-failing", format!("{failed} of {attempts} connects failed")));
    }
    let unanswered = numbers[pack::TIMEOUTS].saturating_add(numbers[pack::BAD_ANSWERS]);
    if enough(unanswered, numbers[pack::QUERIES], FAILED_PERCENT) {
        return Some((
            "edge-failing",
            format!("{unanswered} of {} queries got no good answer", numbers[pack::QUERIES]),
        ));
    }
    None
}
