//! What the DNS messages of one edge add up to. Cumulative, but for the questions: of those the newest are kept.

use std::collections::BTreeMap;

use wire::v1::{Dns, DnsQuestion, Histogram, RcodeCount};

use super::{Question, What};

/// Questions kept of an edge.
pub const MAX_QUESTIONS: usize = 16;
/// Buckets of the latency, by powers of two of a microsecond.
const BUCKETS: usize = 32;
/// Stands for "no answer" among the rcodes.
pub const NO_RCODE: u32 = 65_535;

/// One edge's DNS.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    queries: u64,
    answers: u64,
    timeouts: u64,
    unparsed: u64,
    /// At most 16: the header has four bits for them.
    rcodes: BTreeMap<u16, u64>,
    latency: [u64; BUCKETS],
    latency_sum_us: u64,
    questions: Vec<DnsQuestion>,
}

impl Totals {
    /// Adds one fact, which was so at `unix_ns`.
    pub fn add(&mut self, what: &What, unix_ns: u64) {
        match what {
            What::Query(question) => {
                self.queries += 1;
                self.question(question.as_ref(), unix_ns, |asked| asked.queries += 1);
            }
            What::Answer { question, rcode, latency_us, .. } => {
                self.answers += 1;
                *self.rcodes.entry(*rcode).or_default() += 1;
                if let Some(us) = latency_us {
                    self.latency[bucket(*us)] += 1;
                    self.latency_sum_us += us;
                }
                self.question(question.as_ref(), unix_ns, |asked| {
                    asked.failures += u64::from(*rcode != 0);
                    asked.last_rcode = u32::from(*rcode);
                });
            }
            What::Timeout(question) => {
                self.timeouts += 1;
                self.question(question.as_ref(), unix_ns, |asked| {
                    asked.failures += 1;
                    asked.last_rcode = NO_RCODE;
                });
            }
            What::Unparsed => self.unparsed += 1,
        }
    }

    fn question(&mut self, question: Option<&Question>, unix_ns: u64, change: impl FnOnce(&mut DnsQuestion)) {
        let Some(question) = question else { return };
        let rr_type = u32::from(question.rr_type);
        let known = self.questions.iter().position(|asked| asked.name == question.name && asked.r#type == rr_type);
        let index = known.unwrap_or_else(|| {
            if self.questions.len() == MAX_QUESTIONS {
                let oldest = (0..MAX_QUESTIONS).min_by_key(|index| self.questions[*index].last_unix_ns);
                self.questions.swap_remove(oldest.unwrap_or_default());
            }
            let (name, last_rcode) = (question.name.clone(), NO_RCODE);
            self.questions.push(DnsQuestion { name, r#type: rr_type, last_rcode, ..DnsQuestion::default() });
            self.questions.len() - 1
        });
        let asked = &mut self.questions[index];
        asked.last_unix_ns = asked.last_unix_ns.max(unix_ns);
        change(asked);
    }

    /// As it goes into a report.
    #[must_use]
    pub fn report(&self) -> Dns {
        let used = BUCKETS - self.latency.iter().rev().take_while(|count| **count == 0).count();
        Dns {
            queries: self.queries,
            answers: self.answers,
            timeouts: self.timeouts,
            rcodes: self
                .rcodes
                .iter()
                .map(|(rcode, count)| RcodeCount { rcode: u32::from(*rcode), count: *count })
                .collect(),
            latency: (used > 0)
                .then(|| Histogram { buckets: self.latency[..used].to_vec(), sum_us: self.latency_sum_us }),
            questions: self.questions.clone(),
            unparsed: self.unparsed,
        }
    }
}

fn bucket(us: u64) -> usize {
    (us.max(1).ilog2() as usize).min(BUCKETS - 1)
}
